//! Commands, from the request to the status.

use std::path::Path;

use rcgen::KeyUsagePurpose;

use super::list::tests::Signer;
use super::*;
use crate::command::Usage;
use crate::config;
use crate::fetch::Followed as _;
use crate::fetch::Server;
use crate::names::Names;
use crate::store::LocalStore;

struct Desk {
    directory: tempfile::TempDir,
    revoker: Revoker,
}

fn desk() -> Desk {
    let directory = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(&directory.path().join("store.redb")).expect("a store").store;
    let revoker = open(Arc::new(store), directory.path());
    Desk { directory, revoker }
}

fn open(store: Arc<dyn Store>, directory: &Path) -> Revoker {
    open_with(store, directory, &config::Revocation::default())
}

fn open_with(store: Arc<dyn Store>, directory: &Path, config: &config::Revocation) -> Revoker {
    Revoker::open(Context::alone(store, directory), config).expect("a revoker")
}

impl Desk {
    /// Issues a certificate; its issuer and serial.
    fn issue(&self, name: &str) -> (Sha256Hex, Serial, Leaf) {
        let spiffe = Some(format!("spiffe://acme.example/{name}"));
        let names = Names::new(spiffe, Vec::new(), Vec::new(), vec![Usage::Client], "acme.example").expect("names");
        let now = leaf::now();
        let authority = self.revoker.context.trust.authority();
        let order = authority.order(names, 600, self.directory.path(), now).expect("an order");
        let chain = authority.sign(&order).expect("signed");
        self.revoker.context.ledger.record(&chain, now, b"{}").expect("recorded");
        let leaf = Leaf::from_pem(chain.as_bytes()).expect("a leaf");
        (authority.names_sha256()[0], Serial::from_bytes(leaf.serial()), leaf)
    }

    async fn ask(&self, change: Change, targets: Vec<Target>, mode: Mode) -> Result<Changed, CommandError> {
        let request = ChangeRequest { change, targets, reason: "a test".to_owned(), mode, patience: 0 };
        self.revoker.change(request).await
    }
}

#[tokio::test]
async fn a_dry_run_names_exactly_whom_the_command_hits() {
    let desk = desk();
    let (issuer, serial, one) = desk.issue("one");
    let (_, _, two) = desk.issue("two");
    let began = leaf::timestamp(one.not_before());
    let cases: [(&str, Target, &[&Leaf]); 8] = [
        ("serial", Target::Serial { issuer, serial: serial.clone() }, &[&one]),
        ("another CA's serial", Target::Serial { issuer: Sha256Hex([0; 32]), serial }, &[]),
        ("certificate", Target::Sha256(Sha256Hex(*two.sha256())), &[&two]),
        ("key", Target::SpkiSha256(Sha256Hex(*one.spki_sha256())), &[&one]),
        ("identity", Target::identity(two.identity()).expect("an identity"), &[&two]),
        ("nobody", Target::identity("spiffe://acme.example/three").expect("an identity"), &[]),
        ("issued before now", Target::IssuedBefore { issuer, instant: leaf::timestamp(leaf::now()) }, &[&one, &two]),
        ("issued before that", Target::IssuedBefore { issuer, instant: began }, &[]),
    ];
    for (name, target, want) in cases {
        let changed = desk.ask(Change::Revoke, vec![target], Mode::DryRun).await.expect(name);
        let ends: Vec<_> = changed.ends.iter().map(|ended| ended.identity.as_str()).collect();
        assert_eq!(ends, want.iter().map(|leaf| leaf.identity()).collect::<Vec<_>>(), "{name}");
        assert_eq!((changed.changed, changed.ends_total, changed.taken), (1, want.len(), None), "{name}");
    }
    assert_eq!(desk.revoker.revoked().operator, [], "a dry run changes nothing");
}

#[tokio::test]
async fn what_is_revoked_stays_so_across_a_restart_until_it_is_taken_back() {
    let desk = desk();
    let target = Target::identity("spiffe://acme.example/one").expect("an identity");
    let changed = desk.ask(Change::Revoke, vec![target.clone()], Mode::Real).await.expect("revoked");
    assert_eq!((changed.changed, changed.unchanged, changed.taken), (1, 0, Some(Taken::NoFilter)));
    let again = desk.ask(Change::Revoke, vec![target.clone()], Mode::Real).await.expect("once more");
    assert_eq!((again.changed, again.unchanged), (0, 1));

    let restarted = open(Arc::clone(&desk.revoker.context.store), desk.directory.path()).revoked();
    assert_eq!((restarted.status.keys, restarted.operator.len()), (1, 1));
    assert_eq!(restarted.operator[0].reason, "a test");
    assert_eq!(restarted.status, desk.revoker.revoked().status);

    desk.ask(Change::Unrevoke, vec![target], Mode::Real).await.expect("taken back");
    assert_eq!(desk.revoker.revoked().status, RevocationStatus::default());
    let notes = desk.revoker.context.store.notes().expect("notes");
    let notes: Vec<_> = notes.iter().map(|note| String::from_utf8_lossy(&note.text).into_owned()).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    for (note, event) in notes.iter().zip(["revoked", "unrevoked"]) {
        assert!(note.contains(&format!("\"{event}\"")) && note.contains("a test"), "{note}");
    }
}

