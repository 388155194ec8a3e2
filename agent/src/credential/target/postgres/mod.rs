//! Roles of PostgreSQL.
//!
//! The server gets a SCRAM-SHA-256 verifier (RFC 5802 §3, RFC 7677) that is computed here, never the password: it is in no log of
//! the server's. The role's comment holds the name of the agent that sets its password, for another one to see.

mod mark;
mod session;

use std::path::PathBuf;
use std::time::Duration;

use postgres_protocol::escape::escape_identifier;
use postgres_protocol::escape::escape_literal;
use postgres_protocol::password::scram_sha_256;
use tokio_postgres::Transaction;

use super::InUse;
use super::Place;
use super::Setting;
use super::TargetError;
use crate::secret::Secret;
use mark::Mark;
use session::Session;

/// Longer ones are cut or refused by `psql` and by poolers.
const LONGEST: usize = 1024;
/// First half of the key of the advisory lock; the second is the role's number.
const LOCK: i32 = 0x706f_7274;
const LOCKING: &str = "lock the role";
const SETTING: &str = "set a password";
const TAKING: &str = "take a password off";
const LOOKING: &str = "look at the role";
const COUNTING: &str = "count sessions";

/// One server, and who sets passwords there.
#[derive(Clone, Debug, PartialEq)]
pub struct Postgres {
    /// Where it is.
    pub place: Place,
    /// The database to connect to.
    pub database: String,
    /// Who sets passwords: a role with `CREATEROLE`, and `ADMIN` of the others from PostgreSQL 16 on.
    pub user: String,
    /// The file with its password; none where a certificate or the socket says enough.
    pub password: Option<PathBuf>,
    /// The database that a new password is tried on; the same where there is none.
    pub test_database: Option<String>,
    /// How long each step may take.
    pub timeout: Duration,
}

/// What is asked of a role.
struct Role {
    number: u32,
    comment: String,
}

impl Postgres {
    pub(super) async fn set(&self, setting: &Setting<'_>) -> Result<(), TargetError> {
        self.not_own(setting.account)?;
        fit(setting.secret)?;
        let verifier = scram_sha_256(setting.secret.expose().as_bytes());
        let until = setting.until.map_or_else(|| "infinity".to_owned(), |until| until.to_string());
        let statement = format!(
            "ALTER ROLE {} PASSWORD {} VALID UNTIL {}",
            escape_identifier(setting.account),
            escape_literal(&verifier),
            escape_literal(&until),
        );
        let mut session = self.administrator().await?;
        let changed = self.within(SETTING, async {
            let transaction = session.begin(self, SETTING).await?;
            let set = self.set_in(&transaction, setting, &statement).await;
            self.end(SETTING, transaction, set).await
        });
        changed.await?;
        session.close().await;
        Ok(())
    }

    async fn set_in(
        &self,
        transaction: &Transaction<'_>,
        setting: &Setting<'_>,
        statement: &str,
    ) -> Result<(), TargetError> {
        let mark = Mark::of(setting.owner);
        let role = self.locked(transaction, setting.account).await?;
        match Mark::read(&role.comment) {
            Some(other) if other != mark => return Err(another(setting.account, &other)),
            Some(_) => {}
            None => {
                let comment = mark.beside(&role.comment);
                let role = escape_identifier(setting.account);
                let statement = format!("COMMENT ON ROLE {role} IS {}", escape_literal(&comment));
                let said = transaction.batch_execute(&statement).await;
                said.map_err(|error| session::refusal(self, "comment on the role", error))?;
            }
        }
        let said = transaction.batch_execute(statement).await;
        said.map_err(|error| session::password_refusal(self, error))
    }

    pub(super) async fn test(&self, account: &str, secret: &Secret) -> Result<(), TargetError> {
        fit(secret)?;
        let session = Session::consumer(self, account, secret).await?;
        session.close().await;
        Ok(())
    }

    /// An account has one password: the old one is gone where another was set.
    pub(super) async fn retire(&self, account: &str, still: Option<&Secret>, owner: &str) -> Result<(), TargetError> {
        self.not_own(account)?;
        if still.is_some() {
            return Ok(());
        }
        let mut session = self.administrator().await?;
        let changed = self.within(TAKING, async {
            let transaction = session.begin(self, TAKING).await?;
            let taken = self.take_off_in(&transaction, account, owner).await;
            self.end(TAKING, transaction, taken).await
        });
        changed.await?;
        session.close().await;
        Ok(())
    }

    async fn take_off_in(&self, transaction: &Transaction<'_>, account: &str, owner: &str) -> Result<(), TargetError> {
        let role = self.locked(transaction, account).await?;
        // What somebody else set meanwhile is not ours to take off.
        if let Some(other) = Mark::read(&role.comment).filter(|other| *other != Mark::of(owner)) {
            return Err(another(account, &other));
        }
        let statement = format!("ALTER ROLE {} PASSWORD NULL", escape_identifier(account));
        let said = transaction.batch_execute(&statement).await;
        said.map_err(|error| session::refusal(self, TAKING, error))
    }

