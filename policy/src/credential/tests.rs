use super::*;
use crate::schedule::Share;

const HOUR: i64 = 3_600;

fn current(rotate_at: i64, not_after: Option<i64>) -> Current {
    Current { since: UnixTime(0), not_after: not_after.map(UnixTime), rotate_at: UnixTime(rotate_at), extend_at: None }
}

fn record(rotate_at: i64, not_after: Option<i64>) -> Record {
    Record { current: Some(current(rotate_at, not_after)), ..Record::default() }
}

fn facts() -> Facts {
    Facts {
        kind: Kind::Made,
        needs_place: false,
        retire: Retire::AfterOverlap,
        moved: Moved::Unknown,
        is_other: false,
        login_refused: false,
        requested: false,
        source_changed: false,
        wanted: true,
        seen: Seen::Unknown,
        clock_in_doubt: false,
        closed_until: None,
    }
}

fn wait(until: i64, reason: Wait) -> Step {
    Step::Wait { until: Some(UnixTime(until)), reason }
}

#[test]
fn at_rest_the_causes_have_an_order() {
    let due = record(60, Some(100));
    let over = |until| Record { overlap_until: Some(UnixTime(until)), ..record(60, None) };
    let lease = Record {
        current: Some(Current { extend_at: Some(UnixTime(30)), ..current(600, Some(1_000)) }),
        ..Record::default()
    };
    let cases = [
        ("nothing there", Record::default(), facts(), 0, Step::Begin(Cause::Missing)),
        (
            "nothing there, and nobody wants it",
            Record::default(),
            Facts { wanted: false, ..facts() },
            0,
            Step::Wait { until: None, reason: Wait::FirstUse },
        ),
        ("idle for too long", due, Facts { wanted: false, ..facts() }, 10, Step::GiveBack),
        ("there, and young", due, facts(), 10, wait(60, Wait::Rotation)),
        ("due", due, facts(), 60, Step::Begin(Cause::Due)),
        ("due in a blackout", due, Facts { closed_until: Some(UnixTime(80)), ..facts() }, 60, wait(80, Wait::Closed)),
        (
            "the end wins over a blackout",
            due,
            Facts { closed_until: Some(UnixTime(200)), ..facts() },
            96,
            Step::Begin(Cause::Emergency),
        ),
        ("ended", due, facts(), 101, Step::Begin(Cause::Expired)),
        (
            "due by a clock that jumped",
            due,
            Facts { clock_in_doubt: true, ..facts() },
            60,
            Step::Wait { until: None, reason: Wait::Clock },
        ),
        ("asked for", due, Facts { requested: true, ..facts() }, 10, Step::Begin(Cause::Requested)),
        (
            "the configuration says something else",
            due,
            Facts { is_other: true, requested: true, ..facts() },
            10,
            Step::Begin(Cause::ConfigurationChanged),
        ),
        (
            "not let in any more",
            due,
            Facts { login_refused: true, requested: true, ..facts() },
            10,
            Step::Begin(Cause::LoginRefused),
        ),
        (
            "another at the source",
            due,
            Facts { source_changed: true, ..facts() },
            10,
            Step::Begin(Cause::SourceChanged),
        ),
        ("not where it should be", due, Facts { seen: Seen::Other, ..facts() }, 10, Step::Begin(Cause::NotPublished)),
        ("an overlap that lasts", over(40), facts(), 10, wait(40, Wait::Rotation)),
        ("an overlap that is over", over(40), facts(), 40, Step::Retire),
        (
            "over, and somebody stays",
            over(40),
            Facts { retire: Retire::WhenMoved, moved: Moved::No, ..facts() },
            50,
            wait(60, Wait::Rotation),
        ),
        (
            "over, and everybody left",
            over(40),
            Facts { retire: Retire::WhenMoved, moved: Moved::Yes, ..facts() },
            50,
            Step::Retire,
        ),
        (
            "over, and nobody can say who stays",
            over(40),
            Facts { retire: Retire::WhenMoved, moved: Moved::Unknown, ..facts() },
            50,
            Step::Retire,
        ),
        (
            "everybody left, and the overlap lasts",
            over(40),
            Facts { retire: Retire::WhenMoved, moved: Moved::Yes, ..facts() },
            30,
            wait(40, Wait::Rotation),
        ),
        ("a lease at its half", lease, facts(), 30, Step::Extend),
        ("after a failure", Record { retry_at: Some(UnixTime(70)), ..due }, facts(), 60, wait(70, Wait::BackOff)),
    ];
    for (name, record, facts, now, want) in cases {
        assert_eq!(next(&record, &facts, UnixTime(now)), want, "{name}");
    }
}

