//! What the certificates of an issuer lead to.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use crate::leaf;

/// Trust anchors.
#[derive(Clone, Debug)]
pub struct Roots {
    store: Arc<RootCertStore>,
    /// None for those of the system: too many to name.
    named: Option<Vec<CertificateDer<'static>>>,
}

/// Why there are no roots.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootsError {
    /// The file holds something else.
    #[error("`{}` holds no certificates of authorities in PEM", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The system has none.
    #[error("this system has no trusted roots; install `ca-certificates`, or name a file")]
    System,
}

impl Roots {
    /// These; one that cannot be used as a root is left out, so that what leads to it is refused.
    pub fn these(roots: Vec<CertificateDer<'static>>) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        Self { store: Arc::new(store), named: Some(roots) }
    }

    /// Those in a PEM file.
    ///
    /// # Errors
    ///
    /// [`RootsError`].
    pub fn read(path: &Path) -> Result<Self, RootsError> {
        let pem = fs::read_to_string(path).map_err(|source| RootsError::Read { path: path.to_owned(), source })?;
        let roots = leaf::chain(&pem).map_err(|_| RootsError::Malformed { path: path.to_owned() })?;
        let these = Self::these(roots);
        if these.store.is_empty() { Err(RootsError::Malformed { path: path.to_owned() }) } else { Ok(these) }
    }

    /// Those that the system trusts, or those of `SSL_CERT_FILE`.
    ///
    /// # Errors
    ///
    /// [`RootsError::System`].
    pub fn of_system() -> Result<Self, RootsError> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() { Err(RootsError::System) } else { Ok(Self { store: Arc::new(store), named: None }) }
    }

    /// For a verifier.
    pub(crate) fn store(&self) -> &Arc<RootCertStore> {
        &self.store
    }

    /// The certificates; none for those of the system.
    pub(crate) fn named(&self) -> Option<&[CertificateDer<'static>]> {
        self.named.as_deref()
    }

    /// The certificates in PEM, for those who read files; none for those of the system.
    pub(crate) fn pem(&self) -> Option<String> {
        let named = self.named.as_ref()?;
        Some(named.iter().map(|der| leaf::pem("CERTIFICATE", der)).collect())
    }
}

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.named == other.named && self.store.roots == other.store.roots
    }
}

impl Eq for Roots {}
