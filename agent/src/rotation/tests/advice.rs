use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use super::*;
use crate::store::Note;
use crate::store::StoreError;
use crate::store::Version;
use crate::store::Versioned;
use crate::yaml::Source;

/// A store whose disk is full from when it is said.
struct Failing {
    inner: Arc<dyn Store>,
    fails: Arc<AtomicBool>,
}

impl Store for Failing {
    fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.inner.keys(prefix)
    }

    fn read(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        self.inner.read(key)
    }

    fn swap(
        &self,
        key: &str,
        expected: Option<Version>,
        value: &[u8],
        notes: &[Vec<u8>],
    ) -> Result<Version, StoreError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Stuck { path: "store".into(), source: std::io::ErrorKind::StorageFull.into() });
        }
        self.inner.swap(key, expected, value, notes)
    }

    fn note(&self, text: &[u8]) -> Result<(), StoreError> {
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
    std::fs::write(directory.join("roots.pem"), roots_pem).expect("written");
    let text = "version: 1\nca: { trust_domain: acme.example }\nissuers:\n  - name: ca\n    roots: roots.pem\n    \
        acme: { directory: \"https://127.0.0.1:1/\", server_ca: roots.pem, challenge: { http01: \"127.0.0.1:1\" } }\n\
        certificates: []\n";
    let file = directory.join("portcullis.yaml");
    let config = config::Config::parse(&file, &Source::new(&file, text)).expect("a configuration");
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
