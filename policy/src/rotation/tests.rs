use proptest::prelude::*;

use super::*;
use crate::schedule::Share;
use crate::schedule::renew_at;
use crate::schedule::retry_at;

const NOW: UnixTime = UnixTime(1_000);

fn stored(not_before: i64, not_after: i64, renew_at: i64) -> Option<Stored> {
    Some(Stored { validity: valid(not_before, not_after), renew_at: UnixTime(renew_at) })
}

fn valid(not_before: i64, not_after: i64) -> Validity {
    Validity { not_before: UnixTime(not_before), not_after: UnixTime(not_after) }
}

fn good() -> Record {
    Record { stored: stored(0, 3_000, 2_000), ..Record::default() }
}

fn flying(edge: Edge) -> Record {
    let obtained = (edge == Edge::Check).then(|| valid(900, 3_000));
    Record { flight: Some(Flight { cause: Cause::Due, edge, obtained }), ..good() }
}

fn wait(until: i64, reason: Wait) -> Step {
    Step::Wait { until: Some(UnixTime(until)), reason }
}

#[test]
fn at_rest_the_first_cause_in_order_decides() {
    let facts = Facts::default();
    let all_wrong = Facts {
        fit: Fit::OtherNames,
        seen: Seen::Other,
        requested: true,
        offered: true,
        nobody_listens: true,
        ..facts
    };
    let cases = [
        ("nothing stored", Record::default(), all_wrong, Step::Begin(Cause::Missing)),
        ("unreadable", good(), Facts { fit: Fit::Unusable, ..all_wrong }, Step::Begin(Cause::Unusable)),
        ("another CA", good(), Facts { fit: Fit::OtherIssuer, ..all_wrong }, Step::Begin(Cause::IssuerChanged)),
        ("other names", good(), all_wrong, Step::Begin(Cause::NamesChanged)),
        (
            "ended, and asked for",
            Record { stored: stored(0, 999, 600), ..good() },
            Facts { requested: true, ..facts },
            Step::Begin(Cause::Expired),
        ),
        (
            "last second is valid",
            Record { stored: stored(0, 1_000, 2_000), ..good() },
            facts,
            Step::Begin(Cause::Emergency),
        ),
        (
            "asked for, and due",
            Record { stored: stored(0, 3_000, 900), ..good() },
            Facts { requested: true, ..facts },
            Step::Begin(Cause::Requested),
        ),
        (
            "asked for, and offered",
            good(),
            Facts { requested: true, offered: true, ..facts },
            Step::Begin(Cause::Requested),
        ),
        (
            "offered, and due",
            Record { stored: stored(0, 3_000, 900), ..good() },
            Facts { offered: true, ..facts },
            Step::Begin(Cause::Offered),
        ),
        (
            "ahead of the clock is made anew",
            Record { stored: stored(1_001, 9_000, 5_000), ..good() },
            facts,
            Step::Begin(Cause::ClockWentBack),
        ),
        (
            "emergency overrides a late schedule",
            Record { stored: stored(0, 1_020, 9_000), ..good() },
            facts,
            Step::Begin(Cause::Emergency),
        ),
        ("due", Record { stored: stored(0, 3_000, 1_000), ..good() }, facts, Step::Begin(Cause::Due)),
        ("under another root", good(), Facts { fit: Fit::OtherRoots, ..facts }, Step::Begin(Cause::Root)),
        (
            "under another root, and asked for",
            good(),
            Facts { fit: Fit::OtherRoots, requested: true, ..facts },
            Step::Begin(Cause::Requested),
        ),
        ("not served", good(), Facts { seen: Seen::Other, ..facts }, Step::Begin(Cause::NotServed)),
        ("good", good(), facts, wait(2_000, Wait::Renewal)),
        ("good and seen", good(), Facts { seen: Seen::Current, ..facts }, wait(2_000, Wait::Renewal)),
        (
            "a schedule past the end waits for the emergency",
            Record { stored: stored(0, 3_000, 9_000), ..good() },
            facts,
            wait(2_850, Wait::Renewal),
        ),
    ];
    for (name, record, facts, want) in cases {
        assert_eq!(next(&record, &facts, NOW), want, "{name}");
    }
}

