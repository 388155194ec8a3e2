//! An issuer that answers as it is told: what it may say, and how long it may take.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::Uri;
use rcgen::CertificateParams;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::Issuer;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::ca;
use crate::issuer::Order;
use crate::keys::PrivateKey;
use crate::rotation::entry::Entry;

const HOUR: i64 = 3_600;
/// For what takes no time on a machine that has some.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is said to whoever has something signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// Leaf and intermediate.
    Chain,
    /// The same, where the intermediate is signed with SHA-1.
    Sha1,
    /// The leaf alone.
    Leaf,
    /// Leaf and intermediate, again and again.
    Endless,
    /// That it cannot now.
    Later,
    /// Nothing.
    Nothing,
}

/// A root, and an intermediate that it signed twice.
struct Pki {
    root: CertificateDer<'static>,
    intermediate: String,
    with_sha1: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A PKI engine of OpenBao on loopback, with the one secret that it lets in with; it ends with the test's runtime.
#[derive(Clone)]
struct Engine {
    address: std::net::SocketAddr,
    pki: Arc<Pki>,
    /// Where the keys are found of what is to be signed.
    store: Arc<dyn Store>,
    says: Arc<Mutex<Says>>,
    secret: Arc<Mutex<&'static str>>,
    signed: Arc<AtomicUsize>,
    waiting: Arc<AtomicUsize>,
}

impl Pki {
    fn new() -> Self {
        let pem = include_str!("sha1.pem");
        let parts: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).map(|der| der.expect("a part")).collect();
        let [root, intermediate, with_sha1] = parts.try_into().expect("three");
        let (_, key) = pem.split_once("-----BEGIN PRIVATE").expect("a key");
        let key = KeyPair::from_pem(&format!("-----BEGIN PRIVATE{key}")).expect("a key");
        let text = |der: &CertificateDer<'_>| leaf::pem("CERTIFICATE", der);
        let issuer = Issuer::from_ca_cert_der(&intermediate, key).expect("a CA");
        Self { root, intermediate: text(&intermediate), with_sha1: text(&with_sha1), issuer }
    }

    fn leaf(&self, names: &Names, key: &PrivateKey) -> String {
        let mut params = CertificateParams::default();
        let at = |hours: i64| std::time::SystemTime::now() + Duration::from_secs((hours * HOUR).unsigned_abs());
        (params.not_before, params.not_after) = ((at(0) - Duration::from_secs(60)).into(), at(24).into());
        params.subject_alt_names = ca::alternative_names(names).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.signed_by(&key.pair().expect("a pair"), &self.issuer).expect("signed").pem()
    }
}

