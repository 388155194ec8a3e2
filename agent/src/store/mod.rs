//! What the agent remembers: small values under keys, each with a version, changed only by compare-and-swap.
//!
//! Absent: what the values mean. The trait is small so that a shared store can stand behind it when several agents look
//! after one set of certificates; the implementation here is one redb file, [`LocalStore`].
//!
//! A swap may leave a *note* in the same transaction: something to be told elsewhere exactly once (the audit log). Notes
//! have numbers that grow and are kept until they are dropped.

mod local;

pub use local::LocalStore;
pub use local::Opened;

use std::path::PathBuf;

/// Version of a value: a new one with every swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A value with its version.
#[derive(Clone, PartialEq, Eq)]
pub struct Versioned {
    /// To be given back at the swap.
    pub version: Version,
    /// The value; may hold secrets.
    pub value: zeroize::Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Versioned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Versioned").field("version", &self.version).finish_non_exhaustive()
    }
}

/// A note that waits to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Grows with every note.
    pub number: u64,
    /// The text.
    pub text: Vec<u8>,
}

/// Why the store did not do what it was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else was faster.
    #[error("`{key}` was changed by somebody else")]
    Conflict {
        /// The key.
        key: String,
    },
    /// Reading or writing failed; the disk may be full or read-only.
    #[error("cannot use the store `{}`", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<redb::Error>,
    },
    /// A newer agent wrote it.
    #[error("the store `{}` has format {found}, this agent reads up to {known}; run the newer agent", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// It is unreadable, and could not be moved out of the way.
    #[error("the store `{}` is unreadable and cannot be moved aside", path.display())]
    Stuck {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// A store. Calls block for as long as the disk takes.
pub trait Store: Send + Sync {
    /// The value under a key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`].
    fn read(&self, key: &str) -> Result<Option<Versioned>, StoreError>;

    /// The keys that begin so, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`].
    fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError>;

    /// Replaces the value if its version is still `expected` (`None`: if there is none yet), together with the notes.
    /// When it returns, both survive a power cut.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if the version is another, [`StoreError::Failed`].
    fn swap(
        &self,
        key: &str,
        expected: Option<Version>,
        value: &[u8],
        notes: &[Vec<u8>],
    ) -> Result<Version, StoreError>;

    /// Leaves a note without a value.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`].
    fn note(&self, text: &[u8]) -> Result<(), StoreError>;

    /// All notes that were not dropped, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`].
    fn notes(&self) -> Result<Vec<Note>, StoreError>;

    /// Drops notes up to a number, this one included. May be forgotten in a crash: then they come again.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`].
    fn drop_notes(&self, through: u64) -> Result<(), StoreError>;
}
