//! Whether the wall clock goes as time does.
//!
//! Time that passes is told by the clock that counts from the machine's start, sleep included: a machine that slept comes
//! back with both clocks ahead by the same. If the wall clock alone moved, somebody set it, and may set it again.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use portcullis_policy::schedule;
use rustix::time::ClockId;
use rustix::time::clock_gettime;

use crate::leaf;

/// Less is a correction, not a jump.
const JUMP: i64 = 10;
/// A clock that jumps again and again is not doubted for ever: no more than once in this time.
const BETWEEN_DOUBTS: Duration = Duration::from_secs(600);

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Unix seconds.
    pub(super) wall: i64,
    /// Since the machine started.
    pub(super) running: Duration,
}

impl Reading {
    pub(super) fn now() -> Self {
        let running = clock_gettime(ClockId::Boottime);
        let seconds = Duration::from_secs(running.tv_sec.max(0).unsigned_abs());
        Self { wall: leaf::now().0, running: seconds + Duration::from_nanos(running.tv_nsec.max(0).unsigned_abs()) }
    }
}

/// The clocks as they were last seen.
#[derive(Debug, Default)]
pub struct Clock(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Reading>,
    doubted_since: Option<Duration>,
    /// Seconds, of the jumps that were not told yet.
    untold: Option<i64>,
}

impl Clock {
    /// Looks whether the wall clock jumped since it was last looked at. Call it before the wall clock is believed.
    pub(super) fn look(&self, now: Reading) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = state.last.replace(now) else { return };
        let passed = now.running.saturating_sub(last.running).as_secs();
        let jump = now.wall.saturating_sub(last.wall).saturating_sub(i64::try_from(passed).unwrap_or(i64::MAX));
        if jump.saturating_abs() < JUMP {
            return;
        }
        state.untold = Some(state.untold.unwrap_or(0).saturating_add(jump));
        let long_ago = |since: Duration| now.running.saturating_sub(since) >= BETWEEN_DOUBTS;
        if state.doubted_since.is_none_or(long_ago) {
            state.doubted_since = Some(now.running);
        }
    }

    /// Whether what the wall clock makes due has to wait, for a certificate of this lifetime. `draw` is the certificate's.
    pub(crate) fn is_in_doubt(&self, lifetime: i64, draw: u32) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(last), Some(since)) = (state.last, state.doubted_since) else { return false };
        let doubt = Duration::from_secs(schedule::doubt(lifetime, draw).unsigned_abs());
        last.running.saturating_sub(since) < doubt
    }

    /// By how many seconds the clock jumped, told once; negative if it went back.
    pub(super) fn jumped(&self) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).untold.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn at(wall: i64, running: u64) -> Reading {
        Reading { wall, running: Duration::from_secs(running) }
    }

    #[test]
    fn a_jump_is_what_the_wall_clock_did_alone() {
        for (name, wall, running, want) in [
            ("time passes", 1_060, 60, None),
            ("a correction", 1_069, 60, None),
            ("sixteen hours of sleep", 1_000 + 57_600, 57_600, None),
            ("a year ahead", 1_060 + 365 * DAY, 60, Some(365 * DAY)),
            ("an hour back", 1_060 - 3_600, 60, Some(-3_600)),
        ] {
            let clock = Clock::default();
            clock.look(at(1_000, 0));
            clock.look(at(wall, running));
            assert_eq!(clock.jumped(), want, "{name}");
            assert_eq!(clock.jumped(), None, "{name}: told once");
            assert_eq!(clock.is_in_doubt(DAY, 0), want.is_some(), "{name}");
        }
    }

    #[test]
    fn a_doubt_ends_and_does_not_begin_again_at_once() {
        let clock = Clock::default();
        clock.look(at(0, 0));
        clock.look(at(DAY, 0));
        assert!(clock.is_in_doubt(DAY, 0) && clock.is_in_doubt(60, 0));
        clock.look(at(DAY + 3, 3));
        assert!(clock.is_in_doubt(DAY, 0));
        assert!(!clock.is_in_doubt(60, 0), "a minute's certificate cannot wait longer");
        clock.look(at(2 * DAY, 60));
        assert!(!clock.is_in_doubt(DAY, 0), "over, although it jumped once more");
        assert!(clock.is_in_doubt(DAY, u32::MAX), "not all at once");
        clock.look(at(3 * DAY, 120));
        assert!(!clock.is_in_doubt(DAY, u32::MAX));
        clock.look(at(9 * DAY, 700));
        assert!(clock.is_in_doubt(DAY, 0), "long after the first");
    }

    #[test]
    fn the_clocks_of_this_machine_agree() {
        let clock = Clock::default();
        let (first, second) = (Reading::now(), Reading::now());
        assert!(first.running > Duration::ZERO && second.running >= first.running);
        clock.look(first);
        clock.look(second);
        assert_eq!(clock.jumped(), None);
    }
}
