use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::advice::Advice;
use super::super::advice::heed;
use super::super::entry::Credential;
use super::*;
use crate::issuer::acme::Suggested;
use crate::store::Note;
use crate::store::StoreError;
use crate::store::Version;
use crate::store::Versioned;
use crate::yaml::Source;

/// A store that is stuck while it is said.
pub(crate) struct Failing {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) fails: Arc<AtomicBool>,
}

impl Failing {
    fn works(&self) -> Result<(), StoreError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Stuck { path: "store".into(), source: std::io::ErrorKind::StorageFull.into() });
        }
        Ok(())
    }
}

impl Store for Failing {
    fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.inner.keys(prefix)
    }

    fn read(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        self.works()?;
        self.inner.read(key)
    }

    fn swap(
        &self,
        key: &str,
        expected: Option<Version>,
        value: &[u8],
        notes: &[Vec<u8>],
    ) -> Result<Version, StoreError> {
        self.works()?;
        self.inner.swap(key, expected, value, notes)
    }

    fn note(&self, text: &[u8]) -> Result<(), StoreError> {
        self.works()?;
        self.inner.note(text)
    }

    fn notes(&self) -> Result<Vec<Note>, StoreError> {
        self.inner.notes()
    }

    fn drop_notes(&self, through: u64) -> Result<(), StoreError> {
        self.inner.drop_notes(through)
    }
}

/// An ACME server that is not there.
fn nobody(directory: &Path, roots_pem: &str) -> config::Issuer {
    acme(directory, roots_pem, ([127, 0, 0, 1], 1).into())
}

fn acme(directory: &Path, roots_pem: &str, address: SocketAddr) -> config::Issuer {
    std::fs::write(directory.join("roots.pem"), roots_pem).expect("written");
    let text = format!(
        "version: 1\nca: {{ trust_domain: acme.example }}\nissuers:\n  - name: ca\n    roots: roots.pem\n    \
        acme: {{ directory: \"https://{address}/\", server_ca: roots.pem, challenge: {{ http01: \"127.0.0.1:1\" }} }}\n\
        certificates: []\n"
    );
    let file = directory.join("portcullis.yaml");
    let config = config::Config::parse(&file, &Source::new(&file, &text)).expect("a configuration");
    config.issuers.into_iter().next().expect("an issuer")
}

#[tokio::test]
async fn advice_that_cannot_be_kept_is_not_asked_for_again_at_once() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().expect("a directory");
    let mut context = context(directory.path(), room::at);
    let fails = Arc::new(AtomicBool::new(false));
    let own = Arc::get_mut(&mut context).expect("nobody else has it");
    own.store = Arc::new(Failing { inner: Arc::clone(&own.store), fails: Arc::clone(&fails) });
    let roots_pem = leaf::pem("CERTIFICATE", context.authorities.issuing().der());
    context.issuers.configure(&[nobody(directory.path(), &roots_pem)]).expect("configured");
    let mut rotor = Rotor::open(context, certificate(directory.path())).await.expect("a rotor");
    rotor.drive().await;
    rotor.config.issuer = "ca".to_owned();
    rotor.entry.stored.as_mut().expect("stored").issuer = "ca".to_owned();
    assert!(rotor.is_advice_due(leaf::now()));

    fails.store(true, Ordering::Relaxed);
    rotor.take_advice().await;
    let stored = rotor.entry.stored.as_ref().expect("stored");
    assert!(stored.advice.is_some(), "in force until it can be kept");
    let now = leaf::now();
    assert!(!rotor.is_paused() && !rotor.is_advice_due(now) && rotor.is_advice_due(UnixTime(now.0 + 3_600)));
}

/// A server whose directory says where to ask for renewals, and that says there what it is told to: an HTTP answer, whole.
async fn adviser(says: Arc<Mutex<String>>) -> (SocketAddr, String) {
    let key = KeyPair::generate().expect("a key");
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&key).expect("a root").pem();
    let issuer = rcgen::Issuer::new(root, key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name").signed_by(&key, &issuer);
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.expect("signed").der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()));
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("a pair")));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                match tls.read_u8().await {
                    Ok(byte) => asked.push(byte),
                    Err(_) => break,
                }
            }
            let answer = if asked.starts_with(b"GET /renewal/") {
                says.lock().expect("not poisoned").clone()
            } else {
                let body = format!("{{\"renewalInfo\":\"https://{address}/renewal\"}}");
                answer("200 OK", "", &body)
            };
            let _ = tls.write_all(answer.as_bytes()).await;
            let _ = tls.shutdown().await;
        }
    });
    (address, root_pem)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

