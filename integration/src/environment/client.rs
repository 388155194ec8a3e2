//! A client of the gate: mTLS, HTTP/1.1 or HTTP/2, over connections that it keeps or not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Method;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper::header::HOST;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use rustls::AlertDescription;
use rustls::ClientConfig;
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Credentials;
use super::EnvironmentError;
use super::Open;
use super::credentials;

/// What clients call the gate.
pub const HOST_NAME: &str = "orders.acme.example";

/// Longer than anything takes that is not broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// In TLS 1.3 the client is done before the server has looked at its certificate: so long may that take.
const REFUSAL: Duration = Duration::from_secs(5);

/// HTTP version that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        })
    }
}

/// Somebody who talks to the gate. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    host: String,
    protocol: Protocol,
    tls: Arc<ClientConfig>,
}

/// One connection to the gate.
#[derive(Debug)]
pub struct Connection {
    host: String,
    sender: Sender,
    leaf: CertificateDer<'static>,
    handshake: Option<HandshakeKind>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A request to be.
#[derive(Clone, Debug)]
pub struct Ask {
    method: Method,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect to {address}")]
    Connect {
        /// The gate.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The TLS handshake failed.
    #[error("tls handshake failed")]
    Handshake(#[source] std::io::Error),
    /// The HTTP connection could not be set up, or ended in the middle. In TLS 1.3 a refused client certificate is
    /// first seen here; [`ClientError::alert`] finds it.
    #[error("connection failed")]
    Http(#[source] hyper::Error),
    /// Bytes could not be sent or received.
    #[error("connection broke")]
    Broken(#[source] std::io::Error),
    /// The request cannot be expressed by this client.
    #[error("cannot build the request")]
    Request(#[source] hyper::http::Error),
    /// No answer in time.
    #[error("no answer within {PATIENCE:?}")]
    Silent,
}

impl ClientError {
    /// The TLS alert with which the other side refused, if that is what happened.
    pub fn alert(&self) -> Option<AlertDescription> {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = next {
            // An `io::Error` hides the error inside it from `source()`.
            let inner = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
            let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
            if let Some(rustls::Error::AlertReceived(alert)) = tls.or_else(|| error.downcast_ref()) {
                return Some(*alert);
            }
            next = error.source();
        }
        None
    }

    /// A word for it, to count by.
    pub fn kind(&self) -> String {
        match (self.alert(), self) {
            (Some(alert), _) => format!("tls alert {alert:?}"),
            (None, Self::Connect { .. }) => "connection refused".to_owned(),
            (None, Self::Handshake(_)) => "handshake failed".to_owned(),
            (None, Self::Http(_) | Self::Broken(_)) => "connection broke".to_owned(),
            (None, Self::Request(_)) => "request impossible".to_owned(),
            (None, Self::Silent) => "no answer".to_owned(),
        }
    }
}

impl Client {
    /// A client that trusts `ca_pem`, with a certificate or without.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Unreadable`] or [`EnvironmentError::Tls`], if the certificate cannot be used.
    pub fn new(
        address: SocketAddr,
        ca_pem: &str,
        own: Option<&Credentials>,
        protocol: Protocol,
    ) -> Result<Self, EnvironmentError> {
        let mut tls = credentials::client(ca_pem, own)?;
        tls.alpn_protocols = vec![match protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        Ok(Self { address, host: HOST_NAME.to_owned(), protocol, tls: Arc::new(tls) })
    }

    /// The same client, which calls the gate by another name.
    #[must_use]
    pub fn asking_for(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// The same client with the tickets of a browser: it resumes its sessions where the server lets it.
    #[must_use]
    pub fn resuming(mut self) -> Self {
        let mut tls = ClientConfig::clone(&self.tls);
        tls.resumption = rustls::client::Resumption::in_memory_sessions(8);
        self.tls = Arc::new(tls);
        self
    }

    /// The same client, with the same tickets, at another address.
    #[must_use]
    pub fn at(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// The same client, which does not say what it speaks.
    #[must_use]
    pub fn without_alpn(mut self) -> Self {
        let mut tls = ClientConfig::clone(&self.tls);
        tls.alpn_protocols.clear();
        self.tls = Arc::new(tls);
        self
    }

    /// What it speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Opens a TLS connection and says nothing over it yet.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn connect_tls(&self) -> Result<TlsStream<TcpStream>, ClientError> {
        let name = ServerName::try_from(self.host.clone())
            .map_err(|error| ClientError::Handshake(std::io::Error::other(error)))?;
        timely(async {
            let tcp = TcpStream::connect(self.address)
                .await
                .map_err(|source| ClientError::Connect { address: self.address, source })?;
            tcp.set_nodelay(true).map_err(ClientError::Broken)?;
            TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await.map_err(ClientError::Handshake)
        })
        .await
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn connect(&self) -> Result<Connection, ClientError> {
        let tls = self.connect_tls().await?;
        let leaf = leaf_of(&tls)?;
        let handshake = tls.get_ref().1.handshake_kind();
        let io = TokioIo::new(tls);
        let sender = match self.protocol {
            Protocol::Http1 => {
                let (sender, connection) =
                    timely(async { http1::handshake(io).await.map_err(ClientError::Http) }).await?;
                // Its errors come out at the request that they concern.
                tokio::spawn(connection.with_upgrades());
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let handshake = http2::Builder::new(TokioExecutor::new()).handshake(io);
                let (sender, connection) = timely(async { handshake.await.map_err(ClientError::Http) }).await?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Connection { host: self.host.clone(), sender, leaf, handshake })
    }

    /// Asks once, over a connection of its own.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn ask(&self, ask: &Ask) -> Result<Answer, ClientError> {
        self.connect().await?.ask(ask).await
    }

    /// Shakes hands, sends nothing, and waits for the gate to refuse us; `None` if it does not.
    ///
    /// A request could cross the alert, and the connection would end before the alert is read.
    ///
    /// # Errors
    ///
    /// [`ClientError`], if it is something else than a refusal that ends the connection.
    pub async fn refusal(&self) -> Result<Option<AlertDescription>, ClientError> {
        let opened = async {
            let mut tls = self.connect_tls().await?;
            let read = tokio::time::timeout(REFUSAL, tls.read_u8()).await;
            read.map_or(Ok(()), |read| read.map(drop).map_err(ClientError::Broken))
        };
        match opened.await {
            Ok(()) => Ok(None),
            Err(error) => error.alert().map(Some).ok_or(error),
        }
    }

    /// Shakes hands and says which leaf the gate serves. The handshake counts; whether the gate accepts us does not.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn leaf(&self) -> Result<CertificateDer<'static>, ClientError> {
        leaf_of(&self.connect_tls().await?)
    }
}

fn leaf_of(tls: &TlsStream<TcpStream>) -> Result<CertificateDer<'static>, ClientError> {
    let leaf = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let none = || ClientError::Handshake(std::io::Error::other("the server showed no certificate"));
    leaf.map(|leaf| leaf.clone().into_owned()).ok_or_else(none)
}

impl Connection {
    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn ask(&mut self, ask: &Ask) -> Result<Answer, ClientError> {
        timely(async {
            let (head, body) = self.send(ask).await?.into_parts();
            let body = body.collect().await.map_err(ClientError::Http)?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        })
        .await
    }

    /// Asks, and waits for the beginning of the answer. HTTP/1.1 can do nothing else meanwhile.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn open(&mut self, ask: &Ask) -> Result<Open, ClientError> {
        timely(async { Open::new(self.send(ask).await?).await }).await
    }

    async fn send(&mut self, ask: &Ask) -> Result<Response<Incoming>, ClientError> {
        let mut builder = hyper::Request::builder().method(ask.method.clone());
        builder = match self.sender {
            Sender::Http1(_) => builder.uri(&ask.path).header(HOST, &self.host),
            Sender::Http2(_) => builder.uri(format!("https://{}{}", self.host, ask.path)),
        };
        for (name, value) in &ask.headers {
            builder = builder.header(name, value.as_slice());
        }
        let request = builder.body(Full::default()).map_err(ClientError::Request)?;
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(ClientError::Http)?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(ClientError::Http)?;
                sender.send_request(request).await
            }
        };
        response.map_err(ClientError::Http)
    }

    /// Whether the other side has ended the connection; asking would fail.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Whether the session of an earlier connection was resumed: nobody looked at our certificate then.
    pub fn is_resumed(&self) -> bool {
        self.handshake == Some(HandshakeKind::Resumed)
    }

    /// The leaf that the gate showed when the connection was opened.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.leaf
    }
}

impl Ask {
    /// `GET path`.
    pub fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    /// `method path`.
    pub fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), headers: Vec::new() }
    }

    /// With one more header field; any bytes that HTTP allows.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }
}

impl Answer {
    /// The reason code in a refusal's body; empty if there is none.
    pub fn code(&self) -> String {
        self.json().get("code").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

async fn timely<T>(work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(ClientError::Silent))
}
