//! A connection, and what the server's refusals mean.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::Config;
use tokio_postgres::NoTls;
use tokio_postgres::Transaction;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_util::task::AbortOnDropHandle;

use super::Postgres;
use crate::credential::target::TargetError;
use crate::credential::target::dial::Before;
use crate::credential::target::error::LETTING_IN;
use crate::credential::target::error::line;
use crate::errors::chain;
use crate::secret::Secret;

/// For the last message; a server that does not read it misses nothing.
const GOODBYE: Duration = Duration::from_secs(1);
const LOGIN: &str = "answer a login";
/// From here on it says how a session was authenticated.
const SYSTEM_USER: u32 = 160_000;

/// Somebody who is logged in.
pub(super) struct Session {
    pub(super) client: Client,
    task: AbortOnDropHandle<()>,
}

impl Session {
    pub(super) async fn administrator(target: &Postgres) -> Result<Self, TargetError> {
        let password = target
            .password
            .as_ref()
            .map(|file| Secret::read(file).map_err(|source| TargetError::Read { path: file.clone(), source }));
        let password = password.transpose()?;
        let refused = |_: Option<&SqlState>, words| TargetError::Administrator {
            place: target.place.to_string(),
            user: target.user.clone(),
            words,
        };
        Self::log_in(target, &target.user, password.as_ref(), &target.database, refused).await
    }

    /// As a consumer comes; it asks for a row too.
    pub(super) async fn consumer(target: &Postgres, account: &str, secret: &Secret) -> Result<Self, TargetError> {
        let refused = |state: Option<&SqlState>, words| {
            let (place, account) = (target.place.to_string(), account.to_owned());
            if state == Some(&SqlState::INVALID_PASSWORD) {
                return TargetError::Login { place, account, words };
            }
            // `pg_hba.conf`, the database, a right to log in: another password would be refused in the same way.
            TargetError::Refused { place, doing: LETTING_IN, words }
        };
        let database = target.test_database.as_ref().unwrap_or(&target.database);
        let session = Self::log_in(target, account, Some(secret), database, refused).await?;
        let was_asked = target.within(LOGIN, async {
            let asked = session.was_asked_for_password().await;
            asked.map_err(|error| login_refusal(target, error, refused))
        });
        if !was_asked.await? {
            tracing::warn!(
                place = %target.place, account,
                "the server let the account in without a password: `pg_hba.conf` says `trust`, and no password protects it"
            );
        }
        Ok(session)
    }

    async fn log_in(
        target: &Postgres,
        user: &str,
        password: Option<&Secret>,
        database: &str,
        refused: impl Fn(Option<&SqlState>, String) -> TargetError,
    ) -> Result<Self, TargetError> {
        let stream = target.place.dial(Before::SslRequest, target.timeout).await?;
        let mut config = Config::new();
        // TLS is there already, or is not wanted.
        config.user(user).dbname(database).application_name("portcullis").ssl_mode(SslMode::Disable);
        if let Some(password) = password {
            config.password(password.expose().as_bytes());
        }
        let (client, connection) = target
            .within(LOGIN, async {
                let connected = config.connect_raw(stream, NoTls).await;
                connected.map_err(|error| login_refusal(target, error, refused))
            })
            .await?;
        let task = tokio::spawn(async move {
            // Whoever waits for an answer gets the error too.
            let _ = connection.await;
        });
        Ok(Self { client, task: AbortOnDropHandle::new(task) })
    }

