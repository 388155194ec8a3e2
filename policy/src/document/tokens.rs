//! Where bearer tokens may come from.

use serde::Deserialize;
use serde::Deserializer;
use serde_json::Value;

use super::object::Object;
use super::object::object;
use super::text::Entries;
use super::text::Text;
use super::text::list;
use super::text::present;
use crate::token::json::Strict;

/// Providers by name.
pub(crate) type Tokens<'a> = Entries<Text<'a>, Provider<'a>>;

/// One issuer of tokens.
#[derive(Debug)]
pub(crate) struct Provider<'a>(pub(crate) Fields<'a>);

/// The fields of a provider.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) issuer: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "list")]
    pub(crate) audience: Option<Vec<Text<'a>>>,
    #[serde(borrow, deserialize_with = "object")]
    pub(crate) jwks: Jwks<'a>,
    #[serde(borrow, default, deserialize_with = "list")]
    pub(crate) algorithms: Option<Vec<Text<'a>>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) binding: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(crate) waive: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) clock_skew: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) scope_claim: Option<Text<'a>>,
}

/// Where a provider's keys are. `file` and `url` are for whoever prepares the document: a policy has the keys themselves.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jwks<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) file: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) url: Option<Text<'a>>,
    #[serde(default, deserialize_with = "keys")]
    pub(crate) keys: Option<Vec<Value>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Provider<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::deserialize(deserializer).map(|Object(fields)| Self(fields))
    }
}

/// Keys in the form of RFC 7517 §4, no name in which occurs twice.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Value>>, D::Error> {
    let keys = Vec::<Strict>::deserialize(deserializer)?;
    Ok(Some(keys.into_iter().map(|Strict(key)| key).collect()))
}