#[tokio::test]
async fn what_an_issuer_says_of_when_to_renew_moves_a_renewal_only_if_it_makes_sense() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().expect("a directory");
    let context = context(directory.path(), room::at);
    let says = Arc::new(Mutex::new(String::new()));
    let (address, server_ca) = adviser(Arc::clone(&says)).await;
    let roots_pem = leaf::pem("CERTIFICATE", context.authorities.issuing().der());
    context.issuers.configure(&[acme(directory.path(), &(server_ca + &roots_pem), address)]).expect("configured");
    let mut rotor = Rotor::open(context, certificate(directory.path())).await.expect("a rotor");
    rotor.drive().await;
    rotor.config.issuer = "ca".to_owned();
    rotor.entry.stored.as_mut().expect("stored").issuer = "ca".to_owned();
    let planned = rotor.entry.stored.clone().expect("stored");
    let validity = planned.leaf.validity;
    let at = |seconds: i64| leaf::timestamp(UnixTime(validity.not_before.0 + seconds));
    let window =
        |from: i64, to: i64| format!("{{\"suggestedWindow\":{{\"start\":\"{}\",\"end\":\"{}\"}}}}", at(from), at(to));
    let again = "retry-after: 21600\r\n";
    let before = [None, Some(Advice::of_window(planned.renew_at, planned.renew_at))];
    for (name, said) in [
        ("not known", answer("404 Not Found", again, "{}")),
        ("broken", answer("500 Internal Server Error", "", "<html>")),
        ("nothing", String::new()),
        ("no document", answer("200 OK", again, "soon")),
        ("its end before its begin", answer("200 OK", again, &window(7_200, 3_600))),
        ("no time to ask again", answer("200 OK", "", &window(3_600, 7_200))),
    ] {
        *says.lock().expect("not poisoned") = said;
        for advice in before.clone() {
            rotor.entry.stored = Some(Credential { advice, ..planned.clone() });
            let events = rotor.context.store.notes().expect("notes").len();
            rotor.take_advice().await;
            let stored = rotor.entry.stored.clone().expect("stored");
            assert_eq!(stored.renew_at, planned.renew_at, "{name}: as the lifetime says");
            let now = leaf::now();
            assert!(!rotor.is_advice_due(now), "{name}: not asked again at once");
            assert!(matches!(rotor.step(now), Step::Wait { reason: Wait::Renewal, .. }), "{name}");
            assert_eq!(rotor.step(planned.renew_at), Step::Begin(Cause::Due), "{name}");
            assert_eq!(rotor.context.store.notes().expect("notes").len(), events, "{name}: nothing was planned anew");
        }
    }
    // Good ones, which no certificate has time for: not at once, and not after it is too late.
    let emergency = portcullis_policy::schedule::emergency_at(validity);
    for (name, from, to) in [("long past", -YEAR, -YEAR + 60), ("in a hundred years", 100 * YEAR, 101 * YEAR)] {
        *says.lock().expect("not poisoned") = answer("200 OK", again, &window(from, to));
        rotor.entry.stored = Some(planned.clone());
        rotor.take_advice().await;
        let renew_at = rotor.entry.stored.as_ref().expect("stored").renew_at;
        assert!(renew_at > leaf::now() && renew_at <= emergency, "{name}: {renew_at:?}");
        assert_ne!(renew_at, planned.renew_at, "{name}: it was heard");
    }
}

#[tokio::test]
async fn a_window_that_is_moved_up_waits_for_ours_only_if_they_come_in_time() {
    const HOUR: i64 = 3_600;
    let (_directory, mut rotor) = world(room::at).await;
    rotor.drive().await;
    let mut stored = rotor.entry.stored.clone().expect("stored");
    let begin = stored.leaf.validity.not_before;
    let at = |hours: i64| UnixTime(begin.0 + hours * HOUR);
    let suggested =
        |from: i64, to: i64| Suggested { start: at(from), end: at(to), ask_again: at(24), explanation: None };
    let ours = |from: i64, to: i64| {
        let window = Period::Once { from: at(from), to: at(to) };
        let calendar = Arc::new(Calendar::new(vec![window], Vec::new(), "window".to_owned()));
        config::Certificate { calendar, ..rotor.config.clone() }
    };
    let now = at(3);
    stored.advice = Some(Advice::of_window(at(14), at(16)));
    // The end of the lifetime is 24 hours away.
    for (name, config, suggested, want) in [
        ("ours comes before the end of theirs", ours(5, 6), suggested(4, 8), (5..6, false)),
        ("ours comes after it", ours(12, 18), suggested(4, 8), (4..9, true)),
        ("ours has passed", ours(1, 2), suggested(4, 8), (4..9, true)),
        ("theirs was not moved up", ours(18, 19), suggested(15, 17), (18..19, false)),
        ("theirs is past", ours(18, 19), suggested(1, 2), (1..3, true)),
    ] {
        for draw in [0, u32::MAX] {
            let (chosen, is_urgent) = heed(&config, &stored, &suggested, now, [draw, draw]);
            let after = (chosen.0 - begin.0) / HOUR;
            assert!(want.0.contains(&after) && is_urgent == want.1, "{name}: {after}, {is_urgent}");
        }
    }
    // The first that is said of a certificate is no move.
    stored.advice = None;
    let (chosen, is_urgent) = heed(&ours(12, 18), &stored, &suggested(4, 8), now, [0, 0]);
    assert!(!is_urgent && chosen >= at(12), "{chosen:?}");
}
