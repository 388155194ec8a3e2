//! A server of one document, on loopback.

use std::convert::Infallible;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::CACHE_CONTROL;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderValue;
use hyper::rt::Read;
use hyper::rt::Write;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::EnvironmentError;

/// A running server. It ends when it is dropped.
#[derive(Debug)]
pub struct DocumentServer {
    address: SocketAddr,
    published: Arc<Mutex<Published>>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Published {
    content_type: &'static str,
    document: Bytes,
    /// How often it was asked for.
    asked: usize,
}

impl DocumentServer {
    /// Starts one of this media type, with nothing in it yet; over TLS if there is something to accept it with.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Socket`], if there is no port to be had.
    pub async fn start(content_type: &'static str, tls: Option<TlsAcceptor>) -> Result<Self, EnvironmentError> {
        let socket = |source| EnvironmentError::Socket { doing: "listen with a document", source };
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await.map_err(socket)?;
        let address = listener.local_addr().map_err(socket)?;
        let published = Arc::new(Mutex::new(Published { content_type, document: Bytes::new(), asked: 0 }));
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&published))).abort_handle();
        Ok(Self { address, published, task })
    }

    /// Publishes this document from now on.
    pub fn publish(&self, document: impl Into<Bytes>) {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).document = document.into();
    }

    /// How often somebody asked.
    pub fn asked(&self) -> usize {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).asked
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for DocumentServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, published: Arc<Mutex<Published>>) {
    // The connections end with this task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((tcp, _)) = accepted else { continue };
                let (tls, published) = (tls.clone(), Arc::clone(&published));
                connections.spawn(async move {
                    match tls {
                        None => serve(TokioIo::new(tcp), &published).await,
                        Some(acceptor) => {
                            // What breaks is the other side's to notice.
                            let Ok(tls) = acceptor.accept(tcp).await else { return };
                            serve(TokioIo::new(tls), &published).await;
                        }
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(io: impl Read + Write + Unpin, published: &Mutex<Published>) {
    let service = service_fn(|_| answer(published));
    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service).await;
}

fn answer(published: &Mutex<Published>) -> impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> + use<> {
    let mut published = published.lock().unwrap_or_else(PoisonError::into_inner);
    published.asked += 1;
    let mut response = Response::new(Full::from(published.document.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(published.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
    std::future::ready(Ok(response))
}
