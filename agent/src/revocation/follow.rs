//! One list in a file: looked at again and again, taken when it is a newer good one, and kept in the store.
//!
//! What was good stays: a file that is gone, half written or bad changes nothing but the status, and a start with a bad file
//! goes on with the list that the store has.

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use sha2::Digest as _;
use sha2::Sha256;
use tokio_util::sync::CancellationToken;

use super::List;
use super::ListError;
use super::Revoker;
use super::list;
use crate::audit::Event;
use crate::audit::Kind;
use crate::config::RevocationList;
use crate::errors::chain;
use crate::leaf;
use crate::policy_file::stamp;
use crate::status::ListStatus;
use crate::store::Version;

/// How often a file is looked at.
const LOOK: Duration = Duration::from_millis(500);

pub(super) struct Follower {
    config: RevocationList,
    revoker: Revoker,
    stored: Option<Version>,
    last: Option<Arc<List>>,
    status: ListStatus,
    /// Of what was last read.
    read: Option<Stamp>,
}

type Stamp = Option<(u64, u64, i64, i64)>;

/// Why a file gives no list.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("cannot read `{file}`")]
    Read { file: String, source: io::Error },
    #[error("`{file}` is refused")]
    Refused { file: String, source: ListError },
}

impl FileError {
    fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "unreadable",
            Self::Refused { source, .. } => source.code(),
        }
    }
}

impl Follower {
    /// Takes what the store has, and then what the file has.
    pub(super) fn open(config: RevocationList, revoker: Revoker) -> Self {
        let status = ListStatus::new(&config.name, &config.file.display().to_string());
        let mut follower = Self { config, revoker, stored: None, last: None, status, read: None };
        match follower.revoker.context.store.read(&follower.store_key()) {
            Ok(Some(found)) => {
                follower.stored = Some(found.version);
                match List::kept(&found.value, &follower.config.authority) {
                    Ok(list) => follower.put_in_force(list),
                    Err(error) => tracing::error!(list = follower.config.name, %error, "the kept list is no use"),
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(list = follower.config.name, error = chain(&error), "the kept list is not read");
            }
        }
        follower.look();
        follower
    }

    /// Follows the file until the end.
    pub(super) async fn run(mut self, end: CancellationToken) {
        let mut seen = self.read;
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = Some(stamp(&self.config.file));
            // Read when it has stopped to change: it may be in the middle of being written.
            let settled = seen == now;
            seen = now;
            if settled && self.read != now {
                let looked = tokio::task::spawn_blocking(move || {
                    self.look();
                    self
                });
                self = looked.await.expect("reading a list does not panic");
            }
        }
    }

    /// Takes what the file has, or says why not.
    pub(super) fn look(&mut self) {
        self.read = Some(stamp(&self.config.file));
        match self.read_file() {
            Ok((der, list)) => self.take(&der, list),
            Err(error) => {
                if matches!(&error, FileError::Refused { source: ListError::Future(_), .. }) {
                    // Good as soon as the clock is: looked at again though the file does not change.
                    self.read = None;
                    if self.status.last_error.as_deref() == Some(&chain(&error)) {
                        return;
                    }
                }
                self.refuse(&error);
            }
        }
    }

    fn read_file(&self) -> Result<(Vec<u8>, List), FileError> {
        let file = || self.config.file.display().to_string();
        let mut bytes = Vec::new();
        File::open(&self.config.file)
            .and_then(|file| file.take(list::MAX_LENGTH + 1).read_to_end(&mut bytes))
            .map_err(|source| FileError::Read { file: file(), source })?;
        let list = self.parse(&bytes).map_err(|source| FileError::Refused { file: file(), source })?;
        Ok((bytes, list))
    }

    fn parse(&self, bytes: &[u8]) -> Result<List, ListError> {
        List::read(bytes, &self.config.authority, self.last.as_deref(), self.config.emptied, leaf::now())
    }

    /// Writes the list down, with a line for the audit log, and puts it in force.
    fn take(&mut self, bytes: &[u8], list: List) {
        if self.status.last_error.take().is_some() {
            self.tell(&Event::new(Kind::AlarmCleared, &self.config.name).because("the list is good again"));
        }
        if self.last.as_deref() != Some(&list) {
            let cause = format!("{} entries, {list}", list.keys.len());
            tracing::info!(list = self.config.name, cause, "revocation list taken");
            let event = Event::new(Kind::ListTaken, &self.config.name).because(cause);
            match self.revoker.context.store.swap(&self.store_key(), self.stored, bytes, &[event.note()]) {
                Ok(version) => {
                    self.stored = Some(version);
                    self.revoker.context.noted.notify_one();
                }
                Err(error) => {
                    tracing::error!(
                        list = self.config.name,
                        error = chain(&error),
                        "the list is in force and not kept"
                    );
                }
            }
        }
        self.put_in_force(list);
    }

    fn put_in_force(&mut self, list: List) {
        let list = Arc::new(list);
        self.status.entries = list.keys.len();
        self.status.this_update = Some(leaf::timestamp(list.this_update));
        self.status.next_update = Some(leaf::timestamp(list.next_update));
        self.last = Some(Arc::clone(&list));
        self.revoker.list(self.status.clone(), Some(list));
    }

    fn refuse(&mut self, error: &FileError) {
        let text = chain(error);
        tracing::error!(list = self.config.name, error = text, "a revocation list is refused; the one before stays");
        self.revoker.context.metrics.list_refused(&self.config.name, error.code());
        let event = Event::new(Kind::Alarm, &self.config.name).because(format!("a revocation list is refused: {text}"));
        self.tell(&event);
        self.status.last_error = Some(text);
        self.revoker.list(self.status.clone(), self.last.clone());
    }

    fn tell(&self, event: &Event) {
        match self.revoker.context.store.note(&event.note()) {
            Ok(()) => self.revoker.context.noted.notify_one(),
            Err(error) => tracing::error!(error = chain(&error), "an event is lost to the audit log: {event:?}"),
        }
    }

    /// A name may be longer than a key should be.
    fn store_key(&self) -> String {
        format!("revocation-list/{}", leaf::hex(&Sha256::digest(&self.config.name)))
    }
}
