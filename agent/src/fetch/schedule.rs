//! When a document is fetched again. Pure: what the server said and a draw go in, a time comes out.

use std::time::Duration;

/// A server that asks for more often is not asked more often.
const LEAST: Duration = Duration::from_secs(60);
/// What was withdrawn is not believed for longer.
const MOST: Duration = Duration::from_secs(24 * 3600);
/// Where the server says nothing.
const USUAL: Duration = Duration::from_secs(600);
/// Failures wait no longer than this, unless the server asks for it.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);
/// What a server may ask for after a failure.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How long an answer is good, by its `Cache-Control` and `Age` (RFC 9111 §4.2), between a minute and a day, and up to a
/// tenth earlier by `draw`, so that a fleet does not ask at once.
pub(crate) fn fresh_for(cache_control: Option<&str>, age: Option<&str>, draw: u32) -> Duration {
    let directives = || cache_control.into_iter().flat_map(|value| value.split(',')).map(str::trim);
    let is = |name: &str| directives().any(|directive| directive.eq_ignore_ascii_case(name));
    let seconds = |directive: &str| {
        let (name, value) = directive.split_once('=')?;
        name.trim().eq_ignore_ascii_case("max-age").then(|| value.trim().trim_matches('"').parse::<u64>().ok())?
    };
    let fresh = if is("no-store") || is("no-cache") {
        LEAST
    } else {
        let age = age.and_then(|age| age.trim().parse().ok()).unwrap_or(0);
        directives().find_map(seconds).map_or(USUAL, |seconds| Duration::from_secs(seconds.saturating_sub(age)))
    };
    let fresh = fresh.clamp(LEAST, MOST);
    fresh.saturating_sub(part(fresh / 10, draw)).max(LEAST)
}

/// The same for a document that says itself when it ends: half of what is left until then, if that is less, so that there is
/// time for more than one attempt.
pub(crate) fn before_end(fresh: Duration, left: Duration) -> Duration {
    fresh.min(left / 2).max(LEAST)
}

/// How long to wait after so many failures in a row: doubled each time, and up to a quarter less by `draw`; or as long as
/// the server asked for, if that is longer.
pub(crate) fn back_off(failures: u32, retry_after: Option<Duration>, draw: u32) -> Duration {
    let doubled = Duration::from_secs(1u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX));
    let wait = doubled.min(LONGEST_BACK_OFF);
    let wait = wait.saturating_sub(part(wait / 4, draw));
    retry_after.map_or(wait, |asked| wait.max(asked.min(LONGEST_RETRY_AFTER)))
}

fn part(whole: Duration, draw: u32) -> Duration {
    whole.mul_f64(f64::from(draw) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_for_as_long_as_the_server_says_within_bounds() {
        for (name, cache_control, age, draw, want) in [
            ("nothing said", None, None, 0, 600),
            ("an hour", Some("public, max-age=3600"), None, 0, 3600),
            ("an hour, up to a tenth earlier", Some("max-age=3600"), None, u32::MAX, 3240),
            ("part of it is over", Some("max-age=3600"), Some("600"), 0, 3000),
            ("all of it is over", Some("max-age=3600"), Some("7200"), 0, 60),
            ("a second", Some("max-age=1"), None, 0, 60),
            ("a second, earlier", Some("max-age=1"), None, u32::MAX, 60),
            ("a year", Some("Max-Age=31536000"), None, 0, 86_400),
            ("do not keep it", Some("no-store, max-age=3600"), None, 0, 60),
            ("ask each time", Some("max-age=3600, No-Cache"), None, 0, 60),
            ("not a number", Some("max-age=soon"), None, 0, 600),
            ("more than a number", Some("max-age=99999999999999999999"), None, 0, 600),
        ] {
            assert_eq!(fresh_for(cache_control, age, draw), Duration::from_secs(want), "{name}");
        }
    }

    #[test]
    fn a_document_that_ends_is_asked_for_before() {
        for (name, fresh, left, want) in [
            ("long before its end", 600, 86_400, 600),
            ("good for longer than it lasts", 86_400, 3_600, 1_800),
            ("at its end", 600, 10, 60),
            ("after it", 600, 0, 60),
        ] {
            let got = before_end(Duration::from_secs(fresh), Duration::from_secs(left));
            assert_eq!(got, Duration::from_secs(want), "{name}");
        }
    }

    #[test]
    fn failures_wait_longer_each_time_and_as_the_server_asks() {
        for (name, failures, asked, draw, want) in [
            ("first", 1, None, 0, 1_000),
            ("third", 3, None, 0, 4_000),
            ("third, a quarter less", 3, None, u32::MAX, 3_000),
            ("five minutes at most", 40, None, 0, 300_000),
            ("a shift past the width", 4_000, None, 0, 300_000),
            ("the server asks for more", 1, Some(90), 0, 90_000),
            ("the server asks for less", 7, Some(1), 0, 64_000),
            ("the server asks for a week", 1, Some(604_800), 0, 3_600_000),
        ] {
            let asked = asked.map(Duration::from_secs);
            assert_eq!(back_off(failures, asked, draw), Duration::from_millis(want), "{name}");
        }
    }
}
