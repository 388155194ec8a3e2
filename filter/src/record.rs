//! The decision record: one JSON line in the proxy's log for one decision.
//!
//! Holds no secret: of the header fields only the request's identifier, no query, no user information. What a client
//! wrote is cut to a bound and reduced to visible ASCII, so that it can neither end the line nor steer a terminal.

use jiff::Timestamp;
use portcullis_policy::Decision;
use portcullis_policy::Divergence;
use portcullis_policy::Head;
use portcullis_policy::Reason;
use portcullis_policy::Request;
use portcullis_policy::UnixTime;
use proxy_wasm::types::LogLevel;
use serde::Serialize;

use crate::host;
use crate::host::Digest;
use crate::host::HostError;

/// Longest part of a request's text that a record holds, in bytes before escaping.
const TEXT_MAX: usize = 256;

#[derive(Serialize)]
struct Record<'a> {
    r#type: &'static str,
    time: Option<Timestamp>,
    policy: Option<&'a str>,
    decision: &'static str,
    status: u16,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    identity: Option<&'a str>,
    roles: &'a [String],
    /// What would be decided with shadow rules enforced, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<Other<'a>>,
    /// What the policy's candidate decides, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate: Option<Other<'a>>,
    method: Option<String>,
    authority: Option<String>,
    path: Option<String>,
    request_id: Option<String>,
    connection: Option<u64>,
    certificate: Option<String>,
    /// What failed, where the gate itself did.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A verdict that is not enforced.
#[derive(Serialize)]
struct Other<'a> {
    decision: &'static str,
    status: u16,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
}

impl<'a> Other<'a> {
    fn new(other: Divergence<'a>) -> Self {
        Self {
            decision: if other.is_allowed() { "allow" } else { "deny" },
            status: other.status(),
            reason: other.reason().code(),
            rule: other.rule(),
        }
    }
}

/// Records what the policy decided.
pub(crate) fn decided(decision: &Decision<'_>, request: &Request<'_>, digest: Option<Digest>) {
    let mut record = Record::new(decision.reason(), &request.head, Some(request.now), digest);
    record.policy = Some(decision.policy_version());
    record.rule = decision.rule();
    record.identity = decision.identity();
    record.roles = decision.roles();
    record.shadow = decision.shadow().map(Other::new);
    record.candidate = decision.candidate().map(Other::new);
    record.write();
}

/// Records that a request was refused without asking a policy.
pub(crate) fn failed(error: &HostError, head: &Head<'_>) {
    let digest = host::peer_digest().ok().flatten();
    let mut record = Record::new(error.reason(), head, host::now().ok(), digest);
    record.error = Some(error.to_string());
    record.write();
}

/// The request's identifier, as records and refusals carry it.
pub(crate) fn request_id(head: &Head<'_>) -> Option<String> {
    let (_, value) = head.fields.iter().find(|(name, _)| *name == b"x-request-id")?;
    Some(visible(value))
}

impl Record<'_> {
    fn new(reason: Reason, head: &Head<'_>, now: Option<UnixTime>, digest: Option<Digest>) -> Self {
        Self {
            r#type: "decision",
            time: now.and_then(|now| Timestamp::from_second(now.0).ok()),
            policy: None,
            decision: if reason.status() < 400 { "allow" } else { "deny" },
            status: reason.status(),
            reason: reason.code(),
            rule: None,
            identity: None,
            roles: &[],
            shadow: None,
            candidate: None,
            method: head.method.map(visible),
            authority: head.authority.map(|authority| visible(without_user_information(authority))),
            path: head.path.map(|path| visible(without_query(path))),
            request_id: request_id(head),
            connection: host::connection_id(),
            certificate: digest.map(|digest| digest.to_string()),
            error: None,
        }
    }

    fn write(&self) {
        let level = if self.status < 400 { LogLevel::Info } else { LogLevel::Warn };
        // Strings, numbers and a time always serialise; without a line there would be nothing to say.
        if let Ok(line) = serde_json::to_string(self) {
            host::log(level, &line);
        }
    }
}

fn visible(text: &[u8]) -> String {
    let cut = text.get(..TEXT_MAX).unwrap_or(text);
    cut.escape_ascii().to_string()
}

fn without_query(path: &[u8]) -> &[u8] {
    path.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default()
}

fn without_user_information(authority: &[u8]) -> &[u8] {
    authority.rsplit(|byte| *byte == b'@').next().unwrap_or_default()
}
