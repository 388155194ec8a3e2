//! When to renew a certificate, and when to try again after a failure.
//!
//! Absent: the clock and the dice. Every draw is an argument, so that it is made once, stored, and explains the instant
//! it led to; equal arguments give equal answers.

use serde::Deserialize;
use serde::Serialize;

use crate::time::UnixTime;

/// A fleet that was issued together renews spread over this part of the lifetime.
const SPREAD: i64 = 20;
/// With less than this part of the lifetime left, a renewal is an emergency.
const EMERGENCY: i64 = 20;
/// Failures never wait longer than this part of the lifetime that is left, so that there are always several tries.
const TRIES_LEFT: i64 = 10;
/// Nor ever longer than this.
const LONGEST_WAIT: i64 = 3600;
/// What a server that asks for patience gets at most.
const LONGEST_PUT_OFF: i64 = 86_400;
/// How long a clock that jumped is doubted at most, apart from the spread.
const LONGEST_DOUBT: i64 = 60;
/// After this time the issuer is asked again that should have issued what the fallback did.
const BACK_TO_ISSUER: i64 = 3_600;
/// What a wait may be when nothing is left to lose: no certificate, or one that has ended.
const WAIT_WITHOUT_CERTIFICATE: i64 = 30;

/// From when to when a certificate is valid, both seconds included (RFC 5280 §4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Validity {
    /// First valid second.
    pub not_before: UnixTime,
    /// Last valid second.
    pub not_after: UnixTime,
}

impl Validity {
    /// Seconds from the first to the last; zero for a validity that ends before it begins.
    pub fn lifetime(self) -> i64 {
        self.not_after.0.saturating_sub(self.not_before.0).max(0)
    }

    /// Whether it has ended at `now`.
    pub fn has_ended(self, now: UnixTime) -> bool {
        now > self.not_after
    }

    /// Whether it has not begun at `now`.
    pub fn is_ahead(self, now: UnixTime) -> bool {
        now < self.not_before
    }

    /// Whether `now` is inside.
    pub fn holds(self, now: UnixTime) -> bool {
        !self.has_ended(now) && !self.is_ahead(now)
    }
}

/// A part of a lifetime: more than none, less than all of it. Kept in millionths, so that arithmetic is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share(u32);

impl Share {
    const WHOLE: u32 = 1_000_000;

    /// Half.
    pub const HALF: Self = Self(500_000);

    /// Two thirds.
    pub const TWO_THIRDS: Self = Self(666_667);

    /// Four fifths: when those who renew at two thirds are late.
    pub const FOUR_FIFTHS: Self = Self(800_000);

    /// Takes a number between 0 and 1, both excluded.
    pub fn new(part: f64) -> Option<Self> {
        // The cast saturates, and the range check below is on the result.
        let millionths = (part * f64::from(Self::WHOLE)).round() as u32;
        (part.is_finite() && (1..Self::WHOLE).contains(&millionths)).then_some(Self(millionths))
    }

    /// This part of so many seconds, rounded down.
    pub fn of(self, seconds: i64) -> i64 {
        let part = i128::from(seconds) * i128::from(self.0) / i128::from(Self::WHOLE);
        i64::try_from(part).unwrap_or(seconds)
    }
}

/// Chooses when to renew. Call it once, at issuance, and store the answer.
///
/// The instant lies `after` of the lifetime past `not_before`, or up to a twentieth of the lifetime earlier, so that
/// certificates issued together do not renew together: a `draw` of 0 is the latest, of `u32::MAX` the earliest.
/// Never before `not_before`, and never in the emergency window.
pub fn renew_at(validity: Validity, after: Share, draw: u32) -> UnixTime {
    let lifetime = validity.lifetime();
    let earlier = scaled(lifetime / SPREAD, draw);
    let at = after.of(lifetime).saturating_sub(earlier).max(0);
    UnixTime(validity.not_before.0.saturating_add(at)).min(emergency_at(validity))
}

