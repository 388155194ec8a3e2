//! A service that logs in to a database again and again, with what is in its file at that moment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize;
use tokio::task::JoinSet;
use tokio_postgres::Config;
use tokio_postgres::NoTls;

use crate::environment::Conversation;
use crate::environment::Redis;

/// Between two logins of one consumer.
const PAUSE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

/// What a consumer reads: `{"account": …, "secret": …}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Login {
    pub(super) account: String,
    pub(super) secret: String,
}

/// Where consumers log in.
#[derive(Clone)]
pub(super) enum Server {
    Postgres(SocketAddr),
    Redis(Arc<Redis>),
}

impl Server {
    async fn let_in(&self, login: &Login) -> Result<(), String> {
        match self {
            Self::Postgres(address) => login.to_postgres(*address).await,
            Self::Redis(redis) => login.to_redis(redis.converse().await.map_err(|error| error.to_string())?).await,
        }
    }
}

impl Login {
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("no file: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("a torn file: {error}"))
    }

    /// Logs in to PostgreSQL and asks something.
    pub(super) async fn to_postgres(&self, server: SocketAddr) -> Result<(), String> {
        let mut config = Config::new();
        config.host(server.ip().to_string()).port(server.port()).dbname("postgres");
        config.user(&self.account).password(&self.secret).connect_timeout(PATIENCE);
        let asked = async {
            let (client, connection) = config.connect(NoTls).await?;
            let connection = tokio::spawn(connection);
            let answer = client.query_one("select 40 + 2", &[]).await.map(|row| row.get::<_, i32>(0));
            drop(client);
            let _ = connection.await;
            answer
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(42)) => Ok(()),
            Ok(Ok(other)) => Err(format!("answered {other}")),
            // What the server says is behind it.
            Ok(Err(error)) => Err(error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    /// Logs in to PostgreSQL, and stays until the session is dropped.
    pub(super) async fn stay(&self, server: SocketAddr) -> Result<tokio_postgres::Client, String> {
        let mut config = Config::new();
        config.host(server.ip().to_string()).port(server.port()).dbname("postgres");
        config.user(&self.account).password(&self.secret).connect_timeout(PATIENCE);
        let (client, connection) = config.connect(NoTls).await.map_err(|error| error.to_string())?;
        // Ends with its client.
        tokio::spawn(connection);
        Ok(client)
    }

    /// Logs in to Redis and asks something.
    pub(super) async fn to_redis(&self, mut server: Conversation) -> Result<(), String> {
        let asked = async {
            server.ask(&format!("AUTH {} {}", self.account, self.secret)).await?;
            server.ask("PING").await
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) if answer == "PONG" => Ok(()),
            Ok(Ok(answer)) => Err(answer),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        }
    }
}

/// Consumers at work, each with a file of its own.
pub(super) struct Consumers {
    workers: JoinSet<()>,
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Consumers {
    /// One consumer a file.
    pub(super) fn begin(server: &Server, files: Vec<PathBuf>) -> Self {
        let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::new())));
        let mut workers = JoinSet::new();
        for file in files {
            let (stop, tally, server) = (Arc::clone(&stop), Arc::clone(&tally), server.clone());
            workers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let outcome = match Login::read(&file) {
                        Ok(login) => server.let_in(&login).await,
                        Err(error) => Err(error),
                    };
                    let kind = outcome.map_or_else(|error| error, |()| "logged in".to_owned());
                    *tally.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Self { workers, stop, tally }
    }

    /// How often each outcome came.
    pub(super) async fn stop(mut self) -> BTreeMap<String, u64> {
        self.stop.store(true, Ordering::Relaxed);
        while self.workers.join_next().await.is_some() {}
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
