//! What is revoked: an operator's word, in force on every proxy as soon as the command is answered.
//!
//! Absent: whether a certificate is believed; that is the filter's to say, from the set that this sends it
//! ([`portcullis_policy::revocation`]). Nothing here ends a revocation but a command that names it.

mod book;
mod ledger;
mod target;

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use portcullis_policy::Leaf;
use portcullis_policy::revocation::Freshness;
use portcullis_policy::revocation::MAX_BRAKES;
use portcullis_policy::revocation::MAX_KEYS;
use portcullis_policy::revocation::Revocations;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::Notify;

use crate::audit::Event;
use crate::audit::Kind;
use crate::board::Board;
use crate::command::CommandError;
use crate::errors::chain;
use crate::gate::Gate;
use crate::gate::Taken;
use crate::leaf;
use crate::rotation;
use crate::status::RevocationStatus;
use crate::store::Store;

pub use book::BookError;
pub use ledger::Ledger;
pub use target::Serial;
pub use target::Sha256Hex;
pub use target::Target;
pub use target::TargetError;

use book::Book;

/// Most targets of one command.
pub const MAX_TARGETS: usize = 100_000;
/// Longest reason, in characters.
const MAX_REASON: usize = 256;
/// Targets that the audit log names; it counts the others.
const NAMED: usize = 3;
/// Certificates that an answer names; it counts the others.
const ENDS_SHOWN: usize = 1_000;
/// How long an answer waits for proxies.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which way a command goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Not believed any more.
    Revoke,
    /// Believed again.
    Unrevoke,
}

/// Whether a command does what it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It does.
    #[default]
    Real,
    /// It only says what it would do.
    DryRun,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {
    /// Which way.
    pub change: Change,
    /// What.
    pub targets: Vec<Target>,
    /// Why, for the audit log.
    pub reason: String,
    /// Whether it is done.
    #[serde(default)]
    pub mode: Mode,
}

/// What a command changed, or would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Targets about which something changed.
    pub changed: usize,
    /// Targets that were as the command says before.
    pub unchanged: usize,
    /// Certificates of this agent's CA that end by it, the first of them.
    pub ends: Vec<Ended>,
    /// How many there are.
    pub ends_total: usize,
    /// What the proxies made of it; none if it was not done.
    pub taken: Option<Taken>,
}

/// A certificate whose connections end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Whose.
    pub identity: String,
    /// Hex.
    pub serial: String,
    /// When it would have ended by itself.
    pub not_after: Timestamp,
}

/// Everything that is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// In short.
    pub status: RevocationStatus,
    /// On operators' word.
    pub operator: Vec<RevokedTarget>,
}

/// One thing that an operator revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedTarget {
    /// What.
    pub target: Target,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub reason: String,
}

/// What revocation works with.
#[derive(Clone)]
pub struct Context {
    /// Where it is written down.
    pub store: Arc<dyn Store>,
    /// Woken when the store has notes for the audit log.
    pub noted: Arc<Notify>,
    /// Whom the agent issued certificates.
    pub ledger: Arc<Ledger>,
    /// Towards proxies.
    pub gate: Gate,
    /// The status.
    pub board: Board,
}

/// Handle on what is revoked. Clones share one state.
#[derive(Clone)]
pub struct Revoker {
    context: Context,
    book: Arc<Mutex<Book>>,
}

impl fmt::Debug for Revoker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revoker").finish_non_exhaustive()
    }
}

impl Revoker {
    /// Reads what was revoked before, and puts it in force.
    ///
    /// # Errors
    ///
    /// [`BookError`].
    pub fn open(context: Context) -> Result<Self, BookError> {
        let book = Book::open(Arc::clone(&context.store))?;
        let revoker = Self { context, book: Arc::new(Mutex::new(book)) };
        revoker.locked(|book| revoker.put_in_force(book));
        Ok(revoker)
    }

    /// Carries out a command. Answers when every proxy took it, or when one takes too long.
    ///
    /// # Errors
    ///
    /// [`CommandError`]; nothing was changed then.
    pub async fn change(&self, request: ChangeRequest) -> Result<Changed, CommandError> {
        let revoker = self.clone();
        let mode = request.mode;
        let changed = tokio::task::spawn_blocking(move || revoker.locked(|book| revoker.apply(book, request))).await;
        let failed = |cause: String| CommandError::Failed { step: "revoke".to_owned(), cause };
        let mut changed = changed.map_err(|error| failed(error.to_string()))??;
        if mode == Mode::Real {
            changed.taken = Some(self.context.gate.taken(PATIENCE).await);
        }
        Ok(changed)
    }

