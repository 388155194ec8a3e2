//! Why a request is decided as it is, rule by rule.
//!
//! The decision itself comes from [`crate::decide`]; here each rule is looked at on its own, without the index, so that the
//! answer can name what a rule lacked. For people and command lines: the cost grows with the number of rules.

use std::borrow::Cow;
use std::fmt;

use crate::asker::Asker;
use crate::decide;
use crate::decide::Decision;
use crate::decide::Protocol;
use crate::decide::Request;
use crate::form::Form;
use crate::host::Host;
use crate::index::constrained;
use crate::index::labels;
use crate::index::satisfied;
use crate::index::slots;
use crate::pattern::Pattern;
use crate::pattern::Step;
use crate::policy::Policy;
use crate::render;
use crate::requirement;
use crate::requirement::Truth;
use crate::roles::Binding;
use crate::roles::Held;
use crate::roles::RoleId;
use crate::rule::Effect;
use crate::rule::Rule;
use crate::rule::Rules;
use crate::strings::Strings;

/// A decision, and what each candidate rule had to say.
#[derive(Debug)]
pub struct Explanation<'p> {
    /// The decision, the same as [`Policy::decide`] makes.
    pub decision: Decision<'p>,
    /// The candidates in document order: rules about this path, and rules about a role that the peer holds. None if the
    /// request was refused before any rule was asked.
    pub rules: Vec<RuleOutcome<'p>>,
}

/// What became of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleOutcome<'p> {
    /// The rule.
    pub rule: &'p str,
    /// What it does with what it matches.
    pub effect: Effect,
    /// Whether it is a shadow rule, which decides nothing.
    pub shadow: bool,
    /// The first condition that failed; `None` if the rule matches.
    pub failed: Option<Mismatch>,
}

/// The first condition of a rule that a request does not fulfil, in the order in which they are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// No path pattern matches.
    Path {
        /// The rule's patterns.
        patterns: Vec<String>,
    },
    /// No host pattern matches.
    Host {
        /// The rule's patterns.
        patterns: Vec<String>,
        /// The request's host, if it has one.
        host: Option<String>,
    },
    /// The rule is about other methods.
    Method {
        /// The rule's methods.
        methods: Vec<String>,
        /// The request's method.
        method: String,
    },
    /// The peer holds none of the rule's roles.
    Role {
        /// The rule's roles.
        roles: Vec<String>,
    },
    /// Method, path, host and role hold, but a `{name}` stands for different texts.
    Capture {
        /// The names of captures in the rule.
        names: Vec<String>,
    },
    /// One of the rule's further conditions.
    Requirement {
        /// The field that it is written under.
        field: &'static str,
        /// The condition, as it is written.
        text: String,
        /// What it asks about is missing, so that it neither holds nor fails.
        unknown: bool,
    },
}

impl Mismatch {
    /// The stable kind: `path`, `host`, `method`, `role`, `capture`, or the field of a further condition.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Path { .. } => "path",
            Self::Host { .. } => "host",
            Self::Method { .. } => "method",
            Self::Role { .. } => "role",
            Self::Capture { .. } => "capture",
            Self::Requirement { field, .. } => field,
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { patterns } => write!(f, "the path is not {}", Choice(patterns)),
            Self::Host { patterns, host: None } => write!(f, "there is no host, and it must be {}", Choice(patterns)),
            Self::Host { patterns, host: Some(host) } => write!(f, "the host `{host}` is not {}", Choice(patterns)),
            Self::Method { methods, method } => write!(f, "the method `{method}` is not {}", Choice(methods)),
            Self::Role { roles } => write!(f, "the peer does not hold {}", Choice(roles)),
            Self::Capture { names } => write!(f, "{} does not stand for the same text everywhere", Choice(names)),
            Self::Requirement { text, unknown: false, .. } => write!(f, "the request does not fulfil `{text}`"),
            Self::Requirement { text, unknown: true, .. } => {
                write!(f, "what `{text}` asks about is missing")
            }
        }
    }
}

/// `a`, `b` or `c`.
struct Choice<'a>(&'a [String]);

impl fmt::Display for Choice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, text) in self.0.iter().enumerate() {
            match position {
                0 => {}
                _ if position + 1 == self.0.len() => f.write_str(" or ")?,
                _ => f.write_str(", ")?,
            }
            write!(f, "`{text}`")?;
        }
        Ok(())
    }
}

/// See [`Policy::explain`].
pub(crate) fn explain<'p>(policy: &'p Policy, request: &Request<'p>) -> Explanation<'p> {
    let decision = decide::decide(policy, request);
    let asked = decision.rule().is_some() || decide::is_default(decision.reason());
    let mut rules = Vec::new();
    let form = match request.protocol {
        Protocol::Http => Form::read(&request.head, policy).map(Some),
        Protocol::Tcp => Ok(None),
    };
    if asked && let Ok(form) = form {
        let asker = Asker::of(policy, request);
        let asking = Asking { policy, rules: policy.rules_of(request.protocol), request, form, held: asker.held() };
        rules.extend(asking.rules.iter().filter_map(|(_, rule)| asking.outcome(rule)));
    }
    Explanation { decision, rules }
}

/// A request as rules are asked about it.
struct Asking<'p, 'q> {
    policy: &'p Policy,
    rules: &'p Rules,
    request: &'q Request<'q>,
    /// `None` for a TCP connection.
    form: Option<Form<'q>>,
    held: &'q [Held],
}

