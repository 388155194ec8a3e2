//! A CA that says what a test has it say, and remembers what it was asked. It checks no signature.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::stream;
use http_body_util::BodyExt as _;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::Request;
use hyper::Response;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use portcullis::issuer::acme::Acme;
use portcullis::issuer::acme::Challenge;
use portcullis::issuer::acme::Directory;
use portcullis::issuer::acme::Patience;
use portcullis::issuer::acme::Settings;
use portcullis::store::Store;
use portcullis_integration::certificates::Authority;
use portcullis_integration::environment::free_port;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::install_provider;

/// What is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Nothing at all.
    pub(crate) silent: bool,
    /// One byte a second.
    pub(crate) slow: bool,
}

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) payload: Value,
}

/// A server on loopback; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Fake {
    address: SocketAddr,
    ca_pem: String,
    script: Arc<Mutex<Script>>,
    connections: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Script {
    replies: HashMap<&'static str, Reply>,
    asked: Vec<Asked>,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self { status, body: body.to_string().into_bytes(), ..Self::default() }
    }

    pub(crate) fn problem(status: u16, kind: &str, detail: &str) -> Self {
        Self::json(status, &json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail }))
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Fake {
    /// One that has a directory, and makes accounts.
    pub(crate) async fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// The same at this address and no other.
    pub(crate) async fn start_at(ip: IpAddr) -> Self {
        install_provider();
        let authority = Authority::new("the fake's own TLS");
        let leaf = authority.leaf().ip(ip).usages(&[ExtendedKeyUsagePurpose::ServerAuth]).issue();
        let chain = vec![CertificateDer::from(leaf.der().to_vec())];
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind((ip, 0)).await.expect(
            "the loopback; `sysctl net.ipv6.conf.lo.disable_ipv6=0` brings that of IPv6 back, in a container \
             `docker run --sysctl net.ipv6.conf.all.disable_ipv6=0`",
        );
        let fake = Self {
            address: listener.local_addr().unwrap(),
            ca_pem: authority.pem(),
            script: Arc::default(),
            connections: Arc::default(),
        };
        let url = |path: &str| fake.url(path);
        fake.say(
            "/dir",
            Reply::json(
                200,
                &json!({
                    "newNonce": url("/nonce"),
                    "newAccount": url("/account"),
                    "newOrder": url("/order"),
                    "renewalInfo": url("/renewal"),
                }),
            ),
        );
        fake.say("/nonce", Reply { status: 200, ..Reply::default() });
        fake.say("/account", Reply::json(201, &json!({ "status": "valid" })).with("Location", url("/account/1")));
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), fake.clone()));
        fake
    }

    /// Who is to be believed about its TLS.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// Answers this from now on.
    pub(crate) fn say(&self, path: &'static str, reply: Reply) {
        self.script.lock().unwrap().replies.insert(path, reply);
    }

    /// Everything that was asked at a path.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        let script = self.script.lock().unwrap();
        script.asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    pub(crate) fn asked_in_all(&self) -> usize {
        self.script.lock().unwrap().asked.len()
    }

    /// How often somebody connected.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn acme(&self, store: &Arc<dyn Store>) -> Acme {
        self.acme_proving(store, Challenge::Http01 { listen: free_port().unwrap() })
    }

    pub(crate) fn acme_proving(&self, store: &Arc<dyn Store>, challenge: Challenge) -> Acme {
        let settings = Settings::new(Directory::parse(&self.url("/dir")).unwrap(), challenge);
        let patience =
            Patience { connect: Duration::from_secs(5), answer: Duration::from_secs(1), work: Duration::from_secs(2) };
        let settings = Settings { patience, ..settings }.trusting(&self.ca_pem).unwrap();
        Acme::new("fake".to_owned(), settings, Arc::clone(store)).unwrap()
    }

    /// An order in a state, with a certificate's URL.
    pub(crate) fn order(&self, status: &str) -> Value {
        json!({
            "status": status,
            "authorizations": [],
            "finalize": self.url("/finalize"),
            "certificate": self.url("/certificate"),
        })
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, fake: Fake) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else { continue };
        let (acceptor, fake) = (acceptor.clone(), fake.clone());
        fake.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let service = service_fn(|request| answer(request, fake.clone()));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    fake: Fake,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let payload = serde_json::from_slice::<Value>(&body).ok().and_then(|jws| {
        let payload = BASE64_URL_SAFE_NO_PAD.decode(jws.get("payload")?.as_str()?).ok()?;
        serde_json::from_slice(&payload).ok()
    });
    let reply = {
        let mut script = fake.script.lock().unwrap();
        script.asked.push(Asked { path: path.clone(), payload: payload.unwrap_or_default() });
        let found = script.replies.iter().find(|(place, _)| path == **place || path.starts_with(&format!("{place}/")));
        let exact = script.replies.get(path.as_str());
        exact.or_else(|| found.map(|(_, reply)| reply)).cloned()
    };
    let reply = reply.unwrap_or_else(|| Reply::problem(404, "malformed", "no such place"));
    if reply.silent {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(reply.status).header("Replay-Nonce", "nonce");
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    let parts = if reply.slow { 1 } else { reply.body.len().max(1) };
    let parts: Vec<Bytes> = reply.body.chunks(parts).map(Bytes::copy_from_slice).collect();
    let body = stream::unfold(parts.into_iter(), move |mut parts| async move {
        let part = parts.next()?;
        if reply.slow {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Some((Ok(Frame::data(part)), parts))
    });
    Ok(response.body(UnsyncBoxBody::new(StreamBody::new(body))).unwrap())
}
