//! What is written down of the roots: how far the succession under way has come, and until when what others were issued is good.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use portcullis_policy::UnixTime;
use portcullis_policy::succession::Edge;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::Event;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Version;

const STORE_KEY: &str = "ca";

/// A root that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its number in the CA's directory.
    pub number: u32,
    /// SHA-256 of its DER, hex.
    pub sha256: String,
}

/// One root on its way to take the place of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The edge that is being taken.
    pub edge: Edge,
    /// Which root goes.
    pub from: Kept,
    /// Which one comes; none until it is made.
    pub to: Option<Kept>,
    /// On whose word.
    pub by: String,
    /// Since when.
    pub begun: UnixTime,
    /// The last second of what others were issued before the new root was added.
    pub unaware_until: Option<UnixTime>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The last second of what others were issued, by the root's SHA-256.
    pub ends: BTreeMap<String, UnixTime>,
    /// What is under way.
    pub turn: Option<Turn>,
    /// The intermediates of each root, by the root's SHA-256.
    pub below: BTreeMap<String, Below>,
}

/// The intermediates of a root, by SHA-256.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Below {
    /// The newest that was told of.
    pub newest: Option<String>,
    /// The one that signs.
    pub signs: Option<String>,
}

/// The record in the store. Its methods block for as long as the disk takes.
pub struct Journal {
    store: Arc<dyn Store>,
    state: Mutex<(Option<Version>, Record)>,
}

/// A root that is about to go signs nothing any more.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It was chosen a moment before it was put out of use.
    #[error("the root was put out of use a moment ago; ask again, and the one after it signs")]
    Gone,
    /// The store.
    #[error("it cannot be written down")]
    Store(#[source] StoreError),
}

impl Journal {
    /// Reads it. Says with the second value whether there was one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn open(store: Arc<dyn Store>) -> Result<(Self, bool), StoreError> {
        let found = store.read(STORE_KEY)?;
        let version = found.as_ref().map(|found| found.version);
        let record = found.and_then(|found| match serde_json::from_slice(&found.value) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::error!(%error, "the record of the CA's roots is unreadable; it is begun anew");
                None
            }
        });
        let was_there = record.is_some();
        Ok((Self { store, state: Mutex::new((version, record.unwrap_or_default())) }, was_there))
    }

    /// As it is now.
    pub fn record(&self) -> Record {
        self.state().1.clone()
    }

    /// Changes it, together with events for the audit log. When it returns, both survive a power cut.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is changed then.
    pub fn change<T>(&self, events: &[Event], change: impl FnOnce(&mut Record) -> T) -> Result<T, StoreError> {
        let mut state = self.state();
        let mut record = state.1.clone();
        let outcome = change(&mut record);
        self.write(&mut state, record, events)?;
        Ok(outcome)
    }

    /// Writes down that somebody gets a certificate under this root until then. Call it before the certificate leaves.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: then it must not leave.
    pub fn issued(&self, sha256: &str, until: UnixTime) -> Result<(), JournalError> {
        let mut state = self.state();
        let going = state.1.turn.as_ref().filter(|turn| turn.edge == Edge::Remove);
        if going.is_some_and(|turn| turn.from.sha256 == sha256) {
            return Err(JournalError::Gone);
        }
        let mut record = state.1.clone();
        let end = record.ends.entry(sha256.to_owned()).or_insert(until);
        *end = until.max(*end);
        if record == state.1 {
            return Ok(());
        }
        self.write(&mut state, record, &[]).map_err(JournalError::Store)
    }

    fn write(&self, state: &mut (Option<Version>, Record), record: Record, events: &[Event]) -> Result<(), StoreError> {
        let json = serde_json::to_vec(&record).expect("a record is made of strings and numbers");
        let notes: Vec<Vec<u8>> = events.iter().map(Event::note).collect();
        match self.store.swap(STORE_KEY, state.0, &json, &notes) {
            Ok(version) => {
                *state = (Some(version), record);
                Ok(())
            }
            Err(error) => {
                // Nobody else writes this record: a write before that seemed to fail is there all the same.
                if matches!(error, StoreError::Conflict { .. })
                    && let Ok(Some(found)) = self.store.read(STORE_KEY)
                    && let Ok(record) = serde_json::from_slice(&found.value)
                {
                    *state = (Some(found.version), record);
                }
                Err(error)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, (Option<Version>, Record)> {
        // Held across the write, so that two changes never begin from the same record. Replaced whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
