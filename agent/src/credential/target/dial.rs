//! The way to a server: TCP with or without TLS, or a Unix socket.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::Error;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::TargetError;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A port.
    Tcp {
        /// Name or address.
        host: String,
        /// Its port.
        port: u16,
        /// None on loopback only.
        tls: Option<Tls>,
    },
    /// A socket's file.
    Unix(PathBuf),
}

/// How TLS is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// What the server's certificate leads to; the system's roots where there is none.
    pub roots: Option<Vec<CertificateDer<'static>>>,
    /// What else is looked at.
    pub verify: Verify,
    /// Shown when the server asks for one, also in the login that tries a new password.
    pub client: Option<ClientPair>,
}

/// What a server's certificate is checked for beside its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Its chain and nothing else: any server of the same authority.
    Chain,
    /// That it names the host.
    Full,
}

/// A client's certificate and its key, read anew with each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPair {
    /// Chain in PEM.
    pub certificate: PathBuf,
    /// Key in PEM.
    pub key: PathBuf,
}

/// What is said before TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    /// PostgreSQL's `SSLRequest`.
    SslRequest,
}

/// Bytes to a server and back.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Place {
    /// Connects.
    pub(super) async fn dial(&self, before: Before, limit: Duration) -> Result<Box<dyn Stream>, TargetError> {
        let doing = "take the connection";
        let late = || TargetError::TimedOut { place: self.to_string(), doing, after: limit };
        tokio::time::timeout(limit, self.connect(before)).await.map_err(|_| late())?
    }

    async fn connect(&self, before: Before) -> Result<Box<dyn Stream>, TargetError> {
        let unreachable = |source| TargetError::Unreachable { place: self.to_string(), source };
        match self {
            Self::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(unreachable)?)),
            Self::Tcp { host, port, tls } => {
                let mut tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
                tcp.set_nodelay(true).map_err(unreachable)?;
                let Some(tls) = tls else { return Ok(Box::new(tcp)) };
                let connector = TlsConnector::from(Arc::new(tls.client_config(self)?));
                let failed = |source| TargetError::Tls { place: self.to_string(), source };
                if before == Before::SslRequest {
                    ssl_request(&mut tcp).await.map_err(failed)?;
                }
                let name = ServerName::try_from(host.clone()).map_err(|error| failed(io::Error::other(error)))?;
                Ok(Box::new(connector.connect(name, tcp).await.map_err(failed)?))
            }
        }
    }
}

impl Tls {
    fn client_config(&self, place: &Place) -> Result<ClientConfig, TargetError> {
        let failed = |source| TargetError::Tls { place: place.to_string(), source };
        let mut roots = RootCertStore::empty();
        match &self.roots {
            Some(given) => roots.add_parsable_certificates(given.iter().cloned()),
            None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        };
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| failed(io::Error::other(error)))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier.build().map_err(|error| failed(io::Error::other(error)))?;
        let builder = match self.verify {
            Verify::Full => builder.with_webpki_verifier(verifier),
            Verify::Chain => builder.dangerous().with_custom_certificate_verifier(Arc::new(ChainOnly { verifier })),
        };
        let Some(pair) = &self.client else { return Ok(builder.with_no_client_auth()) };
        let (chain, key) = pair.read()?;
        builder.with_client_auth_cert(chain, key).map_err(|error| failed(io::Error::other(error)))
    }
}

impl ClientPair {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TargetError> {
        let read = |path: &PathBuf| {
            let text = fs::read(path).map(Zeroizing::new);
            text.map_err(|source| TargetError::Read { path: path.clone(), source })
        };
        let malformed = |path: &PathBuf, what| TargetError::Read {
            path: path.clone(),
            source: io::Error::new(io::ErrorKind::InvalidData, what),
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(&self.certificate)?).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| malformed(&self.certificate, "no certificate in PEM"))?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?);
        Ok((chain, key.map_err(|_| malformed(&self.key, "no private key in PEM"))?))
    }
}

/// Asks PostgreSQL for TLS (its documentation, "Message Flow": SSL Session Encryption).
async fn ssl_request(tcp: &mut TcpStream) -> io::Result<()> {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    tcp.write_all(&SSL_REQUEST).await?;
    match tcp.read_u8().await? {
        b'S' => Ok(()),
        b'N' => Err(io::Error::other("the server has no tls")),
        _ => Err(io::Error::other("not a postgresql server")),
    }
}

/// Checks all but the name, as `sslmode=verify-ca` does.
#[derive(Debug)]
struct ChainOnly {
    verifier: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is what it looks at last.
        match self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
