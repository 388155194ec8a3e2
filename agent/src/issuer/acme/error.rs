//! What goes wrong between the agent and a CA, told apart by what one does about it.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use hyper::StatusCode;
use portcullis_policy::UnixTime;

use super::challenge::DnsError;
use super::problem::Failure;
use super::problem::Problem;
use super::problem::failures_of;
use crate::fetch::FetchError;
use crate::hook::HookError;
use crate::keys::KeyError;
use crate::leaf::timestamp;
use crate::store::StoreError;

/// Why there is no certificate yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcmeError {
    /// A person has to do something at the CA's, as to agree to new terms (RFC 8555 §7.3.3).
    #[error("`{host}` wants somebody to act: {detail}{}", link.as_ref().map(|link| format!(" (see {link})")).unwrap_or_default())]
    ActionRequired {
        /// The CA.
        host: String,
        /// Its words.
        detail: String,
        /// Where.
        link: Option<String>,
    },
    /// An answer that RFC 8555 does not know.
    #[error("`{host}` answered something that is not ACME")]
    Answer {
        /// The CA.
        host: String,
        /// What is wrong with it.
        source: Box<instant_acme::Error>,
    },
    /// As many certificates with these names, or failures with one of them, as the limits allow: refused here.
    #[error("{count} {what} `{names}` were enough for now: the next order is made from {} on; see the issuer's limits", timestamp(*until))]
    Budget {
        /// Certificates, or failures.
        what: &'static str,
        /// The names.
        names: String,
        /// How many there were.
        count: usize,
        /// From when on it would do.
        until: UnixTime,
    },
    /// The CA has too much to do.
    #[error("`{host}` is overloaded or closed ({status}){}", from(*until))]
    Busy {
        /// The CA.
        host: String,
        /// What it answered.
        status: StatusCode,
        /// Until when it wants to be left alone.
        until: Option<UnixTime>,
    },
    /// The chain is not one.
    #[error("`{host}` sent something that is not a certificate chain in PEM")]
    Chain {
        /// The CA.
        host: String,
    },
    /// The request for the certificate cannot be made.
    #[error("the certificate signing request cannot be made")]
    Csr(#[source] rcgen::Error),
    /// The DNS itself.
    #[error("the DNS record `{record}` could not be put in place")]
    Dns {
        /// Which.
        record: String,
        /// Why.
        source: Box<DnsError>,
    },
    /// The order is not there any more.
    #[error("`{host}` does not know the order any more: {detail}")]
    Gone {
        /// The CA.
        host: String,
        /// Its words.
        detail: String,
    },
    /// The program that changes the DNS.
    #[error("the DNS record `{record}` could not be put in place")]
    Hook {
        /// Which.
        record: String,
        /// Why.
        source: HookError,
    },
    /// Names that are not proven, or that the CA does not issue for: this order is over.
    #[error("`{host}` did not accept {}", failures_of(failures))]
    Invalid {
        /// The CA.
        host: String,
        /// The names; empty if the CA does not say which.
        failures: Vec<Failure>,
    },
    /// Names that cannot be proven as things are: nothing was ordered.
    #[error("nothing was ordered at `{host}`, which would not accept {}", failures_of(failures))]
    Names {
        /// The CA.
        host: String,
        /// The names.
        failures: Vec<Failure>,
    },
    /// The new key cannot be used.
    #[error("the certificate's key cannot be used")]
    Key(#[source] KeyError),
    /// Somebody else listens there, or it is not allowed.
    #[error(
        "cannot listen on `{address}`, where the CA comes to validate; nothing was sent to it. Stop who listens there, or give `listen` another address that the CA's visits are forwarded to"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No answer, or one beyond the bounds.
    #[error("no answer from `{host}`{}", remedy(source))]
    Network {
        /// The CA.
        host: String,
        /// Why.
        source: FetchError,
    },
    /// The account is not known to the CA.
    #[error("`{host}` does not know the account: {detail}")]
    NoAccount {
        /// The CA.
        host: String,
        /// Its words.
        detail: String,
    },
    /// The CA cannot validate the name in the configured way.
    #[error("`{host}` does not validate `{name}` by {wanted}; it offers {offered}")]
    NoChallenge {
        /// The CA.
        host: String,
        /// The name.
        name: String,
        /// What is configured.
        wanted: &'static str,
        /// What there is.
        offered: String,
    },
    /// There is nowhere to try.
    #[error("no `staging` is configured for the issuer at `{host}`, where an order could be rehearsed")]
    NoStaging {
        /// The CA.
        host: String,
    },
    /// The CA has no such kind of certificates.
    #[error("`{host}` has no profile `{profile}`; it offers {offered}")]
    NoProfile {
        /// The CA.
        host: String,
        /// What is configured.
        profile: String,
        /// What there is.
        offered: String,
    },
    /// The CA issues nothing more to the account for these names until somebody says that it should go on.
    #[error("`{host}` has paused the account for these names, and nothing but its own page ends that: {detail}")]
    Paused {
        /// The CA.
        host: String,
        /// Its words, with the link.
        detail: String,
    },
    /// Too much was asked for.
    #[error("`{host}` says that too much was asked for: {detail}{}", from(*until))]
    RateLimited {
        /// The CA.
        host: String,
        /// Its words.
        detail: String,
        /// Until when.
        until: Option<UnixTime>,
    },
    /// A record of the store cannot be read.
    #[error(
        "the stored account at `{host}` is unreadable; remove the issuer's name from the configuration and give it another, and a new account is made"
    )]
    Record {
        /// The CA.
        host: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The CA refuses.
    #[error("`{host}` refuses ({status}): {problem}")]
    Refused {
        /// The CA.
        host: String,
        /// What it answered.
        status: StatusCode,
        /// Why.
        problem: Box<Problem>,
    },
    /// What the CA says of the renewal of a certificate (RFC 9773) is of no use.
    #[error("`{host}` does not say when to renew: {why}")]
    RenewalInfo {
        /// The CA.
        host: String,
        /// What is wrong.
        why: RenewalProblem,
    },
    /// What the CA would see is not what it has to see.
    #[error("the answer that the CA would get at `{address}` is not ours: {what}; nothing was sent to it")]
    SelfCheck {
        /// Where.
        address: SocketAddr,
        /// What came instead.
        what: String,
    },
    /// ACME knows DNS names and addresses only.
    #[error("an ACME CA does not issue for `{id}`; take the SPIFFE ID away, or another issuer")]
    Spiffe {
        /// The SPIFFE ID.
        id: String,
    },
    /// A refusal without a word that could be read.
    #[error("`{host}` answered {status}")]
    Status {
        /// The CA.
        host: String,
        /// The status.
        status: StatusCode,
    },
    /// The store.
    #[error("the store failed")]
    Store(#[source] StoreError),
    /// The order goes on, and not now.
    #[error("`{host}` has not finished {what} yet{}", from(*until))]
    Unfinished {
        /// The CA.
        host: String,
        /// What it does.
        what: &'static str,
        /// When it asks to come back.
        until: Option<UnixTime>,
    },
    /// Not a URL.
    #[error("`{url}`, which the CA names, is not a URL")]
    Url {
        /// What it is.
        url: String,
    },
    /// The CA asked to be left alone, and it is not time yet.
    #[error("`{host}` asked to be left alone until {}", timestamp(*until))]
    Waiting {
        /// The CA.
        host: String,
        /// Until when.
        until: UnixTime,
    },
}

/// What is wrong with what a CA says of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenewalProblem {
    /// RFC 9773 §4.1 needs the identifier of the authority's key.
    #[error("the certificate does not name the key of its issuer")]
    Anonymous,
    /// RFC 9773 §4.2.
    #[error("the window ends before it begins")]
    Backwards,
    /// RFC 9773 §4.3.
    #[error("it does not say when to ask again")]
    NoRetryAfter,
    /// Not JSON, or without times.
    #[error("the answer is not what RFC 9773 says")]
    Unreadable,
    /// RFC 9773 §4.1.
    #[error("it does not know the certificate")]
    UnknownCertificate,
}

