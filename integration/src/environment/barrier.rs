//! The way to a CA, which a story closes and opens: TLS ends here and begins again behind. While it is closed, every request is
//! answered with 503 and a `Retry-After`.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use rcgen::ExtendedKeyUsagePurpose;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;

use super::EnvironmentError;
use crate::certificates::Authority;

/// The longest request that is read to be refused.
const LONGEST: usize = 64 * 1024;

/// An open or closed way. It ends when it is dropped.
#[derive(Debug)]
pub struct Barrier {
    address: SocketAddr,
    ca_pem: String,
    closed: watch::Sender<Option<Duration>>,
    refused: Arc<Mutex<Vec<Instant>>>,
    task: AbortHandle,
}

/// What each connection needs.
#[derive(Clone)]
struct Way {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    behind: SocketAddr,
    closed: watch::Receiver<Option<Duration>>,
    refused: Arc<Mutex<Vec<Instant>>>,
}

impl Barrier {
    /// An open way to `behind`, whose own TLS `ca_pem` vouches for.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn before(behind: SocketAddr, ca_pem: &str) -> Result<Self, EnvironmentError> {
        let socket = |source| EnvironmentError::Socket { doing: "listen before a CA", source };
        let unreadable = |what: &str, error: &dyn std::error::Error| EnvironmentError::Unreadable {
            what: what.to_owned(),
            text: super::chain(error),
        };
        let authority = Authority::new("the TLS of the way to a CA");
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let leaf =
            authority.leaf().ip(loopback).dns("localhost").usages(&[ExtendedKeyUsagePurpose::ServerAuth]).issue();
        let key =
            PrivateKeyDer::from_pem_slice(leaf.key_pem().as_bytes()).map_err(|error| unreadable("a key", &error))?;
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(leaf.der().to_vec())], key)
            .map_err(|source| EnvironmentError::Tls { what: "a certificate", source })?;
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|error| unreadable("a CA", &error))?;
        roots.add(root).map_err(|source| EnvironmentError::Tls { what: "a CA", source })?;
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();

        let listener = TcpListener::bind((loopback, 0)).await.map_err(socket)?;
        let address = listener.local_addr().map_err(socket)?;
        let (closed, watched) = watch::channel(None);
        let refused = Arc::default();
        let way = Way {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            behind,
            closed: watched,
            refused: Arc::clone(&refused),
        };
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(way.clone().carry(stream));
            }
        });
        Ok(Self { address, ca_pem: authority.pem(), closed, refused, task: task.abort_handle() })
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The CA of its own TLS, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Breaks every connection, and refuses every request, asking to come back after this time.
    pub fn close(&self, retry_after: Duration) {
        self.closed.send_replace(Some(retry_after));
    }

    /// Lets everybody through again.
    pub fn open(&self) {
        self.closed.send_replace(None);
    }

    /// When requests were refused.
    pub fn refused(&self) -> Vec<Instant> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Way {
    /// One connection to its end, whatever that is.
    async fn carry(mut self, stream: TcpStream) {
        let Ok(mut near) = self.acceptor.accept(stream).await else { return };
        let retry_after = *self.closed.borrow_and_update();
        if let Some(retry_after) = retry_after {
            if !read_request(&mut near).await {
                return;
            }
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            let answer = format!(
                "HTTP/1.1 503 Service Unavailable\r\nretry-after: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                retry_after.as_secs()
            );
            let _ = near.write_all(answer.as_bytes()).await;
            let _ = near.shutdown().await;
            return;
        }
        let Ok(stream) = TcpStream::connect(self.behind).await else { return };
        let Ok(name) = ServerName::try_from("localhost") else { return };
        let Ok(mut far) = self.connector.connect(name, stream).await else { return };
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = self.closed.wait_for(Option::is_some) => {}
        }
    }
}

/// Reads one request, for who is cut off in the middle of one does not hear the answer.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut request = Vec::new();
    loop {
        if let Some(head) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
            let length =
                text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            if request.len() >= head + 4 + length.unwrap_or(0) {
                return true;
            }
        }
        if request.len() > LONGEST || !stream.read_buf(&mut request).await.is_ok_and(|count| count > 0) {
            return false;
        }
    }
}
