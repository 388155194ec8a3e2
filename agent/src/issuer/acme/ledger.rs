//! What was asked of a CA lately, and until when it wants to be left alone: written down, so that a restart does not begin to
//! count anew.
//!
//! An order counts from the moment at which its certificate is asked for: CAs count certificates. One that fails before
//! counts as a failed proof of its names.

use std::sync::Arc;

use portcullis_policy::UnixTime;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;

use super::error::AcmeError;
use super::settings::Limits;
use crate::leaf;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Version;

/// Attempts to write what somebody else writes too.
const ATTEMPTS: usize = 16;
/// A note from further ahead was made by a clock that went wrong, and binds nobody.
const AHEAD: i64 = 300;
/// The longest that a CA is obeyed; see `headers::retry_after`.
const LONGEST_WAIT: i64 = 48 * 3_600;

/// The ledger of one CA: a record for the CA, and one for each set of names.
pub(super) struct Ledger {
    store: Arc<dyn Store>,
    key: String,
}

/// A set of names, in an order that does not depend on the configuration's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameSet(Vec<String>);

/// What is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    not_before: Option<UnixTime>,
    /// What the CA said when it paused the account for these names.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<String>,
    certificates: Vec<Note>,
    failures: Vec<Note>,
}

/// Something that happened to an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// The order's URL, so that nothing is counted twice.
    order: String,
    /// The name that failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    at: UnixTime,
}

/// Why nothing more is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) what: &'static str,
    pub(super) names: String,
    pub(super) count: usize,
    pub(super) until: UnixTime,
}

impl Ledger {
    pub(super) fn new(store: Arc<dyn Store>, issuer: &str) -> Self {
        Self { store, key: format!("acme/{issuer}/ledger") }
    }

    /// Until when the CA wants to be left alone: altogether, or with new orders for these names.
    pub(super) async fn not_before(
        &self,
        names: Option<&NameSet>,
        now: UnixTime,
    ) -> Result<Option<UnixTime>, AcmeError> {
        let (_, whole) = self.read(self.key_of(None)).await?;
        let of_set = match names {
            Some(names) => self.read(self.key_of(Some(names))).await?.1.wait(now),
            None => None,
        };
        Ok(whole.wait(now).max(of_set))
    }

    /// Writes down that the CA wants to be left alone.
    pub(super) async fn stay_away(&self, names: Option<&NameSet>, until: UnixTime) -> Result<(), AcmeError> {
        self.change(self.key_of(names), move |record| record.not_before = Some(until)).await
    }

    /// Forgets that the CA wants to be left alone, altogether and with orders for these names.
    pub(super) async fn override_wait(&self, names: &NameSet) -> Result<(), AcmeError> {
        for names in [None, Some(names)] {
            self.change(self.key_of(names), |record| record.not_before = None).await?;
        }
        Ok(())
    }

    /// Writes down that the CA paused the account for these names, or goes on.
    pub(super) async fn pause(&self, names: &NameSet, detail: Option<String>) -> Result<(), AcmeError> {
        if self.paused(names).await? == detail {
            return Ok(());
        }
        self.change(self.key_of(Some(names)), move |record| record.paused.clone_from(&detail)).await
    }

    /// What the CA said when it paused the account for these names, if it did.
    pub(super) async fn paused(&self, names: &NameSet) -> Result<Option<String>, AcmeError> {
        Ok(self.read(self.key_of(Some(names))).await?.1.paused)
    }

    /// Whether one more order is within the limits.
    pub(super) async fn refusal(
        &self,
        names: &NameSet,
        limits: &Limits,
        now: UnixTime,
    ) -> Result<Option<Refusal>, AcmeError> {
        let (_, record) = self.read(self.key_of(Some(names))).await?;
        Ok(record.refusal(names, limits, now))
    }

    /// Writes down that the certificate of an order is asked for. Twice is once.
    pub(super) async fn certificate(
        &self,
        names: &NameSet,
        order: &str,
        limits: Limits,
        now: UnixTime,
    ) -> Result<(), AcmeError> {
        let order = order.to_owned();
        self.change(self.key_of(Some(names)), move |record| record.certificate(&order, &limits, now)).await
    }

    /// Writes down that an order ended without a certificate.
    pub(super) async fn no_certificate(&self, names: &NameSet, order: &str) -> Result<(), AcmeError> {
        let order = order.to_owned();
        self.change(self.key_of(Some(names)), move |record| record.no_certificate(&order)).await
    }

    /// Writes down which names of an order could not be proven. Twice is once.
    pub(super) async fn failures(
        &self,
        names: &NameSet,
        order: &str,
        failed: Vec<String>,
        limits: Limits,
        now: UnixTime,
    ) -> Result<(), AcmeError> {
        let order = order.to_owned();
        let change = move |record: &mut Record| {
            for name in &failed {
                record.failure(&order, name, &limits, now);
            }
        };
        self.change(self.key_of(Some(names)), change).await
    }

