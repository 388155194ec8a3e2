//! A chain and a key in two files: read together, and taken only as a pair.

use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::OFlags;
use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::Settings;
use crate::keys::PrivateKey;
use crate::leaf;
use crate::leaf::Leaf;

/// Chain and key as certbot and as Kubernetes call them.
const LAYOUTS: [[&str; 2]; 2] = [["fullchain.pem", "privkey.pem"], ["tls.crt", "tls.key"]];
/// Bytes of a file, at most. A chain with many certificates has some tens of kilobytes.
const LONGEST: u64 = 1 << 20;

/// A certificate with its own key.
#[derive(Debug)]
pub(super) struct Pair {
    /// PEM, leaf first, without a root.
    pub(super) chain_pem: String,
    pub(super) key: PrivateKey,
    pub(super) leaf: Leaf,
}

/// Why there is no pair. Says nothing of the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PairError {
    /// Not certificates.
    #[error("`{}` is not a chain of certificates in PEM", path.display())]
    Chain {
        /// The file.
        path: PathBuf,
    },
    /// Not a key.
    #[error("`{}` is not a private key in PEM that TLS can use", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// Neither layout.
    #[error(
        "`{}` has neither `fullchain.pem` and `privkey.pem` nor `tls.crt` and `tls.key`; name the files by `certificate` and `key`",
        path.display()
    )]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// Of two pairs, or half written.
    #[error("`{}` is not the key of `{}`", key.display(), certificate.display())]
    OtherKey {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// Cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Pair {
    /// Reads what is there now.
    pub(super) fn read(settings: &Settings) -> Result<Self, PairError> {
        let [certificate, key] = files(settings).ok_or_else(|| PairError::Missing { path: settings.path.clone() })?;
        let chain_pem = text(&certificate)?.as_str().to_owned();
        let key_pem = text(&key)?;
        let not_a_chain = || PairError::Chain { path: certificate.clone() };
        let chain = leaf::chain(&chain_pem).map_err(|_| not_a_chain())?;
        let leaf = Leaf::from_der(&chain[0]).map_err(|_| not_a_chain())?;
        let not_a_key = || PairError::Key { path: key.clone() };
        let private = PrivateKey::of_somebody(&key_pem).map_err(|_| not_a_key())?;
        let signer =
            private.der().ok().and_then(|der| ring::default_provider().key_provider.load_private_key(der).ok());
        let signer = signer.ok_or_else(not_a_key)?;
        CertifiedKey::new(chain.clone(), signer)
            .keys_match()
            .map_err(|_| PairError::OtherKey { certificate: certificate.clone(), key: key.clone() })?;
        // A root at the end is nothing to send; nor is a key that lies in the same file.
        let sent = chain.iter().enumerate().filter(|(at, der)| *at == 0 || !leaf::is_self_issued(der));
        let chain_pem = sent.map(|(_, der)| leaf::pem("CERTIFICATE", der)).collect();
        Ok(Self { chain_pem, key: private, leaf })
    }
}

/// The files of the pair, both through one generation where there are generations.
pub(super) fn files(settings: &Settings) -> Option<[PathBuf; 2]> {
    // As Kubernetes does, and the agent itself: links that lead through `..data`, which is replaced as a whole.
    let generation = fs::canonicalize(settings.path.join("..data")).ok();
    let base = generation.as_deref().unwrap_or(&settings.path);
    let whole = |names: [&Path; 2]| {
        let inside = names.map(|name| base.join(name));
        let beside = names.map(|name| settings.path.join(name));
        [inside, beside].into_iter().find(|files| files.iter().all(|file| file.exists()))
    };
    match &settings.files {
        Some([certificate, key]) => Some(
            whole([certificate, key]).unwrap_or_else(|| [settings.path.join(certificate), settings.path.join(key)]),
        ),
        None => LAYOUTS.into_iter().find_map(|names| whole(names.map(Path::new))),
    }
}

/// The text of a file. One that is no file, as a pipe that nobody writes to, is not waited for.
fn text(path: &Path) -> Result<Zeroizing<String>, PairError> {
    let read = || -> io::Result<Zeroizing<String>> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        // Enough at once: what grows leaves copies behind.
        let length = usize::try_from(about.len().min(LONGEST)).unwrap_or_default();
        let mut text = Zeroizing::new(String::with_capacity(length + 2));
        file.take(LONGEST + 1).read_to_string(&mut text)?;
        if text.len() as u64 > LONGEST {
            return Err(io::Error::other(format!("more than {LONGEST} bytes")));
        }
        Ok(text)
    };
    read().map_err(|source| PairError::Read { path: path.to_owned(), source })
}
