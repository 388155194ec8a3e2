//! Whose turn it is to be looked at: of thousands of certificates few have anything to do at a time.
//!
//! Something that happens to a certificate gives it a turn at once, and so does the time at which its next step is due. Beside
//! that each has its turn now and then, for what nobody tells of: a clock that was set, a directory that somebody wrote to.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Bound;

use portcullis_policy::UnixTime;

/// Certificates that a beat looks at. Of more, it is the turn of each once in so many beats: sixty thousand are looked at within
/// the minute in which a jump of the clock has to be noticed.
const A_BEAT: usize = 1_000;

/// Who is to be looked at next.
#[derive(Debug)]
pub(super) struct Turns {
    /// Everybody, whoever that is by then.
    everybody: bool,
    stirred: BTreeSet<String>,
    /// Of very many, up to whom they were looked at by the last beat.
    until: Option<String>,
    /// When the next step of some is due that would have to wait for their turn.
    wakes: BTreeSet<(UnixTime, String)>,
}

impl Turns {
    /// Everybody, to begin with.
    pub(super) const fn new() -> Self {
        Self { everybody: true, stirred: BTreeSet::new(), until: None, wakes: BTreeSet::new() }
    }

    /// Something happened that may be about anybody.
    pub(super) fn stir_all(&mut self) {
        self.everybody = true;
    }

    /// Something happened to this one.
    pub(super) fn stir(&mut self, name: &str) {
        if !self.everybody {
            self.stirred.insert(name.to_owned());
        }
    }

    /// A beat passed: it is everybody's turn, or of very many that of the next ones and of those whose time has come.
    pub(super) fn beat<T>(&mut self, idle: &BTreeMap<String, T>, now: UnixTime) {
        if idle.len() <= A_BEAT {
            self.wakes.clear();
            self.everybody = true;
        }
        if self.everybody {
            return;
        }
        while let Some((at, _)) = self.wakes.first() {
            if *at > now {
                break;
            }
            if let Some((_, name)) = self.wakes.pop_first() {
                self.stirred.insert(name);
            }
        }
        let after = self.until.take().map_or(Bound::Unbounded, Bound::Excluded);
        let next = idle.range::<String, _>((after, Bound::Unbounded)).take(A_BEAT).map(|(name, _)| name.clone());
        let next: Vec<String> = next.collect();
        // After the last comes the first.
        self.until = next.last().filter(|_| next.len() == A_BEAT).cloned();
        self.stirred.extend(next);
    }

    /// Its next step is due then: it has its turn at that time, if it had to wait for it longer otherwise.
    pub(super) fn wake(&mut self, name: &str, at: UnixTime, now: UnixTime, count: usize) {
        let round = i64::try_from(count / A_BEAT).unwrap_or(i64::MAX);
        if count > A_BEAT && at.0 <= now.0.saturating_add(round.saturating_add(1)) {
            self.wakes.insert((at, name.to_owned()));
        }
    }

    /// Whose turn it is. Nobody's, from now on.
    pub(super) fn take<T>(&mut self, idle: &BTreeMap<String, T>) -> Vec<String> {
        let stirred = std::mem::take(&mut self.stirred);
        if std::mem::take(&mut self.everybody) { idle.keys().cloned().collect() } else { stirred.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_000_000);

    fn idle(count: usize) -> BTreeMap<String, ()> {
        (0..count).map(|number| (format!("{number:06}"), ())).collect()
    }

    #[test]
    fn of_few_it_is_everybodys_turn_at_each_beat() {
        let (idle, mut turns) = (idle(A_BEAT), Turns::new());
        assert_eq!(turns.take(&idle).len(), A_BEAT, "to begin with");
        assert!(turns.take(&idle).is_empty(), "nothing happened since");
        turns.stir("000007");
        turns.stir("000007");
        assert_eq!(turns.take(&idle), ["000007"]);
        turns.beat(&idle, NOW);
        assert_eq!(turns.take(&idle).len(), A_BEAT);
    }

    #[test]
    fn of_very_many_each_has_its_turn_once_in_a_round() {
        let (idle, mut turns) = (idle(3 * A_BEAT + 7), Turns::new());
        turns.take(&idle);
        let mut seen = Vec::new();
        for beat in 0..4 {
            turns.beat(&idle, NOW);
            let next = turns.take(&idle);
            assert!(next.len() <= A_BEAT, "{beat}: {}", next.len());
            seen.extend(next);
        }
        assert!(seen.iter().eq(idle.keys()), "each once, in a round of four beats");
        turns.beat(&idle, NOW);
        assert_eq!(turns.take(&idle).first(), Some(&"000000".to_owned()), "and from the first again");
    }

    #[test]
    fn who_comes_and_goes_meanwhile_makes_nobody_miss_a_turn() {
        let (mut idle, mut turns) = (idle(3 * A_BEAT), Turns::new());
        turns.take(&idle);
        turns.beat(&idle, NOW);
        let last = turns.take(&idle).pop().expect("a thousand");
        // The one where the beat ended is being worked on, and the one after it is not configured any more.
        idle.remove(&last);
        idle.remove(&format!("{A_BEAT:06}"));
        idle.insert(format!("{A_BEAT:06}x"), ());
        let mut seen = Vec::new();
        for _ in 0..3 {
            turns.beat(&idle, NOW);
            seen.extend(turns.take(&idle));
        }
        let missed: Vec<_> = idle.keys().skip(A_BEAT).filter(|name| !seen.contains(name)).collect();
        assert!(missed.is_empty(), "{missed:?}");
    }

    #[test]
    fn a_round_that_ends_with_a_whole_beat_begins_again() {
        let (idle, mut turns) = (idle(2 * A_BEAT), Turns::new());
        turns.take(&idle);
        for _ in 0..5 {
            turns.beat(&idle, NOW);
            turns.take(&idle);
        }
        turns.beat(&idle, NOW);
        let count = turns.take(&idle).len();
        turns.beat(&idle, NOW);
        assert!(count + turns.take(&idle).len() >= A_BEAT, "no two beats in a row are empty");
    }

    #[test]
    fn who_is_due_does_not_wait_for_a_turn() {
        let (idle, mut turns) = (idle(20 * A_BEAT), Turns::new());
        turns.take(&idle);
        let last = idle.keys().next_back().expect("many").clone();
        turns.wake(&last, UnixTime(NOW.0 + 5), NOW, idle.len());
        // This one comes to its turn before.
        turns.wake("000000", UnixTime(NOW.0 + 3_600), NOW, idle.len());
        assert_eq!(turns.wakes.len(), 1);
        turns.beat(&idle, UnixTime(NOW.0 + 4));
        assert!(!turns.take(&idle).contains(&last), "not yet");
        turns.beat(&idle, UnixTime(NOW.0 + 5));
        assert!(turns.take(&idle).contains(&last));
        assert!(turns.wakes.is_empty(), "once");
    }

    #[test]
    fn what_happens_to_everybody_is_everybodys_turn() {
        let (idle, mut turns) = (idle(2 * A_BEAT), Turns::new());
        turns.take(&idle);
        turns.stir("000001");
        turns.stir_all();
        turns.stir("000002");
        turns.beat(&idle, NOW);
        assert_eq!(turns.take(&idle).len(), 2 * A_BEAT);
        assert!(turns.take(&idle).is_empty());
    }
}
