//! Making the index from rules.

use std::collections::BTreeMap;
use std::mem;

use super::Entry;
use super::Group;
use super::Index;
use super::NodeId;
use super::Slot;
use super::Trie;
use super::constrained;
use super::slots;
use crate::error::PolicyError;
use crate::error::PolicyProblem;
use crate::pattern::Pattern;
use crate::pattern::Patterns;
use crate::roles::RoleId;
use crate::rule::Effect;
use crate::rule::Methods;
use crate::rule::Rule;
use crate::rule::RuleId;
use crate::rule::Rules;
use crate::strings::Symbol;

/// Arrangements of wildcards among the hosts of a policy, and among its paths.
const MAX_HOST_ARRANGEMENTS: usize = 64;
const MAX_PATH_ARRANGEMENTS: usize = 1024;

/// Rules in one list.
const MAX_LIST: usize = 256;

/// Combinations of host, path and role, over all rules.
const MAX_COMBINATIONS: usize = 4 << 20;

/// An index in the making.
#[derive(Debug)]
pub(crate) struct Builder {
    hosts: Trie,
    host_root: NodeId,
    paths: Trie,
    any_host: NodeId,
    path_roots: Vec<NodeId>,
    raw: Vec<Raw>,
    constraints: Vec<Box<[Slot]>>,
    constraint_numbers: BTreeMap<Box<[Slot]>, u32>,
}

/// An entry with where it belongs, ordered as entries are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Raw {
    terminal: u32,
    role: RoleId,
    effect: Effect,
    rule: RuleId,
    constraint: u32,
}

impl Builder {
    /// Makes room for so many rules, should each stand for one combination of host, path and role.
    pub(crate) fn with_capacity(rules: usize) -> Self {
        let mut hosts = Trie::new(1);
        let mut paths = Trie::new(0);
        Self {
            host_root: hosts.root(),
            any_host: paths.root(),
            hosts,
            paths,
            path_roots: Vec::new(),
            raw: Vec::with_capacity(rules),
            constraints: vec![Box::default()],
            constraint_numbers: BTreeMap::new(),
        }
    }

