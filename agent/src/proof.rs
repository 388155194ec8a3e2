//! Proof that a certificate is served: a TLS handshake with the listener, as a client would make it.
//!
//! A listener with certificates of several kinds of keys shows one of them to each client. Which one that is follows from
//! what the client offers, so that the prover offers what goes with the one that is to be seen.
//!
//! Absent here: what should be served, and what to do if it is not. The handshake reports what it saw, also when a
//! client would refuse it.

mod key_type;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::Resumption;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::crypto::verify_tls12_signature;
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::server::ParsedCertificate;
use serde::Deserialize;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;

use crate::issuer::Roots;
use crate::leaf::Leaf;
use crate::leaf::LeafError;
use crate::status::LeafStatus;

pub use key_type::KeyType;

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

/// Shakes hands with listeners. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Prover {
    configs: Arc<Configs>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

/// What is offered for each kind of key. Complete but for the verifier, which is made anew for each handshake to remember
/// what it saw.
#[derive(Debug)]
struct Configs {
    any: ClientConfig,
    ecdsa: ClientConfig,
    ed25519: ClientConfig,
    rsa: ClientConfig,
}

/// What a listener showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The leaf it served.
    pub leaf: LeafStatus,
    /// The leaf as it came.
    pub der: CertificateDer<'static>,
    /// Why a client that trusts our roots and asks for this name would not accept it; none if it would.
    pub distrusted: Option<String>,
    /// Version of the protocol, if the handshake was completed. In TLS 1.2 a listener that does not accept our client
    /// certificate breaks it off, but only after it showed its own.
    pub tls_version: Option<&'static str>,
}

/// Why the prover cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the prover's certificates cannot be used")]
pub struct ProverError(#[source] rustls::Error);

/// Why no certificate was seen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Nobody listens there, or the network is in the way.
    #[error("cannot connect to `{address}`")]
    Connect {
        /// The listener.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What answered does not speak TLS, or has no certificate for this name.
    #[error("`{address}` showed no certificate")]
    Handshake {
        /// The listener.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The leaf that came is not a certificate.
    #[error("`{address}` showed something that is not a certificate")]
    MalformedLeaf {
        /// The listener.
        address: String,
    },
    /// No listener can be asked for this name.
    #[error("`{name}` is not a server name")]
    ServerName {
        /// The name.
        name: String,
    },
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
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root).map_err(ProverError)?;
        }
        let roots = Arc::new(store);
        let configs = Arc::new(Configs::new(&provider, &roots, client)?);
        Ok(Self { configs, roots, provider })
    }

    /// The same with other roots.
    #[must_use]
    pub(crate) fn trusting(&self, roots: &Roots) -> Self {
        Self { roots: Arc::clone(roots.store()), ..self.clone() }
    }

    /// Shakes hands and says which leaf was served. Compare it with the stored one by its SHA-256.
    ///
    /// With a `key`, a listener that has a certificate of such a key cannot show another. One that shows none is asked for
    /// whatever it has: then that is what was seen, and distrusted for there is none of such a key.
    ///
    /// # Errors
    ///
    /// [`ProofError`], if no certificate came.
    pub async fn leaf_at(
        &self,
        at: &ServedAt,
        key: Option<KeyType>,
        timeout: Duration,
    ) -> Result<Sighting, ProofError> {
        let (first, key) = match (self.look(at, key, timeout).await, key) {
            (Err(error @ ProofError::Handshake { .. }), Some(key)) => (error, key),
            (outcome, _) => return outcome,
        };
        let mut seen = self.look(at, None, timeout).await.map_err(|_| first)?;
        if KeyType::of(&seen.der) == Some(key) {
            return Ok(seen);
        }
        // A connection that only broke off does not do so twice.
        if let Ok(seen) = self.look(at, Some(key), timeout).await {
            return Ok(seen);
        }
        seen.distrusted = Some(format!("no certificate of an {key} key is served here"));
        Ok(seen)
    }

    async fn look(&self, at: &ServedAt, key: Option<KeyType>, timeout: Duration) -> Result<Sighting, ProofError> {
        let ServedAt { address, sni } = at;
        let host = sni.as_deref().unwrap_or_else(|| host_of(address));
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| ProofError::ServerName { name: host.to_owned() })?;
        let deadline = Instant::now() + timeout;
        let timed_out = |_| ProofError::TimedOut { address: address.clone(), timeout };

        let connecting = timeout_at(deadline, TcpStream::connect(address.as_str())).await.map_err(timed_out)?;
        let tcp = connecting.map_err(|source| ProofError::Connect { address: address.clone(), source })?;
        let witness = Arc::new(Witness {
            roots: Arc::clone(&self.roots),
            provider: Arc::clone(&self.provider),
            key,
            seen: Mutex::new(None),
        });
        let mut config = self.configs.of(key).clone();
        config.dangerous().set_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>);
        let handshake = timeout_at(deadline, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await;

        let Some(Seen { der, mut distrusted }) = witness.take() else {
            return Err(match handshake {
                Err(elapsed) => timed_out(elapsed),
                Ok(Err(source)) => ProofError::Handshake { address: address.clone(), source },
                // The suites offered all authenticate the server, so that a handshake without a certificate fails.
                Ok(Ok(_)) => ProofError::MalformedLeaf { address: address.clone() },
            });
        };
        let leaf = Leaf::from_der(&der).map_err(|LeafError| ProofError::MalformedLeaf { address: address.clone() })?;
        let mut tls_version = None;
        match handshake {
            Ok(Ok(mut stream)) => {
                tls_version = stream.get_ref().1.protocol_version().and_then(|version| version.as_str());
                // A listener counts a connection that vanishes as an error.
                let _ = timeout_at(deadline, stream.shutdown()).await;
            }
            Ok(Err(error)) => {
                distrusted.get_or_insert_with(|| format!("handshake failed: {error}"));
            }
            Err(_) => {
                distrusted.get_or_insert_with(|| format!("handshake not completed within {timeout:?}"));
            }
        }
        Ok(Sighting { leaf: leaf.status(), der, distrusted, tls_version })
    }
}

