//! The lines that `decide` and `explain` read: one request each, as JSON.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use portcullis_policy::CertificateError;
use portcullis_policy::Forwarded;
use portcullis_policy::Head;
use portcullis_policy::Leaf;
use portcullis_policy::Memory;
use portcullis_policy::Peer;
use portcullis_policy::Policy;
use portcullis_policy::Protocol;
use portcullis_policy::Reason;
use portcullis_policy::Request;
use portcullis_policy::Subject;
use portcullis_policy::Tls;
use portcullis_policy::UnixTime;
use portcullis_policy::signature::PureRust;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error as _;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde::de::value::MapAccessDeserializer;
use serde_json::Value;
use serde_json::value::RawValue;

use super::record;
use super::record::Described;
use super::record::Recorded;

/// Certificates that are kept parsed. Files of requests name few of them many times.
const MAX_CERTIFICATES: usize = 4096;

/// One request.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// As it was written.
    #[serde(default)]
    pub(super) id: Box<RawValue>,
    #[serde(default)]
    now: Option<Now>,
    #[serde(default)]
    peer: Option<Object<PeerLine>>,
    #[serde(default)]
    pub(super) tls: Option<Object<TlsLine>>,
    #[serde(default)]
    pub(super) source: Option<IpAddr>,
    /// Where the peer connected to.
    #[serde(default)]
    pub(super) listener: Option<SocketAddr>,
    #[serde(default)]
    pub(super) protocol: ProtocolLine,
    #[serde(default)]
    method: Option<Bytes>,
    #[serde(default)]
    authority: Option<Bytes>,
    #[serde(default)]
    path: Option<Bytes>,
    #[serde(default)]
    headers: Vec<(Bytes, Bytes)>,
    /// The peer of a record, in place of `peer`.
    #[serde(skip)]
    pub(super) described: Option<Described>,
    /// The certificate that the peer of a record forwarded.
    #[serde(skip)]
    pub(super) client: Option<Box<Leaf>>,
    /// If this was read from a record: what it says of the decision.
    #[serde(skip)]
    pub(super) recorded: Option<Recorded>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerLine {
    certificate: String,
    validated: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsLine {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    sni: Option<String>,
}

/// A struct from a JSON object and nothing else: what serde derives takes a list too, its elements for the fields in turn.
#[derive(Debug)]
pub(super) struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// What is asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ProtocolLine {
    #[default]
    Http,
    Tcp,
}

/// RFC 3339, or seconds since 1970; whole seconds count.
#[derive(Clone, Copy, Debug)]
struct Now(UnixTime);

impl<'de> Deserialize<'de> for Now {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let seconds = match &value {
            Value::String(text) => UnixTime::parse(text).map(|UnixTime(seconds)| seconds),
            Value::Number(number) => number.as_i64().or_else(|| {
                let seconds = number.as_f64()?.floor();
                // Exact in this range, and no certificate is valid beyond it.
                (seconds.abs() < 2_f64.powi(53)).then_some(seconds as i64)
            }),
            _ => None,
        };
        let seconds =
            seconds.ok_or_else(|| D::Error::custom(format!("`now` is neither RFC 3339 nor Unix seconds: {value}")))?;
        Ok(Self(UnixTime(seconds)))
    }
}

impl Now {
    fn by_the_clock() -> Self {
        Self(UnixTime(whole_seconds(Timestamp::now())))
    }
}

fn whole_seconds(timestamp: Timestamp) -> i64 {
    // Towards the past before 1970 too, where `as_second` rounds towards it.
    timestamp.as_second() - i64::from(timestamp.subsec_nanosecond() < 0)
}

/// Text, or `{"base64": …}` for what is not UTF-8.
#[derive(Clone, Debug, Default)]
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "neither text nor `{\"base64\": …}`")]
        enum Form<'a> {
            Text(#[serde(borrow)] Cow<'a, str>),
            Encoded(Object<Encoded>),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Encoded {
            base64: String,
        }
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(Self(text.into_owned().into_bytes())),
            Form::Encoded(Object(Encoded { base64 })) => {
                STANDARD.decode(&base64).map(Self).map_err(|error| D::Error::custom(format!("not base64: {error}")))
            }
        }
    }
}

