//! What a rule requires, as it is written, to what can be asked of a request.

use super::rules::FieldProblem;
use super::rules::each;
use super::value;
use crate::document::Requirements;
use crate::error::PolicyProblem;
use crate::network::Network;
use crate::requirement::Requirement;

/// The most values of one field: they are tried one by one.
const MAX_VALUES: usize = 256;

/// Compiles the fields of a rule, and those of its `not`.
pub(super) fn compile(
    written: &Requirements<'_>,
    not: Option<&Requirements<'_>>,
) -> Result<Vec<Requirement>, FieldProblem> {
    let mut requirements = fields(written)?;
    if let Some(not) = not {
        let inner = fields(not).map_err(|(field, problem)| (format!("not.{field}"), problem))?;
        if inner.is_empty() {
            return Err(("not".to_owned(), PolicyProblem::EmptyList));
        }
        requirements.push(Requirement::Not(inner.into()));
    }
    Ok(requirements)
}

fn fields(written: &Requirements<'_>) -> Result<Vec<Requirement>, FieldProblem> {
    let Requirements { sources } = written;
    let mut requirements = Vec::new();
    if let Some(texts) = sources {
        bounded("sources", texts.len())?;
        requirements.push(Requirement::Sources(each("sources", texts, source)?.into()));
    }
    Ok(requirements)
}

fn bounded(field: &str, length: usize) -> Result<(), FieldProblem> {
    if length > MAX_VALUES {
        let what = "values of one condition";
        return Err((field.to_owned(), PolicyProblem::TooMany { what, limit: MAX_VALUES }));
    }
    Ok(())
}

fn source(text: &str) -> Result<Network, PolicyProblem> {
    let expected = "an IP address, or a network whose bits after the prefix are zero; IPv4 is written as such, not within `::ffff:`";
    Network::parse(text)
        .filter(|network| network.address.to_canonical() == network.address)
        .ok_or_else(|| value::bad(text, expected))
}
