//! The question and the answer.

use std::borrow::Cow;
use std::net::IpAddr;
use std::net::SocketAddr;

use crate::asker::Asker;
use crate::certificate::CertificateError;
use crate::form::Form;
use crate::form::is_own_header;
use crate::forwarded::Forwarded;
use crate::forwarded::is_forwarded_header;
use crate::index::Found;
use crate::policy::Policy;
use crate::policy::Subject;
use crate::reason::Reason;
use crate::requirement::Lack;
use crate::rule::RuleId;
use crate::time::UnixTime;
use crate::token::Bearer;

/// Everything that a decision may depend on.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The wall clock.
    pub now: UnixTime,
    /// The peer's certificate.
    pub peer: Peer<'a>,
    /// The certificate that the peer forwards, from [`crate::Memory`].
    pub forwarded: &'a Forwarded,
    /// What became of the token, from [`Memory::token`](crate::Memory::token).
    pub token: &'a Bearer,
    /// The connection.
    pub tls: Tls<'a>,
    /// The peer's address.
    pub source: Option<IpAddr>,
    /// Where the peer connected to.
    pub listener: Option<SocketAddr>,
    /// Which of the policy's rules are asked.
    pub protocol: Protocol,
    /// Method, path, host and headers; a TCP connection has none of them.
    pub head: Head<'a>,
}

/// What is asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// A request: `rules:` decide.
    #[default]
    Http,
    /// A connection of which only the handshake is understood: `tcp:` decides.
    Tcp,
}

/// What the peer showed of itself in the handshake.
#[derive(Clone, Copy, Debug)]
pub enum Peer<'a> {
    /// No certificate.
    Absent,
    /// A certificate, and whether the proxy validated it.
    Presented {
        /// The certificate with its roles.
        subject: &'a Subject,
        /// Whether the proxy checked its chain.
        validated: bool,
    },
    /// A certificate that no identity can be taken from.
    Unreadable(&'a CertificateError),
}

/// The TLS connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tls<'a> {
    /// `TLSv1.2`, `TLSv1.3`.
    pub version: Option<&'a str>,
    /// Server Name Indication.
    pub sni: Option<&'a str>,
}

/// The head of a request as it came: bytes, duplicates and order kept.
#[derive(Clone, Debug, Default)]
pub struct Head<'a> {
    /// `:method`.
    pub method: Option<&'a [u8]>,
    /// `:authority`.
    pub authority: Option<&'a [u8]>,
    /// `:path`, with its query.
    pub path: Option<&'a [u8]>,
    /// The fields that are not pseudo-headers.
    pub fields: Vec<(&'a [u8], &'a [u8])>,
    /// A pseudo-header occurred twice.
    pub duplicated: bool,
}

impl<'a> Head<'a> {
    /// Sorts a proxy's header map into pseudo-headers and fields.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let pairs = pairs.into_iter();
        let mut head = Self { fields: Vec::with_capacity(pairs.size_hint().0), ..Self::default() };
        for (name, value) in pairs {
            let slot = match name {
                b":method" => &mut head.method,
                b":authority" => &mut head.authority,
                b":path" => &mut head.path,
                _ if name.starts_with(b":") => continue,
                _ => {
                    head.fields.push((name, value));
                    continue;
                }
            };
            head.duplicated |= slot.replace(value).is_some();
        }
        head
    }
}

/// The verdict on one request.
#[derive(Debug)]
pub enum Decision<'p> {
    /// Let it through; the permit says as whom.
    Allow(Permit<'p>),
    /// Refuse it.
    Deny(Denial<'p>),
}

/// Permission as a value: only [`Policy::decide`] makes one, and the path to the upstream needs one.
#[derive(Debug)]
pub struct Permit<'p>(Verdict<'p>);

/// A refusal.
#[derive(Debug)]
pub struct Denial<'p>(Verdict<'p>);

