//! Windows of time, in UTC.

use crate::time::UnixTime;

const DAY: i64 = 86_400;

/// Instants that fulfil everything that is given here. Both ends are half-open: the beginning is in, the end is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: Option<UnixTime>,
    pub(crate) until: Option<UnixTime>,
    pub(crate) days: Days,
    /// Minutes since midnight.
    pub(crate) hours: Option<(u16, u16)>,
}

/// Days of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Days(u8);

impl Days {
    pub(crate) const ALL: Self = Self(0x7f);
    pub(crate) const NONE: Self = Self(0);

    /// The names, in the order of the week.
    const NAMES: [&'static str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

    /// The one of this name; `None` if no day has it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|position| Self(1 << position))
    }

    /// These and those.
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names, in the order of the week.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().enumerate().filter(move |(day, _)| self.has(*day)).map(|(_, name)| name)
    }

    fn has(self, day: usize) -> bool {
        self.0 >> day & 1 == 1
    }
}

impl Window {
    /// The first instant in it, from 1970 on.
    pub(crate) fn first(&self) -> Option<UnixTime> {
        let from = self.from.unwrap_or(UnixTime(0));
        let midnight = from.0.div_euclid(DAY).checked_mul(DAY)?;
        let opens = self.hours.map_or(0, |(from, _)| i64::from(from) * 60);
        // The days of a week, and one more: the first may be over before its hours end.
        let days = (0..=7).filter_map(|day| midnight.checked_add(day * DAY + opens)).map(UnixTime);
        days.map(|instant| instant.max(from)).find(|instant| self.contains(*instant))
    }

    /// A second after `now` up to which it stays open or closed as it is; `None` if it does for ever.
    pub(crate) fn change_after(&self, now: UnixTime) -> Option<UnixTime> {
        let midnight = now.0.div_euclid(DAY).saturating_mul(DAY);
        let (opens, closes) = self.hours.unwrap_or((0, 0));
        let recurs = self.days != Days::ALL || self.hours.is_some();
        let minutes = [opens, closes].map(|minute| midnight.saturating_add(i64::from(minute) * 60));
        let today = minutes.into_iter().chain([midnight.saturating_add(DAY)]).filter(|_| recurs).map(UnixTime);
        let once = [self.from, self.until].into_iter().flatten();
        once.chain(today).filter(|instant| *instant > now).min()
    }

    /// Whether an instant is in it.
    pub(crate) fn contains(&self, now: UnixTime) -> bool {
        let second = now.0.rem_euclid(DAY);
        // 1970-01-01 was a Thursday.
        let day = (now.0.div_euclid(DAY) + 3).rem_euclid(7);
        self.from.is_none_or(|from| from <= now)
            && self.until.is_none_or(|until| now < until)
            && usize::try_from(day).is_ok_and(|day| self.days.has(day))
            && self.hours.is_none_or(|(from, until)| i64::from(from) * 60 <= second && second < i64::from(until) * 60)
    }
}
