//! Requests to one CA, with bounds in time and size, and what its answers say beside their bodies.
//!
//! The library signs, and knows nonces; it has no time-outs, and reads neither `Retry-After` of a refusal nor `Link`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use hyper::header::LOCATION;
use hyper::header::USER_AGENT;
use instant_acme::BodyWrapper;
use instant_acme::BytesResponse;
use instant_acme::HttpClient;
use portcullis_policy::UnixTime;
use reqwest::Client;
use reqwest::redirect::Policy;

use super::error::AcmeError;
use super::headers;
use super::problem::Problem;
use super::settings::Settings;
use crate::fetch::FetchError;
use crate::leaf;

/// The longest answer that is read. A chain with many certificates has some tens of kilobytes.
const LONGEST: u64 = 1 << 20;
const AGENT: &str = concat!("portcullis/", env!("CARGO_PKG_VERSION"), " (instant-acme)");

/// The connections to one CA, shared by all of its orders.
pub(super) struct Transport {
    settings: Arc<Settings>,
    /// Made anew after a failure: connections that hang, and addresses that moved, are not met again.
    client: Mutex<Option<Client>>,
    clock_offset: Mutex<Option<i64>>,
}

/// Requests that follow each other, and the last answer to one of them.
#[derive(Clone)]
pub(super) struct Conversation {
    transport: Arc<Transport>,
    last: Arc<Mutex<Option<Answer>>>,
}

/// What the CA answered.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) at: UnixTime,
}

impl Transport {
    pub(super) fn new(settings: Arc<Settings>) -> Result<Self, AcmeError> {
        let transport = Self { settings, client: Mutex::default(), clock_offset: Mutex::default() };
        let host = || transport.settings.directory.host().to_owned();
        transport.client().map_err(|source| AcmeError::Network { host: host(), source })?;
        Ok(transport)
    }

    /// Begins anew: connections, what they know of addresses and of the server's TLS.
    pub(super) fn renew(&self) {
        *lock(&self.client) = None;
    }

    /// Seconds that the CA's clock was ahead of ours when it answered last.
    pub(super) fn clock_offset(&self) -> Option<i64> {
        *lock(&self.clock_offset)
    }

    fn client(&self) -> Result<Client, FetchError> {
        let mut held = lock(&self.client);
        if let Some(client) = &*held {
            return Ok(client.clone());
        }
        let directory = &self.settings.directory;
        let mut builder = Client::builder()
            .connect_timeout(self.settings.patience.connect)
            .timeout(self.settings.patience.answer)
            .https_only(true)
            // A signature is good for one URL (RFC 8555 §6.4).
            .redirect(Policy::none());
        if directory.host() == "localhost" || directory.host().trim_matches(['[', ']']).parse().is_ok_and(is_loopback) {
            builder = builder.no_proxy();
        }
        if let Some(roots) = &self.settings.server_roots {
            builder = builder.tls_certs_only(roots.clone());
        }
        let failed = |source| FetchError::Connect { host: directory.host().to_owned(), source };
        let client = builder.build().map_err(failed)?;
        *held = Some(client.clone());
        Ok(client)
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Answer, FetchError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let failed = |source: reqwest::Error| {
            *lock(&self.client) = None;
            // The URLs of an account are its own business.
            let source = source.without_url();
            match &source {
                error if error.is_timeout() => FetchError::TimedOut(source),
                error if error.is_connect() || error.is_builder() => FetchError::Connect { host: host.clone(), source },
                _ => FetchError::Interrupted(source),
            }
        };
        let client = self.client()?;
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let mut response = client.execute(request).await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if (body.len() + chunk.len()) as u64 > LONGEST {
                *lock(&self.client) = None;
                return Err(FetchError::TooLarge(LONGEST));
            }
            body.extend_from_slice(&chunk);
        }
        let at = leaf::now();
        if let Some(date) = headers::date(response.headers()) {
            *lock(&self.clock_offset) = Some(date.0 - at.0);
        }
        Ok(Answer { status: response.status(), headers: response.headers().clone(), body: body.into(), at })
    }
}

impl Conversation {
    pub(super) fn new(transport: Arc<Transport>) -> Self {
        Self { transport, last: Arc::default() }
    }

    /// The last answer.
    pub(super) fn last(&self) -> Option<Answer> {
        lock(&self.last).clone()
    }

    /// Asks without an account.
    pub(super) async fn get(&self, url: &str) -> Result<Answer, AcmeError> {
        let request = Request::get(url).header(USER_AGENT, AGENT).body(Bytes::new());
        let request = request.map_err(|_| AcmeError::Url { url: super::problem::clean(url) })?;
        self.exchange(request).await.map_err(|source| AcmeError::Network { host: self.host(), source })
    }

    /// What a failure of the library means, seen together with the answer that it is about.
    pub(super) fn error(&self, error: instant_acme::Error) -> AcmeError {
        let host = self.host();
        let error = match error {
            instant_acme::Error::Other(inner) => match inner.downcast::<FetchError>() {
                Ok(source) => return AcmeError::Network { host, source: *source },
                Err(inner) => instant_acme::Error::Other(inner),
            },
            error => error,
        };
        match self.last() {
            Some(answer) if !answer.status.is_success() => answer.refusal(&host),
            _ => AcmeError::Answer { host, source: Box::new(error) },
        }
    }

    /// When the CA asks to come back, by its last answer.
    pub(super) fn retry_after(&self) -> Option<UnixTime> {
        self.last().and_then(|answer| answer.retry_after())
    }

    pub(super) fn host(&self) -> String {
        self.transport.settings.directory.host().to_owned()
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Answer, FetchError> {
        // An error is not to be explained by an answer to something else.
        *lock(&self.last) = None;
        let answer = self.transport.exchange(request).await?;
        *lock(&self.last) = Some(answer.clone());
        Ok(answer)
    }
}

impl HttpClient for Conversation {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let conversation = self.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            parts.headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
            let Ok(body) = body.collect().await;
            let answer = conversation.exchange(Request::from_parts(parts, body.to_bytes())).await;
            let answer = answer.map_err(|error| instant_acme::Error::Other(Box::new(error)))?;
            let mut response = Response::new(Full::new(answer.body));
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(BytesResponse::from(response))
        })
    }
}

impl Answer {
    pub(super) fn retry_after(&self) -> Option<UnixTime> {
        headers::retry_after(&self.headers, self.at)
    }

    pub(super) fn location(&self) -> Option<&str> {
        headers::text(&self.headers, &LOCATION)
    }

    /// What this answer, which is not a success, means.
    pub(super) fn refusal(&self, host: &str) -> AcmeError {
        AcmeError::of(host, self.status, Problem::parse(&self.body), self.retry_after())
    }
}

fn is_loopback(address: std::net::IpAddr) -> bool {
    address.is_loopback()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
