//! When clients are told that their connection's certificate is about to end.

use super::value;
use crate::document;
use crate::drain::Drain;
use crate::error::PolicyError;

/// Longest time before the end, in seconds: a day. Whoever cannot renew within it is not helped by more connections.
const BEFORE_MAX: i64 = 86_400;

pub(super) fn compile(document: &document::Drain<'_>) -> Result<Drain, PolicyError> {
    let text = document.before.as_str();
    let before = value::duration(text).filter(|seconds| (1..=BEFORE_MAX).contains(seconds));
    let expected = "a length of time from `1s` to `24h`, such as `30s`";
    before.map(|before| Drain { before }).ok_or_else(|| PolicyError::new("drain.before", value::bad(text, expected)))
}
