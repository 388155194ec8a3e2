//! When planned renewals may begin: `renew_window` and `blackout`, of a certificate or of all.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use portcullis_policy::UnixTime;
use portcullis_policy::opening;

use super::check::Check;
use super::raw;
use crate::calendar;
use crate::calendar::Calendar;
use crate::calendar::Period;
use crate::calendar::PeriodError;
use crate::yaml::Located;

/// Less is over before the loop has looked at it.
const SHORTEST: i64 = 60;
const LONGEST: i64 = 31 * 86_400;

/// The calendars of a configuration, each distinct one once: finding out how long it is closed takes a while.
pub(super) struct Calendars {
    windows: Part,
    blackouts: Part,
    known: BTreeMap<String, (Arc<Calendar>, Option<i64>)>,
    now: UnixTime,
}

/// One list, and how it is written.
#[derive(Clone)]
struct Part {
    periods: Vec<Period>,
    written: String,
}

impl Calendars {
    /// What holds for certificates that say nothing else.
    pub(super) fn new(check: &Check<'_>, windows: &[raw::Period], blackouts: &[raw::Period]) -> Result<Self, Located> {
        Ok(Self {
            windows: Part::new(check, windows, "renew_window")?,
            blackouts: Part::new(check, blackouts, "blackout")?,
            known: BTreeMap::new(),
            now: UnixTime(Timestamp::now().as_second()),
        })
    }

    /// The calendar of a certificate, whose own lists replace those of all. One that would let a certificate of this lifetime
    /// come to its emergency is refused.
    pub(super) fn of(
        &mut self,
        check: &Check<'_>,
        windows: Option<&[raw::Period]>,
        blackouts: Option<&[raw::Period]>,
        lifetime: Option<i64>,
        field: &str,
    ) -> Result<Arc<Calendar>, Located> {
        let own = |list: Option<&[raw::Period]>, name: &str| {
            list.map(|list| Part::new(check, list, &format!("{field}.{name}"))).transpose()
        };
        let (own_windows, own_blackouts) = (own(windows, "renew_window")?, own(blackouts, "blackout")?);
        let place = match (&own_windows, &own_blackouts) {
            (Some(_), _) => format!("{field}.renew_window"),
            (None, Some(_)) => format!("{field}.blackout"),
            (None, None) => field.to_owned(),
        };
        let windows = own_windows.unwrap_or_else(|| self.windows.clone());
        let blackouts = own_blackouts.unwrap_or_else(|| self.blackouts.clone());
        let written = format!("{} {}", windows.written, blackouts.written);
        let now = self.now;
        let (calendar, closed) = self.known.entry(written.clone()).or_insert_with(|| {
            let calendar = Calendar::new(windows.periods, blackouts.periods, written);
            let closed = calendar.longest_closed(now);
            (Arc::new(calendar), closed)
        });
        let Some(closed) = *closed else {
            return Err(check.bad(&place, "no planned renewal may ever begin: every window is closed, or past"));
        };
        if let Some(longest) = lifetime.map(opening::longest_closed).filter(|longest| closed > *longest) {
            let message = format!(
                "renewals may not begin for up to {}, and a certificate of this lifetime has to be renewed within {} of \
                 any instant, or it becomes an emergency, which asks no window: open more often, or choose a longer `lifetime`",
                span(closed),
                span(longest.max(0)),
            );
            return Err(check.bad(&place, &message));
        }
        Ok(Arc::clone(calendar))
    }
}

impl Part {
    fn new(check: &Check<'_>, raw: &[raw::Period], field: &str) -> Result<Self, Located> {
        let periods = raw.iter().enumerate().map(|(at, raw)| period(check, raw, &format!("{field}[{at}]")));
        Ok(Self { periods: periods.collect::<Result<_, _>>()?, written: format!("{raw:?}") })
    }
}

fn period(check: &Check<'_>, raw: &raw::Period, field: &str) -> Result<Period, Located> {
    let refuse =
        |name: &str, given: &str, why: PeriodError| check.bad(&format!("{field}.{name}"), &format!("`{given}` {why}"));
    let zone = match &raw.zone {
        None => TimeZone::UTC,
        Some(name) => calendar::zone(name).map_err(|why| refuse("zone", name, why))?,
    };
    match (&raw.cron, &raw.lasts, &raw.from, &raw.to) {
        (Some(cron), Some(lasts), None, None) => {
            let lasts = check.duration(lasts, &format!("{field}.for"), SHORTEST, LONGEST)?;
            Period::every(cron, zone, lasts).map_err(|why| refuse("cron", cron, why))
        }
        (None, None, Some(from), Some(to)) => {
            let begins = calendar::instant(from, &zone).map_err(|why| refuse("from", from, why))?;
            let ends = calendar::instant(to, &zone).map_err(|why| refuse("to", to, why))?;
            if ends <= begins {
                return Err(check.bad(&format!("{field}.to"), &format!("`{to}` is not after `{from}`")));
            }
            Ok(Period::Once { from: begins, to: ends })
        }
        _ => Err(check.bad(field, "say when: either `cron` and `for`, or `from` and `to`")),
    }
}

/// A duration for people, in its largest unit and the next.
fn span(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds % 86_400 / 3_600, seconds % 3_600 / 60);
    let parts = [(days, "d"), (hours, "h"), (minutes, "min")];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number} {unit}"))
        .take(2)
        .collect();
    if parts.is_empty() { format!("{seconds} s") } else { parts.join(" ") }
}
