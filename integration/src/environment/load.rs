//! Constant load: so many requests a second over connections that are kept and connections that are new, until told
//! to stop. Nothing is retried; every failure is counted by its kind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::Client;
use super::client::Ask;
use super::client::Connection;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Connections that are opened once and kept.
    pub kept: usize,
    /// Clients that open a connection for each request.
    pub fresh: usize,
    /// Pause between two requests of one client, from begin to begin.
    pub every: Duration,
    /// The request; anything but 200 is a failure.
    pub ask: Ask,
}

/// A load that runs. Dropped, it stops at once.
#[derive(Debug)]
pub struct Load {
    workers: JoinSet<()>,
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
}

/// What it came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests answered with 200 over kept connections.
    pub kept: u64,
    /// Requests answered with 200 over connections of their own.
    pub fresh: u64,
    /// Kept connections that the gate had closed between two requests, so that another had to be opened.
    pub reopened: u64,
    /// Requests that failed, by kind.
    pub failed: BTreeMap<String, u64>,
}

impl Tally {
    /// Requests that were answered with 200.
    pub fn succeeded(&self) -> u64 {
        self.kept + self.fresh
    }

    /// Requests that failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kept, fresh, reopened, failed } = self;
        write!(f, "{} requests ({kept} kept-alive, {fresh} on new connections), ", kept + fresh + self.failures())?;
        if *reopened > 0 {
            write!(f, "{reopened} kept connections closed by the gate while idle, ")?;
        }
        write!(f, "{} failed", self.failures())?;
        for (kind, count) in failed {
            write!(f, "; {count} × {kind}")?;
        }
        Ok(())
    }
}

impl Load {
    /// Starts; `clients` take turns.
    pub fn start(clients: &[Client], plan: &Plan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let mut workers = JoinSet::new();
        for (index, client) in clients.iter().cycle().take(plan.kept + plan.fresh).enumerate() {
            let worker = Worker {
                client: client.clone(),
                ask: plan.ask.clone(),
                keeps: index < plan.kept,
                connection: None,
                stop: Arc::clone(&stop),
                tally: Arc::clone(&tally),
            };
            workers.spawn(worker.run(plan.every));
        }
        Self { workers, stop, tally }
    }

    /// What it came to so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets the requests under way come to their end, and stops.
    pub async fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        while self.workers.join_next().await.is_some() {}
        self.tally()
    }
}

struct Worker {
    client: Client,
    ask: Ask,
    keeps: bool,
    connection: Option<Connection>,
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
}

impl Worker {
    async fn run(mut self, every: Duration) {
        let mut beat = tokio::time::interval(every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.stop.load(Ordering::Relaxed) {
            beat.tick().await;
            let (outcome, reopened) = self.once().await;
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.reopened += u64::from(reopened);
            match outcome {
                Ok(()) if self.keeps => tally.kept += 1,
                Ok(()) => tally.fresh += 1,
                Err(kind) => *tally.failed.entry(kind).or_default() += 1,
            }
        }
    }

    async fn once(&mut self) -> (Result<(), String>, bool) {
        let reopened = self.connection.take_if(|connection| connection.is_closed()).is_some();
        let began = Instant::now();
        let outcome = async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.client.connect().await.map_err(|error| error.kind())?,
            };
            let answer = connection.ask(&self.ask).await.map_err(|error| error.kind())?;
            if !answer.status.is_success() {
                return Err(format!("{} {}", answer.status.as_u16(), answer.code()).trim().to_owned());
            }
            self.connection = self.keeps.then_some(connection);
            Ok(())
        }
        .await
        .map_err(|kind| if self.keeps { format!("{kind} (kept-alive)") } else { format!("{kind} (new connection)") });
        tracing::trace!(elapsed = ?began.elapsed(), "request");
        (outcome, reopened)
    }
}
