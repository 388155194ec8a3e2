//! What a rule requires beside method, path, host and role. Boxed, since most rules require none of it.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error;
use serde::de::SeqAccess;
use serde::de::Visitor;

use super::claims::Claims;
use super::object::objects;
use super::object::optional_object;
use super::text::Entries;
use super::text::Text;
use super::text::boxed;
use super::text::collect;
use super::text::present;

/// These fields of a rule, or those of its `not`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Requirements<'a> {
    #[serde(borrow, default, deserialize_with = "boxed")]
    pub(crate) headers: Option<Box<Headers<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    pub(crate) sources: Option<Box<List<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    pub(crate) listeners: Option<Box<List<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    pub(crate) sni: Option<Box<List<'a>>>,
    #[serde(borrow, default, deserialize_with = "optional_object")]
    pub(crate) tls: Option<Box<Tls<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    pub(crate) times: Option<Box<Windows<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    pub(crate) scopes: Option<Box<List<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    pub(crate) claims: Option<Box<Claims<'a>>>,
}

/// The `not` of a rule about TCP connections.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpRequirements<'a> {
    #[serde(borrow, default, deserialize_with = "boxed")]
    sources: Option<Box<List<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    listeners: Option<Box<List<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    sni: Option<Box<List<'a>>>,
    #[serde(borrow, default, deserialize_with = "optional_object")]
    tls: Option<Box<Tls<'a>>>,
    #[serde(borrow, default, deserialize_with = "boxed")]
    times: Option<Box<Windows<'a>>>,
}

impl<'a> From<TcpRequirements<'a>> for Requirements<'a> {
    fn from(requirements: TcpRequirements<'a>) -> Self {
        let TcpRequirements { sources, listeners, sni, tls, times } = requirements;
        Self { sources, listeners, sni, tls, times, ..Self::default() }
    }
}

/// Values by the name of the header field.
pub(crate) type Headers<'a> = Entries<Text<'a>, OneOrMany<'a>>;

/// A list of texts.
#[derive(Debug)]
pub(crate) struct List<'a>(pub(crate) Vec<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for List<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self)
    }
}

/// What is required of the TLS connection.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls<'a> {
    #[serde(borrow)]
    pub(crate) min_version: Text<'a>,
}

/// Windows of time.
#[derive(Debug)]
pub(crate) struct Windows<'a>(pub(crate) Vec<Window<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Windows<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        objects(deserializer).map(Self)
    }
}

/// A window of time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Window<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) from: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) until: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) days: Option<List<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) hours: Option<Text<'a>>,
}

/// One text, or a list of them.
#[derive(Debug)]
pub(crate) struct OneOrMany<'a>(pub(crate) Vec<Text<'a>>);

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or a list of texts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(OneOrMany(vec![Text::owned(text)]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        collect(seq).map(OneOrMany)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for OneOrMany<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}
