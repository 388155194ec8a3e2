//! The audit log: one JSON object a line, appended and synced, each with the hash of the line before.
//!
//! Absent: secrets. An event is written down in the store together with what it tells of, and carried into the file
//! afterwards by [`Log::flush`]; its number tells an event that is carried twice. So a crash neither loses nor repeats one.
//!
//! Beside the log stands its *head*: number and hash of the last line, without which a log that was cut off at a line's
//! end would look whole.

mod read;
mod verify;

pub use read::Events;
pub use read::events;
pub use verify::Verified;
pub use verify::VerifyError;
pub use verify::verify;

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;

use crate::leaf::hex;
use crate::rotation::failpoint;
use crate::state_dir::open_own;
use crate::store::Store;
use crate::store::StoreError;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// The agent began to work.
    AgentStarted,
    /// Something is served that should not be, or could not be done; somebody should look.
    Alarm,
    /// What the alarm was about is well again.
    AlarmCleared,
    /// A root was made.
    CaCreated,
    /// A certificate was signed for a name of the configuration.
    CertificateIssued,
    /// The wall clock was set, by how much is the cause.
    ClockJumped,
    /// Nobody used a credential that is made on first use; it is given back.
    CredentialIdle,
    /// Somebody read a credential over the control socket.
    CredentialRead,
    /// A new secret was set on its target; nobody uses it yet.
    CredentialSet,
    /// The configuration was read again and is in force, or was refused.
    Configuration,
    /// Every target took it.
    Installed,
    /// A certificate was signed for somebody else.
    IssuedForOther,
    /// A provider of tokens has other keys than before.
    KeysChanged,
    /// What was replaced cannot be taken away, because it was set or lent where the configuration does not lead any more; the cause
    /// says where, and until when it may be good there.
    LeftBehind,
    /// A revocation list of an authority was taken.
    ListTaken,
    /// A torn last line was closed. It is the line before this one.
    LogClosed,
    /// A proxy refused something.
    Nack,
    /// A name that was left out is in the certificate again; the cause says which.
    NameBack,
    /// An issuer does not accept a name; the cause says which, and why.
    NameFailed,
    /// A policy was compiled, passed its tests, and is pushed.
    PolicyAccepted,
    /// A policy was refused; the one before stays.
    PolicyRefused,
    /// A whole order was tried at a server whose certificates nobody trusts; the cause says how it went.
    Rehearsed,
    /// The issuer asks for a renewal at another time.
    RenewalPlanned,
    /// An operator asked for a renewal.
    RenewRequested,
    /// Somebody was told of a failure; the cause says of which, and how that went.
    Remedied,
    /// Somebody changed delivered files; the cause says what, and it was put right.
    Repaired,
    /// What was replaced is gone.
    Retired,
    /// Something is not believed any more; the name says what.
    Revoked,
    /// An operator had the certificate before put in its place again.
    RolledBack,
    /// An intermediate was made, or installed.
    IntermediateMade,
    /// An intermediate has ended, and its key is destroyed.
    IntermediateRemoved,
    /// Leaves are signed by another intermediate.
    IntermediateSwitched,
    /// Everybody trusts another root beside the one that signs.
    RootAdded,
    /// A root and its key are gone.
    RootRemoved,
    /// Leaves are signed by another root.
    RootSwitched,
    /// The last leaf under a root has ended or was replaced.
    RootUnused,
    /// It was seen in use.
    Served,
    /// What was revoked is believed again.
    Unrevoked,
    /// An operator had an issuer asked that wanted to be left alone; the cause says which.
    WaitOverridden,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// What.
    pub event: Kind,
    /// To what: the name of a certificate, bundle, filter, proxy.
    pub name: String,
    /// On whose word: `schedule`, `operator`, `proxy …`, `agent`.
    pub by: String,
    /// Why, as a stable code or a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Serial or version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// Serial or version now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// What shows that it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// Who uses it, of a credential.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<String>,
}

impl Event {
    /// An event of the agent's own, now.
    pub fn new(event: Kind, name: &str) -> Self {
        let by = "agent".to_owned();
        Self {
            time: Timestamp::now(),
            event,
            name: name.to_owned(),
            by,
            cause: None,
            old: None,
            new: None,
            proof: None,
            consumers: Vec::new(),
        }
    }

    /// Whose credential it is.
    #[must_use]
    pub fn of(self, consumers: &[String]) -> Self {
        Self { consumers: consumers.to_vec(), ..self }
    }

    /// On whose word.
    #[must_use]
    pub fn by(self, by: impl Into<String>) -> Self {
        Self { by: by.into(), ..self }
    }

