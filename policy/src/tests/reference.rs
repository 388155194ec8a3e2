//! The semantics as they are told: every rule is looked at, on text, with no index and none of the engine's parts.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;

use super::reference_requirements::Facts;
use super::reference_requirements::Requirements;
use super::reference_tokens::Outcome;
use super::reference_tokens::Token;
use super::reference_tokens::Wanted;
use super::reference_tokens::providers;

/// What names stand for.
pub(super) type Bound = BTreeMap<String, String>;

#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) roles: Vec<Vec<Member>>,
    pub(super) rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) spiffe: Option<String>,
    pub(super) dns: Option<String>,
    /// `not: { dns: … }`
    pub(super) not_dns: Option<String>,
    /// The provider, and what its token must say.
    pub(super) token: Option<(&'static str, Wanted)>,
    /// One of the roles before, so that there is no circle.
    pub(super) role: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) deny: bool,
    pub(super) shadow: bool,
    /// None is everybody.
    pub(super) roles: Option<Vec<usize>>,
    pub(super) methods: Option<Vec<&'static str>>,
    pub(super) paths: Option<Vec<String>>,
    pub(super) hosts: Option<Vec<String>>,
    pub(super) requirements: Requirements,
    pub(super) token: Wanted,
    pub(super) not: Option<Requirements>,
    pub(super) not_token: Option<Wanted>,
}

#[derive(Clone, Debug)]
pub(super) enum Peer {
    Absent,
    Spiffe(String),
    Dns(Vec<String>),
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) peer: Peer,
    pub(super) method: &'static str,
    pub(super) host: Option<String>,
    pub(super) path: String,
    pub(super) facts: Facts,
    pub(super) token: Option<Token>,
}

#[cfg(test)]
impl Peer {
    /// Whether this is the holder of a SPIFFE ID of this pattern.
    pub(super) fn matches(&self, pattern: &str) -> bool {
        let Self::Spiffe(id) = self else { return false };
        let words: Vec<&str> = id.strip_prefix("spiffe://").unwrap().split('/').collect();
        path_matches(&format!("/{}", pattern.strip_prefix("spiffe://").unwrap()), &words).is_some()
    }
}

impl Document {
    /// The reason's code and the number of the rule.
    pub(super) fn decide(&self, request: &Request, shadows: bool) -> (&'static str, Option<usize>) {
        let outcomes: Vec<Outcome> = self.rules.iter().map(|rule| self.outcome(rule, request)).collect();
        let first = |deny| {
            let mut rules = self.rules.iter().zip(&outcomes);
            rules.position(|(rule, outcome)| {
                rule.deny == deny && (shadows || !rule.shadow) && *outcome == Outcome::Matches
            })
        };
        let lacks = |lack| {
            self.rules.iter().zip(&outcomes).any(|(rule, outcome)| !rule.deny && !rule.shadow && *outcome == lack)
        };
        match (first(true), first(false), &request.peer) {
            (Some(rule), ..) => ("deny_rule_matched", Some(rule)),
            (None, Some(rule), _) => ("rule_matched", Some(rule)),
            (None, None, _) if lacks(Outcome::LacksScopes) => ("scope_missing", None),
            (None, None, _) if lacks(Outcome::LacksToken) => ("token_missing", None),
            (None, None, Peer::Absent) => ("no_certificate", None),
            (None, None, _) => ("no_rule_matched", None),
        }
    }

    pub(super) fn roles(&self, request: &Request) -> Vec<String> {
        let held = (0..self.roles.len()).filter(|role| !self.ways(*role, request).is_empty());
        held.map(role_name).collect()
    }

    fn outcome(&self, rule: &Rule, request: &Request) -> Outcome {
        let outcome = rule.token.outcome(request.token.as_ref());
        if self.matches(rule, request) { outcome } else { Outcome::Fails }
    }

