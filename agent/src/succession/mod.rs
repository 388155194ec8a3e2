//! One root of the built-in CA follows another: carries out the steps that the core names, and writes down each of them.
//!
//! Absent: the order and what makes a step safe, which is [`portcullis_policy::succession`]; how certificates are renewed, which
//! the rotation does by itself as soon as the roots are others.

mod ask;
mod below;
mod facts;
mod opened;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use portcullis_policy::UnixTime;
use portcullis_policy::succession;
use portcullis_policy::succession::Edge;
use portcullis_policy::succession::Step;
use portcullis_policy::succession::Wait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::audit::Event;
use crate::audit::Kind;
use crate::ca::Authority;
use crate::ca::CaError;
use crate::ca::Constraints;
use crate::ca::Journal;
use crate::ca::Kept;
use crate::ca::Turn;
use crate::ca::directory;
use crate::config::Config;
use crate::errors::chain;
use crate::gate::Gate;
use crate::leaf;
use crate::rotation::Context;
use crate::rotation::failpoint;
use crate::state_dir::DirectoryError;
use crate::state_dir::private_directory;
use crate::status::CaStatus;
use crate::status::SuccessionStatus;
use crate::store::StoreError;
use crate::trust::Trust;

pub use ask::Handle;
pub use ask::Inbox;
pub use below::FAILPOINTS as INTERMEDIATE_FAILPOINTS;
pub use opened::Memory;
pub use opened::OpenError;
pub use opened::Opened;

use facts::Seen;

/// What is waited for is looked at this often, besides whenever a proxy answers.
const LOOK: Duration = Duration::from_secs(1);
/// And at least this often, when only time is waited for.
const LONGEST_LOOK: Duration = Duration::from_secs(60);
/// Nothing is tried again sooner than this after a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// So long is a clock watched, or as long as there was to wait, before a key is destroyed by it.
const WATCHED: Duration = Duration::from_secs(600);
/// The clock is doubted as for a certificate of this lifetime: as long as it ever is.
const LONG: i64 = i64::MAX;

/// What the failpoints of this are called: `root-` and the edge, before it is taken; the same and `-done`, after it was taken
/// and before that is written down.
pub fn failpoints() -> Vec<String> {
    let edges = Edge::ALL.into_iter().map(|edge| format!("root-{}", edge.as_str()));
    edges.flat_map(|edge| [format!("{edge}-done"), edge]).collect()
}

