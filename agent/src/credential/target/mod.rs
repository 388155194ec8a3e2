//! Whom a new secret is set on: databases that know the account, or a program that knows what to do.
//!
//! Absent: when to do what. Every call may be made again: what was done already is done once.

mod dial;
mod error;
mod postgres;
mod program;
mod redis;

use jiff::Timestamp;

use crate::secret::Secret;

pub use dial::ClientPair;
pub use dial::Place;
pub use dial::Tls;
pub use dial::Verify;
pub use error::TargetError;
pub use postgres::Postgres;
pub use program::Program;
pub use redis::Persist;
pub use redis::Redis;

/// Whom a secret is set on, and how to get there.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// Roles of PostgreSQL.
    Postgres(Postgres),
    /// Whatever a program of the operator's knows.
    Program(Program),
    /// ACL users of Redis, or of Valkey.
    Redis(Redis),
}

/// What is set.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The account; it exists.
    pub account: &'a str,
    /// Its new secret.
    pub secret: &'a Secret,
    /// Secrets that this agent set on the account before and that may be on it still. Another one there was set by somebody else.
    pub known: &'a [Secret],
    /// When the secret ends by itself, where the target can be told.
    pub until: Option<Timestamp>,
    /// The agent, as it is told from another one that works on the same account.
    pub owner: &'a str,
}

/// Whether anybody uses an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InUse {
    /// So many sessions.
    Sessions(u64),
    /// The target cannot say.
    Unknown,
}

impl Target {
    /// Has the target take a secret for an account. The same one again is as good; an account that keeps two keeps the one before.
    /// After an error nobody knows whether it was taken, but for [`TargetError::is_before`]: set the same one again.
    ///
    /// # Errors
    ///
    /// [`TargetError`].
    pub async fn set(&self, setting: &Setting<'_>) -> Result<(), TargetError> {
        match self {
            Self::Postgres(target) => target.set(setting).await,
            Self::Program(target) => target.set(setting).await,
            Self::Redis(target) => target.set(setting).await,
        }
    }

    /// Logs in as a consumer would.
    ///
    /// # Errors
    ///
    /// [`TargetError::Login`] if the target says no, and any other if it could not be asked.
    pub async fn test(&self, account: &str, secret: &Secret) -> Result<(), TargetError> {
        match self {
            Self::Postgres(target) => target.test(account, secret).await,
            Self::Program(target) => target.test(account, secret).await,
            Self::Redis(target) => target.test(account, secret).await,
        }
    }

    /// Ends an old secret. `still` is the one that the account keeps; where there is none, nobody logs in as the account any more.
    /// Sessions that are open stay open. An old secret that is not there any more is as good. `owner` is as in [`Setting`].
    ///
    /// # Errors
    ///
    /// [`TargetError`].
    pub async fn retire(
        &self,
        account: &str,
        old: &Secret,
        still: Option<&Secret>,
        owner: &str,
    ) -> Result<(), TargetError> {
        match self {
            Self::Postgres(target) => target.retire(account, still, owner).await,
            Self::Program(target) => target.retire(account, old).await,
            Self::Redis(target) => target.retire(account, old, still).await,
        }
    }

    /// Asks who uses the account, with whatever secret.
    ///
    /// # Errors
    ///
    /// [`TargetError`].
    pub async fn in_use(&self, account: &str) -> Result<InUse, TargetError> {
        match self {
            Self::Postgres(target) => target.in_use(account).await,
            Self::Program(target) => target.in_use(account).await,
            Self::Redis(target) => target.in_use(account).await,
        }
    }

    /// Whether an account can have two secrets at once, so that one account rotates without a gap.
    pub fn keeps_two(&self) -> bool {
        match self {
            Self::Postgres(_) => false,
            Self::Program(target) => target.keeps_two,
            Self::Redis(_) => true,
        }
    }

    /// What tells it from another target: where it is, and nothing of how one gets in there. No secret.
    pub fn label(&self) -> String {
        let kind = self.kind();
        match self {
            Self::Postgres(target) => format!("{kind} {}", target.place),
            Self::Program(target) => format!("{kind} {}", target.run.program.display()),
            Self::Redis(target) => format!("{kind} {}", target.place),
        }
    }

    /// `postgres`, `program`, `redis`: a label.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Program(_) => "program",
            Self::Redis(_) => "redis",
        }
    }
}
