//! The policy's own `tests:`, each a question with the answer that its author expects.
//!
//! A test's certificate is thought of: it has the names that the test gives it, was issued after every `issued_before` of
//! the policy (or at the test's own instant), is valid, and the clock stands at its first second. A test's token is thought of
//! as well: verified, and sent by who may send it. So a test is about roles and rules, and goes on to pass.

use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;

use crate::certificate::Leaf;
use crate::decide::Decision;
use crate::decide::Head;
use crate::decide::Peer;
use crate::decide::Protocol;
use crate::decide::Request;
use crate::decide::Tls;
use crate::document;
use crate::forwarded::Forwarded;
use crate::policy::Policy;
use crate::policy::TestFailure;
use crate::reason::Reason;
use crate::samples::SampleRequest;
use crate::time::UnixTime;
use crate::token::Bearer;
use crate::token::Token;
use crate::token::provider::ProviderId;

/// A test that can be run.
#[derive(Debug)]
pub(crate) struct Test {
    /// As it was written.
    pub(crate) source: document::Test,
    pub(crate) peer: Option<Leaf>,
    /// The certificate of the forwarder that `peer` is behind.
    pub(crate) forwarded_by: Option<Leaf>,
    pub(crate) token: Option<TestToken>,
    pub(crate) now: UnixTime,
    /// `None` if it is about a TCP connection.
    pub(crate) request: Option<SampleRequest>,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) listener: Option<SocketAddr>,
    pub(crate) source_address: Option<IpAddr>,
    pub(crate) sni: Option<String>,
    /// As proxies name it: `TLSv1.3`.
    pub(crate) tls_version: Option<String>,
    pub(crate) expectation: Expectation,
}

/// A token that nobody signed: what a verified one says.
#[derive(Clone, Debug)]
pub(crate) struct TestToken {
    pub(crate) provider: ProviderId,
    pub(crate) claims: Map<String, Value>,
    pub(crate) scopes: Option<Vec<String>>,
}

/// The answer that a test expects, or gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// This rule lets the request through.
    Allow(String),
    /// This rule refuses it.
    DenyRule(String),
    /// It is refused for this reason.
    DenyReason(Reason),
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow(rule) => write!(f, "allow by `{rule}`"),
            Self::DenyRule(rule) => write!(f, "deny by `{rule}`"),
            Self::DenyReason(reason) => write!(f, "deny as `{}`", reason.code()),
        }
    }
}

impl Test {
    /// Runs the test, which is the policy's number `position`.
    pub(crate) fn run(&self, position: usize, policy: &Policy) -> Option<TestFailure> {
        let subject = self.peer.clone().map(|leaf| policy.subject(leaf));
        let forwarder = self.forwarded_by.clone().map(|leaf| policy.subject(leaf));
        let (peer, forwarded) = match (forwarder, subject) {
            (None, peer) => (peer, Forwarded::Nothing),
            (Some(forwarder), None) => (Some(forwarder), Forwarded::Nothing),
            (Some(forwarder), Some(client)) => {
                let forwarded = match policy.view(&forwarder).forwarder {
                    Some(_) => Forwarded::Certificate(Arc::new(client)),
                    None => Forwarded::Refused(Reason::ForwarderUntrusted),
                };
                (Some(forwarder), forwarded)
            }
        };
        let token = self.token.as_ref().map(|token| Token::thought_of(policy.providers.version(), token));
        let token = token.map_or(Bearer::Absent, |token| Bearer::Verified(Arc::new(token)));
        let (protocol, head) = match &self.request {
            None => (Protocol::Tcp, Head::default()),
            Some(request) => {
                let head = Head {
                    method: Some(request.method.as_bytes()),
                    authority: request.host.as_deref().map(str::as_bytes),
                    path: Some(request.path.as_bytes()),
                    fields: self.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect(),
                    duplicated: false,
                };
                (Protocol::Http, head)
            }
        };
        let request = Request {
            token: &token,
            now: self.now,
            peer: peer.as_ref().map_or(Peer::Absent, |subject| Peer::Presented { subject, validated: true }),
            forwarded: &forwarded,
            tls: Tls { version: self.tls_version.as_deref(), sni: self.sni.as_deref() },
            source: self.source_address,
            listener: self.listener,
            protocol,
            head,
        };
        let decision = policy.decide(&request);
        let got = match (&self.expectation, decision.reason(), decision.rule()) {
            (_, Reason::RuleMatched, Some(rule)) => Expectation::Allow(rule.to_owned()),
            (Expectation::DenyRule(_), Reason::DenyRuleMatched, Some(rule)) => Expectation::DenyRule(rule.to_owned()),
            (_, reason, _) => Expectation::DenyReason(reason),
        };
        (got != self.expectation).then(|| TestFailure {
            name: self.source.name.clone(),
            path: format!("tests[{position}]"),
            expected: self.expectation.to_string(),
            got: answer(&decision),
        })
    }
}

fn answer(decision: &Decision<'_>) -> String {
    let answer = match (decision.is_allowed(), decision.rule()) {
        (true, Some(rule)) => Expectation::Allow(rule.to_owned()),
        (false, Some(rule)) => Expectation::DenyRule(rule.to_owned()),
        (_, None) => Expectation::DenyReason(decision.reason()),
    };
    answer.to_string()
}
