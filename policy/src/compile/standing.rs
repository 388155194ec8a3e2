//! `distrust:` and `revoked:` to what a certificate is held against.

use std::sync::Arc;

use super::member;
use super::value;
use crate::anchor::Anchors;
use crate::document;
use crate::document::Text;
use crate::error::PolicyError;
use crate::error::PolicyProblem;
use crate::revocation::Revocations;
use crate::standing::Brake;
use crate::standing::Standing;

pub(super) fn compile(
    distrust: &[document::Distrust<'_>],
    revoked: &document::Revoked<'_>,
    revocations: Arc<Revocations>,
    anchors: &Anchors,
) -> Result<Standing, PolicyError> {
    let mut brakes = Vec::with_capacity(distrust.len());
    for (position, written) in distrust.iter().enumerate() {
        let place =
            |(field, problem): member::FieldProblem| PolicyError::new(format!("distrust[{position}].{field}"), problem);
        let issued_before = written.issued_before.as_ref().map(|text| value::time(text.as_str())).transpose();
        let issued_before = issued_before.map_err(|problem| place(("issued_before".to_owned(), problem)))?;
        let issuer = match &written.issuer {
            None => Vec::new(),
            Some(attributes) => {
                let pairs = attributes.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                member::issuer(pairs, anchors).map_err(place)?
            }
        };
        if issued_before.is_none() && issuer.is_empty() {
            return Err(PolicyError::new(format!("distrust[{position}]"), PolicyProblem::NoCondition));
        }
        brakes.push(Brake { issued_before, issuer });
    }
    let fresh_until = revoked.fresh_until.as_ref().map(|text| value::time(text.as_str())).transpose();
    Ok(Standing {
        anchored: !anchors.is_empty(),
        brakes,
        serials: list("serials", &revoked.serials, member::serial)?,
        spki_sha256: list("spki_sha256", &revoked.spki_sha256, |text| value::sha256(text).map(|hash| *hash))?,
        sha256: list("sha256", &revoked.sha256, |text| value::sha256(text).map(|hash| *hash))?,
        revocations,
        fresh_until: fresh_until.map_err(|problem| PolicyError::new("revoked.fresh_until", problem))?,
    })
}

/// The values of a list, sorted.
fn list<T: Ord>(
    field: &str,
    texts: &[Text<'_>],
    parse: impl Fn(&str) -> Result<T, PolicyProblem>,
) -> Result<Vec<T>, PolicyError> {
    let mut values = Vec::with_capacity(texts.len());
    for (position, text) in texts.iter().enumerate() {
        let place = |problem| PolicyError::new(format!("revoked.{field}[{position}]"), problem);
        values.push(parse(text.as_str()).map_err(place)?);
    }
    values.sort_unstable();
    values.dedup();
    Ok(values)
}
