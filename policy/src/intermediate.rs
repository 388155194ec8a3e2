//! When the intermediate of a CA is replaced by another, and from when on leaves are signed by it. One pure function over what is
//! there and the time.
//!
//! Another one is made, or asked for where the root's key is kept elsewhere, after a share of the life of the newest. Leaves are
//! signed by it once every proxy has what it needs to judge them (its revocation list); with little left of the one before, at
//! once. Absent: keys, files, proxies, the clock.

use crate::schedule::Share;
use crate::schedule::Validity;
use crate::succession::due_at;
use crate::time::UnixTime;

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Of the newest intermediate; none if there is none yet.
    pub newest: Option<Validity>,
    /// Whether leaves are signed by it.
    pub is_used: bool,
    /// Of the one that signs until then; none where the root itself does.
    pub older: Option<Validity>,
    /// Bundles that not every proxy took yet as they are now.
    pub behind: usize,
    /// Whether the root's key is at hand.
    pub has_root_key: bool,
    /// The root's last second.
    pub root_until: UnixTime,
    /// Whether the policy believes only what this root itself signed, and it has signed everything so far.
    pub is_named: bool,
    /// The clock jumped a moment ago, and may jump back.
    pub clock_in_doubt: bool,
    /// Whether an operator wants another one now.
    pub is_wanted: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Have the root sign another one.
    Make,
    /// Ask for another one: somebody else has the root's key.
    Ask,
    /// Have leaves signed by the newest.
    Switch,
    /// Nothing to do. Ask again at `until`, or when a fact changes.
    Wait {
        /// When time alone changes the answer.
        until: Option<UnixTime>,
        /// What is waited for.
        reason: Wait,
    },
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// So many bundles that not every proxy took yet.
    Behind(usize),
    /// The clock to be believed again.
    Clock,
    /// The share of the newest one's life.
    Due,
    /// The policy to believe what is below the root.
    Policy,
    /// Another root: this one ends with the intermediate, or before.
    Root,
}

/// The next step. Pure: equal arguments, equal answer.
pub fn next(facts: &Facts, after: Share, now: UnixTime) -> Step {
    let wait = |reason| Step::Wait { until: None, reason };
    let another = if facts.has_root_key { Step::Make } else { Step::Ask };
    if now >= facts.root_until {
        return wait(Wait::Root);
    }
    let Some(newest) = facts.newest else {
        return if facts.is_named && facts.has_root_key { wait(Wait::Policy) } else { another };
    };
    if newest.has_ended(now) {
        return another;
    }
    if !facts.is_used {
        let late = facts.older.map(|older| late_at(older, after));
        return if facts.behind == 0 || late.is_some_and(|late| now >= late) {
            Step::Switch
        } else {
            Step::Wait { until: late, reason: Wait::Behind(facts.behind) }
        };
    }
    if facts.is_wanted {
        return another;
    }
    // Nothing would be gained by another one that ends with the root as well.
    if newest.not_after >= facts.root_until {
        return wait(Wait::Root);
    }
    let due = due_at(newest, after);
    if now < due {
        return Step::Wait { until: Some(due), reason: Wait::Due };
    }
    if facts.clock_in_doubt { wait(Wait::Clock) } else { another }
}

/// From when on a successor is used whatever a proxy has not taken yet: half of what was left when it was due is over.
fn late_at(older: Validity, after: Share) -> UnixTime {
    let due = due_at(older, after);
    let left = older.not_after.0.saturating_sub(due.0).max(0);
    UnixTime(due.0.saturating_add(left / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Validity = Validity { not_before: UnixTime(0), not_after: UnixTime(1_000) };
    const NEXT: Validity = Validity { not_before: UnixTime(500), not_after: UnixTime(1_500) };

    fn facts() -> Facts {
        Facts {
            newest: Some(LIFE),
            is_used: true,
            older: None,
            behind: 0,
            has_root_key: true,
            root_until: UnixTime(100_000),
            is_named: false,
            clock_in_doubt: false,
            is_wanted: false,
        }
    }

    #[test]
    fn each_situation_has_its_step() {
        let wait = |reason| Step::Wait { until: None, reason };
        let due = Step::Wait { until: Some(UnixTime(500)), reason: Wait::Due };
        let behind = Step::Wait { until: Some(UnixTime(750)), reason: Wait::Behind(1) };
        let succeeded = Facts { newest: Some(NEXT), is_used: false, older: Some(LIFE), ..facts() };
        let none = Facts { newest: None, ..facts() };
        let cases = [
            ("none yet", none, 0, Step::Make),
            ("none yet, the key is elsewhere", Facts { has_root_key: false, ..none }, 0, Step::Ask),
            ("none yet, and the policy names the root", Facts { is_named: true, ..none }, 0, wait(Wait::Policy)),
            ("named, but nothing else can sign", Facts { is_named: true, has_root_key: false, ..none }, 0, Step::Ask),
            ("young", facts(), 499, due),
            ("an operator cannot wait", Facts { is_wanted: true, ..facts() }, 1, Step::Make),
            ("due", facts(), 500, Step::Make),
            ("due, the key is elsewhere", Facts { has_root_key: false, ..facts() }, 500, Step::Ask),
            ("due by a clock in doubt", Facts { clock_in_doubt: true, ..facts() }, 500, wait(Wait::Clock)),
            ("ended, whatever the clock", Facts { clock_in_doubt: true, ..facts() }, 1_001, Step::Make),
            ("followed, and everybody took that", succeeded, 510, Step::Switch),
            ("followed, and somebody is behind", Facts { behind: 1, ..succeeded }, 510, behind),
            (
                "the first, and the root signs as long as somebody is behind",
                Facts { behind: 1, older: None, ..succeeded },
                1_400,
                wait(Wait::Behind(1)),
            ),
            ("followed, behind for too long", Facts { behind: 1, ..succeeded }, 750, Step::Switch),
            ("ends with its root", Facts { root_until: UnixTime(1_000), ..facts() }, 900, wait(Wait::Root)),
            ("the root has ended", Facts { root_until: UnixTime(900), ..facts() }, 900, wait(Wait::Root)),
        ];
        let half = Share::new(0.5).expect("a share");
        for (name, facts, now, want) in cases {
            assert_eq!(next(&facts, half, UnixTime(now)), want, "{name}");
        }
    }
}
