//! The rules of a policy as they were written, resolved and stored side by side.

use crate::error::PolicyProblem;
use crate::pattern::Pattern;
use crate::requirement::Needs;
use crate::requirement::Requirement;
use crate::roles::RoleId;
use crate::strings::Strings;
use crate::strings::Symbol;
use crate::token::claim::ClaimTest;

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Refuse it; stronger than any allow.
    Deny,
    /// Let it through.
    Allow,
}

/// A rule's place in the document, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RuleId(pub(crate) u32);

/// One rule. Lists that the document leaves out are empty and match everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) id: Symbol,
    pub(crate) effect: Effect,
    /// Looked at beside the others, never enforced.
    pub(crate) shadow: bool,
    pub(crate) methods: Methods,
    roles: Span,
    paths: Span,
    hosts: Span,
    requirements: Span,
}

/// A set of methods, one bit each; the last bit stands for all methods that no rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Methods(u64);

impl Methods {
    pub(crate) const ALL: Self = Self(u64::MAX);
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

/// All rules, in document order.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    roles: Vec<RoleId>,
    paths: Vec<Pattern>,
    hosts: Vec<Pattern>,
    methods: Vec<Symbol>,
    requirements: Vec<Requirement>,
}

/// A rule to be stored: see [`Rule`].
#[derive(Debug)]
pub(crate) struct NewRule {
    pub(crate) id: Symbol,
    pub(crate) effect: Effect,
    pub(crate) shadow: bool,
    pub(crate) methods: Methods,
    pub(crate) roles: Vec<RoleId>,
    pub(crate) paths: Vec<Pattern>,
    pub(crate) hosts: Vec<Pattern>,
    pub(crate) requirements: Vec<Requirement>,
}

impl Rules {
    /// No rules yet, and room for so many with a role and a path each.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self {
            rules: Vec::with_capacity(count),
            roles: Vec::with_capacity(count),
            paths: Vec::with_capacity(count),
            ..Self::default()
        }
    }

    /// Adds a rule.
    pub(crate) fn push(&mut self, new: NewRule) {
        let NewRule { id, effect, shadow, methods, roles, paths, hosts, requirements } = new;
        let roles = extend(&mut self.roles, roles);
        let paths = extend(&mut self.paths, paths);
        let hosts = extend(&mut self.hosts, hosts);
        let requirements = extend(&mut self.requirements, requirements);
        self.rules.push(Rule { id, effect, shadow, methods, roles, paths, hosts, requirements });
    }

    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    pub(crate) fn get(&self, id: RuleId) -> Option<&Rule> {
        self.rules.get(id.0 as usize)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (RuleId, &Rule)> {
        self.rules.iter().enumerate().map(|(number, rule)| (RuleId(number as u32), rule))
    }

    /// The rule of a name. Looks at every rule: not for requests.
    pub(crate) fn named(&self, id: Symbol) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.id == id)
    }

    /// The roles that a rule is about; none is everybody.
    pub(crate) fn roles(&self, rule: &Rule) -> &[RoleId] {
        slice(&self.roles, rule.roles)
    }

    pub(crate) fn paths(&self, rule: &Rule) -> &[Pattern] {
        slice(&self.paths, rule.paths)
    }

    pub(crate) fn hosts(&self, rule: &Rule) -> &[Pattern] {
        slice(&self.hosts, rule.hosts)
    }

    /// What a rule requires beside its lists: all of it.
    pub(crate) fn requirements(&self, rule: &Rule) -> &[Requirement] {
        slice(&self.requirements, rule.requirements)
    }

    /// The claims of a rule that a `{name}` stands for.
    pub(crate) fn claim_captures(&self, rule: &Rule) -> impl Iterator<Item = (Symbol, &ClaimTest)> {
        self.requirements(rule).iter().flat_map(Requirement::claim_captures)
    }

    /// What the rules ask about.
    pub(crate) fn needs(&self) -> Needs {
        Needs::of(&self.requirements)
    }

    /// The set of one method that a rule names.
    ///
    /// # Errors
    ///
    /// [`PolicyProblem::TooMany`] if the policy names more methods than a set holds.
    pub(crate) fn name_method(&mut self, name: Symbol) -> Result<Methods, PolicyProblem> {
        if let Some(position) = self.methods.iter().position(|known| *known == name) {
            return Ok(Methods(1 << position));
        }
        let position = self.methods.len();
        if position == MAX_METHODS {
            return Err(PolicyProblem::TooMany { what: "different methods", limit: MAX_METHODS });
        }
        self.methods.push(name);
        Ok(Methods(1 << position))
    }

    /// The set that the method of a request is in.
    pub(crate) fn method(&self, name: Symbol) -> Methods {
        Methods(1 << self.methods.iter().position(|known| *known == name).unwrap_or(MAX_METHODS))
    }

    /// Whether some rule names this method.
    pub(crate) fn names_method(&self, name: Symbol) -> bool {
        self.methods.contains(&name)
    }

    /// The names in a set, sorted; `None` for the set of all methods.
    pub(crate) fn method_names<'s>(&self, methods: Methods, strings: &'s Strings) -> Option<Vec<&'s str>> {
        if methods == Methods::ALL {
            return None;
        }
        let named = self.methods.iter().enumerate().filter(|(position, _)| methods.meets(Methods(1 << position)));
        let mut names: Vec<&str> = named.map(|(_, name)| strings.text(*name)).collect();
        names.sort_unstable();
        Some(names)
    }

    pub(crate) fn shrink(&mut self) {
        self.rules.shrink_to_fit();
        self.roles.shrink_to_fit();
        self.paths.shrink_to_fit();
        self.hosts.shrink_to_fit();
        self.requirements.shrink_to_fit();
    }
}

/// One bit less than there are, for all other methods.
const MAX_METHODS: usize = 63;

fn extend<T>(all: &mut Vec<T>, new: impl IntoIterator<Item = T>) -> Span {
    let start = all.len() as u32;
    all.extend(new);
    Span { start, end: all.len() as u32 }
}

fn slice<T>(all: &[T], span: Span) -> &[T] {
    all.get(span.start as usize..span.end as usize).unwrap_or_default()
}