impl Engine {
    async fn start(store: Arc<dyn Store>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let engine = Self {
            address: listener.local_addr().expect("an address"),
            pki: Arc::new(Pki::new()),
            store,
            says: Arc::new(Mutex::new(Says::Chain)),
            secret: Arc::new(Mutex::new("first")),
            signed: Arc::default(),
            waiting: Arc::default(),
        };
        let router = Router::new().fallback(answer).with_state(engine.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        engine
    }

    fn say(&self, says: Says) {
        *self.says.lock().expect("not poisoned") = says;
    }

    /// Lets in with this secret from now on, and with nothing that another one got.
    fn let_in_with(&self, secret: &'static str) {
        *self.secret.lock().expect("not poisoned") = secret;
    }

    fn signed(&self) -> usize {
        self.signed.load(Ordering::Relaxed)
    }

    fn configured(&self, secret_id: &Path) -> config::Issuer {
        let kind = config::IssuerKind::OpenBao(Box::new(openbao::Settings {
            address: format!("http://{}", self.address).parse().expect("a URL"),
            server_roots: None,
            namespace: None,
            mount: "pki".to_owned(),
            role: "gateway".to_owned(),
            login: openbao::Login::AppRole {
                mount: "approle".to_owned(),
                role_id: "agent".to_owned(),
                secret_id: secret_id.to_owned(),
            },
        }));
        config::Issuer { name: "bao".to_owned(), roots: Roots::these(vec![self.pki.root.clone()]), kind }
    }

    /// The order that is written down, whoever's it is.
    fn order(&self) -> Option<Order> {
        let found = self.store.read(&Entry::key("gateway")).ok()??;
        Entry::from_json(&found.value).ok()?.order
    }

    fn sign(&self) -> serde_json::Value {
        let order = self.order().expect("it is written down before it is asked for");
        let leaf = self.pki.leaf(order.names(), order.key().expect("a key"));
        self.signed.fetch_add(1, Ordering::Relaxed);
        let above = match *self.says.lock().expect("not poisoned") {
            Says::Sha1 => vec![self.pki.with_sha1.clone()],
            Says::Leaf => Vec::new(),
            Says::Endless => vec![self.pki.intermediate.clone(); 10 * 1024 * 1024 / self.pki.intermediate.len()],
            Says::Chain | Says::Later | Says::Nothing => vec![self.pki.intermediate.clone()],
        };
        json!({ "data": { "certificate": leaf, "ca_chain": above } })
    }
}

async fn answer(State(engine): State<Engine>, uri: Uri, headers: HeaderMap, body: String) -> (StatusCode, String) {
    let secret = *engine.secret.lock().expect("not poisoned");
    let refused = |status, words: &str| (status, json!({ "errors": [words] }).to_string());
    if uri.path() == "/v1/auth/approle/login" {
        if !body.contains(&format!("\"secret_id\":\"{secret}\"")) {
            return refused(StatusCode::BAD_REQUEST, "invalid role or secret ID");
        }
        let auth = json!({ "client_token": secret, "lease_duration": 3_600, "renewable": true });
        return (StatusCode::OK, json!({ "auth": auth }).to_string());
    }
    if headers.get("X-Vault-Token").is_none_or(|token| token != secret) {
        return refused(StatusCode::FORBIDDEN, "permission denied");
    }
    let says = *engine.says.lock().expect("not poisoned");
    match says {
        Says::Later => refused(StatusCode::SERVICE_UNAVAILABLE, "sealed"),
        Says::Nothing => {
            engine.waiting.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }
        _ => (StatusCode::OK, engine.sign().to_string()),
    }
}

/// A certificate of the engine, with the file of the agent's own secret.
async fn served() -> (TempDir, Rotor, Engine, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let context = context(directory.path(), room::at);
    let engine = Engine::start(Arc::clone(&context.store)).await;
    let secret_id = directory.path().join("secret-id");
    std::fs::write(&secret_id, "first\n").expect("written");
    context.issuers.configure(&[engine.configured(&secret_id)]).expect("configured");
    let config = config::Certificate { issuer: "bao".to_owned(), ..certificate(directory.path()) };
    let mut rotor = Rotor::open(context, config).await.expect("a rotor");
    rotor.drive().await;
    let status = rotor.status();
    assert_eq!((status.failures, status.state.as_str()), (0, "retired"), "{status:?}");
    (directory, rotor, engine, secret_id)
}

/// What an operator is told who asks for another one.
async fn renewed(rotor: &mut Rotor) -> Result<(), String> {
    let (reply, answer) = tokio::sync::oneshot::channel();
    rotor.ask(Ask::Renew(reply, Insistence::default()));
    rotor.drive().await;
    answer.await.expect("an answer").map(drop).map_err(|error| error.to_string())
}

/// What is stored, and what readers of the files have; with the generations that there are.
fn in_force(directory: &Path, rotor: &Rotor) -> (String, String, String, usize) {
    let file = |name: &str| std::fs::read_to_string(directory.join("tls").join(name)).expect("a file");
    let stored = rotor.entry.serial().expect("stored").to_owned();
    let generations = std::fs::read_dir(directory.join("tls")).expect("a directory").flatten();
    let generations = generations.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count();
    (stored, file("tls.crt"), file("tls.key"), generations)
}

#[tokio::test]
async fn an_answer_that_peers_would_refuse_is_rejected_before_it_is_staged() {
    let (directory, mut rotor, engine, _) = served().await;
    let good = in_force(directory.path(), &rotor);
    for (says, want) in [
        (Says::Sha1, "check failed: the certificate was not accepted: a client would refuse the certificate"),
        (Says::Leaf, "check failed: the certificate was not accepted: a client would refuse the certificate"),
        (Says::Endless, "answered more than 262144 bytes"),
    ] {
        engine.say(says);
        let error = renewed(&mut rotor).await.expect_err("not good");
        assert!(error.contains(want), "{says:?}: {error}");
        assert_eq!(in_force(directory.path(), &rotor), good, "{says:?}: the last good pair stays");
        assert!(rotor.status().failures == 1 && rotor.status().next_attempt.is_some(), "{says:?}");
        rotor.entry.failures = 0;
    }
    // With another signature on the same intermediate, and nothing else changed.
    engine.say(Says::Chain);
    renewed(&mut rotor).await.expect("renewed");
    assert_ne!(in_force(directory.path(), &rotor).0, good.0);
}

#[tokio::test]
async fn a_login_that_is_dead_for_good_is_begun_again_when_its_secret_is_replaced_on_disk() {
    let (directory, mut rotor, engine, secret_id) = served().await;
    let good = in_force(directory.path(), &rotor);
    // Revoked, and the token that it got with it.
    engine.let_in_with("second");
    for _ in 0..2 {
        let error = renewed(&mut rotor).await.expect_err("nobody lets it in");
        assert!(error.contains("invalid role or secret ID") && !error.contains("first"), "{error}");
        assert_eq!(in_force(directory.path(), &rotor), good, "the last good pair stays");
    }
    std::fs::write(&secret_id, "second\n").expect("written");
    // Nobody asks: the next attempt finds it.
    rotor.entry.retry_at = None;
    rotor.drive().await;
    let status = rotor.status();
    assert_eq!((status.failures, status.state.as_str()), (0, "retired"), "{status:?}");
    assert_ne!(in_force(directory.path(), &rotor).0, good.0);
}

#[tokio::test]
async fn an_order_goes_on_as_it_is_whatever_the_clock_does_in_the_middle_of_it() {
    let (directory, mut rotor, engine, _) = served().await;
    let good = in_force(directory.path(), &rotor);
    engine.say(Says::Later);
    let now = leaf::now();
    rotor.entry.stored.as_mut().expect("stored").renew_at = now;
    rotor.drive().await;
    let flight = rotor.entry.flight.expect("under way");
    assert_eq!((flight.cause, flight.edge), (Cause::Due, Edge::Obtain));
    let order = rotor.entry.order.clone().expect("an order");
    assert_eq!(engine.order().as_ref(), Some(&order), "it is written down");

    let running = Reading::now().running;
    let look = |rotor: &Rotor, wall: i64, later: i64| {
        let later = Duration::from_secs(later.unsigned_abs());
        rotor.context.clock.look(Reading { wall: now.0 + wall, running: running + later });
    };
    let waits =
        |rotor: &Rotor, at: i64| matches!(rotor.step(UnixTime(now.0 + at)), Step::Wait { reason: Wait::Clock, .. });
    look(&rotor, 0, 0);
    // Each jump is told twenty minutes after the one before; a doubt lasts for two of them.
    let mut passed = 0;
    for (name, offset) in [("a year ahead", YEAR), ("a year back", -YEAR), ("as it was", 0)] {
        passed += 20 * 60;
        look(&rotor, offset + passed, passed);
        assert!(waits(&rotor, offset + passed), "{name}: {:?}", rotor.step(UnixTime(now.0 + offset + passed)));
        let later = passed + 121;
        look(&rotor, offset + later, later);
        let step = rotor.step(UnixTime(now.0 + offset + later));
        assert_eq!(step, Step::Take(Edge::Obtain), "{name}: the same order, and no other");
    }
    // A machine that slept is not doubted.
    let slept = passed + 16 * HOUR;
    look(&rotor, slept, slept);
    assert_eq!(rotor.step(UnixTime(now.0 + slept)), Step::Take(Edge::Obtain), "sixteen hours asleep");
    assert_eq!(in_force(directory.path(), &rotor), good, "what was good is held");

    // The machine's own clock again, which somebody says is right.
    rotor.context.clock.look(Reading::now());
    let (jumps, _) = rotor.context.clock.verdict();
    rotor.context.clock.answered(jumps, 0).expect("of the clock as it is");
    engine.say(Says::Chain);
    rotor.entry.retry_at = None;
    rotor.drive().await;
    assert_eq!((engine.signed(), rotor.status().failures), (2, 0), "{:?}", rotor.status());
    assert_eq!(rotor.entry.stored.as_ref().map(|stored| &stored.key), order.key(), "what was ordered before");
}

#[tokio::test]
async fn who_slept_past_a_due_time_renews_what_is_due_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let context = context(directory.path(), room::at);
    let named = |name: &str, lifetime: i64| config::Certificate {
        name: name.to_owned(),
        lifetime,
        ..certificate(&directory.path().join(name))
    };
    let mut rotors = Vec::new();
    for (name, lifetime) in [("a day", 24 * HOUR), ("a week", 7 * 24 * HOUR), ("a month", 30 * 24 * HOUR)] {
        std::fs::create_dir(directory.path().join(name)).expect("a directory");
        let mut rotor = Rotor::open(Arc::clone(&context), named(name, lifetime)).await.expect("a rotor");
        rotor.drive().await;
        rotors.push(rotor);
    }
    let (now, slept) = (Reading::now(), 17 * HOUR);
    context.clock.look(now);
    let running = now.running + Duration::from_secs(slept.unsigned_abs());
    context.clock.look(Reading { wall: now.wall + slept, running });
    assert_eq!(context.clock.jumped(), None, "both clocks went on");
    let awake = UnixTime(now.wall + slept);
    let steps: Vec<Step> = rotors.iter().map(|rotor| rotor.step(awake)).collect();
    assert_eq!(steps[0], Step::Begin(Cause::Due));
    for step in &steps[1..] {
        assert!(matches!(step, Step::Wait { reason: Wait::Renewal, .. }), "{step:?}");
    }
}

