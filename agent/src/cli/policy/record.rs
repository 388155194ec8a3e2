//! The filter's own decision records as requests that are decided again.
//!
//! A record holds what a verdict was made of but for secrets. Where a verdict came from what a record does not hold, such as
//! header fields, it is not decided again: an answer that could be wrong is none.

use std::net::IpAddr;
use std::net::SocketAddr;

use jiff::Timestamp;
use portcullis_policy::CertificateError;
use portcullis_policy::Decision;
use portcullis_policy::Forwarded;
use portcullis_policy::Leaf;
use portcullis_policy::Peer;
use portcullis_policy::Policy;
use portcullis_policy::Protocol;
use portcullis_policy::Request;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::input::Line;
use super::input::ProtocolLine;
use super::verdict::Verdict;

/// What a record begins with, wherever in a line of the proxy's log it begins.
const BEGIN: &str = r#"{"type":"decision""#;

/// The filter cuts texts of this length, in bytes before escaping.
const TEXT_MAX: usize = 256;

/// Reasons for which the text of a path is refused by some policies and not by others.
const BY_NORMALIZATION: [&str; 2] = ["path_dot_segment", "path_empty_segment"];

/// The part of a record that a verdict is made of.
#[derive(Debug, Deserialize)]
struct Record {
    #[serde(default)]
    time: Option<Timestamp>,
    #[serde(default)]
    policy: Option<String>,
    #[serde(flatten)]
    verdict: Verdict<'static>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    authority: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    source: Option<IpAddr>,
    #[serde(default)]
    listener: Option<SocketAddr>,
    #[serde(default)]
    protocol: ProtocolLine,
    #[serde(default)]
    tls: Option<Value>,
    #[serde(default)]
    request_id: Box<RawValue>,
    #[serde(default)]
    certificate: Option<String>,
    #[serde(default)]
    peer: Option<Value>,
    #[serde(default)]
    forwarded: Option<Value>,
    #[serde(default)]
    token: bool,
    #[serde(default)]
    error: Option<String>,
}

/// What a record says of the decision that was made.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) verdict: Verdict<'static>,
    /// The version of the policy that made it.
    policy: Option<String>,
    /// Whether the request had a token.
    token: bool,
    /// Why it cannot be decided again, by whatever policy.
    missing: Option<String>,
}

/// The peer of a record.
#[derive(Debug)]
pub(super) enum Described {
    /// It presented something that no identity can be taken from.
    Unreadable(CertificateError),
    /// It presented this.
    Certificate(Box<Leaf>),
}

/// Where in a line of text a record begins, if it is one: the proxy writes when and where before it.
pub(super) fn find(line: &[u8]) -> Option<&[u8]> {
    let begin = line.windows(BEGIN.len()).position(|window| window == BEGIN.as_bytes())?;
    // What merely mentions a record, in a string, has its quotes escaped.
    line.get(begin..)
}

/// Makes a request of a record.
///
/// # Errors
///
/// What is wrong with it, and its `request_id` as far as it has one.
pub(super) fn parse(record: &[u8]) -> Result<Line, (Box<RawValue>, String)> {
    let record: Record = serde_json::from_slice(record).map_err(|error| (Box::default(), error.to_string()))?;
    let id = record.request_id.clone();
    line(record).map_err(|error| (id, error))
}

fn line(record: Record) -> Result<Line, String> {
    let text = |field: &str, text: Option<String>| match text {
        None => Ok(None),
        Some(text) => {
            unescape(&text).map(Some).ok_or_else(|| format!("`{field}` is not escaped as the filter does it"))
        }
    };
    let method = text("method", record.method)?;
    let authority = text("authority", record.authority)?;
    let path = text("path", record.path)?;
    let cut = [&method, &authority, &path].into_iter().flatten().any(|text| text.len() >= TEXT_MAX);
    let (described, unknown) = match (&record.peer, &record.certificate) {
        (Some(peer), _) => (Leaf::described(&peer.to_string()).map_err(|error| format!("peer: {error}"))?, false),
        (None, Some(_)) => (None, true),
        (None, None) => (None, false),
    };
    let unreadable = record.verdict.reason == "certificate_unreadable";
    let missing = if record.error.is_some() || record.verdict.status == 503 {
        Some("the gate failed before it asked the policy")
    } else if cut {
        Some("the record holds only a part of the request")
    } else if unknown && !unreadable {
        Some("the record does not hold the certificate's names")
    } else {
        None
    };
    let described = match described {
        _ if unreadable => Leaf::from_der(&[]).err().map(Described::Unreadable),
        Some(leaf) => Some(Described::Certificate(Box::new(leaf))),
        None => None,
    };
    let mut line = Line::from_head(record.request_id, record.time, method, authority, path);
    line.source = record.source;
    line.listener = record.listener;
    line.protocol = record.protocol;
    if let Some(tls) = record.tls {
        line.tls = serde_json::from_value(tls).map_err(|error| format!("tls: {error}"))?;
    }
    if let Some(client) = record.forwarded {
        line.client =
            Leaf::described(&client.to_string()).map_err(|error| format!("forwarded: {error}"))?.map(Box::new);
    }
    line.described = described;
    let missing = missing.map(str::to_owned);
    line.recorded = Some(Recorded { verdict: record.verdict, policy: record.policy, token: record.token, missing });
    Ok(line)
}

