//! Key sets from a real server, over HTTP and over TLS.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::follow::Follower;
use super::*;
use crate::fetch::Followed as _;
use crate::fetch::Server;
use crate::store::LocalStore;
use crate::yaml::Source;

const PATIENCE: Duration = Duration::from_secs(30);

/// A public key, and what a provider must not publish of it.
fn key(kid: &str) -> Value {
    let pair = KeyPair::generate().unwrap();
    let point = pair.public_key_raw();
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    json!({ "kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": text(&point[1..33]), "y": text(&point[33..]) })
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

struct World {
    directory: TempDir,
    context: Context,
}

impl World {
    fn new() -> Self {
        let _ = ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&directory.path().join("store.redb")).unwrap().store;
        let context = Context {
            store: Arc::new(store),
            noted: Arc::default(),
            board: Board::new(),
            metrics: Metrics::new(),
            fetcher: fetcher(),
            draw: || Ok(0),
        };
        Self { directory, context }
    }

    fn follower(&self, url: &str) -> (Follower, watch::Receiver<BTreeMap<Remote, Arc<Keys>>>) {
        let known = watch::Sender::new(BTreeMap::new());
        let seen = known.subscribe();
        self.context.board.providers(&["corp"]);
        (Follower::open(self.context.clone(), remote(url), known), seen)
    }

    fn told(&self, event: &str) -> usize {
        let notes = self.context.store.notes().unwrap();
        let named = format!("\"event\":\"{event}\"");
        notes.iter().filter(|note| String::from_utf8_lossy(&note.text).contains(&named)).count()
    }
}

fn remote(url: &str) -> Remote {
    Remote {
        provider: "corp".to_owned(),
        url: WANTED.parse(url).unwrap(),
        algorithms: vec![Algorithm::parse("ES256").unwrap()],
    }
}

fn kids(known: &watch::Receiver<BTreeMap<Remote, Arc<Keys>>>) -> Vec<String> {
    let known = known.borrow();
    let keys = known.values().flat_map(|keys| keys.values().to_vec());
    let mut kids: Vec<String> = keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect();
    kids.sort();
    kids
}

#[tokio::test]
async fn keys_are_fetched_revalidated_and_replaced() {
    let (server, world) = (Server::default(), World::new());
    let url = server.start("/jwks").await;
    let (mut follower, known) = world.follower(&url);
    let client = world.context.fetcher.client(&remote(&url).url).unwrap();
    let (one, two) = (key("one"), key("two"));

    server.say(200, &[("etag", "\"v1\""), ("cache-control", "max-age=3600")], set(&[one.clone(), two.clone()]));
    assert_eq!(follower.refresh(&client).await.unwrap(), Duration::from_secs(3600));
    assert_eq!(kids(&known), ["one", "two"]);
    assert_eq!(world.told("keys_changed"), 1);

    server.say(304, &[("etag", "\"v1\""), ("cache-control", "max-age=120")], "");
    assert_eq!(follower.refresh(&client).await.unwrap(), Duration::from_secs(120));
    assert_eq!(server.asked_with(), [None, Some("\"v1\"".to_owned())]);
    assert_eq!(kids(&known), ["one", "two"]);

    server.say(200, &[("etag", "\"v2\"")], set(&[two.clone(), one]));
    follower.refresh(&client).await.unwrap();
    assert_eq!(world.told("keys_changed"), 1, "another order is no change");

    server.say(200, &[("etag", "\"v3\"")], set(&[two, key("three")]));
    follower.refresh(&client).await.unwrap();
    assert_eq!(kids(&known), ["three", "two"]);
    assert_eq!(world.told("keys_changed"), 2);
    let status = world.context.board.watch().borrow().providers.clone();
    assert_eq!((status[0].keys, status[0].failures, &status[0].source), (2, 0, &url));
}

