//! What a rotating certificate needs next: one pure function over what is stored, what is seen, and the time.
//!
//! A rotation goes `planned → journalled → obtained → checked → staged → installed → served → retired`. The record in the
//! store names the *edge* that is being taken, and is written before the edge is taken: whoever finds the record after a
//! crash takes the same edge again. So every edge must be safe to take twice, and the issuer must answer one journalled
//! request with one certificate, however often it is asked.
//!
//! Absent: keys, names, files, the clock. The caller carries the step out, reports with [`Flight::after`], and writes
//! down what that returns.

use serde::Deserialize;
use serde::Serialize;

use crate::schedule::Validity;
use crate::schedule::emergency_at;
use crate::schedule::is_waiting;
use crate::time::UnixTime;

/// How far a rotation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A cause to rotate was written down.
    Planned,
    /// The new key and everything else that is to be signed was written down.
    Journalled,
    /// The issuer has answered.
    Obtained,
    /// The answer is what a peer would accept; it is the stored certificate from here on.
    Checked,
    /// It lies beside the old one, ready to take its place.
    Staged,
    /// Every target has taken it.
    Installed,
    /// It was seen in use.
    Served,
    /// What it replaced is gone.
    Retired,
}

impl State {
    /// The name in the status, the audit log and the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Journalled => "journalled",
            Self::Obtained => "obtained",
            Self::Checked => "checked",
            Self::Staged => "staged",
            Self::Installed => "installed",
            Self::Served => "served",
            Self::Retired => "retired",
        }
    }
}

/// The way from one state to the next. The record holds the edge that is being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// Make the key, fix what is to be signed.
    Journal,
    /// Ask the issuer.
    Obtain,
    /// Look at the answer as a peer would.
    Check,
    /// Lay it beside the old one.
    Stage,
    /// Hand it to every target.
    Install,
    /// See it in use.
    Prove,
    /// Remove what it replaced.
    Retire,
}

impl Edge {
    /// Every edge, in order.
    pub const ALL: [Self; 7] =
        [Self::Journal, Self::Obtain, Self::Check, Self::Stage, Self::Install, Self::Prove, Self::Retire];

    /// The name in the status, the audit log and the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Obtain => "obtain",
            Self::Check => "check",
            Self::Stage => "stage",
            Self::Install => "install",
            Self::Prove => "prove",
            Self::Retire => "retire",
        }
    }

    /// The state that this edge leaves.
    pub const fn from(self) -> State {
        match self {
            Self::Journal => State::Planned,
            Self::Obtain => State::Journalled,
            Self::Check => State::Obtained,
            Self::Stage => State::Checked,
            Self::Install => State::Staged,
            Self::Prove => State::Installed,
            Self::Retire => State::Served,
        }
    }

    const fn next(self) -> Option<Self> {
        match self {
            Self::Journal => Some(Self::Obtain),
            Self::Obtain => Some(Self::Check),
            Self::Check => Some(Self::Stage),
            Self::Stage => Some(Self::Install),
            Self::Install => Some(Self::Prove),
            Self::Prove => Some(Self::Retire),
            Self::Retire => None,
        }
    }

    /// Where a failure leads: a bad answer is never asked for again with the same key, what is not served is handed
    /// over again, and everything else is tried again as it is. What was refused is another matter:
    /// [`Outcome::Refused`].
    const fn on_failure(self) -> Self {
        match self {
            Self::Check => Self::Journal,
            Self::Prove => Self::Install,
            Self::Journal | Self::Obtain | Self::Stage | Self::Install | Self::Retire => self,
        }
    }
}

/// Why a rotation, or a repeated delivery, began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// It begins in the future: the clock was ahead when it was issued, and went back.
    ClockWentBack,
    /// The schedule says so.
    Due,
    /// The end is so near that the schedule no longer counts.
    Emergency,
    /// The certificate has ended.
    Expired,
    /// It was issued by a CA that is not the issuer any more.
    IssuerChanged,
    /// There is none.
    Missing,
    /// A name that it was issued without may be good again.
    NamesBack,
    /// The configuration asks for other names or another usage.
    NamesChanged,
    /// A target does not hold what is stored: deliver again, issue nothing.
    NotServed,
    /// A target said no to what is stored: it is not handed to anybody again.
    Refused,
    /// Somebody else made a new one, and put it where it is looked for.
    Offered,
    /// An operator asked.
    Requested,
    /// An operator had the certificate before put in its place: deliver that, issue nothing.
    RolledBack,
    /// The CA's root is followed by another: it is under the old one, or its files do not have the roots of now.
    Root,
    /// What is stored cannot be used: unreadable, or the key is of another certificate.
    Unusable,
}