#[test]
fn what_hangs_keeps_nobody_from_the_next_value() {
    let flight = |edge| Some(Flight { cause: Cause::Due, edge });
    let lease = Current { extend_at: Some(UnixTime(30)), ..current(600, Some(1_000)) };
    let cases = [
        (
            "a value that grew old before it was set",
            Record { flight: flight(Edge::Obtain), next: Some(current(60, Some(100))), ..record(60, Some(100)) },
            100,
            Step::Begin(Cause::Due),
        ),
        (
            "one that is young",
            Record { flight: flight(Edge::Obtain), next: Some(current(160, Some(200))), ..record(60, Some(100)) },
            100,
            Step::Take(Edge::Obtain),
        ),
        (
            "published to nobody until its end",
            Record { flight: flight(Edge::Install), ..record(60, Some(100)) },
            101,
            Step::Begin(Cause::Expired),
        ),
        (
            "and short of it",
            Record { flight: flight(Edge::Prove), ..record(60, Some(100)) },
            96,
            Step::Begin(Cause::Emergency),
        ),
        (
            "a lease below a rotation that fails",
            Record { flight: flight(Edge::Obtain), current: Some(lease), ..Record::default() },
            31,
            Step::Extend,
        ),
        (
            "what is due comes before what is over",
            Record { overlap_until: Some(UnixTime(10)), ..record(60, None) },
            60,
            Step::Begin(Cause::Due),
        ),
    ];
    for (name, record, now, want) in cases {
        assert_eq!(next(&record, &facts(), UnixTime(now)), want, "{name}");
    }
}

#[test]
fn the_place_of_what_was_replaced_is_free_when_the_overlap_is_over() {
    let flight = |cause| Some(Flight::begin(cause));
    let busy = |cause| Record { flight: flight(cause), overlap_until: Some(UnixTime(40)), ..record(20, Some(100)) };
    let alternating = Facts { needs_place: true, ..facts() };
    let cases = [
        ("two places and an overlap", busy(Cause::Requested), alternating, 30, wait(40, Wait::Overlap)),
        ("the overlap is over", busy(Cause::Requested), alternating, 40, Step::Retire),
        ("a place of its own", busy(Cause::Requested), facts(), 30, Step::Take(Edge::Journal)),
        (
            "somebody stays",
            busy(Cause::Due),
            Facts { retire: Retire::WhenMoved, moved: Moved::No, ..alternating },
            50,
            wait(40, Wait::Overlap),
        ),
        ("nobody is let in", busy(Cause::LoginRefused), alternating, 30, Step::Retire),
        (
            "somebody stays, and what all others use is about to end",
            busy(Cause::Emergency),
            Facts { retire: Retire::WhenMoved, moved: Moved::No, ..alternating },
            97,
            Step::Retire,
        ),
    ];
    for (name, record, facts, now, want) in cases {
        assert_eq!(next(&record, &facts, UnixTime(now)), want, "{name}");
    }
}

/// The edges from the begin to the end, when every one is taken at once.
fn way(kind: Kind, cause: Cause) -> Vec<Edge> {
    let mut flight = Some(Flight::begin(cause));
    std::iter::from_fn(|| {
        let taken = flight?;
        flight = taken.after(Outcome::Done, kind);
        Some(taken.edge)
    })
    .take(20)
    .collect()
}

#[test]
fn a_value_is_tested_before_it_is_published_and_a_key_published_before_it_is_used() {
    use Edge::Check;
    use Edge::Install;
    use Edge::Journal;
    use Edge::Obtain;
    use Edge::Prove;
    use Edge::Stage;

    assert_eq!(way(Kind::Made, Cause::Due), [Journal, Obtain, Check, Stage, Install, Prove]);
    assert_eq!(way(Kind::Given, Cause::Due), [Journal, Obtain, Check, Stage, Install, Prove]);
    assert_eq!(way(Kind::Ring, Cause::Due), [Journal, Obtain, Check, Install, Prove, Stage]);
    for kind in [Kind::Made, Kind::Given, Kind::Ring] {
        assert_eq!(way(kind, Cause::NotPublished), [Install, Prove], "{kind:?}");
    }
}

#[test]
fn a_failure_leads_to_the_same_value_and_a_refusal_to_another() {
    let at = |edge| Flight { cause: Cause::Due, edge };
    for (name, edge, kind, want) in [
        ("a set that failed is done again", Edge::Obtain, Kind::Made, Edge::Obtain),
        ("a test that failed has the same value set again", Edge::Check, Kind::Made, Edge::Obtain),
        ("a bad answer of a source is asked for anew", Edge::Check, Kind::Given, Edge::Journal),
        ("a publication that failed is done again", Edge::Install, Kind::Made, Edge::Install),
        ("what was not seen is published again", Edge::Prove, Kind::Given, Edge::Install),
    ] {
        assert_eq!(at(edge).after(Outcome::Failed, kind), Some(at(want)), "{name}");
    }
    let refused = at(Edge::Prove).after(Outcome::Refused, Kind::Made);
    assert_eq!(refused, Some(Flight { cause: Cause::Refused, edge: Edge::Journal }));
}

#[test]
fn consumers_rotate_apart_and_a_lease_that_gains_nothing_is_replaced() {
    let at = |draw| rotate_at(UnixTime(1_000), HOUR, Share::TWO_THIRDS, draw);
    assert_eq!(at(0), UnixTime(1_000 + 2_400));
    assert_eq!(at(u32::MAX), UnixTime(1_000 + 2_400 - 180));
    assert_eq!(extend_at(UnixTime(0), UnixTime(60)), UnixTime(30));
    for (name, before, after, want) in [
        ("as long as before", 60, 90, true),
        ("two thirds of it", 60, 70, true),
        ("less and less", 60, 69, false),
        ("not at all", 60, 60, false),
    ] {
        assert_eq!(is_extended(UnixTime(30), UnixTime(before), UnixTime(after), 60), want, "{name}");
    }
}
