//! How one root of a CA follows another without anybody being refused: in which order, when the next step may be taken, and
//! what an operator may not do in between. One pure function over what is written down, what is seen, and the time.
//!
//! The order is: the new root is **added** to what everybody trusts; that is seen everywhere; leaves are signed by it
//! (**switched**); the last leaf under the old one ends (**waiting**); the old one is **removed**. At each moment, whoever holds a
//! leaf that has not ended is trusted by everybody whose bundle the agent knows.
//!
//! The record in the store names the [`Edge`] that is being taken, and is written before: whoever finds it after a crash takes
//! the same edge again. Absent: keys, files, proxies, the clock.

use serde::Deserialize;
use serde::Serialize;

use crate::schedule::Share;
use crate::schedule::Validity;
use crate::time::UnixTime;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// Make the new root and keep it beside the old one.
    Add,
    /// Have both in every bundle, and see that everybody took it.
    Spread,
    /// Have leaves signed by the new root.
    Switch,
    /// Let the last leaf under the old root end.
    Wait,
    /// Have the old root in no bundle, see that everybody took that, and destroy its key.
    Remove,
}

impl Edge {
    /// Every edge, in order.
    pub const ALL: [Self; 5] = [Self::Add, Self::Spread, Self::Switch, Self::Wait, Self::Remove];

    /// The name in the status, the metrics and the failpoints.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Spread => "spread",
            Self::Switch => "switch",
            Self::Wait => "wait",
            Self::Remove => "remove",
        }
    }

    /// The edge after it; none after the last.
    pub const fn next(self) -> Option<Self> {
        match self {
            Self::Add => Some(Self::Spread),
            Self::Spread => Some(Self::Switch),
            Self::Switch => Some(Self::Wait),
            Self::Wait => Some(Self::Remove),
            Self::Remove => None,
        }
    }

    /// Whether bundles have the old root while the edge is taken.
    pub const fn trusts_old(self) -> bool {
        !matches!(self, Self::Remove)
    }

    /// Whether bundles have the new root while the edge is taken.
    pub const fn trusts_new(self) -> bool {
        !matches!(self, Self::Add)
    }

    /// Whether leaves are signed by the new root while the edge is taken.
    pub const fn signs_with_new(self) -> bool {
        matches!(self, Self::Wait | Self::Remove)
    }
}

/// What is true now and not in the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Bundles that not every proxy took yet as they are now, and files that do not have it yet.
    pub behind: usize,
    /// Certificates of the agent's own that are under the old root, or whose successor was not seen in use yet.
    pub ours: usize,
    /// The last second of what others were issued before the new root was added: who holds it may know the old root only. None
    /// if there is none, or if somebody vouched for them.
    pub unaware_until: Option<UnixTime>,
    /// The last second of what others were issued under the old root; none if there is none.
    pub others_until: Option<UnixTime>,
    /// The clock jumped a moment ago, and may jump back: nothing has ended by its word.
    pub clock_in_doubt: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take the edge, and write the one after it down.
    Take,
    /// Nothing to do. Ask again at `until`, or when a fact changes.
    Wait {
        /// When time alone changes the answer.
        until: Option<UnixTime>,
        /// What is waited for.
        reason: Wait,
    },
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// So many bundles and directories that do not have what they should yet.
    Behind(usize),
    /// The clock to be believed again.
    Clock,
    /// The end of what others were issued under the old root.
    Others,
    /// So many certificates of the agent's own to be replaced.
    Ours(usize),
    /// The end of what others were issued before the new root was added: with their next certificate they get both roots.
    Unaware,
}

/// The next step. Pure: equal arguments, equal answer. Ask again after every step, whenever a fact changes and at the latest when
/// `until` of a [`Step::Wait`] has come.
pub fn next(edge: Edge, facts: &Facts, now: UnixTime) -> Step {
    let alive = |until: Option<UnixTime>| until.filter(|until| now <= *until || facts.clock_in_doubt);
    let ending = |until: UnixTime, reason| {
        let reason = if now <= until { reason } else { Wait::Clock };
        Step::Wait { until: Some(UnixTime(until.0.saturating_add(1))), reason }
    };
    match edge {
        Edge::Add => Step::Take,
        Edge::Spread | Edge::Switch if facts.behind > 0 => behind(facts),
        Edge::Spread | Edge::Switch => match alive(facts.unaware_until) {
            Some(until) => ending(until, Wait::Unaware),
            None => Step::Take,
        },
        Edge::Wait if facts.ours > 0 => Step::Wait { until: None, reason: Wait::Ours(facts.ours) },
        Edge::Wait => match alive(facts.others_until) {
            Some(until) => ending(until, Wait::Others),
            None => Step::Take,
        },
        Edge::Remove if facts.behind > 0 => behind(facts),
        Edge::Remove => Step::Take,
    }
}

fn behind(facts: &Facts) -> Step {
    Step::Wait { until: None, reason: Wait::Behind(facts.behind) }
}

/// When the schedule wants a root followed by another.
pub fn due_at(root: Validity, after: Share) -> UnixTime {
    UnixTime(root.not_before.0.saturating_add(after.of(root.lifetime())))
}

/// What an operator may not do now. Whatever it is, nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another succession has not ended.
    UnderWay(Edge),
    /// Leaves are signed by this root, and there is no other that could.
    Signs,
    /// Certificates of the agent's own under it are in use.
    Ours(usize),
    /// What others were issued under it has not ended.
    Others(UnixTime),
    /// It is about to be removed anyway.
    Going,
}

/// Whether a new root may be added now.
///
/// # Errors
///
/// [`Refusal::UnderWay`]: two at once would make three roots, and nobody could say which leaf needs which.
pub fn may_add(under_way: Option<Edge>) -> Result<(), Refusal> {
    under_way.map_or(Ok(()), |edge| Err(Refusal::UnderWay(edge)))
}

/// A root that an operator wants to be rid of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that is followed, or the only one.
    Old,
    /// The one that follows.
    New,
}

/// Whether a root may be removed now. `ours` and `others_until` are about leaves under it.
///
/// # Errors
///
/// [`Refusal`]. Somebody would not be trusted any more whose certificate has not ended.
pub fn may_remove(
    role: Role,
    under_way: Option<Edge>,
    ours: usize,
    others_until: Option<UnixTime>,
    now: UnixTime,
) -> Result<(), Refusal> {
    let Some(edge) = under_way else { return Err(Refusal::Signs) };
    let signs = match role {
        Role::Old => !edge.signs_with_new(),
        Role::New => edge.signs_with_new(),
    };
    if signs {
        return Err(Refusal::Signs);
    }
    if ours > 0 {
        return Err(Refusal::Ours(ours));
    }
    if let Some(until) = others_until.filter(|until| now <= *until) {
        return Err(Refusal::Others(until));
    }
    if edge == Edge::Remove { Err(Refusal::Going) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
