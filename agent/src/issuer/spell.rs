//! How it went with an issuer since this process began.
//!
//! Absent: what follows from it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

/// Fewer failures in a row may be anything.
const ENOUGH: u32 = 10;
/// Who was not asked for so long may be well: back-off is an hour at most.
const RECENT: Duration = Duration::from_secs(2 * 60 * 60);

/// Failures in a row of whichever certificates, after something was issued.
#[derive(Debug, Default)]
pub(super) struct Spell(Mutex<Since>);

#[derive(Debug, Default)]
struct Since {
    issued: bool,
    failures: u32,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Spell {
    /// Something was issued.
    pub(super) fn issued(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Since { issued: true, ..Since::default() };
    }

    /// It failed by itself, not by what it was asked for.
    pub(super) fn failed(&self) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.failures = since.failures.saturating_add(1);
        let now = Instant::now();
        since.first.get_or_insert(now);
        since.last = Some(now);
    }

    /// Since when it only fails at `now`, if it issued to this process before that and is asked still.
    pub(super) fn failing_since(&self, now: Instant) -> Option<Instant> {
        let since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_asked = since.last.is_some_and(|last| now.saturating_duration_since(last) < RECENT);
        since.first.filter(|_| since.issued && since.failures >= ENOUGH && is_asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_issued_and_then_fails_again_and_again_is_failing_until_something_is_issued() {
        let spell = Spell::default();
        let fails = |times| (0..times).for_each(|_| spell.failed());
        fails(ENOUGH);
        assert_eq!(spell.failing_since(Instant::now()), None, "it never issued to this process");
        spell.issued();
        fails(ENOUGH - 1);
        assert_eq!(spell.failing_since(Instant::now()), None, "too few");
        spell.failed();
        let since = spell.failing_since(Instant::now());
        assert!(since.is_some());
        spell.failed();
        assert_eq!(spell.failing_since(Instant::now()), since, "the first one counts");
        assert_eq!(spell.failing_since(Instant::now() + RECENT), None, "nobody asks it any more");
        spell.issued();
        assert_eq!(spell.failing_since(Instant::now()), None);
        fails(1);
        assert_eq!(spell.failing_since(Instant::now()), None, "counted anew");
    }
}
