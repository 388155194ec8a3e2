//! The loop: asks the core what each certificate needs next, has it done, and reports.
//!
//! Absent: decisions. *What* comes next is [`portcullis_policy::rotation::next`]; *how* a step is taken is in `rotor`.
//! One task owns a certificate at a time; those at rest are kept here and looked at whenever time passed, a proxy
//! answered or an operator asked.

mod advice;
mod ask_clock;
mod check;
mod clock;
mod dead_names;
mod deliver;
mod entry;
pub mod failpoint;
mod obtain;
mod offer;
pub(crate) mod plan;
mod preflight;
mod rehearse;
mod remedy;
mod rollback;
mod rotor;
mod standing;
mod tell;
mod trusted;
mod turns;
mod unopened;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use portcullis_policy::revocation::Revocations;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::sync::broadcast;
use tokio::sync::mpsc;
use tokio::task::Id;
use tokio::task::JoinError;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::audit::Event;
use crate::audit::Kind;
use crate::board::Board;
use crate::ca::Authorities;
use crate::ca::Changes;
use crate::command::Command;
use crate::command::CommandError;
use crate::command::Insistence;
use crate::config;
use crate::envoy_admin::EnvoyAdmin;
use crate::errors::chain;
use crate::health::Heartbeat;
use crate::issuer::Issuers;
use crate::leaf;
use crate::metrics::Metrics;
use crate::proof::Prover;
use crate::remedy::Remedies;
use crate::resource::Outcome;
use crate::revocation::Ledger;
use crate::room;
use crate::store::Store;
use crate::succession;
use crate::trust::Trust;
use crate::xds::Publisher;

pub use check::CheckError;
pub(crate) use check::as_peer;
pub use clock::Clock;
pub use deliver::DeliveryError;
pub use rotor::StepError;
pub(crate) use standing::Footing;
pub(crate) use standing::Standing;
pub use standing::Tally;
pub(crate) use standing::count_dropped;
pub(crate) use standing::standing;
pub use standing::stored_leaf;

use clock::Reading;
use rotor::Rotor;
use turns::Turns;
pub(crate) use unopened::Series;
use unopened::Unopened;

/// Certificates of one issuer that are worked on at once: one that hangs holds up nobody else's.
const AT_ONCE: usize = 16;
/// Time that passed is noticed at least this often, whatever is planned; a machine that slept notices at once.
const TICK: Duration = Duration::from_secs(1);
/// Between two tries whether a listener is there by now.
const BETWEEN_KNOCKS: Duration = Duration::from_secs(2);
/// Handshakes of a second, where there are so many listeners and names that `verify_every` would take more.
const LOOKS_A_SECOND: u64 = 10;

/// What the loop works with. Everything in it can be shared.
pub struct Context {
    /// What is remembered.
    pub store: Arc<dyn Store>,
    /// Woken when the store has notes for the audit log.
    pub noted: Arc<Notify>,
    /// The built-in CA.
    pub authorities: Authorities,
    /// Towards those who have one root of it follow another.
    pub roots: succession::Handle,
    /// Everybody who issues.
    pub issuers: Issuers,
    /// How the certificates stand towards those roots.
    pub tally: Tally,
    /// Whom else it issued certificates.
    pub ledger: Arc<Ledger>,
    /// The trust domain of the issuer.
    pub trust_domain: String,
    /// Towards proxies.
    pub publisher: Publisher,
    /// Whom proxies trust.
    pub trust: Trust,
    /// Towards listeners.
    pub prover: Prover,
    /// Envoy's administration, for certificates that no listener shows.
    pub admin: Option<EnvoyAdmin>,
    /// The status.
    pub board: Board,
    /// Counters.
    pub metrics: Metrics,
    /// Sign of life.
    pub heartbeat: Heartbeat,
    /// Whether the wall clock can be believed.
    pub clock: Clock,
    /// How the room left on a file system is found out.
    pub room: room::Look,
    /// What is revoked now.
    pub revoked: Arc<dyn Fn() -> Arc<Revocations> + Send + Sync>,
    /// Who is told of failures.
    pub remedies: Remedies,
}