#[tokio::test]
async fn commands_that_cannot_be_meant_change_nothing() {
    let desk = desk();
    let target = || Target::identity("dns:a").expect("an identity");
    let later = leaf::timestamp(UnixTime(leaf::now().0 + 3600));
    let cases = [
        ("nothing", Vec::new(), "why", "1 to 100000"),
        ("no reason", vec![target()], " ", "reason"),
        ("a reason of two lines", vec![target()], "a\nb", "reason"),
        ("too many", vec![target(); MAX_TARGETS + 1], "why", "100001 targets"),
        (
            "the future",
            vec![Target::IssuedBefore { issuer: Sha256Hex([1; 32]), instant: later }],
            "why",
            "has not come",
        ),
    ];
    for (name, targets, reason, message) in cases {
        let (change, reason, mode) = (Change::Revoke, reason.to_owned(), Mode::Real);
        let request = ChangeRequest { change, targets, reason, mode, patience: 0 };
        let error = desk.revoker.change(request).await.expect_err(name);
        assert!(
            matches!(error, CommandError::Invalid { .. }) && error.to_string().contains(message),
            "{name}: {error}"
        );
    }
    assert_eq!(desk.revoker.revoked().status, RevocationStatus::default());
}

/// A world with one list in a file.
struct Listed {
    directory: tempfile::TempDir,
    store: Arc<dyn Store>,
    config: config::Revocation,
    signer: Signer,
}

fn listed(when_stale: WhenStale) -> Listed {
    let directory = tempfile::tempdir().expect("a directory");
    let signer = Signer::new("corp", &[KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]);
    let list = config::RevocationList {
        name: "corp".to_owned(),
        authority: signer.authority(),
        source: ListSource::File(directory.path().join("corp.crl")),
        emptied: Emptied::Refused,
    };
    let store = Arc::new(LocalStore::open(&directory.path().join("store.redb")).expect("a store").store);
    Listed {
        directory,
        store,
        config: config::Revocation { when_stale, lists: vec![list], ..config::Revocation::default() },
        signer,
    }
}

impl Listed {
    fn save(&self, bytes: &[u8]) {
        std::fs::write(self.file(), bytes).expect("written");
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("corp.crl")
    }

    /// An agent starts, and reads the file.
    fn start(&self) -> (Revoker, InFile) {
        let revoker = open_with(Arc::clone(&self.store), self.directory.path(), &self.config);
        let keeper = Keeper::open(self.config.lists[0].clone(), revoker.clone());
        (revoker, InFile::open(keeper, self.file()))
    }

    /// An agent starts, and has not asked the server yet.
    fn start_remote(&self, url: &str) -> (Revoker, ByUrl) {
        let (revoker, url) = (
            open_with(Arc::clone(&self.store), self.directory.path(), &self.config),
            WANTED.parse(url).expect("a URL"),
        );
        let list = config::RevocationList { source: ListSource::Url(url.clone()), ..self.config.lists[0].clone() };
        (revoker.clone(), ByUrl::open(Keeper::open(list, revoker), url))
    }
}

#[tokio::test]
async fn a_bad_list_changes_nothing_but_the_status() {
    let listed = listed(WhenStale::Deny);
    let now = leaf::now().0;
    listed.save(&listed.signer.list(7, now - 10, &[1, 2, 3]));
    let (revoker, mut follower) = listed.start();
    let good = revoker.revoked().status;
    assert_eq!((good.keys, good.lists[0].entries, good.lists[0].last_error.clone()), (3, 3, None));
    let other = Signer::new("corp", &[KeyUsagePurpose::CrlSign]);
    let cases = [
        ("garbage", b"<html>404</html>".to_vec(), "not a certificate revocation list"),
        ("signed by another", other.list(8, now, &[1]), "the signature is not"),
        ("older", listed.signer.list(6, now, &[1]), "older than the one in force: number 6"),
        ("empty", listed.signer.list(8, now, &[]), "may_be_empty"),
    ];
    for (name, bytes, message) in cases {
        listed.save(&bytes);
        follower.look();
        let status = revoker.revoked().status;
        assert_eq!((&status.version, status.keys), (&good.version, 3), "{name}");
        let error = status.lists[0].last_error.clone().unwrap_or_default();
        assert!(error.contains(message) && error.contains("corp.crl"), "{name}: {error}");
    }
    // A start with a bad file goes on with the list that the store has.
    let (restarted, _) = listed.start();
    let status = restarted.revoked().status;
    assert_eq!((status.version, status.keys), (good.version, 3));
    assert!(status.lists[0].last_error.is_some());

    listed.save(&listed.signer.list(8, now, &[1, 2, 3, 4]));
    follower.look();
    let status = revoker.revoked().status;
    assert_eq!((status.keys, &status.lists[0].last_error), (4, &None));
}

