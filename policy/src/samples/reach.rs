//! Who can make a request, and what somebody can reach.

use super::SamplePeer;
use super::SampleRequest;
use super::clock;
use super::facts::Facts;
use super::people;
use super::people::Holder;
use super::requests::across;
use super::requests::host_of;
use super::requests::paths_of;
use super::words::Words;
use crate::certificate::Synthetic;
use crate::decide::Decision;
use crate::decide::Peer;
use crate::form::Form;
use crate::index::labels;
use crate::pattern::Pattern;
use crate::policy::Policy;
use crate::reason::Reason;
use crate::render;
use crate::rule::Effect;
use crate::rule::Rule;
use crate::time::UnixTime;

/// The most members of one role that certificates are made for.
const MAX_MEMBERS: usize = 64;
/// The most pairs of a host and a path of one rule that are looked at.
const MAX_TARGETS: usize = 256;

/// Calls `each` with those whom the rules about this request are about, and the decision on each of them: nobody and a
/// stranger where a rule is about everybody, else one certificate for each member of the rule's roles. Captures of a role
/// stand for what they stand for in the request, so `/tenants/{ns}` is asked about for who has this `ns`; what else a rule
/// asks for is given with the request.
///
/// # Errors
///
/// Why nobody can make this request, whoever it is.
pub fn who(
    policy: &Policy,
    request: &SampleRequest,
    each: &mut dyn FnMut(&SampleRequest, &SamplePeer, &Decision<'_>),
) -> Result<(), Reason> {
    let now = clock(&[policy]);
    let form = Form::read(&request.by(Peer::Absent, now).head, policy)?;
    let mut known: Vec<(Facts, Option<&str>, Option<Synthetic>)> = Vec::new();
    for (_, rule) in policy.rules.iter() {
        let facts = Facts::fulfilling(policy.rules.requirements(rule), rule.effect);
        let request = SampleRequest { facts: facts.clone(), ..request.clone() };
        for words in captured(policy, rule, &form) {
            for (role, synthetic) in holders(policy, rule, &words, now) {
                let key = (facts.clone(), role, synthetic);
                if !known.contains(&key) {
                    let peer = SamplePeer::new(policy, role, key.2.clone().map(Synthetic::leaf));
                    each(&request, &peer, &policy.decide(&request.by(peer.peer(), now)));
                    known.push(key);
                }
            }
        }
    }
    Ok(())
}

/// What a rule's captures stand for in a request, for each of its patterns that match; nothing if it is not about it.
fn captured(policy: &Policy, rule: &Rule, form: &Form<'_>) -> Vec<Words> {
    let Policy { rules, patterns, strings, .. } = policy;
    if !rule.methods.meets(rules.method(strings.find(form.method))) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (host, path) in across(rules.hosts(rule), rules.paths(rule), MAX_TARGETS) {
        let mut words = Words::default();
        let host_fits = host.is_none_or(|pattern| {
            let bind = &mut |name, word: &str| words.bind(strings.text(name), word);
            form.host.as_ref().is_some_and(|host| patterns.fits(pattern, 1, labels(host), strings, bind))
        });
        let path_fits = path.is_none_or(|pattern| {
            let bind = &mut |name, word: &str| words.bind(strings.text(name), word);
            patterns.fits(pattern, 0, form.path.segments().iter().map(AsRef::as_ref), strings, bind)
        });
        if host_fits && path_fits {
            found.push(words);
        }
    }
    found
}

/// Those whom a rule is about, each with the role that makes it so.
fn holders<'p>(
    policy: &'p Policy,
    rule: &Rule,
    words: &Words,
    now: UnixTime,
) -> Vec<(Option<&'p str>, Option<Synthetic>)> {
    let roles = policy.rules.roles(rule);
    if roles.is_empty() {
        return vec![(None, None), (None, Some(people::stranger(now)))];
    }
    let members = roles.iter().flat_map(|role| policy.members.of(*role).iter().take(MAX_MEMBERS));
    let made = members.filter_map(|member| match people::holder(policy, member, words, now) {
        Holder::Somebody(synthetic) => Some((Some(policy.roles.name(member.role, &policy.strings)), Some(*synthetic))),
        Holder::Nobody(_) | Holder::Unknown => None,
    });
    made.collect()
}

