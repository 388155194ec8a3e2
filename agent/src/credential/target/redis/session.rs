//! A connection, and what the server's refusals mean.

use ::redis::AsyncConnectionConfig;
use ::redis::Cmd;
use ::redis::FromRedisValue;
use ::redis::RedisConnectionInfo;
use ::redis::RedisError;
use ::redis::aio::MultiplexedConnection;
use ::redis::cmd;
use tokio_util::task::AbortOnDropHandle;

use super::Redis;
use crate::credential::target::Place;
use crate::credential::target::TargetError;
use crate::credential::target::dial::Before;
use crate::credential::target::error::LETTING_IN;
use crate::credential::target::error::line;
use crate::secret::Secret;

const LOGIN: &str = "answer a login";

/// Somebody who is logged in.
pub(super) struct Session<'a> {
    target: &'a Redis,
    connection: MultiplexedConnection,
    _task: AbortOnDropHandle<()>,
}

impl<'a> Session<'a> {
    pub(super) async fn administrator(target: &'a Redis) -> Result<Self, TargetError> {
        let mut session = Self::connect(target, &target.place).await?;
        if let Some(file) = &target.password {
            let password = Secret::read(file);
            let password = password.map_err(|source| TargetError::Read { path: file.clone(), source })?;
            session.log_in(&target.user, &password).await.map_err(|error| session.refusal(LOGIN, error))?;
        }
        Ok(session)
    }

    /// As a consumer comes.
    pub(super) async fn consumer(target: &'a Redis, account: &str, secret: &Secret) -> Result<Self, TargetError> {
        let mut session = Self::connect(target, &target.place).await?;
        match session.log_in(account, secret).await {
            Ok(()) => Ok(session),
            Err(Failure::Said(error)) if is_of_login(&error) => Err(TargetError::Login {
                place: target.place.to_string(),
                account: account.to_owned(),
                words: words_of(&error),
            }),
            // Another password would be refused in the same way.
            Err(error) => Err(session.refusal(LETTING_IN, error)),
        }
    }

    async fn connect(target: &'a Redis, place: &Place) -> Result<Self, TargetError> {
        let stream = place.dial(Before::Nothing, target.timeout).await?;
        // Nobody is logged in yet, and nothing is told of us.
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connected = MultiplexedConnection::new_with_config(&settings, stream, config);
        let late = || TargetError::TimedOut { place: place.to_string(), doing: LOGIN, after: target.timeout };
        let connected = tokio::time::timeout(target.timeout, connected).await.map_err(|_| late())?;
        let lost =
            |error| TargetError::Lost { place: place.to_string(), doing: LOGIN, source: Box::<RedisError>::new(error) };
        let (connection, driver) = connected.map_err(lost)?;
        Ok(Self { target, connection, _task: AbortOnDropHandle::new(tokio::spawn(driver)) })
    }

    /// Asks, and reads the answer.
    pub(super) async fn ask<T: FromRedisValue>(
        &mut self,
        command: &Cmd,
        doing: &'static str,
    ) -> Result<T, TargetError> {
        let answer = self.send(command).await;
        answer.map_err(|error| self.refusal(doing, error))
    }

    async fn log_in(&mut self, user: &str, password: &Secret) -> Result<(), Failure> {
        self.send(cmd("AUTH").arg(user).arg(password.expose())).await
    }

    async fn send<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Failure> {
        let answer = tokio::time::timeout(self.target.timeout, command.query_async(&mut self.connection));
        answer.await.map_err(|_| Failure::Late)?.map_err(Failure::Said)
    }

    fn refusal(&self, doing: &'static str, error: Failure) -> TargetError {
        let place = self.target.place.to_string();
        let error = match error {
            Failure::Late => {
                return TargetError::TimedOut { place, doing, after: self.target.timeout };
            }
            Failure::Said(error) => error,
        };
        let user = || self.target.user.clone();
        let words = words_of(&error);
        match error.code() {
            None => TargetError::Lost { place, doing, source: Box::new(error) },
            Some("WRONGPASS" | "NOAUTH") => TargetError::Administrator { place, user: user(), words },
            Some("NOPERM") => TargetError::NotAllowed { place, user: user(), doing, words },
            Some("LOADING" | "BUSY" | "MASTERDOWN" | "TRYAGAIN" | "READONLY" | "CLUSTERDOWN") => {
                TargetError::Unavailable { place, words }
            }
            Some(_) if words.contains("max number of clients") => TargetError::Unavailable { place, words },
            Some(_) if doing == LOGIN => TargetError::Administrator { place, user: user(), words },
            Some(_) => TargetError::Refused { place, doing, words },
        }
    }
}

/// Why there is no answer.
enum Failure {
    Late,
    Said(RedisError),
}

fn is_of_login(error: &RedisError) -> bool {
    matches!(error.code(), Some("WRONGPASS" | "NOAUTH"))
}

/// What the server says.
fn words_of(error: &RedisError) -> String {
    let said = [error.code(), error.detail()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    line(if said.is_empty() { error.category() } else { &said })
}
