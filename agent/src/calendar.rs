//! When planned renewals may begin, as people write it: windows and blackouts, by dates or by cron patterns in a zone.
//!
//! Absent: what follows from it. `policy` gets Unix seconds: from when to when it is open, and until when it is closed.

use std::str::FromStr as _;
use std::sync::Mutex;
use std::sync::PoisonError;

use croner::Cron;
use croner::parser::CronParser;
use croner::parser::Seconds;
use croner::parser::Year;
use jiff::Timestamp;
use jiff::Zoned;
use jiff::civil;
use jiff::tz::TimeZone;
use portcullis_policy::UnixTime;
use portcullis_policy::opening::Opening;

use crate::leaf;

/// Changes between open and closed that are looked at for one answer: a pattern of every minute says the same for very long.
const CHANGES: usize = 10_000;
/// Openings of one lifetime: more than one a day of the longest.
const OPENINGS: usize = 500;
/// How far ahead it is looked whether it ever opens: each day of a year comes by.
const HORIZON: i64 = 400 * 86_400;

/// For ever: the last second of the calendars' years.
const FAR: UnixTime = UnixTime(253_402_300_799);

/// A time that comes once, or again and again.
#[derive(Clone, Debug)]
pub enum Period {
    /// From one instant to another.
    Once {
        /// Its first second.
        from: UnixTime,
        /// The first second after it.
        to: UnixTime,
    },
    /// Whenever a pattern says so.
    Every {
        /// When it begins.
        cron: Box<Cron>,
        /// Where those hours count.
        zone: TimeZone,
        /// Seconds that it lasts.
        lasts: i64,
    },
}

/// Why a period is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeriodError {
    /// The pattern.
    #[error("is not a cron pattern of five fields (minute, hour, day, month, day of the week), as in `0 2 * * 1-5`")]
    Cron,
    /// The instant.
    #[error("is neither an instant, as in `2026-12-24T18:00:00Z`, nor a date or time of the zone, as in `2026-12-24`")]
    Instant,
    /// The zone.
    #[error("is not a time zone, as in `Europe/Berlin`")]
    Zone,
}

impl Period {
    /// Whenever `pattern` says so in `zone`, for so many seconds.
    ///
    /// # Errors
    ///
    /// [`PeriodError::Cron`].
    pub fn every(pattern: &str, zone: TimeZone, lasts: i64) -> Result<Self, PeriodError> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(pattern).map_err(|_| PeriodError::Cron)?;
        Ok(Self::Every { cron: Box::new(cron), zone, lasts })
    }

    /// Whether `at` is in it.
    fn holds(&self, at: UnixTime) -> bool {
        match self {
            Self::Once { from, to } => *from <= at && at < *to,
            Self::Every { cron, zone, lasts } => {
                let began = cron.find_previous_occurrence(&zoned(at, zone), true);
                began.is_ok_and(|began| at.0 - began.timestamp().as_second() < *lasts)
            }
        }
    }

    /// Its next begin or end after `at`.
    fn next_change(&self, at: UnixTime) -> Option<UnixTime> {
        match self {
            Self::Once { from, to } => [*from, *to].into_iter().find(|change| *change > at),
            Self::Every { cron, zone, lasts } => {
                let here = zoned(at, zone);
                let begins = cron.find_next_occurrence(&here, false).ok().map(|next| next.timestamp().as_second());
                let began = cron.find_previous_occurrence(&here, true).ok().map(|began| began.timestamp().as_second());
                let ends = began.map(|began| began + lasts).filter(|end| *end > at.0);
                [begins, ends].into_iter().flatten().min().map(UnixTime)
            }
        }
    }
}

/// Reads the name of a zone.
///
/// # Errors
///
/// [`PeriodError::Zone`].
pub fn zone(name: &str) -> Result<TimeZone, PeriodError> {
    TimeZone::get(name).map_err(|_| PeriodError::Zone)
}

/// Reads an instant, or a date or time of the zone.
///
/// # Errors
///
/// [`PeriodError::Instant`].
pub fn instant(text: &str, zone: &TimeZone) -> Result<UnixTime, PeriodError> {
    if let Ok(instant) = Timestamp::from_str(text) {
        return Ok(UnixTime(instant.as_second()));
    }
    let civil = civil::DateTime::from_str(text).map_err(|_| PeriodError::Instant)?;
    let there = civil.to_zoned(zone.clone()).map_err(|_| PeriodError::Instant)?;
    Ok(UnixTime(there.timestamp().as_second()))
}