impl Recorded {
    /// Why the verdict that is made now says nothing about the recorded one, if so.
    pub(super) fn missing(&self, policy: &Policy, request: &Request<'_>, now: &Decision<'_>) -> Option<String> {
        let Self { verdict, missing, policy: recorded_by, .. } = self;
        let needs = policy.needs(request.protocol);
        // The filter reads what its policy asks about: what it did not read then, another policy may miss now.
        let same = recorded_by.as_deref() == Some(policy.version());
        let asks = [request.peer, client(request)];
        let anchored = asks.iter().all(|peer| match peer {
            Peer::Presented { subject, .. } => policy.knows_issuer(subject.leaf()),
            Peer::Absent | Peer::Unreadable(_) => true,
        });
        let unread = [
            (policy.takes_tokens() && request.protocol == Protocol::Http && (self.token || !same), "the token"),
            (!anchored && !same, "who signed the certificate"),
            (needs.headers, "header fields"),
            (needs.listener && request.listener.is_none() && !same, "where the peer connected to"),
            (needs.source && request.source.is_none() && !same, "the peer's address"),
            (needs.sni && request.tls.sni.is_none() && !same, "the server name"),
            (needs.tls_version && request.tls.version.is_none() && !same, "the version of TLS"),
        ];
        if let Some((_, what)) = unread.iter().find(|(unread, _)| *unread) {
            return Some(format!("the policy asks about {what}, and the record does not hold that"));
        }
        let form = verdict.status == 400 && !BY_NORMALIZATION.contains(&&*verdict.reason);
        // What was sent for a certificate, and who signed it, is not there to be refused again.
        let kinds = ["forward", "xfcc", "certificate_issuer"];
        let other_facts = kinds.iter().any(|kind| verdict.reason.starts_with(kind));
        let lost = (form || other_facts) && verdict.reason != now.reason().code();
        let lost = lost.then(|| format!("the record does not hold what was refused as `{}`", verdict.reason));
        missing.clone().or(lost)
    }
}

/// The client that a forwarder speaks for, as a peer.
fn client<'a>(request: &Request<'a>) -> Peer<'a> {
    match request.forwarded {
        Forwarded::Certificate(subject) => Peer::Presented { subject, validated: true },
        _ => Peer::Absent,
    }
}

/// Undoes [`slice::escape_ascii`].
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b't' => b'\t',
            b'r' => b'\r',
            b'n' => b'\n',
            same @ (b'\\' | b'\'' | b'"') => same,
            b'x' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                u8::try_from(digit(rest.next()?)? << 4 | digit(rest.next()?)?).ok()?
            }
            _ => return None,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_the_filter_escapes_is_read_as_it_was(bytes in any::<Vec<u8>>()) {
            prop_assert_eq!(unescape(&bytes.escape_ascii().to_string()), Some(bytes));
        }
    }

    #[test]
    fn what_the_filter_would_not_write_is_refused() {
        for text in ["\\", "\\x", "\\x1", "\\q", "\\xzz"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    #[test]
    fn a_record_is_found_behind_what_the_proxy_writes_before_it() {
        let record = r#"{"type":"decision","reason":"x"}"#;
        let prefix = "[2026-11-22 10:00:00.000][17][warning][wasm] [source/x.cc:1] wasm log portcullis: ";
        assert_eq!(find(format!("{prefix}{record}").as_bytes()), Some(record.as_bytes()));
        assert_eq!(find(record.as_bytes()), Some(record.as_bytes()));
        assert_eq!(find(br#"{"id":"{\"type\":\"decision\"}"}"#), None);
    }
}