#[tokio::test]
async fn a_ca_that_hangs_holds_up_nobody_elses_certificate_nor_the_loop() {
    const HANGING: usize = 3 * AT_ONCE;
    let directory = tempfile::tempdir().expect("a directory");
    let context = context(directory.path(), room::at);
    let engine = Engine::start(Arc::clone(&context.store)).await;
    engine.say(Says::Nothing);
    let secret_id = directory.path().join("secret-id");
    std::fs::write(&secret_id, "first\n").expect("written");
    context.issuers.configure(&[engine.configured(&secret_id)]).expect("configured");
    let file = directory.path().join("portcullis.yaml");
    std::fs::write(&file, "version: 1\nca: { trust_domain: acme.example }\ncertificates: []\n").expect("written");
    let config = config::Config::load(&file).expect("a configuration");
    let named = |name: String, issuer: &str| config::Certificate {
        name,
        issuer: issuer.to_owned(),
        files: None,
        ..certificate(directory.path())
    };
    let mut certificates: Vec<_> = (0..HANGING).map(|number| named(format!("bao-{number}"), "bao")).collect();
    // The last in every order.
    certificates.push(named("own".to_owned(), BUILT_IN));
    let config = config::Config { certificates, ..config };
    let rotation = Rotation::open(Arc::clone(&context), Arc::new(config)).await.expect("open");
    let (_commands, commands) = mpsc::channel(1);
    let (_configs, configs) = mpsc::channel(1);
    let outcomes = context.publisher.outcomes();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(rotation.run(commands, outcomes, configs, shutdown.clone()));

    let mut board = context.board.watch();
    let own = board.wait_for(|status| status.certificates.last().is_some_and(|own| own.stored.is_some()));
    tokio::time::timeout(PATIENCE, own).await.expect("issued, whoever hangs").expect("a board");
    let beats = context.heartbeat.beats();
    let goes_on = async {
        while context.heartbeat.beats() < beats + 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, goes_on).await.expect("the loop beats");
    let asked = engine.waiting.load(Ordering::Relaxed);
    assert!((1..=AT_ONCE).contains(&asked), "{asked} at once");
    shutdown.cancel();
    tokio::time::timeout(PATIENCE, task).await.expect("it ends with the others").expect("no panic");
}
