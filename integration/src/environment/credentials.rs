//! A certificate with its key, as a client or a server of the lab holds it.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;

use super::EnvironmentError;

/// A certificate chain, its key, and the CA that its holder trusts.
#[derive(Clone)]
pub struct Credentials {
    /// Leaf first, PEM.
    pub chain_pem: String,
    /// PKCS #8, PEM.
    pub key_pem: String,
    /// Whom the holder trusts, PEM.
    pub ca_pem: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("chain_pem", &self.chain_pem).finish_non_exhaustive()
    }
}

impl Credentials {
    /// The holder as a server that asks for a client certificate of the same CA.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Unreadable`], [`EnvironmentError::Tls`].
    pub fn server(&self) -> Result<ServerConfig, EnvironmentError> {
        let tls = |source| EnvironmentError::Tls { what: "the server's certificate", source };
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&self.ca_pem)?), provider()).build().map_err(
                |error| EnvironmentError::Unreadable { what: "the server's ca".to_owned(), text: error.to_string() },
            )?;
        ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain(&self.chain_pem)?, key(&self.key_pem)?)
            .map_err(tls)
    }
}

/// A server that asks nobody for a certificate.
///
/// # Errors
///
/// [`EnvironmentError::Unreadable`], [`EnvironmentError::Tls`].
pub(super) fn public_server(chain_pem: &str, key_pem: &str) -> Result<ServerConfig, EnvironmentError> {
    let tls = |source| EnvironmentError::Tls { what: "the server's certificate", source };
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_no_client_auth()
        .with_single_cert(chain(chain_pem)?, key(key_pem)?)
        .map_err(tls)
}

/// A client that trusts `ca_pem`, with a certificate of its own or none.
///
/// # Errors
///
/// [`EnvironmentError::Unreadable`], [`EnvironmentError::Tls`].
pub(super) fn client(ca_pem: &str, own: Option<&Credentials>) -> Result<ClientConfig, EnvironmentError> {
    let tls = |source| EnvironmentError::Tls { what: "the client's certificate", source };
    let trusting = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_root_certificates(roots(ca_pem)?);
    let mut config = match own {
        Some(own) => trusting.with_client_auth_cert(chain(&own.chain_pem)?, key(&own.key_pem)?).map_err(tls)?,
        None => trusting.with_no_client_auth(),
    };
    // Each connection is to show what a newcomer sees.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(ca_pem: &str) -> Result<RootCertStore, EnvironmentError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(ca_pem)? {
        roots.add(certificate).map_err(|source| EnvironmentError::Tls { what: "the ca", source })?;
    }
    Ok(roots)
}

/// The certificates of a PEM text.
///
/// # Errors
///
/// [`EnvironmentError::Unreadable`].
pub fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, EnvironmentError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| EnvironmentError::Unreadable { what: "a certificate".to_owned(), text: error.to_string() })
}

fn key(pem: &str) -> Result<PrivateKeyDer<'static>, EnvironmentError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| EnvironmentError::Unreadable { what: "a key".to_owned(), text: error.to_string() })
}
