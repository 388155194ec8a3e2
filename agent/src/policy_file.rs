//! The policy file: watched, compiled, tested and pushed; a bad one changes nothing but the status.
//!
//! The last good policy is kept in the store, so that a restart with a bad file goes on with it. The keys of its token
//! providers are followed ([`crate::jwks`]): others have the last good text compiled and pushed with them, as an edit
//! would be.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
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
use crate::gate::Gate;
use crate::gate::Turn;
use crate::jwks;
use crate::jwks::Jwks;
use crate::jwks::Keys;
use crate::jwks::Providers;
use crate::jwks::Remote;
use crate::policy_source::PolicySource;
use crate::policy_source::PolicySourceError;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Version;
use crate::yaml::Source;

/// The file is looked at this often even if nothing is reported: watches get lost, and some file systems have none.
const RESCAN: Duration = Duration::from_millis(500);
/// A bad file may be one that is still being written: it is refused if it stays the same for this long.
const SETTLE: Duration = Duration::from_millis(200);
/// What the keys of a provider that an edit added may take to come.
const FIRST_FETCH: Duration = Duration::from_secs(3);
const STORE_KEY: &str = "policy";

/// A policy that compiles and passes its own tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiled {
    /// SHA-256 of the canonical document, hex.
    pub version: String,
    /// The document as the filter takes it, JSON.
    pub configuration: String,
    /// The document as somebody wrote it: compiled again when keys change.
    #[serde(default)]
    pub text: Option<String>,
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
    compile_with(&read(path)?, &Known::new())
}

/// What is known of the keys of providers.
type Known = BTreeMap<Remote, Arc<Keys>>;

fn read(path: &Path) -> Result<Source, PolicyFileError> {
    Ok(Source::read(path).map_err(PolicySourceError::from)?)
}

fn compile_with(source: &Source, known: &Known) -> Result<Compiled, PolicyFileError> {
    let compiled = PolicySource::compile_with(source.clone(), known).map_err(PolicySourceError::from)?;
    if !compiled.policy().revocations().is_empty() {
        let message = "the agent writes this itself; say what is revoked with `portcullis revoke`";
        return Err(PolicyFileError::Policy(compiled.remark("revocations", message).into()));
    }
    match compiled.failures().into_iter().next() {
        None => {
            let policy = compiled.policy();
            let text = Some(source.text().to_owned());
            Ok(Compiled { version: policy.version().to_owned(), configuration: policy.to_json(), text })
        }
        Some(failure) => Err(PolicyFileError::Policy(failure.into())),
    }
}

/// Everything that a policy is made of, as it was last looked at: the file, and the files with keys that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    text: Option<Vec<u8>>,
    keys: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Seen {
    fn now(path: &Path, keys: &[PathBuf]) -> Self {
        let keys = keys.iter().map(|file| (file.clone(), fs::read(file).ok())).collect();
        Self { text: fs::read(path).ok(), keys }
    }

    fn key_files(&self) -> Vec<PathBuf> {
        self.keys.iter().map(|(file, _)| file.clone()).collect()
    }
}

/// The policy of a configuration, on its way to proxies.
pub struct PolicyFile {
    path: PathBuf,
    filter: config::Filter,
    gate: Gate,
    /// Since something was given to the gate.
    turn: Option<Turn>,
    board: Board,
    store: Arc<dyn Store>,
    noted: Arc<Notify>,
    current: Option<Compiled>,
    stored: Option<Version>,
    /// What was last compiled or refused.
    seen: Seen,
    /// Where the keys of the policy in force come from.
    jwks: Jwks,
    /// Why the policy in force does not go with the keys that came last.
    keys_error: Option<String>,
}

