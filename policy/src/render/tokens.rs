//! `tokens:` in canonical form: defaults shown, keys in place, of each key what is public and nothing else.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use crate::token::Algorithm;
use crate::token::provider::Provider;

/// Providers by name.
pub(super) type Tokens<'p> = BTreeMap<&'p str, ProviderText<'p>>;

#[derive(Serialize)]
pub(super) struct ProviderText<'p> {
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<&'p [String]>,
    jwks: Jwks<'p>,
    algorithms: Vec<&'static str>,
    binding: &'static str,
    waive: Vec<&'static str>,
    clock_skew: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope_claim: Option<&'p str>,
}

#[derive(Serialize)]
struct Jwks<'p> {
    keys: Vec<&'p Map<String, Value>>,
}

pub(super) fn tokens(providers: &[Provider]) -> Tokens<'_> {
    providers.iter().map(|provider| (provider.name.as_ref(), ProviderText::new(provider))).collect()
}

impl<'p> ProviderText<'p> {
    fn new(provider: &'p Provider) -> Self {
        let expected = &provider.expected;
        let waived = [("iss", expected.waive_issuer), ("aud", expected.waive_audience), ("exp", expected.waive_expiry)];
        Self {
            issuer: expected.issuer.as_deref(),
            audience: Some(expected.audience.as_slice()).filter(|audience| !audience.is_empty()),
            jwks: Jwks { keys: provider.keys.keys().iter().map(|key| key.jwk()).collect() },
            algorithms: provider.keys.allowed().iter().copied().map(Algorithm::name).collect(),
            binding: provider.binding.name(),
            waive: waived.into_iter().filter_map(|(name, waived)| waived.then_some(name)).collect(),
            clock_skew: format!("{}s", expected.clock_skew.as_secs()),
            scope_claim: provider.scope_claim.as_ref().map(|claim| claim.as_str()),
        }
    }
}
