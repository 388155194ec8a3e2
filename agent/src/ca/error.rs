//! Why the CA cannot do what it should.

use std::io;
use std::path::PathBuf;

use portcullis_policy::schedule::Validity;

use super::ROOT_FILE;
use super::ROOT_KEY_FILE;
use crate::keys::KeyError;
use crate::leaf;
use crate::leaf::LeafError;

/// Why the CA cannot do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// The root has ended, or has not begun: nothing under it would be accepted.
    #[error("the root in `{}` is valid from {} to {}, not now; check the clock, or move the directory away to begin with a new root", path.display(), leaf::timestamp(validity.not_before), leaf::timestamp(validity.not_after))]
    RootNotValid {
        /// The root.
        path: PathBuf,
        /// Its validity.
        validity: Validity,
    },
    /// A file of the CA cannot be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// `read`, `remove` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A certificate without its key: never replaced by a new root without being asked.
    #[error("`{}` has no key beside it in `{ROOT_KEY_FILE}`; restore the key, or move the directory away to begin with a new root", path.display())]
    KeyMissing {
        /// The root.
        path: PathBuf,
    },
    /// The root and the key do not belong together.
    #[error("`{}` is not the certificate of `{ROOT_KEY_FILE}` beside it", path.display())]
    KeyMismatch {
        /// The root.
        path: PathBuf,
    },
    /// The root is not to be used for that name, and every peer knows it.
    #[error("no peer would believe `{name}`: the root in `{}` is for {allowed} only (`ca.name_constraints` when it was made); `portcullis ca rotate` has one follow with those of the configuration", path.display())]
    Outside {
        /// The first name that is outside.
        name: String,
        /// The root.
        path: PathBuf,
        /// What is inside.
        allowed: String,
    },
    /// The root's file holds something else.
    #[error("`{}` cannot be read as a root certificate", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: LeafError,
    },
    /// A key cannot be made or read.
    #[error("a key of the CA cannot be used")]
    Key(#[source] KeyError),
    /// The root's key cannot be used.
    #[error("the key in `{}` cannot be used; put the one there that belongs to `{ROOT_FILE}`", path.display())]
    KeyUnreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: KeyError,
    },
    /// The library refuses to sign.
    #[error("the certificate cannot be signed")]
    Sign(#[source] rcgen::Error),
}
