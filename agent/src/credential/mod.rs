//! Credentials that rotate: passwords, tokens and keys that services behind the proxy use.
//!
//! Absent: decisions. *What* comes next is [`portcullis_policy::credential::next`]; *how* a step is taken is in `keeper`, which
//! looks after one credential each, in a task of its own. Every value is sealed and in the store before anybody else learns of
//! it, so that whoever finds the record after a crash goes on with the same value.

mod asked;
mod entry;
mod error;
mod filters;
pub mod form;
mod keeper;
pub mod made;
pub mod material;
mod place;
mod ring;
pub mod seal;
pub mod source;
mod steps;
pub mod target;
mod tell;
mod unopened;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config;
use crate::gate::Gate;
use crate::rotation;

pub use asked::Asker;
pub use asked::Given;
pub use asked::Handle;
pub use asked::Rotated;
pub use error::CredentialError;
pub use ring::Rings;
pub use seal::Seal;

use keeper::Keeper;
use unopened::Unopened;

/// How long the first key sets may take.
const PATIENCE: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// Credentials that are worked on at once.
const AT_ONCE: usize = 16;

/// What the keepers work with.
pub struct Context {
    /// What all rotation shares.
    pub agent: Arc<rotation::Context>,
    /// What values are sealed with.
    pub seal: Seal,
    /// What filters decide by: a signing key is used when they have it.
    pub gate: Gate,
    /// The keys that sign tokens now.
    pub rings: Rings,
}

/// Everybody who looks after a credential.
pub struct Credentials {
    context: Arc<Context>,
    running: BTreeMap<String, Running>,
    handle: Handle,
    limit: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

struct Running {
    config: watch::Sender<Arc<config::Credential>>,
    /// For one that cannot be looked after yet.
    reloaded: Arc<Notify>,
    stop: CancellationToken,
}

impl Credentials {
    /// Looks after these credentials, until `shutdown`. What is good in the store is published at once.
    pub async fn begin(
        context: Arc<Context>,
        config: &config::Config,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let limit = Arc::new(Semaphore::new(AT_ONCE));
        let mut this = Self { context, running: BTreeMap::new(), handle: Handle::default(), limit, tasks, shutdown };
        this.take(config).await;
        this
    }

    /// For those who ask.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until the key sets of signing keys are there, at the first start, and no longer than a policy can wait for them.
    pub async fn key_sets(&self, config: &config::Config) {
        let there = async {
            while config.key_set_files().any(|file| !file.exists()) {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        };
        if tokio::time::timeout(PATIENCE, there).await.is_err() {
            tracing::warn!("not every signing key's key set was written; a policy that names it is refused");
        }
    }

    /// Takes credentials that were added, removed or changed. What is removed stays where it is, and good; it is only not
    /// looked after any more.
    pub async fn take(&mut self, config: &config::Config) {
        self.context.agent.board.credentials(config.credentials.iter().map(|credential| credential.name.as_str()));
        let gone: Vec<String> = self.running.keys().filter(|name| config.credential(name).is_none()).cloned().collect();
        for name in gone {
            if let Some(running) = self.running.remove(&name) {
                running.stop.cancel();
            }
            self.handle.remove(&name);
            self.context.agent.publisher.remove(&name);
        }
        for credential in &config.credentials {
            let credential = Arc::new(credential.clone());
            if let Some(running) = self.running.get(&credential.name) {
                running.config.send_if_modified(|before| {
                    let is_other = *before != credential;
                    if is_other {
                        *before = Arc::clone(&credential);
                    }
                    is_other
                });
                running.reloaded.notify_one();
                continue;
            }
            self.start(credential, config).await;
        }
    }

    async fn start(&mut self, credential: Arc<config::Credential>, config: &config::Config) {
        let name = credential.name.clone();
        let (asks, mut inbox) = mpsc::channel(16);
        let (changed, mut configs) = watch::channel(Arc::clone(&credential));
        let (reloaded, stop) = (Arc::new(Notify::new()), self.shutdown.child_token());
        let opened = Keeper::open(Arc::clone(&self.context), credential, config.verify_every).await;
        let (limit, unopened) = (
            Arc::clone(&self.limit),
            Unopened {
                context: Arc::clone(&self.context),
                every: config.verify_every,
                reloaded: Arc::clone(&reloaded),
                stop: stop.clone(),
            },
        );
        let until = stop.clone();
        self.tasks.spawn(async move {
            // The others are looked after all the same.
            let keeper = match opened {
                Ok(keeper) => Some(keeper),
                Err(error) => unopened.open(error, &mut inbox, &mut configs).await,
            };
            if let Some(keeper) = keeper {
                keeper.run(inbox, configs, limit, until).await;
            }
        });
        self.handle.add(&name, asks);
        self.running.insert(name, Running { config: changed, reloaded, stop });
    }
}