#[test]
fn in_flight_the_journalled_edge_is_taken_unless_something_forbids_it() {
    let facts = Facts::default();
    let backing_off = |edge| Record { retry_at: Some(UnixTime(1_005)), ..flying(edge) };
    let with = |edge, stored| Record { stored, ..flying(edge) };
    let checking =
        |obtained| Record { flight: Some(Flight { cause: Cause::Due, edge: Edge::Check, obtained }), ..good() };
    let cases = [
        ("back-off", backing_off(Edge::Obtain), facts, wait(1_005, Wait::BackOff)),
        ("back-off is over", Record { retry_at: Some(NOW), ..flying(Edge::Obtain) }, facts, Step::Take(Edge::Obtain)),
        ("an answer that has ended", checking(Some(valid(0, 999))), facts, Step::Begin(Cause::Expired)),
        (
            "an answer ahead of the clock is asked for again",
            checking(Some(valid(1_001, 2_000))),
            facts,
            Step::Begin(Cause::ClockWentBack),
        ),
        (
            "and held, if the next one is ahead as well",
            Record {
                flight: Some(Flight {
                    cause: Cause::ClockWentBack,
                    edge: Edge::Check,
                    obtained: Some(valid(1_001, 2_000)),
                }),
                ..good()
            },
            facts,
            wait(1_001, Wait::NotYetValid),
        ),
        (
            "a back-off of another clock is over",
            Record { retry_at: Some(UnixTime(NOW.0 + 31_536_000)), ..flying(Edge::Obtain) },
            facts,
            Step::Take(Edge::Obtain),
        ),
        ("an answer that was not written down", checking(None), facts, Step::Begin(Cause::Due)),
        ("never hands out an ended one", with(Edge::Install, stored(0, 999, 600)), facts, Step::Begin(Cause::Expired)),
        (
            "never hands out one of the future",
            with(Edge::Stage, stored(1_001, 9_000, 5_000)),
            facts,
            Step::Begin(Cause::ClockWentBack),
        ),
        (
            "a hanging delivery gives way to the next renewal",
            with(Edge::Prove, stored(0, 3_000, 900)),
            facts,
            Step::Begin(Cause::Due),
        ),
        (
            "also while it backs off",
            Record { stored: stored(0, 3_000, 900), ..backing_off(Edge::Prove) },
            facts,
            Step::Begin(Cause::Due),
        ),
        ("and to a request", flying(Edge::Install), Facts { requested: true, ..facts }, Step::Begin(Cause::Requested)),
        ("nobody listens", flying(Edge::Install), Facts { nobody_listens: true, ..facts }, wait(2_000, Wait::Listener)),
        (
            "what is seen elsewhere does not restart a delivery",
            flying(Edge::Stage),
            Facts { seen: Seen::Other, ..facts },
            Step::Take(Edge::Stage),
        ),
        ("what was replaced is removed", flying(Edge::Retire), facts, Step::Take(Edge::Retire)),
        (
            "a hanging clean-up gives way to the next renewal",
            with(Edge::Retire, stored(0, 999, 600)),
            facts,
            Step::Begin(Cause::Expired),
        ),
    ];
    for (name, record, facts, want) in cases {
        assert_eq!(next(&record, &facts, NOW), want, "{name}");
    }
    for edge in Edge::ALL {
        assert_eq!(next(&flying(edge), &facts, NOW), Step::Take(edge), "{edge:?}");
    }
}

#[test]
fn edges_lead_from_planned_to_retired_and_failures_never_ahead() {
    let mut flight = Flight::begin(Cause::Due);
    let mut states = vec![flight.edge.from()];
    while let Some(after) = flight.after(Outcome::Done) {
        assert!(after.edge > flight.edge);
        states.push(after.edge.from());
        flight = after;
    }
    states.push(State::Retired);
    assert_eq!(states.len(), 8);
    assert!(states.is_sorted());
    for edge in Edge::ALL {
        let after =
            Flight { cause: Cause::Due, edge, obtained: None }.after(Outcome::Failed).expect("a failure ends nothing");
        assert!(after.edge <= edge, "{edge:?}");
    }
    assert_eq!(Flight::begin(Cause::NotServed).edge, Edge::Stage, "delivering again issues nothing");
}

