//! Requests that nobody made: for each rule, some that it is about and some beside them.

use std::collections::BTreeSet;
use std::fmt;

use super::facts::Facts;
use super::words::ANY;
use super::words::Words;
use super::words::unify;
use crate::decide::Head;
use crate::decide::Peer;
use crate::decide::Protocol;
use crate::decide::Request;
use crate::decide::Tls;
use crate::forwarded::Forwarded;
use crate::pattern::Pattern;
use crate::pattern::path_of_words;
use crate::policy::Policy;
use crate::rule::Rule;
use crate::time::UnixTime;
use crate::token::Bearer;

/// The most requests that are made for one rule. Each of its paths, hosts and methods is among them all the same, unless
/// there are more of these.
const MAX_REQUESTS: usize = 512;

/// A request that is only thought of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleRequest {
    /// The method.
    pub method: String,
    /// The host, if it has one.
    pub host: Option<String>,
    /// The path, percent-encoded.
    pub path: String,
    /// What else rules ask about.
    pub facts: Facts,
}

impl fmt::Display for SampleRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, host, path, facts } = self;
        match host {
            Some(host) => write!(f, "{method} https://{host}{path}{facts}"),
            None => write!(f, "{method} {path}{facts}"),
        }
    }
}

impl SampleRequest {
    /// Takes `GET /orders/42` or `GET https://orders.acme.example/orders/42`, as a policy's `tests:` do.
    pub fn parse(text: &str) -> Option<Self> {
        let (method, target) =
            text.split_once(' ').filter(|(method, target)| !method.is_empty() && !target.is_empty())?;
        // The absolute form gives the host as well.
        let absolute = target.strip_prefix("https://").or_else(|| target.strip_prefix("http://"));
        let (host, path) = match absolute.map(|rest| rest.split_at(rest.find('/').unwrap_or(rest.len()))) {
            Some((host, path)) => (Some(host.to_owned()), path),
            None => (None, target),
        };
        Some(Self { method: method.to_owned(), host, path: path.to_owned(), facts: Facts::default() })
    }

    /// The question whether `peer` may make this request, at `now` unless it is about another time.
    pub fn by<'a>(&'a self, peer: Peer<'a>, now: UnixTime) -> Request<'a> {
        Request {
            now: self.facts.now.unwrap_or(now),
            peer,
            forwarded: &Forwarded::Nothing,
            token: &Bearer::Absent,
            tls: Tls { version: self.facts.tls_version.as_deref(), sni: self.facts.sni.as_deref() },
            source: self.facts.source,
            listener: self.facts.listener,
            protocol: Protocol::Http,
            head: Head {
                method: Some(self.method.as_bytes()),
                authority: self.host.as_deref().map(str::as_bytes),
                path: Some(self.path.as_bytes()),
                fields: self.facts.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect(),
                duplicated: false,
            },
        }
    }
}

/// The requests for a rule, its captures standing for each of `words` in turn. `unnamed` is a method that no rule names.
pub(super) fn requests(policy: &Policy, rule: &Rule, words: &[Words], unnamed: &str) -> Vec<SampleRequest> {
    let Policy { rules, strings, .. } = policy;
    let methods = match rules.method_names(rule.methods, strings) {
        None => vec!["GET", unnamed],
        Some(names) => names.into_iter().chain([unnamed]).collect(),
    };
    let mut targets: Vec<(Option<String>, String)> = Vec::new();
    let patterns = across(rules.hosts(rule), rules.paths(rule), MAX_REQUESTS);
    for words in words {
        for (host, path) in &patterns {
            let mut words = words.clone();
            // The host first: a word for a path may have letters that no host has.
            let host = host.map(|host| host_of(policy, host, &mut words));
            let Some(paths) = paths_of(policy, *path, &mut words) else { continue };
            let host = match host {
                None => None,
                Some(Some(host)) => Some(host),
                Some(None) => continue,
            };
            targets.extend(paths.into_iter().map(|path| (host.clone(), path)));
        }
    }
    let mut known = BTreeSet::new();
    targets.retain(|target| known.insert(target.clone()));
    let targets: Vec<&(Option<String>, String)> = targets.iter().collect();
    // A rule that asks for more is asked about with what it asks for, and without.
    let mut facts = vec![Facts::fulfilling(rules.requirements(rule), rule.effect)];
    if facts.first() != Some(&Facts::default()) {
        facts.push(Facts::default());
    }
    let mut chosen = Vec::new();
    for (target, method) in across(&targets, &methods, MAX_REQUESTS) {
        let (Some((host, path)), Some(method)) = (target, method) else { continue };
        chosen.extend(facts.iter().map(|facts| SampleRequest {
            method: method.to_owned(),
            host: host.clone(),
            path: path.clone(),
            facts: facts.clone(),
        }));
    }
    chosen
}

/// A method that none of these policies names.
pub(super) fn unnamed_method(policies: &[&Policy]) -> String {
    let known = |name: &str| policies.iter().any(|policy| policy.rules.names_method(policy.strings.find(name)));
    let mut name = "OTHER".to_owned();
    while known(&name) {
        name.push('X');
    }
    name
}

pub(super) fn host_of(policy: &Policy, pattern: Pattern, words: &mut Words) -> Option<String> {
    let steps = policy.patterns.steps(pattern);
    let least = steps.len() + usize::from(pattern.rest);
    let mut labels = unify(&[(steps, pattern.rest)], vec![None; least], words, &policy.strings)?;
    labels.reverse();
    Some(labels.join("."))
}

/// The path of a pattern; where it ends in `**`, with none, one and two segments in its place.
pub(super) fn paths_of(policy: &Policy, pattern: Option<Pattern>, words: &mut Words) -> Option<Vec<String>> {
    let Some(pattern) = pattern else { return Some(vec!["/".to_owned()]) };
    let steps = policy.patterns.steps(pattern);
    let mut found = unify(&[(steps, pattern.rest)], Vec::new(), words, &policy.strings)?;
    let mut paths = vec![path_of_words(&found)];
    if pattern.rest {
        for _ in 0..2 {
            found.push(ANY.to_owned());
            paths.push(path_of_words(&found));
        }
    }
    Some(paths)
}

/// Pairs of both lists, at most `limit`: first such that each element is in one, then the others. An empty list counts as
/// one element that is missing.
pub(super) fn across<T: Copy, U: Copy>(one: &[T], other: &[U], limit: usize) -> Vec<(Option<T>, Option<U>)> {
    let (width, height) = (one.len().max(1), other.len().max(1));
    let diagonal = (0..width.max(height)).map(|step| (step % width, step % height));
    let all = (0..width).flat_map(|left| (0..height).map(move |right| (left, right)));
    let mut known = BTreeSet::new();
    let places = diagonal.chain(all).filter(|place| known.insert(*place)).take(limit);
    places.map(|(left, right)| (one.get(left).copied(), other.get(right).copied())).collect()
}
