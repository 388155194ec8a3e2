//! SIGHUP: reads the configuration again and takes it as a whole, or keeps the one there is and says why.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::check_wasm;
use super::outcomes;
use crate::audit::Event;
use crate::audit::Kind;
use crate::config;
use crate::config::Config;
use crate::errors::chain;
use crate::policy_file::PolicyFile;
use crate::rotation::Context;
use crate::status::BundleStatus;

/// What a new configuration is carried to.
pub(super) struct Reload {
    pub(super) config: Arc<Config>,
    pub(super) context: Arc<Context>,
    /// To the loop.
    pub(super) configs: mpsc::Sender<Arc<Config>>,
    /// To those who report.
    pub(super) bundles: watch::Sender<Vec<BundleStatus>>,
    /// To those who report.
    pub(super) filter: watch::Sender<Option<config::Filter>>,
    pub(super) tasks: TaskTracker,
    /// Ends the following of the policy file.
    pub(super) policy: Option<CancellationToken>,
    pub(super) shutdown: CancellationToken,
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error("{} cannot change while the agent runs; restart it", .0.join(", "))]
    NeedsRestart(Vec<&'static str>),
    #[error(transparent)]
    Start(#[from] super::DaemonError),
    #[error(transparent)]
    Config(#[from] config::ConfigError),
}

impl Reload {
    /// Reads the file again.
    pub(super) async fn reload(&mut self) {
        let event = match self.try_reload().await {
            Ok(()) => {
                tracing::info!("the configuration was read again");
                Event::new(Kind::Configuration, "accepted")
            }
            Err(error) => {
                let error = chain(&error);
                tracing::error!(error, "the configuration is not taken; the one before stays in force");
                Event::new(Kind::Configuration, "refused").because(error)
            }
        };
        match self.context.store.note(&event.by("operator").note()) {
            Ok(()) => self.context.noted.notify_one(),
            Err(error) => tracing::error!(error = chain(&error), "an event is lost to the audit log"),
        }
    }

    async fn try_reload(&mut self) -> Result<(), ReloadError> {
        let new = Config::load(&self.config.file)?;
        let old = &self.config;
        let fixed = [
            ("`state_dir`", new.state_dir == old.state_dir),
            ("`listen`", new.listen == old.listen),
            ("`ca`", new.ca == old.ca),
            ("`envoy`", new.envoy_admin == old.envoy_admin),
        ];
        let changed: Vec<&str> = fixed.into_iter().filter_map(|(name, same)| (!same).then_some(name)).collect();
        if !changed.is_empty() {
            return Err(ReloadError::NeedsRestart(changed));
        }
        check_wasm(&new)?;
        let context = &self.context;
        if (&new.policy, &new.filter) != (&old.policy, &old.filter) {
            let (publisher, board) = (&context.publisher, &context.board);
            let policy_file = PolicyFile::open(&new, publisher, board, &context.store, &context.noted);
            let policy_file = policy_file.map_err(super::DaemonError::Policy)?;
            if let Some(gone) =
                old.filter.as_ref().filter(|old| new.filter.as_ref().map(|new| &new.name) != Some(&old.name))
            {
                publisher.remove(&gone.name);
            }
            self.filter.send_replace(new.filter.clone());
            self.follow_policy(policy_file);
        }
        let context = &self.context;
        for gone in self.config.bundles.iter().filter(|old| new.bundles.iter().all(|new| new.name != old.name)) {
            context.publisher.remove(&gone.name);
        }
        self.bundles.send_replace(outcomes::publish_bundles(&context.publisher, &new.bundles, &context.authority));
        self.config = Arc::new(new);
        // The loop ends only with the agent.
        let _ = self.configs.send(Arc::clone(&self.config)).await;
        Ok(())
    }

    /// Follows this policy file, and no other.
    pub(super) fn follow_policy(&mut self, policy_file: Option<PolicyFile>) {
        if let Some(before) = self.policy.take() {
            before.cancel();
        }
        if let Some(policy_file) = policy_file {
            let end = self.shutdown.child_token();
            self.tasks.spawn(policy_file.watch(end.clone()));
            self.policy = Some(end);
        }
    }
}