impl Cause {
    /// The stable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClockWentBack => "clock_went_back",
            Self::Due => "due",
            Self::Emergency => "emergency",
            Self::Expired => "expired",
            Self::IssuerChanged => "issuer_changed",
            Self::Missing => "missing",
            Self::NamesBack => "names_back",
            Self::NamesChanged => "names_changed",
            Self::NotServed => "not_served",
            Self::Offered => "offered",
            Self::Refused => "refused",
            Self::Requested => "requested",
            Self::RolledBack => "rolled_back",
            Self::Root => "root",
            Self::Unusable => "unusable",
        }
    }

    /// Whether it is the clock alone that says so.
    const fn is_of_the_clock(self) -> bool {
        matches!(self, Self::Due | Self::Emergency | Self::Expired)
    }

    /// Whether it needs a new certificate, and not only another delivery of the stored one.
    pub const fn issues(self) -> bool {
        !matches!(self, Self::NotServed | Self::RolledBack)
    }
}

/// A rotation that has begun and not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// Why.
    pub cause: Cause,
    /// The edge being taken.
    pub edge: Edge,
    /// What the issuer answered; known from [`Edge::Check`] on and only there.
    pub obtained: Option<Validity>,
}

/// How taking an edge came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Done,
    /// Not: count it, wait, try again.
    Failed,
    /// A target looked at it and said no: count it, wait, and make another. The same bytes would only be refused again.
    Refused,
}

impl Flight {
    /// A flight at its first edge.
    pub const fn begin(cause: Cause) -> Self {
        let edge = if cause.issues() { Edge::Journal } else { Edge::Stage };
        Self { cause, edge, obtained: None }
    }

    /// What to write down after the edge was taken; `None` when the rotation is over.
    #[must_use]
    pub fn after(self, outcome: Outcome) -> Option<Self> {
        let edge = match outcome {
            Outcome::Done => self.edge.next()?,
            Outcome::Failed => self.edge.on_failure(),
            Outcome::Refused => {
                let cause = if self.cause.issues() { self.cause } else { Cause::Refused };
                return Some(Self::begin(cause));
            }
        };
        Some(Self { edge, obtained: self.obtained.filter(|_| edge == Edge::Check), ..self })
    }
}

/// The stored certificate: the newest that passed its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its validity.
    pub validity: Validity,
    /// Chosen once, at issuance.
    pub renew_at: UnixTime,
}

/// What the store says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The stored certificate.
    pub stored: Option<Stored>,
    /// The rotation under way.
    pub flight: Option<Flight>,
    /// Not before this instant, after failures.
    pub retry_at: Option<UnixTime>,
}

/// Whether the stored certificate is the one that the configuration asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// It is.
    #[default]
    Fits,
    /// Issued by another CA than the issuer's.
    OtherIssuer,
    /// Other names or usage.
    OtherNames,
    /// Good, and under another root than leaves are signed by now, or with other roots beside it in its files.
    OtherRoots,
    /// Unreadable, or not of the stored key.
    Unusable,
}

/// What is seen at the targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seen {
    /// Nothing yet, or nothing that says anything.
    #[default]
    Unknown,
    /// Every target holds the stored certificate.
    Current,
    /// At least one holds another, or an ended one.
    Other,
}

/// What is true now and not in the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The stored certificate against the configuration.
    pub fit: Fit,
    /// The targets.
    pub seen: Seen,
    /// An operator asked for a renewal.
    pub requested: bool,
    /// Somebody else made a new one, which was not looked at yet.
    pub offered: bool,
    /// The clock jumped a moment ago, and may jump back: what it alone makes due waits.
    pub clock_in_doubt: bool,
    /// The last delivery found nobody to deliver to, and nobody has come since.
    pub nobody_listens: bool,
    /// Until then no planned renewal begins: it is outside of its windows, or closed. None where it may begin now.
    pub closed_until: Option<UnixTime>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write [`Flight::begin`] down, in place of any flight there is, and ask again.
    Begin(Cause),
    /// Take the edge of the flight.
    Take(Edge),
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
    /// A time at which a renewal that is due may begin, or the emergency, which asks nobody.
    Closed,
    /// Somebody to deliver to.
    Listener,
    /// The answer's validity to begin; until then it is not handed to anybody.
    NotYetValid,
    /// The next renewal.
    Renewal,
}

impl Wait {
    /// The stable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BackOff => "back_off",
            Self::Clock => "clock",
            Self::Closed => "closed",
            Self::Listener => "listener",
            Self::NotYetValid => "not_yet_valid",
            Self::Renewal => "renewal",
        }
    }
}