/// Why a step was not taken. It is taken again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuccessionError {
    /// The CA's files.
    #[error("the root cannot be made or removed")]
    Ca(#[source] CaError),
    /// An intermediate.
    #[error("the intermediate cannot be taken")]
    Below(#[source] CaError),
    /// The folder of a root.
    #[error("the root's folder cannot be made")]
    Directory(#[source] DirectoryError),
    /// The record names no new root.
    #[error("the record of the roots names no root that follows")]
    Record,
    /// The store.
    #[error("the step cannot be written down")]
    Store(#[source] StoreError),
}

/// Who has roots follow each other.
pub struct Succession {
    context: Arc<Context>,
    trust: Trust,
    gate: Gate,
    config: watch::Receiver<Arc<Config>>,
    asks: Inbox,
    /// Of those that are kept.
    loaded: Vec<(Kept, Arc<Authority>)>,
    directory: std::path::PathBuf,
    last_error: Option<String>,
    /// SHA-256 of the root whose end was told to be near.
    warned: Option<String>,
    /// Since when this process waits for the old root's last certificate to end, by the clock that nobody sets.
    waiting: Option<Instant>,
    below: below::Standing,
}

impl Succession {
    /// Goes on with what was [`Opened`].
    pub fn new(
        opened: Opened,
        context: Arc<Context>,
        (trust, gate): (Trust, Gate),
        config: watch::Receiver<Arc<Config>>,
        asks: Inbox,
    ) -> Self {
        let Opened { loaded, directory, .. } = opened;
        Self {
            context,
            trust,
            gate,
            config,
            asks,
            loaded,
            directory,
            last_error: None,
            warned: None,
            waiting: None,
            below: below::Standing::default(),
        }
    }

    /// Works until `shutdown`. What is being done then is taken up again at the next start.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut activity = self.context.publisher.activity();
        loop {
            let (pause, listens) = match self.drive().await {
                Ok(rest) => (rest, rest == LOOK),
                Err(error) => {
                    let text = chain(&error);
                    tracing::error!(error = text, "the next step of the roots failed; it is tried again");
                    if self.last_error.as_ref() != Some(&text) {
                        self.note(&Event::new(Kind::Alarm, "ca").because(text.clone()));
                    }
                    self.last_error = Some(text);
                    self.show(None).await;
                    (PAUSE, false)
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                Ok(()) = activity.changed(), if listens => {}
                Some(ask) = self.asks.0.recv() => {
                    let answer = self.carry_out(&ask.ask).await;
                    let _ = ask.reply.send(answer);
                }
            }
        }
    }

    fn journal(&self) -> &Arc<Journal> {
        self.context.roots.journal()
    }

    /// Takes step after step until there is something to wait for. Says when to look again.
    async fn drive(&mut self) -> Result<Duration, SuccessionError> {
        self.warn_of_the_end();
        loop {
            self.keep_below().await?;
            let Some(turn) = self.journal().record().turn else {
                if self.is_due() {
                    self.begin("schedule")?;
                    continue;
                }
                self.is_well();
                self.waiting = None;
                self.show(None).await;
                return Ok(LOOK);
            };
            let seen = self.look(&turn).await;
            let now = leaf::now();
            match succession::next(turn.edge, &seen.facts, now) {
                Step::Take if turn.edge == Edge::Wait && !self.has_watched(&turn, &seen) => {
                    self.show(Some((Wait::Clock, None, seen.behind))).await;
                    return Ok(LOOK);
                }
                Step::Take => {
                    failpoint::hit(&format!("root-{}", turn.edge.as_str()));
                    self.take(turn, &seen).await?;
                    self.is_well();
                }
                Step::Wait { until, reason } => {
                    self.is_well();
                    if turn.edge == Edge::Wait {
                        self.waiting.get_or_insert_with(Instant::now);
                    }
                    self.show(Some((reason, until, seen.behind))).await;
                    // A look is at every certificate; what only time changes may take a year.
                    let left = until.map_or(0, |until| until.0.saturating_sub(now.0));
                    return Ok(Duration::from_secs(left.max(0).unsigned_abs()).clamp(LOOK, LONGEST_LOOK));
                }
            }
        }
    }

    /// Whether the end of what others have was waited for, and not only found to be over by a clock that was set, or that was
    /// wrong when the machine began: what follows cannot be undone.
    fn has_watched(&mut self, turn: &Turn, seen: &Seen) -> bool {
        if seen.facts.clock_in_doubt {
            self.waiting = None;
            return false;
        }
        let since = *self.waiting.get_or_insert_with(Instant::now);
        let all = seen.facts.others_until.map_or(0, |until| until.0.saturating_sub(turn.begun.0));
        since.elapsed() >= Duration::from_secs(all.max(0).unsigned_abs()).min(WATCHED)
    }

    /// What failed before is over.
    fn is_well(&mut self) {
        if let Some(error) = self.last_error.take() {
            self.note(&Event::new(Kind::AlarmCleared, "ca").because(error));
        }
    }

    /// Whether the schedule wants another root.
    fn is_due(&self) -> bool {
        let now = leaf::now();
        let is_due = self.due_at().is_some_and(|due| now >= due) && !self.context.clock.is_in_doubt(LONG, 0);
        is_due && !self.would_strand_anchors()
    }

    /// Whether the next root could never be named by a policy that names this one: it would have constraints on names, which no
    /// anchor may have, and the succession could not go on.
    fn would_strand_anchors(&self) -> bool {
        let constrained = self.config.borrow().ca.constraints != Constraints::default();
        constrained && self.gate.names(&self.context.authorities.issuing())
    }

    fn due_at(&self) -> Option<UnixTime> {
        let after = self.config.borrow().ca.rotate_root_after?;
        Some(succession::due_at(self.context.authorities.issuing().leaf().validity, after))
    }

    /// Says once of each root that it is high time for another.
    fn warn_of_the_end(&mut self) {
        let issuing = self.context.authorities.issuing();
        let leaf = issuing.leaf();
        if self.warned.as_ref() == Some(&leaf.sha256) || !facts::root(leaf, true, None).is_old(Timestamp::now()) {
            return;
        }
        let until = leaf::timestamp(leaf.validity.not_after);
        let remedy = if issuing.has_key() {
            "`portcullis ca rotate` has another one follow"
        } else {
            "its key is kept elsewhere"
        };
        let what = format!("the root ends at {until}; {remedy}");
        tracing::error!(root = leaf.sha256, "{what}");
        self.note(&Event::new(Kind::Alarm, "ca").because(what));
        self.warned = Some(leaf.sha256.clone());
    }

    /// Writes down that another root is to follow. Nothing else may be under way.
    fn begin(&self, by: &str) -> Result<(), SuccessionError> {
        let issuing = self.context.authorities.issuing();
        let sha256 = &issuing.leaf().sha256;
        let (from, _) = self.loaded.iter().find(|(kept, _)| kept.sha256 == *sha256).ok_or(SuccessionError::Record)?;
        tracing::info!(root = sha256, by, "another root is to follow");
        let (edge, from, by, begun) = (Edge::Add, from.clone(), by.to_owned(), leaf::now());
        let turn = Turn { edge, from, to: None, by, begun, unaware_until: None };
        self.journal().change(&[], |record| record.turn = Some(turn)).map_err(SuccessionError::Store)
    }

    async fn take(&mut self, turn: Turn, seen: &Seen) -> Result<(), SuccessionError> {
        let event = |kind| {
            let new = turn.to.as_ref().map(|to| to.sha256.as_str());
            Event::new(kind, "ca").by(turn.by.clone()).change(Some(&turn.from.sha256), new)
        };
        let done = || failpoint::hit(&format!("root-{}-done", turn.edge.as_str()));
        let advance = |events: &[Event]| {
            let advanced = self.journal().change(events, |record| {
                if let (Some(turn), Some(next)) = (&mut record.turn, turn.edge.next()) {
                    turn.edge = next;
                }
            });
            advanced.map_err(SuccessionError::Store)
        };
        match turn.edge {
            Edge::Add => {
                let new = self.make(&turn)?;
                done();
                let (kept, authority) = &new;
                let event = Event::new(Kind::CaCreated, &self.context.trust_domain)
                    .by(turn.by.clone())
                    .because("root")
                    .change(Some(&turn.from.sha256), Some(&kept.sha256));
                let from = turn.from.sha256.clone();
                let added = self.journal().change(&[event], |record| {
                    let unaware_until = record.ends.get(&from).copied();
                    if let Some(turn) = &mut record.turn {
                        (turn.edge, turn.to, turn.unaware_until) = (Edge::Spread, Some(kept.clone()), unaware_until);
                    }
                });
                added.map_err(SuccessionError::Store)?;
                tracing::info!(root = kept.sha256, until = %leaf::timestamp(authority.leaf().validity.not_after), "root made");
                self.loaded.retain(|(other, _)| other.sha256 != new.0.sha256);
                self.loaded.push(new);
            }
            Edge::Spread => {
                done();
                advance(&[event(Kind::RootAdded).proven(seen.proof.clone())])?;
            }
            Edge::Switch => {
                done();
                advance(&[event(Kind::RootSwitched)])?;
            }
            Edge::Wait => {
                done();
                advance(&[event(Kind::RootUnused)])?;
            }
            Edge::Remove => {
                directory::remove(&self.directory, turn.from.number).map_err(SuccessionError::Ca)?;
                done();
                let gone = turn.from.sha256.clone();
                let removed = self.journal().change(&[event(Kind::RootRemoved).proven(seen.proof.clone())], |record| {
                    record.ends.remove(&gone);
                    record.turn = None;
                });
                removed.map_err(SuccessionError::Store)?;
                tracing::info!(root = gone, "root removed");
                self.loaded.retain(|(kept, _)| kept.sha256 != gone);
            }
        }
        self.context.noted.notify_one();
        self.put_in_force().await;
        Ok(())
    }

    /// Makes the root that follows, or finds the one that was made before a crash.
    fn make(&self, turn: &Turn) -> Result<(Kept, Arc<Authority>), SuccessionError> {
        let numbers = directory::numbers(&self.directory).map_err(SuccessionError::Ca)?;
        let number = numbers.iter().copied().find(|number| *number > turn.from.number);
        let number = number.unwrap_or_else(|| turn.from.number.saturating_add(1));
        let folder = directory::folder(&self.directory, number);
        private_directory(&folder).map_err(SuccessionError::Directory)?;
        let opened = Authority::open(&folder, &self.config.borrow().ca, leaf::now());
        let (authority, _) = opened.map_err(SuccessionError::Ca)?;
        Ok((Kept { number, sha256: authority.leaf().sha256.clone() }, Arc::new(authority)))
    }

    /// Has bundles and signatures follow the record.
    async fn put_in_force(&self) {
        let turn = self.journal().record().turn;
        let (trusted, issuing) = opened::standing(&self.loaded, turn.as_ref());
        let Some(issuing) = issuing else { return };
        self.context.authorities.set(trusted, issuing);
        self.push().await;
    }

    /// Has the bundles made again, as far as they are others.
    async fn push(&self) {
        let trust = self.trust.clone();
        // A signature under many entries takes a while.
        if let Err(error) = tokio::task::spawn_blocking(move || trust.tick()).await {
            tracing::error!(%error, "pushing bundles ended badly");
        }
    }

    async fn look(&self, turn: &Turn) -> Seen {
        let (context, config) = (Arc::clone(&self.context), self.config.borrow().clone());
        let (statuses, turn, gate) = (self.trust.statuses(), turn.clone(), self.gate.clone());
        // A policy may be long.
        let seen = tokio::task::spawn_blocking(move || facts::look(&context, &config, &statuses, &gate, &turn)).await;
        seen.expect("looking does not panic")
    }

    async fn show(&self, waits: Option<(Wait, Option<UnixTime>, Vec<String>)>) {
        let record = self.journal().record();
        let authorities = &self.context.authorities;
        let signs = authorities.issuing().leaf().sha256.clone();
        let trusted = authorities.trusted();
        let roots = trusted.iter().map(|root| {
            let leaf = root.leaf();
            facts::root(leaf, leaf.sha256 == signs, record.ends.get(&leaf.sha256).copied())
        });
        let succession = record.turn.as_ref().map(|turn| {
            let (waits_for, until) = match (&waits, &self.last_error) {
                (_, Some(error)) => (Some(error.clone()), None),
                (Some((reason, until, behind)), None) => (Some(facts::describe(*reason, behind)), *until),
                (None, None) => (None, None),
            };
            SuccessionStatus {
                step: turn.edge.as_str().to_owned(),
                by: turn.by.clone(),
                begun: leaf::timestamp(turn.begun),
                waits_for,
                until: until.map(leaf::timestamp),
            }
        });
        let next = self.due_at().filter(|_| succession.is_none()).map(leaf::timestamp);
        let (intermediate, wanted) = self.below_status();
        self.context.board.ca(CaStatus { roots: roots.collect(), succession, next, intermediate, wanted });
    }

    fn note(&self, event: &Event) {
        match self.context.store.note(&event.note()) {
            Ok(()) => self.context.noted.notify_one(),
            Err(error) => tracing::error!(error = chain(&error), "an event is lost to the audit log: {event:?}"),
        }
    }
}
