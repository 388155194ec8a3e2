//! A rotation is done when a listener shows the new certificate; one that shows another, or an ended one, is an alarm.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

use rcgen::CertificateParams;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::StreamOwned;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;

use crate::support::Desk;
use crate::support::PATIENCE;
use crate::support::serial;

/// Chain and key, PEM.
type Pair = (String, String);

/// A TLS server that reads its files for every connection, or serves what it is told to. It sends back what it is sent.
struct Listener {
    address: String,
    told: Arc<Mutex<Told>>,
}

/// What it is to serve in place of its files.
#[derive(Default)]
struct Told {
    /// Beside it, to every client that takes it.
    preferred: Option<Pair>,
    pair: Option<Pair>,
    /// To so many more only.
    times: Option<usize>,
}

impl Told {
    fn next(&mut self) -> Option<Pair> {
        if let Some(times) = &mut self.times {
            match times.checked_sub(1) {
                Some(left) => *times = left,
                None => (self.pair, self.times) = (None, None),
            }
        }
        self.pair.clone()
    }
}

impl Listener {
    fn start(files: PathBuf) -> Self {
        Self::with(TcpListener::bind("127.0.0.1:0").expect("a port"), files)
    }

    fn with(listener: TcpListener, files: PathBuf) -> Self {
        let address = listener.local_addr().expect("bound").to_string();
        let told = Arc::new(Mutex::new(Told::default()));
        let next = Arc::clone(&told);
        // They end with the test program.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (told, preferred) = {
                    let mut told = next.lock().expect("not poisoned");
                    (told.next(), told.preferred.clone())
                };
                if let Some(pair) = told.or_else(|| read(&files)) {
                    let pairs: Vec<Pair> = preferred.into_iter().chain([pair]).collect();
                    std::thread::spawn(move || echo(stream, &pairs));
                }
            }
        });
        Self { address, told }
    }

    fn serve(&self, pair: Option<Pair>) {
        let mut told = self.told.lock().expect("not poisoned");
        (told.pair, told.times) = (pair, None);
    }

    /// Shows this to every client that takes it, and what else it has to the others.
    fn prefer(&self, pair: Pair) {
        self.told.lock().expect("not poisoned").preferred = Some(pair);
    }

    /// Shows this to some more, as one that is being drained beside its successor.
    fn drain(&self, pair: Pair, times: usize) {
        let mut told = self.told.lock().expect("not poisoned");
        (told.pair, told.times) = (Some(pair), Some(times));
    }
}

/// One certificate that these listeners are to serve.
fn gateway(files: &str, listeners: &[&Listener]) -> String {
    let at = |listener: &&Listener| format!("{{ address: \"{}\", sni: localhost }}", listener.address);
    let served_at = listeners.iter().map(at).collect::<Vec<_>>().join(", ");
    format!(
        "certificates:\n  - {{ name: gateway, dns: [localhost], files: {{ {files} }}, served_at: [ {served_at} ] }}\n"
    )
}

fn read(files: &Path) -> Option<Pair> {
    let current = files.join(fs::read_link(files.join("..data")).ok()?);
    Some((fs::read_to_string(current.join("tls.crt")).ok()?, fs::read_to_string(current.join("tls.key")).ok()?))
}

/// The first that the client takes.
#[derive(Debug)]
struct Choice(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|one| one.key.choose_scheme(hello.signature_schemes()).is_some()).cloned()
    }
}

fn echo(stream: TcpStream, pairs: &[Pair]) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let provider = Arc::new(ring::default_provider());
    let certified = |(chain, key): &Pair| {
        let chain = portcullis::leaf::chain(chain).expect("a chain");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        Arc::new(CertifiedKey::from_der(chain, key, &provider).expect("a pair"))
    };
    let choice = Choice(pairs.iter().map(certified).collect());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(choice));
    let connection = ServerConnection::new(Arc::new(config)).expect("a connection");
    let (mut stream, mut byte) = (StreamOwned::new(connection, stream), [0]);
    loop {
        stream.read_exact(&mut byte)?;
        stream.write_all(&byte)?;
    }
}