/// The next step. Pure: equal arguments, equal answer. Ask again after every step, whenever a fact changes and at the
/// latest when `until` of a [`Step::Wait`] has come.
pub fn next(record: &Record, facts: &Facts, now: UnixTime) -> Step {
    let Some(flight) = record.flight else {
        return at_rest(record, facts, now);
    };
    let step = match flight.edge {
        Edge::Journal | Edge::Obtain if facts.clock_in_doubt && flight.cause.is_of_the_clock() => {
            return Step::Wait { until: None, reason: Wait::Clock };
        }
        Edge::Journal | Edge::Obtain => match closed(record, facts, now).filter(|_| flight.cause == Cause::Due) {
            Some(wait) => return wait,
            None => Step::Take(flight.edge),
        },
        Edge::Check => match flight.obtained {
            None => return Step::Begin(flight.cause),
            Some(validity) if validity.has_ended(now) => return Step::Begin(Cause::Expired),
            // Ahead although the clock is right: it is the issuer's that is not, and another order would only bring
            // another such certificate.
            Some(validity) if validity.is_ahead(now) && flight.cause == Cause::ClockWentBack => {
                return Step::Wait { until: Some(validity.not_before), reason: Wait::NotYetValid };
            }
            Some(validity) if validity.is_ahead(now) => return Step::Begin(Cause::ClockWentBack),
            Some(_) => Step::Take(Edge::Check),
        },
        Edge::Stage | Edge::Install | Edge::Prove => match at_rest(record, facts, now) {
            // A delivery that hangs does not hold up the certificate after it.
            Step::Begin(cause) if cause.issues() => return Step::Begin(cause),
            wait @ Step::Wait { reason: Wait::Clock, .. } => return wait,
            rest if facts.nobody_listens => {
                let until = if let Step::Wait { until, .. } = rest { until } else { None };
                return Step::Wait { until, reason: Wait::Listener };
            }
            _ => Step::Take(flight.edge),
        },
        // Nor does what is left of the one before.
        Edge::Retire => match at_rest(record, facts, now) {
            Step::Begin(cause) if cause.issues() => return Step::Begin(cause),
            _ => Step::Take(Edge::Retire),
        },
    };
    match record.retry_at {
        Some(until) if is_waiting(now, until) => Step::Wait { until: Some(until), reason: Wait::BackOff },
        _ => step,
    }
}

/// The next step where no rotation is under way. The order of these checks is the order of the causes' precedence.
fn at_rest(record: &Record, facts: &Facts, now: UnixTime) -> Step {
    let Some(stored) = record.stored else {
        return Step::Begin(Cause::Missing);
    };
    match facts.fit {
        Fit::Unusable => return Step::Begin(Cause::Unusable),
        Fit::OtherIssuer => return Step::Begin(Cause::IssuerChanged),
        Fit::OtherNames => return Step::Begin(Cause::NamesChanged),
        Fit::Fits | Fit::OtherRoots => {}
    }
    let expired = stored.validity.has_ended(now);
    if expired && !facts.clock_in_doubt {
        return Step::Begin(Cause::Expired);
    }
    if facts.requested {
        return Step::Begin(Cause::Requested);
    }
    if facts.offered {
        return Step::Begin(Cause::Offered);
    }
    if facts.fit == Fit::OtherRoots {
        return Step::Begin(Cause::Root);
    }
    if stored.validity.is_ahead(now) {
        return Step::Begin(Cause::ClockWentBack);
    }
    let emergency = now >= emergency_at(stored.validity);
    if (expired || emergency || now >= stored.renew_at) && facts.clock_in_doubt {
        return Step::Wait { until: None, reason: Wait::Clock };
    }
    if emergency {
        return Step::Begin(Cause::Emergency);
    }
    if now >= stored.renew_at {
        return closed(record, facts, now).unwrap_or(Step::Begin(Cause::Due));
    }
    if facts.seen == Seen::Other {
        return Step::Begin(Cause::NotServed);
    }
    Step::Wait { until: Some(stored.renew_at.min(emergency_at(stored.validity))), reason: Wait::Renewal }
}

/// The wait of what is due and may not begin yet. It ends with the emergency at the latest.
fn closed(record: &Record, facts: &Facts, now: UnixTime) -> Option<Step> {
    let emergency = emergency_at(record.stored?.validity);
    let until = facts.closed_until.filter(|until| now < *until && now < emergency)?;
    Some(Step::Wait { until: Some(until.min(emergency)), reason: Wait::Closed })
}

#[cfg(test)]
mod tests;