impl<'p> Asking<'p, '_> {
    /// `None` for a rule that is no candidate.
    fn outcome(&self, rule: &'p Rule) -> Option<RuleOutcome<'p>> {
        let Policy { strings, patterns, .. } = self.policy;
        let (rules, segments, host) = (self.rules, self.segments(), self.host());
        let method = self.form.as_ref().map(|form| form.method);

        let paths = rules.paths(rule);
        let paths_fit: Vec<Option<Pattern>> =
            fitting(paths, |path| self.fits(path, 0, segments.iter().map(AsRef::as_ref)));
        let hosts = rules.hosts(rule);
        let hosts_fit: Vec<Option<Pattern>> =
            fitting(hosts, |pattern| host.is_some_and(|host| self.fits(pattern, 1, labels(host))));
        let roles = rules.roles(rule);
        let everybody = [Held { role: RoleId::ANY, bindings: Vec::new() }];
        let held: Vec<&Held> = match roles {
            [] => everybody.iter().collect(),
            _ => self.held.iter().filter(|held| roles.contains(&held.role)).collect(),
        };
        if paths_fit.is_empty() && (roles.is_empty() || held.is_empty()) {
            return None;
        }

        let names = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
        let failed = if paths_fit.is_empty() {
            Some(Mismatch::Path { patterns: paths.iter().map(|path| patterns.path_text(*path, strings)).collect() })
        } else if hosts_fit.is_empty() {
            Some(Mismatch::Host {
                patterns: hosts.iter().map(|host| patterns.host_text(*host, strings)).collect(),
                host: host.map(|host| host.as_str().to_owned()),
            })
        } else if let Some(method) = method.filter(|method| !rule.methods.meets(rules.method(strings.find(method)))) {
            Some(Mismatch::Method {
                methods: names(rules.method_names(rule.methods, strings).unwrap_or_default()),
                method: method.to_owned(),
            })
        } else if held.is_empty() {
            let roles = roles.iter().map(|role| self.policy.roles.name(*role, strings));
            Some(Mismatch::Role { roles: names(roles.collect()) })
        } else if !self.captures_agree(rule, &paths_fit, &hosts_fit, &held) {
            Some(Mismatch::Capture { names: self.capture_names(rule, &paths_fit, &hosts_fit, strings) })
        } else {
            let truths = rules.requirements(rule).iter().map(|one| (one, one.truth(self.request, rule.effect)));
            truths.into_iter().find(|(_, truth)| *truth != Truth::True).map(|(one, truth)| Mismatch::Requirement {
                field: one.field(),
                text: render::requirement(one, strings),
                unknown: truth == Truth::Unknown,
            })
        };
        Some(RuleOutcome { rule: strings.text(rule.id), effect: rule.effect, shadow: rule.shadow, failed })
    }

    fn fits<'w>(&self, pattern: Pattern, rest_takes: usize, words: impl Iterator<Item = &'w str>) -> bool {
        let Policy { strings, patterns, .. } = self.policy;
        // Whether captures agree is asked later, of path, host and role at once.
        patterns.fits(pattern, rest_takes, words, strings, &mut |_, _| true)
    }

    fn captures_agree(
        &self,
        rule: &Rule,
        paths: &[Option<Pattern>],
        hosts: &[Option<Pattern>],
        held: &[&Held],
    ) -> bool {
        let (rules, host) = (self.rules, self.host());
        let claims = requirement::claim_texts(rules.requirements(rule), self.request);
        let named = || rules.claim_captures(rule).map(|(name, _)| name);
        let agrees = |path: &Option<Pattern>, on: &Option<Pattern>, role: RoleId, bindings: &[Binding]| {
            let asked =
                constrained(&slots(self.steps(path), self.steps(on), named()), self.policy.roles.captures(role));
            satisfied(&asked, bindings, self.segments(), host, &claims)
        };
        paths
            .iter()
            .any(|path| hosts.iter().any(|on| held.iter().any(|held| agrees(path, on, held.role, &held.bindings))))
    }

    fn capture_names(
        &self,
        rule: &Rule,
        paths: &[Option<Pattern>],
        hosts: &[Option<Pattern>],
        strings: &Strings,
    ) -> Vec<String> {
        let claims = self.rules.claim_captures(rule).map(|(name, _)| format!("{{{}}}", strings.text(name)));
        let steps = paths.iter().chain(hosts).flat_map(|pattern| self.steps(pattern));
        let mut names: Vec<String> = steps
            .filter_map(|step| match step {
                Step::Capture(name) => Some(format!("{{{}}}", strings.text(*name))),
                Step::Literal(_) | Step::One => None,
            })
            .chain(claims)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn segments(&self) -> &[Cow<'_, str>] {
        self.form.as_ref().map_or(&[], |form| form.path.segments())
    }

    fn host(&self) -> Option<&Host<'_>> {
        self.form.as_ref()?.host.as_ref()
    }

    fn steps(&self, pattern: &Option<Pattern>) -> &'p [Step] {
        pattern.map_or(&[][..], |pattern| self.policy.patterns.steps(pattern))
    }
}

/// The patterns that fit, or one `None` where there is none that could fail to.
fn fitting(patterns: &[Pattern], fits: impl Fn(Pattern) -> bool) -> Vec<Option<Pattern>> {
    if patterns.is_empty() {
        return vec![None];
    }
    patterns.iter().copied().filter(|pattern| fits(*pattern)).map(Some).collect()
}
