//! A compiled policy.

use std::borrow::Cow;
use std::iter;
use std::sync::Arc;
use std::sync::OnceLock;

use crate::anchor::Anchors;
use crate::certificate::Leaf;
use crate::check;
use crate::check::Finding;
use crate::compile;
use crate::compile::RoleTable;
use crate::decide;
use crate::decide::Decision;
use crate::decide::Protocol;
use crate::decide::Request;
use crate::drain::Drain;
use crate::error::PolicyError;
use crate::explain;
use crate::explain::Explanation;
use crate::form::Form;
use crate::forwarded::Forwarder;
use crate::horizon::Windows;
use crate::index::Found;
use crate::index::Index;
use crate::index::Query;
use crate::json_object::visible_ascii;
use crate::path::Normalization;
use crate::pattern::Patterns;
use crate::reason::Reason;
use crate::render;
use crate::requirement::Needs;
use crate::revocation::Revocations;
use crate::roles::Held;
use crate::roles::Members;
use crate::rule::Methods;
use crate::rule::RuleId;
use crate::rule::Rules;
use crate::selftest::Test;
use crate::signature::Verifier;
use crate::standing::Standing;
use crate::strings::Strings;
use crate::time::UnixTime;
use crate::token::Token;
use crate::token::provider::Providers;

/// A compiled policy: immutable, indexed, ready to decide.
#[derive(Debug)]
pub struct Policy {
    pub(crate) settings: Settings,
    pub(crate) anchors: Arc<Anchors>,
    pub(crate) providers: Arc<Providers>,
    pub(crate) strings: Strings,
    pub(crate) patterns: Patterns,
    pub(crate) roles: RoleTable,
    pub(crate) members: Members,
    pub(crate) forwarders: Vec<Forwarder>,
    pub(crate) rules: Rules,
    pub(crate) index: Index,
    /// About TCP connections.
    pub(crate) tcp: RuleSet,
    pub(crate) standing: Standing,
    pub(crate) tests: Vec<Test>,
    pub(crate) needs: Needs,
    /// The same of connections.
    pub(crate) tcp_needs: Needs,
    pub(crate) windows: Windows,
    /// Decides beside this one, and nothing comes of it but the knowledge.
    pub(crate) candidate: Option<Box<Self>>,
    /// Empty until the rest is in place.
    pub(crate) version: String,
}

/// Rules, and the index over them.
#[derive(Debug)]
pub(crate) struct RuleSet {
    pub(crate) rules: Rules,
    pub(crate) index: Index,
}

/// What a policy says once and for all.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) trust_domain: Option<String>,
    pub(crate) normalization: Normalization,
    /// 0 is never.
    pub(crate) allow_every: u64,
    /// The proxy itself writes the last element of `x-forwarded-client-cert`, about its own peer.
    pub(crate) own_xfcc: bool,
    pub(crate) drain: Option<Drain>,
}

/// A leaf with what one policy says of it (its roles), worked out once. Used with another policy it is worked out anew.
#[derive(Clone, Debug)]
pub struct Subject {
    leaf: Leaf,
    view: View,
    /// Of the policy's candidate.
    candidate: Option<View>,
    description: OnceLock<Option<Box<str>>>,
}

/// What one policy says of a certificate at any time.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Version of the policy.
    pub(crate) policy: String,
    /// In the order of the roles' numbers.
    pub(crate) held: Vec<Held>,
    /// The names of the roles, sorted.
    pub(crate) roles: Vec<String>,
    /// Which of the policy's forwarders it is. A forwarder holds no role: it is never taken for its client.
    pub(crate) forwarder: Option<usize>,
    /// Why the certificate is not believed, whatever the time.
    pub(crate) lasting: Option<Reason>,
}

/// One of the policy's own `tests:` that did not come out as expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("test `{name}`: expected {expected}, got {got}")]
pub struct TestFailure {
    /// The test's name.
    pub name: String,
    /// Its place, `tests[3]`.
    pub path: String,
    /// What the test expects.
    pub expected: String,
    /// What the policy decides.
    pub got: String,
}

