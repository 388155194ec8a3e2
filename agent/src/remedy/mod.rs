//! Remedies: programs and web hooks that are told when something failed, by the kind of failure.
//!
//! One report a series of failures, and then fewer and fewer: at the second, the fourth, the eighth. Another kind of failure in
//! the same series is told at once. A remedy runs beside the rotation and never holds it up; one that still runs is told the
//! newest when it has ended. Nothing of a remedy decides anything: what it puts right, the next attempt finds right.

mod post;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::sync::Semaphore;

use crate::audit::Event;
use crate::audit::Kind;
use crate::errors::chain;
use crate::hook::Hook;
use crate::hook::HookError;
use crate::store::Store;

pub use post::Post;
pub use post::PostError;

pub(crate) use post::WANTED;

/// Remedies that are taken at once, whatever number of certificates fail together.
static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// A kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Failure {
    /// A proxy, a file, a hook or a signal: it did not get to where it is used.
    DeliveryFailed,
    /// The issuer did not answer with a certificate that a peer would accept.
    IssuerFailed,
    /// A target does not let a credential in that was set on it.
    LoginFailed,
    /// It was delivered, and a listener goes on with another.
    NotServed,
    /// The store, the disk or the machine: not even tried.
    NotTried,
    /// A certificate that was not served gave way to the one before.
    RolledBack,
    /// Somebody who has the root's key has to sign the next intermediate.
    SignatureWanted,
    /// A credential's source gave none, or one that cannot be used.
    SourceFailed,
    /// A credential could not be set on its target, or taken away there.
    TargetFailed,
    /// Somebody else sets the same account's secrets.
    TwoAgents,
}

impl Failure {
    /// The stable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeliveryFailed => "delivery_failed",
            Self::IssuerFailed => "issuer_failed",
            Self::LoginFailed => "login_failed",
            Self::NotServed => "not_served",
            Self::NotTried => "not_tried",
            Self::RolledBack => "rolled_back",
            Self::SignatureWanted => "signature_wanted",
            Self::SourceFailed => "source_failed",
            Self::TargetFailed => "target_failed",
            Self::TwoAgents => "two_agents",
        }
    }
}

/// A remedy of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// Which failures it is told of; empty for all.
    pub on: BTreeSet<Failure>,
    /// Who is told.
    pub action: Action,
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A program, by JSON on its standard input.
    Run(Hook),
    /// A server, by JSON in a POST.
    Post(Post),
}

impl fmt::Display for Action {
    /// Without arguments and queries, which are nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(hook) => write!(f, "`{}`", hook.program.display()),
            Self::Post(post) => write!(f, "`{post}`"),
        }
    }
}

/// What failed, as remedies are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The kind.
    pub failure: Failure,
    /// Name of the certificate in the configuration.
    pub name: String,
    /// Its SPIFFE ID or first name.
    pub identity: String,
    /// The step of the state machine.
    pub step: &'static str,
    /// What is wrong, in one line.
    pub error: String,
    /// Failed attempts in this series, this one included.
    pub failures: u32,
    /// What was tried already, a sentence each.
    pub tried: Vec<String>,
    /// When it is tried again.
    pub next_attempt: Option<Timestamp>,
    /// When what is in use now ends, and clients are refused.
    pub outage_at: Option<Timestamp>,
}

/// Why a remedy was not told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemedyError {
    /// The server.
    #[error(transparent)]
    Post(#[from] PostError),
    /// The program.
    #[error(transparent)]
    Run(#[from] HookError),
}

/// The remedies in force. Clones share them.
#[derive(Clone)]
pub struct Remedies(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    noted: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    remedies: Arc<Vec<Remedy>>,
    /// The last failure that was told of each certificate.
    told: BTreeMap<String, Failure>,
    /// Remedies that run, by certificate and place in the list, and what they are told next.
    running: BTreeMap<(String, usize), Option<Report>>,
}

impl Remedies {
    /// These remedies; what they come to is noted in `store`.
    pub fn new(store: Arc<dyn Store>, noted: Arc<Notify>, remedies: &[Remedy]) -> Self {
        let this = Self(Arc::new(Shared { store, noted, state: Mutex::default() }));
        this.replace(remedies);
        this
    }

    /// Others from now on; those that run go on to their end.
    pub fn replace(&self, remedies: &[Remedy]) {
        self.locked(|state| state.remedies = Arc::new(remedies.to_vec()));
    }

    /// Tells who is to be told of this, unless that was done a moment ago. Returns at once.
    pub fn tell(&self, report: Report) {
        let due = self.locked(|state| {
            let last = state.told.insert(report.name.clone(), report.failure);
            if !report.failures.is_power_of_two() && last == Some(report.failure) {
                return Vec::new();
            }
            let remedies = Arc::clone(&state.remedies);
            let wanted = |remedy: &Remedy| remedy.on.is_empty() || remedy.on.contains(&report.failure);
            let due = remedies.iter().enumerate().filter(|(_, remedy)| wanted(remedy));
            let mut free = Vec::new();
            for (at, remedy) in due {
                let key = (report.name.clone(), at);
                if let Some(next) = state.running.get_mut(&key) {
                    *next = Some(report.clone());
                } else {
                    state.running.insert(key.clone(), None);
                    free.push((key, remedy.action.clone()));
                }
            }
            free
        });
        for (key, action) in due {
            tokio::spawn(self.clone().run(key, action, report.clone()));
        }
    }

    /// Tells a remedy, and then what came meanwhile, until nothing did.
    async fn run(self, key: (String, usize), action: Action, mut report: Report) {
        loop {
            let permit = AT_ONCE.acquire().await;
            let outcome = action.take(&report).await;
            drop(permit);
            self.note(&report, &action, outcome);
            let next = self.locked(|state| {
                let next = state.running.get_mut(&key).and_then(Option::take);
                if next.is_none() {
                    state.running.remove(&key);
                }
                next
            });
            match next {
                Some(next) => report = next,
                None => return,
            }
        }
    }

    /// The series is over: the next failure is told at once.
    pub fn is_well(&self, name: &str) {
        self.locked(|state| state.told.remove(name));
    }

    fn note(&self, report: &Report, action: &Action, outcome: Result<String, RemedyError>) {
        let failure = report.failure.as_str();
        let (name, said) = (&report.name, outcome.unwrap_or_else(|error| chain(&error)));
        tracing::info!(certificate = name, failure, remedy = %action, said, "a remedy was told");
        let event = Event::new(Kind::Remedied, name).because(format!("{failure}: {said}"));
        match self.0.store.note(&event.note()) {
            Ok(()) => self.0.noted.notify_one(),
            Err(error) => tracing::error!(error = chain(&error), "an event is lost to the audit log"),
        }
    }

    fn locked<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // Each change is whole.
        work(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Action {
    /// Tells it, and says how that went.
    async fn take(&self, report: &Report) -> Result<String, RemedyError> {
        let json = serde_json::to_vec(report).expect("a report is made of strings and numbers");
        match self {
            Self::Run(hook) => {
                let variables = [("FAILED_DOMAINS", report.identity.clone())];
                Ok(hook.run_with(&json, variables, "").await?)
            }
            Self::Post(post) => Ok(post.send(json).await?),
        }
    }
}

#[cfg(test)]
mod tests;
