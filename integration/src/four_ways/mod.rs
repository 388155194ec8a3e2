//! One table of requests that is decided four ways: by the policy natively, by `portcullis policy decide`, by the filter
//! in wasmtime, by the filter in Envoy. All four must agree with the table, and so with each other.
//!
//! A row says what is asked, by whom, and what comes of it. The expectations are written by hand, never computed.

mod peers;
mod policies;
mod rows;
mod ways;

use std::collections::BTreeMap;

use portcullis_policy::Reason;
use portcullis_policy::UnixTime;

pub use peers::Peer;
pub use policies::Policy;
pub use ways::CliError;
pub use ways::decide_in_wasmtime;
pub use ways::decide_natively;
pub use ways::decide_with_cli;

/// The whole table, with the certificates that its peers present.
#[derive(Debug)]
pub struct Table {
    /// The instant at which all rows are decided.
    pub now: UnixTime,
    /// The peers, by the name that rows give them.
    pub peers: BTreeMap<&'static str, Peer>,
    /// PEM of the authority that the proxy trusts.
    pub trusted: String,
    /// The rows. Names are unique.
    pub rows: Vec<Row>,
}

/// One request and what is decided about it.
#[derive(Clone, Debug)]
pub struct Row {
    /// What the row is about: the name in a failure message.
    pub name: String,
    /// The policy that decides.
    pub policy: Policy,
    /// Who asks: a key of [`Table::peers`], or `nobody`.
    pub peer: &'static str,
    /// `:method`
    pub method: Vec<u8>,
    /// `:authority`
    pub authority: Option<Vec<u8>>,
    /// `:path`
    pub path: Option<Vec<u8>>,
    /// The other fields, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The verdict.
    pub expected: Verdict,
    /// What is different about this row in a real Envoy.
    pub envoy: InEnvoy,
}

/// A verdict in the words of `portcullis policy decide`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// 200, or the refusal's status.
    pub status: u16,
    /// The reason code.
    pub reason: String,
    /// The rule that matched, allow or deny.
    pub rule: Option<String>,
}

/// How a row fares in a real Envoy with the shipped listener, over HTTP/1.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InEnvoy {
    /// Envoy hands the request to the filter as it is.
    Same,
    /// Envoy answers with one of these statuses before any filter is asked; the body is not the filter's.
    Refuses(&'static [u16]),
    /// Envoy rewrites the request first; the filter then comes to this verdict.
    Rewrites(Verdict),
    /// The handshake fails: the peer's certificate, or the lack of one, is not accepted.
    NoHandshake,
    /// HTTP/1.1 has no way to say it.
    Unsayable,
}

impl Verdict {
    /// Let through by this rule.
    pub fn allow(rule: &str) -> Self {
        Self { rule: Some(rule.to_owned()), ..Self::deny(Reason::RuleMatched) }
    }

    /// Refused for this reason, by no rule.
    pub fn deny(reason: Reason) -> Self {
        Self { status: reason.status(), reason: reason.code().to_owned(), rule: None }
    }

    /// Refused by this deny rule.
    pub fn denied_by(rule: &str) -> Self {
        Self { rule: Some(rule.to_owned()), ..Self::deny(Reason::DenyRuleMatched) }
    }

    /// What a client and an upstream can see of it: a refusal does not name its rule.
    #[must_use]
    pub fn from_outside(mut self) -> Self {
        if self.status != 200 {
            self.rule = None;
        }
        self
    }
}

impl Row {
    /// Whether the filter gets to see this peer at all: in front of it, the proxy's handshake refuses certificates that do
    /// not chain to the trusted authority.
    pub fn reaches_the_filter(&self, table: &Table) -> bool {
        table.peers.get(self.peer).is_none_or(|peer| peer.is_validated)
    }

    /// Sets what is different in Envoy.
    #[must_use]
    fn envoy(mut self, envoy: InEnvoy) -> Self {
        self.envoy = envoy;
        self
    }

    #[must_use]
    fn authority(mut self, authority: Option<&[u8]>) -> Self {
        self.authority = authority.map(<[u8]>::to_vec);
        self
    }

    #[must_use]
    fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    #[must_use]
    fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }
}
