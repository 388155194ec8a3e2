//! One certificate in a world of its own: a store, a CA, a clock and a disk that do as they are told.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;

use portcullis_policy::UnixTime;
use portcullis_policy::rotation::Cause;
use portcullis_policy::rotation::Edge;
use portcullis_policy::rotation::Fit;
use portcullis_policy::rotation::Flight;
use portcullis_policy::rotation::Step;
use portcullis_policy::rotation::Wait;
use portcullis_policy::schedule::Share;
use portcullis_policy::schedule::Validity;
use tempfile::TempDir;

use super::entry::Entry;
use super::*;
use crate::ca::Authority;
use crate::calendar::Calendar;
use crate::calendar::Period;
use crate::command::Insistence;
use crate::command::Urgency;
use crate::command::Usage;
use crate::generation::Generations;
use crate::issuer::BUILT_IN;
use crate::issuer::Roots;
use crate::issuer::openbao;
use crate::names::Names;
use crate::room::Room;
use crate::store::LocalStore;
use crate::trust::Trust;

use advice::Failing;

pub(crate) mod advice;
mod dead_names;
mod issuer;
mod proxies;
mod rollback;

const YEAR: i64 = 365 * 86_400;

pub(crate) fn context(directory: &Path, room: room::Look) -> Arc<Context> {
    let store = LocalStore::open(&directory.join("store.redb")).expect("a store").store;
    let ca = config::Ca { trust_domain: "acme.example".to_owned(), root_lifetime: YEAR, ..config::Ca::default() };
    let (authority, _) = Authority::open(directory, &ca, leaf::now()).expect("a CA");
    let prover = Prover::new(vec![authority.der().clone()], None).expect("a prover");
    let store: Arc<dyn Store> = Arc::new(store);
    let authorities = Authorities::from(Arc::new(authority));
    let roots = succession::Handle::alone(Arc::clone(&store));
    let remedies = Remedies::new(Arc::clone(&store), Arc::default(), &[]);
    Arc::new(Context {
        issuers: Issuers::new(authorities.clone(), Arc::clone(&store)),
        tally: Tally::default(),
        ledger: Arc::new(Ledger::open(Arc::clone(&store)).expect("a ledger")),
        store,
        noted: Arc::default(),
        trust: Trust::new(Publisher::new(), authorities.clone(), &config::Revocation::default()),
        authorities,
        roots,
        trust_domain: ca.trust_domain,
        publisher: Publisher::new(),
        prover,
        admin: None,
        board: Board::new(),
        metrics: Metrics::new(),
        heartbeat: Heartbeat::new(),
        clock: Clock::default(),
        revoked: Arc::new(Arc::default),
        remedies,
        room,
    })
}

fn certificate(directory: &Path) -> config::Certificate {
    let names = Names::new(None, vec!["localhost".to_owned()], Vec::new(), vec![Usage::Server], "acme.example");
    config::Certificate {
        name: "gateway".to_owned(),
        issuer: BUILT_IN.to_owned(),
        fallback: None,
        names: names.expect("names"),
        when_a_name_fails: config::WhenNameFails::Wait,
        lifetime: 86_400,
        renew_after: Share::TWO_THIRDS,
        calendar: Arc::default(),
        files: Some(config::Files {
            directory: directory.join("tls"),
            keep: 1,
            mode: 0o600,
            owner: None,
            group: None,
            combined: false,
        }),
        hooks: Vec::new(),
        reload: None,
        roll_back_after: None,
        trusted_by: Vec::new(),
        served_at: Vec::new(),
    }
}

async fn world(room: room::Look) -> (TempDir, Rotor) {
    let directory = tempfile::tempdir().expect("a directory");
    let context = context(directory.path(), room);
    let rotor = Rotor::open(context, certificate(directory.path())).await.expect("a rotor");
    (directory, rotor)
}

#[tokio::test]
async fn nothing_is_issued_without_room_to_write_it() {
    let (directory, mut rotor) = world(|_| Ok(Room { bytes: 512 * 1024, files: None })).await;
    rotor.drive().await;
    let status = rotor.status();
    assert_eq!((status.failures, status.stored), (1, None));
    let error = status.last_error.expect("an error");
    assert!(error.contains("no room at") && error.contains("512 KiB"), "{error}");
    assert!(rotor.entry.order.is_none(), "no key was made");
    let notes = rotor.context.store.notes().expect("notes");
    let told = |text: &str| notes.iter().any(|note| String::from_utf8_lossy(&note.text).contains(text));
    assert!(told("alarm") && told("no room at") && !told("certificate_issued"));
    assert!(!directory.path().join("tls/tls.crt").exists());
}

