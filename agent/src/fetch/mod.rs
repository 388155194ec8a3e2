//! One document behind a URL: fetched with bounds in time and size, and asked for again only if it is another.
//!
//! Absent: what the document says, and who waits for it.

mod follow;
pub(crate) mod schedule;
#[cfg(test)]
mod server;

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

pub(crate) use follow::Followed;
pub(crate) use follow::follow;
#[cfg(test)]
pub(crate) use server::Server;

/// An `ETag` that is longer is not sent back.
const MAX_ETAG: usize = 1024;
const CONNECT: Duration = Duration::from_secs(5);

/// A kind of document, and what is put up with for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// The media types that are asked for.
    pub(crate) accept: &'static str,
    /// The longest that is read, in bytes.
    pub(crate) max_length: u64,
    /// From the first byte sent to the last one read.
    pub(crate) whole: Duration,
    /// Whether it may come as it is over the network.
    pub(crate) plain: Plain,
}

/// Whether `http` will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    /// Only from this machine: whoever can change the answer could do harm.
    Refused,
    /// From everywhere: the document is signed.
    Taken,
}

/// How documents of one kind are fetched; those over TLS from whoever the system's roots vouch for.
#[derive(Clone, Debug)]
pub struct Fetcher {
    wanted: Wanted,
    roots: Option<Vec<Certificate>>,
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// None: still what it was (304).
    pub(crate) document: Option<Vec<u8>>,
    pub(crate) etag: Option<String>,
    pub(crate) cache_control: Option<String>,
    pub(crate) age: Option<String>,
}

/// Why there is no new document. The one before stays.
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
    #[error("the answer has more than {0} bytes")]
    TooLarge(u64),
}

impl FetchError {
    /// The stable code, a label of the metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Interrupted(_) => "interrupted",
            Self::Status { .. } => "status",
            Self::TimedOut(_) => "timed_out",
            Self::TooLarge(_) => "too_large",
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        if let Self::Status { retry_after, .. } = self { *retry_after } else { None }
    }
}

impl Fetcher {
    /// Of this kind.
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self { wanted, roots: None }
    }

    /// Trusts these roots and no others.
    #[must_use]
    pub fn trusting(self, roots: Vec<Certificate>) -> Self {
        Self { roots: Some(roots), ..self }
    }

    /// Gives up earlier.
    #[must_use]
    pub fn within(self, whole: Duration) -> Self {
        Self { wanted: Wanted { whole, ..self.wanted }, ..self }
    }

    /// A client of its own for each server: what one does to its connections is nothing to the others.
    pub(crate) fn client(&self, url: &Url) -> Result<Client, FetchError> {
        let mut builder = Client::builder()
            .connect_timeout(CONNECT)
            .timeout(self.wanted.whole)
            // An answer from elsewhere is somebody else's, and elsewhere may not be `https`.
            .redirect(Policy::none())
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        if is_loopback(url) {
            builder = builder.no_proxy();
        } else {
            builder = builder.https_only(self.wanted.plain == Plain::Refused);
        }
        if let Some(roots) = &self.roots {
            builder = builder.tls_certs_only(roots.clone());
        }
        let host = || url.host_str().unwrap_or_default().to_owned();
        builder.build().map_err(|source| FetchError::Connect { host: host(), source })
    }

    /// Asks once.
    pub(crate) async fn fetch(&self, client: &Client, url: &Url, etag: Option<&str>) -> Result<Answer, FetchError> {
        let mut request = client.get(url.clone()).header("accept", self.wanted.accept);
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
            if (document.len() + chunk.len()) as u64 > self.wanted.max_length {
                return Err(FetchError::TooLarge(self.wanted.max_length));
            }
            document.extend_from_slice(&chunk);
        }
        Ok(Answer { document: Some(document), ..answer })
    }
}

impl Wanted {
    /// Takes a URL that a document of this kind may be fetched from.
    pub(crate) fn parse(&self, url: &str) -> Result<Url, &'static str> {
        parse(url, self.plain)
    }
}

/// Takes the URL of a server that secrets go to.
pub(crate) fn parse_private(url: &str) -> Result<Url, &'static str> {
    parse(url, Plain::Refused)
}

fn parse(url: &str, plain: Plain) -> Result<Url, &'static str> {
    let url = Url::parse(url).map_err(|_| "is not a URL")?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("has a user, a password or a fragment: only scheme, host, path and query are taken");
    }
    match (url.scheme(), plain) {
        ("https", _) | ("http", Plain::Taken) => Ok(url),
        ("http", Plain::Refused) if is_loopback(&url) => Ok(url),
        (_, Plain::Refused) => Err("is not `https`; `http` is taken for loopback hosts only"),
        (_, Plain::Taken) => Err("is neither `http` nor `https`"),
    }
}

/// Whether nobody is between this machine and the host.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn header(response: &Response, name: &HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}
