//! The order against a world in which everything is late, dies and comes back: nobody who should be trusted is refused.

use proptest::prelude::*;

use super::*;

const NOW: UnixTime = UnixTime(1_000);

fn wait(until: Option<i64>, reason: Wait) -> Step {
    Step::Wait { until: until.map(UnixTime), reason }
}

#[test]
fn every_edge_waits_for_what_would_make_it_unsafe_and_for_nothing_else() {
    let none = Facts::default();
    let all = Facts {
        behind: 2,
        ours: 3,
        unaware_until: Some(NOW),
        others_until: Some(UnixTime(2_000)),
        clock_in_doubt: true,
    };
    for (name, edge, facts, want) in [
        ("a root can be made any time", Edge::Add, all, Step::Take),
        ("somebody has not taken it", Edge::Spread, all, wait(None, Wait::Behind(2))),
        ("somebody knows the old one only", Edge::Spread, Facts { behind: 0, ..all }, wait(Some(1_001), Wait::Unaware)),
        ("all know both", Edge::Spread, Facts { ours: 3, others_until: Some(UnixTime(2_000)), ..none }, Step::Take),
        ("somebody fell behind again", Edge::Switch, Facts { behind: 1, ..none }, wait(None, Wait::Behind(1))),
        ("the switch itself", Edge::Switch, none, Step::Take),
        ("ours come first", Edge::Wait, all, wait(None, Wait::Ours(3))),
        ("then others", Edge::Wait, Facts { ours: 0, ..all }, wait(Some(2_001), Wait::Others)),
        ("nobody took a smaller bundle yet, nor has to", Edge::Wait, Facts { behind: 2, ..none }, Step::Take),
        ("until everybody has the smaller one", Edge::Remove, all, wait(None, Wait::Behind(2))),
        ("nobody has the old one", Edge::Remove, none, Step::Take),
    ] {
        assert_eq!(next(edge, &facts, NOW), want, "{name}");
    }
    let doubted = Facts { others_until: Some(UnixTime(900)), clock_in_doubt: true, ..none };
    assert_eq!(next(Edge::Wait, &doubted, NOW), wait(Some(901), Wait::Clock), "ended by a clock that jumped");
    let believed = Facts { clock_in_doubt: false, ..doubted };
    assert_eq!(next(Edge::Wait, &believed, NOW), Step::Take);
    let last_second = Facts { others_until: Some(NOW), ..none };
    assert_eq!(next(Edge::Wait, &last_second, NOW), wait(Some(1_001), Wait::Others), "the last second is valid");
}

#[test]
fn what_bundles_hold_and_who_signs_follow_from_the_edge() {
    let of = |edge: Edge| (edge.trusts_old(), edge.trusts_new(), edge.signs_with_new());
    let want =
        [(true, false, false), (true, true, false), (true, true, false), (true, true, true), (false, true, true)];
    assert_eq!(Edge::ALL.map(of), want);
    for pair in Edge::ALL.windows(2) {
        assert_eq!(pair[0].next(), Some(pair[1]));
    }
    assert_eq!(Edge::Remove.next(), None);
}

#[test]
fn an_operator_is_refused_what_would_lock_somebody_out() {
    use Refusal::Going;
    use Refusal::Others;
    use Refusal::Ours;
    use Refusal::Signs;
    let later = Some(UnixTime(2_000));
    for (name, role, edge, ours, others, want) in [
        ("the only root", Role::Old, None, 0, None, Err(Signs)),
        ("it signs still", Role::Old, Some(Edge::Spread), 0, None, Err(Signs)),
        ("it signs already", Role::New, Some(Edge::Wait), 0, None, Err(Signs)),
        ("ours are under it", Role::Old, Some(Edge::Wait), 2, later, Err(Ours(2))),
        ("others are under it", Role::Old, Some(Edge::Wait), 0, later, Err(Others(UnixTime(2_000)))),
        ("in their last second", Role::Old, Some(Edge::Wait), 0, Some(NOW), Err(Others(NOW))),
        ("nobody is under it", Role::Old, Some(Edge::Wait), 0, Some(UnixTime(999)), Ok(())),
        ("nobody ever was", Role::New, Some(Edge::Spread), 0, None, Ok(())),
        ("it goes anyway", Role::Old, Some(Edge::Remove), 0, None, Err(Going)),
    ] {
        assert_eq!(may_remove(role, edge, ours, others, NOW), want, "{name}");
    }
    assert_eq!(may_add(None), Ok(()));
    for edge in Edge::ALL {
        assert_eq!(may_add(Some(edge)), Err(Refusal::UnderWay(edge)));
    }
}

#[test]
fn the_schedule_counts_from_the_begin_of_the_root() {
    let root = Validity { not_before: UnixTime(100), not_after: UnixTime(1_100) };
    let share = Share::new(0.8).expect("a share");
    assert_eq!(due_at(root, share), UnixTime(900));
}

/// The old root and the new one.
type Roots = [bool; 2];

