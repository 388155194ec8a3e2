//! `forwarders:` to who may speak for others.

use super::member;
use super::roles::RoleTable;
use super::value;
use crate::anchor::Anchors;
use crate::document;
use crate::document::Condition;
use crate::error::PolicyError;
use crate::error::PolicyProblem;
use crate::forwarded::Forwarder;
use crate::forwarded::Hops;
use crate::forwarded::MAX_ELEMENTS;
use crate::pattern::Patterns;
use crate::roles::RoleId;
use crate::strings::Strings;
use crate::token::provider::Providers;

/// Forwarders are tried one by one, once for each certificate.
const MAX_FORWARDERS: usize = 256;

pub(super) fn compile(
    written: &[document::Forwarder<'_>],
    roles: &RoleTable,
    anchors: &Anchors,
    providers: &Providers,
    strings: &mut Strings,
    patterns: &mut Patterns,
) -> Result<Vec<Forwarder>, PolicyError> {
    if written.len() > MAX_FORWARDERS {
        let problem = PolicyProblem::TooMany { what: "forwarders", limit: MAX_FORWARDERS };
        return Err(PolicyError::new("forwarders", problem));
    }
    let mut forwarders = Vec::with_capacity(written.len());
    for (position, one) in written.iter().enumerate() {
        let place = |(field, problem): member::FieldProblem| {
            let field = if field.is_empty() { field } else { format!(".{field}") };
            PolicyError::new(format!("forwarders[{position}]{field}"), problem)
        };
        // A forwarder holds no role, and what it sends beside the certificate is its client's.
        if let Some(condition) =
            one.member.0.iter().find(|condition| matches!(condition, Condition::Role(_) | Condition::Token(_)))
        {
            let problem = PolicyProblem::NotOfForwarders(condition.field());
            return Err(place((condition.field().to_owned(), problem)));
        }
        let member = member::compile(RoleId::ANY, &one.member, roles, anchors, providers, strings, patterns);
        let member = member.map_err(place)?;
        let hops = hops(one).map_err(place)?;
        forwarders.push(Forwarder { conditions: member.conditions, hops, keep: one.keep });
    }
    Ok(forwarders)
}

fn hops(written: &document::Forwarder<'_>) -> Result<Hops, member::FieldProblem> {
    let refused = |number: u64, expected| ("hops".to_owned(), value::bad(&number.to_string(), expected));
    let by = written.by.as_ref().map(|uri| member::uri(uri.as_str())).transpose();
    let by = by.map_err(|problem| ("by".to_owned(), problem))?;
    let number = written.hops.unwrap_or(1);
    let count = usize::try_from(number).ok().filter(|count| (1..=MAX_ELEMENTS).contains(count));
    let count = count.ok_or_else(|| refused(number, "from 1 to 16"))?;
    if count > 1 && by.is_none() {
        return Err(refused(number, "1, and more need `by`: the name of the proxy next to the client"));
    }
    Ok(Hops { count, by })
}
