//! What a credential that rotates needs next: a password, a token, a lease, a ring of keys.
//!
//! A rotation goes *make, set, test, switch, publish, prove*; what it replaced stays good for an overlap and is retired apart
//! from it. The edges are those of certificates ([`crate::rotation::Edge`]): `journal` makes the value and writes it down,
//! `obtain` sets it where it is checked (or asks its source for it), `check` logs in with it, `stage` makes it the current one,
//! `install` publishes it, `prove` sees every consumer have it, `retire` takes the old one away.
//!
//! Absent: the value, and how a step is taken. Time and draws are arguments.

use serde::Deserialize;
use serde::Serialize;

use crate::rotation::Edge;
use crate::rotation::Seen;
use crate::rotation::State;
use crate::schedule;
use crate::schedule::Validity;
use crate::time::UnixTime;

/// How a new value takes the place of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Made here and set on a target: after a failure the same value is set again.
    Made,
    /// Given by a source: after a bad answer it is asked for anew.
    Given,
    /// A key of a ring: everybody has it before anybody uses it.
    Ring,
}

/// Why a rotation, or a repeated publication, began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// The configuration asks for another one.
    ConfigurationChanged,
    /// The schedule says so.
    Due,
    /// The end is so near that the schedule no longer counts.
    Emergency,
    /// It has ended.
    Expired,
    /// There is none.
    Missing,
    /// A place does not hold what is current: publish again, make nothing.
    NotPublished,
    /// A proxy said no to it.
    Refused,
    /// The target does not let it in any more: somebody changed it, or the target forgot it.
    LoginRefused,
    /// Somebody asked.
    Requested,
    /// The source has another one by now.
    SourceChanged,
}

impl Cause {
    /// The stable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigurationChanged => "configuration_changed",
            Self::Due => "due",
            Self::Emergency => "emergency",
            Self::Expired => "expired",
            Self::LoginRefused => "login_refused",
            Self::Missing => "missing",
            Self::NotPublished => "not_published",
            Self::Refused => "refused",
            Self::Requested => "requested",
            Self::SourceChanged => "source_changed",
        }
    }

    /// Whether it needs a new value.
    pub const fn makes(self) -> bool {
        !matches!(self, Self::NotPublished)
    }

    const fn is_of_the_clock(self) -> bool {
        matches!(self, Self::Due | Self::Emergency | Self::Expired)
    }
}

/// A rotation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// Why.
    pub cause: Cause,
    /// The edge being taken.
    pub edge: Edge,
}

/// How taking an edge came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Done,
    /// Not: wait, try again.
    Failed,
    /// A proxy said no: wait, and make another.
    Refused,
}

impl Flight {
    /// At its first edge.
    pub const fn begin(cause: Cause) -> Self {
        Self { cause, edge: if cause.makes() { Edge::Journal } else { Edge::Install } }
    }

    /// What to write down after the edge was taken; `None` when the rotation is over.
    #[must_use]
    pub const fn after(self, outcome: Outcome, kind: Kind) -> Option<Self> {
        let edge = match (outcome, self.edge, kind) {
            (Outcome::Refused, ..) => return Some(Self::begin(Cause::Refused)),
            (Outcome::Done, Edge::Journal, _) => Edge::Obtain,
            (Outcome::Done, Edge::Obtain, _) => Edge::Check,
            // Everybody gets a key before it is used, and a value before others may log in with it no more.
            (Outcome::Done, Edge::Check, Kind::Ring) => Edge::Install,
            (Outcome::Done, Edge::Check, _) => Edge::Stage,
            (Outcome::Done, Edge::Install, _) => Edge::Prove,
            (Outcome::Done, Edge::Prove, Kind::Ring) if self.cause.makes() => Edge::Stage,
            (Outcome::Done, Edge::Stage, Kind::Ring) => return None,
            (Outcome::Done, Edge::Stage, _) => Edge::Install,
            (Outcome::Done, Edge::Prove | Edge::Retire, _) => return None,
            // What the target holds may not be what was set: the same value is set again.
            (Outcome::Failed, Edge::Check, Kind::Made | Kind::Ring) => Edge::Obtain,
            (Outcome::Failed, Edge::Check, Kind::Given) => Edge::Journal,
            (Outcome::Failed, Edge::Prove, _) => Edge::Install,
            (Outcome::Failed, edge, _) => edge,
        };
        Some(Self { cause: self.cause, edge })
    }
}

/// The value that consumers use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current {
    /// When it was made, or when its end was last put off: how soon an end is near is a matter of what it had then.
    pub since: UnixTime,
    /// When it ends by itself, if it does.
    pub not_after: Option<UnixTime>,
    /// Chosen once, when it was made.
    pub rotate_at: UnixTime,
    /// When its end is to be put off, where its source can do that.
    pub extend_at: Option<UnixTime>,
}

impl Current {
    fn has_ended(&self, now: UnixTime) -> bool {
        self.not_after.is_some_and(|end| now > end)
    }

    /// Whether there is no use in going on with it.
    fn is_over(&self, now: UnixTime) -> bool {
        self.has_ended(now) || self.emergency_at().is_some_and(|at| now >= at)
    }