    /// Whether a proof of one of these names failed lately.
    pub(super) async fn has_failed(&self, names: &NameSet, limits: &Limits, now: UnixTime) -> Result<bool, AcmeError> {
        let (_, record) = self.read(self.key_of(Some(names))).await?;
        Ok(record.failures.iter().any(|note| counts(note, limits.failures_within, now)))
    }

    fn key_of(&self, names: Option<&NameSet>) -> String {
        match names {
            Some(names) => format!("{}/{}", self.key, names.digest()),
            None => self.key.clone(),
        }
    }

    async fn read(&self, key: String) -> Result<(Option<Version>, Record), AcmeError> {
        let store = Arc::clone(&self.store);
        blocking(move || read(&*store, &key)).await
    }

    async fn change(&self, key: String, change: impl Fn(&mut Record) + Send + 'static) -> Result<(), AcmeError> {
        let store = Arc::clone(&self.store);
        blocking(move || {
            let mut attempts = 1;
            loop {
                let (version, mut record) = read(&*store, &key)?;
                change(&mut record);
                let json = serde_json::to_vec(&record).expect("numbers and text");
                match store.swap(&key, version, &json, &[]) {
                    Err(StoreError::Conflict { .. }) if attempts < ATTEMPTS => attempts += 1,
                    outcome => return outcome.map(drop),
                }
            }
        })
        .await
    }
}

/// Does what waits for the disk elsewhere.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, AcmeError> {
    tokio::task::spawn_blocking(work).await.expect("the store does not panic").map_err(AcmeError::Store)
}

fn read(store: &dyn Store, key: &str) -> Result<(Option<Version>, Record), StoreError> {
    let Some(found) = store.read(key)? else { return Ok((None, Record::default())) };
    let record = serde_json::from_slice(&found.value).unwrap_or_else(|error| {
        tracing::error!(key, %error, "the stored ledger is unreadable; counting anew");
        Record::default()
    });
    Ok((Some(found.version), record))
}

impl NameSet {
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort();
        names.dedup();
        Self(names)
    }

    pub(super) fn digest(&self) -> String {
        leaf::hex(&Sha256::digest(self.0.join("\n")))
    }

    /// For people.
    fn label(&self) -> String {
        match self.0.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        }
    }
}

impl Record {
    fn wait(&self, now: UnixTime) -> Option<UnixTime> {
        self.not_before.filter(|until| *until > now && until.0.saturating_sub(now.0) <= LONGEST_WAIT)
    }

    fn certificate(&mut self, order: &str, limits: &Limits, now: UnixTime) {
        add(&mut self.certificates, order, "", now, limits.certificates_within);
    }

    fn no_certificate(&mut self, order: &str) {
        self.certificates.retain(|note| note.order != order);
    }

    fn failure(&mut self, order: &str, name: &str, limits: &Limits, now: UnixTime) {
        add(&mut self.failures, order, name, now, limits.failures_within);
    }

    /// Why there may not be one more order, and from when on there may.
    fn refusal(&self, names: &NameSet, limits: &Limits, now: UnixTime) -> Option<Refusal> {
        let certificates = full(self.certificates.iter(), limits.certificates, limits.certificates_within, now)
            .map(|(count, until)| Refusal { what: "certificates for", names: names.label(), count, until });
        let failures = names.0.iter().filter_map(|name| {
            let own = self.failures.iter().filter(|note| note.name == *name);
            let (count, until) = full(own, limits.failures, limits.failures_within, now)?;
            Some(Refusal { what: "failed proofs of", names: name.clone(), count, until })
        });
        failures.chain(certificates).max_by_key(|refusal| refusal.until)
    }
}

fn add(notes: &mut Vec<Note>, order: &str, name: &str, now: UnixTime, within: i64) {
    notes.retain(|note| counts(note, within, now));
    if !notes.iter().any(|note| note.order == order && note.name == name) {
        notes.push(Note { order: order.to_owned(), name: name.to_owned(), at: now });
    }
}

/// If so many notes or more count: how many, and when there will be fewer.
fn full<'a>(
    notes: impl Iterator<Item = &'a Note>,
    limit: usize,
    within: i64,
    now: UnixTime,
) -> Option<(usize, UnixTime)> {
    let mut times: Vec<UnixTime> = notes.filter(|note| counts(note, within, now)).map(|note| note.at).collect();
    times.sort_unstable();
    // With the newest `limit - 1` alone there is room.
    let last_in_the_way = *times.get(times.len().checked_sub(limit.max(1))?)?;
    Some((times.len(), UnixTime(last_in_the_way.0.saturating_add(within))))
}

