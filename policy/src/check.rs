//! What is probably not meant: rules that never decide, roles that nothing uses, rules that contradict each other, times that
//! are over, keys that verify nothing.
//!
//! Every finding is certain in what it says; not everything that could be said is found (a rule that several others cover
//! only together with their captures is not). Each rule is looked up in the index instead of being compared with all others.

mod impossible;
mod keys;
mod overlap;
mod unmet;

use std::fmt;

use crate::decide::Protocol;
use crate::index::Index;
use crate::index::Terminal;
use crate::pattern::Patterns;
use crate::pattern::Step;
use crate::policy::Policy;
use crate::roles::Condition;
use crate::roles::RoleId;
use crate::rule::Effect;
use crate::rule::Methods;
use crate::rule::Rule;
use crate::rule::RuleId;
use crate::rule::Rules;
use crate::time::UnixTime;
use crate::token::KeyProblem;
use crate::token::KeySet;

/// Something that is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// One rule allows what another denies, on the same hosts and paths, to those who hold both roles.
    Ambiguous {
        /// Place of the allow rule.
        path: String,
        /// The allow rule.
        allow: String,
        /// The deny rule.
        deny: String,
    },
    /// A rule that requires what its own `not` excludes.
    Contradictory {
        /// Place of the `not`.
        path: String,
        /// The rule.
        rule: String,
        /// The field that is required and excluded.
        field: &'static str,
    },
    /// An allow rule that can never let anything through: deny rules match all that it matches.
    Dead {
        /// Place of the rule.
        path: String,
        /// The rule.
        rule: String,
        /// The deny rules, as far as they were needed to tell.
        denied_by: Vec<String>,
    },
    /// A SPIFFE pattern of another trust domain than the policy's.
    ForeignTrustDomain {
        /// Place of the pattern.
        path: String,
        /// The other trust domain.
        trust_domain: String,
    },
    /// A rule that never decides: earlier rules (or deny rules) match all that it matches.
    Shadowed {
        /// Place of the rule.
        path: String,
        /// The rule.
        rule: String,
        /// The rules before it, as far as they were needed to tell.
        covered_by: Vec<String>,
    },
    /// A role, or one of its members, whose conditions no certificate can fulfil.
    Impossible {
        /// Place of the role or of the member.
        path: String,
        /// The role.
        role: String,
        /// The field on which conditions contradict each other.
        field: &'static str,
    },
    /// A key of a provider from which nothing can be verified.
    KeyLeftOut {
        /// Place of the key.
        path: String,
        /// Why.
        why: KeyProblem,
    },
    /// A good key that no token is tried against: too many keys before it fit whatever fits it.
    KeyNeverTried {
        /// Place of the key.
        path: String,
        /// How many keys one token is tried against.
        limit: usize,
    },
    /// A provider without any key: none of its tokens is taken. So has one whose keys are behind a URL and not in the
    /// document yet.
    NoKeys {
        /// Place of the keys.
        path: String,
        /// The provider.
        provider: String,
    },
    /// A rule that asks for a token, in a policy that takes none.
    NoTokens {
        /// Place of what asks.
        path: String,
        /// The rule.
        rule: String,
    },
    /// Windows of time in which no instant is left.
    Over {
        /// Place of the windows, or of one of them if others go on.
        path: String,
        /// The rule.
        rule: String,
        /// Their end.
        until: UnixTime,
    },
    /// Two rules of one effect that both match some requests, while neither matches all that the other does: the first of
    /// them decides those, and is the one that is reported.
    Overlapping {
        /// Place of the later rule.
        path: String,
        /// The later rule.
        rule: String,
        /// The earlier rule.
        first: String,
        /// A request that both match.
        example: String,
    },
    /// A key of a provider that has its private half with it.
    PrivateKey {
        /// Place of the key.
        path: String,
    },
    /// A role that no rule asks for, not even through other roles.
    UnusedRole {
        /// Place of the role.
        path: String,
        /// The role.
        role: String,
    },
}

impl Finding {
    /// What is found in a key set whose entries are at this place: those from which nothing can be verified, and those with
    /// their private half.
    pub fn of_keys(place: &str, set: &KeySet) -> Vec<Self> {
        keys::of_set(place, set)
    }