    /// Everything that is revoked.
    pub fn revoked(&self) -> Revoked {
        let status = self.context.board.watch().borrow().revocations.clone();
        let operator = self.locked(|book| {
            let entries = book.entries().map(|(target, entry)| RevokedTarget {
                target: target.clone(),
                since: entry.since,
                reason: entry.reason.to_string(),
            });
            entries.collect()
        });
        Revoked { status, operator }
    }

    fn apply(&self, book: &mut Book, request: ChangeRequest) -> Result<Changed, CommandError> {
        let ChangeRequest { change, targets, reason, mode } = request;
        let invalid = |what: String| Err(CommandError::Invalid { what });
        let asked = targets.len();
        if !(1..=MAX_TARGETS).contains(&asked) {
            return invalid(format!("{asked} targets; a command takes 1 to {MAX_TARGETS}"));
        }
        if reason.trim().is_empty() || reason.chars().count() > MAX_REASON || reason.chars().any(char::is_control) {
            return invalid(format!("the audit log needs a reason, of 1 to {MAX_REASON} characters in one line"));
        }
        let news = book.news(change, targets);
        let keys: Vec<_> = news.iter().filter_map(Target::key).collect();
        let brakes: Vec<_> = news.iter().filter_map(Target::brake).collect();
        let now = leaf::now();
        if change == Change::Revoke {
            if let Some(brake) = brakes.iter().find(|brake| brake.issued_before > now) {
                let instant = leaf::timestamp(brake.issued_before);
                return invalid(format!("{instant} has not come: whoever renews until then would be refused as well"));
            }
            if book.entries().len() + news.len() > MAX_KEYS || book.brakes().count() + brakes.len() > MAX_BRAKES {
                return invalid(format!("no more than {MAX_KEYS} entries and {MAX_BRAKES} brakes can be in force"));
            }
        }
        let (mut ends, mut ends_total) = (Vec::new(), 0);
        if change == Change::Revoke {
            let set = Revocations::new(keys, brakes, Freshness::default());
            for leaf in self.known().into_iter().filter(|leaf| set.judge(leaf).is_some()) {
                ends_total += 1;
                if ends.len() < ENDS_SHOWN {
                    ends.push(Ended {
                        identity: leaf.identity().to_owned(),
                        serial: leaf::serial_hex(leaf.serial()),
                        not_after: leaf::timestamp(leaf.not_after()),
                    });
                }
            }
        }
        let changed = Changed { changed: news.len(), unchanged: asked - news.len(), ends, ends_total, taken: None };
        if mode == Mode::Real && !news.is_empty() {
            let kind = if change == Change::Revoke { Kind::Revoked } else { Kind::Unrevoked };
            let event = Event::new(kind, &describe(&news)).by("operator").because(reason.clone());
            let failed = |error: BookError| CommandError::Failed { step: "revoke".to_owned(), cause: chain(&error) };
            book.write(change, &reason, news, event.note()).map_err(failed)?;
            self.context.noted.notify_one();
            self.put_in_force(book);
        }
        Ok(changed)
    }

    /// The certificates that this agent's CA issued, as far as they are valid.
    fn known(&self) -> Vec<Arc<Leaf>> {
        let now = leaf::now();
        let mut known = self.context.ledger.valid(now);
        let names: Vec<String> = {
            let status = self.context.board.watch();
            let status = status.borrow();
            status.certificates.iter().map(|certificate| certificate.name.clone()).collect()
        };
        for name in names {
            let der = rotation::stored_leaf(self.context.store.as_ref(), &name);
            known.extend(der.and_then(|der| Leaf::from_der(&der).ok()).map(Arc::new));
        }
        known
    }

    fn put_in_force(&self, book: &Book) {
        let set = Revocations::new(book.keys().collect(), book.brakes().collect(), Freshness::default());
        self.context.board.revocations(RevocationStatus {
            version: (!set.is_empty()).then(|| set.version()),
            keys: set.keys().len(),
            brakes: set.brakes().len(),
        });
        self.context.gate.revoked(Arc::new(set));
    }

    fn locked<T>(&self, work: impl FnOnce(&mut Book) -> T) -> T {
        // A page is taken whole or not at all, whatever panics.
        work(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// For the audit log.
fn describe(targets: &[Target]) -> String {
    let named = targets.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match targets.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
