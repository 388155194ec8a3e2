//! Rules: names to numbers, patterns to steps, everything into the index.

use super::requirement;
use super::roles::RoleTable;
use super::value;
use crate::document;
use crate::document::Lists;
use crate::document::MAX_DOCUMENT;
use crate::document::Principals;
use crate::document::RuleCount;
use crate::document::Text;
use crate::error::PolicyError;
use crate::error::PolicyProblem;
use crate::index::Builder;
use crate::pattern::Pattern;
use crate::pattern::Patterns;
use crate::policy::RuleSet;
use crate::rule::Effect;
use crate::rule::Methods;
use crate::rule::NewRule;
use crate::rule::RuleId;
use crate::rule::Rules;
use crate::strings::Strings;

/// A field of a rule, and what is wrong with it.
pub(super) type FieldProblem = (String, PolicyProblem);

/// Bytes of the shortest rule. What is counted need not be rules: there is no room for more than a document can hold.
const SHORTEST: usize = r#"{"id":"a","deny":"any"}"#.len();

/// Compiles the rules about requests.
pub(super) fn compile(
    count: RuleCount,
    written: Lists<'_>,
    roles: &RoleTable,
    strings: &mut Strings,
    patterns: &mut Patterns,
) -> Result<RuleSet, PolicyError> {
    let mut building = Building::new("rules", count.0.min(MAX_DOCUMENT / SHORTEST));
    written.each_rule(&mut |rule| building.add(rule, roles, strings, patterns))?;
    building.finish(&Rules::default(), strings)
}

/// Compiles the rules about TCP connections. None may have the name of one of the `others`.
pub(super) fn compile_tcp(
    written: Vec<document::TcpRule<'_>>,
    others: &Rules,
    roles: &RoleTable,
    strings: &mut Strings,
    patterns: &mut Patterns,
) -> Result<RuleSet, PolicyError> {
    let mut building = Building::new("tcp", written.len());
    written.into_iter().try_for_each(|rule| building.add(rule.into(), roles, strings, patterns))?;
    building.finish(others, strings)
}

/// The rules of one list of the document, in the making.
struct Building {
    list: &'static str,
    rules: Rules,
    index: Builder,
}

impl Building {
    fn new(list: &'static str, room: usize) -> Self {
        Self { list, rules: Rules::with_capacity(room), index: Builder::with_capacity(room) }
    }

    fn add(
        &mut self,
        mut rule: document::Rule<'_>,
        roles: &RoleTable,
        strings: &mut Strings,
        patterns: &mut Patterns,
    ) -> Result<(), PolicyError> {
        let Self { list, rules, index } = self;
        let id = RuleId(rules.len() as u32);
        let place = |(field, problem): FieldProblem| {
            let dot = if field.is_empty() { "" } else { "." };
            PolicyError::new(format!("{list}[{}]{dot}{field}", id.0), problem)
        };
        add(&mut rule, roles, strings, patterns, rules).map_err(place)?;
        let Some(rule) = rules.get(id) else { return Ok(()) };
        let added = index.add(id, rule, rules, patterns, |role| roles.captures(role));
        added.map_err(|problem| place((String::new(), problem)))
    }

    fn finish(self, others: &Rules, strings: &Strings) -> Result<RuleSet, PolicyError> {
        let Self { list, mut rules, index } = self;
        rules.shrink();
        let index = index.finish(&rules, list)?;
        // Last, when the memory of the builder is free again.
        let own = rules.iter().map(|(id, rule)| (rule.id, Some(id)));
        let mut names: Vec<_> = others.iter().map(|(_, rule)| (rule.id, None)).chain(own).collect();
        names.sort_unstable();
        for ((one, _), (other, id)) in names.iter().zip(names.iter().skip(1)) {
            if let Some(id) = id
                && one == other
            {
                let problem = PolicyProblem::Duplicate { what: "rule", name: strings.text(*one).to_owned() };
                return Err(PolicyError::new(format!("{list}[{}].id", id.0), problem));
            }
        }
        Ok(RuleSet { rules, index })
    }
}

fn add(
    rule: &mut document::Rule<'_>,
    roles: &RoleTable,
    strings: &mut Strings,
    patterns: &mut Patterns,
    rules: &mut Rules,
) -> Result<(), FieldProblem> {
    let id = value::name(rule.id.as_str()).map_err(|problem| ("id".to_owned(), problem))?;
    let id = strings.intern(id);
    let (effect, field, principals) = match (&rule.allow, &rule.deny) {
        (Some(allow), None) => (Effect::Allow, "allow", allow),
        (None, Some(deny)) => (Effect::Deny, "deny", deny),
        (Some(_), Some(_)) | (None, None) => {
            return Err((String::new(), PolicyProblem::ExactlyOne { first: "allow", second: "deny" }));
        }
    };
    let roles = match principals {
        Principals::Any => Vec::new(),
        Principals::Roles(names) => {
            let mut ids = each(field, names, |name| roles.find(name, strings))?;
            ids.sort_unstable();
            ids.dedup();
            ids
        }
    };
    let methods = match &rule.methods {
        None => Methods::ALL,
        Some(names) => each("methods", names, |name| {
            let token = |byte: u8| byte.is_ascii_graphic() && !br#""(),/:;<=>?@[\]{}"#.contains(&byte);
            if name.is_empty() || !name.bytes().all(|byte| token(byte) && !byte.is_ascii_lowercase()) {
                return Err(value::bad(name, "a method in capital letters, such as `GET`"));
            }
            rules.name_method(strings.intern(name))
        })?
        .into_iter()
        .fold(Methods::NONE, Methods::with),
    };
    let mut pattern = |field, texts: &Option<Vec<Text<'_>>>, parse: Parse| match texts {
        None => Ok(Vec::new()),
        Some(texts) => each(field, texts, |text| {
            parse(patterns, text, strings).map_err(|why| PolicyProblem::BadPattern { pattern: value::shown(text), why })
        }),
    };
    let paths = pattern("paths", &rule.paths, Patterns::path)?;
    let hosts = pattern("hosts", &rule.hosts, Patterns::host)?;
    let requirements = requirement::compile(&rule.take_requirements(), rule.not.as_deref(), strings)?;
    let shadow = rule.shadow;
    rules.push(NewRule { id, effect, shadow, methods, roles, paths, hosts, requirements });
    Ok(())
}

/// A constructor of patterns.
type Parse = fn(&mut Patterns, &str, &mut Strings) -> Result<Pattern, String>;

/// Each element of a list, which may not be empty.
pub(super) fn each<T>(
    field: &str,
    texts: &[Text<'_>],
    mut parse: impl FnMut(&str) -> Result<T, PolicyProblem>,
) -> Result<Vec<T>, FieldProblem> {
    if texts.is_empty() {
        return Err((field.to_owned(), PolicyProblem::EmptyList));
    }
    let parsed = texts
        .iter()
        .enumerate()
        .map(|(position, text)| parse(text.as_str()).map_err(|problem| (format!("{field}[{position}]"), problem)));
    parsed.collect()
}
