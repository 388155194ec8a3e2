//! One certificate and whoever works on it: carries out the steps that the core names, and writes down each of them.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use portcullis_policy::UnixTime;
use portcullis_policy::rotation;
use portcullis_policy::rotation::Cause;
use portcullis_policy::rotation::Edge;
use portcullis_policy::rotation::Facts;
use portcullis_policy::rotation::Fit;
use portcullis_policy::rotation::Flight;
use portcullis_policy::rotation::Seen;
use portcullis_policy::rotation::Step;
use portcullis_policy::rotation::Wait;
use portcullis_policy::schedule;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Ask;
use super::Context;
use super::advice::Advice;
use super::check;
use super::clock::Reading;
use super::deliver;
use super::deliver::DeliveryError;
use super::deliver::Installed;
use super::entry::Credential;
use super::entry::Entry;
use super::failpoint;
use super::obtain::draw;
use super::plan;
use crate::audit::Event;
use crate::audit::Kind;
use crate::command::CommandError;
use crate::command::Insistence;
use crate::command::IssuerWait;
use crate::command::Renewed;
use crate::command::Urgency;
use crate::config;
use crate::errors::chain;
use crate::generation::GenerationError;
use crate::generation::Generations;
use crate::hook::When;
use crate::issuer::IssueError;
use crate::keys;
use crate::keys::KeyError;
use crate::leaf;
use crate::metrics::RotationResult;
use crate::proof::ServedAt;
use crate::room::NoRoom;
use crate::status::CertificateStatus;
use crate::status::ServedStatus;
use crate::store::StoreError;
use crate::store::Version;
use crate::xds::COMING;

/// How long nothing is tried when not even the failure could be written down.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) type RenewReply = oneshot::Sender<Result<Renewed, CommandError>>;