/// Chooses when to renew within the window that an issuer names (RFC 9773 §4.2). Call it once for each window, and store the
/// answer: a `draw` of 0 is the begin, of `u32::MAX` the end. Never in the emergency window, whatever the issuer says.
pub fn within(start: UnixTime, end: UnixTime, validity: Validity, draw: u32) -> UnixTime {
    let width = end.0.saturating_sub(start.0).max(0);
    UnixTime(start.0.saturating_add(scaled(width, draw))).min(emergency_at(validity))
}

/// Chooses when to renew a certificate that is taken into use `now`. Call it once, and store the answer: [`renew_at`], and for one
/// that the issuer dated back by so much that this has passed, the same part of what is left.
pub fn plan(validity: Validity, after: Share, now: UnixTime, draw: u32) -> UnixTime {
    let at = renew_at(validity, after, draw);
    if at > now {
        return at;
    }
    let left = Validity { not_before: now, ..validity };
    renew_at(left, after, draw).min(emergency_at(validity))
}

/// What the fallback issued is tried to be replaced after this time at the latest, at the issuer that should have.
pub fn back_to_issuer(renew_at: UnixTime, now: UnixTime) -> UnixTime {
    renew_at.min(UnixTime(now.0.saturating_add(BACK_TO_ISSUER)))
}

/// From when on the end is so near that renewing overrides whatever the schedule says.
pub fn emergency_at(validity: Validity) -> UnixTime {
    let margin = (validity.lifetime() / EMERGENCY).max(1);
    UnixTime(validity.not_after.0.saturating_sub(margin)).max(validity.not_before)
}

/// When to try again after `failures` failures in a row: doubled each time, at most an hour, and at most a tenth of
/// what is left until `not_after`, so that an hour's outage of the issuer never costs the last chance. `draw` shortens
/// the wait by up to a quarter. Always after `now`.
pub fn retry_at(now: UnixTime, not_after: Option<UnixTime>, failures: u32, draw: u32) -> UnixTime {
    let left = not_after.map_or(0, |end| end.0.saturating_sub(now.0));
    let longest = if left > 0 { (left / TRIES_LEFT).clamp(1, LONGEST_WAIT) } else { WAIT_WITHOUT_CERTIFICATE };
    let doubled = 1i64.checked_shl(failures.saturating_sub(1)).filter(|wait| *wait > 0).unwrap_or(longest);
    let wait = doubled.min(longest);
    UnixTime(now.0.saturating_add((wait - scaled(wait / 4, draw)).max(1)))
}

/// Puts a retry off until the issuer wants to be asked again, but never past half of what is left until `not_after`, nor by more
/// than a day: its wish is no reason to let a certificate end.
pub fn put_off(retry_at: UnixTime, asked: Option<UnixTime>, now: UnixTime, not_after: Option<UnixTime>) -> UnixTime {
    let Some(asked) = asked else { return retry_at };
    let left = not_after.map(|end| end.0.saturating_sub(now.0)).filter(|left| *left > 0);
    let longest = left.map_or(LONGEST_PUT_OFF, |left| (left / 2).min(LONGEST_PUT_OFF));
    retry_at.max(asked.min(UnixTime(now.0.saturating_add(longest))))
}

/// Whether another issuer is asked: the one that should issue has failed, and less than `below` of the lifetime is left, or
/// nothing at all.
pub fn falls_back(validity: Option<Validity>, failures: u32, below: Share, now: UnixTime) -> bool {
    let is_near = |validity: Validity| now.0 >= validity.not_after.0.saturating_sub(below.of(validity.lifetime()));
    failures > 0 && validity.is_none_or(is_near)
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The other one.
    Fallback,
    /// The one that should issue.
    Issuer,
}

/// Whom to ask now: with the end near and the issuer failing, by turns it and the fallback, which is asked with less than
/// `below` of the lifetime left.
pub fn turn(validity: Option<Validity>, failures: u32, below: Share, now: UnixTime) -> Turn {
    if falls_back(validity, failures, below, now) && failures % 2 == 1 { Turn::Fallback } else { Turn::Issuer }
}