impl Policy {
    /// Parses and compiles a policy document in JSON. Its `tests:` are not run: see [`Policy::run_tests`].
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its place.
    pub fn from_json(text: &[u8]) -> Result<Self, PolicyError> {
        compile::compile(text)
    }

    /// Runs the policy's own tests, and those of its candidate, and returns those that fail.
    pub fn run_tests(&self) -> Vec<TestFailure> {
        let failing = |policy: &Self| -> Vec<TestFailure> {
            policy.tests.iter().enumerate().filter_map(|(position, test)| test.run(position, policy)).collect()
        };
        let mut failures = failing(self);
        for failure in self.candidate.as_deref().map(failing).unwrap_or_default() {
            failures.push(TestFailure { path: format!("candidate.{}", failure.path), ..failure });
        }
        failures
    }

    /// Explains the decision on one request, rule by rule. Looks at every rule: for people, not for requests.
    pub fn explain<'p>(&'p self, request: &Request<'p>) -> Explanation<'p> {
        explain::explain(self, request)
    }

    /// Looks for what is probably not meant: rules that never decide, roles that nothing uses, times that are over at `now`.
    pub fn check(&self, now: UnixTime) -> Vec<Finding> {
        check::check(self, now)
    }

    /// SHA-256 (hex) of the canonical document: equal policies have equal versions. With a set of revocations in it, `+` and
    /// the set's version follow the hash of the rest.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Which facts of a request, or of a connection, this policy asks about.
    pub fn needs(&self, protocol: Protocol) -> Needs {
        match protocol {
            Protocol::Http => self.needs,
            Protocol::Tcp => self.tcp_needs,
        }
    }

    /// Number of rules, those about TCP connections included.
    pub fn rule_count(&self) -> usize {
        self.rules.len() + self.tcp.rules.len()
    }

    /// Every how-manieth allowed request leaves a decision record; `None` is never.
    pub fn record_allow_every(&self) -> Option<u64> {
        Some(self.settings.allow_every).filter(|every| *every > 0)
    }

    /// Whether the proxy itself writes the last element of `x-forwarded-client-cert`, about its own peer (`own_xfcc`).
    pub fn own_xfcc(&self) -> bool {
        self.settings.own_xfcc
    }

    /// The policy in canonical JSON: one form for all documents that say the same, defaults shown.
    pub fn to_json(&self) -> String {
        render::to_json(self)
    }

    /// Works out what this policy says of a certificate, its signature checked against the policy's anchors if there are
    /// any. Cache the answer by certificate hash.
    pub fn verified_subject(&self, mut leaf: Leaf, verifier: &mut dyn Verifier) -> Subject {
        let issuers = self.anchors.issuers(&leaf, verifier);
        leaf.signed_by(issuers);
        self.subject(leaf)
    }

    /// The same without a check of the signature: a policy with anchors believes no certificate that comes this way.
    pub fn subject(&self, mut leaf: Leaf) -> Subject {
        leaf.signed_by(Vec::new());
        let view = self.look_at(&leaf);
        let candidate = self.candidate.as_ref().map(|candidate| candidate.look_at(&leaf));
        Subject { leaf, view, candidate, description: OnceLock::new() }
    }

    /// Whether it is known of a certificate that one of this policy's anchors signed it, if the policy has anchors.
    pub fn knows_issuer(&self, leaf: &Leaf) -> bool {
        self.anchors.know(leaf.provenance().issuers())
    }

    /// Decides one request. The cost does not grow with the number of rules.
    pub fn decide<'p>(&'p self, request: &Request<'p>) -> Decision<'p> {
        decide::decide(self, request)
    }

    pub(crate) fn normalization(&self) -> Normalization {
        self.settings.normalization
    }

    /// What an agent says is revoked.
    pub fn revocations(&self) -> &Revocations {
        &self.standing.revocations
    }

