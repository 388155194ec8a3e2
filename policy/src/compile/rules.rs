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
use crate::index::Index;
use crate::pattern::Pattern;
use crate::pattern::Patterns;
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

/// Compiles the rules of a document.
pub(super) fn compile(
    count: RuleCount,
    written: Lists<'_>,
    roles: &RoleTable,
    strings: &mut Strings,
    patterns: &mut Patterns,
) -> Result<(Rules, Index), PolicyError> {
    let room = count.0.min(MAX_DOCUMENT / SHORTEST);
    let mut rules = Rules::with_capacity(room);
    let mut builder = Builder::with_capacity(room);
    written.each_rule(&mut |mut rule| {
        let id = RuleId(rules.len() as u32);
        let place = |(field, problem): FieldProblem| {
            let dot = if field.is_empty() { "" } else { "." };
            PolicyError::new(format!("rules[{}]{dot}{field}", id.0), problem)
        };
        add(&mut rule, roles, strings, patterns, &mut rules).map_err(place)?;
        let Some(rule) = rules.get(id) else { return Ok(()) };
        let added = builder.add(id, rule, &rules, patterns, |role| roles.captures(role));
        added.map_err(|problem| place((String::new(), problem)))
    })?;
    rules.shrink();
    let index = builder.finish(&rules)?;
    // Last, when the memory of the builder is free again.
    let mut ids: Vec<_> = rules.iter().map(|(id, rule)| (rule.id, id)).collect();
    ids.sort_unstable();
    for ((one, _), (other, id)) in ids.iter().zip(ids.iter().skip(1)) {
        if one == other {
            let problem = PolicyProblem::Duplicate { what: "rule", name: strings.text(*one).to_owned() };
            return Err(PolicyError::new(format!("rules[{}].id", id.0), problem));
        }
    }
    Ok((rules, index))
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