/// A client that believes what its files call the CA.
struct Client(StreamOwned<ClientConnection, TcpStream>);

impl Client {
    fn connect(desk: &Desk, listener: &Listener) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = fs::read_to_string(desk.path("tls/ca.crt")).expect("a root");
        roots.add_parsable_certificates(portcullis::leaf::chain(&ca).expect("a root"));
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
        let stream = TcpStream::connect(&listener.address).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        Self(StreamOwned::new(connection, stream))
    }

    /// Has one byte sent back, and says whose certificate the connection began with.
    fn ask(&mut self) -> String {
        self.0.write_all(b"?").expect("sent");
        let mut byte = [0];
        self.0.read_exact(&mut byte).expect("answered");
        let chain = self.0.conn.peer_certificates().expect("a handshake");
        portcullis::leaf::Leaf::from_der(&chain[0]).expect("a leaf").serial
    }
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
    desk.configure(&gateway("directory: tls", &[&listener]));
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "served", |status| status.ready);
    let certificate = &status.certificates[0];
    let first = certificate.stored.clone().expect("stored");
    assert_eq!(certificate.served[0].leaf.as_ref().map(|leaf| &leaf.sha256), Some(&first.sha256));
    assert!(certificate.issued_to_served_ms.is_some());

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

/// The serials of the generations, each of them whole.
fn generations(desk: &Desk) -> BTreeSet<String> {
    let entries = fs::read_dir(desk.path("tls")).expect("a directory").map(|entry| entry.expect("an entry").path());
    let generation = |path: PathBuf| {
        let named = path.file_name()?.to_str()?.strip_prefix("..gen-")?.to_owned();
        assert_eq!(serial(&path.join("tls.crt")).as_ref(), Some(&named));
        assert!(fs::read_to_string(path.join("tls.key")).expect("a key").contains("PRIVATE KEY"));
        Some(named)
    };
    entries.filter_map(generation).collect()
}

#[test]
fn what_one_of_two_listeners_serves_is_not_served_and_what_it_replaces_is_kept() {
    let desk = Desk::new("certificates: []\n");
    let [good, stuck] = [0, 1].map(|_| Listener::start(desk.path("tls")));
    desk.configure(&gateway("directory: tls, keep: 1", &[&good, &stuck]));
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "served", |status| status.ready);
    let first = status.certificates[0].stored.clone().expect("stored").serial;
    assert_eq!(generations(&desk), BTreeSet::from([first.clone()]));
    stuck.serve(read(&desk.path("tls")));

    let error = desk.renew("gateway").expect_err("one of two").to_string();
    let names_the_stuck_one = |text: &str| text.contains(&stuck.address) && !text.contains(&good.address);
    assert!(error.contains("prove failed") && names_the_stuck_one(&error), "{error}");
    let status = desk.status().expect("answers");
    let certificate = &status.certificates[0];
    let served: Vec<_> = certificate.served.iter().map(|served| (&served.address, served.current)).collect();
    assert_eq!(served, [(&good.address, true), (&stuck.address, false)]);
    assert!(!["served", "retired"].contains(&certificate.state.as_str()) && certificate.rotations == 1, "{status:#?}");
    let at: Vec<&String> = status.reasons.iter().filter(|reason| reason.contains("127.0.0.1")).collect();
    assert!(!status.ready && !at.is_empty() && at.iter().all(|reason| names_the_stuck_one(reason)), "{at:?}");

    // What is proven stays, whatever follows what is not: over a crash, and with a third one.
    assert!(generations(&desk).contains(&first) && generations(&desk).len() == 2);
    agent.signal(rustix::process::Signal::KILL);
    agent.ended();
    let mut agent = desk.start();
    std::thread::scope(|scope| {
        desk.until(&mut agent, "started", |_| true);
        let renewal = scope.spawn(|| desk.renew("gateway"));
        desk.until_audit("a third one", |_| desk.count("installed") == 3);
        let kept = generations(&desk);
        assert!(kept.contains(&first) && kept.len() > 1, "{first} in {kept:?}");
        stuck.serve(None);
        // It is looked at for a while before it is an error.
        let _ = renewal.join().expect("answered");
    });
    let status =
        desk.until(&mut agent, "served by both", |status| status.ready && status.certificates[0].rotations > 1);
    let last = status.certificates[0].stored.clone().expect("stored").serial;
    assert_eq!(generations(&desk), BTreeSet::from([last]), "one is kept, the proven one");
}