    /// The stable kind: the variant's name in small letters, with `_` between its words.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Ambiguous { .. } => "ambiguous",
            Self::Contradictory { .. } => "contradictory",
            Self::Dead { .. } => "dead",
            Self::ForeignTrustDomain { .. } => "foreign_trust_domain",
            Self::Impossible { .. } => "impossible",
            Self::KeyLeftOut { .. } => "key_left_out",
            Self::KeyNeverTried { .. } => "key_never_tried",
            Self::NoKeys { .. } => "no_keys",
            Self::NoTokens { .. } => "no_tokens",
            Self::Over { .. } => "over",
            Self::Overlapping { .. } => "overlapping",
            Self::PrivateKey { .. } => "private_key",
            Self::Shadowed { .. } => "shadowed",
            Self::UnusedRole { .. } => "unused_role",
        }
    }

    /// Where in the document, in the form `rules[2]`.
    pub fn path(&self) -> &str {
        match self {
            Self::Ambiguous { path, .. }
            | Self::Contradictory { path, .. }
            | Self::Dead { path, .. }
            | Self::ForeignTrustDomain { path, .. }
            | Self::Impossible { path, .. }
            | Self::KeyLeftOut { path, .. }
            | Self::KeyNeverTried { path, .. }
            | Self::NoKeys { path, .. }
            | Self::NoTokens { path, .. }
            | Self::Over { path, .. }
            | Self::Overlapping { path, .. }
            | Self::PrivateKey { path }
            | Self::Shadowed { path, .. }
            | Self::UnusedRole { path, .. } => path,
        }
    }

    /// The same about a policy that is at this place of another one.
    fn within(mut self, place: &str) -> Self {
        match &mut self {
            Self::Ambiguous { path, .. }
            | Self::Contradictory { path, .. }
            | Self::Dead { path, .. }
            | Self::ForeignTrustDomain { path, .. }
            | Self::Impossible { path, .. }
            | Self::KeyLeftOut { path, .. }
            | Self::KeyNeverTried { path, .. }
            | Self::NoKeys { path, .. }
            | Self::NoTokens { path, .. }
            | Self::Over { path, .. }
            | Self::Overlapping { path, .. }
            | Self::PrivateKey { path }
            | Self::Shadowed { path, .. }
            | Self::UnusedRole { path, .. } => *path = format!("{place}.{path}"),
        }
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ambiguous { allow, deny, .. } => {
                write!(f, "`{allow}` allows what `{deny}` denies: who is meant by both is refused")
            }
            Self::Contradictory { rule, field, .. } => {
                write!(f, "`{rule}` never matches: its `not` excludes the `{field}` that it requires")
            }
            Self::Dead { rule, denied_by, .. } => {
                write!(f, "`{rule}` never lets anything through: `{}` denies all of it", denied_by.join("`, `"))
            }
            Self::ForeignTrustDomain { trust_domain, .. } => {
                write!(f, "`{trust_domain}` is not the policy's trust domain")
            }
            Self::Shadowed { rule, covered_by, .. } => {
                write!(f, "`{rule}` never decides: `{}` matches all of it first", covered_by.join("`, `"))
            }
            Self::Impossible { role, field, .. } => {
                write!(f, "nobody can hold `{role}` this way: its conditions on `{field}` contradict each other")
            }
            Self::KeyLeftOut { why, .. } => write!(f, "this key is left out: {why}"),
            Self::KeyNeverTried { limit, .. } => {
                write!(f, "this key is never tried: {limit} before it fit the same tokens; give each a `kid` of its own")
            }
            Self::NoKeys { provider, .. } => {
                write!(f, "`{provider}` has no key, so every one of its tokens is refused")
            }
            Self::NoTokens { rule, .. } => {
                write!(f, "`{rule}` never matches: it asks for a token, and the policy has no `tokens`")
            }
            Self::Over { rule, until, .. } => {
                write!(f, "nothing is left of these times of `{rule}`, which end")?;
                until.to_rfc3339().map_or(Ok(()), |until| write!(f, " at {until}"))
            }
            Self::PrivateKey { .. } => f.write_str(
                "this key has its private half with it, and whoever reads that can sign: take it out, and have the issuer make another key",
            ),
            Self::Overlapping { rule, first, example, .. } => {
                write!(f, "`{rule}` and `{first}` both match `{example}`, and `{first}` is the one that decides it")
            }
            Self::UnusedRole { role, .. } => write!(f, "no rule uses the role `{role}`"),
        }
    }
}

