//! What is revoked: an operator's word, in force on every proxy as soon as the command is answered, and the revocation lists
//! of authorities.
//!
//! Absent: whether a certificate is believed; that is the filter's to say, from the set that this sends it
//! ([`portcullis_policy::revocation`]). Nothing here ends an operator's revocation but a command that
//! names it.

mod book;
mod by_url;
mod copy;
mod in_file;
mod keeper;
mod ledger;
mod list;
mod target;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use portcullis_policy::Leaf;
use portcullis_policy::UnixTime;
use portcullis_policy::revocation::Freshness;
use portcullis_policy::revocation::MAX_BRAKES;
use portcullis_policy::revocation::MAX_KEYS;
use portcullis_policy::revocation::Revocations;
use portcullis_policy::revocation::WhenStale;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::Event;
use crate::audit::Kind;
use crate::board::Board;
use crate::command::CommandError;
use crate::config;
use crate::config::ListSource;
use crate::errors::chain;
use crate::fetch;
use crate::fetch::Fetcher;
use crate::gate::Gate;
use crate::gate::Taken;
use crate::keys::KeyError;
use crate::leaf;
use crate::metrics::Metrics;
use crate::rotation;
use crate::status::ListStatus;
use crate::status::RevocationStatus;
use crate::store::Store;
use crate::trust::OwnEntry;
use crate::trust::Trust;

pub use book::BookError;
pub use ledger::Ledger;
pub use list::AuthorityError;
pub use list::Emptied;
pub use list::ListAuthority;
pub use list::ListError;
pub use target::Serial;
pub use target::Sha256Hex;
pub use target::Target;
pub use target::TargetError;

pub(crate) use by_url::WANTED;

use book::Book;
use book::Mended;
use by_url::ByUrl;
use in_file::InFile;
use keeper::Keeper;
use list::List;

/// Most targets of one command.
pub const MAX_TARGETS: usize = 100_000;
/// Longest reason, in characters.
const MAX_REASON: usize = 256;
/// Targets that the audit log names; it counts the others.
const NAMED: usize = 3;
/// Certificates that an answer names; it counts the others.
const ENDS_SHOWN: usize = 1_000;
/// How long an answer waits for proxies where nothing else is said, in seconds.
const PATIENCE: u64 = 20;

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
    /// How long the answer waits for proxies, in seconds. Said only where it is not the usual time, which an agent of before
    /// keeps to without being told.
    #[serde(default = "patience", skip_serializing_if = "is_usual")]
    pub patience: u64,
}

fn patience() -> u64 {
    PATIENCE
}

fn is_usual(patience: &u64) -> bool {
    *patience == PATIENCE
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
    /// All of it as the filter has it, lists of authorities included: `revocations` of its configuration. Null if nothing is
    /// revoked.
    #[serde(default)]
    pub set: serde_json::Value,
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
    /// Where it is written down once more.
    pub copy: PathBuf,
    /// Woken when the store has notes for the audit log.
    pub noted: Arc<Notify>,
    /// Whom the agent issued certificates.
    pub ledger: Arc<Ledger>,
    /// Towards the filters of proxies.
    pub gate: Gate,
    /// Towards proxies themselves.
    pub trust: Trust,
    /// The status.
    pub board: Board,
    /// Counters.
    pub metrics: Metrics,
    /// How a list is fetched.
    pub fetcher: Fetcher,
    /// Spreads what would otherwise happen at once.
    pub draw: fn() -> Result<u32, KeyError>,
}

/// How lists are fetched.
pub fn fetcher() -> Fetcher {
    Fetcher::new(WANTED)
}

#[cfg(test)]
impl Context {
    /// Of an agent to which no proxy is connected.
    pub(crate) fn alone(store: Arc<dyn Store>, directory: &std::path::Path) -> Self {
        let board = Board::new();
        let ledger = Arc::new(Ledger::open(Arc::clone(&store)).expect("a ledger"));
        let publisher = crate::xds::Publisher::new();
        let gate = Gate::open(publisher.clone(), board.clone(), Arc::clone(&store)).expect("a gate");
        let ca = config::Ca { trust_domain: "acme.example".to_owned(), root_lifetime: 86_400, ..config::Ca::default() };
        let (authority, _) = crate::ca::Authority::open(directory, &ca, leaf::now()).expect("a CA");
        let trust = Trust::new(publisher, Arc::new(authority), &config::Revocation::default());
        let (metrics, draw) = (Metrics::new(), || Ok(0));
        let copy = directory.join("revocations.jsonl");
        Self { store, copy, noted: Arc::default(), ledger, gate, trust, board, metrics, fetcher: fetcher(), draw }
    }
}

/// Handle on what is revoked. Clones share one state.
#[derive(Clone)]
pub struct Revoker {
    context: Context,
    state: Arc<Mutex<State>>,
}

struct State {
    book: Book,
    /// By name, in the order of the configuration.
    lists: Vec<(ListStatus, Option<Arc<List>>)>,
    when_stale: WhenStale,
    /// As it was put in force last.
    set: Arc<Revocations>,
}

impl fmt::Debug for Revoker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revoker").finish_non_exhaustive()
    }
}

