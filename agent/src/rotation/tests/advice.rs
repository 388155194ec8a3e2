use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use super::super::advice::Advice;
use super::super::advice::heed;
use super::*;
use crate::issuer::acme::Suggested;
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
