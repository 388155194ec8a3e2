//! The service behind the gate: accepts mTLS only, and echoes what it saw as JSON, or goes on without an end.
//!
//! Its certificate comes from files that somebody else replaces; each connection gets the newest one.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use hyper::HeaderMap;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderValue;
use hyper::header::LOCATION;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use portcullis_policy::Leaf;
use serde::Deserialize;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::Credentials;
use super::EnvironmentError;
use super::client::HOST_NAME;
use super::endless;

/// Names of the files in the directory that the service reads.
const FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// Header by which a request asks the service to send it elsewhere, to this path. One that is there already is answered.
pub const ELSEWHERE: &str = "x-answer-elsewhere";

/// A request as the service saw it; also the body of its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path and query, as they came.
    pub path: String,
    /// Header fields in their order, duplicates kept.
    pub headers: Vec<(String, String)>,
    /// What followed the body, in its order.
    pub trailers: Vec<(String, String)>,
    /// Who the proxy is, by its client certificate.
    pub proxy: String,
}

impl Seen {
    /// The values of one header, in their order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// A running service. It ends when it is dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: AbortHandle,
}

impl Upstream {
    /// Listens at `address`, with the certificate that is in `directory` whenever somebody connects.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Socket`], if the address cannot be had.
    pub async fn start(address: SocketAddr, directory: PathBuf) -> Result<Self, EnvironmentError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| EnvironmentError::Socket { doing: "listen as the upstream", source })?;
        let seen = Arc::default();
        let task = tokio::spawn(accept(listener, directory, Arc::clone(&seen))).abort_handle();
        Ok(Self { address, seen, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes out what it saw since the last time.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, directory: PathBuf, seen: Arc<Mutex<Vec<Seen>>>) {
    // The connections end with this task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((tcp, _)) = accepted else { continue };
                // Without a certificate yet there is nothing to say: the connection is closed, and Envoy comes again.
                let Ok(credentials) = read(&directory) else { continue };
                connections.spawn(serve(tcp, credentials, Arc::clone(&seen)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Reads all files through one resolved generation, so that a swap in between cannot mix two of them.
fn read(directory: &std::path::Path) -> Result<Credentials, EnvironmentError> {
    let generation = fs::canonicalize(directory.join("..data")).unwrap_or_else(|_| directory.to_owned());
    let [chain_pem, key_pem, ca_pem] = FILES.map(|name| {
        let path = generation.join(name);
        fs::read_to_string(&path).map_err(|source| EnvironmentError::File { doing: "read", path, source })
    });
    Ok(Credentials { chain_pem: chain_pem?, key_pem: key_pem?, ca_pem: ca_pem? })
}

async fn serve(tcp: TcpStream, credentials: Credentials, seen: Arc<Mutex<Vec<Seen>>>) {
    let Ok(mut config) = credentials.server() else { return };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let _ = tcp.set_nodelay(true);
    // Whoever does not get through the handshake has seen our certificate by then: enough for a proof.
    let Ok(tls) = TlsAcceptor::from(Arc::new(config)).accept(tcp).await else { return };
    let connection = tls.get_ref().1;
    let leaf = connection.peer_certificates().and_then(<[_]>::first).and_then(|der| Leaf::from_der(der).ok());
    let proxy = leaf.map(|leaf| leaf.identity().to_owned()).unwrap_or_default();
    let is_http2 = connection.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| echo(request, proxy.clone(), Arc::clone(&seen)));
    let io = TokioIo::new(tls);
    // A connection that breaks is the client's to notice.
    if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        // What the gate lets through is not ours to refuse.
        builder.timer(TokioTimer::new()).max_header_list_size(1 << 20).max_concurrent_streams(1_000);
        let _ = builder.serve_connection(io, service).await;
    } else {
        let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service).with_upgrades().await;
    }
}

async fn echo(
    request: Request<Incoming>,
    proxy: String,
    log: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    if request.uri().path().starts_with(endless::PREFIX) {
        return Ok(endless::answer(request));
    }
    let (head, body) = request.into_parts();
    // Read to the end, or the connection could not be used again.
    let trailers = body.collect().await.ok().and_then(|body| body.trailers().cloned()).unwrap_or_default();
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let elsewhere = head.headers.get(ELSEWHERE).filter(|elsewhere| elsewhere.as_bytes() != path.as_bytes()).cloned();
    let seen = Seen {
        method: head.method.to_string(),
        path,
        headers: in_order(&head.headers),
        trailers: in_order(&trailers),
        proxy,
    };
    let body = serde_json::to_vec(&seen).unwrap_or_default();
    log.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    let mut response = Response::new(Full::from(body).boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(elsewhere) = elsewhere {
        *response.status_mut() = StatusCode::FOUND;
        response.headers_mut().extend(absolute(&elsewhere).map(|location| (LOCATION, location)));
    }
    Ok(response)
}

/// Proxies that follow a redirect themselves want the whole address.
fn absolute(path: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("https://{HOST_NAME}{}", path.to_str().ok()?)).ok()
}

fn in_order(fields: &HeaderMap) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| (name.to_string(), lossy(value))).collect()
}

fn lossy(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