impl AcmeError {
    /// Until when the CA asked to be left alone, or from when on our own limits allow more. Never more than two days from
    /// when the CA said so.
    pub fn retry_after(&self) -> Option<UnixTime> {
        match self {
            Self::Busy { until, .. } | Self::RateLimited { until, .. } | Self::Unfinished { until, .. } => *until,
            Self::Budget { until, .. } | Self::Waiting { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// Whether this order can never succeed: make a new one, with a new key.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Chain { .. } | Self::Gone { .. } | Self::Invalid { .. } => true,
            Self::Refused { problem, .. } => matches!(problem.kind.as_str(), "badCSR" | "badPublicKey"),
            _ => false,
        }
    }

    /// Whether nothing was asked, or the CA does what it should.
    pub fn is_expected(&self) -> bool {
        matches!(
            self,
            Self::Budget { .. }
                | Self::Invalid { .. }
                | Self::Names { .. }
                | Self::Unfinished { .. }
                | Self::Waiting { .. }
        )
    }

    /// Whether it is about somebody who cannot be asked, or not now, and so says nothing of what would come of an order elsewhere.
    pub fn says_nothing(&self) -> bool {
        matches!(
            self,
            Self::Answer { .. }
                | Self::Budget { .. }
                | Self::Busy { .. }
                | Self::Network { .. }
                | Self::NoStaging { .. }
                | Self::Paused { .. }
                | Self::RateLimited { .. }
                | Self::Status { .. }
                | Self::Store(_)
                | Self::Unfinished { .. }
                | Self::Waiting { .. }
        )
    }

    /// The names that it is about, where there are others that it is not about.
    pub fn names_at_fault(&self) -> Vec<Failure> {
        match self {
            Self::Invalid { failures, .. } | Self::Names { failures, .. } => failures.clone(),
            Self::NoChallenge { name, .. } => {
                vec![Failure { name: name.clone(), kind: String::new(), detail: self.to_string() }]
            }
            Self::Refused { problem, .. } => problem.of_names.clone(),
            _ => Vec::new(),
        }
    }

    /// Says which of the names that were asked for a refusal of one or some is about, where the CA says it in words only.
    #[must_use]
    pub(super) fn about(mut self, names: &[String]) -> Self {
        if let Self::Refused { problem, .. } = &mut self {
            problem.find_names(names);
        }
        self
    }

    /// The stable code, a label of the metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ActionRequired { .. } => "action_required",
            Self::Answer { .. } => "answer",
            Self::Budget { .. } => "budget",
            Self::Busy { .. } => "busy",
            Self::Chain { .. } => "chain",
            Self::Csr(_) => "csr",
            Self::Dns { .. } => "dns",
            Self::Gone { .. } => "order_gone",
            Self::Hook { .. } => "hook",
            Self::Invalid { .. } => "invalid",
            Self::Key(_) => "key",
            Self::Listen { .. } => "listen",
            Self::Names { .. } => "names",
            Self::Network { .. } => "network",
            Self::NoAccount { .. } => "no_account",
            Self::NoChallenge { .. } => "no_challenge",
            Self::NoProfile { .. } => "no_profile",
            Self::NoStaging { .. } => "no_staging",
            Self::Paused { .. } => "paused",
            Self::RateLimited { .. } => "rate_limited",
            Self::Record { .. } => "record",
            Self::Refused { .. } => "refused",
            Self::RenewalInfo { .. } => "renewal_info",
            Self::SelfCheck { .. } => "self_check",
            Self::Spiffe { .. } => "spiffe",
            Self::Status { .. } => "status",
            Self::Store(_) => "store",
            Self::Unfinished { .. } => "unfinished",
            Self::Url { .. } => "url",
            Self::Waiting { .. } => "waiting",
        }
    }

    /// What an answer that is no success means.
    pub(super) fn of(host: &str, status: StatusCode, problem: Option<Problem>, until: Option<UnixTime>) -> Self {
        let host = host.to_owned();
        let is_busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let Some(problem) = problem else {
            return if is_busy { Self::Busy { host, status, until } } else { Self::Status { host, status } };
        };
        match problem.kind.as_str() {
            "accountDoesNotExist" => Self::NoAccount { host, detail: problem.detail },
            "rateLimited" if is_pause(&problem.detail) => Self::Paused { host, detail: problem.detail },
            "rateLimited" => Self::RateLimited { host, detail: problem.detail, until },
            "userActionRequired" => Self::ActionRequired { host, detail: problem.detail, link: problem.link },
            _ if is_busy => Self::Busy { host, status, until },
            _ => Self::Refused { host, status, problem: Box::new(problem) },
        }
    }
}

/// Let's Encrypt gives pauses the type of its limits, and says in words what ends them.
fn is_pause(detail: &str) -> bool {
    let detail = detail.to_ascii_lowercase();
    ["unpause", "paused", "temporarily prevented"].iter().any(|word| detail.contains(word))
}

/// What to look at, where the cause says.
fn remedy(error: &FetchError) -> &'static str {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        // What an `io::Error` was made of is none of its sources.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.map(|inner| inner as &(dyn Error + 'static));
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return ", whose certificate is not believed: see that `server_ca` is its CA, and that `directory` has its name";
        }
        if error.to_string() == "dns error" {
            return ", whose name is not found: see that `directory` has the right one, and that the machine's DNS answers";
        }
        cause = inner.or_else(|| error.source());
    }
    ""
}

fn from(until: Option<UnixTime>) -> String {
    until.map(|until| format!("; ask again from {} on", timestamp(until))).unwrap_or_default()
}

#[cfg(test)]
mod tests;
