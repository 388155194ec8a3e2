//! Why a source gave nothing.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use reqwest::StatusCode;

use crate::openbao::BaoError;

/// Why a source gave nothing. What it gave before is as good as it was; no secret is ever in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Nothing is there.
    #[error("`{path}` holds nothing{}", if words.is_empty() { String::new() } else { format!(": {words}") })]
    Absent {
        /// What was asked for.
        path: String,
        /// The server's words.
        words: String,
    },
    /// OpenBao said no, or is not there.
    #[error("OpenBao gave nothing")]
    Bao(#[source] BaoError),
    /// The client's certificate or key cannot be used.
    #[error("`{}` {why}", path.display())]
    ClientKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No connection, TLS included.
    #[error("cannot reach `{host}`")]
    Connect {
        /// The host.
        host: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// It has ended already.
    #[error("`{place}` gave a credential that is over at once")]
    Expired {
        /// Who gave it.
        place: String,
    },
    /// The connection broke, or what came was not HTTP.
    #[error("`{host}` broke off its answer")]
    Interrupted {
        /// The host.
        host: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// The lease has ended; whatever was lent lets nobody in any more.
    #[error("the lease is over")]
    LeaseGone,
    /// The answer is not what the protocol promises.
    #[error("`{place}` answered something else than {wanted}")]
    Malformed {
        /// Who answered.
        place: String,
        /// What should have come.
        wanted: &'static str,
    },
    /// A file of the agent's own is missing.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The authorization server says no (RFC 6749 §5.2).
    #[error("`{host}` answered {status}, `{error}`{}", description.as_deref().map(|words| format!(": {words}")).unwrap_or_default())]
    Refused {
        /// The host.
        host: String,
        /// The status.
        status: StatusCode,
        /// `invalid_client`, and so on.
        error: String,
        /// What it says for people.
        description: Option<String>,
        /// Until when it asked to be left alone.
        retry_after: Option<Timestamp>,
    },
    /// The account's password is changed at this moment: what there is lasts no time at all.
    #[error("`{path}` is about to be rotated")]
    Rotating {
        /// What was asked for.
        path: String,
        /// When there is another one.
        until: Timestamp,
    },
    /// A status without more.
    #[error("`{host}` answered {status}{}", if status.is_redirection() { "; redirects are not followed" } else { "" })]
    Status {
        /// The host.
        host: String,
        /// What it was.
        status: StatusCode,
        /// Until when it asked to be left alone.
        retry_after: Option<Timestamp>,
    },
    /// Not in time.
    #[error("`{host}` took too long")]
    TimedOut {
        /// The host.
        host: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// Longer than what is read, or than a secret is.
    #[error("`{place}` gave more than {limit} bytes")]
    TooLong {
        /// Who answered.
        place: String,
        /// The bound.
        limit: usize,
    },
    /// A token of a kind that nobody here can use.
    #[error("`{host}` gave a token of type `{given}`; `Bearer` is one")]
    TokenType {
        /// The host.
        host: String,
        /// Its type.
        given: String,
    },
}

impl SourceError {
    /// The stable code, a label of the metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "absent",
            Self::Bao(BaoError::Connect { .. }) | Self::Connect { .. } => "connect",
            Self::Bao(BaoError::ClientPair { .. }) | Self::ClientKey { .. } => "client_key",
            Self::Bao(BaoError::Read { .. }) | Self::Read { .. } => "read",
            Self::Bao(BaoError::TooLong { .. }) | Self::TooLong { .. } => "too_long",
            Self::Bao(BaoError::Refused { .. }) | Self::Refused { .. } => "refused",
            Self::Bao(BaoError::Malformed { .. }) | Self::Malformed { .. } => "malformed",
            Self::Expired { .. } => "expired",
            Self::Interrupted { .. } => "interrupted",
            Self::LeaseGone => "lease_gone",
            Self::Rotating { .. } => "rotating",
            Self::Status { .. } => "status",
            Self::TimedOut { .. } => "timed_out",
            Self::TokenType { .. } => "token_type",
        }
    }

    /// Until when the source asked to be left alone.
    pub fn retry_after(&self) -> Option<Timestamp> {
        match self {
            Self::Bao(error) => Timestamp::from_second(error.retry_after()?.0).ok(),
            Self::Refused { retry_after, .. } | Self::Status { retry_after, .. } => *retry_after,
            Self::Rotating { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// Whether time alone may mend it.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Bao(error) => error.is_passing(),
            Self::Connect { .. } | Self::Interrupted { .. } | Self::Rotating { .. } | Self::TimedOut { .. } => true,
            Self::Refused { status, error, .. } => {
                is_passing(*status)
                    || matches!(error.as_str(), "temporarily_unavailable" | "server_error" | "slow_down")
            }
            Self::Status { status, .. } => is_passing(*status),
            _ => false,
        }
    }
}

fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}
