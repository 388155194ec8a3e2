//! Where an issuer of tokens publishes its keys: a JWK Set over https, from a CA of its own.

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
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::EnvironmentError;
use super::credentials;
use crate::certificates::Authority;

/// A running server. It ends when it is dropped.
#[derive(Debug)]
pub struct KeyServer {
    address: SocketAddr,
    ca_pem: String,
    published: Arc<Mutex<Published>>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Published {
    document: Bytes,
    /// How often it was asked for.
    asked: usize,
}

impl KeyServer {
    /// Starts one that publishes these keys.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], if there is no port or no certificate to be had.
    pub async fn start(keys: &[Value]) -> Result<Self, EnvironmentError> {
        let authority = Authority::new("the issuer's");
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let leaf = authority.leaf().ip(loopback).usages(&[ExtendedKeyUsagePurpose::ServerAuth]).issue();
        let acceptor = TlsAcceptor::from(Arc::new(credentials::public_server(&leaf.pem(), leaf.key_pem())?));
        let socket = |source| EnvironmentError::Socket { doing: "listen as the issuer of tokens", source };
        let listener = TcpListener::bind((loopback, 0)).await.map_err(socket)?;
        let address = listener.local_addr().map_err(socket)?;
        let published = Arc::default();
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&published))).abort_handle();
        let server = Self { address, ca_pem: authority.pem(), published, task };
        server.publish(keys);
        Ok(server)
    }

    /// Publishes these keys from now on.
    pub fn publish(&self, keys: &[Value]) {
        let document = json!({ "keys": keys }).to_string().into();
        self.published.lock().unwrap_or_else(PoisonError::into_inner).document = document;
    }

    /// How often somebody asked.
    pub fn asked(&self) -> usize {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).asked
    }

    /// Where the keys are.
    pub fn url(&self) -> String {
        format!("https://{}/jwks", self.address)
    }

    /// The CA that vouches for the server, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, published: Arc<Mutex<Published>>) {
    // The connections end with this task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((tcp, _)) = accepted else { continue };
                let (acceptor, published) = (acceptor.clone(), Arc::clone(&published));
                connections.spawn(async move {
                    // What breaks is the other side's to notice.
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(|_| answer(&published));
                    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(tls), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

fn answer(published: &Mutex<Published>) -> impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> + use<> {
    let mut published = published.lock().unwrap_or_else(PoisonError::into_inner);
    published.asked += 1;
    let mut response = Response::new(Full::from(published.document.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
    std::future::ready(Ok(response))
}
