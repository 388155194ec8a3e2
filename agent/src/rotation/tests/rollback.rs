use portcullis_policy::revocation::Freshness;
use portcullis_policy::revocation::Key;
use portcullis_policy::revocation::Revocations;
use portcullis_policy::rotation::Edge;
use portcullis_policy::rotation::Flight;
use tokio::sync::oneshot;

use super::*;
use crate::command::Renewed;
use crate::hook::Hook;
use crate::hook::When;
use crate::rotation::entry::Entry;

type Answer = Result<Renewed, CommandError>;

async fn renewed(rotor: &mut Rotor) -> Renewed {
    let (reply, answer) = oneshot::channel();
    rotor.ask(Ask::Renew(reply, Insistence::default()));
    rotor.drive().await;
    answer.await.expect("answered").expect("renewed")
}

async fn back(rotor: &mut Rotor) -> Answer {
    let (reply, answer) = oneshot::channel();
    rotor.ask(Ask::Rollback(reply));
    assert!(rotor.needs_work(leaf::now(), Duration::from_secs(3600)));
    rotor.drive().await;
    answer.await.expect("answered")
}

fn file(directory: &TempDir) -> String {
    let pem = std::fs::read_to_string(directory.path().join("tls/tls.crt")).expect("a file");
    leaf::Leaf::from_der(&leaf::chain(&pem).expect("a chain")[0]).expect("a leaf").serial
}

#[tokio::test]
async fn what_was_never_seen_in_use_is_nothing_to_go_back_to() {
    let (directory, mut rotor) = world(room::at).await;
    rotor.drive().await;
    let first = rotor.entry.serial().expect("stored").to_owned();
    // The second is stored, and who reads the files is never told of it.
    rotor.config.hooks = vec![Hook {
        program: "/bin/false".into(),
        arguments: Vec::new(),
        timeout: Duration::from_secs(60),
        when: When::Installed,
    }];
    let (reply, answer) = oneshot::channel();
    rotor.ask(Ask::Renew(reply, Insistence::default()));
    rotor.drive().await;
    let error = answer.await.expect("answered").expect_err("nobody is told").to_string();
    assert!(error.contains("/bin/false"), "{error}");
    let second = rotor.entry.serial().expect("stored").to_owned();
    assert_ne!(second, first);
    assert!(rotor.entry.failures > 0 && rotor.entry.unissued == 0, "no issuer is to blame for a hook");
    // The third is.
    rotor.config.hooks.clear();
    renewed(&mut rotor).await;
    let answer = back(&mut rotor).await.expect("a step back");
    assert_eq!((answer.new_serial, file(&directory)), (first.clone(), first));
}

#[tokio::test]
async fn one_step_back_stays_until_the_next_renewal() {
    let (directory, mut rotor) = world(room::at).await;
    rotor.drive().await;
    let error = back(&mut rotor).await.expect_err("there was none before").to_string();
    assert!(error.contains("nothing to go back to"), "{error}");
    let renewal = renewed(&mut rotor).await;
    let (first, second) = (renewal.old_serial.expect("there was one"), renewal.new_serial);
    let planned = rotor.entry.stored.as_ref().expect("stored").renew_at;

    let answer = back(&mut rotor).await.expect("a step back");
    assert_eq!((answer.old_serial.as_ref(), &answer.new_serial), (Some(&second), &first));
    assert_eq!((rotor.entry.serial(), file(&directory)), (Some(first.as_str()), first.clone()));
    let notes = rotor.context.store.notes().expect("notes");
    let told = notes.iter().any(|note| String::from_utf8_lossy(&note.text).contains("rolled_back"));
    assert!(told, "the audit log has it");

    // Its own schedule would have it replaced long ago.
    rotor.entry.stored.as_mut().expect("stored").leaf.validity.not_before.0 -= 80_000;
    let waits = rotor.step(leaf::now());
    assert!(matches!(waits, Step::Wait { until: Some(until), reason: Wait::Renewal } if until <= planned), "{waits:?}");
    rotor.drive().await;
    assert_eq!(rotor.entry.serial(), Some(first.as_str()), "no tick undoes it");

    let error = back(&mut rotor).await.expect_err("one step").to_string();
    assert!(error.contains("nothing to go back to"), "{error}");
    let third = renewed(&mut rotor).await;
    assert_eq!((third.old_serial, file(&directory)), (Some(first), third.new_serial));
}