/// See [`Policy::check`]. In document order, kind by kind; of a candidate after those of the policy beside it.
pub(crate) fn check(policy: &Policy, now: UnixTime) -> Vec<Finding> {
    let mut findings = of_rules_and_roles(policy, now);
    foreign_forwarders(policy, &mut findings);
    keys::find(policy, &mut findings);
    // Its forwarders and providers are those of the policy beside it: there they have been looked at.
    let candidate = policy.candidate.as_deref().map(|candidate| of_rules_and_roles(candidate, now));
    findings.extend(candidate.unwrap_or_default().into_iter().map(|finding| finding.within("candidate")));
    findings
}

fn of_rules_and_roles(policy: &Policy, now: UnixTime) -> Vec<Finding> {
    let Policy { rules, index, tcp, .. } = policy;
    let mut findings = superfluous("rules", rules, index, policy);
    findings.extend(superfluous("tcp", &tcp.rules, &tcp.index, policy));
    overlap::find(policy, &mut findings);
    contradictions(policy, &mut findings);
    unmet::find("rules", rules, policy, now, &mut findings);
    unmet::find("tcp", &tcp.rules, policy, now, &mut findings);
    impossible::find(policy, &mut findings);
    unused_roles(policy, &mut findings);
    foreign_trust_domains(policy, &mut findings);
    findings
}

/// The rules that never decide anything, of a list of the document.
fn superfluous(list: &str, rules: &Rules, index: &Index, policy: &Policy) -> Vec<Finding> {
    let at = |(id, rule): (RuleId, &Rule)| {
        let (denied, needed) = deciding_before(id, rule, rules, index, &policy.patterns)?;
        let name = |id| rules.get(id).map(|rule| policy.strings.text(rule.id).to_owned());
        let names = needed.into_iter().filter_map(name).collect();
        let (path, rule) = (format!("{list}[{}]", id.0), name(id)?);
        Some(if denied {
            Finding::Dead { path, rule, denied_by: names }
        } else {
            Finding::Shadowed { path, rule, covered_by: names }
        })
    };
    rules.iter().filter_map(at).collect()
}

/// The rules that decide all that a rule matches before it, if there are such; whether they all deny what it would allow.
fn deciding_before(
    id: RuleId,
    rule: &Rule,
    rules: &Rules,
    index: &Index,
    patterns: &Patterns,
) -> Option<(bool, Vec<RuleId>)> {
    let mut needed: Vec<RuleId> = Vec::new();
    let shapes = |list| {
        let shapes: Vec<_> = <[_]>::iter(list).map(|pattern| Some((patterns.steps(*pattern), pattern.rest))).collect();
        if shapes.is_empty() { vec![None] } else { shapes }
    };
    let roles = match rules.roles(rule) {
        [] => &[RoleId::ANY],
        roles => roles,
    };
    let hosts = shapes(rules.hosts(rule));
    let paths = shapes(rules.paths(rule));
    for host in &hosts {
        for path in &paths {
            for role in roles {
                let mut covered = Methods::NONE;
                index.covering(*host, path.unwrap_or((&[], true)), *role, &mut |other| {
                    let Some(other_rule) = rules.get(other) else { return };
                    if !rules.requirements(other_rule).is_empty() || (other_rule.shadow && !rule.shadow) {
                        return;
                    }
                    let first = match (rule.effect, other_rule.effect) {
                        (Effect::Allow, Effect::Deny) => true,
                        (Effect::Deny, Effect::Allow) => false,
                        (Effect::Allow, Effect::Allow) | (Effect::Deny, Effect::Deny) => other < id,
                    };
                    // A rule counts only if it takes methods that those before it leave.
                    let takes = other_rule.methods.meets(rule.methods) && !other_rule.methods.is_within(covered);
                    if first && takes && !rule.methods.is_within(covered) {
                        covered = covered.with(other_rule.methods);
                        needed.push(other);
                    }
                });
                if !rule.methods.is_within(covered) {
                    return None;
                }
            }
        }
    }
    needed.sort_unstable();
    needed.dedup();
    let denied = rule.effect == Effect::Allow
        && needed.iter().all(|other| rules.get(*other).is_some_and(|other| other.effect == Effect::Deny));
    Some((denied, needed))
}

