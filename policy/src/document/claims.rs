//! Conditions on the claims of a token.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::Error;
use serde::de::SeqAccess;
use serde::de::Visitor;

use super::text::Entries;
use super::text::Text;
use super::text::list;
use super::text::present;

/// Claims by their path.
pub(crate) type Claims<'a> = Entries<Text<'a>, OneOf>;

/// What a member says of a token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenFields<'a> {
    #[serde(borrow)]
    pub(crate) provider: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) claims: Option<Claims<'a>>,
    #[serde(borrow, default, deserialize_with = "list")]
    pub(crate) scopes: Option<Vec<Text<'a>>>,
}

/// A value of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged, expecting = "text, a whole number, `true` or `false`")]
pub(crate) enum Plain {
    Bool(bool),
    Integer(i64),
    Text(String),
}

/// One value, or a list of them.
#[derive(Clone, Debug)]
pub(crate) struct OneOf(pub(crate) Vec<Plain>);

struct OneOfVisitor;

impl<'de> Visitor<'de> for OneOfVisitor {
    type Value = OneOf;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a whole number, `true`, `false`, or a list of them")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<OneOf, E> {
        Ok(OneOf(vec![Plain::Bool(value)]))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<OneOf, E> {
        Ok(OneOf(vec![Plain::Integer(value)]))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<OneOf, E> {
        let value = i64::try_from(value).map_err(|_| E::custom("a number beyond 64 bits"))?;
        Ok(OneOf(vec![Plain::Integer(value)]))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<OneOf, E> {
        Ok(OneOf(vec![Plain::Text(text.to_owned())]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OneOf, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            values.push(value);
        }
        Ok(OneOf(values))
    }
}

impl<'de> Deserialize<'de> for OneOf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOfVisitor)
    }
}
