//! A directory into which somebody else puts certificates with their keys: certbot, cert-manager, a mounted Secret. It is
//! watched, and a new pair is offered to who asks for it.
//!
//! Absent: making anything. Nobody here can hurry who writes there, and nothing is ever written or removed.

mod pair;
mod watch;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use super::Progress;
use crate::keys::PrivateKey;
use crate::leaf;
use crate::leaf::Leaf;
use crate::names::Names;

pub use pair::PairError;

use pair::Pair;
use watch::Watch;

/// Where the pairs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The directory.
    pub path: PathBuf,
    /// The files in it, chain and key; those of certbot or Kubernetes, whichever are there, if none.
    pub files: Option<[PathBuf; 2]>,
}

/// One directory, watched for as long as this is there.
pub struct Directory {
    settings: Settings,
    watch: Watch,
}

/// What is to be taken from the directory. Which pair, is written down before it is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// The names that it should have.
    pub(super) names: Names,
    /// The pair, once there was a new one.
    pub(super) found: Option<Found>,
}

/// A pair as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) chain_pem: String,
    pub(super) key: PrivateKey,
}

/// Why nothing is taken from a directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Somebody should have put a new one there by now.
    #[error(
        "`{}` still has the certificate with serial {serial}, until {until}, and whoever renews it there is late", path.display()
    )]
    Late {
        /// The directory.
        path: PathBuf,
        /// The serial, hex.
        serial: String,
        /// Its end.
        until: Timestamp,
    },
    /// Somebody put one back.
    #[error(
        "the certificate in `{}`, serial {serial}, was issued before the one in use; remove what is in use by \
         `portcullis rollback`, or put a newer one there", path.display()
    )]
    Older {
        /// The directory.
        path: PathBuf,
        /// The serial, hex.
        serial: String,
    },
    /// What is there is no pair.
    #[error(transparent)]
    Pair(#[from] PairError),
}

impl Directory {
    /// Begins to watch it. Call it inside the runtime.
    pub fn new(settings: Settings) -> Self {
        Self { watch: Watch::start(settings.clone()), settings }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.settings.path
    }

    /// The leaf of the pair that is there, or what is wrong with what is there. None before the first look.
    pub fn offered(&self) -> Option<Result<Leaf, String>> {
        self.watch.seen()
    }

    /// Takes the pair that is there if it is newer than the one that it is to replace.
    pub(super) async fn advance(
        &self,
        awaited: &Awaited,
        replaced: Option<&str>,
    ) -> Result<Progress<Awaited>, DirectoryError> {
        if let Some(found) = &awaited.found {
            return Ok(Progress::Issued(found.chain_pem.clone()));
        }
        let settings = self.settings.clone();
        let read = tokio::task::spawn_blocking(move || Pair::read(&settings)).await;
        let Pair { chain_pem, key, leaf: new } = read.expect("reading a pair does not panic")?;
        let path = || self.settings.path.clone();
        if let Some(old) = replaced.and_then(|chain| Leaf::from_der(leaf::chain(chain).ok()?.first()?).ok()) {
            if new.sha256 == old.sha256 {
                let until = leaf::timestamp(new.validity.not_after);
                return Err(DirectoryError::Late { path: path(), serial: new.serial, until });
            }
            if new.validity.not_before < old.validity.not_before {
                return Err(DirectoryError::Older { path: path(), serial: new.serial });
            }
        }
        Ok(Progress::Journal(Awaited { found: Some(Found { chain_pem, key }), ..awaited.clone() }))
    }
}
