//! Rules that match some requests together: which of them decides is a matter of their order.
//!
//! A rule within another is no news (a narrow rule before a wide one is how exceptions are written, and one after it is
//! shadowed); what is reported is that each matches something that the other does not. Allow rules about the same role
//! only, since a deny rule is meant to cut into allow rules, and which of two deny rules refuses makes no difference.

use super::Finding;
use crate::pattern::Pattern;
use crate::pattern::path_of_words;
use crate::policy::Policy;
use crate::roles::RoleId;
use crate::rule::Effect;
use crate::rule::Methods;
use crate::rule::Rule;
use crate::rule::RuleId;
use crate::samples::Facts;
use crate::samples::Holder;
use crate::samples::SamplePeer;
use crate::samples::SampleRequest;
use crate::samples::Shape;
use crate::samples::Words;
use crate::samples::clock;
use crate::samples::holder;
use crate::samples::unify;

/// The most pairs of rules and of patterns that are looked at. Beyond it, in policies of thousands of rules, nothing is reported.
const MAX_PAIRS: usize = 4_000_000;

/// The most members of one role who are asked whether it happens.
const MAX_MEMBERS: usize = 8;

/// At most one finding for each rule.
pub(super) fn find(policy: &Policy, findings: &mut Vec<Finding>) {
    let allowing: Vec<(RuleId, &Rule)> = policy.rules.iter().filter(|(_, rule)| rule.effect == Effect::Allow).collect();
    let mut budget = MAX_PAIRS;
    for (later, (id, rule)) in allowing.iter().enumerate() {
        let path = format!("rules[{}]", id.0);
        // What never decides is reported as that.
        if findings.iter().any(|finding| finding.path() == path) {
            continue;
        }
        for (_, first) in allowing.iter().take(later) {
            let Some(overlap) = both(policy, first, rule, &mut budget) else { continue };
            let name = |rule: &Rule| policy.strings.text(rule.id).to_owned();
            findings.push(Finding::Overlapping { path, rule: name(rule), first: name(first), example: overlap });
            break;
        }
        if budget == 0 {
            return;
        }
    }
}

/// A request that two rules match, if they overlap.
fn both(policy: &Policy, first: &Rule, later: &Rule, budget: &mut usize) -> Option<String> {
    *budget = budget.checked_sub(1)?;
    let rules = &policy.rules;
    let shared: Vec<RoleId> = match (rules.roles(first), rules.roles(later)) {
        (one, []) => one.to_vec(),
        ([], other) => other.to_vec(),
        (one, other) => one.iter().copied().filter(|role| other.contains(role)).collect(),
    };
    let everybody = rules.roles(first).is_empty() && rules.roles(later).is_empty();
    // Whether conditions of both can hold at once is not asked.
    let conditions = [first, later].iter().any(|rule| !rules.requirements(rule).is_empty());
    if conditions || (shared.is_empty() && !everybody) || !first.methods.meets(later.methods) {
        return None;
    }
    let every = [None];
    let list = |patterns: &[Pattern]| -> Vec<Option<Pattern>> {
        if patterns.is_empty() { every.to_vec() } else { patterns.iter().copied().map(Some).collect() }
    };
    let (hosts, paths) = (list(rules.hosts(first)), list(rules.paths(first)));
    let (other_hosts, other_paths) = (list(rules.hosts(later)), list(rules.paths(later)));
    for host in &hosts {
        for other_host in &other_hosts {
            for path in &paths {
                for other_path in &other_paths {
                    *budget = budget.checked_sub(1)?;
                    let (host, path) = ((*host, *other_host), (*path, *other_path));
                    if !crossing(policy, host, path) {
                        continue;
                    }
                    let Some((request, words)) = example(policy, host, path, first.methods, later.methods) else {
                        continue;
                    };
                    if happens(policy, &shared, &request, &words) {
                        return Some(request.to_string());
                    }
                }
            }
        }
    }
    None
}

/// Whether patterns of two rules meet such that neither is within the other. A rule about a host and one about a path
/// meet as well, and nobody wonders at that.
fn crossing(policy: &Policy, host: Pair, path: Pair) -> bool {
    let nested = |(one, other)| covers(policy, one, other) || covers(policy, other, one);
    nested(host) != nested(path)
}

type Pair = (Option<Pattern>, Option<Pattern>);

/// A request that these patterns of both rules match, and what their captures stand for in it.
fn example(policy: &Policy, host: Pair, path: Pair, one: Methods, other: Methods) -> Option<(SampleRequest, Words)> {
    let mut words = Words::default();
    let host = match shapes(policy, host) {
        shapes if shapes.is_empty() => None,
        shapes => {
            let least = shapes.iter().map(|(steps, rest)| steps.len() + usize::from(*rest)).max().unwrap_or(0);
            let mut labels = unify(&shapes, vec![None; least], &mut words, &policy.strings)?;
            labels.reverse();
            Some(labels.join("."))
        }
    };
    let path = path_of_words(&unify(&shapes(policy, path), Vec::new(), &mut words, &policy.strings)?);
    let names = |methods| policy.rules.method_names(methods, &policy.strings);
    let method = match (names(one), names(other)) {
        (Some(one), Some(other)) => one.into_iter().find(|name| other.contains(name))?,
        (Some(names), None) | (None, Some(names)) => names.first().copied()?,
        (None, None) => "GET",
    };
    Some((SampleRequest { method: method.to_owned(), host, path, facts: Facts::default() }, words))
}

/// Whether somebody in one of these roles (or anybody, if there are none) gets through with a request.
fn happens(policy: &Policy, roles: &[RoleId], request: &SampleRequest, words: &Words) -> bool {
    let now = clock(&[policy]);
    let allowed = |peer: &SamplePeer| policy.decide(&request.by(peer.peer(), now)).is_allowed();
    if roles.is_empty() {
        return allowed(&SamplePeer::new(policy, None, None));
    }
    let members = roles.iter().flat_map(|role| policy.members.of(*role).iter().take(MAX_MEMBERS));
    members.into_iter().any(|member| match holder(policy, member, words, now) {
        Holder::Somebody(synthetic) => allowed(&SamplePeer::new(policy, None, Some(synthetic.leaf()))),
        Holder::Nobody(_) | Holder::Unknown => false,
    })
}

fn shapes(policy: &Policy, (one, other): Pair) -> Vec<Shape<'_>> {
    let patterns = one.into_iter().chain(other);
    patterns.map(|pattern| (policy.patterns.steps(pattern), pattern.rest)).collect()
}

/// Whether one pattern matches everything that the other does, whatever is captured. Without one, everything matches.
fn covers(policy: &Policy, wide: Option<Pattern>, narrow: Option<Pattern>) -> bool {
    let Some(wide) = wide else { return true };
    narrow.is_some_and(|narrow| policy.patterns.covers(wide, narrow))
}