    fn is_to_be_extended(&self, now: UnixTime) -> bool {
        self.extend_at.is_some_and(|at| now >= at) && !self.has_ended(now) && now < self.rotate_at
    }

    fn emergency_at(&self) -> Option<UnixTime> {
        let not_after = self.not_after?;
        Some(schedule::emergency_at(Validity { not_before: self.since, not_after }))
    }
}

/// What the store says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The value in use.
    pub current: Option<Current>,
    /// The value that is to take its place, once it is made.
    pub next: Option<Current>,
    /// The rotation under way.
    pub flight: Option<Flight>,
    /// The end of the overlap of what was replaced and is not retired yet: the earliest, where there are several.
    pub overlap_until: Option<UnixTime>,
    /// Not before this instant, after failures.
    pub retry_at: Option<UnixTime>,
}

/// When what was replaced is retired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retire {
    /// When the overlap is over, whoever still uses it.
    #[default]
    AfterOverlap,
    /// When nobody uses it any more, and not before the overlap is over.
    WhenMoved,
}

/// Whether consumers have left what was replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moved {
    /// They have.
    Yes,
    /// Some use it still.
    No,
    /// The target cannot say: the overlap decides.
    #[default]
    Unknown,
}

/// What is true now and not in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// How the new takes the place of the old.
    pub kind: Kind,
    /// Whether a new value needs the place of what was replaced: of two accounts that alternate, the other one.
    pub needs_place: bool,
    /// When what was replaced is retired.
    pub retire: Retire,
    /// Whether anybody uses what was replaced.
    pub moved: Moved,
    /// Whether the current value is not what the configuration asks for.
    pub is_other: bool,
    /// The target does not let the current value in any more.
    pub login_refused: bool,
    /// Somebody asked for a rotation.
    pub requested: bool,
    /// The source has another value by now.
    pub source_changed: bool,
    /// Whether there is to be one now: one that is made on first use is not wanted before, nor after it lay idle.
    pub wanted: bool,
    /// The places it is published at.
    pub seen: Seen,
    /// The clock jumped a moment ago, and may jump back.
    pub clock_in_doubt: bool,
    /// Until then no planned rotation begins.
    pub closed_until: Option<UnixTime>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write [`Flight::begin`] down and ask again.
    Begin(Cause),
    /// Take the edge of the flight.
    Take(Edge),
    /// Have the end of the current value put off.
    Extend,
    /// Take away what was replaced and whose overlap is over.
    Retire,
    /// Give the current value back: nobody wants it any more.
    GiveBack,
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
    /// A failure's back-off.
    BackOff,
    /// The clock to be believed again.
    Clock,
    /// A time at which a rotation that is due may begin.
    Closed,
    /// Somebody to use it.
    FirstUse,
    /// Consumers to leave what was replaced, whose place the next value needs.
    Overlap,
    /// The next rotation.
    Rotation,
}

impl Wait {
    /// The stable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BackOff => "back_off",
            Self::Clock => "clock",
            Self::Closed => "closed",
            Self::FirstUse => "first_use",
            Self::Overlap => "overlap",
            Self::Rotation => "rotation",
        }
    }
}

/// The state as people and metrics see it.
pub fn state(record: &Record) -> State {
    match record.flight {
        Some(flight) => flight.edge.from(),
        None if record.overlap_until.is_some() => State::Served,
        None if record.current.is_some() => State::Retired,
        None => State::Planned,
    }
}

/// The next step. Pure: equal arguments, equal answer. Ask again after every step, whenever a fact changes and at the latest
/// when `until` of a [`Step::Wait`] has come.
pub fn next(record: &Record, facts: &Facts, now: UnixTime) -> Step {
    let step = match record.flight {
        None => at_rest(record, facts, now),
        Some(flight) => match in_flight(record, facts, flight, now) {
            Ok(step) => step,
            Err(wait) => return wait,
        },
    };
    match record.retry_at {
        Some(until) if schedule::is_waiting(now, until) && !matches!(step, Step::Wait { .. }) => {
            Step::Wait { until: Some(until), reason: Wait::BackOff }
        }
        _ => step,
    }
}

