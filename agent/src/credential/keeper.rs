//! Who looks after one credential: asks the core what comes next, has it done, writes it down.

use std::sync::Arc;
use std::time::Duration;

use portcullis_policy::UnixTime;
use portcullis_policy::credential;
use portcullis_policy::credential::Cause;
use portcullis_policy::credential::Facts;
use portcullis_policy::credential::Flight;
use portcullis_policy::credential::Kind;
use portcullis_policy::credential::Moved;
use portcullis_policy::credential::Outcome;
use portcullis_policy::credential::Retire;
use portcullis_policy::credential::Step;
use portcullis_policy::credential::Wait;
use portcullis_policy::rotation::Edge;
use portcullis_policy::rotation::Seen;
use portcullis_policy::schedule;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::asked::Ask;
use super::asked::Asker;
use super::asked::Given;
use super::asked::Rotated;
use super::entry::Entry;
use super::entry::Kept;
use super::entry::Old;
use super::error::CredentialError;
use super::ring::Signer;
use super::source::Source;
use super::source::SourceError;
use super::target::InUse;
use super::target::Target;
use super::target::TargetError;
use crate::audit;
use crate::audit::Event;
use crate::command::CommandError;
use crate::command::Urgency;
use crate::config;
use crate::config::CredentialSource;
use crate::config::Issue;
use crate::errors::chain;
use crate::generation::Generations;
use crate::keys;
use crate::leaf;
use crate::rotation::failpoint;
use crate::store::StoreError;
use crate::store::Version;

/// Time that passed is noticed at least this often.
const BEAT: Duration = Duration::from_secs(1);
/// How long nothing is tried when not even the failure could be written down.
const PAUSE: Duration = Duration::from_secs(5);
/// An operator waits so many seconds for an overlap to end.
const PATIENCE: i64 = 60;
/// Looks in a row at which a target has to refuse a value before another one is made: one alone may be about something else.
const LOGINS: u32 = 2;
/// When a credential was last used is written down this often at least.
const USE_NOTED: i64 = 10;

/// Who waits for a rotation, and what was in use when it was asked for.
type Waiting = (Option<String>, oneshot::Sender<Result<Rotated, CommandError>>);

/// One credential.
pub(super) struct Keeper {
    pub(super) context: Arc<Context>,
    pub(super) config: Arc<config::Credential>,
    pub(super) entry: Entry,
    pub(super) generations: Option<Arc<Generations>>,
    pub(super) seen: Seen,
    /// What is waited for, as the status has it.
    pub(super) waits_for: Option<Wait>,
    version: Option<Version>,
    requested: bool,
    source_changed: bool,
    /// Looks in a row at which the target refused the current value.
    refused_logins: u32,
    /// Why the target did not let in with it at the last look.
    pub(super) complaint: Option<String>,
    moved: Moved,
    used_at: Option<UnixTime>,
    rotations: Vec<Waiting>,
    readers: Vec<oneshot::Sender<Result<Given, CommandError>>>,
    every: Duration,
    looked: Option<Instant>,
    paused: Option<Instant>,
    signer: Option<watch::Receiver<Option<Signer>>>,
    /// Who gives it, if somebody else does.
    pub(super) source: Option<Arc<Source>>,
    draw: u32,
}

