//! A rotation is done when a listener shows the new certificate; one that shows another, or an ended one, is an alarm.

mod support;

use std::fs;
use std::io;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use rcgen::CertificateParams;
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use support::Desk;

/// Chain and key, PEM.
type Pair = (String, String);

/// A TLS server that reads its files for every connection, or serves what it is told to.
struct Listener {
    address: String,
    told: Arc<Mutex<Option<Pair>>>,
}

impl Listener {
    fn start(files: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let told = Arc::new(Mutex::new(None::<Pair>));
        let pair = Arc::clone(&told);
        // Ends with the test program.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let told = pair.lock().expect("not poisoned").clone();
                if let Some(pair) = told.or_else(|| read(&files)) {
                    let _ = shake_hands(stream, &pair);
                }
            }
        });
        Self { address, told }
    }

    fn serve(&self, pair: Option<Pair>) {
        *self.told.lock().expect("not poisoned") = pair;
    }
}

fn read(files: &Path) -> Option<Pair> {
    let current = files.join(fs::read_link(files.join("..data")).ok()?);
    Some((fs::read_to_string(current.join("tls.crt")).ok()?, fs::read_to_string(current.join("tls.key")).ok()?))
}

fn shake_hands(mut stream: TcpStream, (chain, key): &Pair) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let chain = portcullis::leaf::chain(chain).expect("a chain");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    ServerConnection::new(Arc::new(config)).expect("a connection").complete_io(&mut stream).map(|_| ())
}

fn ended() -> Pair {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    (params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
}

#[test]
fn a_rotation_ends_when_the_listener_shows_it_and_an_alarm_when_it_does_again() {
    let desk = Desk::new("certificates: []\n");
    let listener = Listener::start(desk.path("tls"));
    desk.configure(&format!(
        "certificates:\n  - {{ name: gateway, dns: [localhost], files: {{ directory: tls }}, \
         served_at: [ {{ address: \"{}\", sni: localhost }} ] }}\n",
        listener.address
    ));
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "served", |status| status.ready);
    let gateway = &status.certificates[0];
    let first = gateway.stored.clone().expect("stored");
    assert_eq!(gateway.served[0].leaf.as_ref().map(|leaf| &leaf.sha256), Some(&first.sha256));
    assert!(gateway.issued_to_served_ms.is_some());

    let renewed = desk.renew("gateway").expect("renewed");
    assert_eq!(renewed.old_serial.as_ref(), Some(&first.serial));
    assert_ne!(renewed.new_serial, first.serial);
    desk.until_audit("the proof", |line| {
        let proof = line.get("proof").and_then(|proof| proof.as_str()).unwrap_or_default();
        line["event"] == "served" && line["new"] == renewed.new_serial.as_str() && proof.contains(&listener.address)
    });

    // The listener keeps the old one: renewed, and not served.
    listener.serve(read(&desk.path("tls")));
    let error = desk.renew("gateway").expect_err("not served").to_string();
    assert!(error.contains("prove failed") && error.contains(&renewed.new_serial), "{error}");
    let status = desk.status().expect("answers");
    assert!(!status.ready && status.reasons.iter().any(|reason| reason.contains(&listener.address)), "{status:#?}");
    listener.serve(None);
    desk.until(&mut agent, "served after all", |status| status.ready && status.certificates[0].rotations == 3);
    assert_eq!(desk.count("certificate_issued"), 3, "delivering again issues nothing");

    listener.serve(Some(ended()));
    let status = desk.verify().expect("looked at");
    assert!(status.reasons.iter().any(|reason| reason.contains("ended at 2020-01-02")), "{:?}", status.reasons);
    desk.until_audit("the alarm", |line| {
        let cause = line.get("cause").and_then(|cause| cause.as_str()).unwrap_or_default();
        line["event"] == "alarm" && cause.contains("ended certificate")
    });
    listener.serve(None);
    desk.until(&mut agent, "well again", |status| status.ready);
    desk.until_audit("the end of the alarm", |line| line["event"] == "alarm_cleared");
    assert_eq!(desk.count("certificate_issued"), 3, "what a listener serves is no reason to issue");
}
