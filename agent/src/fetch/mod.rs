//! One request for a key set, bounded in time and size.

use std::time::Duration;

use reqwest::Certificate;
use reqwest::Client;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::AGE;
use reqwest::header::CACHE_CONTROL;
use reqwest::header::ETAG;
use reqwest::header::HeaderName;
use reqwest::header::IF_NONE_MATCH;
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;

use super::KeysError;
use super::document::is_loopback;

/// The longest document that is read, in bytes.
pub(super) const MAX_LENGTH: u64 = 1024 * 1024;
/// An `ETag` that is longer is not sent back.
const MAX_ETAG: usize = 1024;
const CONNECT: Duration = Duration::from_secs(5);
/// From the first byte sent to the last one read.
const WHOLE: Duration = Duration::from_secs(15);

/// How key sets are fetched: over TLS, to whoever the system's roots vouch for.
#[derive(Clone, Debug, Default)]
pub struct Fetcher {
    roots: Option<Vec<Certificate>>,
    whole: Option<Duration>,
}

/// What the server answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// None: still what it was (304).
    pub(super) document: Option<Vec<u8>>,
    pub(super) etag: Option<String>,
    pub(super) cache_control: Option<String>,
    pub(super) age: Option<String>,
}

/// Why there are no new keys. The ones before stay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No connection, TLS included.
    #[error("cannot connect to `{host}`")]
    Connect {
        /// The host.
        host: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// The connection broke, or what came was not HTTP.
    #[error("the answer broke off")]
    Interrupted(#[source] reqwest::Error),
    /// The document gives no keys.
    #[error("the answer is no use")]
    Keys(#[from] KeysError),
    /// A status other than 200 and 304.
    #[error("the server answered {status}{}", if status.is_redirection() { "; redirects are not followed" } else { "" })]
    Status {
        /// What it was.
        status: StatusCode,
        /// How long to stay away.
        retry_after: Option<Duration>,
    },
    /// Not in time.
    #[error("the server took too long")]
    TimedOut(#[source] reqwest::Error),
    /// Longer than what is read.
    #[error("the answer has more than {MAX_LENGTH} bytes")]
    TooLarge,
}

impl FetchError {
    /// The stable code, a label of the metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Interrupted(_) => "interrupted",
            Self::Keys(KeysError::NotASet(_)) => "not_a_key_set",
            Self::Keys(KeysError::NoneUsable(_)) => "no_usable_key",
            Self::Status { .. } => "status",
            Self::TimedOut(_) => "timed_out",
            Self::TooLarge => "too_large",
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        if let Self::Status { retry_after, .. } = self { *retry_after } else { None }
    }
}

impl Fetcher {
    /// Trusts these roots and no others.
    #[must_use]
    pub fn trusting(self, roots: Vec<Certificate>) -> Self {
        Self { roots: Some(roots), ..self }
    }

    /// Gives up earlier.
    #[must_use]
    pub fn within(self, whole: Duration) -> Self {
        Self { whole: Some(whole), ..self }
    }

    /// A client of its own for each provider: what one does to its connections is nothing to the others.
    pub(super) fn client(&self, url: &Url) -> Result<Client, reqwest::Error> {
        let mut builder = Client::builder()
            .connect_timeout(CONNECT)
            .timeout(self.whole.unwrap_or(WHOLE))
            // An answer from elsewhere is not the provider's, and elsewhere may not be `https`.
            .redirect(Policy::none())
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        if is_loopback(url) {
            builder = builder.no_proxy();
        } else {
            builder = builder.https_only(true);
        }
        if let Some(roots) = &self.roots {
            builder = builder.tls_certs_only(roots.clone());
        }
        builder.build()
    }
}

/// Asks once.
pub(super) async fn fetch(client: &Client, url: &Url, etag: Option<&str>) -> Result<Answer, FetchError> {
    let mut request = client.get(url.clone()).header("accept", "application/jwk-set+json, application/json");
    if let Some(etag) = etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    let failed = |source: reqwest::Error| {
        // The URL is said elsewhere, and may have a query that is nobody's business.
        let source = source.without_url();
        match &source {
            error if error.is_timeout() => FetchError::TimedOut(source),
            error if error.is_connect() => {
                FetchError::Connect { host: url.host_str().unwrap_or_default().to_owned(), source }
            }
            _ => FetchError::Interrupted(source),
        }
    };
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    let answer = Answer {
        document: None,
        etag: header(&response, &ETAG).filter(|etag| etag.len() <= MAX_ETAG),
        cache_control: header(&response, &CACHE_CONTROL),
        age: header(&response, &AGE),
    };
    match status {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if etag.is_some() => return Ok(answer),
        _ => {
            // The other form of the header is a date: then the usual back-off will do.
            let seconds = header(&response, &RETRY_AFTER).and_then(|value| value.trim().parse().ok());
            return Err(FetchError::Status { status, retry_after: seconds.map(Duration::from_secs) });
        }
    }
    let mut document = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if (document.len() + chunk.len()) as u64 > MAX_LENGTH {
            return Err(FetchError::TooLarge);
        }
        document.extend_from_slice(&chunk);
    }
    Ok(Answer { document: Some(document), ..answer })
}

fn header(response: &Response, name: &HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}
