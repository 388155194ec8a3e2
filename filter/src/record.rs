//! The decision record: one JSON line in the proxy's log for one decision, on a request or on a stream that is open.
//!
//! Holds no secret: of the header fields only the request's identifier, no query, no user information. What a client
//! wrote is cut to a bound and reduced to visible ASCII, so that it can neither end the line nor steer a terminal.

use std::cell::RefCell;
use std::net::IpAddr;
use std::net::SocketAddr;

use portcullis_policy::Decision;
use portcullis_policy::Divergence;
use portcullis_policy::Forwarded;
use portcullis_policy::Head;
use portcullis_policy::JsonObject;
use portcullis_policy::Peer;
use portcullis_policy::Protocol;
use portcullis_policy::Reason;
use portcullis_policy::Request;
use portcullis_policy::UnixTime;
use portcullis_policy::token::Bearer;
use proxy_wasm::types::LogLevel;

use crate::host;
use crate::host::Digest;
use crate::host::HostError;
use crate::host::Now;
use crate::log;

/// Longest part of a request's text that a record holds, in bytes before escaping.
const TEXT_MAX: usize = 256;

/// What most lines need, in bytes.
const MOST_LINES: usize = 1024;

const ENDED: &str = "ended";

thread_local! {
    static LAST_TIME: RefCell<LastTime> = const { RefCell::new(LastTime { second: UnixTime(0), text: None }) };
}

/// The last second that was written, and its text: in a flood, that of many records.
struct LastTime {
    second: UnixTime,
    /// `None` before the first, and where the calendar does not hold it.
    text: Option<String>,
}

impl LastTime {
    fn of(&mut self, second: UnixTime) -> Option<&str> {
        if self.text.is_none() || self.second != second {
            *self = Self { second, text: second.to_rfc3339() };
        }
        self.text.as_deref()
    }
}

struct Record<'a> {
    time: Option<UnixTime>,
    policy: Option<&'a str>,
    /// `ended`, where the decision is about a stream that was let through before and was open until now.
    stream: Option<&'static str>,
    /// `tcp`, where the decision is about a connection.
    protocol: Option<&'static str>,
    reason: Reason,
    rule: Option<&'a str>,
    identity: Option<&'a str>,
    /// The peer, where it speaks for who asks.
    forwarder: Option<&'a str>,
    roles: &'a [String],
    /// What would be decided with shadow rules enforced, where that differs.
    shadow: Option<Divergence<'a>>,
    /// What the policy's candidate decides, where that differs.
    candidate: Option<Divergence<'a>>,
    method: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    request_id: Option<&'a [u8]>,
    connection: Option<u64>,
    certificate: Option<Digest>,
    /// What the certificate says (JSON), so that the decision can be made again; absent if that is more than a record holds.
    peer: Option<&'a str>,
    /// The same of the certificate that the peer, a forwarder, forwarded.
    forwarded: Option<&'a str>,
    /// Whether the request had a token that the policy looks at. A record never holds it.
    token: bool,
    source: Option<IpAddr>,
    listener: Option<SocketAddr>,
    /// What the policy asked about the connection.
    tls_version: Option<&'a [u8]>,
    sni: Option<&'a [u8]>,
    /// What failed, where the gate itself did.
    error: Option<String>,
}

/// Records what the policy decided.
pub(crate) fn decided(decision: &Decision<'_>, request: &Request<'_>, digest: Option<Digest>) {
    of_decision(decision, request, digest).write();
}

/// Records that a stream was ended: the policy that let it in, or the one in its place, refuses it now.
pub(crate) fn ended(decision: &Decision<'_>, request: &Request<'_>, digest: Option<Digest>) {
    Record { stream: Some(ENDED), ..of_decision(decision, request, digest) }.write();
}

fn of_decision<'a>(decision: &'a Decision<'_>, request: &'a Request<'_>, digest: Option<Digest>) -> Record<'a> {
    let mut record = Record::new(decision.reason(), request.protocol, &request.head, Some(request.now), digest);
    record.policy = Some(decision.policy_version());
    record.rule = decision.rule();
    record.identity = decision.identity();
    record.forwarder = decision.forwarder();
    record.roles = decision.roles();
    record.shadow = decision.shadow();
    record.candidate = decision.candidate();
    if let Peer::Presented { subject, .. } = request.peer {
        record.peer = subject.description();
    }
    if let Forwarded::Certificate(subject) = request.forwarded {
        record.forwarded = subject.description();
        // The one without the other would be another request.
        record.peer = record.peer.filter(|_| record.forwarded.is_some());
    }
    record.token = !matches!(request.token, Bearer::Absent);
    record.source = request.source;
    record.listener = request.listener;
    record.tls_version = request.tls.version.map(str::as_bytes);
    record.sni = request.tls.sni.map(str::as_bytes);
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

fn of_failure<'a>(error: &HostError, protocol: Protocol, head: &Head<'a>) -> Record<'a> {
    let digest = host::peer_digest().ok().flatten();
    let mut record = Record::new(error.reason(), protocol, head, host::now().ok().map(Now::second), digest);
    record.error = Some(error.to_string());
    record
}

