//! The policy's own tests. They own their text: a policy keeps them, and they are few.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Unexpected;
use serde::de::Visitor;
use serde::de::value::MapAccessDeserializer;
use serde_json::Map;
use serde_json::Value;

use super::object::object;
use super::object::optional_object;
use super::object::some_object;
use super::text::Entries;
use super::text::present;

/// One of the policy's own tests.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) peer: Peer,
    /// The forwarder that the peer is behind.
    #[serde(default, deserialize_with = "optional_names", skip_serializing_if = "Option::is_none")]
    pub(crate) forwarded_by: Option<Box<PeerNames>>,
    #[serde(default, deserialize_with = "optional_object", skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Box<TestToken>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<String>,
    /// Where a TCP connection goes to, in place of `request`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) connection: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    #[serde(default, skip_serializing_if = "Entries::is_empty")]
    pub(crate) headers: Entries<String, OneOrMany>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// Where the request came in.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) listener: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) sni: Option<String>,
    /// Version of TLS.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<String>,
    /// When the request is made.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
    #[serde(deserialize_with = "object")]
    pub(crate) expect: Expect,
}

/// Names from a map and nothing else.
fn optional_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<PeerNames>>, D::Error> {
    object(deserializer).map(|names| Some(Box::new(names)))
}

/// What a test expects: `allow` names the rule, `deny` a reason or the rule.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) allow: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) deny: Option<String>,
}

/// The token that a test sends, thought of as verified and as the peer's.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestToken {
    pub(crate) provider: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) claims: Map<String, Value>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) scopes: Option<Vec<String>>,
}

/// The peer of a test: the word `none`, or the names in its certificate.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    Absent,
    Presented(Box<PeerNames>),
}

/// The names in the certificate that a test presents.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerNames {
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) spiffe: Option<String>,
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub(crate) uri: OneOrMany,
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub(crate) dns: OneOrMany,
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub(crate) email: OneOrMany,
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub(crate) ip: OneOrMany,
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub(crate) eku: OneOrMany,
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub(crate) oid: OneOrMany,
    #[serde(default, deserialize_with = "some_object", skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<TestKey>,
    /// How long the certificate is valid; for ever if it is left out.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) lifetime: Option<String>,
    #[serde(default, skip_serializing_if = "Entries::is_empty")]
    pub(crate) subject: Entries<String, String>,
    #[serde(default, skip_serializing_if = "Entries::is_empty")]
    pub(crate) issuer: Entries<String, String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) serial: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) spki_sha256: Option<String>,
    /// Since when the certificate is valid: just now if it is left out.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) not_before: Option<String>,
    /// Until when it is valid: for ever if it is left out.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) not_after: Option<String>,
}

/// The key of a test's certificate.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestKey {
    pub(crate) r#type: String,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) bits: Option<usize>,
}

/// One text, or a list of them.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct OneOrMany(pub(crate) Vec<String>);

impl OneOrMany {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or a list of texts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(OneOrMany(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = seq.next_element()? {
            texts.push(text);
        }
        Ok(OneOrMany(texts))
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

struct PeerVisitor;

impl<'de> Visitor<'de> for PeerVisitor {
    type Value = Peer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`none` or a map of names")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
        if word == "none" { Ok(Peer::Absent) } else { Err(E::invalid_value(Unexpected::Str(word), &self)) }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        PeerNames::deserialize(MapAccessDeserializer::new(map)).map(|names| Peer::Presented(Box::new(names)))
    }
}

impl<'de> Deserialize<'de> for Peer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PeerVisitor)
    }
}

impl Serialize for Peer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent => serializer.serialize_str("none"),
            Self::Presented(names) => names.serialize(serializer),
        }
    }
}
