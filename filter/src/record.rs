//! The decision record: one JSON line in the proxy's log for one decision, on a request or on a stream that is open.
//!
//! Holds no secret: of the header fields only the request's identifier, no query, no user information. What a client
//! wrote is cut to a bound and reduced to visible ASCII, so that it can neither end the line nor steer a terminal.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::ops::Not;

use jiff::Timestamp;
use portcullis_policy::Decision;
use portcullis_policy::Description;
use portcullis_policy::Divergence;
use portcullis_policy::Forwarded;
use portcullis_policy::Head;
use portcullis_policy::Peer;
use portcullis_policy::Protocol;
use portcullis_policy::Reason;
use portcullis_policy::Request;
use portcullis_policy::UnixTime;
use portcullis_policy::token::Bearer;
use proxy_wasm::types::LogLevel;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use crate::host;
use crate::host::Digest;
use crate::host::HostError;
use crate::host::Now;

/// Longest part of a request's text that a record holds, in bytes before escaping.
const TEXT_MAX: usize = 256;

const ENDED: &str = "ended";

#[derive(Serialize)]
struct Record<'a> {
    r#type: &'static str,
    time: Option<Timestamp>,
    policy: Option<&'a str>,
    decision: &'static str,
    /// `ended`, where the decision is about a stream that was let through before and was open until now.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'static str>,
    /// `tcp`, where the decision is about a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    status: u16,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    identity: Option<&'a str>,
    /// The peer, where it speaks for who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarder: Option<&'a str>,
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
    /// What the certificate says, so that the decision can be made again; absent if that is more than a record holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Description>,
    /// The same of the certificate that the peer, a forwarder, forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarded: Option<Description>,
    /// Whether the request had a token that the policy looks at. A record never holds it.
    #[serde(skip_serializing_if = "Not::not")]
    token: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsText>,
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

/// What the policy asked about the connection.
#[derive(Serialize)]
struct TlsText {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<String>,
}

/// Records what the policy decided.
pub(crate) fn decided(decision: &Decision<'_>, request: &Request<'_>, digest: Option<Digest>) {
    of_decision(decision, request, digest).write();
}

/// Records that a stream was ended: the policy that let it in, or the one in its place, refuses it now.
pub(crate) fn ended(decision: &Decision<'_>, request: &Request<'_>, digest: Option<Digest>) {
    Record { stream: Some(ENDED), ..of_decision(decision, request, digest) }.write();
}

fn of_decision<'a>(decision: &'a Decision<'_>, request: &Request<'_>, digest: Option<Digest>) -> Record<'a> {
    let mut record = Record::new(decision.reason(), request.protocol, &request.head, Some(request.now), digest);
    record.policy = Some(decision.policy_version());
    record.rule = decision.rule();
    record.identity = decision.identity();
    record.forwarder = decision.forwarder();
    record.roles = decision.roles();
    record.shadow = decision.shadow().map(Other::new);
    record.candidate = decision.candidate().map(Other::new);
    if let Peer::Presented { subject, .. } = request.peer {
        record.peer = subject.leaf().describe();
    }
    if let Forwarded::Certificate(subject) = request.forwarded {
        record.forwarded = subject.leaf().describe();
        // The one without the other would be another request.
        record.peer = record.peer.filter(|_| record.forwarded.is_some());
    }
    record.token = !matches!(request.token, Bearer::Absent);
    record.source = request.source;
    record.listener = request.listener;
    let text = |text: Option<&str>| text.map(|text| visible(text.as_bytes()));
    let tls = TlsText { version: text(request.tls.version), sni: text(request.tls.sni) };
    record.tls = Some(tls).filter(|tls| tls.version.is_some() || tls.sni.is_some());
    record
}

/// Records that a stream was refused without asking a policy.
pub(crate) fn failed(error: &HostError, protocol: Protocol, head: &Head<'_>) {
    of_failure(error, protocol, head).write();
}

/// Records that a stream was ended because no policy could be asked about it again.
pub(crate) fn ended_for_failure(error: &HostError, protocol: Protocol, head: &Head<'_>) {
    Record { stream: Some(ENDED), ..of_failure(error, protocol, head) }.write();
}

fn of_failure(error: &HostError, protocol: Protocol, head: &Head<'_>) -> Record<'static> {
    let digest = host::peer_digest().ok().flatten();
    let mut record = Record::new(error.reason(), protocol, head, host::now().ok().map(Now::second), digest);
    record.error = Some(error.to_string());
    record
}

/// The request's identifier, as records and refusals carry it.
pub(crate) fn request_id(head: &Head<'_>) -> Option<String> {
    let (_, value) = head.fields.iter().find(|(name, _)| *name == b"x-request-id")?;
    Some(visible(value))
}

impl Record<'_> {
    fn new(reason: Reason, protocol: Protocol, head: &Head<'_>, now: Option<UnixTime>, digest: Option<Digest>) -> Self {
        Self {
            r#type: "decision",
            time: now.and_then(|now| Timestamp::from_second(now.0).ok()),
            policy: None,
            decision: if reason.status() < 400 { "allow" } else { "deny" },
            stream: None,
            protocol: (protocol == Protocol::Tcp).then_some("tcp"),
            status: reason.status(),
            reason: reason.code(),
            rule: None,
            identity: None,
            forwarder: None,
            roles: &[],
            shadow: None,
            candidate: None,
            method: head.method.map(visible),
            authority: head.authority.map(|authority| visible(without_user_information(authority))),
            path: head.path.map(|path| visible(without_query(path))),
            request_id: request_id(head),
            connection: host::connection_id(),
            certificate: digest.map(|digest| digest.to_string()),
            peer: None,
            forwarded: None,
            token: false,
            source: None,
            listener: None,
            tls: None,
            error: None,
        }
    }

    fn write(&self) {
        let level = if self.status < 400 { LogLevel::Info } else { LogLevel::Warn };
        // Strings, numbers and a time always serialise; without a line there would be nothing to say.
        let mut line = Vec::new();
        let written = self.serialize(&mut Serializer::with_formatter(&mut line, Ascii));
        if let (Ok(()), Ok(line)) = (written, str::from_utf8(&line)) {
            host::log(level, line);
        }
    }
}

/// JSON in visible ASCII: what is outside of it, in names of a certificate, is escaped without a loss.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for character in fragment.chars() {
            if character.is_ascii_graphic() || character == ' ' {
                writer.write_all(&[character as u8])?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
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