/// Waits that are no back-off are errors.
fn in_flight(record: &Record, facts: &Facts, flight: Flight, now: UnixTime) -> Result<Step, Step> {
    if flight.edge == Edge::Journal {
        if facts.clock_in_doubt && flight.cause.is_of_the_clock() {
            return Err(Step::Wait { until: None, reason: Wait::Clock });
        }
        if flight.cause == Cause::Due
            && let Some(wait) = closed(record, facts, now)
        {
            return Err(wait);
        }
        if facts.needs_place
            && let Some(until) = record.overlap_until
        {
            // Nobody is served by a value that has ended, or by none.
            let cannot_wait =
                flight.cause == Cause::LoginRefused || record.current.is_none_or(|current| current.is_over(now));
            return if cannot_wait || may_retire(facts, until, now) {
                Ok(Step::Retire)
            } else {
                Err(Step::Wait { until: Some(until), reason: Wait::Overlap })
            };
        }
    }
    // What grew old while nobody could set it is not set any more.
    if matches!(flight.edge, Edge::Obtain | Edge::Check | Edge::Stage)
        && record.next.is_some_and(|next| next.is_over(now))
    {
        return Ok(Step::Begin(flight.cause));
    }
    if let Some(current) = record.current {
        // A consumer that does not take it, or a proxy that says nothing, does not keep the others from the next one.
        let is_current = matches!(flight.edge, Edge::Install | Edge::Prove) && facts.kind != Kind::Ring;
        if is_current && current.has_ended(now) && !facts.clock_in_doubt {
            return Ok(Step::Begin(Cause::Expired));
        }
        if is_current && current.is_over(now) && !facts.clock_in_doubt {
            return Ok(Step::Begin(Cause::Emergency));
        }
        if current.is_to_be_extended(now) {
            return Ok(Step::Extend);
        }
    }
    // Another one at the source: what was got before is of yesterday, and goes nowhere any more.
    if facts.source_changed && matches!(flight.edge, Edge::Check | Edge::Stage) {
        return Ok(Step::Begin(Cause::SourceChanged));
    }
    Ok(Step::Take(flight.edge))
}

fn may_retire(facts: &Facts, until: UnixTime, now: UnixTime) -> bool {
    now >= until && (facts.retire == Retire::AfterOverlap || facts.moved != Moved::No)
}

/// The next step where no rotation is under way. The order of these checks is the order of the causes' precedence.
fn at_rest(record: &Record, facts: &Facts, now: UnixTime) -> Step {
    let retires = record.overlap_until.is_some_and(|until| may_retire(facts, until, now));
    let Some(current) = record.current else {
        return match () {
            () if retires => Step::Retire,
            () if facts.wanted => Step::Begin(Cause::Missing),
            () => Step::Wait { until: record.overlap_until, reason: Wait::FirstUse },
        };
    };
    if !facts.wanted {
        return Step::GiveBack;
    }
    if facts.is_other {
        return Step::Begin(Cause::ConfigurationChanged);
    }
    let expired = current.has_ended(now);
    if expired && !facts.clock_in_doubt {
        return Step::Begin(Cause::Expired);
    }
    if facts.login_refused {
        return Step::Begin(Cause::LoginRefused);
    }
    if facts.requested {
        return Step::Begin(Cause::Requested);
    }
    if facts.source_changed {
        return Step::Begin(Cause::SourceChanged);
    }
    let emergency = current.emergency_at().is_some_and(|at| now >= at);
    if current.is_to_be_extended(now) {
        return Step::Extend;
    }
    if (expired || emergency || now >= current.rotate_at) && facts.clock_in_doubt {
        return Step::Wait { until: None, reason: Wait::Clock };
    }
    if emergency {
        return Step::Begin(Cause::Emergency);
    }
    let wait = closed(record, facts, now).filter(|_| now >= current.rotate_at);
    if now >= current.rotate_at && wait.is_none() {
        return Step::Begin(Cause::Due);
    }
    // After all that keeps consumers let in: what cannot be retired holds up nothing.
    if retires {
        return Step::Retire;
    }
    if let Some(wait) = wait {
        return wait;
    }
    if facts.seen == Seen::Other {
        return Step::Begin(Cause::NotPublished);
    }
    let times = [Some(current.rotate_at), current.emergency_at(), current.extend_at, record.overlap_until];
    let until = times.into_iter().flatten().filter(|at| *at > now).min();
    Step::Wait { until, reason: Wait::Rotation }
}

/// The wait of what is due and may not begin yet. It ends with the emergency at the latest.
fn closed(record: &Record, facts: &Facts, now: UnixTime) -> Option<Step> {
    let emergency = record.current?.emergency_at();
    let until = facts.closed_until.filter(|until| now < *until && emergency.is_none_or(|at| now < at))?;
    let until = emergency.map_or(until, |at| until.min(at));
    Some(Step::Wait { until: Some(until), reason: Wait::Closed })
}

/// Chooses when to rotate a value that was made `now`. Call it once, and store the answer: a share of its life, up to a twentieth
/// of it earlier, so that the values of many consumers do not rotate together.
pub fn rotate_at(now: UnixTime, lifetime: i64, after: schedule::Share, draw: u32) -> UnixTime {
    let not_after = UnixTime(now.0.saturating_add(lifetime.max(1)));
    schedule::renew_at(Validity { not_before: now, not_after }, after, draw).max(UnixTime(now.0.saturating_add(1)))
}

/// Chooses when to have the end of a lease put off: after half of what it has, so that there is time to fail.
pub fn extend_at(now: UnixTime, end: UnixTime) -> UnixTime {
    UnixTime(now.0.saturating_add((end.0.saturating_sub(now.0) / 2).max(1)))
}

/// Whether putting the end of a lease off gained anything: a lease near its longest life gets less and less, and is replaced
/// while it still has some.
pub fn is_extended(asked_at: UnixTime, before: UnixTime, after: UnixTime, lasted: i64) -> bool {
    after > before && after.0.saturating_sub(asked_at.0) >= lasted.saturating_mul(2) / 3
}

#[cfg(test)]
mod tests;
