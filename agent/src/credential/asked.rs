//! What is asked of those who look after credentials, over the control socket.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::command::CommandError;
use crate::command::Urgency;

/// Who asks, and why, as the audit log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// From the socket's peer credentials.
    pub who: String,
    /// In the asker's words.
    pub why: Option<String>,
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.who)
    }
}

/// One question.
#[derive(Debug)]
pub(super) enum Ask {
    /// Rotate now, and answer when the new value is everywhere.
    Rotate(Asker, Urgency, oneshot::Sender<Result<Rotated, CommandError>>),
    /// What is it? One that is made on first use is made now.
    Read(Asker, oneshot::Sender<Result<Given, CommandError>>),
}

impl Ask {
    /// Answers that nothing comes of it.
    pub(super) fn refuse(self, error: &CommandError) {
        match self {
            Self::Rotate(.., reply) => drop(reply.send(Err(error.clone()))),
            Self::Read(_, reply) => drop(reply.send(Err(error.clone()))),
        }
    }
}

/// Outcome of a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// Name of the credential.
    pub name: String,
    /// What the one before is called; none at the first.
    pub old_id: Option<String>,
    /// What this one is called.
    pub new_id: String,
}

/// A credential, for somebody who may have it. Travels only over the control socket.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Name of the credential.
    pub name: String,
    /// What it is called wherever it must not be shown.
    pub id: String,
    /// Who logs in.
    pub account: Option<String>,
    /// What for.
    pub secret: String,
    /// When it ends.
    pub not_after: Option<Timestamp>,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}

/// Towards those who look after credentials. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Handle(Arc<Mutex<BTreeMap<String, mpsc::Sender<Ask>>>>);

impl Handle {
    /// Has a credential rotated now.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub async fn rotate(&self, name: String, urgency: Urgency, asker: Asker) -> Result<Rotated, CommandError> {
        self.ask(&name, |reply| Ask::Rotate(asker, urgency, reply)).await
    }

    /// Reads a credential.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub async fn read(&self, name: String, asker: Asker) -> Result<Given, CommandError> {
        self.ask(&name, |reply| Ask::Read(asker, reply)).await
    }

    async fn ask<T>(
        &self,
        name: &str,
        question: impl FnOnce(oneshot::Sender<Result<T, CommandError>>) -> Ask,
    ) -> Result<T, CommandError> {
        let sender = self.keepers().get(name).cloned();
        let Some(sender) = sender else {
            let known = self.keepers().keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(CommandError::UnknownCredential { name: name.to_owned(), known });
        };
        let stopping = || CommandError::Failed {
            step: "handing the command over".to_owned(),
            cause: "nobody looks after it any more; the agent's log says why".to_owned(),
        };
        let (reply, answer) = oneshot::channel();
        sender.send(question(reply)).await.map_err(|_| stopping())?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    pub(super) fn add(&self, name: &str, keeper: mpsc::Sender<Ask>) {
        self.keepers().insert(name.to_owned(), keeper);
    }

    pub(super) fn remove(&self, name: &str) {
        self.keepers().remove(name);
    }

    fn keepers(&self) -> MutexGuard<'_, BTreeMap<String, mpsc::Sender<Ask>>> {
        // Each change is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