/// Somebody who verifies. Takes what is pushed when he likes, and knows nothing of it before.
#[derive(Clone, Copy, Debug)]
struct Verifier {
    trusts: Roots,
}

#[derive(Clone, Copy, Debug)]
struct Leaf {
    root: usize,
    until: i64,
    /// Renewed by the agent; the others run out.
    ours: bool,
    /// What its holder trusts, who is no proxy: he got it with the leaf.
    trusts: Roots,
}

struct World {
    now: i64,
    edge: Option<Edge>,
    verifiers: [Verifier; 3],
    leaves: Vec<Leaf>,
    unaware_until: Option<UnixTime>,
    done: bool,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The engine asks, and does what it is told.
    Drive,
    /// A verifier takes what is pushed.
    Take(usize),
    /// The agent renews one of its own.
    Renew(usize),
    /// Somebody gets a leaf for so long.
    Issue(u8),
    Pass(u8),
}

impl World {
    fn new() -> Self {
        let trusts = [true, false];
        let own = |_| Leaf { root: 0, until: i64::MAX, ours: true, trusts };
        Self {
            now: 0,
            edge: Some(Edge::Add),
            verifiers: [Verifier { trusts }; 3],
            leaves: (0..3).map(own).collect(),
            unaware_until: None,
            done: false,
        }
    }

    fn pushed(&self) -> Roots {
        match self.edge {
            Some(edge) => [edge.trusts_old(), edge.trusts_new()],
            None => [false, true],
        }
    }

    fn signer(&self) -> usize {
        usize::from(self.edge.is_none_or(Edge::signs_with_new))
    }

    fn last(&self, root: usize) -> Option<UnixTime> {
        let others = self.leaves.iter().filter(|leaf| !leaf.ours && leaf.root == root);
        others.map(|leaf| UnixTime(leaf.until)).max()
    }

    fn act(&mut self, event: Event) {
        match event {
            Event::Drive => self.drive(),
            Event::Take(at) => self.verifiers[at % 3].trusts = self.pushed(),
            Event::Renew(at) => {
                let (root, trusts) = (self.signer(), self.pushed());
                let mut ours: Vec<_> = self.leaves.iter_mut().filter(|leaf| leaf.ours).collect();
                let at = at % ours.len();
                (ours[at].root, ours[at].trusts) = (root, trusts);
            }
            Event::Issue(life) => {
                let (root, trusts) = (self.signer(), self.pushed());
                self.leaves.push(Leaf { root, until: self.now + i64::from(life), ours: false, trusts });
            }
            Event::Pass(time) => self.now += i64::from(time),
        }
        let now = self.now;
        self.leaves.retain(|leaf| leaf.ours || leaf.until >= now);
    }

    fn drive(&mut self) {
        let Some(edge) = self.edge else { return };
        let pushed = self.pushed();
        // Whoever is told by files gets them with a leaf of his own.
        let stale = self.leaves.iter().filter(|leaf| leaf.ours && leaf.trusts != pushed).count();
        let facts = Facts {
            behind: self.verifiers.iter().filter(|verifier| verifier.trusts != pushed).count() + stale,
            ours: self.leaves.iter().filter(|leaf| leaf.ours && leaf.root == 0).count(),
            unaware_until: self.unaware_until,
            others_until: self.last(0),
            clock_in_doubt: false,
        };
        if next(edge, &facts, UnixTime(self.now)) == Step::Take {
            if edge == Edge::Add {
                self.unaware_until = self.last(0);
            }
            self.edge = edge.next();
            self.done |= self.edge.is_none();
        }
    }

    /// Whoever holds a leaf that has not ended is trusted by every proxy, and trusts every leaf that a proxy shows.
    fn check(&self) -> Result<(), TestCaseError> {
        for leaf in &self.leaves {
            let all = self.verifiers.iter().all(|verifier| verifier.trusts[leaf.root]);
            prop_assert!(all, "{leaf:?} is refused at {:?}: {:?}", self.edge, self.verifiers);
            for shown in self.leaves.iter().filter(|leaf| leaf.ours) {
                prop_assert!(leaf.trusts[shown.root], "{leaf:?} refuses {shown:?} at {:?}", self.edge);
            }
        }
        Ok(())
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Drive),
        3 => (0..3usize).prop_map(Event::Take),
        3 => (0..3usize).prop_map(Event::Renew),
        1 => any::<u8>().prop_map(Event::Issue),
        2 => any::<u8>().prop_map(Event::Pass),
    ]
}

proptest! {
    #[test]
    fn nobody_is_refused_whatever_comes_when_and_it_comes_to_an_end(events in prop::collection::vec(event(), 0..300)) {
        let mut world = World::new();
        for event in events {
            world.act(event);
            world.check()?;
        }
        for _ in 0..40 {
            for event in [0, 1, 2].into_iter().flat_map(|at| [Event::Take(at), Event::Renew(at)]) {
                world.act(event);
                world.check()?;
            }
            world.act(Event::Drive);
            world.act(Event::Pass(u8::MAX));
            world.check()?;
        }
        prop_assert!(world.done, "stuck at {:?}", world.edge);
    }
}
