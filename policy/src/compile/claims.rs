//! Conditions on tokens: scopes and claims, as rules and members of roles have them.

use super::rules::FieldProblem;
use super::rules::each;
use super::tokens::claim_path;
use super::value;
use crate::document;
use crate::document::Text;
use crate::error::PolicyProblem;
use crate::pattern;
use crate::pattern::Step;
use crate::strings::Strings;
use crate::token::claim::ClaimTest;
use crate::token::claim::Plain;
use crate::token::claim::Wanted;
use crate::token::condition::TokenCondition;
use crate::token::provider::Providers;
use crate::token::scopes;

/// The most claims of one rule or member, and the most values of one: they are tried one by one.
const MAX_CLAIMS: usize = 32;
const MAX_VALUES: usize = 256;

/// Compiles `token:` of a member.
pub(super) fn token(
    written: &document::TokenFields<'_>,
    providers: &Providers,
    strings: &mut Strings,
) -> Result<TokenCondition, FieldProblem> {
    let inside = |(field, problem): FieldProblem| (format!("token.{field}"), problem);
    let provider = provider(written.provider.as_str(), providers).map_err(inside)?;
    let claims = written.claims.as_ref().map(|claims| self::claims(claims, strings)).transpose().map_err(inside)?;
    let scopes = written.scopes.as_ref().map(|names| scopes(names)).transpose().map_err(inside)?;
    Ok(TokenCondition { provider, claims: claims.unwrap_or_default(), scopes: scopes.unwrap_or_default() })
}

/// Finds a provider.
pub(super) fn provider(name: &str, providers: &Providers) -> Result<crate::token::provider::ProviderId, FieldProblem> {
    let unknown = || PolicyProblem::UnknownWord { name: value::shown(name), known: "the names under `tokens`" };
    providers.named(name).ok_or_else(unknown).map_err(|problem| ("provider".to_owned(), problem))
}

/// Compiles `scopes:`, sorted.
pub(super) fn scopes(names: &[Text<'_>]) -> Result<Box<[Box<str>]>, FieldProblem> {
    let mut scopes: Vec<Box<str>> = each("scopes", names, |name| {
        let expected = "a scope: visible ASCII without spaces, `\"` and `\\`; several scopes are several elements";
        if scopes::is_scope(name) { Ok(name.into()) } else { Err(value::bad(name, expected)) }
    })?;
    scopes.sort_unstable();
    scopes.dedup();
    Ok(scopes.into())
}

/// Compiles `claims:`, sorted by path.
pub(super) fn claims(written: &document::Claims<'_>, strings: &mut Strings) -> Result<Box<[ClaimTest]>, FieldProblem> {
    if written.0.is_empty() {
        return Err(("claims".to_owned(), PolicyProblem::EmptyList));
    }
    if written.0.len() > MAX_CLAIMS {
        return Err(("claims".to_owned(), PolicyProblem::TooMany { what: "claims", limit: MAX_CLAIMS }));
    }
    let mut tests: Vec<ClaimTest> = Vec::with_capacity(written.0.len());
    for (path, values) in &written.0 {
        let here = |problem| (format!("claims.{}", value::shown(path.as_str())), problem);
        let path = claim_path(path.as_str()).map_err(here)?;
        if tests.iter().any(|known| known.path == path) {
            let name = path.as_str().to_owned();
            return Err(here(PolicyProblem::Duplicate { what: "claim", name }));
        }
        let wanted = wanted(&values.0, strings).map_err(here)?;
        tests.push(ClaimTest { path, wanted });
    }
    tests.sort_unstable_by(|one, other| one.path.as_str().cmp(other.path.as_str()));
    Ok(tests.into())
}

fn wanted(values: &[document::Plain], strings: &mut Strings) -> Result<Wanted, PolicyProblem> {
    if values.is_empty() {
        return Err(PolicyProblem::EmptyList);
    }
    if values.len() > MAX_VALUES {
        return Err(PolicyProblem::TooMany { what: "values of one claim", limit: MAX_VALUES });
    }
    let mut plain = Vec::with_capacity(values.len());
    for value in values {
        plain.push(match value {
            document::Plain::Bool(value) => Plain::Bool(*value),
            document::Plain::Integer(value) => Plain::Integer(*value),
            document::Plain::Text(text) => match capture(text, strings)? {
                Some(wanted) if values.len() == 1 => return Ok(wanted),
                Some(_) => return Err(value::bad(text, "one of several values: `{name}` stands alone")),
                None => Plain::Text(text.as_str().into()),
            },
        });
    }
    plain.sort_unstable();
    plain.dedup();
    Ok(Wanted::OneOf(plain.into()))
}

fn capture(text: &str, strings: &mut Strings) -> Result<Option<Wanted>, PolicyProblem> {
    let bad = |why| PolicyProblem::BadPattern { pattern: value::shown(text), why };
    match pattern::wildcard(text, strings).map_err(bad)? {
        None | Some(Step::Literal(_)) => Ok(None),
        Some(Step::Capture(name)) => Ok(Some(Wanted::Capture(name))),
        Some(Step::One) => Err(bad("a claim that may be anything is no condition".to_owned())),
    }
}