#[tokio::test]
async fn a_clock_that_jumped_ahead_renews_nothing_until_it_is_believed() {
    let (_directory, mut rotor) = world(room::at).await;
    rotor.drive().await;
    let now = leaf::now();
    assert!(matches!(rotor.step(now), Step::Wait { reason: Wait::Renewal, .. }), "{:?}", rotor.status());
    let running = Reading::now().running;
    let at =
        |seconds: i64, later: u64| Reading { wall: now.0 + seconds, running: running + Duration::from_secs(later) };
    rotor.context.clock.look(at(0, 0));
    rotor.context.clock.look(at(YEAR, 1));
    let ahead = UnixTime(now.0 + YEAR);
    assert!(matches!(rotor.step(ahead), Step::Wait { reason: Wait::Clock, .. }));
    // Two minutes later at the latest.
    rotor.context.clock.look(at(YEAR + 121, 122));
    assert_eq!(rotor.step(ahead), Step::Begin(Cause::Expired));
    // Back again: what was issued meanwhile begins in a year.
    rotor.context.clock.look(at(122, 123));
    if let Some(stored) = &mut rotor.entry.stored {
        let Validity { not_before, not_after } = stored.leaf.validity;
        let later = |time: UnixTime| UnixTime(time.0 + YEAR);
        stored.leaf.validity = Validity { not_before: later(not_before), not_after: later(not_after) };
    }
    assert_eq!(rotor.step(now), Step::Begin(Cause::ClockWentBack));
}

/// A server that answers everything with this date, as a sealed OpenBao does.
async fn dated(offset: Arc<AtomicI64>) -> std::net::SocketAddr {
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4_096]).await;
            let seconds = leaf::now().0 + offset.load(Ordering::Relaxed);
            let date = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
            let date = httpdate::fmt_http_date(date);
            let answer =
                format!("HTTP/1.1 503 Sealed\r\ndate: {date}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn an_issuer_is_asked_whether_a_clock_that_jumped_is_right() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (directory, mut rotor) = world(room::at).await;
    rotor.drive().await;
    let context = Arc::clone(&rotor.context);
    let jump = |seconds: i64| {
        let now = Reading::now();
        context.clock.look(now);
        context.clock.look(Reading { wall: now.wall + seconds, ..now });
    };
    let in_doubt = |rotor: &Rotor, at: UnixTime| matches!(rotor.step(at), Step::Wait { reason: Wait::Clock, .. });
    let now = leaf::now();
    let ahead = UnixTime(now.0 + YEAR);

    // Nobody to ask: the doubt has its time.
    jump(YEAR);
    assert_eq!(ask_clock::once(&context, context.clock.verdict().0).await, None);
    assert!(in_doubt(&rotor, ahead));

    // The CA has the old time: what the jump made due waits, for as long as that is so.
    let offset = Arc::new(AtomicI64::new(-YEAR));
    let address = dated(Arc::clone(&offset)).await;
    let mut bao = unreachable(directory.path());
    if let config::IssuerKind::OpenBao(settings) = &mut bao.kind {
        settings.address = format!("http://{address}").parse().expect("a URL");
    }
    context.issuers.configure(&[bao]).expect("configured");
    let (jumps, _) = context.clock.verdict();
    assert!(
        matches!(ask_clock::once(&context, jumps).await, Some(clock::Verdict::Differs(by)) if (by + YEAR).abs() < 30)
    );
    assert!(in_doubt(&rotor, ahead), "held");
    // By the CA's clock it ends, so it is renewed whatever ours says.
    let end = rotor.entry.stored.as_ref().expect("stored").leaf.validity.not_after;
    assert!(!in_doubt(&rotor, UnixTime(end.0 + YEAR)));
    let notes = |kind: &str| {
        let notes = context.store.notes().expect("notes");
        notes.iter().filter(|note| String::from_utf8_lossy(&note.text).contains(kind)).count()
    };
    assert_eq!((notes("the clock is wrong"), notes("alarm_cleared")), (1, 0));
    assert!(ask_clock::once(&context, jumps).await.is_some());
    assert_eq!(notes("the clock is wrong"), 1, "said once");

    // The CA agrees with the new time: the old one was wrong, and nothing waits.
    offset.store(0, Ordering::Relaxed);
    assert_eq!(ask_clock::once(&context, jumps).await, Some(clock::Verdict::Agrees));
    assert_eq!(rotor.step(ahead), Step::Begin(Cause::Expired));
    assert_eq!(notes("alarm_cleared"), 1);
}