/// Allow and deny rules about the same hosts and paths, and about different roles that one peer may hold.
fn contradictions(policy: &Policy, findings: &mut Vec<Finding>) {
    let rules = &policy.rules;
    // The first deny rule for each method of the terminal that is being looked at, with its role.
    let mut denies: Vec<(RuleId, RoleId, Methods)> = Vec::new();
    let mut allows: Vec<(RuleId, RoleId, Methods)> = Vec::new();
    let mut pairs: Vec<(RuleId, RuleId)> = Vec::new();
    let mut current = None;
    let mut conclude = |denies: &mut Vec<(RuleId, RoleId, Methods)>, allows: &mut Vec<(RuleId, RoleId, Methods)>| {
        for (allow, role, methods) in allows.drain(..) {
            let against = denies.iter().find(|(_, other, denied)| *other != role && denied.meets(methods));
            pairs.extend(against.map(|(deny, ..)| (allow, *deny)));
        }
        denies.clear();
    };
    policy.index.lists(&mut |terminal: Terminal, role, list| {
        if current.replace(terminal) != Some(terminal) {
            conclude(&mut denies, &mut allows);
        }
        // What everybody is allowed or denied contradicts nothing: that is a default with exceptions.
        if role == RoleId::ANY {
            return;
        }
        for id in list {
            let Some(rule) = rules.get(id) else { continue };
            // Whether both are ever required of one request is not known.
            if !rules.requirements(rule).is_empty() || rule.shadow {
                continue;
            }
            match rule.effect {
                Effect::Allow => allows.push((id, role, rule.methods)),
                Effect::Deny => {
                    let same = denies.iter().filter(|(_, known, _)| *known == role);
                    let known = same.fold(Methods::NONE, |all, (.., methods)| all.with(*methods));
                    if !rule.methods.is_within(known) && denies.len() < MAX_DENIES {
                        denies.push((id, role, rule.methods));
                    }
                }
            }
        }
    });
    conclude(&mut denies, &mut allows);
    pairs.sort_unstable();
    pairs.dedup_by_key(|(allow, _)| *allow);
    for (allow, deny) in pairs {
        let (Some(name), Some(other)) =
            (policy.rule_name(Protocol::Http, allow), policy.rule_name(Protocol::Http, deny))
        else {
            continue;
        };
        let path = format!("rules[{}]", allow.0);
        findings.push(Finding::Ambiguous { path, allow: name.to_owned(), deny: other.to_owned() });
    }
}

/// How many deny rules of one terminal are held against its allow rules; more would say nothing new to anybody.
const MAX_DENIES: usize = 64;

fn unused_roles(policy: &Policy, findings: &mut Vec<Finding>) {
    let Policy { roles, members, rules, tcp, strings, .. } = policy;
    let asked = [rules, &tcp.rules].into_iter().flat_map(|rules| rules.iter().flat_map(|(_, rule)| rules.roles(rule)));
    let mut waiting: Vec<RoleId> = asked.copied().collect();
    let mut used = vec![false; roles.all().count() + 1];
    while let Some(role) = waiting.pop() {
        let Some(seen) = used.get_mut(role.0 as usize) else { continue };
        if !std::mem::replace(seen, true) {
            waiting.extend(members.of(role).iter().filter_map(|member| member.requires));
        }
    }
    for role in roles.all().filter(|role| used.get(role.0 as usize) == Some(&false)) {
        let role = roles.name(role, strings).to_owned();
        findings.push(Finding::UnusedRole { path: format!("roles.{role}"), role });
    }
}

fn foreign_trust_domains(policy: &Policy, findings: &mut Vec<Finding>) {
    let Policy { roles, members, strings, .. } = policy;
    for role in roles.all() {
        for (position, member) in members.of(role).iter().enumerate() {
            let place = || format!("roles.{}[{position}].spiffe", roles.name(role, strings));
            foreign(policy, &member.conditions, &place, findings);
        }
    }
}

fn foreign_forwarders(policy: &Policy, findings: &mut Vec<Finding>) {
    for (position, forwarder) in policy.forwarders.iter().enumerate() {
        foreign(policy, &forwarder.conditions, &|| format!("forwarders[{position}].spiffe"), findings);
    }
}

fn foreign(policy: &Policy, conditions: &[Condition], place: &dyn Fn() -> String, findings: &mut Vec<Finding>) {
    let Some(own) = policy.settings.trust_domain.as_deref() else { return };
    for condition in conditions {
        let Condition::Spiffe(pattern) = condition else { continue };
        let Some(Step::Literal(domain)) = policy.patterns.steps(*pattern).first() else { continue };
        let trust_domain = policy.strings.text(*domain);
        if trust_domain != own {
            findings.push(Finding::ForeignTrustDomain { path: place(), trust_domain: trust_domain.to_owned() });
        }
    }
}