#[tokio::test]
async fn what_is_no_use_changes_nothing_and_has_a_name() {
    let (server, world) = (Server::default(), World::new());
    let url = server.start("/jwks").await;
    let (mut follower, known) = world.follower(&url);
    let fetcher = world.context.fetcher.clone().within(Duration::from_millis(500));
    let client = fetcher.client(&remote(&url).url).unwrap();
    server.say(200, &[], set(&[key("good")]));
    follower.refresh(&client).await.unwrap();

    let rsa = json!({ "kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB" });
    let long = vec![b' '; 1024 * 1024 + 1];
    let cases: [(&str, u16, Vec<u8>, &str); 9] = [
        ("an empty set", 200, set(&[]).into(), "no_usable_key"),
        ("keys of another kind", 200, set(&[rsa]).into(), "no_usable_key"),
        ("a page for people", 200, "<html>sign in</html>".into(), "not_a_key_set"),
        ("a name twice", 200, "{\"keys\":[],\"keys\":[]}".into(), "not_a_key_set"),
        ("no keys", 200, "{}".into(), "not_a_key_set"),
        ("more than is read", 200, long, "too_large"),
        ("not modified, and nobody asked", 304, Vec::new(), "status"),
        ("an error", 500, set(&[key("bad")]).into(), "status"),
        ("elsewhere", 302, Vec::new(), "status"),
    ];
    for (name, status, body, want) in cases {
        server.say(status, &[("location", "/other")], body);
        let error = follower.refresh(&client).await.expect_err(name);
        assert_eq!(error.code(), want, "{name}: {error}");
        follower.failed(&error);
        assert_eq!(kids(&known), ["good"], "{name}");
    }
    assert_eq!(world.told("alarm"), 1, "one line a series of failures");
    let failing = world.context.metrics.encode();
    assert!(failing.contains("jwks_fetch_failures_total{cause=\"too_large\",provider=\"corp\"} 1"), "{failing}");

    server.say(503, &[("retry-after", "120")], "");
    let error = follower.refresh(&client).await.expect_err("busy");
    assert_eq!(follower.failed(&error), Duration::from_secs(512).min(Duration::from_secs(300)));
    server.silence(true);
    assert_eq!(follower.refresh(&client).await.expect_err("silence").code(), "timed_out");
    server.silence(false);

    server.say(200, &[], set(&[key("better")]));
    follower.refresh(&client).await.unwrap();
    assert_eq!(kids(&known), ["better"]);
    assert_eq!(world.told("alarm_cleared"), 1);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (mut follower, _) = world.follower(&format!("http://{nobody}/jwks"));
    assert_eq!(follower.refresh(&client).await.expect_err("nobody").code(), "connect");
}

#[tokio::test]
async fn a_start_without_network_goes_on_with_the_keys_that_were_kept() {
    let (server, world) = (Server::default(), World::new());
    let url = server.start("/jwks").await;
    let (mut follower, _) = world.follower(&url);
    let client = world.context.fetcher.client(&remote(&url).url).unwrap();
    server.say(200, &[("etag", "\"v1\"")], set(&[key("kept")]));
    follower.refresh(&client).await.unwrap();
    drop(follower);

    let (mut follower, known) = world.follower(&url);
    assert_eq!(kids(&known), ["kept"]);
    server.say(304, &[], "");
    follower.refresh(&client).await.unwrap();
    assert_eq!(server.asked_with().last(), Some(&Some("\"v1\"".to_owned())));
    let (_, known) = world.follower(&format!("{url}?other"));
    assert_eq!(kids(&known), [""; 0], "the keys of another URL are not its keys");
    assert_eq!(fs_mode(world.directory.path()), 0o600);
}

fn fs_mode(directory: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::metadata(directory.join("store.redb")).unwrap().permissions().mode() & 0o777
}

/// Serves the script over TLS as `localhost`; returns where, and whom to trust.
async fn start_tls(server: &Server) -> (SocketAddr, reqwest::Certificate) {
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let issuer = Issuer::new(root, root_key);
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&leaf_key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = server.router();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(router);
                let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, reqwest::Certificate::from_pem(root_pem.as_bytes()).unwrap())
}

#[tokio::test]
async fn over_tls_only_whom_the_roots_vouch_for_is_believed() {
    let (server, world) = (Server::default(), World::new());
    server.say(200, &[], set(&[key("good")]));
    let (address, root) = start_tls(&server).await;
    let cases = [
        ("a stranger", "localhost", fetcher(), Err("connect")),
        ("another name", "127.0.0.1", fetcher().trusting(vec![root.clone()]), Err("connect")),
        ("the right one", "localhost", fetcher().trusting(vec![root]), Ok(())),
    ];
    for (name, host, fetcher, want) in cases {
        let url = format!("https://{host}:{}/jwks", address.port());
        let (mut follower, known) = world.follower(&url);
        let client = fetcher.client(&remote(&url).url).unwrap();
        let fetched = follower.refresh(&client).await;
        assert_eq!(fetched.as_ref().map(drop).map_err(RefreshError::code), want, "{name}: {fetched:?}");
        assert_eq!(kids(&known).len(), usize::from(want.is_ok()), "{name}");
    }
}

