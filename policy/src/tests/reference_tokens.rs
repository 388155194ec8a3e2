//! The part of [the reference](super::reference) about tokens: on lists of words.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;

use super::reference::Bound;
use super::reference::capture;

/// What a rule or a member asks of a token.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) scopes: Vec<&'static str>,
    /// A text, or a capture.
    pub(super) claims: BTreeMap<&'static str, &'static str>,
}

/// A verified token.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) provider: &'static str,
    pub(super) scopes: Option<Vec<&'static str>>,
    pub(super) claims: BTreeMap<&'static str, Vec<&'static str>>,
}

/// How a rule fares that everything but the token fulfils.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Matches,
    LacksToken,
    LacksScopes,
    Fails,
}

impl Wanted {
    pub(super) fn is_empty(&self) -> bool {
        self.scopes.is_empty() && self.claims.is_empty()
    }

    /// `None` if it cannot be told; captures stand for anything.
    pub(super) fn hold(&self, token: Option<&Token>) -> Option<bool> {
        let mut answers = Vec::new();
        if !self.scopes.is_empty() {
            answers.push(self.scopes_hold(token));
        }
        for claim in self.claims.keys() {
            answers.push(self.claim_holds(claim, token));
        }
        if answers.contains(&Some(false)) {
            Some(false)
        } else {
            answers.into_iter().try_fold(true, |_, answer| answer)
        }
    }

    /// Whether all that is asked of the claims holds; captures stand for anything.
    pub(super) fn claims_hold(&self, token: &Token) -> bool {
        Self { scopes: vec![], ..self.clone() }.hold(Some(token)) == Some(true)
    }

    fn scopes_hold(&self, token: Option<&Token>) -> Option<bool> {
        let scopes = token?.scopes.as_ref()?;
        Some(self.scopes.iter().all(|scope| scopes.contains(scope)))
    }

    fn claim_holds(&self, claim: &str, token: Option<&Token>) -> Option<bool> {
        let texts = token?.claims.get(claim)?;
        let wanted = self.claims[claim];
        Some(if capture(wanted).is_some() { !texts.is_empty() } else { texts.contains(&wanted) })
    }

    /// What becomes of a rule that asks this, and of which everything else holds.
    pub(super) fn outcome(&self, token: Option<&Token>) -> Outcome {
        match (self.hold(token), token) {
            (Some(true), _) => Outcome::Matches,
            (_, None) => Outcome::LacksToken,
            (_, Some(token)) if self.claims_hold(token) => Outcome::LacksScopes,
            (_, Some(_)) => Outcome::Fails,
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.claims.values().filter_map(|wanted| capture(wanted))
    }

    /// Whether the claims offer what their captures stand for, where the role names `role_names`.
    pub(super) fn agree(&self, bound: &Bound, role_names: &BTreeSet<String>, token: &Token) -> bool {
        let offered = |name: &str| -> Vec<&Vec<&'static str>> {
            let claims = self.claims.iter().filter(|(_, wanted)| capture(wanted) == Some(name));
            claims.map(|(claim, _)| &token.claims[claim]).collect()
        };
        self.names().all(|name| {
            let offered = offered(name);
            match bound.get(name) {
                Some(text) => offered.iter().all(|texts| texts.contains(&text.as_str())),
                None if role_names.contains(name) => false,
                None => offered[0].iter().any(|text| offered.iter().all(|texts| texts.contains(text))),
            }
        })
    }

    /// Every way in which a member's captures can be bound besides `ways`.
    pub(super) fn ways(&self, ways: Vec<Bound>, token: &Token) -> Vec<Bound> {
        self.claims.iter().fold(ways, |ways, (claim, wanted)| {
            let Some(name) = capture(wanted) else { return ways };
            let with = |way: &Bound, text: &str| {
                let mut way = way.clone();
                (way.entry(name.to_owned()).or_insert_with(|| text.to_owned()) == text).then_some(way)
            };
            ways.iter().flat_map(|way| token.claims[claim].iter().filter_map(|text| with(way, text))).collect()
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let mut value = json!({});
        if !self.scopes.is_empty() {
            value["scopes"] = json!(self.scopes);
        }
        if !self.claims.is_empty() {
            value["claims"] = json!(self.claims);
        }
        value
    }
}

/// Two issuers without a key: the tokens of these tests are thought of.
pub(super) fn providers() -> Value {
    let provider = |name: &str| json!({ "issuer": name, "audience": ["a"], "jwks": { "keys": [] } });
    json!({ "one": provider("one"), "two": provider("two") })
}