impl PolicyFile {
    /// Puts the policy in force, or the last good one if the file is bad. `None` if there is no filter to give it to.
    /// Keys that are not known yet are not waited for. Call it inside the runtime.
    ///
    /// # Errors
    ///
    /// [`PolicyFileError`], if the file is bad and there is no last good one.
    pub fn open(config: &Config, gate: &Gate, jwks: Jwks) -> Result<Option<Self>, PolicyFileError> {
        let (Some(path), Some(filter)) = (&config.policy, &config.filter) else {
            return Ok(None);
        };
        let jwks::Context { store, noted, board, .. } = jwks.context().clone();
        let found = store.read(STORE_KEY).map_err(PolicyFileError::Store)?;
        let stored = found.as_ref().map(|found| found.version);
        let last_good = found.and_then(|found| serde_json::from_slice::<Compiled>(&found.value).ok());
        board.policy(|policy| policy.file = path.display().to_string());
        let mut file = Self {
            path: path.clone(),
            filter: filter.clone(),
            gate: gate.clone(),
            turn: None,
            board,
            store,
            noted,
            current: None,
            stored,
            seen: Seen::default(),
            jwks,
            keys_error: None,
        };
        match (file.compile_first(), last_good) {
            (Ok(compiled), last_good) => {
                file.current = last_good;
                file.accept(compiled);
            }
            (Err(error), Some(last_good)) => {
                file.publish(&last_good);
                file.current = Some(last_good);
                file.follow_current();
                file.refuse(&error);
            }
            (Err(error), None) => return Err(error),
        }
        Ok(Some(file))
    }

    fn compile_first(&mut self) -> Result<Compiled, PolicyFileError> {
        self.seen = Seen::now(&self.path, &[]);
        let source = read(&self.path)?;
        let providers = PolicySource::providers_of(&source).map_err(PolicySourceError::from)?;
        let text = Some(source.text().into());
        self.seen = Seen { text, ..Seen::now(&self.path, &files(&providers)) };
        self.jwks.follow(&providers.remote);
        compile_with(&source, &self.jwks.known())
    }

    /// Follows the file, and the keys of its providers, until `shutdown`. Nothing is published after that.
    pub async fn watch(self, shutdown: CancellationToken) {
        // What is done between two waits is done whole, so it may end at any of them.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(mut self) {
        let changed = Arc::new(Notify::new());
        let mut keys = self.jwks.changes();
        // Those that came since the policy was compiled were seen by nobody.
        keys.mark_changed();
        let mut watched = self.seen.key_files();
        // Kept alive for as long as the files are followed. Without it the rescan alone sees edits, a little later.
        let mut _watcher = self.watcher(&changed);
        let mut stamp = self.stamp();
        // Nor was what happened to the files.
        if Seen::now(&self.path, &watched) != self.seen {
            self.reload().await;
        }
        loop {
            tokio::select! {
                () = changed.notified() => {}
                Ok(()) = keys.changed() => {
                    self.refill().await;
                    continue;
                }
                () = tokio::time::sleep(RESCAN) => {
                    if self.stamp() == stamp {
                        continue;
                    }
                }
            }
            stamp = self.stamp();
            self.reload().await;
            if watched != self.seen.key_files() {
                watched = self.seen.key_files();
                _watcher = self.watcher(&changed);
                stamp = self.stamp();
            }
        }
    }

    /// Takes the file as it is now, if it is another than before.
    async fn reload(&mut self) {
        loop {
            let (path, key_files) = (self.path.clone(), self.seen.key_files());
            let read = tokio::task::spawn_blocking(move || {
                let seen = Seen::now(&path, &key_files);
                let source = read(&path);
                let providers =
                    source.as_ref().ok().and_then(|source| PolicySource::providers_of(source).ok()).unwrap_or_default();
                // What was compiled, and not what the file holds by now: that would pass for looked at.
                let text = source.as_ref().map_or_else(|_| seen.text.clone(), |source| Some(source.text().into()));
                let all = Seen { text, ..Seen::now(&path, &files(&providers)) };
                (seen, source, providers, all)
            });
            let (seen, source, providers, all) = read.await.expect("reading a policy does not panic");
            if seen.text.is_some() && seen == self.seen {
                return;
            }
            self.follow_also(&providers.remote).await;
            let known = self.jwks.known();
            let compiled = tokio::task::spawn_blocking(move || compile_with(&source?, &known)).await;
            match compiled.expect("compiling a policy does not panic") {
                Ok(compiled) => {
                    self.seen = all;
                    self.accept(compiled);
                    self.jwks.follow(&providers.remote);
                    return;
                }
                Err(error) => {
                    tokio::time::sleep(SETTLE).await;
                    if Seen::now(&self.path, &all.key_files()) == all {
                        self.seen = all;
                        self.refuse(&error);
                        self.follow_current();
                        return;
                    }
                }
            }
        }
    }