/// The certificates of a configuration, and who works on them.
pub struct Rotation {
    context: Arc<Context>,
    idle: BTreeMap<String, Rotor>,
    busy: JoinSet<Rotor>,
    /// Whom the tasks look after.
    names: BTreeMap<Id, String>,
    /// How many of each issuer's.
    limits: BTreeMap<String, Arc<Semaphore>>,
    /// Those that cannot be looked after, and are tried again.
    unopened: BTreeMap<String, Unopened>,
    /// Asked for while somebody works on the certificate.
    waiting: Vec<(String, Ask)>,
    /// What the configuration has, in its order.
    wanted: Arc<config::Config>,
    /// The roots of the built-in CA.
    roots: Changes,
    /// Who may have something to do.
    turns: Turns,
    /// How long it takes to shake hands with every listener so slowly that a proxy hardly notices.
    gently: Duration,
}

/// Something that an operator waits for.
#[derive(Debug)]
enum Ask {
    Renew(rotor::RenewReply, Insistence),
    Rollback(rotor::RenewReply),
    Verify(mpsc::Sender<()>),
}

impl Rotation {
    /// Reads every certificate of the configuration from the store and publishes at once what is good.
    ///
    /// # Errors
    ///
    /// [`StepError`], if the store cannot be read or a directory cannot be used.
    pub async fn open(context: Arc<Context>, config: Arc<config::Config>) -> Result<Self, StepError> {
        let mut idle = BTreeMap::new();
        // Before they are looked at, so that no change is missed.
        let roots = context.authorities.changes();
        standing::count_all_dropped(&context, &config).map_err(StepError::Store)?;
        for certificate in &config.certificates {
            let rotor = Rotor::open(Arc::clone(&context), certificate.clone()).await?;
            idle.insert(certificate.name.clone(), rotor);
        }
        let in_order = config.certificates.iter().filter_map(|certificate| idle.get(&certificate.name));
        let statuses = in_order.map(Rotor::status).collect();
        context.board.certificates(statuses);
        Ok(Self {
            context,
            idle,
            busy: JoinSet::new(),
            names: BTreeMap::new(),
            limits: BTreeMap::new(),
            unopened: BTreeMap::new(),
            waiting: Vec::new(),
            gently: gently(&config),
            wanted: config,
            roots,
            turns: Turns::new(),
        })
    }