#[tokio::test]
async fn a_list_behind_a_url_is_fetched_kept_and_replaced_by_newer_good_ones_only() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (listed, server) = (listed(WhenStale::Deny), Server::default());
    let url = server.start("/corp.crl").await;
    let with_query = format!("{url}?secret");
    let now = leaf::now().0;
    let (revoker, mut follower) = listed.start_remote(&with_query);
    let client =
        follower.source().0.clone().within(Duration::from_secs(60)).client(follower.source().1).expect("a client");
    let list = |number, serials: &[u64]| listed.signer.list(number, now - 10, serials);

    server.say(200, &[("etag", "\"7\"")], list(7, &[1, 2, 3]));
    assert_eq!(follower.refresh(&client).await.expect("fetched"), Duration::from_secs(600));
    let good = revoker.revoked().status;
    assert_eq!((good.keys, good.lists[0].source.as_str()), (3, url.as_str()));
    server.say(304, &[("etag", "\"7\"")], Vec::new());
    follower.refresh(&client).await.expect("still the same");
    assert_eq!(server.asked_with(), [None, Some("\"7\"".to_owned())]);

    let other = Signer::new("corp", &[KeyUsagePurpose::CrlSign]);
    let cases = [
        ("garbage", 200, b"<html>404</html>".to_vec(), "malformed"),
        ("nothing", 200, Vec::new(), "malformed"),
        ("signed by another", 200, other.list(8, now, &[1]), "signature"),
        ("older", 200, list(6, &[1]), "older"),
        ("empty", 200, list(8, &[]), "emptied"),
        ("gone", 404, list(8, &[1]), "status"),
        ("elsewhere", 302, list(8, &[1]), "status"),
        ("too long", 200, vec![0; usize::try_from(list::MAX_LENGTH + 1).expect("a length")], "too_large"),
    ];
    for (name, status, body, want) in cases {
        server.say(status, &[("etag", "\"8\"")], body);
        let error = follower.refresh(&client).await.expect_err(name);
        assert_eq!(error.code(), want, "{name}: {error}");
        let wait = follower.failed(&error);
        assert!((Duration::from_secs(1)..=Duration::from_secs(300)).contains(&wait), "{name}: {wait:?}");
        let status = revoker.revoked().status;
        assert_eq!((&status.version, status.keys), (&good.version, 3), "{name}");
        let text = status.lists[0].last_error.clone().unwrap_or_default();
        assert!(text.contains("/corp.crl`") && !text.contains("secret"), "{name}: {text}");
        assert_eq!(server.asked_with().last(), Some(&Some("\"7\"".to_owned())), "{name}: of the one in force");
    }
    // A start while the server is away goes on with the list that the store has.
    let (restarted, mut follower) = listed.start_remote(&with_query);
    assert_eq!(restarted.revoked().status.version, good.version);
    server.say(200, &[("etag", "\"9\"")], list(9, &[1, 2, 3, 4]));
    follower.refresh(&client).await.expect("fetched");
    let status = restarted.revoked().status;
    assert_eq!((status.keys, &status.lists[0].last_error), (4, &None));
}

#[tokio::test]
async fn lists_and_operators_make_one_set_which_is_as_fresh_as_the_oldest_list() {
    let listed = listed(WhenStale::Allow);
    let (revoker, mut follower) = listed.start();
    let until = |revoker: &Revoker| {
        revoker.locked(|state| {
            let board = revoker.context.board.watch();
            let reasons = board.borrow().reasons.clone();
            (state.lists[0].0.next_update, reasons)
        })
    };
    let (never, reasons) = until(&revoker);
    assert!(never.is_none() && reasons.iter().any(|reason| reason.contains("`corp` is stale")), "{reasons:?}");
    let now = leaf::now().0;
    listed.save(&listed.signer.list(1, now, &[1]));
    follower.look();
    let (end, reasons) = until(&revoker);
    assert_eq!(end.map(|end| end.as_second()), Some(now + 3600));
    assert!(!reasons.iter().any(|reason| reason.contains("corp")), "{reasons:?}");
    let request = ChangeRequest {
        change: Change::Revoke,
        targets: vec![Target::identity("dns:a").expect("an identity")],
        reason: "a test".to_owned(),
        mode: Mode::Real,
        patience: 0,
    };
    revoker.change(request).await.expect("revoked");
    let status = revoker.revoked().status;
    assert_eq!((status.keys, status.when_stale), (2, WhenStale::Allow));
}

#[test]
fn an_agent_of_before_is_told_nothing_that_it_does_not_know() {
    let text = r#"{"change":"revoke","targets":[],"reason":"lost","mode":"real"}"#;
    let mut request: ChangeRequest = serde_json::from_str(text).expect("a request of before");
    assert_eq!(serde_json::to_string(&request).expect("JSON"), text);
    request.patience = 80;
    let said = serde_json::to_string(&request).expect("JSON");
    assert_eq!(serde_json::from_str::<ChangeRequest>(&said).expect("a request"), request);
}
