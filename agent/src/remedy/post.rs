//! A web hook: JSON in a POST, and a status of 2xx.

use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;

use crate::fetch::FetchError;
use crate::fetch::Fetcher;
use crate::fetch::Plain;
use crate::fetch::Wanted;

/// What a URL of a web hook may be, and what is put up with from its server.
pub(crate) const WANTED: Wanted = Wanted {
    accept: "*/*",
    // The answer is not read.
    max_length: 0,
    whole: Duration::from_secs(30),
    // The error may name hosts and paths.
    plain: Plain::Refused,
};

/// A server that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// Where.
    pub url: Url,
    /// From the first byte sent to the answer's head.
    pub timeout: Duration,
}

impl fmt::Display for Post {
    /// The server alone: of many web hooks the path is the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url.origin().ascii_serialization())
    }
}

/// Why a server was not told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// No client, TLS included.
    #[error("`{to}` cannot be told")]
    Client {
        /// The server.
        to: String,
        /// The cause.
        source: FetchError,
    },
    /// No answer.
    #[error("`{to}` did not answer")]
    Silent {
        /// The server.
        to: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// Another status than 2xx.
    #[error("`{to}` answered {status}")]
    Status {
        /// The server.
        to: String,
        /// What it was.
        status: StatusCode,
    },
}

impl Post {
    /// Sends it once, and says how that went.
    pub(super) async fn send(&self, json: Vec<u8>) -> Result<String, PostError> {
        let to = self.to_string();
        let fetcher = Fetcher::new(WANTED).within(self.timeout);
        let client = fetcher.client(&self.url).map_err(|source| PostError::Client { to: to.clone(), source })?;
        let request = client.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(json);
        match request.send().await.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => Ok(format!("`{to}` answered {status}")),
            Ok(status) => Err(PostError::Status { to, status }),
            Err(source) => Err(PostError::Silent { to, source: source.without_url() }),
        }
    }
}