    /// Whether bearer tokens are looked at.
    pub fn takes_tokens(&self) -> bool {
        !self.providers.is_empty()
    }

    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The forwarder that a view names.
    pub(crate) fn forwarder(&self, view: &View) -> Option<&Forwarder> {
        self.forwarders.get(view.forwarder?)
    }

    pub(crate) fn rules_of(&self, protocol: Protocol) -> &Rules {
        match protocol {
            Protocol::Http => &self.rules,
            Protocol::Tcp => &self.tcp.rules,
        }
    }

    pub(crate) fn rule_name(&self, protocol: Protocol, rule: RuleId) -> Option<&str> {
        self.rules_of(protocol).get(rule).map(|rule| self.strings.text(rule.id))
    }

    /// What this policy says of a certificate, worked out anew only if another policy did.
    pub(crate) fn view<'s>(&self, subject: &'s Subject) -> Cow<'s, View> {
        let mut known = iter::once(&subject.view).chain(&subject.candidate);
        match known.find(|view| view.policy == self.version) {
            Some(view) => Cow::Borrowed(view),
            None => Cow::Owned(self.look_at(&subject.leaf)),
        }
    }

    /// The rules that decide a request of somebody who holds these roles.
    pub(crate) fn find(&self, form: &Form<'_>, held: &[Held], request: &Request<'_>) -> Found {
        let query = Query {
            path: form.path.segments(),
            host: form.host.as_ref(),
            method: self.rules.method(self.strings.find(form.method)),
            held,
            request,
        };
        self.index.find(&query, &self.rules, &self.strings)
    }

    /// The rules that decide a connection of somebody who holds these roles.
    pub(crate) fn find_tcp(&self, held: &[Held], request: &Request<'_>) -> Found {
        let query = Query { path: &[], host: None, method: Methods::ALL, held, request };
        self.tcp.index.find(&query, &self.tcp.rules, &self.strings)
    }

    /// What this policy says of a certificate and a token together.
    pub(crate) fn pair<'t>(&self, leaf: Option<&Leaf>, token: &'t Token) -> Cow<'t, View> {
        token.pair(leaf, &self.version, || self.view_of(leaf, Some(token)))
    }

    fn look_at(&self, leaf: &Leaf) -> View {
        self.view_of(Some(leaf), None)
    }

    fn view_of(&self, leaf: Option<&Leaf>, token: Option<&Token>) -> View {
        let policy = self.version.clone();
        let forwarder = leaf.and_then(|leaf| {
            self.forwarders.iter().position(|forwarder| forwarder.is(leaf, &self.patterns, &self.strings))
        });
        let lasting = leaf.and_then(|leaf| self.standing.of(leaf, &self.patterns, &self.strings));
        if forwarder.is_some() {
            return View { policy, held: Vec::new(), roles: Vec::new(), forwarder, lasting };
        }
        match self.members.held(leaf, token, &self.patterns, &self.strings) {
            Ok(held) => View {
                policy,
                roles: held.iter().map(|held| self.roles.name(held.role, &self.strings).to_owned()).collect(),
                held,
                forwarder,
                lasting,
            },
            Err(_) => {
                View { policy, held: Vec::new(), roles: Vec::new(), forwarder, lasting: Some(Reason::InternalError) }
            }
        }
    }
}

impl Subject {
    /// The certificate.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// What [`Leaf::describe`] gives, in JSON of visible ASCII: written at the first call and kept, because a flood of refusals
    /// has few certificates.
    pub fn description(&self) -> Option<&str> {
        let write = || {
            let json = serde_json::to_string(&self.leaf.describe()?).ok()?;
            Some(visible_ascii(&json).into_boxed_str())
        };
        self.description.get_or_init(write).as_deref()
    }

    /// The roles that the policy which made it gives the certificate, sorted.
    pub fn roles(&self) -> &[String] {
        &self.view.roles
    }
}