#[tokio::test]
async fn what_a_renewal_would_undo_or_nobody_should_use_is_refused_with_the_reason() {
    let (directory, mut rotor) = world(room::at).await;
    rotor.drive().await;
    let serial = renewed(&mut rotor).await.old_serial.expect("there was one");
    let before = rotor.entry.clone();
    let now = leaf::now();
    let pem = &before.back.as_ref().expect("kept").chain_pem;
    let chain = leaf::chain(pem).expect("a chain");
    let parsed = portcullis_policy::Leaf::from_der(&chain[0]).expect("a leaf");
    let revoked = Revocations::new(vec![Key::of_certificate(parsed.sha256())], Vec::new(), Freshness::default());
    let ends = |seconds: i64| {
        let mut entry = before.clone();
        let back = entry.back.as_mut().expect("kept");
        back.leaf.validity = Validity { not_before: UnixTime(now.0 - 86_000), not_after: UnixTime(now.0 + seconds) };
        entry
    };
    let with = |change: &dyn Fn(&mut Entry)| {
        let mut entry = before.clone();
        change(&mut entry);
        entry
    };
    let flying = with(&|entry| entry.flight = Some(Flight::begin(Cause::Requested)));
    let checked = with(&|entry| entry.back.as_mut().expect("kept").chain_pem = "nothing".to_owned());
    let cases = [
        ("ended", ends(-1), Revocations::default(), "it ended at"),
        ("ends in a moment", ends(60), Revocations::default(), "so soon"),
        ("revoked", before.clone(), revoked, "it is revoked"),
        ("refused", with(&|entry| entry.refused = Some(serial.clone())), Revocations::default(), "a proxy refused it"),
        ("another one", checked, Revocations::default(), "not what the configuration asks for"),
        ("in flight", flying, Revocations::default(), "is being renewed (planned)"),
    ];
    for (name, entry, revoked, want) in cases {
        rotor.entry = entry;
        let event = Event::new(Kind::RolledBack, "gateway");
        let error = rotor.step_back_unless(&revoked, event).await.expect_err(name).to_string();
        assert!(error.contains(want) && error.contains("`gateway`"), "{name}: {error}");
        assert_eq!(rotor.entry.serial(), before.serial(), "{name}: nothing changed");
        assert_ne!(file(&directory), serial, "{name}");
    }
}

#[tokio::test]
async fn while_a_new_one_does_not_arrive_the_one_before_it_is_the_way_back() {
    let (directory, mut rotor) = world(room::at).await;
    rotor.drive().await;
    let first = rotor.entry.serial().expect("stored").to_owned();
    let second = renewed(&mut rotor).await.new_serial;
    // A hook that never goes well.
    rotor.config.hooks = vec![Hook {
        program: "/bin/false".into(),
        arguments: Vec::new(),
        timeout: Duration::from_secs(60),
        when: When::Installed,
    }];
    let (reply, answer) = oneshot::channel();
    rotor.ask(Ask::Renew(reply, Insistence::default()));
    rotor.drive().await;
    answer.await.expect("answered").expect_err("not told");
    let third = rotor.entry.serial().expect("stored").to_owned();
    assert_eq!(rotor.entry.flight.map(|flight| flight.edge), Some(Edge::Install));
    rotor.config.hooks.clear();
    let answer = back(&mut rotor).await.expect("a step back");
    assert_eq!((answer.old_serial, &answer.new_serial), (Some(third), &second));
    assert_eq!(file(&directory), second);
    assert_ne!(first, second);
}