    /// Adds a rule. `bound` are the names that a role's captures may bind, sorted.
    ///
    /// # Errors
    ///
    /// [`PolicyProblem::TooMany`] beyond the bounds of the index.
    pub(crate) fn add<'b>(
        &mut self,
        id: RuleId,
        rule: &Rule,
        rules: &Rules,
        patterns: &Patterns,
        bound: impl Fn(RoleId) -> &'b [Symbol],
    ) -> Result<(), PolicyProblem> {
        for host in optional(rules.hosts(rule)) {
            let host_steps = host.map_or(&[][..], |host| patterns.steps(host));
            let root = match host {
                None => self.any_host,
                Some(host) => self.host(host, patterns),
            };
            for path in optional(rules.paths(rule)) {
                let path_steps = path.map_or(&[][..], |path| patterns.steps(path));
                let rest = path.is_none_or(|path| path.rest);
                let terminal = self.paths.insert(root, path_steps.iter().copied(), rest).0;
                let slots = slots(path_steps, host_steps, rules.claim_captures(rule).map(|(name, _)| name));
                let everybody = [RoleId::ANY];
                let roles = match rules.roles(rule) {
                    [] => &everybody,
                    roles => roles,
                };
                for &role in roles {
                    let constraint = self.constraint(&slots, bound(role));
                    self.raw.push(Raw { terminal, role, effect: rule.effect, rule: id, constraint });
                }
            }
        }
        for (what, limit, number) in [
            ("combinations of host, path and role", MAX_COMBINATIONS, self.raw.len()),
            ("arrangements of wildcards in hosts", MAX_HOST_ARRANGEMENTS, self.hosts.arrangements()),
            ("arrangements of wildcards in paths", MAX_PATH_ARRANGEMENTS, self.paths.arrangements()),
        ] {
            if number > limit {
                return Err(PolicyProblem::TooMany { what, limit });
            }
        }
        Ok(())
    }

    /// Lays out the index. `written` is the field of the document that the rules stand under.
    ///
    /// # Errors
    ///
    /// [`PolicyProblem::TooMany`], with the rule's place, if a list is longer than it may be.
    pub(crate) fn finish(mut self, rules: &Rules, written: &str) -> Result<Index, PolicyError> {
        self.raw.sort_unstable();
        let mut terminals = Vec::with_capacity(self.paths.terminals() as usize + 1);
        let mut groups = Vec::new();
        let mut entries: Vec<Entry> = Vec::with_capacity(self.raw.len());
        let raw = mem::take(&mut self.raw);
        for list in raw.chunk_by(|one, other| (one.terminal, one.role) == (other.terminal, other.role)) {
            let Some(first) = list.first() else { continue };
            while terminals.len() <= first.terminal as usize {
                terminals.push(groups.len() as u32);
            }
            groups.push(Group { role: first.role, start: entries.len() as u32 });
            let start = entries.len();
            for kind in list.chunk_by(|one, other| one.effect == other.effect) {
                retain_reachable(kind, rules, &mut entries);
            }
            if entries.len() - start > MAX_LIST {
                let what =
                    "rules for one role, host and path that differ in nothing but methods, captures and conditions";
                let path = format!("{written}[{}]", first.rule.0);
                return Err(PolicyError::new(path, PolicyProblem::TooMany { what, limit: MAX_LIST }));
            }
        }
        while terminals.len() <= self.paths.terminals() as usize {
            terminals.push(groups.len() as u32);
        }
        groups.push(Group { role: RoleId::ANY, start: entries.len() as u32 });
        groups.shrink_to_fit();
        entries.shrink_to_fit();
        self.hosts.shrink();
        self.paths.shrink();
        Ok(Index {
            hosts: self.hosts,
            host_root: self.host_root,
            paths: self.paths,
            any_host: self.any_host,
            path_roots: self.path_roots,
            terminals,
            groups,
            entries,
            constraints: self.constraints,
        })
    }

    fn host(&mut self, host: Pattern, patterns: &Patterns) -> NodeId {
        let terminal = self.hosts.insert(self.host_root, patterns.steps(host).iter().copied(), host.rest);
        // Terminals are numbered in the order in which they are first seen.
        match self.path_roots.get(terminal.0 as usize) {
            Some(&root) => root,
            None => {
                let root = self.paths.root();
                self.path_roots.push(root);
                root
            }
        }
    }

    fn constraint(&mut self, slots: &[Slot], bound: &[Symbol]) -> u32 {
        let asked = constrained(slots, bound);
        if asked.is_empty() {
            return 0;
        }
        if let Some(&number) = self.constraint_numbers.get(asked.as_slice()) {
            return number;
        }
        let number = self.constraints.len() as u32;
        let asked = asked.into_boxed_slice();
        self.constraints.push(asked.clone());
        self.constraint_numbers.insert(asked, number);
        number
    }
}

/// Lists the entries of one kind, without those that can never be the first to match: everything that they match is matched
/// by earlier ones that require nothing more, with the same constraint or with none. Shadow rules leave everything to the
/// others.
fn retain_reachable(kind: &[Raw], rules: &Rules, entries: &mut Vec<Entry>) {
    let mut taken: Vec<(u32, bool, Methods)> = Vec::new();
    for raw in kind {
        let Some(rule) = rules.get(raw.rule) else { continue };
        let methods = rule.methods;
        let before = taken
            .iter()
            .filter(|(constraint, shadow, _)| [0, raw.constraint].contains(constraint) && (rule.shadow || !shadow));
        let covered = before.fold(Methods::NONE, |all, (.., methods)| all.with(*methods));
        if methods.is_within(covered) {
            continue;
        }
        entries.push(Entry { rule: raw.rule, constraint: raw.constraint });
        // What requires more than its list says leaves something to those that come later.
        if !rules.requirements(rule).is_empty() {
            continue;
        }
        let same = |(constraint, shadow, _): &&mut (u32, bool, Methods)| {
            (*constraint, *shadow) == (raw.constraint, rule.shadow)
        };
        match taken.iter_mut().find(same) {
            Some((.., known)) => *known = known.with(methods),
            None => taken.push((raw.constraint, rule.shadow, methods)),
        }
    }
}

/// The patterns, or one `None` where there is none.
fn optional(patterns: &[Pattern]) -> impl Iterator<Item = Option<Pattern>> {
    let none = patterns.is_empty().then_some(None);
    patterns.iter().copied().map(Some).chain(none)
}
