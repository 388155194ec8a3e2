//! A CA, a store, and somebody who takes step after step.

use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use portcullis::command::Usage;
use portcullis::issuer::Progress;
use portcullis::issuer::Request;
use portcullis::issuer::acme::Acme;
use portcullis::issuer::acme::AcmeError;
use portcullis::issuer::acme::AcmeOrder;
use portcullis::issuer::acme::Challenge;
use portcullis::issuer::acme::Directory;
use portcullis::issuer::acme::Settings;
use portcullis::keys::PrivateKey;
use portcullis::leaf;
use portcullis::names::Names;
use portcullis::store::LocalStore;
use portcullis::store::Store;
use portcullis_integration::environment::Pebble;
use portcullis_integration::environment::PebbleSettings;
use portcullis_integration::environment::chain as causes;
use portcullis_integration::environment::wait;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;
use tempfile::TempDir;

/// Longer than anything takes that is not broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// Pebble issues at random where it is not told what.
pub(crate) const PROFILE: &str = "shortlived";

/// A CA, and what one agent remembers.
pub(crate) struct Scene {
    pub(crate) pebble: Pebble,
    pub(crate) store: Arc<dyn Store>,
    _directory: TempDir,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(&PebbleSettings::default()).await
    }

    pub(crate) async fn with(settings: &PebbleSettings) -> Self {
        install_provider();
        let pebble = Pebble::start(settings).await.unwrap_or_else(|error| panic!("{}", causes(&error)));
        let (store, directory) = store();
        Self { pebble, store, _directory: directory }
    }

    pub(crate) fn http(&self) -> Challenge {
        Challenge::Http01 { listen: self.pebble.http() }
    }

    /// With names proven by `http-01`.
    pub(crate) fn settings(&self) -> Settings {
        self.settings_for(self.http())
    }

    pub(crate) fn settings_for(&self, challenge: Challenge) -> Settings {
        let directory = Directory::parse(&self.pebble.directory()).unwrap();
        let settings = Settings::new(directory, challenge).trusting(self.pebble.ca_pem()).unwrap();
        Settings { profile: Some(PROFILE.to_owned()), ..settings }
    }

    pub(crate) fn acme(&self, settings: Settings) -> Acme {
        Acme::new("ca".to_owned(), settings, Arc::clone(&self.store)).unwrap()
    }

    /// Whether a client that trusts this root of the CA would take the chain for each of the names.
    pub(crate) async fn verify(&self, root: u8, chain_pem: &str, request: &Request) {
        verify(self.pebble.root(root).await.unwrap(), chain_pem, request);
    }
}

pub(crate) fn install_provider() {
    // The first one stays; they are all the same.
    let _ = ring::default_provider().install_default();
}

pub(crate) fn store() -> (Arc<dyn Store>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(&directory.path().join("store.redb")).unwrap().store;
    (Arc::new(store), directory)
}

pub(crate) fn request(names: &[&str]) -> Request {
    let (ip, dns): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.parse::<std::net::IpAddr>().is_ok());
    let dns = dns.into_iter().map(str::to_owned).collect();
    let ip = ip.into_iter().map(|ip| ip.parse().unwrap()).collect();
    let names = Names::new(None, dns, ip, vec![Usage::Server], "acme.example").unwrap();
    Request { key: PrivateKey::generate().unwrap(), names, lifetime: 86_400 }
}

/// Takes steps until the chain is there. What is to be written down goes through the form in which it is written down.
pub(crate) async fn issue(
    acme: &Acme,
    request: &Request,
    replaced: Option<&str>,
) -> Result<(String, AcmeOrder), AcmeError> {
    go_on(acme, request, AcmeOrder::default(), replaced).await
}

pub(crate) async fn go_on(
    acme: &Acme,
    request: &Request,
    mut order: AcmeOrder,
    replaced: Option<&str>,
) -> Result<(String, AcmeOrder), AcmeError> {
    for _ in 0..10 {
        match acme.advance(request, &order, replaced).await? {
            Progress::Journal(noted) => {
                order = serde_json::from_slice(&serde_json::to_vec(&noted).unwrap()).unwrap();
            }
            Progress::Issued(chain) => return Ok((chain, order)),
        }
    }
    panic!("the order makes no progress: {order:?}");
}

/// The next thing to write down of an order that the CA has.
pub(crate) async fn journal(acme: &Acme, request: &Request, order: &AcmeOrder) -> AcmeOrder {
    let noted = step(acme, request, order).await;
    if noted.url().is_some() { noted } else { step(acme, request, &noted).await }
}

/// One step, which leads to something to write down.
pub(crate) async fn step(acme: &Acme, request: &Request, order: &AcmeOrder) -> AcmeOrder {
    match acme.advance(request, order, None).await {
        Ok(Progress::Journal(order)) => order,
        Ok(Progress::Issued(_)) => panic!("issued"),
        Err(error) => panic!("{}", causes(&error)),
    }
}

#[track_caller]
pub(crate) fn verify(root: CertificateDer<'static>, chain_pem: &str, request: &Request) {
    let chain = leaf::chain(chain_pem).unwrap();
    let provider = Arc::new(ring::default_provider());
    let key = provider.key_provider.load_private_key(request.key.der().unwrap()).unwrap();
    CertifiedKey::new(chain.clone(), key).keys_match().expect("the key of the request");
    assert!(chain.iter().all(|certificate| *certificate != root), "the root is left out");
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let names = request.names.dns().iter().cloned().chain(request.names.ip().iter().map(ToString::to_string));
    for name in names {
        let asked = ServerName::try_from(name.replace('*', "anything")).unwrap();
        let verdict = verifier.verify_server_cert(&chain[0], &chain[1..], &asked, &[], UnixTime::now());
        assert!(verdict.is_ok(), "`{name}`: {verdict:?}");
    }
}

/// Waits until nobody listens there: a program that another test starts has each socket of ours until it is another one.
pub(crate) async fn until_free(address: SocketAddr) {
    wait::until("the port to be free again", PATIENCE, async || {
        TcpListener::bind(address).map(drop).map_err(|error| error.to_string())
    })
    .await
    .expect("nobody listens");
}