#[tokio::test]
async fn in_a_blackout_what_is_due_waits_and_an_operator_says_that_it_is_an_emergency() {
    let (_directory, mut rotor) = world(room::at).await;
    rotor.drive().await;
    let stored = rotor.entry.stored.clone().expect("issued");
    let now = leaf::now();
    let blackout = Period::Once { from: UnixTime(now.0 - 60), to: UnixTime(now.0 + 3_600) };
    let calendar = Arc::new(Calendar::new(Vec::new(), vec![blackout], "one".to_owned()));
    rotor.reconfigure(config::Certificate { calendar, ..rotor.config.clone() });
    let replanned = rotor.entry.stored.clone().expect("stored");
    assert!(replanned.renew_at.0 >= now.0 + 3_600, "as it was, or later: {:?}", replanned.renew_at);
    assert_eq!(replanned.leaf.serial, stored.leaf.serial);
    if let Some(stored) = &mut rotor.entry.stored {
        stored.renew_at = now;
    }
    assert!(
        matches!(rotor.step(now), Step::Wait { reason: Wait::Closed, until: Some(UnixTime(until)) } if until == now.0 + 3_600)
    );
    assert_eq!(rotor.status().waits_for.as_deref(), Some("closed"));
    assert_eq!(rotor.step(UnixTime(now.0 + 3_600)), Step::Begin(Cause::Due));

    let (reply, answer) = tokio::sync::oneshot::channel();
    rotor.ask(Ask::Renew(reply, Insistence::default()));
    let error = answer.await.expect("an answer").expect_err("a blackout").to_string();
    assert!(error.contains("blackout until") && error.contains("--emergency"), "{error}");
    // One that had begun, and failed before the window closed, waits as well.
    rotor.entry.flight = Some(Flight::begin(Cause::Due));
    assert!(matches!(rotor.step(now), Step::Wait { reason: Wait::Closed, .. }));
    let (reply, answer) = tokio::sync::oneshot::channel();
    rotor.ask(Ask::Renew(reply, Insistence { urgency: Urgency::Emergency, ..Insistence::default() }));
    assert_eq!(rotor.step(now), Step::Take(Edge::Journal));
    rotor.drive().await;
    drop(answer);
    assert_ne!(rotor.entry.serial(), Some(stored.leaf.serial.as_str()), "renewed all the same");
    let renewed = rotor.entry.stored.as_ref().expect("stored").renew_at;
    assert!(renewed.0 >= now.0 + 3_600);
}

#[tokio::test]
async fn a_renewal_is_planned_in_a_window_and_keeps_its_draw() {
    let (_directory, mut rotor) = world(room::at).await;
    rotor.drive().await;
    let validity = rotor.entry.stored.as_ref().expect("issued").leaf.validity;
    let hours = |from: i64, to: i64| {
        let at = |hours| UnixTime(validity.not_before.0 + hours * 3_600);
        Period::Once { from: at(from), to: at(to) }
    };
    let calendar = Arc::new(Calendar::new(vec![hours(8, 10)], Vec::new(), "window".to_owned()));
    let config = config::Certificate { calendar, ..rotor.config.clone() };
    rotor.reconfigure(config.clone());
    let planned = rotor.entry.stored.as_ref().expect("stored").renew_at;
    let after = planned.0 - validity.not_before.0;
    assert!((8 * 3_600..10 * 3_600).contains(&after), "{after}");
    rotor.reconfigure(config);
    assert_eq!(rotor.entry.stored.as_ref().expect("stored").renew_at, planned, "drawn once");
}