    /// Begins a transaction that the server ends by itself when we would not wait any longer.
    pub(super) async fn begin<'a>(
        &'a mut self,
        target: &Postgres,
        doing: &'static str,
    ) -> Result<Transaction<'a>, TargetError> {
        let failed = |error| refusal(target, doing, error);
        let transaction = self.client.transaction().await.map_err(failed)?;
        let limit = target.timeout.as_millis();
        let limits = format!("SET LOCAL statement_timeout = {limit}; SET LOCAL lock_timeout = {limit}");
        transaction.batch_execute(&limits).await.map_err(failed)?;
        Ok(transaction)
    }

    /// Says goodbye.
    pub(super) async fn close(self) {
        let Self { client, task } = self;
        drop(client);
        let _ = tokio::time::timeout(GOODBYE, task).await;
    }

    /// Asks for a row, and whether the server had asked for a password; older ones do not say.
    async fn was_asked_for_password(&self) -> Result<bool, tokio_postgres::Error> {
        let version = self.client.query_one("SELECT pg_catalog.current_setting('server_version_num')", &[]).await;
        let version: String = version.and_then(|row| row.try_get(0))?;
        if version.parse::<u32>().is_ok_and(|version| version < SYSTEM_USER) {
            return Ok(true);
        }
        let asked = self.client.query_one("SELECT system_user IS NOT NULL", &[]).await;
        asked.and_then(|row| row.try_get(0))
    }
}

/// What the server says, and not where in its source it says so.
fn words_of(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => {
            let also = [said.detail(), said.hint()].into_iter().flatten();
            line(&[said.message()].into_iter().chain(also).collect::<Vec<_>>().join("; "))
        }
        None => line(&chain(error)),
    }
}

/// What a server says that cannot do anything for anybody now, or not while others do the same.
fn is_unavailable(state: &SqlState, words: &str) -> bool {
    let code = state.code();
    // 40: rolled back for the sake of others, 53: insufficient resources, 57P: operator intervention, 25006: it follows another
    // server. Two who change one role from two databases share no lock, and collide in the catalogue.
    ["40", "53", "57P", "25006"].iter().any(|class| code.starts_with(class))
        || words.contains("concurrently updated")
        || *state == SqlState::UNIQUE_VIOLATION
}

fn unavailable(target: &Postgres, words: String) -> TargetError {
    TargetError::Unavailable { place: target.place.to_string(), words }
}

fn login_refusal(
    target: &Postgres,
    error: tokio_postgres::Error,
    refused: impl Fn(Option<&SqlState>, String) -> TargetError,
) -> TargetError {
    let words = words_of(&error);
    match error.code() {
        Some(state) if is_unavailable(state, &words) => unavailable(target, words),
        None if is_broken(&error) => lost(target, LOGIN, error),
        state => refused(state, words),
    }
}

/// What an error of a statement means.
pub(super) fn refusal(target: &Postgres, doing: &'static str, error: tokio_postgres::Error) -> TargetError {
    let words = words_of(&error);
    match error.code() {
        None => lost(target, doing, error),
        Some(state) if is_unavailable(state, &words) => unavailable(target, words),
        Some(state) if *state == SqlState::INSUFFICIENT_PRIVILEGE => {
            TargetError::NotAllowed { place: target.place.to_string(), user: target.user.clone(), doing, words }
        }
        Some(state) if matches!(*state, SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE) => {
            TargetError::TimedOut { place: target.place.to_string(), doing, after: target.timeout }
        }
        Some(_) => TargetError::Refused { place: target.place.to_string(), doing, words },
    }
}

/// The same for `ALTER ROLE … PASSWORD`, where a hook such as `passwordcheck` has a say.
pub(super) fn password_refusal(target: &Postgres, error: tokio_postgres::Error) -> TargetError {
    if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) {
        return TargetError::Policy { place: target.place.to_string(), words: words_of(&error) };
    }
    refusal(target, super::SETTING, error)
}

fn is_broken(error: &tokio_postgres::Error) -> bool {
    let cause = std::error::Error::source(error);
    error.is_closed() || cause.is_some_and(|cause| cause.is::<std::io::Error>())
}

fn lost(target: &Postgres, doing: &'static str, error: tokio_postgres::Error) -> TargetError {
    TargetError::Lost { place: target.place.to_string(), doing, source: Box::new(error) }
}