impl Line {
    /// A request of which only the head is known.
    pub(super) fn from_head(
        id: Box<RawValue>,
        now: Option<Timestamp>,
        method: Option<Vec<u8>>,
        authority: Option<Vec<u8>>,
        path: Option<Vec<u8>>,
    ) -> Self {
        Self {
            id,
            now: now.map(|now| Now(UnixTime(whole_seconds(now)))),
            method: method.map(Bytes),
            authority: authority.map(Bytes),
            path: path.map(Bytes),
            ..Self::default()
        }
    }

    /// Parses one line, which may be a decision record of the filter.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and its `id` as far as it has one.
    pub(super) fn parse(text: &[u8]) -> Result<Self, (Box<RawValue>, String)> {
        if let Some(record) = record::find(text) {
            return record::parse(record);
        }
        #[derive(Deserialize)]
        struct Id {
            #[serde(default)]
            id: Box<RawValue>,
        }
        let Object(mut line): Object<Self> = serde_json::from_slice(text).map_err(|error| {
            let id = serde_json::from_slice(text).map_or_else(|_| Box::default(), |Object(Id { id })| id);
            (id, error.to_string())
        })?;
        let has_head =
            line.method.is_some() || line.authority.is_some() || line.path.is_some() || !line.headers.is_empty();
        if line.protocol == ProtocolLine::Tcp && has_head {
            return Err((line.id, "a TCP connection has no method, authority, path and headers".to_owned()));
        }
        // As proxies hand them over: names of fields have no case (RFC 9110 §5.1).
        line.headers.iter_mut().for_each(|(name, _)| name.0.make_ascii_lowercase());
        Ok(line)
    }

    /// The same request, made now if it does not say when.
    pub(super) fn at_once(mut self) -> Self {
        self.now.get_or_insert_with(Now::by_the_clock);
        self
    }

    /// Method, host and path for people.
    pub(super) fn shown(&self) -> (Option<String>, Option<String>, Option<String>) {
        let text = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| bytes.0.escape_ascii().to_string());
        (text(&self.method), text(&self.authority), text(&self.path))
    }

    /// Whether a record's certificate was validated. The filter's host does not say; what it wrote of it counts.
    fn was_validated(&self) -> bool {
        self.recorded.as_ref().is_none_or(|recorded| recorded.verdict.reason != "certificate_not_validated")
    }

    /// Calls `answer` with the request that the line describes.
    pub(super) fn with_request<T>(
        &self,
        policy: &Policy,
        certificates: &mut Certificates,
        answer: impl FnOnce(&Request<'_>) -> T,
    ) -> T {
        let Certificates { presented, memory, described } = certificates;
        let now = self.now.unwrap_or_else(Now::by_the_clock).0;
        let pseudo = [(&b":method"[..], &self.method), (b":authority", &self.authority), (b":path", &self.path)];
        let pseudo = pseudo.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?.0.as_slice())));
        // A record holds what a forwarder said, and not in which words.
        let client = self.client.as_ref().map(|_| (&b"x-forwarded-client-cert"[..], &b"recorded"[..]));
        let fields = self.headers.iter().map(|(name, value)| (name.0.as_slice(), value.0.as_slice())).chain(client);
        let tls = self.tls.as_ref().map(|Object(tls)| tls);
        let head = Head::from_pairs(pseudo.chain(fields));
        // A proxy that says nothing else of its peer has written it into the header.
        let is_told = self.peer.is_some() || self.recorded.is_some();
        let own = if policy.own_xfcc() && !is_told { memory.own_peer(policy, &head, &mut PureRust) } else { None };
        let peer = match (&self.peer, &self.described, &own) {
            (Some(Object(peer)), ..) => match presented.subject(policy, &peer.certificate) {
                Ok(subject) => Peer::Presented { subject, validated: peer.validated },
                Err(error) => Peer::Unreadable(error),
            },
            (None, Some(Described::Certificate(leaf)), _) => {
                let subject = described.insert(policy.subject((**leaf).clone()));
                Peer::Presented { subject, validated: self.was_validated() }
            }
            (None, Some(Described::Unreadable(error)), _) => Peer::Unreadable(error),
            (None, None, Some(Some(subject))) => Peer::Presented { subject, validated: true },
            (None, None, Some(None)) => Peer::Unreadable(&CertificateError::Pem),
            (None, None, None) => Peer::Absent,
        };
        let forwarded = match &self.client {
            None => memory.forwarded(policy, &peer, &head, &mut PureRust),
            Some(client) => Forwarded::Certificate(Arc::new(policy.subject((**client).clone()))),
        };
        let token = memory.token(policy, &head, now, &mut PureRust);
        let mut request = Request {
            now,
            peer,
            forwarded: &forwarded,
            token: &token,
            tls: Tls {
                version: tls.and_then(|tls| tls.version.as_deref()),
                sni: tls.and_then(|tls| tls.sni.as_deref()),
            },
            source: self.source,
            listener: self.listener,
            protocol: match self.protocol {
                ProtocolLine::Http => Protocol::Http,
                ProtocolLine::Tcp => Protocol::Tcp,
            },
            head,
        };
        // To a policy for which the peer is no forwarder it is somebody who sends such a header.
        let nothing = Forwarded::Nothing;
        if self.client.is_some() && policy.decide(&request).reason() == Reason::InternalError {
            request.forwarded = &nothing;
        }
        answer(&request)
    }
}