#[test]
fn what_is_due_waits_for_its_time_and_nothing_else_does() {
    let closed = Facts { closed_until: Some(UnixTime(1_500)), ..Facts::default() };
    let due = Record { stored: stored(0, 3_000, 900), ..good() };
    let flying = |cause, edge| Record { flight: Some(Flight { cause, edge, obtained: None }), ..due };
    for (name, record, facts, want) in [
        ("due", due, closed, wait(1_500, Wait::Closed)),
        ("due, and open", due, Facts { closed_until: None, ..closed }, Step::Begin(Cause::Due)),
        ("due, and open since now", due, Facts { closed_until: Some(NOW), ..closed }, Step::Begin(Cause::Due)),
        ("not due", good(), closed, wait(2_000, Wait::Renewal)),
        (
            "closed until after the emergency",
            due,
            Facts { closed_until: Some(UnixTime(9_000)), ..closed },
            wait(2_850, Wait::Closed),
        ),
        ("emergency", Record { stored: stored(0, 1_020, 900), ..good() }, closed, Step::Begin(Cause::Emergency)),
        ("ended", Record { stored: stored(0, 999, 900), ..good() }, closed, Step::Begin(Cause::Expired)),
        ("none", Record::default(), closed, Step::Begin(Cause::Missing)),
        ("asked for", due, Facts { requested: true, ..closed }, Step::Begin(Cause::Requested)),
        ("other names", due, Facts { fit: Fit::OtherNames, ..closed }, Step::Begin(Cause::NamesChanged)),
        ("begun and not ordered", flying(Cause::Due, Edge::Journal), closed, wait(1_500, Wait::Closed)),
        ("begun and not answered", flying(Cause::Due, Edge::Obtain), closed, wait(1_500, Wait::Closed)),
        ("begun for an operator", flying(Cause::Requested, Edge::Obtain), closed, Step::Take(Edge::Obtain)),
        (
            "begun, and an emergency by now",
            Record { stored: stored(0, 1_020, 900), ..flying(Cause::Due, Edge::Obtain) },
            closed,
            Step::Take(Edge::Obtain),
        ),
    ] {
        assert_eq!(next(&record, &facts, NOW), want, "{name}");
    }
}

#[test]
fn a_clock_in_doubt_makes_nothing_due_and_holds_up_nothing_else() {
    let doubt = Facts { clock_in_doubt: true, ..Facts::default() };
    let waits = Step::Wait { until: None, reason: Wait::Clock };
    let flying =
        |cause, edge, stored| Record { flight: Some(Flight { cause, edge, obtained: None }), stored, ..good() };
    let (fine, ended) = (stored(0, 3_000, 2_000), stored(0, 999, 600));
    let cases = [
        ("ended", Record { stored: ended, ..good() }, doubt, waits),
        ("near its end", Record { stored: stored(0, 1_020, 9_000), ..good() }, doubt, waits),
        ("due", Record { stored: stored(0, 3_000, 900), ..good() }, doubt, waits),
        ("due and begun", flying(Cause::Due, Edge::Journal, fine), doubt, waits),
        ("ended while it is delivered", flying(Cause::Due, Edge::Install, ended), doubt, waits),
        ("none at all", Record::default(), doubt, Step::Begin(Cause::Missing)),
        ("asked for", good(), Facts { requested: true, ..doubt }, Step::Begin(Cause::Requested)),
        (
            "ended and asked for",
            Record { stored: ended, ..good() },
            Facts { requested: true, ..doubt },
            Step::Begin(Cause::Requested),
        ),
        ("asked for and begun", flying(Cause::Requested, Edge::Journal, ended), doubt, Step::Take(Edge::Journal)),
        ("ahead", Record { stored: stored(1_001, 9_000, 5_000), ..good() }, doubt, Step::Begin(Cause::ClockWentBack)),
        ("a delivery", flying(Cause::Due, Edge::Install, fine), doubt, Step::Take(Edge::Install)),
        ("good", good(), doubt, wait(2_000, Wait::Renewal)),
    ];
    for (name, record, facts, want) in cases {
        assert_eq!(next(&record, &facts, NOW), want, "{name}");
    }
}

#[test]
fn what_was_refused_is_made_anew_and_never_handed_over_again() {
    for edge in [Edge::Install, Edge::Prove] {
        for (cause, want) in [(Cause::Requested, Cause::Requested), (Cause::NotServed, Cause::Refused)] {
            let after = Flight { cause, edge, obtained: None }.after(Outcome::Refused);
            assert_eq!(after, Some(Flight::begin(want)), "{cause:?} at {edge:?}");
            assert!(want.issues());
            // Not at once: whatever the proxy dislikes, it would dislike it again.
            let record = Record { flight: after, retry_at: Some(UnixTime(1_005)), ..good() };
            assert_eq!(next(&record, &Facts::default(), NOW), wait(1_005, Wait::BackOff), "{cause:?} at {edge:?}");
            assert_eq!(next(&record, &Facts::default(), UnixTime(1_005)), Step::Take(Edge::Journal));
        }
    }
}