/// Why a step was not taken. What was good before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The issuer's answer is not even that.
    #[error("what `{issuer}` answered is not a certificate")]
    Answer {
        /// Its name.
        issuer: String,
    },
    /// The issuer's answer has ended, or is about to.
    #[error(
        "what `{issuer}` answered ends at {until}, so soon that it would be replaced at once; look at its clock and at the lifetime of its own certificate"
    )]
    EndsTooSoon {
        /// Its name.
        issuer: String,
        /// The end.
        until: Timestamp,
    },
    /// The issuer's answer.
    #[error("the certificate was not accepted")]
    Check(#[source] check::CheckError),
    /// A target.
    #[error("the certificate was not delivered")]
    Delivery(#[source] DeliveryError),
    /// The files.
    #[error("the certificate's files were not replaced")]
    Files(#[source] GenerationError),
    /// The issuer.
    #[error("`{issuer}` did not issue the certificate")]
    Issue {
        /// Its name.
        issuer: String,
        /// Why.
        source: IssueError,
    },
    /// A rehearsal.
    #[error("a rehearsal of the order failed, and `{issuer}` was not asked")]
    Rehearsal {
        /// Its name.
        issuer: String,
        /// Why.
        source: Box<IssueError>,
    },
    /// Random numbers.
    #[error("nothing can be drawn")]
    Key(#[source] KeyError),
    /// The record lacks what its edge needs.
    #[error("the record of `{name}` does not hold what `{}` needs", edge.as_str())]
    Record {
        /// The certificate.
        name: String,
        /// The edge.
        edge: Edge,
    },
    /// No room to write it.
    #[error(transparent)]
    Room(NoRoom),
    /// The store.
    #[error("the step cannot be written down")]
    Store(#[source] StoreError),
}

/// One certificate.
pub(super) struct Rotor {
    pub(super) context: Arc<Context>,
    pub(super) config: config::Certificate,
    pub(super) generations: Option<Arc<Generations>>,
    pub(super) entry: Entry,
    pub(super) served: Vec<ServedStatus>,
    /// Serial that was told to those who read files, while this agent runs.
    pub(super) told: Option<String>,
    version: Option<Version>,
    pub(super) facts: Facts,
    /// Whether an operator wants the issuer asked although it asked to be left alone.
    overrides: bool,
    /// SHA-256 of what the issuer offered and was not taken, while this agent runs.
    pub(super) declined: Option<String>,
    /// Whether it waits for a bundle that peers judge it by.
    pub(super) is_held: bool,
    /// The bundle that not every proxy took, if that is what it waits for.
    pub(super) awaited: Option<String>,
    /// What is wrong with what the issuer offers.
    pub(super) complaint: Option<String>,
    /// Asked for, and not looked at yet.
    rollback: Option<RenewReply>,
    /// Who waits for the renewal, and what was stored when it began.
    renewals: Vec<RenewReply>,
    /// When they are told that nobody takes it, unless somebody comes.
    pub(super) answer_by: Option<Instant>,
    renewed_from: Option<String>,
    /// Dropped when the listeners were looked at.
    verifications: Vec<mpsc::Sender<()>>,
    looked: Option<Instant>,
    /// When it was last tried whether somebody takes it who asked for nothing before.
    pub(super) knocked: Option<Instant>,
    /// Whether the issuer was asked since the agent began: it may have been away for long.
    pub(super) is_advised: bool,
    /// Whether the order under way was rehearsed well since the last failure.
    pub(super) is_rehearsed: bool,
    paused: Option<Instant>,
    /// What is waited for, as the status has it.
    waits_for: Option<Wait>,
    alarm: Option<String>,
    /// What could not be written down with what failed, and at which failure; it is told with what can.
    pub(super) untold: Vec<(u32, Event)>,
    /// Places this certificate among those that a jump of the clock made due.
    draw: u32,
}

/// What taking an edge came to.
enum Taken {
    Done { entry: Box<Entry>, events: Vec<Event> },
    NobodyListens,
}

impl Rotor {
    /// Reads the certificate from the store, and publishes it at once if it is good.
    pub(super) async fn open(context: Arc<Context>, config: config::Certificate) -> Result<Self, StepError> {
        let generations = match config.files.as_ref().map(Generations::open).transpose() {
            // Proxies get what is stored all the same, and the next delivery tries again.
            Err(error) if error.may_pass() => None,
            opened => opened.map_err(StepError::Files)?,
        };
        let found = context.store.read(&Entry::key(&config.name)).map_err(StepError::Store)?;
        let version = found.as_ref().map(|found| found.version);
        let entry = match found.map(|found| Entry::from_json(&found.value)) {
            None => Entry::default(),
            Some(Ok(entry)) => entry,
            Some(Err(error)) => {
                tracing::error!(certificate = config.name, %error, "the stored record is unreadable; issuing anew");
                let event = Event::new(Kind::Alarm, &config.name).because("record_unreadable");
                context.store.note(&event.note()).map_err(StepError::Store)?;
                Entry::default()
            }
        };
        let mut rotor = Self {
            context,
            config,
            generations: generations.map(Arc::new),
            entry,
            served: Vec::new(),
            told: None,
            version,
            facts: Facts::default(),
            overrides: false,
            declined: None,
            is_held: false,
            awaited: None,
            complaint: None,
            rollback: None,
            renewals: Vec::new(),
            answer_by: None,
            renewed_from: None,
            verifications: Vec::new(),
            looked: None,
            knocked: None,
            is_advised: false,
            is_rehearsed: false,
            paused: None,
            waits_for: None,
            alarm: None,
            untold: Vec::new(),
            draw: keys::draw().unwrap_or_default(),
        };
        rotor.context.tally.set(&rotor.config.name, rotor.entry.footing());
        rotor.plan_again();
        rotor.reconfigure(rotor.config.clone());
        if let Some(order) = &rotor.entry.order
            && let Ok(issuer) = rotor.context.issuers.named(order.issuer())
        {
            issuer.remember(order);
        }
        if let Some(stored) = rotor.entry.stored.as_ref().filter(|_| rotor.entry.flight.is_none()) {
            rotor.context.metrics.succeeded_before(&rotor.config.name, stored.issued_ms / 1_000);
        }
        if let Some(stored) = &rotor.entry.stored
            && stored.validity().holds(leaf::now())
            && rotor.facts.fit != Fit::Unusable
            && !rotor.entry.is_refused()
            && let Err(error) = rotor.context.publisher.publish(deliver::resource(&rotor.config.name, stored))
        {
            tracing::error!(certificate = rotor.config.name, error = chain(&error), "not published");
        }
        Ok(rotor)
    }

    /// Takes another configuration of the same certificate.
    pub(super) fn reconfigure(&mut self, config: config::Certificate) {
        if config.files != self.config.files {
            // Let go of the old directory's lock first: it may be the same directory.
            self.generations = None;
        }
        let is_replanned = config.renew_after != self.config.renew_after || config.calendar != self.config.calendar;
        self.config = config;
        if let Some(stored) = self.entry.stored.clone().filter(|_| is_replanned)
            // One that the issuer wants away at once keeps its time.
            && !stored.advice.as_ref().is_some_and(Advice::is_urgent)
        {
            let validity = stored.validity();
            // As at issuance: a new share does not make everything due that it would have renewed by now.
            let issued = UnixTime(stored.issued_ms / 1_000).max(validity.not_before);
            match stored.drawn.map_or_else(|| draw(issued), Ok) {
                Ok(drawn) => {
                    let renew_at = self.plan(validity, &stored.issuer, drawn);
                    let advice = stored.advice.filter(|advice| *advice == Advice::NEVER);
                    self.entry.stored = Some(Credential { renew_at, drawn: Some(drawn), advice, ..stored });
                }
                Err(error) => tracing::error!(certificate = self.config.name, error = chain(&error), "not replanned"),
            }
        }
        // It may be what the configuration asks for by now.
        self.declined = None;
        if let Err(error) = self.open_files() {
            // The next look finds no files, and the delivery that it leads to tries again and says so.
            tracing::error!(certificate = self.config.name, error = chain(&error), "files are not written yet");
        }
        self.facts.fit = self.fit();
        self.looked = None;
    }

    /// Plans the stored certificate's renewal with the draws of its issuance: the configuration may have been edited while the
    /// agent was not there.
    fn plan_again(&mut self) {
        let Some(stored) = self.entry.stored.clone() else { return };
        let Some(drawn) = stored.drawn else { return };
        let validity = stored.validity();
        let renew_at = match &stored.advice {
            Some(advice) if advice.is_urgent() => return,
            // When, its issuer said; in which window, we do.
            Some(advice) if *advice != Advice::NEVER => {
                plan::in_window(&self.config, stored.renew_at, validity, drawn.draws[1])
            }
            _ => self.plan(validity, &stored.issuer, drawn),
        };
        if renew_at != stored.renew_at {
            let at = leaf::timestamp(renew_at);
            tracing::info!(certificate = self.config.name, %at, "the configuration is another: renewal is planned anew");
            self.entry.stored = Some(Credential { renew_at, ..stored });
        }
    }

    /// Opens the directory of the files, if there is one and it is not open.
    pub(super) fn open_files(&mut self) -> Result<(), StepError> {
        if let Some(files) = self.config.files.as_ref().filter(|_| self.generations.is_none()) {
            self.generations = Some(Arc::new(Generations::open(files).map_err(StepError::Files)?));
        }
        Ok(())
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn step(&self, now: UnixTime) -> Step {
        if self.is_paused() {
            return Step::Wait { until: None, reason: Wait::BackOff };
        }
        let lifetime = self.entry.stored.as_ref().map_or(0, |stored| stored.validity().lifetime());
        let clock_in_doubt = match (self.context.clock.held(), &self.entry.stored) {
            // A clock that is known to be wrong makes nothing due; the issuer's does, when it comes to the worst.
            (Some(offset), Some(stored)) => {
                UnixTime(now.0.saturating_add(offset)) < schedule::emergency_at(stored.validity())
            }
            _ => self.context.clock.is_in_doubt(lifetime, self.draw),
        };
        let closed_until = self.closed_until(now);
        rotation::next(&self.entry.record(), &Facts { clock_in_doubt, closed_until, ..self.facts }, now)
    }

    /// Until when what is due may not begin.
    pub(super) fn closed_until(&self, now: UnixTime) -> Option<UnixTime> {
        let stored = self.entry.stored.as_ref().filter(|stored| stored.renew_at <= now)?;
        if stored.advice.as_ref().is_some_and(Advice::is_urgent) {
            return None;
        }
        self.config.calendar.closed_until(now)
    }

    /// Whether there is something to do other than waiting.
    pub(super) fn needs_work(&self, now: UnixTime, every: Duration) -> bool {
        let refused = self.is_refused() && !self.is_paused();
        // Time alone may change what is waited for, which the status says.
        let rests = matches!(self.step(now), Step::Wait { reason, .. } if self.waits_for == Some(reason));
        let unanswered = self.answer_by.is_some_and(|by| by <= Instant::now());
        let asked =
            refused || unanswered || self.rollback.is_some() || self.is_look_due(every) || self.is_advice_due(now);
        asked || !rests || self.is_whole_due(now)
    }

    /// When time alone makes the next step due, if it does.
    pub(super) fn wakes_at(&self, now: UnixTime) -> Option<UnixTime> {
        if let Step::Wait { until, .. } = self.step(now) { until } else { None }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.is_some_and(|until| until > Instant::now())
    }

    pub(super) fn is_look_due(&self, every: Duration) -> bool {
        // Where there is nothing to look at, the first look has seen it.
        let has_targets = !self.config.served_at.is_empty() || self.config.files.is_some();
        !self.verifications.is_empty() || (has_targets || self.looked.is_none()) && super::is_due(self.looked, every)
    }

    pub(super) fn somebody_listens(&mut self) {
        self.facts.nobody_listens = false;
    }

    /// Tries again after so long whether a listener is there by now whose proxy asks when a client does: nobody else would
    /// tell.
    pub(super) fn may_knock(&mut self, every: Duration) {
        if self.facts.nobody_listens && !self.config.served_at.is_empty() && super::is_due(self.knocked, every) {
            self.somebody_listens();
        }
    }

    /// Leaves it alone for a while.
    pub(super) fn pause(&mut self) {
        (self.paused, self.looked) = (Some(Instant::now() + PAUSE), Some(Instant::now()));
    }

    pub(super) fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Renew(reply, Insistence { urgency, wait }) => {
                let closed = self.config.calendar.blackout_until(leaf::now());
                if let Some(until) = closed.filter(|_| urgency == Urgency::Planned) {
                    let (name, until) = (self.config.name.clone(), leaf::timestamp(until));
                    let _ = reply.send(Err(CommandError::Blackout { name, until }));
                    return;
                }
                self.hear();
                if let Some(error) = self.nobody_to_ask() {
                    let _ = reply.send(Err(error));
                    return;
                }
                self.renewals.push(reply);
                self.overrides |= wait == IssuerWait::Overridden;
                // A certificate that is being made anyway is new enough.
                let under_way = self.entry.flight.filter(|flight| flight.edge <= Edge::Check);
                self.facts.requested = under_way.is_none();
                let is_due = |flight: &Flight| matches!(flight.cause, Cause::Due | Cause::Emergency | Cause::Expired);
                if let Some(flight) = under_way.filter(is_due) {
                    // What waits for a window, or for the clock, waits no longer.
                    self.entry.flight = Some(Flight { cause: Cause::Requested, ..flight });
                }
                self.facts.nobody_listens = false;
                // An operator does not wait for a back-off.
                self.entry.retry_at = None;
                self.paused = None;
                let event = Event::new(Kind::RenewRequested, &self.config.name)
                    .by("operator")
                    .change(self.entry.serial(), None);
                self.note(&event);
            }
            Ask::Rollback(reply) => {
                // The newest word counts.
                self.rollback = Some(reply);
                self.paused = None;
            }
            Ask::Verify(looked) => self.verifications.push(looked),
        }
    }

    /// Takes step after step until there is something to wait for.
    pub(super) async fn drive(&mut self) {
        if let Some(reply) = self.rollback.take() {
            self.roll_back(reply).await;
        }
        if std::mem::take(&mut self.overrides) {
            self.override_wait().await;
        }
        loop {
            if self.is_refused() && !self.is_paused() {
                self.fail(Edge::Install, &StepError::Delivery(DeliveryError::RefusedLate)).await;
            }
            self.context.clock.look(Reading::now());
            let now = leaf::now();
            let outcome = match self.step(now) {
                Step::Wait { reason: Wait::Renewal, .. } if self.is_whole_due(now) => {
                    self.try_whole(now).await;
                    Ok(())
                }
                Step::Wait { reason, .. } => {
                    self.waits_for = Some(reason);
                    if reason == Wait::Listener {
                        self.wait_for_somebody();
                    }
                    break;
                }
                Step::Begin(cause) => self.begin(cause).await,
                Step::Take(edge) => self.advance(edge, now).await,
            };
            if let Err((edge, error)) = outcome {
                self.fail(edge, &error).await;
            }
        }
        self.context.board.certificate(self.status());
    }

    /// Tells those who wait for the renewal that nobody takes it, when somebody would have come by now.
    fn wait_for_somebody(&mut self) {
        if self.renewals.is_empty() {
            return;
        }
        let by = *self.answer_by.get_or_insert_with(|| Instant::now() + COMING);
        if by <= Instant::now() {
            self.answer(Err(self.failed("install", "no proxy asks for the certificate".to_owned())));
        }
    }

    pub(super) async fn begin(&mut self, cause: Cause) -> Result<(), (Edge, StepError)> {
        self.abandon().await;
        let mut entry = self.entry.clone();
        entry.flight = Some(Flight::begin(cause));
        entry.order = None;
        entry.answer = None;
        entry.retry_at = None;
        self.ask_for_all(&mut entry, cause, leaf::now());
        tracing::info!(certificate = self.config.name, cause = cause.as_str(), "rotation begins");
        self.commit(entry, &[]).await.map_err(|error| (Edge::Journal, error))?;
        if cause.issues() {
            self.facts.requested = false;
            self.facts.offered = false;
            self.renewed_from = self.entry.serial().map(str::to_owned);
        }
        Ok(())
    }

    async fn advance(&mut self, edge: Edge, now: UnixTime) -> Result<(), (Edge, StepError)> {
        failpoint::before(edge);
        match self.take(edge, now).await.map_err(|error| (edge, error))? {
            Taken::NobodyListens => self.facts.nobody_listens = true,
            Taken::Done { mut entry, events } => {
                failpoint::after(edge);
                entry.retry_at = None;
                if edge == Edge::Check {
                    entry.unissued = 0;
                }
                // Handing over again what is then not served is no progress, nor is another certificate when the one
                // before was refused: the back-off has to grow all the same.
                let progress =
                    matches!(edge, Edge::Prove | Edge::Retire) || edge == Edge::Check && entry.refused.is_none();
                if progress {
                    entry.failures = 0;
                    entry.last_error = None;
                }
                self.commit(*entry, &events).await.map_err(|error| (edge, error))?;
                if edge == Edge::Retire {
                    self.completed();
                }
            }
        }
        Ok(())
    }

    async fn take(&mut self, edge: Edge, now: UnixTime) -> Result<Taken, StepError> {
        let name = self.config.name.clone();
        let missing = || StepError::Record { name: name.clone(), edge };
        let flight = self.entry.flight.ok_or_else(missing)?;
        let mut entry = self.entry.clone();
        entry.flight = flight.after(rotation::Outcome::Done);
        let mut events = Vec::new();
        match edge {
            Edge::Journal => {
                self.preflight().await?;
                entry.order = Some(self.journal(now)?);
            }
            Edge::Obtain => {
                self.rehearse_first(now).await?;
                self.obtain(&mut entry, flight, &mut events).await?;
            }
            Edge::Check => self.check(&mut entry, now, &mut events)?,
            Edge::Stage => self.stage().await?,
            Edge::Install => {
                let Installed::Taken { said } = self.install(flight.cause).await? else {
                    return Ok(Taken::NobodyListens);
                };
                if flight.cause.issues() {
                    let event = self.change(Kind::Installed).because(flight.cause.as_str());
                    events.push(Event { proof: said, ..event });
                }
            }
            Edge::Prove => {
                let proof = self.prove().await?;
                self.facts.seen = Seen::Current;
                entry.proven(flight.cause);
                if flight.cause.issues() {
                    entry.rotations += 1;
                    let issued = self.entry.stored.as_ref().map_or(0, |stored| stored.issued_ms);
                    let taken = Timestamp::now().as_millisecond().saturating_sub(issued);
                    entry.issued_to_served_ms =
                        (!self.config.served_at.is_empty()).then(|| taken.max(0).unsigned_abs());
                }
                events.push(self.change(Kind::Served).because(flight.cause.as_str()).proven(proof));
                self.look_is_good(&mut events);
            }
            Edge::Retire => {
                self.tell(When::Served, flight.cause).await?;
                self.prune().await?;
                if let Some(old) = entry.previous.take() {
                    events.push(Event::new(Kind::Retired, &name).change(Some(&old.serial), self.entry.serial()));
                }
            }
        }
        Ok(Taken::Done { entry: Box::new(entry), events })
    }

    /// Writes the failure down and says when to try again, counted from now: the step may have taken its time.
    pub(super) async fn fail(&mut self, edge: Edge, error: &StepError) {
        let now = leaf::now();
        let text = chain(error);
        tracing::error!(certificate = self.config.name, step = edge.as_str(), error = text, "step failed");
        self.context.metrics.rotation(&self.config.name, edge.as_str(), RotationResult::Failure);
        let mut entry = self.entry.clone();
        self.is_rehearsed = false;
        entry.failures = entry.failures.saturating_add(1);
        if matches!(
            error,
            StepError::Answer { .. }
                | StepError::Check(_)
                | StepError::EndsTooSoon { .. }
                | StepError::Issue { .. }
                | StepError::Rehearsal { .. }
        ) {
            entry.unissued = entry.unissued.saturating_add(1);
        }
        let end = entry.stored.as_ref().map(|stored| stored.validity().not_after);
        let failures = entry.failures;
        let mut retry_at = schedule::retry_at(now, end, entry.failures, keys::draw().unwrap_or_default());
        let is_offered = entry.flight.is_some_and(|flight| flight.cause == Cause::Offered) && edge <= Edge::Check;
        let first = entry.last_error.is_none() || is_offered;
        entry.last_error = Some(format!("{} failed: {text}", edge.as_str()));
        let refused = matches!(error, StepError::Delivery(DeliveryError::Refused { .. } | DeliveryError::RefusedLate));
        if refused {
            entry.refuse_stored();
            let flight = entry.flight.unwrap_or_else(|| Flight::begin(Cause::Refused));
            entry.flight = flight.after(rotation::Outcome::Refused);
        } else {
            // What can never succeed, or not in time, is not asked for again.
            let is_dead = match error {
                StepError::Answer { .. } | StepError::EndsTooSoon { .. } => true,
                StepError::Issue { source, .. } => source.is_final(),
                _ => false,
            };
            self.entry.failures = entry.failures;
            self.entry.unissued = entry.unissued;
            let goes_elsewhere = self.gives_up_order(now);
            let gives_up = edge == Edge::Obtain && (is_dead || goes_elsewhere);
            // What one issuer asks for is no reason to keep another one waiting.
            if let StepError::Issue { source, .. } = error
                && !goes_elsewhere
            {
                retry_at = schedule::put_off(retry_at, source.retry_after(), now, end);
            }
            entry.flight = match entry.flight {
                Some(flight) if gives_up => Some(Flight::begin(flight.cause)),
                flight => flight.and_then(|flight| flight.after(rotation::Outcome::Failed)),
            };
        }
        entry.retry_at = Some(retry_at);
        let mut events = Vec::new();
        let goes_on = self.bury(&mut entry, error, &mut events);
        if goes_on {
            // Another order than the one that failed: at once.
            entry.flight = entry.flight.map(|flight| Flight::begin(flight.cause));
            entry.retry_at = None;
        }
        let is_whole = self.entry.flight.is_some_and(|flight| flight.cause == Cause::NamesBack && edge <= Edge::Check);
        if is_whole {
            // What is in use is as good as before, and without the same names.
            (entry.flight, entry.retry_at) = (None, None);
            (entry.failures, entry.last_error) = (0, None);
            entry.whole_at = Some(self.whole_at(now));
        }
        // Nobody asked for it, and what is in use is as good as before.
        let declines = is_offered
            && matches!(error, StepError::Check(_) | StepError::Issue { .. } | StepError::EndsTooSoon { .. });
        if declines {
            (entry.flight, entry.retry_at) = (None, None);
        }
        if entry.flight.is_none_or(|flight| flight.edge == Edge::Journal) {
            self.abandon().await;
            entry.order = None;
            entry.answer = None;
        }
        // One line a series of failures; the metrics count them all.
        let alarm = Event::new(Kind::Alarm, &self.config.name).because(format!("{}: {text}", edge.as_str()));
        if first && self.untold.is_empty() {
            events.push(alarm);
        }
        if declines {
            self.decline();
        }
        let store_failed = matches!(error, StepError::Store(_));
        if store_failed || self.commit(entry.clone(), &events).await.is_err() {
            self.paused = Some(Instant::now() + PAUSE);
            self.untold.extend(events.into_iter().map(|event| (failures, event)));
            self.entry.failures = entry.failures;
            self.entry.unissued = entry.unissued;
            self.entry.last_error = entry.last_error;
        }
        if goes_on {
            // Who waits for a renewal hears of that one.
            return;
        }
        // What could not even be written down is asked for still.
        let requested = self.facts.requested && store_failed;
        self.answer(Err(self.failed(edge.as_str(), text)));
        self.facts.requested = requested;
        self.escalate(edge, error).await;
    }

    fn completed(&mut self) {
        self.context.remedies.is_well(&self.config.name);
        self.context.metrics.rotation(&self.config.name, Edge::Retire.as_str(), RotationResult::Success);
        let serial = self.entry.serial().unwrap_or_default().to_owned();
        tracing::info!(certificate = self.config.name, serial, took_ms = self.entry.issued_to_served_ms, "served");
        let old_serial = self.renewed_from.take();
        self.answer(Ok(Renewed {
            name: self.config.name.clone(),
            old_serial,
            new_serial: serial,
            issued_to_served_ms: self.entry.issued_to_served_ms,
        }));
    }

    /// Has the end of the delivery that begins now answered.
    pub(super) fn expect(&mut self, reply: RenewReply, old: Option<String>) {
        self.renewals.push(reply);
        self.renewed_from = old;
    }

    /// Answers all who wait for the renewal.
    pub(super) fn answer(&mut self, answer: Result<Renewed, CommandError>) {
        self.facts.requested = false;
        self.answer_by = None;
        for reply in self.renewals.drain(..) {
            let _ = reply.send(answer.clone());
        }
    }

    fn failed(&self, step: &str, cause: String) -> CommandError {
        CommandError::Failed { step: step.to_owned(), cause }
    }

    fn change(&self, kind: Kind) -> Event {
        let old = self.entry.previous.as_ref().map(|previous| previous.serial.as_str());
        Event::new(kind, &self.config.name).change(old, self.entry.serial())
    }

    /// Looks at every target once, without changing anything.
    pub(super) async fn look(&mut self) {
        self.looked = Some(Instant::now());
        self.facts.seen = self.look_at_targets().await;
        let now = Timestamp::now();
        let wrong = self.served.iter().find_map(|served| {
            let leaf = served.leaf.as_ref().filter(|_| !served.current)?;
            let what = if leaf.not_after < now { "serves an ended certificate" } else { "serves another certificate" };
            Some(format!("`{}` {what}: serial {}, until {}", served.address, leaf.serial, leaf.not_after))
        });
        let mut events = Vec::new();
        match (wrong, &self.alarm) {
            (Some(wrong), None) => {
                tracing::error!(certificate = self.config.name, wrong, "alarm");
                events.push(self.change(Kind::Alarm).because(wrong.clone()));
                self.alarm = Some(wrong);
            }
            (None, Some(_)) if self.facts.seen == Seen::Current => self.look_is_good(&mut events),
            _ => {}
        }
        for event in &events {
            self.note(event);
        }
        // Whoever waits for the look reads the board next.
        self.context.board.certificate(self.status());
        self.verifications.clear();
    }

    fn look_is_good(&mut self, events: &mut Vec<Event>) {
        if let Some(alarm) = self.alarm.take() {
            tracing::info!(certificate = self.config.name, alarm, "alarm is over");
            events.push(self.change(Kind::AlarmCleared).because(alarm));
        }
    }

    pub(super) fn note(&self, event: &Event) {
        match self.context.store.note(&event.note()) {
            Ok(()) => self.context.noted.notify_one(),
            Err(error) => tracing::error!(error = chain(&error), "an event is lost to the audit log: {event:?}"),
        }
    }

    pub(super) async fn commit(&mut self, entry: Entry, events: &[Event]) -> Result<(), StepError> {
        let (store, key, expected) = (Arc::clone(&self.context.store), Entry::key(&self.config.name), self.version);
        let json = entry.to_json();
        let untold = self.untold.iter().map(|(_, event)| event);
        let notes: Vec<Vec<u8>> = untold.chain(events).map(Event::note).collect();
        let is_noted = !notes.is_empty();
        let swap = tokio::task::spawn_blocking(move || store.swap(&key, expected, &json, &notes)).await;
        match swap.expect("the store does not panic") {
            Ok(version) => self.version = Some(version),
            Err(error) => {
                // Nobody else writes this record: a commit before that seemed to fail is there all the same.
                if matches!(error, StoreError::Conflict { .. })
                    && let Ok(Some(found)) = self.context.store.read(&Entry::key(&self.config.name))
                    && let Ok(entry) = Entry::from_json(&found.value)
                {
                    // With it went what was untold then.
                    self.untold.retain(|(failures, _)| *failures > entry.failures);
                    (self.version, self.entry) = (Some(found.version), entry);
                    self.context.tally.set(&self.config.name, self.entry.footing());
                }
                return Err(StepError::Store(error));
            }
        }
        self.entry = entry;
        self.untold.clear();
        self.context.tally.set(&self.config.name, self.entry.footing());
        if is_noted {
            self.context.noted.notify_one();
        }
        self.context.board.certificate(self.status());
        Ok(())
    }

    /// What every listener of the configuration showed, also those that nobody looked at yet: one that is not known to
    /// serve the certificate must not pass for one that does.
    fn seen(&self) -> Vec<ServedStatus> {
        let seen = |at: &ServedAt| {
            let seen = self.served.iter().find(|seen| seen.address == at.address && seen.sni == at.sni);
            seen.cloned().unwrap_or_else(|| ServedStatus {
                address: at.address.clone(),
                sni: at.sni.clone(),
                leaf: None,
                current: false,
                error: None,
                checked_at: None,
            })
        };
        self.config.served_at.iter().map(seen).collect()
    }

    pub(super) fn status(&self) -> CertificateStatus {
        let entry = &self.entry;
        let (next, waits_for) = match self.step(leaf::now()) {
            Step::Wait { until, reason } => (until.map(leaf::timestamp), Some(reason.as_str().to_owned())),
            Step::Begin(_) | Step::Take(_) => (Some(Timestamp::now()), None),
        };
        CertificateStatus {
            name: self.config.name.clone(),
            identity: self.config.names.label(),
            issuer: entry.stored.as_ref().map_or(&self.config.issuer, |stored| &stored.issuer).clone(),
            state: entry.state().as_str().to_owned(),
            stored: entry.stored.as_ref().map(|stored| stored.leaf.status()),
            chain: entry.stored.as_ref().map(|stored| stored.above().to_vec()).unwrap_or_default(),
            installed: entry.installed().map(str::to_owned),
            served: self.seen(),
            next_attempt: next,
            renew_at: entry.stored.as_ref().map(|stored| leaf::timestamp(stored.renew_at)),
            waits_for,
            is_fallback: entry.stored.as_ref().is_some_and(|stored| {
                self.config.fallback.as_ref().is_some_and(|fallback| fallback.issuer == stored.issuer)
            }),
            dead_names: self.dead_names(),
            last_error: entry.last_error.clone().or_else(|| self.complaint.clone()),
            rotations: entry.rotations,
            failures: u64::from(entry.failures),
            issued_to_served_ms: entry.issued_to_served_ms,
        }
    }
}
