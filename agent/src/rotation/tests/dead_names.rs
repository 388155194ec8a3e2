use super::super::dead_names::DeadName;
use super::super::rotor::StepError;
use super::*;
use crate::issuer::IssueError;
use crate::issuer::acme::AcmeError;
use crate::issuer::acme::Failure;

const BAD: &str = "bad.acme.example";

async fn world_of(policy: config::WhenNameFails) -> (TempDir, Rotor) {
    let directory = tempfile::tempdir().expect("a directory");
    let context = context(directory.path(), room::at);
    let dns = ["localhost", BAD].map(str::to_owned).to_vec();
    let names = Names::new(None, dns, Vec::new(), vec![Usage::Server], "acme.example").expect("names");
    let config = config::Certificate { names, when_a_name_fails: policy, ..certificate(directory.path()) };
    let rotor = Rotor::open(context, config).await.expect("a rotor");
    (directory, rotor)
}

fn refusal(name: &str) -> StepError {
    let failure = Failure { name: name.to_owned(), kind: "dns".to_owned(), detail: "nobody is there".to_owned() };
    let error = AcmeError::Names { host: "ca".to_owned(), failures: vec![failure] };
    StepError::Issue { issuer: BUILT_IN.to_owned(), source: IssueError::Acme(error) }
}

fn told(rotor: &Rotor, kind: &str) -> usize {
    let notes = rotor.context.store.notes().expect("notes");
    notes.iter().filter(|note| String::from_utf8_lossy(&note.text).contains(kind)).count()
}

#[tokio::test]
async fn a_name_is_left_out_only_where_that_is_wished_for_and_never_the_first() {
    for (policy, name, want) in [
        (config::WhenNameFails::Wait, BAD, false),
        (config::WhenNameFails::Drop, BAD, true),
        (config::WhenNameFails::Drop, "localhost", false),
        (config::WhenNameFails::Drop, "other.acme.example", false),
    ] {
        let (_directory, rotor) = world_of(policy).await;
        let (mut entry, mut events) = (rotor.entry.clone(), Vec::new());
        assert_eq!(rotor.bury(&mut entry, &refusal(name), &mut events), want, "{policy:?}, {name}");
        let is_own = name != "other.acme.example";
        assert_eq!((entry.dead.len(), events.len()), (usize::from(is_own), usize::from(is_own)), "{policy:?}, {name}");
        // Said again it is no news, and no other order.
        let mut rotor = rotor;
        rotor.entry = entry.clone();
        events.clear();
        assert!(!rotor.bury(&mut entry, &refusal(name), &mut events) && events.is_empty(), "{policy:?}, {name}");
    }
}

#[tokio::test]
async fn what_was_issued_without_a_name_is_kept_and_the_name_comes_back() {
    let (_directory, mut rotor) = world_of(config::WhenNameFails::Drop).await;
    let why = "nobody is there".to_owned();
    let now = leaf::now();
    rotor.entry.dead = vec![DeadName { name: BAD.to_owned(), issuer: BUILT_IN.to_owned(), why }];
    rotor.entry.whole_at = Some(UnixTime(now.0 + 3_600));
    rotor.drive().await;
    let stored = rotor.entry.stored.clone().expect("stored");
    assert_eq!(stored.without, [BAD]);
    assert_eq!(rotor.names_of(&stored).labels(), ["localhost"]);
    let [dead] = rotor.status().dead_names.try_into().expect("one name");
    assert!(dead.left_out && dead.name == BAD && dead.why.is_some(), "{dead:?}");
    let now = leaf::now();
    assert!(matches!(rotor.step(now), Step::Wait { reason: Wait::Renewal, .. }), "it fits: {:?}", rotor.step(now));
    assert!(!rotor.is_whole_due(now) && rotor.is_whole_due(UnixTime(now.0 + 6 * 3_600)));

    // It is time to try again; this issuer has nothing against the name any more.
    rotor.entry.whole_at = Some(now);
    assert!(rotor.needs_work(now, Duration::from_secs(3_600)));
    rotor.drive().await;
    let whole = rotor.entry.stored.clone().expect("stored");
    assert!(whole.without.is_empty() && whole.leaf.serial != stored.leaf.serial, "{:?}", whole.without);
    assert!(rotor.status().dead_names.is_empty() && !rotor.is_whole_due(UnixTime(now.0 + 86_400)));
    assert_eq!(
        (told(&rotor, "name_back"), told(&rotor, "names_back")),
        (1, 3),
        "issued, installed and served for that cause"
    );
}

#[tokio::test]
async fn who_waits_for_all_names_from_now_on_has_them_ordered() {
    let (_directory, mut rotor) = world_of(config::WhenNameFails::Drop).await;
    rotor.entry.dead = vec![DeadName { name: BAD.to_owned(), issuer: BUILT_IN.to_owned(), why: String::new() }];
    rotor.entry.whole_at = Some(UnixTime(leaf::now().0 + 3_600));
    rotor.drive().await;
    let config = config::Certificate { when_a_name_fails: config::WhenNameFails::Wait, ..rotor.config.clone() };
    rotor.reconfigure(config);
    let step = rotor.step(leaf::now());
    assert!(matches!(step, Step::Begin(Cause::NamesChanged)), "{step:?}");
}
