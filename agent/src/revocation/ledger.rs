//! The certificates that the agent issued for others, for as long as they are valid: who would be hit by a revocation.
//!
//! A slot of the store is used again when its certificate has ended, so there are never more than were valid at once.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use portcullis_policy::Leaf;
use portcullis_policy::UnixTime;

use crate::store::Store;
use crate::store::StoreError;
use crate::store::Version;

/// The ledger. Its methods block for as long as the disk takes.
pub struct Ledger {
    store: Arc<dyn Store>,
    slots: Mutex<Vec<Slot>>,
}

struct Slot {
    version: Version,
    /// `None` for bytes that an older agent took for a certificate.
    leaf: Option<Arc<Leaf>>,
}

impl Ledger {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn open(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let mut slots = Vec::new();
        while let Some(found) = store.read(&key(slots.len()))? {
            slots.push(Slot { version: found.version, leaf: read(&found.value) });
        }
        Ok(Self { store, slots: Mutex::new(slots) })
    }

    /// Writes down the first certificate of a chain, together with a note.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn record(&self, chain_pem: &str, now: UnixTime, note: &[u8]) -> Result<(), StoreError> {
        let end = "-----END CERTIFICATE-----";
        let first = chain_pem.split_inclusive(end).next().unwrap_or_default().as_bytes();
        // Held across the write: two certificates must not take one slot.
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = |slot: &Slot| slot.leaf.as_ref().is_none_or(|leaf| leaf.not_after() < now);
        let at = slots.iter().position(ended).unwrap_or(slots.len());
        let before = slots.get(at).map(|slot| slot.version);
        let version = self.store.swap(&key(at), before, first, &[note.to_vec()])?;
        let slot = Slot { version, leaf: read(first) };
        match slots.get_mut(at) {
            Some(old) => *old = slot,
            None => slots.push(slot),
        }
        Ok(())
    }

    /// Those that have not ended.
    pub fn valid(&self, now: UnixTime) -> Vec<Arc<Leaf>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.iter().filter_map(|slot| slot.leaf.clone()).filter(|leaf| now <= leaf.not_after()).collect()
    }
}

fn read(pem: &[u8]) -> Option<Arc<Leaf>> {
    Leaf::from_pem(pem).map(Arc::new).ok()
}

fn key(slot: usize) -> String {
    format!("issued/{slot}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LocalStore;

    /// Valid for a minute from `from` on.
    fn certificate(name: &str, from: i64) -> String {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let instant =
            |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds.unsigned_abs());
        (params.not_before, params.not_after) = (instant(from), instant(from + 60));
        params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("signed").pem()
    }

    #[test]
    fn what_ended_makes_room_and_the_rest_survives() {
        let directory = tempfile::tempdir().expect("a directory");
        let store: Arc<dyn Store> =
            Arc::new(LocalStore::open(&directory.path().join("store.redb")).expect("a store").store);
        let ledger = Ledger::open(Arc::clone(&store)).expect("an empty ledger");
        let names = |ledger: &Ledger, now| {
            let valid = ledger.valid(UnixTime(now));
            valid.iter().map(|leaf| leaf.identity().to_owned()).collect::<Vec<_>>()
        };
        for (name, from) in [("a", 1_000), ("b", 2_000), ("c", 2_000)] {
            ledger.record(&certificate(name, from), UnixTime(from), b"{}").expect("recorded");
        }
        assert_eq!(names(&ledger, 2_000), ["dns:b", "dns:c"]);
        let again = Ledger::open(Arc::clone(&store)).expect("the ledger");
        assert_eq!(names(&again, 2_000), ["dns:b", "dns:c"]);
        assert!(store.read("issued/2").expect("read").is_none(), "the slot of the first was used again");
        assert_eq!(store.notes().expect("notes").len(), 3);
    }
}
