use std::sync::Arc;

use jiff::tz::TimeZone;
use portcullis_policy::schedule::Share;

use super::*;
use crate::calendar::Calendar;
use crate::calendar::Period;
use crate::command::Usage;
use crate::config::Fallback;
use crate::config::WhenNameFails;
use crate::names::Names;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// 2026-11-23, midnight.
const MONDAY: i64 = 1_795_392_000;

fn certificate(fallback: Option<f64>, calendar: Calendar) -> Certificate {
    let names = Names::new(None, vec!["localhost".to_owned()], Vec::new(), vec![Usage::Server], "acme.example");
    let below = |below| Fallback { issuer: "built-in".to_owned(), below: Share::new(below).unwrap() };
    Certificate {
        name: "gateway".to_owned(),
        issuer: "bao".to_owned(),
        fallback: fallback.map(below),
        names: names.unwrap(),
        when_a_name_fails: WhenNameFails::Wait,
        lifetime: DAY,
        renew_after: Share::TWO_THIRDS,
        calendar: Arc::new(calendar),
        files: None,
        hooks: Vec::new(),
        reload: None,
        roll_back_after: None,
        trusted_by: Vec::new(),
        served_at: Vec::new(),
    }
}

fn scene(certificate: &Certificate, days: i64) -> Scene<'_> {
    let (from, to) = (UnixTime(MONDAY), UnixTime(MONDAY + days * DAY));
    Scene { certificate, lifetime: certificate.lifetime, stored: None, from, to, outages: Vec::new(), seed: 1 }
}

fn away(issuer: &str, from: UnixTime, hours: i64) -> Outage {
    Outage { issuer: issuer.to_owned(), from, to: UnixTime(from.0 + hours * HOUR) }
}

fn issuers(simulated: &Simulated) -> Vec<&str> {
    let served = simulated.moments.iter().filter_map(|moment| match &moment.what {
        What::Served { issuer, .. } => Some(issuer.as_str()),
        _ => None,
    });
    served.collect()
}

#[test]
fn a_calm_week_renews_on_schedule() {
    let certificate = certificate(None, Calendar::default());
    let simulated = run(&scene(&certificate, 7));
    // Renewed after two thirds of a day, or a twentieth of a day earlier.
    assert!((11..=12).contains(&issuers(&simulated).len()), "{simulated:#?}");
    assert_eq!((simulated.failed, simulated.gap), (0, None));
    let (left, lifetime) = simulated.margin.unwrap();
    assert_eq!(lifetime, DAY);
    assert!((DAY / 3 - 1..DAY / 3 + DAY / 20).contains(&left), "{left}");
}

#[test]
fn an_outage_longer_than_what_is_left_is_an_end() {
    let certificate = certificate(None, Calendar::default());
    let mut scene = scene(&certificate, 4);
    let due = first_renewal(&scene).unwrap();
    scene.outages = vec![away("bao", due, 36)];
    let simulated = run(&scene);
    let (end, successor) = simulated.gap.unwrap();
    assert_eq!(end, UnixTime(MONDAY + DAY));
    let late = successor.unwrap().0 - (due.0 + 36 * HOUR);
    assert!((0..=30).contains(&late), "tried every half minute: {late}");
    assert_eq!(simulated.margin.unwrap().0, 0);
    assert!(simulated.moments.iter().any(|moment| moment.what == What::Ended && moment.at == end));
    let shorter = Scene { outages: vec![away("bao", due, 7)], ..scene };
    let simulated = run(&shorter);
    assert_eq!(simulated.gap, None);
    assert!(simulated.margin.unwrap().0 < 2 * HOUR, "{:?}", simulated.margin);
    assert!((8..40).contains(&simulated.failed), "no storm of retries: {}", simulated.failed);
}

#[test]
fn a_fallback_takes_over_and_gives_back() {
    let certificate = certificate(Some(0.1), Calendar::default());
    let mut scene = scene(&certificate, 4);
    let due = first_renewal(&scene).unwrap();
    scene.outages = vec![away("bao", due, 36)];
    let simulated = run(&scene);
    assert_eq!(simulated.gap, None);
    let issuers = issuers(&simulated);
    assert_eq!(issuers.first(), Some(&"bao"));
    assert!(issuers.contains(&"built-in"), "{issuers:?}");
    assert_eq!(issuers.last(), Some(&"bao"));
    let (left, _) = simulated.margin.unwrap();
    assert!(left > HOUR && left <= DAY / 10, "{left}");
    // If that one is away as well, there is nobody left.
    scene.outages.push(away("built-in", due, 36));
    assert!(run(&scene).gap.is_some());
}

#[test]
fn renewals_keep_to_their_windows() {
    let nights = Period::every("0 2 * * *", TimeZone::UTC, 3 * HOUR).unwrap();
    let holiday = Period::Once { from: UnixTime(MONDAY + 2 * DAY), to: UnixTime(MONDAY + 2 * DAY + 6 * HOUR) };
    let mut certificate = certificate(None, Calendar::new(vec![nights], vec![holiday], String::new()));
    certificate.lifetime = 3 * DAY;
    let simulated = run(&scene(&certificate, 30));
    assert_eq!(simulated.gap, None);
    let times: Vec<i64> = simulated.moments[1..].iter().map(|moment| moment.at.0 - MONDAY).collect();
    assert!(times.len() > 9, "{simulated:#?}");
    for at in &times {
        assert!((2 * HOUR..5 * HOUR).contains(&(at % DAY)), "{at}");
        assert_ne!(at / DAY, 2, "a holiday");
    }
    assert!(times.iter().any(|at| at % DAY != times[0] % DAY), "not all at the begin of the window");
}

#[test]
fn nothing_to_begin_with_and_nobody_there_is_no_certificate() {
    let certificate = certificate(None, Calendar::default());
    let scene = Scene { outages: vec![away("bao", UnixTime(MONDAY), 48)], ..scene(&certificate, 1) };
    let simulated = run(&scene);
    assert_eq!((simulated.gap, simulated.margin), (Some((UnixTime(MONDAY), None)), None));
}

#[test]
fn equal_seeds_give_equal_calendars() {
    let certificate = certificate(None, Calendar::default());
    let one = scene(&certificate, 7);
    assert_eq!(run(&one), run(&one));
    assert_ne!(run(&one), run(&Scene { seed: 2, ..one }));
}