/// When planned renewals may begin: in the windows, if there are some, and outside of the blackouts.
#[derive(Debug, Default)]
pub struct Calendar {
    windows: Vec<Period>,
    blackouts: Vec<Period>,
    /// As it is written, by which two are told apart.
    written: String,
    /// Since when, until when and whether it is closed, as it was last found out.
    known: Mutex<Option<Known>>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    since: UnixTime,
    until: UnixTime,
    is_open: bool,
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Calendar {
    /// From its parts; `written` is what they were read from.
    pub fn new(windows: Vec<Period>, blackouts: Vec<Period>, written: String) -> Self {
        Self { windows, blackouts, written, known: Mutex::new(None) }
    }

    /// Whether it is always open.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty() && self.blackouts.is_empty()
    }

    /// Until when no planned renewal may begin; none if it may now. It may not be open then, but has to be asked again.
    pub fn closed_until(&self, now: UnixTime) -> Option<UnixTime> {
        if self.is_empty() {
            return None;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let here = match *known {
            Some(known) if known.since <= now && now < known.until => known,
            _ => {
                let (is_open, until) = (self.is_open(now), self.changes(now).unwrap_or(FAR));
                *known.insert(Known { since: now, until, is_open })
            }
        };
        (!here.is_open).then_some(here.until)
    }

    /// Until when an operator is asked not to renew; none outside of blackouts.
    pub fn blackout_until(&self, now: UnixTime) -> Option<UnixTime> {
        let is_black = |at| self.blackouts.iter().any(|period| period.holds(at));
        if !is_black(now) {
            return None;
        }
        let mut at = now;
        for _ in 0..CHANGES {
            let next = self.blackouts.iter().filter_map(|period| period.next_change(at)).min();
            match next {
                None => return Some(FAR),
                Some(next) if !is_black(next) => return Some(next),
                Some(next) => at = next,
            }
        }
        Some(at)
    }

    /// The openings between two instants, in their order.
    pub fn openings(&self, from: UnixTime, to: UnixTime) -> Vec<Opening> {
        let mut openings = Vec::new();
        let mut at = from;
        while at < to && openings.len() < OPENINGS {
            let end = self.changes(at).unwrap_or(to).min(to);
            if self.is_open(at) {
                openings.push(Opening { from: at, to: end });
            }
            at = end;
        }
        openings
    }

    /// For how long it is closed at most from `now` on, in seconds, where everything that is foreseen counts; none if it never
    /// opens again.
    pub fn longest_closed(&self, now: UnixTime) -> Option<i64> {
        let dates = self.windows.iter().chain(&self.blackouts).filter_map(|period| match period {
            Period::Once { to, .. } => Some(to.0),
            Period::Every { .. } => None,
        });
        let end = UnixTime(dates.max().unwrap_or(now.0).max(now.0).saturating_add(HORIZON));
        let (mut at, mut longest, mut opens) = (now, 0, false);
        let mut is_open = self.is_open(at);
        for _ in 0..CHANGES {
            let next = self.changes(at).unwrap_or(end).min(end);
            if is_open {
                opens = true;
            } else {
                longest = longest.max(next.0 - at.0);
            }
            if next >= end {
                // Windows by dates alone come to an end.
                return (opens && (is_open || self.windows.iter().any(Period::is_for_ever))).then_some(longest);
            }
            (at, is_open) = (next, self.is_open(next));
        }
        opens.then_some(longest)
    }

    fn is_open(&self, at: UnixTime) -> bool {
        let in_window = self.windows.is_empty() || self.windows.iter().any(|window| window.holds(at));
        in_window && !self.blackouts.iter().any(|blackout| blackout.holds(at))
    }

    /// When it opens or closes next; none if it stays as it is.
    fn changes(&self, now: UnixTime) -> Option<UnixTime> {
        let is_open = self.is_open(now);
        let mut at = now;
        for _ in 0..CHANGES {
            at = self.windows.iter().chain(&self.blackouts).filter_map(|period| period.next_change(at)).min()?;
            if self.is_open(at) != is_open {
                return Some(at);
            }
        }
        // It may stay as it is for longer; then that is found out again.
        Some(at)
    }
}

impl Period {
    fn is_for_ever(&self) -> bool {
        matches!(self, Self::Every { .. })
    }
}

fn zoned(at: UnixTime, zone: &TimeZone) -> Zoned {
    leaf::timestamp(at).to_zoned(zone.clone())
}

#[cfg(test)]
mod tests;