/// One host and path of a rule that is about somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The rule.
    pub rule: String,
    /// What it does with what it matches.
    pub effect: Effect,
    /// Its methods, sorted; `None` for all.
    pub methods: Option<Vec<String>>,
    /// Its host; captures that are this somebody's own are filled in. `None` for all.
    pub host: Option<String>,
    /// Its path, likewise.
    pub path: Option<String>,
    /// What else the rule asks for, as it is written.
    pub conditions: Vec<String>,
    /// Whether somebody gets through there: of the samples for an allow rule, some are allowed.
    pub open: bool,
    /// Why some of the samples of an allow rule are refused: deny rules, or the reasons.
    pub refused_by: Vec<String>,
}

/// What somebody can reach: each host and path of the rules that are about them, in document order.
pub fn what(policy: &Policy, peer: Peer<'_>, now: UnixTime) -> Vec<Way> {
    let view = match peer {
        Peer::Presented { subject, .. } => Some(policy.view(subject)),
        Peer::Absent | Peer::Unreadable(_) => None,
    };
    let held = view.as_ref().map_or(&[][..], |view| &view.held);
    let mut ways: Vec<Way> = Vec::new();
    for (_, rule) in policy.rules.iter() {
        let roles = policy.rules.roles(rule);
        let own = held.iter().filter(|held| roles.contains(&held.role));
        let mut words: Vec<Words> =
            own.clone().flat_map(|held| &held.bindings).map(|binding| Words::of(binding, &policy.strings)).collect();
        if words.is_empty() {
            if !roles.is_empty() && own.count() == 0 {
                continue;
            }
            words.push(Words::default());
        }
        for words in words {
            for (host, path) in across(policy.rules.hosts(rule), policy.rules.paths(rule), MAX_TARGETS) {
                let way = way(policy, rule, (host, path), &words, peer, now);
                if !ways.contains(&way) {
                    ways.push(way);
                }
            }
        }
    }
    ways
}

fn way(
    policy: &Policy,
    rule: &Rule,
    (host, path): (Option<Pattern>, Option<Pattern>),
    words: &Words,
    peer: Peer<'_>,
    now: UnixTime,
) -> Way {
    let Policy { patterns, strings, rules, .. } = policy;
    let own = |name: &str| words.get(name).map(str::to_owned);
    let methods = rules.method_names(rule.methods, strings);
    let mut way = Way {
        rule: strings.text(rule.id).to_owned(),
        effect: rule.effect,
        methods: methods.as_ref().map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        host: host.map(|host| patterns.host_text_with(host, strings, &own)),
        path: path.map(|path| patterns.path_text_with(path, strings, &own)),
        conditions: rules.requirements(rule).iter().map(|one| render::requirement(one, strings)).collect(),
        open: false,
        refused_by: Vec::new(),
    };
    if rule.effect == Effect::Deny {
        return way;
    }
    let facts = Facts::fulfilling(rules.requirements(rule), rule.effect);
    let mut words = words.clone();
    let host = host.map(|host| host_of(policy, host, &mut words));
    let Some(paths) = paths_of(policy, path, &mut words).filter(|_| host != Some(None)) else { return way };
    for path in paths {
        for method in methods.as_deref().unwrap_or(&["GET"]) {
            let host = host.clone().flatten();
            let request =
                SampleRequest { method: (*method).to_owned(), host, path: path.clone(), facts: facts.clone() };
            let decision = policy.decide(&request.by(peer, now));
            if decision.is_allowed() {
                way.open = true;
                continue;
            }
            let why = decision.rule().unwrap_or_else(|| decision.reason().code());
            if !way.refused_by.iter().any(|known| known == why) {
                way.refused_by.push(why.to_owned());
            }
        }
    }
    way
}