/// A world in which a process dies wherever it likes: only `record` and what it did outside survive.
#[derive(Default)]
struct World {
    record: Record,
    /// Journalled request of the flight: what the issuer keys its answer on.
    request: Option<u32>,
    requests: u32,
    /// One entry a certificate: what the issuer signed, by request.
    issued: Vec<u32>,
    /// Requests whose certificate was handed out.
    targets: Option<u32>,
    failures: u32,
    rotations: u32,
    now: i64,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The step is carried out and written down.
    Live,
    /// Death before the step is carried out.
    DieBefore,
    /// Death after the step is carried out, before that is written down.
    DieBetween,
    /// The step fails.
    Fail,
    /// Time passes.
    Pass(u16),
    /// The clock goes back.
    Back(u16),
}

impl World {
    const LIFETIME: i64 = 10_000;

    fn act(&mut self, event: Event) {
        if let Event::Pass(seconds) = event {
            self.now += i64::from(seconds);
            return;
        }
        if let Event::Back(seconds) = event {
            self.now -= i64::from(seconds);
            return;
        }
        match next(&self.record, &Facts::default(), UnixTime(self.now)) {
            Step::Wait { until, .. } => {
                if let (Event::Live, Some(until)) = (event, until) {
                    self.now = self.now.max(until.0);
                }
            }
            Step::Begin(cause) => {
                if let Event::Live = event {
                    self.record.flight = Some(Flight::begin(cause));
                    self.request = None;
                }
            }
            Step::Take(edge) => self.take(edge, event),
        }
    }

    fn take(&mut self, edge: Edge, event: Event) {
        let flight = self.record.flight.expect("an edge belongs to a flight");
        if let Event::DieBefore = event {
            return;
        }
        if let Event::Fail = event {
            self.failures += 1;
            let not_after = self.record.stored.map(|stored| stored.validity.not_after);
            self.record.retry_at = Some(retry_at(UnixTime(self.now), not_after, self.failures, 0));
            self.record.flight = flight.after(Outcome::Failed);
            return;
        }
        // What has an effect outside the record happens in either case.
        match edge {
            Edge::Obtain => {
                let request = self.request.expect("journalled before it is obtained");
                if !self.issued.contains(&request) {
                    self.issued.push(request);
                }
            }
            Edge::Install => {
                let stored = self.record.stored.expect("checked before it is installed");
                assert!(stored.validity.holds(UnixTime(self.now)), "handed out outside its validity");
                self.targets = self.request;
            }
            _ => {}
        }
        if let Event::DieBetween = event {
            return;
        }
        let validity = valid(self.now, self.now + Self::LIFETIME);
        let mut after = flight.after(Outcome::Done);
        match edge {
            Edge::Journal => {
                self.requests += 1;
                self.request = Some(self.requests);
            }
            Edge::Obtain => after = after.map(|after| Flight { obtained: Some(validity), ..after }),
            Edge::Check => {
                let validity = flight.obtained.expect("checks what was obtained");
                let renew_at = renew_at(validity, Share::TWO_THIRDS, 0);
                self.record.stored = Some(Stored { validity, renew_at });
            }
            Edge::Retire => self.rotations += 1,
            _ => {}
        }
        self.record.flight = after;
        self.record.retry_at = None;
        self.failures = 0;
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => Just(Event::Live),
        2 => Just(Event::DieBefore),
        3 => Just(Event::DieBetween),
        1 => Just(Event::Fail),
        1 => (0..2_000u16).prop_map(Event::Pass),
        1 => any::<u16>().prop_map(Event::Back),
    ];
    prop::collection::vec(event, 0..200)
}

proptest! {
    #[test]
    fn whatever_dies_the_rotation_ends_and_no_request_is_issued_twice(events in events()) {
        let mut world = World::default();
        for event in events {
            world.act(event);
        }
        // `issued` holds one entry a journalled request; another request needs another `Journal`, which only a new
        // cause or a refused answer brings.
        prop_assert!(world.issued.len() <= world.requests as usize);
        let rotations = world.rotations;
        for _ in 0..40 {
            world.act(Event::Live);
        }
        prop_assert!(world.rotations > rotations, "does not converge: {:?}", world.record);
        prop_assert!(world.record.stored.is_some());
    }

    #[test]
    fn crashes_alone_cost_one_certificate(deaths in prop::collection::vec(any::<bool>(), 0..100)) {
        let mut world = World::default();
        for between in deaths {
            world.act(if between { Event::DieBetween } else { Event::DieBefore });
            world.act(Event::Live);
            if world.rotations == 1 {
                break;
            }
        }
        while world.rotations == 0 {
            world.act(Event::Live);
        }
        prop_assert_eq!(world.issued, vec![1]);
        prop_assert_eq!(world.targets, Some(1));
    }
}