impl Revoker {
    /// Reads what was revoked before, and puts it in force. A list that was never taken counts as stale until it is.
    ///
    /// # Errors
    ///
    /// [`BookError`].
    pub fn open(context: Context, config: &config::Revocation) -> Result<Self, BookError> {
        let (book, mended) = Book::open(Arc::clone(&context.store), context.copy.clone())?;
        let copy = context.copy.display();
        let alarm = match mended {
            Mended::Nothing => None,
            Mended::Recovered(pages) => {
                Some(format!("the store lacked {pages} commands of operators; they were read from `{copy}`"))
            }
            Mended::MovedAside(aside) => Some(format!(
                "`{copy}` does not go with the store, and was moved to `{}`: see whether somebody is revoked there only",
                aside.display()
            )),
        };
        if let Some(what) = alarm {
            tracing::error!("{what}");
            context.store.note(&Event::new(Kind::Alarm, "revocations").because(what).note())?;
            context.noted.notify_one();
        }
        let lists = config.lists.iter().map(|list| (ListStatus::new(&list.name, &list.source.to_string()), None));
        let (when_stale, set) = (config.when_stale, Arc::default());
        let state = State { book, lists: lists.collect(), when_stale, set };
        let revoker = Self { context, state: Arc::new(Mutex::new(state)) };
        revoker.locked(|state| revoker.put_in_force(state));
        Ok(revoker)
    }

    /// Takes the lists as they are now, and follows them until `shutdown`. Call it inside the runtime.
    pub fn follow(&self, lists: &[config::RevocationList], tasks: &TaskTracker, shutdown: &CancellationToken) {
        for list in lists {
            let keeper = Keeper::open(list.clone(), self.clone());
            match &list.source {
                ListSource::File(file) => tasks.spawn(InFile::open(keeper, file.clone()).run(shutdown.clone())),
                ListSource::Url(url) => tasks.spawn(fetch::follow(ByUrl::open(keeper, url.clone()), shutdown.clone())),
            };
        }
    }

    /// What became of a list.
    fn list(&self, status: ListStatus, list: Option<Arc<List>>) {
        self.locked(|state| {
            if let Some(slot) = state.lists.iter_mut().find(|(known, _)| known.name == status.name) {
                *slot = (status, list);
            }
            self.put_in_force(state);
        });
    }

    /// Carries out a command. Answers when every proxy took it, or when one takes too long.
    ///
    /// # Errors
    ///
    /// [`CommandError`]; nothing was changed then.
    pub async fn change(&self, request: ChangeRequest) -> Result<Changed, CommandError> {
        let revoker = self.clone();
        let (mode, patience) = (request.mode, Duration::from_secs(request.patience));
        let changed = tokio::task::spawn_blocking(move || revoker.locked(|state| revoker.apply(state, request))).await;
        let failed = |cause: String| CommandError::Failed { step: "revoke".to_owned(), cause };
        let mut changed = changed.map_err(|error| failed(error.to_string()))??;
        if mode == Mode::Real {
            changed.taken = Some(self.context.gate.taken(patience).await);
        }
        Ok(changed)
    }

    /// The set that proxies are given now.
    pub fn in_force(&self) -> Arc<Revocations> {
        self.locked(|state| Arc::clone(&state.set))
    }

    /// Everything that is revoked.
    pub fn revoked(&self) -> Revoked {
        let status = self.context.board.watch().borrow().revocations.clone();
        let (operator, set) = self.locked(|state| {
            let entries = state.book.entries().map(|(target, entry)| RevokedTarget {
                target: target.clone(),
                since: entry.since,
                reason: entry.reason.to_string(),
            });
            (entries.collect(), Arc::clone(&state.set))
        });
        let set = set.to_json().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Revoked { status, operator, set }
    }

    fn apply(&self, state: &mut State, request: ChangeRequest) -> Result<Changed, CommandError> {
        let ChangeRequest { change, targets, reason, mode, patience: _ } = request;
        let invalid = |what: String| Err(CommandError::Invalid { what });
        let book = &mut state.book;
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
            self.put_in_force(state);
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

    fn put_in_force(&self, state: &mut State) {
        let lists = || state.lists.iter().filter_map(|(_, list)| list.as_ref());
        // What is longest without news counts.
        let mut until =
            state.lists.iter().map(|(_, list)| list.as_ref().map_or(UnixTime(0), |list| list.next_update)).min();
        let own: BTreeSet<_> = state.book.keys().collect();
        let mut keys: Vec<_> = lists().flat_map(|list| list.keys.iter().copied()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| !own.contains(key));
        if own.len() + keys.len() > MAX_KEYS {
            // A set that the filter refuses would leave the one before in force, without a word of what is new. One that is
            // not whole is as good as an old one.
            tracing::error!(
                keys = own.len() + keys.len(),
                "more is revoked than a filter takes; some of the lists are left out, and the set counts as stale"
            );
            keys.truncate(MAX_KEYS.saturating_sub(own.len()));
            until = Some(UnixTime(0));
        }
        let freshness = Freshness { until, when_stale: state.when_stale };
        keys.extend(own);
        let set = Revocations::new(keys, state.book.brakes().collect(), freshness);
        self.context.board.revocations(RevocationStatus {
            version: (!set.is_empty()).then(|| set.version()),
            keys: set.keys().len(),
            brakes: set.brakes().len(),
            when_stale: state.when_stale,
            lists: state.lists.iter().map(|(status, _)| status.clone()).collect(),
        });
        state.set = Arc::new(set);
        self.context.gate.revoked(Arc::clone(&state.set));
        let trust = &self.context.trust;
        let issuers = trust.own_names();
        let serial = |(target, entry): (&Target, &book::Entry)| match target {
            Target::Serial { issuer, serial } if issuers.contains(issuer) => {
                Some(OwnEntry { serial: serial.clone(), since: UnixTime(entry.since.as_second()) })
            }
            _ => None,
        };
        let mut own: Vec<OwnEntry> = state.book.entries().filter_map(serial).collect();
        // The root and those below it have names of their own, and a serial number is asked for under each of them.
        own.sort_unstable();
        own.dedup_by(|one, other| one.serial == other.serial);
        trust.revoked(own, lists().map(|list| list.for_bundles()).collect());
    }

    fn locked<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // A page is taken whole or not at all, whatever panics.
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
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
