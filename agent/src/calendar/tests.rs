use super::*;

const DAY: i64 = 86_400;

fn at(text: &str) -> UnixTime {
    instant(text, &TimeZone::UTC).unwrap()
}

fn every(pattern: &str, name: &str, lasts: i64) -> Period {
    Period::every(pattern, zone(name).unwrap(), lasts).unwrap()
}

fn once(from: &str, to: &str) -> Period {
    Period::Once { from: at(from), to: at(to) }
}

fn calendar(windows: Vec<Period>, blackouts: Vec<Period>) -> Calendar {
    Calendar::new(windows, blackouts, String::new())
}

#[test]
fn windows_of_working_nights_in_berlin() {
    let nights = calendar(vec![every("0 2 * * 1-5", "Europe/Berlin", 3 * 3_600)], Vec::new());
    // 2026-11-23 is a Monday, an hour east of Greenwich.
    for (now, want) in [
        ("2026-11-22T12:00:00Z", Some("2026-11-23T01:00:00Z")),
        ("2026-11-23T00:59:59Z", Some("2026-11-23T01:00:00Z")),
        ("2026-11-23T01:00:00Z", None),
        ("2026-11-23T03:59:59Z", None),
        ("2026-11-23T04:00:00Z", Some("2026-11-24T01:00:00Z")),
        ("2026-11-27T04:00:00Z", Some("2026-11-30T01:00:00Z")),
    ] {
        assert_eq!(nights.closed_until(at(now)), want.map(at), "{now}");
    }
}

#[test]
fn what_is_remembered_is_good_for_its_time_only() {
    let nights = calendar(vec![every("0 2 * * *", "UTC", 3_600)], Vec::new());
    for (now, want) in [
        ("2026-11-23T02:30:00Z", None),
        ("2026-11-23T02:59:59Z", None),
        ("2026-11-23T03:00:00Z", Some("2026-11-24T02:00:00Z")),
        ("2026-11-23T04:00:00Z", Some("2026-11-24T02:00:00Z")),
        ("2026-11-23T01:00:00Z", Some("2026-11-23T02:00:00Z")),
    ] {
        assert_eq!(nights.closed_until(at(now)), want.map(at), "{now}");
    }
}

#[test]
fn clocks_that_change_move_a_window_with_them() {
    let nights = calendar(vec![every("30 2 * * *", "Europe/Berlin", 3_600)], Vec::new());
    for (day, want) in [
        // Half past two in winter, in summer, and on the night that has no such hour.
        ("2026-01-10T00:00:00Z", "2026-01-10T01:30:00Z"),
        ("2026-07-10T00:00:00Z", "2026-07-10T00:30:00Z"),
        ("2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"),
    ] {
        assert_eq!(nights.closed_until(at(day)), Some(at(want)), "{day}");
    }
}

#[test]
fn blackouts_win_over_windows_and_stop_operators() {
    let holidays = once("2026-12-20T00:00:00Z", "2027-01-03T00:00:00Z");
    let fridays = every("0 12 * * 5", "UTC", 12 * 3_600);
    let both = calendar(vec![every("0 2 * * *", "UTC", 3_600)], vec![holidays, fridays]);
    let closed = |now| both.closed_until(at(now));
    assert_eq!(closed("2026-12-19T23:00:00Z"), Some(at("2027-01-03T02:00:00Z")));
    assert_eq!(closed("2026-12-22T02:30:00Z"), Some(at("2027-01-03T02:00:00Z")));
    assert_eq!(closed("2026-12-18T02:30:00Z"), None);
    let black = |now| both.blackout_until(at(now));
    assert_eq!(black("2026-12-22T02:30:00Z"), Some(at("2027-01-03T00:00:00Z")));
    assert_eq!(black("2026-12-18T13:00:00Z"), Some(at("2026-12-19T00:00:00Z")));
    assert_eq!(black("2026-12-18T03:00:00Z"), None, "outside of the windows an operator may renew");
}

#[test]
fn blackouts_that_meet_are_one() {
    let two = calendar(Vec::new(), vec![once("2026-01-01", "2026-01-02"), once("2026-01-02", "2026-01-03")]);
    assert_eq!(two.closed_until(at("2026-01-01T12:00:00Z")), Some(at("2026-01-03")));
    assert_eq!(two.blackout_until(at("2026-01-01T12:00:00Z")), Some(at("2026-01-03")));
    assert_eq!(two.closed_until(at("2026-01-03")), None);
}

#[test]
fn openings_between_two_instants() {
    let nights = calendar(vec![every("0 2 * * *", "UTC", 3_600)], vec![once("2026-11-24", "2026-11-25")]);
    let openings = nights.openings(at("2026-11-23T02:30:00Z"), at("2026-11-25T02:15:00Z"));
    let want = [("2026-11-23T02:30:00Z", "2026-11-23T03:00:00Z"), ("2026-11-25T02:00:00Z", "2026-11-25T02:15:00Z")];
    assert_eq!(openings, want.map(|(from, to)| Opening { from: at(from), to: at(to) }));
    let always = calendar(Vec::new(), Vec::new());
    assert_eq!(always.closed_until(UnixTime(0)), None);
    assert_eq!(always.openings(UnixTime(5), UnixTime(9)), [Opening { from: UnixTime(5), to: UnixTime(9) }]);
}

#[test]
fn how_long_it_is_closed_at_most() {
    let now = at("2026-11-23T12:00:00Z");
    let nights = || every("0 2 * * 1-5", "UTC", 3 * 3_600);
    let leap = every("0 0 29 2 *", "UTC", DAY);
    for (name, calendar, want) in [
        ("always open", calendar(Vec::new(), Vec::new()), Some(0)),
        ("over the weekend", calendar(vec![nights()], Vec::new()), Some(3 * DAY - 3 * 3_600)),
        ("holidays far ahead", calendar(Vec::new(), vec![once("2028-12-20", "2029-01-03")]), Some(14 * DAY)),
        ("past holidays", calendar(Vec::new(), vec![once("2020-12-20", "2021-01-03")]), Some(0)),
        ("no leap day within a year", calendar(vec![leap], Vec::new()), None),
        ("a pattern that never comes", calendar(vec![every("0 0 31 2 *", "UTC", DAY)], Vec::new()), None),
        ("windows by dates, all past", calendar(vec![once("2020-12-20", "2021-01-03")], Vec::new()), None),
        ("closed every minute", calendar(Vec::new(), vec![every("* * * * *", "UTC", 60)]), None),
    ] {
        assert_eq!(calendar.longest_closed(now), want, "{name}");
    }
}

#[test]
fn what_is_no_period_is_refused() {
    let bad = |pattern| Period::every(pattern, TimeZone::UTC, 60).err();
    for pattern in ["", "0 2 * *", "0 0 2 * * 1-5", "61 * * * *", "0 2 * * 1-5 2026", "now"] {
        assert_eq!(bad(pattern), Some(PeriodError::Cron), "{pattern}");
    }
    assert_eq!(zone("Europe/Berlino").unwrap_err(), PeriodError::Zone);
    assert_eq!(instant("tomorrow", &TimeZone::UTC), Err(PeriodError::Instant));
    let berlin = zone("Europe/Berlin").unwrap();
    assert_eq!(instant("2026-12-24", &berlin).unwrap(), at("2026-12-23T23:00:00Z"));
    assert_eq!(instant("2026-12-24T18:00:00", &berlin).unwrap(), at("2026-12-24T17:00:00Z"));
    assert_eq!(instant("2026-12-24T18:00:00+05:00", &berlin).unwrap(), at("2026-12-24T13:00:00Z"));
}