#[derive(Debug)]
struct Verdict<'p> {
    reason: Reason,
    rule: Option<&'p str>,
    identity: Option<&'p str>,
    forwarder: Option<&'p str>,
    /// What the forwarder forwards ends here.
    strips: bool,
    roles: Cow<'p, [String]>,
    policy: &'p str,
    shadow: Option<Divergence<'p>>,
    candidate: Option<Divergence<'p>>,
    /// The policy takes tokens, so a refusal may ask for one.
    challenges: bool,
}

/// Another verdict on the same request, which differs from the one that is enforced: it lets through what that refuses, or
/// the reverse, or another rule does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence<'p> {
    reason: Reason,
    rule: Option<&'p str>,
}

impl<'p> Divergence<'p> {
    /// What `other` says, if it differs.
    fn between(enforced: (Reason, Option<&str>), (reason, rule): (Reason, Option<&'p str>)) -> Option<Self> {
        let allows = |reason| reason == Reason::RuleMatched;
        let same = allows(enforced.0) == allows(reason) && enforced.1 == rule;
        (!same).then_some(Self { reason, rule })
    }

    /// Whether the request would pass.
    pub fn is_allowed(&self) -> bool {
        self.reason == Reason::RuleMatched
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// 200, or the status of the refusal.
    pub fn status(&self) -> u16 {
        self.reason.status()
    }

    /// The rule that would decide.
    pub fn rule(&self) -> Option<&'p str> {
        self.rule
    }
}

/// Decides one request.
///
/// The order of the checks is part of the contract: the form of the request, the state of the peer's certificate, what the
/// peer forwards and the state of that, the token, deny rules, allow rules, the default.
pub(crate) fn decide<'p>(policy: &'p Policy, request: &Request<'p>) -> Decision<'p> {
    let asker = Asker::of(policy, request);
    let judgement = judge(policy, request, &asker);
    let reason = judgement.enforced.0;
    let named = |policy: &'p Policy, (reason, rule): Answer| {
        (reason, rule.and_then(|rule| policy.rule_name(request.protocol, rule)))
    };
    let enforced = named(policy, judgement.enforced);
    let verdict = Verdict {
        reason,
        rule: enforced.1,
        identity: asker.identity(),
        forwarder: asker.forwarder(),
        strips: asker.strips(),
        roles: asker.into_roles(),
        policy: policy.version(),
        shadow: Divergence::between(enforced, named(policy, judgement.with_shadows)),
        candidate: policy.candidate.as_deref().and_then(|candidate| {
            let judgement = judge(candidate, request, &Asker::of(candidate, request));
            Divergence::between(enforced, named(candidate, judgement.enforced))
        }),
        challenges: policy.takes_tokens(),
    };
    match reason {
        Reason::RuleMatched => Decision::Allow(Permit(verdict)),
        _ => Decision::Deny(Denial(verdict)),
    }
}

/// Why, and by which rule.
type Answer = (Reason, Option<RuleId>);

/// What one policy says of a request.
#[derive(Clone, Copy, Debug)]
struct Judgement {
    enforced: Answer,
    /// The same if shadow rules were like the others.
    with_shadows: Answer,
}

/// Whether a reason says that rules were asked and none matched.
pub(crate) fn is_default(reason: Reason) -> bool {
    matches!(reason, Reason::NoCertificate | Reason::NoRuleMatched | Reason::ScopeMissing | Reason::TokenMissing)
}

