//! The index: which rules match a request, without looking at the others.
//!
//! A trie over the labels of hosts leads to tries over the segments of paths, and where a pattern ends, a list sorted by
//! role leads to the few rules that are left. Deny and allow rules are found in one walk. Of each, the first in the
//! document is the one that is reported.
//!
//! **Bound.** One decision costs at most: [the arrangements of wildcards](trie) among hosts, times those among paths,
//! times the requester's roles (or the pattern's, if those are fewer) times the logarithm of the others, times the entries
//! of one list. The first two are limited to 64 and 1,024 for a policy, in practice a dozen; a list is limited to 256
//! entries, in practice one or two, since a rule that earlier ones in its list leave nothing to is not listed. A policy
//! beyond these limits is refused, so no policy is slow: not 100,000 rules for one path, not 100,000 below `**`.

mod build;
mod constraint;
mod cover;
mod trie;

use std::borrow::Cow;

use crate::decide::Request;
use crate::host::Host;
use crate::requirement;
use crate::requirement::Lack;
use crate::roles::Binding;
use crate::roles::Held;
use crate::roles::RoleId;
use crate::rule::Effect;
use crate::rule::Methods;
use crate::rule::RuleId;
use crate::rule::Rules;
use crate::strings::Strings;
use crate::strings::Symbol;

pub(crate) use build::Builder;
pub(crate) use constraint::Slot;
pub(crate) use constraint::constrained;
pub(crate) use constraint::labels;
pub(crate) use constraint::satisfied;
pub(crate) use constraint::slots;
pub(crate) use trie::MAX_STEPS;
pub(crate) use trie::NodeId;
pub(crate) use trie::Terminal;
pub(crate) use trie::Trie;

/// What a request is looked up by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'q> {
    pub(crate) path: &'q [Cow<'q, str>],
    pub(crate) host: Option<&'q Host<'q>>,
    pub(crate) method: Methods,
    /// In the order of the roles' numbers.
    pub(crate) held: &'q [Held],
    /// What rules may require beside that.
    pub(crate) request: &'q Request<'q>,
}

/// The first deny rule and the first allow rule that match, and those among the shadow rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) deny: Option<RuleId>,
    pub(crate) allow: Option<RuleId>,
    /// What else an allow rule would have needed of the token, where that is all that it lacked.
    pub(crate) lacks: Option<Lack>,
    shadow_deny: Option<RuleId>,
    shadow_allow: Option<RuleId>,
}

