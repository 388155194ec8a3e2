//! Times at which planned renewals may begin: windows, less what is closed.
//!
//! Absent: calendars. Who knows of crons and zones says from when to when it is open, in Unix seconds.

use crate::schedule::Validity;
use crate::schedule::emergency_at;
use crate::schedule::scaled;
use crate::time::UnixTime;

/// A new certificate is kept for this part of its lifetime at least, before it is renewed early for the sake of a window.
const SOONEST: i64 = 20;

/// With less than this part of the lifetime left, a renewal is rather early than late.
const LITTLE: i64 = 10;

/// A time at which planned renewals may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Its first second.
    pub from: UnixTime,
    /// The first second after it.
    pub to: UnixTime,
}

/// When a certificate of this validity is renewed at the earliest: what openings are looked for from.
pub fn soonest(validity: Validity) -> UnixTime {
    let at = validity.not_before.0.saturating_add(validity.lifetime() / SOONEST);
    UnixTime(at).min(emergency_at(validity))
}

/// For how long it may be closed at most, in seconds, so that a certificate of this lifetime that is issued as it closes finds it
/// open before its emergency.
pub const fn longest_closed(lifetime: i64) -> i64 {
    lifetime - lifetime / SOONEST - 1
}

/// Moves a planned renewal into an opening. Call it once, at issuance, and store the answer.
///
/// An instant that is open stays. Another goes into the next opening, and where none comes before little is left, into the last
/// one before it; `draw` spreads over the opening what would otherwise all begin with it. Without any opening before the
/// emergency it is that, which asks nobody. `openings` are those between [`soonest`] and [`emergency_at`], in their order.
pub fn into_opening(at: UnixTime, validity: Validity, openings: &[Opening], draw: u32) -> UnixTime {
    let (first, last) = (soonest(validity), emergency_at(validity));
    let little = UnixTime(validity.not_after.0.saturating_sub(validity.lifetime() / LITTLE));
    let (mut before, mut late) = (None, None);
    for opening in openings {
        let (from, to) = (opening.from.max(first), opening.to.min(last));
        if to <= from {
            continue;
        }
        if from <= at && at < to {
            return at;
        }
        let is_in_time = from > at && from < little;
        let to = if is_in_time { to.min(little) } else { to };
        // The end is not the opening's any more.
        let drawn = UnixTime(from.0.saturating_add(scaled(to.0.saturating_sub(from.0) - 1, draw)));
        if is_in_time {
            return drawn;
        }
        if from <= at {
            before = Some(drawn);
        } else {
            late = late.or(Some(drawn));
        }
    }
    before.or(late).unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: Validity = Validity { not_before: UnixTime(0), not_after: UnixTime(1_000) };

    fn opening(from: i64, to: i64) -> Opening {
        Opening { from: UnixTime(from), to: UnixTime(to) }
    }

    #[test]
    fn a_renewal_goes_into_the_next_opening_or_the_last_before() {
        for (name, at, openings, draw, want) in [
            ("open at that time", 600, vec![opening(500, 700)], u32::MAX, 600),
            ("the next one", 600, vec![opening(100, 200), opening(700, 800)], 0, 700),
            ("spread over it", 600, vec![opening(700, 801)], u32::MAX, 800),
            ("its end is closed", 700, vec![opening(600, 700), opening(800, 850)], 0, 800),
            ("the next one comes when little is left", 600, vec![opening(100, 200), opening(910, 940)], 0, 100),
            ("and is taken all the same if there is no other", 600, vec![opening(910, 940)], 0, 910),
            ("the end of one is late, and nobody's", 600, vec![opening(800, 1_000)], u32::MAX, 899),
            ("no later one: the last before", 600, vec![opening(100, 200), opening(300, 400)], 0, 300),
            ("one that begins in the emergency is none", 600, vec![opening(300, 400), opening(950, 999)], 0, 300),
            ("one that reaches into the emergency ends there", 600, vec![opening(900, 999)], u32::MAX, 949),
            ("one that ends with the issuance is none", 600, vec![opening(0, 40)], 0, 950),
            ("never open", 600, vec![], 0, 950),
        ] {
            assert_eq!(into_opening(UnixTime(at), VALID, &openings, draw), UnixTime(want), "{name}");
        }
    }

    #[test]
    fn who_is_issued_as_it_closes_finds_it_open_in_time() {
        for lifetime in [60, 61, 3_600, 86_400, 90 * 86_400] {
            let validity = Validity { not_before: UnixTime(0), not_after: UnixTime(lifetime) };
            let opens = longest_closed(lifetime);
            let chosen = into_opening(UnixTime(lifetime / 2), validity, &[opening(opens, opens + 3_600)], 0);
            assert_eq!(chosen, UnixTime(opens), "{lifetime}");
            assert!(chosen < emergency_at(validity), "{lifetime}");
            let late = longest_closed(lifetime) + 1;
            assert_eq!(into_opening(chosen, validity, &[opening(late, late + 60)], 0), emergency_at(validity));
        }
    }

    proptest! {
        #[test]
        fn never_before_the_soonest_nor_after_the_emergency(
            at in 50i64..=950, from in -100i64..1_100, length in 1i64..2_000, draw: u32,
        ) {
            let openings = [opening(from, from + length)];
            let chosen = into_opening(UnixTime(at), VALID, &openings, draw);
            prop_assert!(chosen >= soonest(VALID) && chosen <= emergency_at(VALID));
            let is_open = chosen.0 >= from && chosen.0 < from + length;
            prop_assert!(is_open || chosen == emergency_at(VALID));
        }
    }
}
