//! The scopes of a token (RFC 8693 §4.2, RFC 9068 §2.2.3): words, compared as a whole.

use serde_json::Value;

use super::TokenError;
use super::claim::ClaimPath;
use super::claims::Claims;

/// The scopes in `claim`, or else in `scope` or `scp`: text with spaces between the words, or a list of words. Sorted; `None` without such a claim.
///
/// # Errors
///
/// [`TokenError::ClaimsInvalid`] for anything else, and for `scope` and `scp` that do not say the same.
pub(super) fn read(claims: &Claims, claim: Option<&ClaimPath>) -> Result<Option<Box<[Box<str>]>>, TokenError> {
    let words = |value: Option<&Value>| value.map(words).transpose();
    let found = match claim {
        Some(claim) => words(claim.find(claims.all()))?,
        None => match (words(claims.all().get("scope"))?, words(claims.all().get("scp"))?) {
            (Some(scope), Some(scp)) if scope != scp => return Err(TokenError::ClaimsInvalid),
            (scope, scp) => scope.or(scp),
        },
    };
    Ok(found.map(Into::into))
}

fn words(value: &Value) -> Result<Vec<Box<str>>, TokenError> {
    let mut words: Vec<Box<str>> = match value {
        Value::String(text) => text.split(' ').filter(|word| !word.is_empty()).map(Into::into).collect(),
        Value::Array(list) => {
            let words = list.iter().map(|word| word.as_str().map(Into::into).ok_or(TokenError::ClaimsInvalid));
            words.collect::<Result<_, _>>()?
        }
        _ => return Err(TokenError::ClaimsInvalid),
    };
    words.sort_unstable();
    words.dedup();
    Ok(words)
}

/// A scope as policies name it: a `scope-token` of RFC 6749 §3.3.
pub(crate) fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}