fn counts(note: &Note, within: i64, now: UnixTime) -> bool {
    note.at.0 > now.0.saturating_sub(within) && note.at.0 <= now.0.saturating_add(AHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { certificates: 3, certificates_within: 100, failures: 2, failures_within: 10 };

    fn names() -> NameSet {
        NameSet::new(["b.example".to_owned(), "a.example".to_owned()])
    }

    fn at(seconds: i64) -> UnixTime {
        UnixTime(1_000_000 + seconds)
    }

    #[test]
    fn a_set_is_the_same_in_any_order() {
        let other = NameSet::new(["a.example".to_owned(), "b.example".to_owned(), "a.example".to_owned()]);
        assert_eq!(names().digest(), other.digest());
        assert_ne!(names().digest(), NameSet::new(["a.example".to_owned()]).digest());
        assert_ne!(NameSet::new(["ab".to_owned()]).digest(), NameSet::new(["a".to_owned(), "b".to_owned()]).digest());
    }

    #[test]
    fn certificates_are_refused_until_the_oldest_in_the_way_is_past() {
        let mut record = Record::default();
        for (order, seconds) in [("1", 0), ("2", 10), ("2", 11), ("3", 20)] {
            assert_eq!(record.refusal(&names(), &LIMITS, at(seconds)), None, "before {order}");
            record.certificate(order, &LIMITS, at(seconds));
        }
        record.certificate("4", &LIMITS, at(21));
        record.no_certificate("4");
        let refusal = record.refusal(&names(), &LIMITS, at(30)).expect("three");
        assert_eq!((refusal.count, refusal.until, refusal.names.as_str()), (3, at(100), "a.example and 1 more"));
        assert!(record.refusal(&names(), &LIMITS, at(99)).is_some());
        assert_eq!(record.refusal(&names(), &LIMITS, at(100)), None);
        // More than the limit, as after the limit was lowered: until there is room for one.
        let fewer = Limits { certificates: 1, ..LIMITS };
        assert_eq!(record.refusal(&names(), &fewer, at(30)).map(|refusal| refusal.until), Some(at(120)));
    }

    #[test]
    fn failures_count_for_their_name_alone() {
        let mut record = Record::default();
        record.failure("1", "a.example", &LIMITS, at(0));
        record.failure("1", "b.example", &LIMITS, at(0));
        record.failure("1", "b.example", &LIMITS, at(0));
        assert_eq!(record.refusal(&names(), &LIMITS, at(1)), None);
        record.failure("2", "b.example", &LIMITS, at(2));
        let refusal = record.refusal(&names(), &LIMITS, at(3)).expect("two of b");
        assert_eq!((refusal.names.as_str(), refusal.until), ("b.example", at(10)));
        assert_eq!(record.refusal(&names(), &LIMITS, at(10)), None);
    }

    #[test]
    fn what_a_wrong_clock_wrote_binds_nobody() {
        let mut record = Record { not_before: Some(at(86_400 * 365)), ..Record::default() };
        for order in ["1", "2", "3"] {
            record.certificate(order, &LIMITS, at(86_400 * 365));
        }
        assert_eq!(record.refusal(&names(), &LIMITS, at(0)), None);
        assert_eq!(record.wait(at(0)), None);
        record.certificate("4", &LIMITS, at(0));
        assert_eq!(record.certificates.len(), 1, "and is forgotten");
    }

    #[test]
    fn a_wait_ends() {
        let record = Record { not_before: Some(at(60)), ..Record::default() };
        assert_eq!(record.wait(at(59)), Some(at(60)));
        assert_eq!(record.wait(at(60)), None);
    }

    #[test]
    fn a_ledger_is_read_again_after_a_restart_and_one_that_is_broken_begins_anew() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store.redb");
        let open = || -> Arc<dyn Store> { Arc::new(crate::store::LocalStore::open(&path).expect("a store").store) };
        runtime.block_on(async {
            let ledger = Ledger::new(open(), "ca");
            for order in ["1", "2", "3"] {
                ledger.certificate(&names(), order, LIMITS, at(0)).await.expect("written");
            }
            ledger.stay_away(Some(&names()), at(60)).await.expect("written");
            ledger.stay_away(None, at(30)).await.expect("written");
        });
        runtime.block_on(async {
            let store = open();
            let ledger = Ledger::new(Arc::clone(&store), "ca");
            assert!(ledger.refusal(&names(), &LIMITS, at(1)).await.expect("read").is_some());
            assert_eq!(ledger.not_before(Some(&names()), at(1)).await.expect("read"), Some(at(60)));
            assert_eq!(ledger.not_before(None, at(1)).await.expect("read"), Some(at(30)));
            let other = Ledger::new(Arc::clone(&store), "other");
            assert_eq!(other.not_before(Some(&names()), at(1)).await.expect("read"), None);
            let version = store.read("acme/ca/ledger").expect("read").map(|found| found.version);
            store.swap("acme/ca/ledger", version, b"{", &[]).expect("broken");
            assert_eq!(ledger.not_before(None, at(1)).await.expect("read"), None);
        });
    }
}