impl Configs {
    fn new(
        provider: &Arc<CryptoProvider>,
        roots: &Arc<RootCertStore>,
        client: Option<ClientIdentity>,
    ) -> Result<Self, ProverError> {
        let builder = |provider: Arc<CryptoProvider>| {
            let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            builder.map(|builder| builder.with_root_certificates(Arc::clone(roots))).map_err(ProverError)
        };
        let mut any = match client {
            None => builder(Arc::clone(provider))?.with_no_client_auth(),
            Some(ClientIdentity { chain, key }) => {
                builder(Arc::clone(provider))?.with_client_auth_cert(chain, key).map_err(ProverError)?
            }
        };
        // A resumed session shows no certificate.
        any.resumption = Resumption::disabled();
        let for_key = |key: KeyType| {
            let mut provider = CryptoProvider::clone(provider);
            provider.cipher_suites.retain(|suite| key.goes_with(*suite));
            let resolver = Arc::clone(&any.client_auth_cert_resolver);
            let mut config = builder(Arc::new(provider))?.with_client_cert_resolver(resolver);
            config.resumption = Resumption::disabled();
            Ok(config)
        };
        let (ecdsa, ed25519, rsa) = (for_key(KeyType::Ecdsa)?, for_key(KeyType::Ed25519)?, for_key(KeyType::Rsa)?);
        Ok(Self { any, ecdsa, ed25519, rsa })
    }

    fn of(&self, key: Option<KeyType>) -> &ClientConfig {
        match key {
            None => &self.any,
            Some(KeyType::Ecdsa) => &self.ecdsa,
            Some(KeyType::Ed25519) => &self.ed25519,
            Some(KeyType::Rsa) => &self.rsa,
        }
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
pub(crate) fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// A verifier that lets any chain pass, so that the handshake goes on, and remembers it together with what a strict one
/// would have said. That the server holds the key of the leaf is not waived.
#[derive(Debug)]
struct Witness {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    /// Only what such a key signs with is offered.
    key: Option<KeyType>,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    der: CertificateDer<'static>,
    distrusted: Option<String>,
}

impl Witness {
    fn take(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let leaf = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &self.roots, intermediates, now, algorithms)?;
        verify_server_name(&leaf, name)
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self.judge(end_entity, intermediates, server_name, now);
        let seen =
            Seen { der: end_entity.clone().into_owned(), distrusted: verdict.err().map(|error| error.to_string()) };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.provider.signature_verification_algorithms.supported_schemes();
        schemes.retain(|scheme| self.key.is_none_or(|key| key.signs(*scheme)));
        schemes
    }
}

#[cfg(test)]
mod tests;