    /// Why.
    #[must_use]
    pub fn because(self, cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// From one serial or version to another.
    #[must_use]
    pub fn change(self, old: Option<&str>, new: Option<&str>) -> Self {
        Self { old: old.map(str::to_owned), new: new.map(str::to_owned), ..self }
    }

    /// What shows that it is so.
    #[must_use]
    pub fn proven(self, proof: impl Into<String>) -> Self {
        Self { proof: Some(proof.into()), ..self }
    }

    /// For the store's notes.
    pub fn note(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event is made of strings")
    }
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// From 1.
    line: u64,
    /// SHA-256 of the line before without its newline, hex; of nothing for the first.
    previous: String,
    /// Number of the note that this line was carried from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<u64>,
    #[serde(flatten)]
    event: Event,
}

/// Number and hash of the last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    line: u64,
    sha256: String,
}

/// Why the log was not written. What was to be written stays in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The file.
    #[error("cannot write the audit log `{}`", path.display())]
    File {
        /// The log.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The store.
    #[error("cannot read what the audit log is to hold")]
    Store(#[source] StoreError),
}

/// The log, open for appending.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    head: Head,
    last_note: u64,
}

impl Log {
    /// Opens the log or begins one (0600). A torn last line, which a crash leaves, is closed.
    ///
    /// # Errors
    ///
    /// [`AuditError::File`].
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        Self::try_open(path).map_err(|source| AuditError::File { path: path.to_owned(), source })
    }

    fn try_open(path: &Path) -> io::Result<Self> {
        let mut file = open_own(path, OpenOptions::new().read(true).append(true).create(true))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let torn = text.last().is_some_and(|last| *last != b'\n');
        if torn {
            file.write_all(b"\n")?;
            file.sync_all()?;
        }
        let body = text.strip_suffix(b"\n").unwrap_or(&text);
        let lines: Vec<&[u8]> = if body.is_empty() { Vec::new() } else { body.split(|byte| *byte == b'\n').collect() };
        let last_note =
            lines.iter().rev().find_map(|line| serde_json::from_slice::<Line>(line).ok()?.note).unwrap_or(0);
        let head = Head { line: lines.len() as u64, sha256: hash(lines.last().copied().unwrap_or_default()) };
        let mut log = Self { path: path.to_owned(), file, head, last_note };
        let unreadable = lines.last().is_some_and(|line| serde_json::from_slice::<Line>(line).is_err());
        if unreadable {
            log.append(None, Event::new(Kind::LogClosed, "audit").because("torn_line"))?;
            log.sync()?;
        }
        Ok(log)
    }

    /// Carries every note of the store into the file, syncs it, and drops them. Notes that were carried before a crash
    /// are recognised and only dropped.
    ///
    /// # Errors
    ///
    /// [`AuditError`]: what could not be carried stays in the store.
    pub fn flush(&mut self, store: &dyn Store) -> Result<(), AuditError> {
        let notes = store.notes().map_err(AuditError::Store)?;
        let Some(last) = notes.last().map(|note| note.number) else {
            return Ok(());
        };
        failpoint::hit("audit");
        let failed = |path: &Path, source| AuditError::File { path: path.to_owned(), source };
        for note in notes {
            if note.number <= self.last_note {
                continue;
            }
            // A note that cannot be read was written by another version: its number is told, so that it is missed.
            let event = serde_json::from_slice(&note.text)
                .unwrap_or_else(|_| Event::new(Kind::Alarm, "audit").because("unreadable_note"));
            self.append(Some(note.number), event).map_err(|source| failed(&self.path, source))?;
        }
        self.sync().map_err(|source| failed(&self.path, source))?;
        failpoint::hit("audit-done");
        store.drop_notes(last).map_err(AuditError::Store)
    }

    /// For a store that was begun anew, whose notes count from the beginning again.
    pub fn renumber(&mut self) {
        self.last_note = 0;
    }

    fn append(&mut self, note: Option<u64>, event: Event) -> io::Result<()> {
        let line = Line { line: self.head.line + 1, previous: self.head.sha256.clone(), note, event };
        let mut text = serde_json::to_vec(&line)?;
        let sha256 = hash(&text);
        text.push(b'\n');
        let length = self.file.metadata()?.len();
        if let Err(error) = self.file.write_all(&text) {
            // A disk that is full takes half a line, and whatever came behind it would not be read.
            self.file.set_len(length)?;
            return Err(error);
        }
        self.head = Head { line: line.line, sha256 };
        self.last_note = note.unwrap_or(self.last_note);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        write_head(&self.path, &self.head)
    }
}

/// The head is renamed into its place, so that it is whole; it is not synced, because one that lags behind is no lie.
fn write_head(log: &Path, head: &Head) -> io::Result<()> {
    let temporary = log.with_extension("head.new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = open_own(&temporary, OpenOptions::new().write(true).create_new(true))?;
    file.write_all(&serde_json::to_vec(head)?)?;
    drop(file);
    fs::rename(temporary, head_path(log))
}

fn head_path(log: &Path) -> PathBuf {
    log.with_extension("head")
}

fn hash(line: &[u8]) -> String {
    hex(&Sha256::digest(line))
}

#[cfg(test)]
mod tests;