impl Keeper {
    /// Reads the credential from the store, and publishes at once what is good.
    pub(super) async fn open(
        context: Arc<Context>,
        config: Arc<config::Credential>,
        every: Duration,
    ) -> Result<Self, CredentialError> {
        let key = Entry::key(&config.name);
        let found = context.agent.store.read(&key).map_err(CredentialError::Store)?;
        let version = found.as_ref().map(|found| found.version);
        let opened = found.map(|found| context.seal.unseal(&key, &found.value));
        let entry = match opened.map(|opened| opened.ok().and_then(|json| Entry::from_json(&json).ok())) {
            None => Entry::default(),
            Some(Some(entry)) => entry,
            Some(None) => {
                tracing::error!(credential = config.name, "the stored record is unreadable; another value is made");
                // With the right key it may be read some day, by hand.
                if let Some(found) = context.agent.store.read(&key).map_err(CredentialError::Store)? {
                    let aside = format!("{key}.unreadable");
                    let before = context.agent.store.read(&aside).map_err(CredentialError::Store)?;
                    let before = before.map(|before| before.version);
                    context.agent.store.swap(&aside, before, &found.value, &[]).map_err(CredentialError::Store)?;
                }
                let event = Event::new(audit::Kind::Alarm, &config.name).because("record_unreadable");
                context.agent.store.note(&event.note()).map_err(CredentialError::Store)?;
                Entry::default()
            }
        };
        let used_at = entry.used_at;
        let mut keeper = Self {
            context,
            config,
            entry,
            generations: None,
            seen: Seen::Unknown,
            waits_for: None,
            version,
            requested: false,
            source_changed: false,
            refused_logins: 0,
            complaint: None,
            moved: Moved::Unknown,
            used_at,
            rotations: Vec::new(),
            readers: Vec::new(),
            every,
            looked: None,
            paused: None,
            signer: None,
            source: None,
            draw: keys::draw().unwrap_or_default(),
        };
        keeper.open_source()?;
        keeper.listen_to_signer();
        keeper.begin_to_sign();
        let is_good =
            keeper.entry.current.as_ref().is_some_and(|current| current.not_after.is_none_or(|end| end >= leaf::now()));
        if is_good
            && let Ok(Some(resource)) = keeper.resource(&keeper.entry)
            && let Err(error) = keeper.context.agent.publisher.publish(resource)
        {
            tracing::error!(credential = keeper.config.name, error = chain(&error), "not published");
        }
        keeper.context.agent.board.credential(keeper.status());
        Ok(keeper)
    }

