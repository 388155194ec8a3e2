//! `revocations:` to a set that can be asked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::value;
use crate::document;
use crate::error::PolicyError;
use crate::error::PolicyProblem;
use crate::revocation::Brake;
use crate::revocation::Freshness;
use crate::revocation::IssuerName;
use crate::revocation::Key;
use crate::revocation::MAX_BRAKES;
use crate::revocation::MAX_KEYS;
use crate::revocation::Revocations;

/// Takes what a document says.
///
/// # Errors
///
/// What is too long to be read, not sorted, or not what a program would write.
pub(super) fn compile(written: Option<&document::Revocations<'_>>) -> Result<Revocations, PolicyError> {
    let Some(written) = written else { return Ok(Revocations::default()) };
    let place = |field: &str| {
        let path = format!("revocations.{field}");
        move |problem| PolicyError::new(path, problem)
    };
    if written.brakes.len() > MAX_BRAKES {
        return Err(place("brakes")(shape(format!("more than {MAX_BRAKES} brakes"))));
    }
    let mut brakes = Vec::with_capacity(written.brakes.len());
    for (position, brake) in written.brakes.iter().enumerate() {
        let at = |field: &str| place(&format!("brakes[{position}].{field}"));
        let issuer = value::sha256(brake.issuer_sha256.as_str()).map_err(at("issuer_sha256"))?;
        let issued_before = value::time(brake.issued_before.as_str()).map_err(at("issued_before"))?;
        brakes.push(Brake { issuer: IssuerName::from_sha256(*issuer), issued_before });
    }
    if !brakes.is_sorted_by(|one, next| one < next) {
        return Err(place("brakes")(shape("not sorted, or one of them twice".to_owned())));
    }
    let until = written.fresh_until.as_ref().map(|text| value::time(text.as_str())).transpose();
    let freshness = Freshness { until: until.map_err(place("fresh_until"))?, when_stale: written.when_stale };
    let keys = written.keys.as_ref().map_or(Ok(Vec::new()), |text| keys(text.as_str()));
    // Both are sorted already, so this costs one look at each.
    Ok(Revocations::new(keys.map_err(place("keys"))?, brakes, freshness))
}

/// Reads keys that are bounded in number, sorted and different. A list that is not was cut, or is nobody's: what is looked up
/// in it would not be found.
fn keys(text: &str) -> Result<Vec<Key>, PolicyProblem> {
    const LONGEST: usize = (MAX_KEYS * Key::LENGTH).div_ceil(3) * 4;

    if text.len() > LONGEST {
        return Err(shape(format!("more than {MAX_KEYS} keys")));
    }
    let bytes = STANDARD.decode(text).map_err(|error| shape(format!("not base64: {error}")))?;
    let (keys, rest) = bytes.as_chunks::<{ Key::LENGTH }>();
    if !rest.is_empty() {
        return Err(shape(format!("{} bytes are not a number of keys of {} bytes", bytes.len(), Key::LENGTH)));
    }
    if !keys.is_sorted_by(|one, next| one < next) {
        return Err(shape("the keys are not sorted, or one of them occurs twice".to_owned()));
    }
    Ok(keys.iter().map(|key| Key::from_bytes(*key)).collect())
}

fn shape(message: String) -> PolicyProblem {
    PolicyProblem::Shape(message)
}
