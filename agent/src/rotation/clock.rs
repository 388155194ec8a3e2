//! Whether the wall clock goes as time does.
//!
//! Time that passes is told by the clock that counts from the machine's start, sleep included: a machine that slept comes
//! back with both clocks ahead by the same. If the wall clock alone moved, somebody set it, and may set it again. An issuer
//! that says what time it is ends the doubt at once, or makes sure of it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use portcullis_policy::schedule;
use rustix::time::ClockId;
use rustix::time::clock_gettime;

use crate::leaf;

/// Less is a correction, not a jump.
const JUMP: i64 = 10;
/// An issuer's clock may differ by so much, and still agree: its answer took its time.
const AGREES: i64 = 30;
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
    /// Jumps so far, by which an answer is known to be about the clock as it is.
    jumps: u64,
    verdict: Verdict,
}

/// What issuers say of the wall clock since it last jumped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is right.
    Agrees,
    /// Theirs is ahead by so many seconds.
    Differs(i64),
    /// Nothing yet.
    #[default]
    Unknown,
}

impl Verdict {
    const fn of(offset: i64) -> Self {
        if offset.saturating_abs() <= AGREES { Self::Agrees } else { Self::Differs(offset) }
    }
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
        state.jumps += 1;
        state.verdict = match state.verdict {
            // It is known how wrong it was.
            Verdict::Differs(offset) => Verdict::of(offset.saturating_sub(jump)),
            Verdict::Agrees | Verdict::Unknown => Verdict::Unknown,
        };
        let long_ago = |since: Duration| now.running.saturating_sub(since) >= BETWEEN_DOUBTS;
        if state.doubted_since.is_none_or(long_ago) {
            state.doubted_since = Some(now.running);
        }
    }

    /// Whether what the wall clock makes due has to wait, for a certificate of this lifetime. `draw` is the certificate's.
    pub(crate) fn is_in_doubt(&self, lifetime: i64, draw: u32) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.verdict {
            Verdict::Agrees => return false,
            Verdict::Differs(_) => return true,
            Verdict::Unknown => {}
        }
        let (Some(last), Some(since)) = (state.last, state.doubted_since) else { return false };
        let doubt = Duration::from_secs(schedule::doubt(lifetime, draw).unsigned_abs());
        last.running.saturating_sub(since) < doubt
    }

    /// How often it jumped so far, and what is known of it since.
    pub(super) fn verdict(&self) -> (u64, Verdict) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.jumps, state.verdict)
    }

    /// Takes an issuer's word, that its clock is ahead by so many seconds, of the clock as it was after so many jumps. What was
    /// known before, and is known now; none if it has jumped since.
    pub(super) fn answered(&self, jumps: u64, offset: i64) -> Option<(Verdict, Verdict)> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.jumps != jumps {
            return None;
        }
        let before = std::mem::replace(&mut state.verdict, Verdict::of(offset));
        Some((before, state.verdict))
    }

    /// By how many seconds issuers' clocks are ahead of one that is known to be wrong.
    pub(super) fn held(&self) -> Option<i64> {
        match self.verdict() {
            (_, Verdict::Differs(offset)) => Some(offset),
            _ => None,
        }
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
    fn an_issuer_ends_the_doubt_or_makes_sure_of_it() {
        let clock = Clock::default();
        clock.look(at(0, 0));
        clock.look(at(DAY, 0));
        let (jumps, verdict) = clock.verdict();
        assert_eq!((jumps, verdict), (1, Verdict::Unknown));
        assert_eq!(clock.answered(0, 0), None, "of the clock before");
        assert_eq!(clock.answered(1, -DAY), Some((Verdict::Unknown, Verdict::Differs(-DAY))));
        clock.look(at(DAY + 3_600, 3_600));
        assert!(clock.is_in_doubt(60, 0), "for as long as it is wrong");
        assert_eq!(clock.held(), Some(-DAY));
        clock.look(at(2 * DAY + 3_600, 3_600));
        assert_eq!(clock.held(), Some(-2 * DAY), "another day");
        clock.look(at(3_610, 3_610));
        assert!(!clock.is_in_doubt(DAY, 0) && clock.held().is_none(), "right again");
        assert_eq!(clock.verdict(), (3, Verdict::Agrees));
        clock.look(at(DAY + 3_610, 3_610));
        assert_eq!(clock.verdict(), (4, Verdict::Unknown));
        assert_eq!(clock.answered(4, AGREES), Some((Verdict::Unknown, Verdict::Agrees)));
        assert!(!clock.is_in_doubt(DAY, u32::MAX), "the clock was wrong before, and is right now");
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
