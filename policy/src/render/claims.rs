//! Conditions on tokens, as they are written.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::strings::Strings;
use crate::token::claim::ClaimTest;
use crate::token::claim::Plain;
use crate::token::claim::Wanted;
use crate::token::condition::TokenCondition;
use crate::token::provider::Providers;

/// Claims by path.
pub(super) type Claims<'p> = BTreeMap<&'p str, Vec<PlainText<'p>>>;

/// A value of a claim.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum PlainText<'p> {
    Bool(bool),
    Integer(i64),
    Text(&'p str),
    Capture(String),
}

#[derive(Serialize)]
pub(super) struct TokenText<'p> {
    provider: &'p str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    claims: Claims<'p>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    scopes: &'p [Box<str>],
}

impl<'p> TokenText<'p> {
    pub(super) fn new(wanted: &'p TokenCondition, providers: &'p Providers, strings: &Strings) -> Self {
        Self {
            provider: providers.get(wanted.provider).map(|provider| provider.name.as_ref()).unwrap_or_default(),
            claims: claims(&wanted.claims, strings),
            scopes: &wanted.scopes,
        }
    }
}

pub(super) fn claims<'p>(tests: &'p [ClaimTest], strings: &Strings) -> Claims<'p> {
    let values = |test: &'p ClaimTest| match &test.wanted {
        Wanted::Capture(name) => vec![PlainText::Capture(format!("{{{}}}", strings.text(*name)))],
        Wanted::OneOf(values) => values
            .iter()
            .map(|value| match value {
                Plain::Bool(value) => PlainText::Bool(*value),
                Plain::Integer(value) => PlainText::Integer(*value),
                Plain::Text(text) => PlainText::Text(text),
            })
            .collect(),
    };
    tests.iter().map(|test| (test.path.as_str(), values(test))).collect()
}