    /// Ends a transaction before anybody hears of it: whoever comes next finds the role free.
    async fn end(
        &self,
        doing: &'static str,
        transaction: Transaction<'_>,
        worked: Result<(), TargetError>,
    ) -> Result<(), TargetError> {
        match worked {
            Ok(()) => transaction.commit().await.map_err(|error| session::refusal(self, doing, error)),
            Err(error) => {
                // Where even this fails, the server ends it with the connection.
                let _ = transaction.rollback().await;
                Err(error)
            }
        }
    }

    pub(super) async fn in_use(&self, account: &str) -> Result<InUse, TargetError> {
        let session = self.administrator().await?;
        // The launcher is the first superuser's; it is no login.
        let count = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity \
                     WHERE usename::text = $1 AND pid <> pg_catalog.pg_backend_pid() \
                     AND backend_type IS DISTINCT FROM 'logical replication launcher'";
        let row = self.within(COUNTING, async {
            let row = session.client.query_one(count, &[&account]).await;
            let sessions: i64 =
                row.and_then(|row| row.try_get(0)).map_err(|error| session::refusal(self, COUNTING, error))?;
            Ok(InUse::Sessions(sessions.unsigned_abs()))
        });
        let sessions = row.await?;
        session.close().await;
        Ok(sessions)
    }

    async fn administrator(&self) -> Result<Session, TargetError> {
        Session::administrator(self).await
    }

    /// The role, locked until the transaction ends.
    async fn locked(&self, transaction: &Transaction<'_>, account: &str) -> Result<Role, TargetError> {
        // As text: a `name` would be cut at 63 bytes, and be another role's.
        let ask = "SELECT oid, coalesce(pg_catalog.shobj_description(oid, 'pg_authid'), '') \
                   FROM pg_catalog.pg_roles WHERE rolname::text = $1";
        let look = async || -> Result<Role, TargetError> {
            let row = transaction.query_opt(ask, &[&account]).await;
            let row = row.map_err(|error| session::refusal(self, LOOKING, error))?;
            let missing = || TargetError::NoAccount { place: self.place.to_string(), account: account.to_owned() };
            let row = row.ok_or_else(missing)?;
            let part = |error| session::refusal(self, LOOKING, error);
            Ok(Role { number: row.try_get(0).map_err(part)?, comment: row.try_get(1).map_err(part)? })
        };
        let number = look().await?.number;
        let lock = "SELECT pg_catalog.pg_try_advisory_xact_lock($1, $2)";
        let row = transaction.query_one(lock, &[&LOCK, &number.cast_signed()]).await;
        let is_ours: bool =
            row.and_then(|row| row.try_get(0)).map_err(|error| session::refusal(self, LOCKING, error))?;
        if !is_ours {
            return Err(TargetError::Busy { account: account.to_owned() });
        }
        // What it says now that nobody else of us writes to it.
        look().await
    }

    fn not_own(&self, account: &str) -> Result<(), TargetError> {
        if account == self.user {
            return Err(TargetError::OwnAccount { account: account.to_owned() });
        }
        if account.is_empty() || account.contains('\0') {
            return Err(TargetError::Unfit { why: "an account has a name without a zero byte" });
        }
        Ok(())
    }

    async fn within<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, TargetError>>,
    ) -> Result<T, TargetError> {
        let late = || TargetError::TimedOut { place: self.place.to_string(), doing, after: self.timeout };
        tokio::time::timeout(self.timeout, work).await.map_err(|_| late())?
    }
}

/// What clients take for a password. Control characters are prohibited by RFC 4013 §2.3, and clients differ in what they do about it.
fn fit(secret: &Secret) -> Result<(), TargetError> {
    let secret = secret.expose();
    let why = if secret.is_empty() {
        "an empty password lets nobody in"
    } else if secret.len() > LONGEST {
        "clients take no password of more than 1,024 bytes"
    } else if secret.chars().any(char::is_control) {
        "a password with a line break, a zero byte or another control character"
    } else {
        return Ok(());
    };
    Err(TargetError::Unfit { why })
}

fn another(account: &str, owner: &Mark) -> TargetError {
    TargetError::Another {
        account: account.to_owned(),
        owner: Some(owner.name().to_owned()),
        remedy: format!("to take it over, remove `{owner}` with `COMMENT ON ROLE`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_client_sends_is_refused() {
        for (name, secret, is_good) in [
            ("empty", String::new(), false),
            ("quotes and backslash", r#"a'b"c\d"#.to_owned(), true),
            ("not ASCII", "pässwörd€".to_owned(), true),
            ("a newline", "a\nb".to_owned(), false),
            ("a zero byte", "a\0b".to_owned(), false),
            ("the longest", "x".repeat(LONGEST), true),
            ("64 KiB", "x".repeat(64 * 1024), false),
        ] {
            assert_eq!(fit(&Secret::new(secret)).is_ok(), is_good, "{name}");
        }
    }
}
