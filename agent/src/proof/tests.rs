use std::net::SocketAddr;

use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::ca;
use crate::command::Usage;
use crate::names::Names;

const PATIENCE: Duration = Duration::from_secs(10);

struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        Self::named("one")
    }

    fn named(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    fn root(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    /// A leaf for `localhost`, valid for these years.
    fn leaf(&self, years: (i32, i32)) -> ClientIdentity {
        self.leaf_of(&rcgen::KeyPair::generate().unwrap(), years)
    }

    fn leaf_of(&self, key: &rcgen::KeyPair, years: (i32, i32)) -> ClientIdentity {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        ClientIdentity {
            chain: vec![certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    fn prover(&self) -> Prover {
        Prover::new(vec![self.root()], None).unwrap()
    }
}

const VALID: (i32, i32) = (2020, 2100);

type Versions<'a> = &'a [&'static rustls::SupportedProtocolVersion];

async fn serve(config: ServerConfig) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let _ = acceptor.accept(tcp).await;
        }
    });
    address
}

fn config(identity: ClientIdentity, versions: Versions<'_>, clients: Option<CertificateDer<'static>>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(root) => {
            let mut roots = RootCertStore::empty();
            roots.add(root).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    builder.with_single_cert(identity.chain, identity.key).unwrap()
}

/// Certificates of several kinds of keys, the preferred one first.
#[derive(Debug)]
struct Several(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Several {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |one: &&Arc<CertifiedKey>| one.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(fits).cloned()
    }
}

fn several(identities: Vec<ClientIdentity>, versions: Versions<'_>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certified =
        |ClientIdentity { chain, key }| CertifiedKey::from_der(chain, key, &provider).map(Arc::new).unwrap();
    let resolver = Several(identities.into_iter().map(certified).collect());
    ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver))
}

/// One key of each kind.
fn keys() -> [(KeyType, rcgen::KeyPair); 3] {
    let rsa = include_str!("../../tests/agent/support/rsa.pem");
    [
        (KeyType::Rsa, rcgen::KeyPair::from_pem(rsa).unwrap()),
        (KeyType::Ecdsa, rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()),
        (KeyType::Ed25519, rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()),
    ]
}

fn at(address: SocketAddr) -> ServedAt {
    ServedAt { address: address.to_string(), sni: Some("localhost".to_owned()) }
}

#[tokio::test]
async fn the_served_leaf_is_seen_over_both_versions() {
    let authority = Authority::new();
    for (version, name) in [(&rustls::version::TLS12, "TLSv1_2"), (&rustls::version::TLS13, "TLSv1_3")] {
        let leaf = authority.leaf(VALID);
        let der = leaf.chain[0].clone();
        let address = serve(config(leaf, &[version], None)).await;
        let seen = authority.prover().leaf_at(&at(address), None, PATIENCE).await.unwrap();
        assert_eq!(seen.der, der, "{name}");
        assert_eq!(seen.leaf, Leaf::from_der(&der).unwrap().status(), "{name}");
        assert_eq!(seen.distrusted, None, "{name}");
        assert_eq!(seen.tls_version, Some(name));
    }
}

#[tokio::test]
async fn a_listener_with_several_keys_shows_the_one_that_is_looked_for() {
    let (authority, keys) = (Authority::new(), keys());
    for version in rustls::ALL_VERSIONS {
        for preferred in 0..keys.len() {
            let mut leaves: Vec<_> = keys.iter().map(|(_, key)| authority.leaf_of(key, VALID)).collect();
            let ders: Vec<_> = leaves.iter().map(|leaf| leaf.chain[0].clone()).collect();
            leaves.swap(0, preferred);
            let address = serve(several(leaves, &[version])).await;
            let look = async |key| authority.prover().leaf_at(&at(address), key, PATIENCE).await.unwrap();
            for ((key, _), der) in keys.iter().zip(&ders) {
                let seen = look(Some(*key)).await;
                assert_eq!(
                    (&seen.der, seen.distrusted),
                    (der, None),
                    "{key} over {version:?}, number {preferred} first"
                );
                assert_eq!(KeyType::of(der), Some(*key));
            }
            assert_eq!(look(None).await.der, ders[preferred], "without a wish, over {version:?}");
        }
    }
}