    /// Works until `shutdown`; what is being done then is finished or picked up at the next start.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut outcomes: broadcast::Receiver<Outcome>,
        mut configs: mpsc::Receiver<Arc<config::Config>>,
        shutdown: CancellationToken,
    ) {
        self.forget_rehearsals();
        let mut activity = self.context.publisher.activity();
        let mut beat = tokio::time::interval(TICK);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.context.heartbeat.beat();
            self.context.board.refresh();
            self.look_at_the_clock();
            self.set_to_work();
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(done) = self.busy.join_next_with_id(), if !self.busy.is_empty() => match done {
                    Ok((id, rotor)) => {
                        self.names.remove(&id);
                        self.put_back(rotor);
                    }
                    Err(error) => self.begin_again(&error).await,
                },
                Some(command) = commands.recv() => self.command(command),
                Some(config) = configs.recv() => self.reconfigure(&config).await,
                () = self.roots.next() => {
                    self.idle.values_mut().for_each(Rotor::judge_again);
                    self.turns.stir_all();
                }
                outcome = outcomes.recv() => {
                    let name = outcome.ok().map(|outcome| match outcome {
                        Outcome::Acknowledged { name, .. } | Outcome::Refused { name, .. } => name,
                    });
                    self.somebody_answered(name.as_deref());
                }
                Ok(()) = activity.changed() => self.awaited_no_more(),
                _ = beat.tick() => {
                    self.turns.beat(&self.idle, leaf::now());
                    self.open_again().await;
                }
            }
        }
        // A step that is being taken ends by itself; waiting for a listener does not hold up the end.
        self.busy.abort_all();
    }

    /// Takes away what rehearsals left that an agent before this one did not bring to their end.
    fn forget_rehearsals(&self) {
        let (context, wanted) = (Arc::clone(&self.context), Arc::clone(&self.wanted));
        tokio::spawn(async move {
            for certificate in &wanted.certificates {
                let Ok(issuer) = context.issuers.named(&certificate.issuer) else { continue };
                if let Err(error) = issuer.forget_rehearsal(&certificate.names).await {
                    tracing::warn!(
                        certificate = certificate.name,
                        error = chain(&error),
                        "a rehearsal is not forgotten"
                    );
                }
            }
        });
    }

    /// Tells of a clock that was set. What follows from it, each certificate's next step knows.
    fn look_at_the_clock(&self) {
        self.context.clock.look(Reading::now());
        let Some(jump) = self.context.clock.jumped() else { return };
        let cause = format!("the clock was set by {jump:+} s; what only the clock makes due waits a moment");
        tracing::warn!("{cause}");
        match self.context.store.note(&Event::new(Kind::ClockJumped, "clock").because(cause).note()) {
            Ok(()) => self.context.noted.notify_one(),
            Err(error) => tracing::error!(error = chain(&error), "an event is lost to the audit log"),
        }
        // Ends when the clock jumps again, for then another one is begun.
        tokio::spawn(ask_clock::until_known(Arc::clone(&self.context)));
    }

    /// Starts work on every certificate that needs some.
    fn set_to_work(&mut self) {
        let now = leaf::now();
        let (every, knocks, count) = (self.between_looks(), BETWEEN_KNOCKS.max(self.gently), self.idle.len());
        let mut names = self.turns.take(&self.idle);
        names.retain(|name| {
            let Some(rotor) = self.idle.get_mut(name) else { return false };
            rotor.hear();
            rotor.may_knock(knocks);
            if rotor.needs_work(now, every) {
                return true;
            }
            if let Some(at) = rotor.wakes_at(now) {
                self.turns.wake(name, at, now, count);
            }
            false
        });
        for name in names {
            let Some(mut rotor) = self.idle.remove(&name) else { continue };
            let issuer = rotor.asks(now).to_owned();
            let limit = Arc::clone(self.limits.entry(issuer).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))));
            let task = self.busy.spawn(async move {
                let _permit = limit.acquire_owned().await;
                if rotor.is_look_due(every) {
                    rotor.look().await;
                }
                if rotor.is_advice_due(leaf::now()) {
                    rotor.take_advice().await;
                }
                rotor.drive().await;
                rotor
            });
            self.names.insert(task.id(), name);
        }
    }

    /// How often a listener is looked at.
    fn between_looks(&self) -> Duration {
        self.wanted.verify_every.max(self.gently)
    }

    /// A task that panicked took its certificate with it; what the store has of it is as good as ever.
    async fn begin_again(&mut self, error: &JoinError) {
        let Some(name) = self.names.remove(&error.id()) else { return };
        tracing::error!(certificate = name, %error, "a certificate's task ended; it is begun again from the store");
        let Some(certificate) = self.wanted.certificate(&name).cloned() else {
            if let Err(error) = count_dropped(&self.context, &name) {
                tracing::error!(certificate = name, error = chain(&error), "its end is not written down");
            }
            self.context.tally.set(&name, None);
            refuse(self.asks_for(&name), &CommandError::Removed { name });
            return;
        };
        match Rotor::open(Arc::clone(&self.context), certificate.clone()).await {
            Ok(mut rotor) => {
                rotor.pause();
                self.put_back(rotor);
            }
            Err(error) => {
                refuse(self.asks_for(&name), &not_looked_after());
                let status = self.cannot_open(&certificate, &error);
                self.context.board.certificate(status);
            }
        }
    }

    /// Takes certificates that were added, removed or changed. What is removed stays in the store, in its files and in
    /// the proxies; it is only not looked after any more.
    async fn reconfigure(&mut self, config: &Arc<config::Config>) {
        self.wanted = Arc::clone(config);
        self.gently = gently(config);
        // Issuers may have left.
        self.limits.retain(|_, limit| Arc::strong_count(limit) > 1);
        self.context.remedies.replace(&config.remedies);
        let names: Vec<String> = self.idle.keys().cloned().collect();
        for name in names {
            if let Some(mut rotor) = self.idle.remove(&name) {
                // The bundles may be what it waited for.
                rotor.hold_no_more();
                self.put_back(rotor);
            }
        }
        let mut statuses = Vec::with_capacity(config.certificates.len());
        let before = self.context.board.watch().borrow().certificates.clone();
        let mut before: BTreeMap<_, _> = before.into_iter().map(|status| (status.name.clone(), status)).collect();
        let busy: BTreeSet<&String> = self.names.values().collect();
        let mut waiting = Vec::new();
        for certificate in &config.certificates {
            let name = &certificate.name;
            let is_looked_after = self.idle.contains_key(name) || busy.contains(name);
            if let Some(status) = before.remove(name).filter(|_| is_looked_after) {
                statuses.push(status);
                continue;
            }
            waiting.push(certificate.clone());
        }
        self.unopened.retain(|name, _| config.certificate(name).is_some());
        for certificate in waiting {
            // Another configuration may be what it waited for.
            statuses.push(self.open_one(certificate).await);
        }
        let places: BTreeMap<&String, usize> =
            config.certificates.iter().enumerate().map(|(at, certificate)| (&certificate.name, at)).collect();
        statuses.sort_by_key(|status| places.get(&status.name).copied());
        self.context.board.certificates(statuses);
        self.turns.stir_all();
    }

    fn put_back(&mut self, mut rotor: Rotor) {
        let asks = self.asks_for(rotor.name());
        let Some(certificate) = self.wanted.certificate(rotor.name()) else {
            self.context.publisher.remove(rotor.name());
            // Whoever has it goes on with it: from now on it is as one that somebody else was issued.
            standing::count(&self.context, rotor.name(), &rotor.entry);
            self.context.tally.set(rotor.name(), None);
            let removed = CommandError::Removed { name: rotor.name().to_owned() };
            rotor.answer(Err(removed.clone()));
            refuse(asks, &removed);
            return;
        };
        if *certificate != rotor.config {
            rotor.reconfigure(certificate.clone());
        }
        // Its issuer may have other roots by now, or none of its name may be left.
        rotor.judge_again();
        for ask in asks {
            rotor.ask(ask);
        }
        // Somebody may have come while it was worked on, who is not told of again.
        if self.context.publisher.acknowledged(rotor.name()).is_some() {
            rotor.somebody_listens();
        }
        if rotor.is_awaited_no_more() {
            rotor.hold_no_more();
        }
        self.turns.stir(rotor.name());
        self.idle.insert(rotor.name().to_owned(), rotor);
    }

    /// A proxy came or answered: what waited for one can go on.
    fn somebody_answered(&mut self, name: Option<&str>) {
        let Some(name) = name else {
            self.idle.values_mut().for_each(Rotor::somebody_listens);
            self.turns.stir_all();
            return;
        };
        if let Some(rotor) = self.idle.get_mut(name) {
            rotor.somebody_listens();
            self.turns.stir(name);
        }
    }

    /// A proxy answered or left: what waited for it to take a bundle can go on.
    fn awaited_no_more(&mut self) {
        for rotor in self.idle.values_mut().filter(|rotor| rotor.is_awaited_no_more()) {
            rotor.hold_no_more();
            self.turns.stir(rotor.name());
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Renew { name, insistence, reply } => {
                if self.wanted.certificate(&name).is_some() {
                    self.ask(name, Ask::Renew(reply, insistence));
                } else {
                    let _ = reply.send(Err(self.unknown(name)));
                }
            }
            Command::Rehearse { name, reply } => {
                let Some(certificate) = self.wanted.certificate(&name).cloned() else {
                    let _ = reply.send(Err(self.unknown(name)));
                    return;
                };
                let context = Arc::clone(&self.context);
                tokio::spawn(async move {
                    let _ = reply.send(rehearse::rehearse(&context, &certificate).await);
                });
            }
            Command::Rollback { name, reply } => {
                if self.wanted.certificate(&name).is_some() {
                    self.ask(name, Ask::Rollback(reply));
                } else {
                    let _ = reply.send(Err(self.unknown(name)));
                }
            }
            Command::Verify { name, reply } => {
                let names = match name {
                    None => self.wanted.certificates.iter().map(|certificate| certificate.name.clone()).collect(),
                    Some(name) if self.wanted.certificate(&name).is_some() => vec![name],
                    Some(name) => {
                        let _ = reply.send(Err(self.unknown(name)));
                        return;
                    }
                };
                // Each certificate drops its end when it was looked at; the last one ends the wait.
                let (looked, mut all) = mpsc::channel(1);
                for name in names {
                    self.ask(name, Ask::Verify(looked.clone()));
                }
                drop(looked);
                tokio::spawn(async move {
                    while all.recv().await.is_some() {}
                    let _ = reply.send(Ok(()));
                });
            }
            Command::Issue { request, reply } => {
                let context = Arc::clone(&self.context);
                tokio::task::spawn_blocking(move || {
                    let _ = reply.send(crate::issue::issue(&context, request));
                });
            }
            Command::Roots { ask, reply } => self.context.roots.ask(ask, reply),
        }
    }

    fn ask(&mut self, name: String, ask: Ask) {
        match self.idle.get_mut(&name) {
            Some(rotor) => {
                rotor.ask(ask);
                self.turns.stir(&name);
            }
            None if self.names.values().any(|busy| *busy == name) => self.waiting.push((name, ask)),
            None => refuse(vec![ask], &not_looked_after()),
        }
    }

    /// What was asked for this certificate while somebody worked on it.
    fn asks_for(&mut self, name: &str) -> Vec<Ask> {
        let waiting = std::mem::take(&mut self.waiting);
        let (mine, others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(other, _)| other == name);
        self.waiting = others;
        mine.into_iter().map(|(_, ask)| ask).collect()
    }

    fn unknown(&self, name: String) -> CommandError {
        let names = self.wanted.certificates.iter().map(|certificate| format!("`{}`", certificate.name));
        let known = names.collect::<Vec<_>>().join(", ");
        CommandError::UnknownName { name, known }
    }
}

/// Answers those who wait for what will not be done. Who waits for a look is told by dropping his end.
fn refuse(asks: Vec<Ask>, error: &CommandError) {
    for ask in asks {
        if let Ask::Renew(reply, _) | Ask::Rollback(reply) = ask {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

fn not_looked_after() -> CommandError {
    let cause = "it cannot be looked after now; `portcullis status` says why, and when that is tried again".to_owned();
    CommandError::Failed { step: "handing the command over".to_owned(), cause }
}

fn gently(config: &config::Config) -> Duration {
    let listeners: usize = config.certificates.iter().map(|certificate| certificate.served_at.len()).sum();
    Duration::from_millis(1000 / LOOKS_A_SECOND).saturating_mul(u32::try_from(listeners).unwrap_or(u32::MAX))
}

/// When something was last done, on the clock that does not jump.
fn is_due(last: Option<Instant>, every: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= every)
}

#[cfg(test)]
pub(crate) mod tests;