    /// Whether all of a rule holds, but for what it asks of the token beside captures.
    fn matches(&self, rule: &Rule, request: &Request) -> bool {
        if rule.methods.as_ref().is_some_and(|methods| !methods.contains(&request.method)) {
            return false;
        }
        let facts = &request.facts;
        let inner = [
            rule.not.as_ref().map(|not| not.hold(facts, !rule.deny)),
            rule.not_token.as_ref().map(|not| not.hold(request.token.as_ref())),
        ];
        let inner: Vec<Option<bool>> = inner.into_iter().flatten().collect();
        let not = match inner.as_slice() {
            [] => Some(true),
            inner if inner.contains(&Some(false)) => Some(true),
            inner if inner.contains(&None) => None,
            _ => Some(false),
        };
        if (rule.requirements.hold(facts, rule.deny), not) != (Some(true), Some(true)) {
            return false;
        }
        let path: Vec<&str> = request.path.split('/').skip(1).collect();
        let paths = match &rule.paths {
            None => vec![Bound::new()],
            Some(patterns) => patterns.iter().filter_map(|pattern| path_matches(pattern, &path)).collect(),
        };
        let hosts = match (&rule.hosts, &request.host) {
            (None, _) => vec![Bound::new()],
            (Some(_), None) => vec![],
            (Some(patterns), Some(host)) => patterns.iter().filter_map(|pattern| host_matches(pattern, host)).collect(),
        };
        // Where the rule's path and host name what the role names, the way must bind it.
        let agree = |way: &Bound, names: &BTreeSet<String>| {
            let places = paths.iter().flat_map(|path| hosts.iter().filter_map(|host| join(path, host)));
            places.into_iter().any(|place| {
                let missing = |name: &str| names.contains(name) && !way.contains_key(name);
                let unbound = place.keys().any(|name| missing(name)) || rule.token.names().any(missing);
                let claims = |bound: &Bound| match &request.token {
                    Some(token) if rule.token.claims_hold(token) => rule.token.agree(bound, names, token),
                    _ => true,
                };
                !unbound && join(way, &place).is_some_and(|bound| claims(&bound))
            })
        };
        match &rule.roles {
            None => agree(&Bound::new(), &BTreeSet::new()),
            Some(roles) => roles.iter().any(|role| {
                let names = self.names(*role);
                self.ways(*role, request).iter().any(|way| agree(way, &names))
            }),
        }
    }

    /// Every name that some member of the role, or of a role that it requires, captures.
    fn names(&self, role: usize) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for member in &self.roles[role] {
            let segments = member.spiffe.iter().flat_map(|pattern| pattern.split('/'));
            names.extend(segments.filter_map(capture).map(str::to_owned));
            names.extend(member.token.iter().flat_map(|(_, wanted)| wanted.names()).map(str::to_owned));
            names.extend(member.role.iter().flat_map(|required| self.names(*required)));
        }
        names
    }

    /// Every way in which the peer holds the role.
    fn ways(&self, role: usize, request: &Request) -> Vec<Bound> {
        let peer = &request.peer;
        let mut ways = Vec::new();
        for member in &self.roles[role] {
            let mut own = vec![Bound::new()];
            if let Some(pattern) = &member.spiffe {
                let Peer::Spiffe(id) = peer else { continue };
                let words: Vec<&str> = id.strip_prefix("spiffe://").unwrap().split('/').collect();
                own = path_matches(&format!("/{}", pattern.strip_prefix("spiffe://").unwrap()), &words)
                    .into_iter()
                    .collect();
            }
            if let Some(pattern) = &member.dns {
                let Peer::Dns(names) = peer else { continue };
                if !names.iter().any(|name| dns_matches(pattern, name)) {
                    continue;
                }
            }
            if let Some(pattern) = &member.not_dns {
                let Peer::Dns(names) = peer else { continue };
                // Nobody can tell which hosts a wildcard stands for.
                if names.iter().any(|name| dns_matches(pattern, name) || name.contains('*')) {
                    continue;
                }
            }
            if let Some((provider, wanted)) = &member.token {
                let Some(token) = request.token.as_ref().filter(|token| token.provider == *provider) else { continue };
                if wanted.hold(Some(token)) != Some(true) {
                    continue;
                }
                own = wanted.ways(own, token);
            }
            if let Some(required) = member.role {
                let required = self.ways(required, request);
                own = own.iter().flat_map(|way| required.iter().filter_map(|other| join(way, other))).collect();
            }
            ways.extend(own);
        }
        ways
    }

    pub(super) fn to_json(&self) -> Value {
        let members = |members: &Vec<Member>| -> Vec<Value> {
            let member = |member: &Member| {
                let mut value = json!({});
                member.spiffe.iter().for_each(|text| value["spiffe"] = json!(text));
                member.dns.iter().for_each(|text| value["dns"] = json!(text));
                member.not_dns.iter().for_each(|text| value["not"] = json!({ "dns": text }));
                member.token.iter().for_each(|(provider, wanted)| {
                    value["token"] = wanted.to_json();
                    value["token"]["provider"] = json!(provider);
                });
                member.role.iter().for_each(|role| value["role"] = json!(role_name(*role)));
                value
            };
            members.iter().map(member).collect()
        };
        let rules = self.rules.iter().enumerate().map(|(number, rule)| {
            let whom = match &rule.roles {
                None => json!("any"),
                Some(roles) => roles.iter().map(|role| role_name(*role)).collect(),
            };
            let mut value = json!({"id": rule_name(number)});
            value[if rule.deny { "deny" } else { "allow" }] = whom;
            rule.methods.iter().for_each(|methods| value["methods"] = json!(methods));
            rule.paths.iter().for_each(|paths| value["paths"] = json!(paths));
            rule.hosts.iter().for_each(|hosts| value["hosts"] = json!(hosts));
            if rule.shadow {
                value["shadow"] = json!(true);
            }
            let required = rule.requirements.to_json();
            value.as_object_mut().unwrap().extend(required.as_object().unwrap().clone());
            value.as_object_mut().unwrap().extend(rule.token.to_json().as_object().unwrap().clone());
            rule.not.iter().for_each(|not| value["not"] = not.to_json());
            if let Some(wanted) = &rule.not_token {
                for (name, part) in wanted.to_json().as_object().unwrap() {
                    value["not"][name] = part.clone();
                }
            }
            value
        });
        let roles: BTreeMap<String, Vec<Value>> =
            self.roles.iter().enumerate().map(|(number, role)| (role_name(number), members(role))).collect();
        json!({"version": 1, "tokens": providers(), "roles": roles, "rules": rules.collect::<Vec<_>>()})
    }
}