fn judge(policy: &Policy, request: &Request<'_>, asker: &Asker<'_>) -> Judgement {
    let refuse = |reason| Judgement { enforced: (reason, None), with_shadows: (reason, None) };
    let found = match request.protocol {
        Protocol::Http => {
            let form = match Form::read(&request.head, policy) {
                Ok(form) => form,
                Err(reason) => return refuse(reason),
            };
            if let Some(doubt) = asker.doubt(policy, request, form.forwarded) {
                return refuse(doubt);
            }
            policy.find(&form, asker.held(), request)
        }
        Protocol::Tcp => {
            if let Some(doubt) = asker.doubt(policy, request, false) {
                return refuse(doubt);
            }
            policy.find_tcp(asker.held(), request)
        }
    };
    let answer = |found: Found| match (found.deny, found.allow, found.lacks) {
        (Some(rule), ..) => (Reason::DenyRuleMatched, Some(rule)),
        (None, Some(rule), _) => (Reason::RuleMatched, Some(rule)),
        (None, None, Some(Lack::Scopes)) => (Reason::ScopeMissing, None),
        (None, None, Some(Lack::Token)) => (Reason::TokenMissing, None),
        (None, None, None) if asker.is_nobody() => (Reason::NoCertificate, None),
        (None, None, None) => (Reason::NoRuleMatched, None),
    };
    Judgement { enforced: answer(found), with_shadows: answer(found.with_shadows()) }
}

impl<'p> Decision<'p> {
    fn verdict(&self) -> &Verdict<'p> {
        match self {
            Self::Allow(permit) => &permit.0,
            Self::Deny(denial) => &denial.0,
        }
    }

    /// Whether the request may pass.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.verdict().reason
    }

    /// 200, or the status of the refusal.
    pub fn status(&self) -> u16 {
        self.reason().status()
    }

    /// The rule that matched, allow or deny.
    pub fn rule(&self) -> Option<&'p str> {
        self.verdict().rule
    }

    /// What would be decided if the policy's shadow rules were enforced, if that differs.
    pub fn shadow(&self) -> Option<Divergence<'p>> {
        self.verdict().shadow
    }

    /// What the policy's candidate decides, if that differs.
    pub fn candidate(&self) -> Option<Divergence<'p>> {
        self.verdict().candidate
    }

    /// Who asks, whatever the verdict; behind a forwarder its client.
    pub fn identity(&self) -> Option<&'p str> {
        self.verdict().identity
    }

    /// The peer, if it is a forwarder.
    pub fn forwarder(&self) -> Option<&'p str> {
        self.verdict().forwarder
    }

    /// The roles of who asks, sorted, whatever the verdict.
    pub fn roles(&self) -> &[String] {
        &self.verdict().roles
    }

    /// Version of the policy that decided.
    pub fn policy_version(&self) -> &'p str {
        self.verdict().policy
    }
}

impl<'p> Permit<'p> {
    /// Value for `x-portcullis-identity`; `None` for an anonymous peer that a rule lets in.
    pub fn identity(&self) -> Option<&'p str> {
        self.0.identity
    }

    /// The roles for `x-portcullis-roles`.
    pub fn roles(&self) -> &[String] {
        &self.0.roles
    }

    /// Whether a header of this name is to be taken away from what the client sent: one that a server behind the gate could
    /// take for one of the gate's own, and what a forwarder said of its client, unless the policy keeps it. Part of the
    /// latter may come from the client itself: only what the gate checked of it counts, and that is in its own headers.
    pub fn removes(&self, name: &[u8]) -> bool {
        is_own_header(name) || self.0.strips && is_forwarded_header(name)
    }

    /// The rule for `x-portcullis-rule`.
    pub fn rule(&self) -> Option<&'p str> {
        self.0.rule
    }
}

impl Denial<'_> {
    /// Why.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// Value for `WWW-Authenticate` (RFC 6750 §3), where the policy takes tokens and another token could help.
    pub fn challenge(&self) -> Option<&'static str> {
        let about_token = |error: &'static str| self.0.reason.code().starts_with("token_").then_some(error);
        match (self.0.challenges, self.0.reason.status(), self.0.reason) {
            (false, ..) => None,
            (true, _, Reason::CredentialsAmbiguous) => Some(r#"Bearer error="invalid_request""#),
            (true, _, Reason::ScopeMissing) => Some(r#"Bearer error="insufficient_scope""#),
            (true, 401, Reason::TokenMissing) => Some("Bearer"),
            (true, 401, _) => Some(about_token(r#"Bearer error="invalid_token""#).unwrap_or("Bearer")),
            (true, ..) => None,
        }
    }
}