/// What was learned from the lines before.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    presented: Presented,
    memory: Memory,
    /// The one that was described last.
    described: Option<Subject>,
}

/// Certificates by their text, parsed once and with the roles that they have.
#[derive(Debug, Default)]
struct Presented(HashMap<String, Result<Subject, CertificateError>>);

impl Presented {
    fn subject(&mut self, policy: &Policy, pem: &str) -> Result<&Subject, &CertificateError> {
        if self.0.len() >= MAX_CERTIFICATES && !self.0.contains_key(pem) {
            self.0.clear();
        }
        if !self.0.contains_key(pem) {
            let subject = Leaf::from_pem(pem.as_bytes()).map(|leaf| policy.verified_subject(leaf, &mut PureRust));
            self.0.insert(pem.to_owned(), subject);
        }
        self.0[pem].as_ref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn fractions_of_seconds_are_cut_off_towards_the_past() {
        let cases = [
            (json!("1970-01-01T00:00:01.999Z"), Some(1)),
            (json!("1969-12-31T23:59:59.5Z"), Some(-1)),
            (json!("9999-12-31T23:59:59Z"), Some(253_402_300_799)),
            (json!("2026-11-22T12:00:00+02:00"), Some(1_795_341_600)),
            (json!(1.9), Some(1)),
            (json!(-0.5), Some(-1)),
            (json!(-7), Some(-7)),
            (json!(1e300), None),
            (json!("1970-01-01"), None),
            (json!(true), None),
        ];
        for (value, want) in cases {
            let now = serde_json::from_value::<Now>(value.clone()).ok();
            assert_eq!(now.map(|now| now.0), want.map(UnixTime), "{value}");
        }
    }

    #[test]
    fn a_certificate_is_parsed_once_and_few_are_kept() {
        let policy = Policy::from_json(br#"{"version":1,"rules":[]}"#).unwrap();
        let mut certificates = Presented::default();
        for number in 0..2 * MAX_CERTIFICATES {
            assert!(certificates.subject(&policy, &number.to_string()).is_err());
            assert!(certificates.subject(&policy, "the same").is_err());
            assert!(certificates.0.len() <= MAX_CERTIFICATES);
        }
    }

    proptest! {
        #[test]
        fn any_line_is_a_request_or_an_error(
            field in "id|now|peer|tls|source|method|path|headers|x",
            value in "[\\[\\]{}\",:a-z0-9.\\\\ -]{0,30}",
        ) {
            let _ = Line::parse(format!("{{\"{field}\":{value}}}").as_bytes());
            let _ = Line::parse(value.as_bytes());
        }
    }
}