pub(super) fn role_name(number: usize) -> String {
    format!("role-{number}")
}

pub(super) fn rule_name(number: usize) -> String {
    format!("rule-{number}")
}

fn path_matches(pattern: &str, words: &[&str]) -> Option<Bound> {
    let pattern: Vec<&str> = pattern.split('/').skip(1).collect();
    let mut bound = Bound::new();
    for (position, segment) in pattern.iter().enumerate() {
        if *segment == "**" {
            return Some(bound);
        }
        segment_matches(segment, words.get(position)?, &mut bound)?;
    }
    (pattern.len() == words.len()).then_some(bound)
}

fn host_matches(pattern: &str, host: &str) -> Option<Bound> {
    let labels: Vec<&str> = host.split('.').collect();
    let mut bound = Bound::new();
    let (pattern, rest) = pattern.strip_prefix("**.").map_or((pattern, false), |pattern| (pattern, true));
    let pattern: Vec<&str> = pattern.split('.').collect();
    let fits = if rest { labels.len() > pattern.len() } else { labels.len() == pattern.len() };
    if !fits {
        return None;
    }
    for (segment, label) in pattern.iter().rev().zip(labels.iter().rev()) {
        segment_matches(segment, label, &mut bound)?;
    }
    Some(bound)
}

fn segment_matches(segment: &str, word: &str, bound: &mut Bound) -> Option<()> {
    let fits = match capture(segment) {
        Some(name) => !word.is_empty() && bound.entry(name.to_owned()).or_insert_with(|| word.to_owned()) == word,
        None if segment == "*" => !word.is_empty(),
        None => segment == word,
    };
    fits.then_some(())
}

pub(super) fn capture(segment: &str) -> Option<&str> {
    segment.strip_prefix('{').and_then(|name| name.strip_suffix('}'))
}

fn dns_matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix("*."), name.split_once('.')) {
        _ if pattern == name => true,
        (Some(parent), Some((label, rest))) => !label.contains('*') && parent == rest,
        _ => false,
    }
}

fn join(one: &Bound, other: &Bound) -> Option<Bound> {
    let mut joined = one.clone();
    for (name, text) in other {
        if joined.entry(name.clone()).or_insert_with(|| text.clone()) != text {
            return None;
        }
    }
    Some(joined)
}