    /// Follows these besides those that are followed, and gives the keys of new ones a moment to come: so an edit that
    /// adds a provider does not begin with refusing its tokens.
    async fn follow_also(&mut self, wanted: &[Remote]) {
        let mut all = self.jwks.followed();
        let new: Vec<Remote> = wanted.iter().filter(|remote| !all.contains(remote)).cloned().collect();
        if !new.is_empty() {
            all.extend_from_slice(&new);
            self.jwks.follow(&all);
            self.jwks.ready(&new, FIRST_FETCH).await;
        }
    }

    /// Follows the providers of the policy in force, and no others.
    fn follow_current(&mut self) {
        let Some(source) = self.current_source() else { return };
        if let Ok(providers) = PolicySource::providers_of(&source) {
            self.jwks.follow(&providers.remote);
        }
    }

    /// The text of the policy in force, which is not that of the file while that is bad.
    fn current_source(&self) -> Option<Source> {
        let text = self.current.as_ref()?.text.clone()?;
        Some(Source::new(&self.path, text))
    }

    /// Puts the policy in force once more, with the keys that are known now.
    async fn refill(&mut self) {
        let Some(source) = self.current_source() else { return };
        let known = self.jwks.known();
        let compiled = tokio::task::spawn_blocking(move || compile_with(&source, &known)).await;
        match compiled.expect("compiling a policy does not panic") {
            Ok(compiled) => {
                self.put_in_force(compiled, "other keys of a provider".to_owned());
                if let Some(before) = self.keys_error.take() {
                    // What is wrong with the file itself is not touched.
                    self.board.policy(|policy| policy.error = policy.error.take().filter(|error| *error != before));
                }
            }
            Err(error) => {
                self.keys_error = Some(chain(&error));
                self.refuse(&error);
            }
        }
    }

    fn accept(&mut self, compiled: Compiled) {
        let file = self.path.display().to_string();
        self.put_in_force(compiled, file);
        self.board.policy(|policy| policy.error = None);
    }

    fn put_in_force(&mut self, compiled: Compiled, cause: String) {
        self.publish(&compiled);
        let old = self.current.as_ref().map(|current| current.version.clone());
        if self.current.as_ref() != Some(&compiled) {
            let value = serde_json::to_vec(&compiled).expect("a policy is made of strings");
            let mut notes = Vec::new();
            if old.as_ref() != Some(&compiled.version) {
                tracing::info!(version = compiled.version, cause, "policy accepted");
                let event = Event::new(Kind::PolicyAccepted, &self.filter.name);
                notes.push(event.because(cause).change(old.as_deref(), Some(&compiled.version)).note());
            }
            match self.store.swap(STORE_KEY, self.stored, &value, &notes) {
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

    fn publish(&mut self, compiled: &Compiled) {
        let turn = *self.turn.get_or_insert_with(|| self.gate.begin(&self.filter));
        self.gate.policy(turn, compiled);
    }

    fn stamp(&self) -> Vec<Option<(u64, u64, i64, i64)>> {
        let keys = self.seen.keys.iter().map(|(file, _)| file);
        std::iter::once(&self.path).chain(keys).map(|file| stamp(file)).collect()
    }

    /// Watches the directories, not the files: editors replace files by renaming.
    fn watcher(&self, changed: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
        let changed = Arc::clone(changed);
        let all = || std::iter::once(&self.path).chain(self.seen.keys.iter().map(|(file, _)| file));
        let names: Vec<_> = all().filter_map(|file| file.file_name().map(ToOwned::to_owned)).collect();
        let directories: BTreeSet<_> = all().filter_map(|file| file.parent().map(Path::to_owned)).collect();
        let handler = move |event: notify::Result<notify::Event>| {
            let ours = event.is_ok_and(|event| {
                let named = |path: &PathBuf| path.file_name().is_some_and(|name| names.iter().any(|ours| ours == name));
                !event.kind.is_access() && event.paths.iter().any(named)
            });
            if ours {
                changed.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(handler).and_then(|mut watcher| {
            for directory in &directories {
                watcher.watch(directory, RecursiveMode::NonRecursive)?;
            }
            Ok(watcher)
        });
        watcher
            .inspect_err(
                |error| tracing::warn!(%error, "the policy file is not watched; edits are seen a little later"),
            )
            .ok()
    }
}

fn files(providers: &Providers) -> Vec<PathBuf> {
    providers.files.iter().map(|(_, file, _)| file.clone()).collect()
}

/// What changes with every way of saving a file.
pub(crate) fn stamp(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}