    /// Works until `stop`; a step that is being taken is finished or taken again at the next start.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Ask>,
        mut configs: watch::Receiver<Arc<config::Credential>>,
        limit: Arc<Semaphore>,
        stop: CancellationToken,
    ) {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.is_paused() {
                // Those who wait are told below.
            } else {
                let _permit = limit.acquire().await;
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.work() => {}
                }
            }
            let signer = self.signer.clone();
            tokio::select! {
                () = stop.cancelled() => return,
                Some(ask) = inbox.recv() => self.ask(ask).await,
                Ok(()) = configs.changed() => {
                    let config = Arc::clone(&configs.borrow_and_update());
                    self.reconfigure(config);
                }
                () = changed(signer) => self.hear_signer(),
                _ = beat.tick() => {}
            }
        }
    }

    async fn work(&mut self) {
        if self.looked.is_none_or(|looked| looked.elapsed() >= self.every) {
            self.look().await;
        }
        self.drive().await;
    }

    fn is_paused(&self) -> bool {
        self.paused.is_some_and(|until| until > Instant::now())
    }

    fn kind(&self) -> Kind {
        match &self.config.source {
            source if source.is_ring() => Kind::Ring,
            CredentialSource::Password { .. } => Kind::Made,
            _ => Kind::Given,
        }
    }

    pub(super) fn facts(&self, now: UnixTime) -> Facts {
        let config = &self.config;
        let is_other = self.entry.current.as_ref().is_some_and(|current| {
            let of_others = !config.accounts.is_empty()
                && !current.account.as_ref().is_some_and(|account| config.accounts.contains(account));
            let target = config.target.as_ref().map(Target::label);
            let is_elsewhere = current.set_on.is_some() && target.is_some() && current.set_on != target;
            of_others || is_elsewhere || current.made_of != config.source.label()
        });
        let wanted = match config.issue {
            Issue::Always => true,
            Issue::OnFirstUse { idle } => {
                let is_used = self.used_at.is_some_and(|used| now.0.saturating_sub(used.0) < idle);
                is_used || !self.readers.is_empty() || self.requested
            }
        };
        let current = self.entry.current.as_ref();
        let life = current.and_then(|current| Some(current.not_after?.0.saturating_sub(current.since.0)));
        let lifetime = life.unwrap_or(config.lifetime);
        Facts {
            kind: self.kind(),
            needs_place: config.target.is_some() && config.accounts.len() == 2,
            retire: config.retire,
            moved: self.moved,
            is_other,
            login_refused: self.refused_logins >= LOGINS,
            requested: self.requested,
            source_changed: self.source_changed,
            wanted,
            seen: self.seen,
            clock_in_doubt: self.context.agent.clock.is_in_doubt(lifetime, self.draw),
            closed_until: self
                .entry
                .current
                .as_ref()
                .filter(|current| current.rotate_at <= now)
                .and_then(|_| config.calendar.closed_until(now)),
        }
    }

    /// Looks at what changes by itself: the source, the target, the files.
    async fn look(&mut self) {
        self.looked = Some(Instant::now());
        if self.entry.current.is_none() {
            self.stop_complaining();
        }
        let Some(current) = self.entry.current.clone().filter(|_| self.entry.flight.is_none()) else { return };
        if let Some(source) = self.source.clone() {
            match source.current_id().await {
                Ok(id) => self.source_changed = id.is_some_and(|id| id != current.id),
                Err(error) => {
                    tracing::warn!(credential = self.config.name, error = chain(&error), "the source does not answer");
                }
            }
        }
        if let (Some(target), Some(account)) = (&self.config.target, &current.account) {
            match target.test(account, &current.secret).await {
                Ok(()) => {
                    self.refused_logins = 0;
                    self.stop_complaining();
                }
                Err(error) if error.is_passing() => {
                    tracing::warn!(credential = self.config.name, error = chain(&error), "the target was not asked");
                }
                Err(error) => {
                    // Where it is not the value that is refused, another one would be of no use.
                    let is_of_value = matches!(error, TargetError::Login { .. });
                    self.refused_logins = if is_of_value { self.refused_logins.saturating_add(1) } else { 0 };
                    self.complain(chain(&error));
                }
            }
        } else {
            self.stop_complaining();
        }
        match self.mend().await {
            Ok(mended) if mended.is_empty() => {}
            Ok(mended) => self.note(&Event::new(audit::Kind::Repaired, &self.config.name).because(mended.join("; "))),
            Err(error) => {
                tracing::error!(credential = self.config.name, error = chain(&error), "its files cannot be put right");
                self.seen = Seen::Other;
            }
        }
    }

    /// The target does not let in with the current value. One line for as long as it gives the same reason.
    fn complain(&mut self, why: String) {
        tracing::error!(credential = self.config.name, error = why, "alarm");
        if self.complaint.as_ref() != Some(&why) {
            self.note(&Event::new(audit::Kind::Alarm, &self.config.name).because(why.clone()));
            self.complaint = Some(why);
        }
    }

    /// The target lets in, or there is nothing to let in with any more, or nowhere.
    fn stop_complaining(&mut self) {
        if let Some(why) = self.complaint.take() {
            self.note(&Event::new(audit::Kind::AlarmCleared, &self.config.name).because(why));
        }
    }

    /// Whether consumers left what was replaced, where that decides something.
    async fn ask_who_stays(&mut self, now: UnixTime) {
        self.moved = Moved::Unknown;
        let is_over = self.entry.old.iter().any(|old| old.until.is_some_and(|until| until <= now));
        if self.config.retire != Retire::WhenMoved || !is_over {
            return;
        }
        let Some(target) = &self.config.target else { return };
        for old in &self.entry.old {
            let Some(account) = &old.kept.account else { continue };
            if self.out_of_reach(&old.kept).is_some() {
                continue;
            }
            if self.entry.current.as_ref().is_some_and(|current| current.is_of(account)) {
                continue;
            }
            self.moved = match target.in_use(account).await {
                Ok(InUse::Sessions(0)) => Moved::Yes,
                Ok(InUse::Unknown) => Moved::Unknown,
                Ok(InUse::Sessions(_)) => Moved::No,
                Err(error) => {
                    tracing::warn!(credential = self.config.name, error = chain(&error), "who stays is not known");
                    Moved::No
                }
            };
            if self.moved == Moved::No {
                return;
            }
        }
    }

    /// Takes step after step until there is something to wait for.
    async fn drive(&mut self) {
        loop {
            let now = leaf::now();
            self.ask_who_stays(now).await;
            let step = credential::next(&self.entry.record(), &self.facts(now), now);
            let outcome = match step {
                Step::Wait { until, reason } => {
                    self.waits_for = Some(reason);
                    if reason == Wait::Overlap {
                        self.answer_patient(until, now);
                    }
                    break;
                }
                Step::Begin(cause) => self.begin(cause).await.map_err(|error| ("journal", error)),
                Step::Take(edge) => self.advance(edge, now).await.map_err(|error| (edge.as_str(), error)),
                Step::Extend => self.extend(now).await.map_err(|error| ("extend", error)),
                Step::Retire => self.retire(now).await.map_err(|error| ("retire", error)),
                Step::GiveBack => self.give_back(now).await.map_err(|error| ("retire", error)),
            };
            self.waits_for = None;
            if let Err((step, error)) = outcome {
                self.fail(step, &error).await;
                if self.is_paused() {
                    break;
                }
            }
        }
        self.answer();
        self.context.agent.board.credential(self.status());
    }

    async fn begin(&mut self, cause: Cause) -> Result<(), CredentialError> {
        let mut entry = self.entry.clone();
        entry.flight = Some(Flight::begin(cause));
        // Nobody has it; where it was set, it is taken away again.
        if let Some(kept) = entry.next.take().filter(|kept| kept.lease.is_some() || kept.account.is_some()) {
            entry.old.push(Old { kept, until: Some(leaf::now()) });
        }
        entry.retry_at = None;
        tracing::info!(credential = self.config.name, cause = cause.as_str(), "rotation begins");
        self.commit(entry, &[]).await?;
        if cause.makes() {
            (self.requested, self.source_changed, self.refused_logins) = (false, false, 0);
        }
        self.seen = Seen::Unknown;
        Ok(())
    }

    async fn advance(&mut self, edge: Edge, now: UnixTime) -> Result<(), CredentialError> {
        failpoint::hit(&format!("credential-{}", edge.as_str()));
        let flight = self.entry.flight.ok_or(CredentialError::Record { step: edge.as_str() })?;
        let mut entry = self.entry.clone();
        entry.flight = flight.after(Outcome::Done, self.kind());
        entry.retry_at = None;
        let mut events = Vec::new();
        match edge {
            Edge::Journal => self.make(&mut entry, now).await?,
            Edge::Obtain => self.obtain(&mut entry, flight, now, &mut events).await?,
            Edge::Check => self.check(now).await?,
            Edge::Stage => self.switch(&mut entry, now),
            Edge::Install => self.publish(flight.cause.as_str()).await?,
            Edge::Prove | Edge::Retire => {
                let proof = self.see().await?;
                self.proven(&mut entry, flight, now, proof, &mut events);
            }
        }
        failpoint::hit(&format!("credential-{}-done", edge.as_str()));
        let is_over = entry.flight.is_none();
        if is_over {
            (entry.failures, entry.last_error) = (0, None);
            entry.asked_by = None;
        }
        self.commit(entry, &events).await?;
        if edge == Edge::Stage && self.config.source.is_ring() {
            self.begin_to_sign();
            // In its new order: the key that is used comes first.
            self.publish(flight.cause.as_str()).await?;
        }
        if is_over {
            self.completed(flight);
        }
        Ok(())
    }

    fn completed(&mut self, flight: Flight) {
        self.context.agent.remedies.is_well(&self.config.name);
        self.context.agent.metrics.credential(&self.config.name, "prove", true);
        let id = self.entry.id().unwrap_or_default();
        tracing::info!(credential = self.config.name, id, cause = flight.cause.as_str(), "in use");
        if flight.cause.makes() {
            self.stop_complaining();
        }
    }

    /// Writes the failure down and says when to try again.
    async fn fail(&mut self, step: &'static str, error: &CredentialError) {
        let (now, text) = (leaf::now(), chain(error));
        tracing::error!(credential = self.config.name, step, error = text, "step failed");
        self.context.agent.metrics.credential(&self.config.name, step, false);
        let mut entry = self.entry.clone();
        entry.failures = entry.failures.saturating_add(1);
        let end = entry.current.as_ref().and_then(|current| current.not_after);
        let retry_at = schedule::retry_at(now, end, entry.failures, keys::draw().unwrap_or_default());
        let asked = if let CredentialError::Source(source) = error { source.retry_after() } else { None };
        let asked = asked.map(|at| UnixTime(at.as_second()));
        entry.retry_at = Some(schedule::put_off(retry_at, asked, now, end));
        let said = format!("{step} failed: {text}");
        // The same again is counted by the metrics.
        let is_news = entry.last_error.as_ref() != Some(&said);
        entry.last_error = Some(said);
        if matches!(error, CredentialError::Refused) {
            self.take_back(&mut entry);
        }
        // The server's rules are not others tomorrow, and it was not set.
        let is_anew = matches!(error, CredentialError::Target(TargetError::Policy { .. } | TargetError::Unfit { .. }));
        if is_anew {
            entry.next = None;
            entry.flight = entry.flight.map(|flight| Flight { edge: Edge::Journal, ..flight });
        }
        let outcome = if matches!(error, CredentialError::Refused) { Outcome::Refused } else { Outcome::Failed };
        if !matches!(step, "extend" | "retire") && !is_anew {
            entry.flight = entry.flight.and_then(|flight| flight.after(outcome, self.kind()));
        }
        if step == "extend" {
            let is_gone = matches!(error, CredentialError::Source(SourceError::LeaseGone));
            self.give_up_lease(&mut entry, now, is_gone);
        }
        let next = entry.retry_at.map_or_else(String::new, |at| format!("; tried again at {}", leaf::timestamp(at)));
        let alarm = Event::new(audit::Kind::Alarm, &self.config.name).because(format!("{step}: {text}{next}"));
        let events = if is_news { vec![alarm.of(&self.config.consumers)] } else { Vec::new() };
        let last_error = entry.last_error.clone();
        let failures = entry.failures;
        if matches!(error, CredentialError::Store(_)) || self.commit(entry, &events).await.is_err() {
            self.paused = Some(Instant::now() + PAUSE);
            (self.entry.failures, self.entry.last_error) = (failures, last_error);
        }
        let failed = CommandError::Failed { step: step.to_owned(), cause: text.clone() };
        for (_, reply) in self.rotations.drain(..) {
            let _ = reply.send(Err(failed.clone()));
        }
        let has_ended = |current: &Kept| current.not_after.is_some_and(|end| end < now);
        if self.entry.current.as_ref().is_none_or(has_ended) {
            for reply in self.readers.drain(..) {
                let _ = reply.send(Err(failed.clone()));
            }
        }
        self.context.agent.remedies.tell(self.report(error.class(), step, text));
    }

    async fn ask(&mut self, ask: Ask) {
        let now = leaf::now();
        match ask {
            Ask::Rotate(asker, urgency, reply) => {
                let closed = self.config.calendar.blackout_until(now).filter(|_| urgency == Urgency::Planned);
                if let Some(until) = closed {
                    let (name, until) = (self.config.name.clone(), leaf::timestamp(until));
                    let _ = reply.send(Err(CommandError::CredentialBlackout { name, until }));
                    return;
                }
                self.rotations.push((self.entry.id().map(str::to_owned), reply));
                // What is being made anyway is new enough.
                if let Some(flight) = self.entry.flight.as_mut().filter(|flight| flight.edge == Edge::Journal) {
                    // What waits for a window, or for the clock, waits no longer.
                    flight.cause = Cause::Requested;
                }
                let under_way =
                    self.entry.flight.is_some_and(|flight| flight.cause.makes() && flight.edge < Edge::Stage);
                self.requested = !under_way;
                self.entry.retry_at = None;
                self.paused = None;
                self.entry.asked_by = Some(asker.to_string());
                let event = Event::new(audit::Kind::RenewRequested, &self.config.name);
                self.note(&self.said_by(event, &asker).change(self.entry.id(), None));
            }
            Ask::Read(asker, reply) => {
                self.use_now(now).await;
                if self.entry.current.is_none() {
                    // Somebody waits.
                    (self.entry.retry_at, self.paused) = (None, None);
                }
                let event = Event::new(audit::Kind::CredentialRead, &self.config.name);
                self.note(&self.said_by(event, &asker).change(None, self.entry.id()));
                self.readers.push(reply);
            }
        }
    }

    fn said_by(&self, event: Event, asker: &Asker) -> Event {
        let event = event.by(asker.who.clone()).of(&self.config.consumers);
        match &asker.why {
            Some(why) => event.because(why.clone()),
            None => event,
        }
    }

    /// Somebody uses it. A restart may forget the last seconds of that.
    async fn use_now(&mut self, now: UnixTime) {
        self.used_at = Some(now);
        let Issue::OnFirstUse { idle } = self.config.issue else { return };
        let every = (idle / 4).clamp(1, USE_NOTED);
        if self.entry.used_at.is_none_or(|noted| now.0.saturating_sub(noted.0) >= every) {
            let mut entry = self.entry.clone();
            entry.used_at = Some(now);
            if let Err(error) = self.commit(entry, &[]).await {
                tracing::error!(credential = self.config.name, error = chain(&error), "its use is not written down");
            }
        }
    }

    /// Answers those who wait for a rotation that waits itself, unless it is about to begin.
    fn answer_patient(&mut self, until: Option<UnixTime>, now: UnixTime) {
        if until.is_some_and(|until| (0..PATIENCE).contains(&until.0.saturating_sub(now.0))) {
            return;
        }
        let until = until.map_or_else(|| "they have".to_owned(), |until| leaf::timestamp(until).to_string());
        let cause =
            format!("consumers may still use the account that the next value needs, until {until}; it is rotated then");
        for (_, reply) in self.rotations.drain(..) {
            let _ = reply.send(Err(CommandError::Failed { step: "journal".to_owned(), cause: cause.clone() }));
        }
    }

    /// Answers those who can be answered now.
    fn answer(&mut self) {
        let is_settled = self.entry.flight.is_none() && !self.requested;
        if let Some(current) = &self.entry.current {
            if is_settled {
                for (old_id, reply) in self.rotations.drain(..) {
                    let (name, new_id) = (self.config.name.clone(), current.id.clone());
                    let _ = reply.send(Ok(Rotated { name, old_id, new_id }));
                }
            }
            let has_ended = current.not_after.is_some_and(|end| end < leaf::now());
            let readers = if has_ended { Vec::new() } else { std::mem::take(&mut self.readers) };
            for reply in readers {
                let _ = reply.send(if self.config.source.is_ring() {
                    let what = format!("`{}` is a ring of keys, which nobody is given", self.config.name);
                    Err(CommandError::Invalid { what })
                } else {
                    Ok(Given {
                        name: self.config.name.clone(),
                        id: current.id.clone(),
                        account: current.account.clone(),
                        secret: current.secret.expose().to_owned(),
                        not_after: current.not_after.map(leaf::timestamp),
                    })
                });
            }
        }
    }

    fn reconfigure(&mut self, config: Arc<config::Credential>) {
        let before = std::mem::replace(&mut self.config, config);
        if before.files != self.config.files {
            // Let go of the old directory's lock first: it may be the same directory.
            self.generations = None;
        }
        if before.sds.is_some() && self.config.sds.is_none() {
            self.context.agent.publisher.remove(&self.config.name);
        }
        let places = |config: &config::Credential| (config.sds, config.files.clone(), config.hooks.clone());
        if places(&before) != places(&self.config) {
            self.seen = Seen::Other;
            if let Some(flight) = self.entry.flight.as_mut().filter(|flight| flight.edge == Edge::Prove) {
                flight.edge = Edge::Install;
            }
        }
        if before.target != self.config.target {
            self.refused_logins = 0;
            self.stop_complaining();
        }
        self.looked = None;
        if before.source != self.config.source
            && let Err(error) = self.open_source()
        {
            // The next step that needs it says so.
            tracing::error!(credential = self.config.name, error = chain(&error), "its source cannot be asked");
        }
        self.listen_to_signer();
    }

    /// Makes what it takes to ask whoever gives it.
    pub(super) fn open_source(&mut self) -> Result<(), CredentialError> {
        self.source = None;
        if let CredentialSource::External(settings) = &self.config.source {
            self.source = Some(Arc::new(Source::new(settings.as_ref().clone()).map_err(CredentialError::Source)?));
        }
        Ok(())
    }

    /// A token is made anew when another key signs.
    fn listen_to_signer(&mut self) {
        self.signer = match &self.config.source {
            CredentialSource::Token { signed_by, .. } => Some(self.context.rings.watch(signed_by)),
            _ => None,
        };
        self.hear_signer();
    }

    fn hear_signer(&mut self) {
        let Some(signer) = &mut self.signer else { return };
        let kid = signer.borrow_and_update().as_ref().map(|signer| signer.kid.clone());
        let signed_with = self.entry.current.as_ref().and_then(|current| current.signed_with.clone());
        self.source_changed = signed_with.is_some() && kid.is_some() && kid != signed_with;
    }

    /// The key that signs now.
    pub(super) async fn signer(&self) -> Option<Signer> {
        let mut signer = self.signer.clone()?;
        let there = tokio::time::timeout(PAUSE, signer.wait_for(Option::is_some)).await;
        there.ok()?.ok()?.clone()
    }

    fn begin_to_sign(&self) {
        if let (CredentialSource::SigningKey(_), Some(current)) = (&self.config.source, &self.entry.current)
            && let Some(algorithm) = current.signs_with()
        {
            let signer = Signer { kid: current.id.clone(), key: current.secret.clone(), algorithm };
            self.context.rings.sign_with(&self.config.name, signer);
        }
    }

    pub(super) fn note(&self, event: &Event) {
        match self.context.agent.store.note(&event.note()) {
            Ok(()) => self.context.agent.noted.notify_one(),
            Err(error) => tracing::error!(error = chain(&error), "an event is lost to the audit log: {event:?}"),
        }
    }

    pub(super) async fn commit(&mut self, entry: Entry, events: &[Event]) -> Result<(), CredentialError> {
        let (store, key, expected) =
            (Arc::clone(&self.context.agent.store), Entry::key(&self.config.name), self.version);
        let sealed = self.context.seal.seal(&key, &entry.to_json())?;
        let notes: Vec<Vec<u8>> = events.iter().map(Event::note).collect();
        let swap = tokio::task::spawn_blocking(move || store.swap(&key, expected, &sealed, &notes)).await;
        match swap.expect("the store does not panic") {
            Ok(version) => self.version = Some(version),
            Err(error) => {
                // Nobody else writes this record: a commit before that seemed to fail is there all the same.
                let key = Entry::key(&self.config.name);
                if matches!(error, StoreError::Conflict { .. })
                    && let Ok(Some(found)) = self.context.agent.store.read(&key)
                    && let Ok(json) = self.context.seal.unseal(&key, &found.value)
                    && let Ok(entry) = Entry::from_json(&json)
                {
                    (self.version, self.entry) = (Some(found.version), entry);
                }
                return Err(CredentialError::Store(error));
            }
        }
        self.entry = entry;
        if !events.is_empty() {
            self.context.agent.noted.notify_one();
        }
        self.context.agent.board.credential(self.status());
        Ok(())
    }
}

async fn changed(signer: Option<watch::Receiver<Option<Signer>>>) {
    let is_other = match signer {
        Some(mut signer) => signer.changed().await.is_ok(),
        None => false,
    };
    if !is_other {
        std::future::pending().await
    }
}