#[tokio::test]
async fn a_window_that_was_edited_while_the_agent_was_away_counts() {
    let (_directory, mut rotor) = world(room::at).await;
    rotor.drive().await;
    let validity = rotor.entry.stored.as_ref().expect("issued").leaf.validity;
    let at = |hours: i64| UnixTime(validity.not_before.0 + hours * 3_600);
    let window = vec![Period::Once { from: at(8), to: at(10) }];
    let calendar = Arc::new(Calendar::new(window, Vec::new(), "window".to_owned()));
    let config = config::Certificate { calendar, ..rotor.config.clone() };
    let context = Arc::clone(&rotor.context);
    let planned = async |rotor: Rotor, config: &config::Certificate| {
        // It holds the lock of the files.
        drop(rotor);
        let rotor = Rotor::open(Arc::clone(&context), config.clone()).await.expect("a rotor");
        let at = rotor.entry.stored.as_ref().expect("stored").renew_at;
        (rotor, at)
    };
    let before = rotor.entry.stored.as_ref().expect("stored").renew_at;
    let plain = rotor.config.clone();
    let (rotor, same) = planned(rotor, &plain).await;
    assert_eq!(same, before, "nothing was edited");
    let (rotor, moved) = planned(rotor, &config).await;
    assert!((at(8)..at(10)).contains(&moved), "{moved:?}");
    let (rotor, again) = planned(rotor, &config).await;
    assert_eq!(again, moved, "drawn once");
    let (_rotor, back) = planned(rotor, &plain).await;
    assert_eq!(back, before);
}

#[tokio::test]
async fn what_cannot_be_looked_after_is_in_the_status_and_tried_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut context = context(directory.path(), room::at);
    let fails = Arc::new(AtomicBool::new(false));
    let own = Arc::get_mut(&mut context).expect("nobody else has it");
    own.store = Arc::new(Failing { inner: Arc::clone(&own.store), fails: Arc::clone(&fails) });
    let file = directory.path().join("portcullis.yaml");
    let load = |rest: &str| {
        let head =
            "version: 1\nca: { trust_domain: acme.example }\ncertificates:\n  - { name: first, dns: [localhost] }\n";
        std::fs::write(&file, format!("{head}{rest}")).expect("written");
        Arc::new(config::Config::load(&file).expect("a configuration"))
    };
    let mut rotation = Rotation::open(Arc::clone(&context), load("")).await.expect("open");
    let both = load("  - { name: late, dns: [localhost], files: { directory: tls } }\n");
    let held = both.certificate("late").and_then(|late| late.files.as_ref()).map(Generations::open);
    let held = held.expect("files").expect("free");
    fails.store(true, Ordering::Relaxed);
    rotation.reconfigure(&both).await;
    fails.store(false, Ordering::Relaxed);
    let late = || context.board.watch().borrow().certificates.get(1).cloned().expect("both are in the status");
    let error = late().last_error.unwrap_or_default();
    assert!(error.contains("not looked after") && error.contains("process"), "{error}");
    assert!(late().next_attempt.is_some() && late().failures == 1);
    rotation.open_again().await;
    assert_eq!(late().failures, 1, "not at once");
    let now = |rotation: &mut Rotation| rotation.unopened.values_mut().for_each(|one| one.again = Instant::now());
    now(&mut rotation);
    rotation.open_again().await;
    assert_eq!(late().failures, 2, "tried again, in vain");
    drop(held);
    now(&mut rotation);
    rotation.open_again().await;
    assert_eq!((late().failures, late().last_error), (0, None));
    let notes = context.store.notes().expect("notes");
    let told = |kind: &str| {
        notes.iter().filter(|note| String::from_utf8_lossy(&note.text).contains(&format!("\"{kind}\""))).count()
    };
    assert_eq!((told("alarm"), told("alarm_cleared")), (1, 1), "the store did not take the alarm at first");
}

#[tokio::test]
async fn an_alarm_that_a_stuck_store_does_not_take_is_told_once() {
    for (name, landed) in [("none of it", None), ("what was before it", Some(0)), ("the failure", Some(1))] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut context = context(directory.path(), room::at);
        let store = Arc::clone(&context.store);
        let fails = Arc::new(AtomicBool::new(false));
        let own = Arc::get_mut(&mut context).expect("nobody else has it");
        own.store = Arc::new(Failing { inner: Arc::clone(&store), fails: Arc::clone(&fails) });
        let mut rotor = Rotor::open(context, certificate(directory.path())).await.expect("a rotor");
        rotor.entry.flight = Some(Flight::begin(Cause::Offered));
        fails.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            rotor.fail(Edge::Obtain, &StepError::Answer { issuer: BUILT_IN.to_owned() }).await;
        }
        assert_eq!(rotor.untold.len(), 1, "{name}");
        if let Some(failures) = landed {
            // It seemed not to be written, and is there all the same.
            let entry = Entry { failures, ..rotor.entry.clone() };
            let notes: Vec<_> =
                rotor.untold.iter().filter(|(at, _)| *at <= failures).map(|(_, one)| one.note()).collect();
            store.swap(&Entry::key("gateway"), None, &entry.to_json(), &notes).expect("stored");
        }
        fails.store(false, Ordering::Relaxed);
        let conflict = rotor.commit(rotor.entry.clone(), &[]).await;
        assert_eq!(conflict.is_err(), landed.is_some(), "{name}");
        rotor.commit(rotor.entry.clone(), &[]).await.expect("stored");
        assert_eq!(store.notes().expect("notes").len(), 1, "{name}");
    }
}