/// Whether a wait until `until` is still to be waited for. An instant that [`put_off`] cannot have chosen comes from a
/// clock that was ahead then: nobody waits for it.
pub fn is_waiting(now: UnixTime, until: UnixTime) -> bool {
    until > now && until.0.saturating_sub(now.0) <= LONGEST_PUT_OFF
}

/// For how many seconds after the clock jumped its word alone is no reason to renew a certificate of this lifetime:
/// long enough to see whether it jumps back, and no more than a late renewal can spare. A `draw` of 0 is the shortest,
/// of `u32::MAX` twice that, so that what the jump made due is not renewed all at once.
pub fn doubt(lifetime: i64, draw: u32) -> i64 {
    let doubt = (lifetime / EMERGENCY).clamp(1, LONGEST_DOUBT);
    doubt + scaled(doubt, draw)
}

/// `draw` as a part of `seconds`.
pub(crate) fn scaled(seconds: i64, draw: u32) -> i64 {
    let part = i128::from(seconds) * i128::from(draw) / i128::from(u32::MAX);
    i64::try_from(part).unwrap_or(seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn valid(from: i64, to: i64) -> Validity {
        Validity { not_before: UnixTime(from), not_after: UnixTime(to) }
    }

    #[test]
    fn renewal_lies_at_the_share_or_a_little_before() {
        let cases = [
            ("lowest draw is the share itself", valid(0, 1000), 0.6, 0, 600),
            ("highest draw is a twentieth of the lifetime earlier", valid(0, 1000), 0.6, u32::MAX, 550),
            ("relative to not_before", valid(5000, 6000), 0.6, 0, 5600),
            ("a share in the emergency window is moved out of it", valid(0, 1000), 0.99, 0, 950),
            ("a tiny share stops at not_before", valid(0, 1000), 0.01, u32::MAX, 0),
            ("a minute's certificate", valid(0, 60), 0.5, 0, 30),
            ("an empty validity is due at once", valid(10, 10), 0.5, 0, 10),
            ("an inverted validity is due at once", valid(10, 5), 0.5, 0, 10),
        ];
        for (name, validity, share, draw, want) in cases {
            let share = Share::new(share).expect("a share");
            assert_eq!(renew_at(validity, share, draw), UnixTime(want), "{name}");
        }
    }

    #[test]
    fn share_is_more_than_none_and_less_than_all() {
        for bad in [0.0, 1.0, -0.5, 2.0, f64::NAN, f64::INFINITY, 1e-9] {
            assert_eq!(Share::new(bad), None, "{bad}");
        }
        assert_eq!(Share::new(2.0 / 3.0), Some(Share::TWO_THIRDS));
    }

    #[test]
    fn waits_double_and_stay_a_tenth_of_what_is_left() {
        let cases = [
            ("first", Some(100_000), 1, 1),
            ("second", Some(100_000), 2, 2),
            ("fifth", Some(100_000), 5, 16),
            ("an hour is the most", Some(100_000), 30, 3600),
            ("a shift past the width too", Some(100_000), 200, 3600),
            ("a tenth of what is left", Some(1000), 30, 100),
            ("at least a second", Some(3), 30, 1),
            ("after the end", Some(-5), 30, 30),
            ("without a certificate", None, 30, 30),
        ];
        for (name, left, failures, want) in cases {
            let now = UnixTime(1_000_000);
            let not_after = left.map(|left| UnixTime(now.0 + left));
            assert_eq!(retry_at(now, not_after, failures, 0), UnixTime(now.0 + want), "{name}");
        }
    }

    #[test]
    fn an_issuer_names_a_window_and_the_emergency_stays() {
        let validity = valid(0, 1_000);
        for (name, (start, end), draw, want) in [
            ("its begin", (400, 500), 0, 400),
            ("its end", (400, 500), u32::MAX, 500),
            ("a window that is past", (-900, -800), u32::MAX, -800),
            ("a window after the end", (5_000, 6_000), 0, 950),
            ("a window that is turned around", (500, 400), u32::MAX, 500),
            ("a window without bounds", (i64::MIN, i64::MAX), u32::MAX, -1),
        ] {
            assert_eq!(within(UnixTime(start), UnixTime(end), validity, draw), UnixTime(want), "{name}");
        }
    }

    #[test]
    fn an_issuer_may_put_a_retry_off_but_not_past_what_can_be_spared() {
        let (day, now, retry) = (86_400, UnixTime(1_000), UnixTime(1_060));
        for (name, asked, left, want) in [
            ("nothing asked", None, Some(day), 1_060),
            ("asked for less than is waited anyway", Some(1_010), Some(day), 1_060),
            ("asked for ten minutes", Some(1_600), Some(day), 1_600),
            ("asked for more than half of what is left", Some(1_000 + day), Some(day), 1_000 + day / 2),
            ("asked for a week with a month left", Some(1_000 + 7 * day), Some(30 * day), 1_000 + day),
            ("asked for a week with nothing to lose", Some(1_000 + 7 * day), None, 1_000 + day),
            ("asked for a week after the end", Some(1_000 + 7 * day), Some(-5), 1_000 + day),
            ("asked for ever", Some(i64::MAX), Some(day), 1_000 + day / 2),
        ] {
            let end = left.map(|left| UnixTime(now.0 + left));
            let at = put_off(retry, asked.map(UnixTime), now, end);
            assert_eq!(at, UnixTime(want), "{name}");
            assert!(is_waiting(now, at), "{name}: it is waited for");
        }
    }

    #[test]
    fn another_issuer_is_asked_when_little_is_left_and_the_first_failed() {
        let tenth = Share::new(0.1).unwrap();
        for (name, validity, failures, now, want) in [
            ("nothing failed", Some(valid(0, 1_000)), 0, 990, false),
            ("failed, and there is time", Some(valid(0, 1_000)), 9, 899, false),
            ("failed, and a tenth is left", Some(valid(0, 1_000)), 1, 900, true),
            ("ended", Some(valid(0, 1_000)), 1, 2_000, true),
            ("no certificate, and nothing failed", None, 0, 0, false),
            ("no certificate, and the first try failed", None, 1, 0, true),
        ] {
            assert_eq!(falls_back(validity, failures, tenth, UnixTime(now)), want, "{name}");
        }
    }

    #[test]
    fn a_wait_that_nobody_chose_is_not_waited_for() {
        for (name, until, want) in [
            ("over", 1_000, false),
            ("a second", 1_001, true),
            ("a day", 87_400, true),
            ("more than a day", 87_401, false),
        ] {
            assert_eq!(is_waiting(UnixTime(1_000), UnixTime(until)), want, "{name}");
        }
    }

    #[test]
    fn a_clock_is_doubted_no_longer_than_the_certificate_can_spare() {
        for (name, lifetime, draw, want) in [
            ("a day", 86_400, 0, 60),
            ("a day, the last of all", 86_400, u32::MAX, 120),
            ("a minute", 60, 0, 3),
            ("nothing", 0, 0, 1),
        ] {
            assert_eq!(doubt(lifetime, draw), want, "{name}");
        }
    }

    proptest! {
        #[test]
        fn renewal_is_inside_the_validity(
            from in any::<i64>(), lifetime in 0..i64::MAX, part in 0.0001..0.9999f64, draw: u32,
        ) {
            let validity = valid(from, from.saturating_add(lifetime));
            let at = renew_at(validity, Share::new(part).expect("a share"), draw);
            prop_assert!(at >= validity.not_before && at <= validity.not_after);
            prop_assert!(at <= emergency_at(validity));
        }

        #[test]
        fn the_next_try_is_later_and_before_the_end(now in -1i64 << 40..1i64 << 40, left in 20..1i64 << 40, failures: u32, draw: u32) {
            let at = retry_at(UnixTime(now), Some(UnixTime(now + left)), failures, draw);
            prop_assert!(at > UnixTime(now));
            prop_assert!(at <= UnixTime(now + left / 10).max(UnixTime(now + 1)));
        }
    }
}