/// The request's identifier, as records and refusals carry it.
pub(crate) fn request_id<'a>(head: &Head<'a>) -> Option<&'a [u8]> {
    head.fields.iter().find(|(name, _)| *name == b"x-request-id").map(|(_, value)| cut(value))
}

impl<'a> Record<'a> {
    fn new(
        reason: Reason,
        protocol: Protocol,
        head: &Head<'a>,
        time: Option<UnixTime>,
        certificate: Option<Digest>,
    ) -> Self {
        Self {
            time,
            policy: None,
            stream: None,
            protocol: (protocol == Protocol::Tcp).then_some("tcp"),
            reason,
            rule: None,
            identity: None,
            forwarder: None,
            roles: &[],
            shadow: None,
            candidate: None,
            method: head.method,
            authority: head.authority.map(without_user_information),
            path: head.path.map(without_query),
            request_id: request_id(head),
            connection: host::connection_id(),
            certificate,
            peer: None,
            forwarded: None,
            token: false,
            source: None,
            listener: None,
            tls_version: None,
            sni: None,
            error: None,
        }
    }

    fn write(&self) {
        let level = if self.reason.status() < 400 { LogLevel::Info } else { LogLevel::Warn };
        log::line(level, |text| self.write_to(text));
    }

    /// One line, its fields in this order.
    fn write_to(&self, text: &mut String) {
        text.reserve(MOST_LINES);
        let mut line = JsonObject::begin(text);
        line.text("type", "decision");
        match self.time {
            Some(time) => LAST_TIME.with_borrow_mut(|last| or_null(&mut line, "time", last.of(time))),
            None => line.json("time", NULL),
        }
        or_null(&mut line, "policy", self.policy);
        line.text("decision", if self.reason.status() < 400 { "allow" } else { "deny" });
        if_any(&mut line, "stream", self.stream);
        if_any(&mut line, "protocol", self.protocol);
        line.number("status", self.reason.status().into());
        line.text("reason", self.reason.code());
        if_any(&mut line, "rule", self.rule);
        or_null(&mut line, "identity", self.identity);
        if_any(&mut line, "forwarder", self.forwarder);
        line.texts("roles", self.roles);
        for (name, other) in [("shadow", self.shadow), ("candidate", self.candidate)] {
            let Some(other) = other else { continue };
            line.object(name, |line| {
                line.text("decision", if other.is_allowed() { "allow" } else { "deny" });
                line.number("status", other.status().into());
                line.text("reason", other.reason().code());
                if_any(line, "rule", other.rule());
            });
        }
        written(&mut line, "method", self.method);
        written(&mut line, "authority", self.authority);
        written(&mut line, "path", self.path);
        written(&mut line, "request_id", self.request_id);
        match self.connection {
            Some(connection) => line.number("connection", connection),
            None => line.json("connection", NULL),
        }
        match self.certificate {
            Some(digest) => line.hex("certificate", digest.as_bytes()),
            None => line.json("certificate", NULL),
        }
        for (name, description) in [("peer", self.peer), ("forwarded", self.forwarded)] {
            if let Some(description) = description {
                line.json(name, description);
            }
        }
        if self.token {
            line.json("token", "true");
        }
        if let Some(source) = self.source {
            line.text("source", &source.to_string());
        }
        if let Some(listener) = self.listener {
            line.text("listener", &listener.to_string());
        }
        if self.tls_version.is_some() || self.sni.is_some() {
            line.object("tls", |line| {
                for (name, value) in [("version", self.tls_version), ("sni", self.sni)] {
                    if let Some(value) = value {
                        line.bytes(name, cut(value));
                    }
                }
            });
        }
        if_any(&mut line, "error", self.error.as_deref());
        line.finish();
    }
}

const NULL: &str = "null";

fn or_null(line: &mut JsonObject<'_>, name: &str, text: Option<&str>) {
    match text {
        Some(text) => line.text(name, text),
        None => line.json(name, NULL),
    }
}

fn if_any(line: &mut JsonObject<'_>, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        line.text(name, text);
    }
}

/// What a client wrote.
fn written(line: &mut JsonObject<'_>, name: &str, text: Option<&[u8]>) {
    match text {
        Some(text) => line.bytes(name, cut(text)),
        None => line.json(name, NULL),
    }
}

fn cut(text: &[u8]) -> &[u8] {
    text.get(..TEXT_MAX).unwrap_or(text)
}

fn without_query(path: &[u8]) -> &[u8] {
    path.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default()
}

fn without_user_information(authority: &[u8]) -> &[u8] {
    authority.rsplit(|byte| *byte == b'@').next().unwrap_or_default()
}