#[test]
fn a_listener_that_is_drained_beside_its_successor_is_waited_for_and_its_connections_go_on() {
    let desk = Desk::new("certificates: []\n");
    let listener = Listener::start(desk.path("tls"));
    desk.configure(&gateway("directory: tls", &[&listener]));
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready);
    let mut before = Client::connect(&desk, &listener);
    let first = before.ask();
    listener.drain(read(&desk.path("tls")).expect("a pair"), 4);

    let renewed = desk.renew("gateway").expect("the new one is seen after a while");
    assert_eq!(renewed.old_serial.as_ref(), Some(&first));
    assert_eq!(Client::connect(&desk, &listener).ask(), renewed.new_serial);
    assert_eq!(before.ask(), first, "as long as it is open");
    let status = desk.verify().expect("looked at");
    assert!(status.ready && status.certificates[0].state == "retired", "{status:#?}");
    assert_eq!((desk.count("alarm"), desk.count("certificate_issued")), (0, 2));
}

#[test]
fn a_listener_that_prefers_an_rsa_certificate_shows_the_agents_when_it_is_looked_for() {
    let rsa = KeyPair::from_pem(include_str!("support/rsa.pem")).expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
    let preferred = params.self_signed(&rsa).expect("signed");
    let other = portcullis::leaf::Leaf::from_der(preferred.der()).expect("a leaf").serial;
    let preferred: Pair = (preferred.pem(), rsa.serialize_pem());
    let desk = Desk::new("certificates: []\n");
    let listener = Listener::start(desk.path("tls"));
    listener.prefer(preferred.clone());
    desk.configure(&gateway("directory: tls", &[&listener]));
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready);
    let renewed = desk.renew("gateway").expect("seen beside the other one");
    let status = desk.verify().expect("looked at");
    let served = &status.certificates[0].served[0];
    assert_eq!(served.leaf.as_ref().map(|leaf| &leaf.serial), Some(&renewed.new_serial), "{served:?}");
    assert!(status.ready && desk.count("alarm") == 0, "{status:#?}");

    // Now it has no other.
    listener.serve(Some(preferred));
    let error = desk.renew("gateway").expect_err("not served").to_string();
    assert!(error.contains(&other) && error.contains("no certificate of an ECDSA key is served here"), "{error}");
    listener.serve(None);
    desk.until(&mut agent, "served after all", |status| status.ready);
}

#[test]
fn a_listener_of_ipv6_alone_is_looked_at_too() {
    let listener = TcpListener::bind("[::1]:0").expect(
        "IPv6 on the loopback; `sysctl net.ipv6.conf.lo.disable_ipv6=0` brings it back, in a container \
         `docker run --sysctl net.ipv6.conf.all.disable_ipv6=0`",
    );
    let desk = Desk::new("certificates: []\n");
    let listener = Listener::with(listener, desk.path("tls"));
    desk.configure(&format!(
        "certificates:\n  - {{ name: gateway, dns: [localhost], files: {{ directory: tls }}, \
         served_at: [ {{ address: \"{}\", sni: localhost }} ] }}\n",
        listener.address
    ));
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "served", |status| status.ready);
    let gateway = &status.certificates[0];
    let stored = gateway.stored.clone().expect("stored");
    assert_eq!(gateway.served[0].leaf.as_ref().map(|leaf| &leaf.sha256), Some(&stored.sha256));
    listener.serve(Some(ended()));
    let status = desk.verify().expect("looked at");
    assert!(status.reasons.iter().any(|reason| reason.contains(&listener.address)), "{:?}", status.reasons);
}