#[tokio::test]
async fn a_listener_without_such_a_key_shows_what_it_has() {
    let (authority, keys) = (Authority::new(), keys());
    // One that heeds what is offered, and one that has no choice.
    type Serve = fn(ClientIdentity, Versions<'_>) -> ServerConfig;
    let servers: [Serve; 2] =
        [|leaf, versions| several(vec![leaf], versions), |leaf, versions| config(leaf, versions, None)];
    for version in rustls::ALL_VERSIONS {
        for ((had, key), server) in keys.iter().flat_map(|key| servers.map(|server| (key, server))) {
            let leaf = authority.leaf_of(key, VALID);
            let der = leaf.chain[0].clone();
            let address = serve(server(leaf, &[version])).await;
            for (wanted, _) in keys.iter().filter(|(wanted, _)| wanted != had) {
                let seen = authority.prover().leaf_at(&at(address), Some(*wanted), PATIENCE).await.unwrap();
                let distrusted = format!("no certificate of an {wanted} key is served here");
                assert_eq!((&seen.der, seen.distrusted), (&der, Some(distrusted)), "{had} over {version:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_client_would_refuse_is_seen_as_well() {
    let authority = Authority::new();
    let other = Authority::named("other");
    for (name, leaf, sni, want) in [
        ("expired", authority.leaf((2020, 2021)), Some("localhost"), "expired"),
        ("not yet valid", authority.leaf((2099, 2100)), Some("localhost"), "not valid yet"),
        ("another authority", other.leaf(VALID), Some("localhost"), "UnknownIssuer"),
        ("another name", authority.leaf(VALID), Some("example.com"), "not valid for name"),
        ("an address that it does not carry", authority.leaf(VALID), None, "not valid for name"),
    ] {
        let der = leaf.chain[0].clone();
        let address = serve(config(leaf, rustls::ALL_VERSIONS, None)).await;
        let at = ServedAt { address: address.to_string(), sni: sni.map(str::to_owned) };
        let seen = authority.prover().leaf_at(&at, None, PATIENCE).await.unwrap();
        assert_eq!(seen.der, der, "{name}");
        let distrusted = seen.distrusted.unwrap();
        assert!(distrusted.contains(want), "{name}: {distrusted}");
    }
}

#[tokio::test]
async fn a_listener_that_asks_for_a_certificate_gets_one() {
    let authority = Authority::new();
    let server = config(authority.leaf(VALID), &[&rustls::version::TLS12], Some(authority.root()));
    let address = serve(server).await;
    let prover = Prover::new(vec![authority.root()], Some(authority.leaf(VALID))).unwrap();
    let seen = prover.leaf_at(&at(address), None, PATIENCE).await.unwrap();
    assert_eq!((seen.distrusted, seen.tls_version), (None, Some("TLSv1_2")));

    let seen = authority.prover().leaf_at(&at(address), None, PATIENCE).await.unwrap();
    assert!(seen.distrusted.unwrap().starts_with("handshake failed"), "it showed its own before it broke off");
}

#[tokio::test]
async fn a_listener_that_does_not_speak_tls_is_an_error() {
    let prover = Authority::new().prover();
    for greeting in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"", b"\x16\x03\x03\xff\xff", &[0x15; 4096]] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let _ = tcp.write_all(greeting).await;
        });
        let error = prover.leaf_at(&at(address), None, PATIENCE).await.unwrap_err();
        assert!(matches!(error, ProofError::Handshake { .. }), "{greeting:?}: {error}");
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_silent_listener_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = at(listener.local_addr().unwrap());
    let error = Authority::new().prover().leaf_at(&at, None, Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, ProofError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = at(listener.local_addr().unwrap());
    drop(listener);
    let error = Authority::new().prover().leaf_at(&at, None, PATIENCE).await.unwrap_err();
    assert!(matches!(error, ProofError::Connect { .. }), "{error}");
}

#[test]
fn the_host_of_an_address() {
    for (address, host) in [("a.example:443", "a.example"), ("127.0.0.1:1", "127.0.0.1"), ("[::1]:1", "::1")] {
        assert_eq!(host_of(address), host);
    }
}

#[tokio::test]
async fn a_leaf_outside_of_the_roots_constraints_is_distrusted() {
    let directory = tempfile::tempdir().unwrap();
    let constraints = ca::Constraints { dns: vec!["acme.example".to_owned()], ip: Vec::new() };
    let ca = crate::config::Ca {
        trust_domain: "acme.example".to_owned(),
        root_lifetime: 3_600,
        constraints,
        ..crate::config::Ca::default()
    };
    let now = crate::leaf::now();
    let (authority, _) = ca::Authority::open(directory.path(), &ca, now).unwrap();
    let names = |dns: &str| {
        let spiffe = Some("spiffe://acme.example/a".to_owned());
        Names::new(spiffe, vec![dns.to_owned()], Vec::new(), vec![Usage::Server], "acme.example").unwrap()
    };
    let prover = Prover::new(vec![authority.der().clone()], None).unwrap();
    for (name, forged) in [("orders.acme.example", None), ("orders.evil.example", Some("NameConstraintViolation"))] {
        let mut order = authority.order(names("orders.acme.example"), 600, directory.path(), now).unwrap();
        // Who has the key signs what he wants.
        order.names = names(name);
        let chain = crate::leaf::chain(&authority.sign(&order).unwrap()).unwrap();
        let identity = ClientIdentity { chain, key: order.key.der().unwrap() };
        let address = serve(config(identity, rustls::ALL_VERSIONS, None)).await;
        let at = ServedAt { address: address.to_string(), sni: Some(name.to_owned()) };
        let seen = prover.leaf_at(&at, None, PATIENCE).await.unwrap();
        match forged {
            None => assert_eq!(seen.distrusted, None, "{name}"),
            Some(word) => assert!(seen.distrusted.as_ref().unwrap().contains(word), "{name}: {:?}", seen.distrusted),
        }
    }
}
