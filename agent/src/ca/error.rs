//! Why the CA cannot do what it should.

use std::io;
use std::path::PathBuf;

use portcullis_policy::schedule::Validity;

use super::ROOT_FILE;
use super::ROOT_KEY_FILE;
use crate::keys::KeyError;
use crate::leaf;
use crate::leaf::LeafError;
use crate::rotation::CheckError;
use crate::state_dir::DirectoryError;

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
    /// The intermediate cannot be used as an authority.
    #[error("a peer would not believe what the intermediate signs: {why}")]
    BadIntermediate {
        /// What is wrong with it.
        why: &'static str,
    },
    /// A peer says no to what the intermediate signs.
    #[error("a peer would not believe what the intermediate signs")]
    NotBelieved(#[source] CheckError),
    /// The folder of the intermediates.
    #[error("the folder of the intermediates cannot be used")]
    Folder(#[source] DirectoryError),
    /// An intermediate and a key do not belong together.
    #[error("`{}` is not a certificate of the key beside it; it has to be signed for the newest request (`portcullis ca request`)", path.display())]
    IntermediateKeyMismatch {
        /// The certificate.
        path: PathBuf,
    },
    /// The intermediate has ended, or is about to.
    #[error("the intermediate is good from {} to {}, which is not long enough to sign anything; {remedy}", leaf::timestamp(validity.not_before), leaf::timestamp(validity.not_after))]
    IntermediateNotValid {
        /// Its validity.
        validity: Validity,
        /// What to do.
        remedy: &'static str,
    },
    /// The root's key is where it must not be.
    #[error("`{}` is there, and `ca.root: offline` means that the agent has no key of a root; move it to where the root is kept, for `portcullis ca sign`", path.display())]
    KeyHere {
        /// The key.
        path: PathBuf,
    },
    /// The root does not let anybody be an authority below it.
    #[error("the root in `{}` allows no authority below it (its path length is 0); `portcullis ca rotate` has one follow that does", path.display())]
    NobodyBelow {
        /// The root.
        path: PathBuf,
    },
    /// The root's key is kept elsewhere, and it signed nobody yet.
    #[error("there is no intermediate that could sign; {remedy}")]
    NoIntermediate {
        /// What to do.
        remedy: &'static str,
    },
    /// What is to be installed is no certificate.
    #[error("what is to be installed is not a chain in PEM: the intermediate first, then the root")]
    NotAChain,
    /// The root's key is kept elsewhere, and not even its certificate is here.
    #[error("there is no `{}`, and `ca.root: offline` has nobody make one; `portcullis ca request` here, `portcullis ca sign` where the root's key is, `portcullis ca install` here", path.display())]
    NotInstalled {
        /// Where the root would be.
        path: PathBuf,
    },
    /// What is to be signed is no request, or not by its own key.
    #[error("what is to be signed is not a certificate request in PEM that its own key signed")]
    NotARequest(#[source] rcgen::Error),
    /// A key of another root.
    #[error("`{}` is not the key of `{}`", path.display(), root.display())]
    OtherKey {
        /// The key.
        path: PathBuf,
        /// The root.
        root: PathBuf,
    },
    /// Of another trust domain.
    #[error("the root is of the trust domain `{found}`, and `{wanted}` is asked for")]
    OtherTrustDomain {
        /// Asked for.
        wanted: String,
        /// The root's.
        found: String,
    },
    /// The root is not valid now.
    #[error("the root is valid from {} to {}, not now", leaf::timestamp(validity.not_before), leaf::timestamp(validity.not_after))]
    RootEnded {
        /// Its validity.
        validity: Validity,
    },
    /// Nothing is overwritten.
    #[error("`{}` is there already; choose an empty directory", path.display())]
    RootExists {
        /// The file.
        path: PathBuf,
    },
    /// Another root than the one that is trusted.
    #[error("the chain leads to another root than `{}`, which nobody here trusts; sign the request with that one's key", path.display())]
    OtherRoot {
        /// The one that is trusted.
        path: PathBuf,
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