#[tokio::test]
async fn whoever_is_followed_is_known_and_nobody_else() {
    let (server, world) = (Server::default(), World::new());
    server.say(200, &[], set(&[key("one")]));
    let url = server.start("/jwks").await;
    let mut jwks = Jwks::new(world.context.clone());
    let one = remote(&url);
    jwks.follow(std::slice::from_ref(&one));
    jwks.ready(std::slice::from_ref(&one), PATIENCE).await;
    assert_eq!(jwks.known().get(&one).map(|keys| keys.len()), Some(1));
    let mut board = world.context.board.watch();
    board.wait_for(|status| status.ready && status.providers[0].fetched_at.is_some()).await.unwrap();
    // Another URL is another provider: what is known of the first is not its.
    let other = remote(&format!("{url}?other"));
    server.say(404, &[], "");
    jwks.follow(std::slice::from_ref(&other));
    assert_eq!(jwks.known().len(), 0);
    board.wait_for(|status| status.providers[0].failures > 0).await.unwrap();
    let reasons = board.borrow().reasons.clone();
    assert!(
        reasons.iter().any(|reason| reason.contains("`corp` has no keys") && reason.contains("404")),
        "{reasons:?}"
    );
    jwks.follow(&[]);
    assert!(board.wait_for(|status| status.providers.is_empty()).await.unwrap().ready);
}

#[test]
fn what_makes_a_key_private_is_left_out() {
    let mut leaked = key("leaked");
    leaked["d"] = json!("AQAB");
    let keys = Keys::read(set(&[leaked]).as_bytes(), &remote("https://a.example/").algorithms);
    // Whether such a key is used at all is the core's decision; it never goes on with its secret.
    let text = keys.map(|keys| format!("{:?}", keys.values())).unwrap_or_default();
    assert!(!text.contains("AQAB"), "{text}");
}

#[test]
fn a_document_is_filled_from_files_and_from_what_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(directory.path().join("keys.json")).unwrap();
    file.write_all(set(&[key("filed")]).as_bytes()).unwrap();
    let text = "tokens:\n  a: { jwks: { file: keys.json } }\n  b: { jwks: { url: \"https://b.example/jwks\" }, algorithms: [ES256] }\n  \
                c: { jwks: { keys: [] } }\n  d: { jwks: { url: \"https://d.example/\", file: x } }\n";
    let source = Source::new(directory.path().join("policy.yaml"), text);
    let mut value = source.value().unwrap();
    let providers = Providers::find(&value, &source, source.directory()).unwrap();
    assert_eq!(providers.remote, [Remote { provider: "b".to_owned(), ..remote("https://b.example/jwks") }]);
    providers.fill(&mut value, &source, &BTreeMap::new()).unwrap();
    assert_eq!(value["tokens"]["a"]["jwks"]["keys"][0]["kid"], "filed");
    assert_eq!(value["tokens"]["b"]["jwks"], json!({ "keys": [] }), "not known yet");
    assert_eq!(value["tokens"]["d"]["jwks"]["file"], "x", "left for the compiler to refuse");
    let keys = Keys::read(set(&[key("known")]).as_bytes(), &providers.remote[0].algorithms).unwrap();
    let known = BTreeMap::from([(providers.remote[0].clone(), Arc::new(keys))]);
    let mut value = source.value().unwrap();
    providers.fill(&mut value, &source, &known).unwrap();
    assert_eq!(value["tokens"]["b"]["jwks"]["keys"][0]["kid"], "known");

    for (name, contents, word) in [
        ("gone", None, "cannot be read"),
        ("empty", Some(""), "not a key set"),
        ("no keys", Some("{\"keys\":[]}"), "none of its 0"),
    ] {
        match contents {
            None => std::fs::remove_file(directory.path().join("keys.json")).unwrap(),
            Some(contents) => std::fs::write(directory.path().join("keys.json"), contents).unwrap(),
        }
        let error = providers.fill(&mut value, &source, &known).unwrap_err().to_string();
        assert!(error.contains("policy.yaml:2:") && error.contains(word), "{name}: {error}");
    }
}

#[test]
fn keys_come_over_https_or_from_this_machine() {
    for url in ["https://login.acme.example/jwks?x=1", "http://127.0.0.1:8080/", "http://[::1]/", "http://localhost/a"]
    {
        WANTED.parse(url).unwrap_or_else(|problem| panic!("{url} {problem}"));
    }
    for url in [
        "http://login.acme.example/",
        "http://127.0.0.1.acme.example/",
        "file:///etc/passwd",
        "https://user@a.example/",
        "https://a.example/#x",
        "jwks",
        "",
    ] {
        let text = format!("tokens: {{ a: {{ jwks: {{ url: \"{url}\" }} }} }}\n");
        let source = Source::new("policy.yaml", text);
        let error = Providers::find(&source.value().unwrap(), &source, Path::new("")).expect_err(url).to_string();
        assert!(error.contains("policy.yaml:1:") && error.contains("tokens.a.jwks.url"), "{url}: {error}");
    }
}
