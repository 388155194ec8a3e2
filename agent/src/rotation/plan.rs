//! When a certificate is renewed and whom to ask, by its configuration: what the loop does and what a simulation shows.

use portcullis_policy::UnixTime;
use portcullis_policy::opening;
use portcullis_policy::schedule;
use portcullis_policy::schedule::Turn;
use portcullis_policy::schedule::Validity;

use crate::config::Certificate;

/// Chooses when to renew a certificate of this issuer that is taken into use `now`, in one of its windows. The draws are made
/// once, and the answer is stored.
pub(crate) fn renewal(
    config: &Certificate,
    validity: Validity,
    issuer: &str,
    now: UnixTime,
    draws: [u32; 2],
) -> UnixTime {
    let [spread, window] = draws;
    let at = schedule::plan(validity, config.renew_after, now, spread);
    let at = in_window(config, at, validity, window);
    if issuer == config.issuer { at } else { schedule::back_to_issuer(at, now) }
}

/// Moves a planned renewal into a time at which one may begin.
pub(crate) fn in_window(config: &Certificate, at: UnixTime, validity: Validity, draw: u32) -> UnixTime {
    if config.calendar.is_empty() {
        return at;
    }
    let emergency = schedule::emergency_at(validity);
    let mut openings = config.calendar.openings(opening::soonest(validity), emergency);
    // Where there are very many, those that are looked at may all be long before.
    if openings.last().is_some_and(|last| last.to < at) {
        openings.extend(config.calendar.openings(at, emergency));
    }
    opening::into_opening(at, validity, &openings, draw)
}

/// Whom to ask after so many failures: the issuer, or with the end near by turns it and the fallback.
pub(crate) fn issuer(config: &Certificate, validity: Option<Validity>, failures: u32, now: UnixTime) -> &str {
    match &config.fallback {
        Some(fallback) if schedule::turn(validity, failures, fallback.below, now) == Turn::Fallback => &fallback.issuer,
        _ => &config.issuer,
    }
}
