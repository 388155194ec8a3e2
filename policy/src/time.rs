//! Wall-clock time as a number. The clock itself is the caller's.

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;

/// Not through `jiff::Timestamp`: it ends a day before 9999-12-31T23:59:59Z, which says "never" (RFC 5280 §4.1.2.5).
pub(crate) const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Whole seconds since 1970-01-01T00:00:00Z; negative before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub i64);

impl UnixTime {
    /// Reads an instant (RFC 3339). A fraction of a second is cut off, towards the past.
    pub fn parse(text: &str) -> Option<Self> {
        let since = since_epoch(text)?;
        Some(Self(since.as_secs() - i64::from(since.subsec_nanos() < 0)))
    }

    /// The same; `None` if there is a fraction of a second.
    pub(crate) fn parse_whole(text: &str) -> Option<Self> {
        since_epoch(text).filter(|since| since.subsec_nanos() == 0).map(|since| Self(since.as_secs()))
    }

    /// The instant in UTC (RFC 3339); `None` where the calendar does not hold it.
    pub fn to_rfc3339(self) -> Option<String> {
        EPOCH.checked_add(SignedDuration::from_secs(self.0)).ok().map(|civil| format!("{civil}Z"))
    }
}

/// `None` for what is no time, and for one that is beyond the calendar in UTC.
fn since_epoch(text: &str) -> Option<SignedDuration> {
    let pieces = Pieces::parse(text).ok()?;
    let offset = SignedDuration::from_secs(pieces.offset()?.to_numeric_offset().seconds().into());
    let utc = DateTime::from_parts(pieces.date(), pieces.time()?).checked_sub(offset).ok()?;
    Some(utc.duration_since(EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_read_to_the_end_of_the_calendar() {
        let cases = [
            ("the epoch", "1970-01-01T00:00:00Z", Some(0)),
            ("an offset", "2026-11-22T12:00:00+02:00", Some(1_795_341_600)),
            ("small letters", "2026-11-22t10:00:00z", Some(1_795_341_600)),
            ("a fraction", "1970-01-01T00:00:01.999Z", Some(1)),
            ("a fraction before the epoch", "1969-12-31T23:59:59.5Z", Some(-1)),
            ("a second before the epoch", "1969-12-31T23:59:59Z", Some(-1)),
            ("the last that some libraries have", "9999-12-30T22:00:00Z", Some(253_402_207_200)),
            ("no well-defined end", "9999-12-31T23:59:59Z", Some(253_402_300_799)),
            ("the same elsewhere", "9999-12-31T22:59:59-01:00", Some(253_402_300_799)),
            ("the year 10000 in UTC", "9999-12-31T23:59:59-01:00", None),
            ("the year 10000", "10000-01-01T00:00:00Z", None),
            ("no offset", "2026-11-22T12:00:00", None),
            ("a zone for an offset", "2026-11-22T12:00:00[Europe/Berlin]", None),
            ("a date", "2026-11-22", None),
            ("a date with an offset", "2026-11-22Z", None),
            ("a day that is not", "2026-02-30T00:00:00Z", None),
            ("seconds", "1795341600", None),
            ("nothing", "", None),
        ];
        for (name, text, seconds) in cases {
            let instant = UnixTime::parse(text);
            assert_eq!(instant, seconds.map(UnixTime), "{name}");
            let whole = if text.contains('.') { None } else { instant };
            assert_eq!(UnixTime::parse_whole(text), whole, "{name}, whole");
            let again = instant.map(|instant| UnixTime::parse(&instant.to_rfc3339().unwrap()));
            assert_eq!(again, instant.map(Some), "{name}, written and read again");
        }
    }

    #[test]
    fn an_instant_is_written_as_far_as_the_calendar_goes() {
        assert_eq!(UnixTime(0).to_rfc3339().as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(UnixTime(253_402_300_799).to_rfc3339().as_deref(), Some("9999-12-31T23:59:59Z"));
        assert_eq!(UnixTime(253_402_300_800).to_rfc3339(), None);
        assert_eq!(UnixTime(i64::MAX).to_rfc3339(), None);
        assert_eq!(UnixTime(i64::MIN).to_rfc3339(), None);
    }
}