/// An issuer whose server is not there: nobody listens on a port that was given back.
fn unreachable(directory: &Path) -> config::Issuer {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    let address = format!("http://{}", free.expect("a port")).parse().expect("a URL");
    let token = directory.join("token");
    std::fs::write(&token, "s.token").expect("written");
    let kind = config::IssuerKind::OpenBao(Box::new(openbao::Settings {
        address,
        server_roots: None,
        namespace: None,
        mount: "pki".to_owned(),
        role: "gateway".to_owned(),
        login: openbao::Login::Token { file: token },
    }));
    config::Issuer { name: "bao".to_owned(), roots: Roots::these(Vec::new()), kind }
}

#[tokio::test]
async fn an_issuer_that_fails_is_followed_by_the_fallback_and_asked_again() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().expect("a directory");
    let context = context(directory.path(), room::at);
    context.issuers.configure(&[unreachable(directory.path())]).expect("configured");
    let fallback = config::Fallback { issuer: BUILT_IN.to_owned(), below: Share::new(0.1).expect("a share") };
    let config =
        config::Certificate { issuer: "bao".to_owned(), fallback: Some(fallback), ..certificate(directory.path()) };
    let mut rotor = Rotor::open(context, config).await.expect("a rotor");
    rotor.drive().await;
    let status = rotor.status();
    assert_eq!((status.failures, status.issuer.as_str()), (1, "bao"));
    let error = status.last_error.expect("an error");
    assert!(
        error.contains("`bao` did not issue") && error.contains("cannot reach") && !error.contains("s.token"),
        "{error}"
    );
    assert!(rotor.entry.order.is_none(), "the order there is given up");

    // The wait is over.
    rotor.entry.retry_at = None;
    rotor.drive().await;
    let status = rotor.status();
    assert_eq!((status.failures, status.issuer.as_str(), status.state.as_str()), (0, BUILT_IN, "retired"));
    let stored = rotor.entry.stored.as_ref().expect("stored");
    assert!(stored.renew_at.0 <= leaf::now().0 + 3_600, "the issuer that should have is asked within the hour");
    assert_eq!(rotor.fit(), Fit::Fits, "what the fallback issued is good");
    rotor.config.fallback = None;
    assert_eq!(rotor.fit(), Fit::OtherIssuer, "unless there is none any more");
}

#[tokio::test]
async fn who_asks_the_fallback_does_not_wait_for_those_who_ask_the_issuer() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("portcullis.yaml");
    let text = "version: 1\nca: { trust_domain: acme.example }\ncertificates: [{ name: gateway, dns: [localhost] }]\n";
    std::fs::write(&file, text).expect("written");
    let config = Arc::new(config::Config::load(&file).expect("a configuration"));
    let context = context(directory.path(), room::at);
    let mut rotation = Rotation::open(context, Arc::clone(&config)).await.expect("a rotation");
    let rotor = rotation.idle.get_mut("gateway").expect("the configuration has it");
    rotor.config.issuer = "bao".to_owned();
    let below = Share::new(0.1).expect("a share");
    rotor.config.fallback = Some(config::Fallback { issuer: BUILT_IN.to_owned(), below });
    assert_eq!(rotor.asks(leaf::now()), "bao");
    rotor.entry.unissued = 1;
    rotation.limits.insert("bao".to_owned(), Arc::new(Semaphore::new(0)));
    rotation.turns.stir_all();
    rotation.set_to_work();
    let done = tokio::time::timeout(Duration::from_secs(60), rotation.busy.join_next()).await.expect("no wait");
    let rotor = done.expect("a task").expect("done");
    assert_eq!(rotor.status().issuer, BUILT_IN);
    rotation.reconfigure(&config).await;
    assert!(rotation.limits.is_empty(), "nobody asks any of them");
}