impl Found {
    /// What would be found if shadow rules were like the others.
    pub(crate) fn with_shadows(self) -> Self {
        let first = |one: Option<RuleId>, other: Option<RuleId>| one.into_iter().chain(other).min();
        Self {
            deny: first(self.deny, self.shadow_deny),
            allow: first(self.allow, self.shadow_allow),
            lacks: self.lacks,
            ..Self::default()
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Index {
    hosts: Trie,
    host_root: NodeId,
    paths: Trie,
    /// Where the paths of rules without hosts begin.
    any_host: NodeId,
    /// Where the paths of rules with a host begin, by the host's terminal.
    path_roots: Vec<NodeId>,
    /// First group of each terminal of a path, and one past the last.
    terminals: Vec<u32>,
    groups: Vec<Group>,
    entries: Vec<Entry>,
    constraints: Vec<Box<[Slot]>>,
}

/// The entries of one terminal for one role.
#[derive(Clone, Copy, Debug)]
struct Group {
    role: RoleId,
    /// First entry; the next group's first is one past the last.
    start: u32,
}

/// A rule that ends at a terminal for a role: deny rules first, each kind in document order.
#[derive(Clone, Copy, Debug)]
struct Entry {
    rule: RuleId,
    /// Number of the constraint on captures; 0 is none.
    constraint: u32,
}

impl Index {
    /// Finds the rules that decide a request.
    pub(crate) fn find(&self, query: &Query<'_>, rules: &Rules, strings: &Strings) -> Found {
        let mut words = [Symbol::UNKNOWN; MAX_STEPS + 1];
        let mut length = 0;
        for (word, segment) in words.iter_mut().zip(query.path) {
            *word = strings.find(segment);
            length += 1;
        }
        let words = words.get(..length).unwrap_or_default();

        let mut found = Found::default();
        let mut at_path = |terminal| self.at_terminal(terminal, query, rules, &mut found);
        self.paths.walk(self.any_host, words, &mut at_path);
        if let Some(host) = query.host {
            let mut names = [Symbol::UNKNOWN; MAX_STEPS + 1];
            let mut length = 0;
            for (name, label) in names.iter_mut().zip(labels(host)) {
                *name = strings.find(label);
                length += 1;
            }
            self.hosts.walk(self.host_root, names.get(..length).unwrap_or_default(), &mut |terminal| {
                if let Some(&root) = self.path_roots.get(terminal.0 as usize) {
                    self.paths.walk(root, words, &mut at_path);
                }
            });
        }
        found
    }

    fn at_terminal(&self, terminal: Terminal, query: &Query<'_>, rules: &Rules, found: &mut Found) {
        let groups = self.groups_of(terminal);
        if let Some(first) = groups.first()
            && first.role == RoleId::ANY
        {
            self.in_group(self.entries_of(terminal, 0), &[], query, rules, found);
        }
        if query.held.len() <= groups.len() {
            for held in query.held {
                if let Ok(position) = groups.binary_search_by_key(&held.role, |group| group.role) {
                    self.in_group(self.entries_of(terminal, position), &held.bindings, query, rules, found);
                }
            }
        } else {
            for (position, group) in groups.iter().enumerate() {
                if let Ok(held) = query.held.binary_search_by_key(&group.role, |held| held.role) {
                    let bindings = query.held.get(held).map_or(&[][..], |held| &held.bindings);
                    self.in_group(self.entries_of(terminal, position), bindings, query, rules, found);
                }
            }
        }
    }

    fn in_group(&self, entries: &[Entry], bindings: &[Binding], query: &Query<'_>, rules: &Rules, found: &mut Found) {
        for entry in entries {
            let Some(rule) = rules.get(entry.rule) else { continue };
            let best = match (rule.effect, rule.shadow) {
                (Effect::Allow, false) => &mut found.allow,
                (Effect::Allow, true) => &mut found.shadow_allow,
                (Effect::Deny, false) => &mut found.deny,
                (Effect::Deny, true) => &mut found.shadow_deny,
            };
            if best.is_some_and(|best| best <= entry.rule) || !rule.methods.meets(query.method) {
                continue;
            }
            let requirements = rules.requirements(rule);
            let claims = requirement::claim_texts(requirements, query.request);
            let constraint = self.constraint(entry);
            if entry.constraint != 0 && !satisfied(constraint, bindings, query.path, query.host, &claims) {
                continue;
            }
            match requirement::lack(requirements, query.request, rule.effect) {
                Ok(()) => *best = Some(entry.rule),
                Err(lack) if rule.effect == Effect::Allow && !rule.shadow => found.lacks = found.lacks.max(lack),
                Err(_) => {}
            }
        }
    }

    fn groups_of(&self, terminal: Terminal) -> &[Group] {
        let place = terminal.0 as usize;
        let bounds = (self.terminals.get(place), self.terminals.get(place + 1));
        let (Some(&start), Some(&end)) = bounds else { return &[] };
        self.groups.get(start as usize..end as usize).unwrap_or_default()
    }

    fn entries_of(&self, terminal: Terminal, position: usize) -> &[Entry] {
        let Some(&start) = self.terminals.get(terminal.0 as usize) else { return &[] };
        let place = start as usize + position;
        let bounds = (self.groups.get(place), self.groups.get(place + 1));
        let (Some(group), Some(next)) = bounds else { return &[] };
        self.entries.get(group.start as usize..next.start as usize).unwrap_or_default()
    }

    fn constraint(&self, entry: &Entry) -> &[Slot] {
        self.constraints.get(entry.constraint as usize).map_or(&[][..], |slots| slots)
    }
}
