//! What a decision says, in the order in which people read it.

use std::borrow::Cow;

use portcullis_policy::Decision;
use portcullis_policy::Divergence;
use serde::Deserialize;
use serde::Serialize;

/// A verdict as it is printed, and as records hold it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Verdict<'a> {
    pub(super) decision: Cow<'a, str>,
    pub(super) status: u16,
    pub(super) reason: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<Cow<'a, str>>,
    pub(super) identity: Option<Cow<'a, str>>,
    /// The peer, where it speaks for who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forwarder: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) roles: Cow<'a, [String]>,
    /// What would be decided with shadow rules enforced, where that differs.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    shadow: Option<Other>,
    /// What the policy's candidate decides, where that differs.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    candidate: Option<Other>,
}

/// A verdict that is not enforced.
#[derive(Clone, Debug, Serialize)]
struct Other {
    decision: &'static str,
    status: u16,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
}

impl Other {
    fn of(other: Divergence<'_>) -> Self {
        Self {
            decision: word(other.is_allowed()),
            status: other.status(),
            reason: other.reason().code(),
            rule: other.rule().map(str::to_owned),
        }
    }
}

fn word(allowed: bool) -> &'static str {
    if allowed { "allow" } else { "deny" }
}

impl<'a> Verdict<'a> {
    pub(super) fn of(decision: &'a Decision<'_>) -> Self {
        Self {
            decision: Cow::Borrowed(word(decision.is_allowed())),
            status: decision.status(),
            reason: Cow::Borrowed(decision.reason().code()),
            rule: decision.rule().map(Cow::Borrowed),
            identity: decision.identity().map(Cow::Borrowed),
            forwarder: decision.forwarder().map(Cow::Borrowed),
            roles: Cow::Borrowed(decision.roles()),
            shadow: decision.shadow().map(Other::of),
            candidate: decision.candidate().map(Other::of),
        }
    }

    pub(super) fn into_owned(self) -> Verdict<'static> {
        let owned = |text: Cow<'a, str>| Cow::Owned(text.into_owned());
        Verdict {
            decision: owned(self.decision),
            status: self.status,
            reason: owned(self.reason),
            rule: self.rule.map(owned),
            identity: self.identity.map(owned),
            forwarder: self.forwarder.map(owned),
            roles: Cow::Owned(self.roles.into_owned()),
            shadow: self.shadow,
            candidate: self.candidate,
        }
    }

    /// Whether both say the same of what is enforced.
    pub(super) fn is(&self, other: &Verdict<'_>) -> bool {
        let outcome = (&self.decision, self.status, &self.reason, &self.rule);
        let who = (&self.identity, &self.forwarder, &self.roles);
        outcome == (&other.decision, other.status, &other.reason, &other.rule)
            && who == (&other.identity, &other.forwarder, &other.roles)
    }

    pub(super) fn is_allowed(&self) -> bool {
        self.decision == "allow"
    }

    /// What decided: the rule, or the reason where none matched.
    pub(super) fn by(&self) -> &str {
        self.rule.as_deref().unwrap_or(&self.reason)
    }
}
