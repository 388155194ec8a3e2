//! The policy file: watched, compiled, tested and pushed; a bad one changes nothing but the status.
//!
//! The last good policy is kept in the store, so that a restart with a bad file goes on with it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::RecursiveMode;
use notify::Watcher as _;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::audit::Event;
use crate::audit::Kind;
use crate::board::Board;
use crate::config;
use crate::config::Config;
use crate::errors::chain;
use crate::policy_source::PolicySource;
use crate::policy_source::PolicySourceError;
use crate::resource::Body;
use crate::resource::Resource;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Version;
use crate::xds::Publisher;

/// The file is looked at this often even if nothing is reported: watches get lost, and some file systems have none.
const RESCAN: Duration = Duration::from_millis(500);
/// A bad file may be one that is still being written: it is refused if it stays the same for this long.
const SETTLE: Duration = Duration::from_millis(200);
const STORE_KEY: &str = "policy";

/// A policy that compiles and passes its own tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiled {
    /// SHA-256 of the canonical document, hex.
    pub version: String,
    /// The document as the filter takes it, JSON.
    pub configuration: String,
}

/// Why a policy is not in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyFileError {
    /// The file cannot be read, is not a policy, or fails one of its own tests: where, and what is wrong.
    #[error(transparent)]
    Policy(#[from] PolicySourceError),
    /// The store cannot say which policy was in force.
    #[error("the last good policy cannot be read")]
    Store(#[source] StoreError),
}

/// Reads, compiles and tests a policy file.
///
/// # Errors
///
/// [`PolicyFileError`], with file, line and field.
pub fn compile(path: &Path) -> Result<Compiled, PolicyFileError> {
    let source = PolicySource::read(path)?;
    match source.failures().into_iter().next() {
        None => {
            let policy = source.policy();
            Ok(Compiled { version: policy.version().to_owned(), configuration: policy.to_json() })
        }
        Some(failure) => Err(PolicyFileError::Policy(failure.into())),
    }
}

/// The policy of a configuration, on its way to proxies.
pub struct PolicyFile {
    path: PathBuf,
    filter: config::Filter,
    publisher: Publisher,
    board: Board,
    store: Arc<dyn Store>,
    noted: Arc<Notify>,
    current: Option<Compiled>,
    stored: Option<Version>,
    /// What was last compiled or refused.
    seen: Option<Vec<u8>>,
}

impl PolicyFile {
    /// Puts the policy in force, or the last good one if the file is bad. `None` if there is no filter to give it to.
    ///
    /// # Errors
    ///
    /// [`PolicyFileError`], if the file is bad and there is no last good one.
    pub fn open(
        config: &Config,
        publisher: &Publisher,
        board: &Board,
        store: &Arc<dyn Store>,
        noted: &Arc<Notify>,
    ) -> Result<Option<Self>, PolicyFileError> {
        let (Some(path), Some(filter)) = (&config.policy, &config.filter) else {
            return Ok(None);
        };
        let found = store.read(STORE_KEY).map_err(PolicyFileError::Store)?;
        let stored = found.as_ref().map(|found| found.version);
        let last_good = found.and_then(|found| serde_json::from_slice::<Compiled>(&found.value).ok());
        let mut file = Self {
            path: path.clone(),
            filter: filter.clone(),
            publisher: publisher.clone(),
            board: board.clone(),
            store: Arc::clone(store),
            noted: Arc::clone(noted),
            current: None,
            stored,
            seen: None,
        };
        board.policy(|policy| policy.file = path.display().to_string());
        file.seen = fs::read(path).ok();
        match (compile(path), last_good) {
            (Ok(compiled), last_good) => {
                file.current = last_good;
                file.accept(compiled);
            }
            (Err(error), Some(last_good)) => {
                file.publish(&last_good);
                file.board.policy(|policy| policy.version = Some(last_good.version.clone()));
                file.current = Some(last_good);
                file.refuse(&error);
            }
            (Err(error), None) => return Err(error),
        }
        Ok(Some(file))
    }

    /// Follows the file until `shutdown`.
    pub async fn watch(mut self, shutdown: CancellationToken) {
        let changed = Arc::new(Notify::new());
        // Kept alive for as long as the file is followed. Without it the rescan alone sees edits, a little later.
        let _watcher = self.watcher(&changed);
        let mut stamp = stamp(&self.path);
        // What happened to the file since it was opened was seen by nobody.
        if fs::read(&self.path).ok() != self.seen {
            self.reload().await;
        }
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = changed.notified() => {}
                () = tokio::time::sleep(RESCAN) => {
                    let now = self::stamp(&self.path);
                    if now == stamp {
                        continue;
                    }
                }
            }
            stamp = self::stamp(&self.path);
            self.reload().await;
        }
    }

    async fn reload(&mut self) {
        loop {
            let path = self.path.clone();
            let seen = self.seen.clone();
            let read = tokio::task::spawn_blocking(move || {
                let text = fs::read(&path).ok();
                let same = text.is_some() && text == seen;
                (if same { None } else { Some(compile(&path)) }, text)
            });
            let (outcome, text) = read.await.expect("compiling a policy does not panic");
            let Some(outcome) = outcome else {
                return;
            };
            match outcome {
                Ok(compiled) => {
                    self.seen = text;
                    self.accept(compiled);
                    return;
                }
                Err(error) => {
                    tokio::time::sleep(SETTLE).await;
                    if fs::read(&self.path).ok() == text {
                        self.seen = text;
                        self.refuse(&error);
                        return;
                    }
                }
            }
        }
    }

    fn accept(&mut self, compiled: Compiled) {
        self.publish(&compiled);
        self.board.policy(|policy| {
            policy.version = Some(compiled.version.clone());
            policy.error = None;
        });
        let old = self.current.as_ref().map(|current| current.version.clone());
        if old.as_ref() != Some(&compiled.version) {
            tracing::info!(version = compiled.version, "policy accepted");
            let file = self.path.display().to_string();
            let event = Event::new(Kind::PolicyAccepted, &self.filter.name)
                .because(file)
                .change(old.as_deref(), Some(&compiled.version));
            let value = serde_json::to_vec(&compiled).expect("a policy is made of strings");
            match self.store.swap(STORE_KEY, self.stored, &value, &[event.note()]) {
                Ok(version) => self.stored = Some(version),
                Err(error) => tracing::error!(error = chain(&error), "the policy is in force and was not stored"),
            }
            self.noted.notify_one();
        }
        self.current = Some(compiled);
    }

    fn refuse(&self, error: &PolicyFileError) {
        let error = chain(error);
        tracing::error!(error, "policy refused; the one before stays in force");
        let version = self.current.as_ref().map(|current| current.version.as_str());
        let event = Event::new(Kind::PolicyRefused, &self.filter.name).because(error.clone()).change(version, None);
        if let Err(error) = self.store.note(&event.note()) {
            tracing::error!(error = chain(&error), "an event is lost to the audit log: {event:?}");
        }
        self.noted.notify_one();
        self.board.policy(|policy| policy.error = Some(error));
    }

    fn publish(&self, compiled: &Compiled) {
        let body = Body::WasmFilter {
            module: self.filter.wasm.display().to_string(),
            configuration: compiled.configuration.clone(),
        };
        let resource = Resource { name: self.filter.name.clone(), version: compiled.version.clone(), body };
        if let Err(error) = self.publisher.publish(resource) {
            tracing::error!(filter = self.filter.name, error = chain(&error), "not published");
        }
    }

    /// Watches the directory, not the file: editors replace files by renaming.
    fn watcher(&self, changed: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
        let changed = Arc::clone(changed);
        let name = self.path.file_name().map(ToOwned::to_owned);
        let handler = move |event: notify::Result<notify::Event>| {
            let ours = event.is_ok_and(|event| {
                !event.kind.is_access() && event.paths.iter().any(|path| path.file_name() == name.as_deref())
            });
            if ours {
                changed.notify_one();
            }
        };
        let directory = self.path.parent()?;
        let watcher = notify::recommended_watcher(handler).and_then(|mut watcher| {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        watcher
            .inspect_err(
                |error| tracing::warn!(%error, "the policy file is not watched; edits are seen a little later"),
            )
            .ok()
    }
}

/// What changes with every way of saving a file.
fn stamp(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}
