//! SIGHUP: reads the configuration again and takes it as a whole, or keeps the one there is and says why.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::check_wasm;
use crate::audit::Event;
use crate::audit::Kind;
use crate::config;
use crate::config::Config;
use crate::credential::Credentials;
use crate::errors::chain;
use crate::gate::Gate;
use crate::generation::GenerationError;
use crate::generation::Generations;
use crate::jwks;
use crate::jwks::Jwks;
use crate::leaf;
use crate::policy_file::PolicyFile;
use crate::rotation;
use crate::rotation::Context;
use crate::status::PolicyStatus;
use crate::trust;
use crate::trust::Trust;
use crate::yaml::Located;

/// What a new configuration is carried to.
pub(super) struct Reload {
    pub(super) config: Arc<Config>,
    pub(super) context: Arc<Context>,
    /// To the loop.
    pub(super) configs: mpsc::Sender<Arc<Config>>,
    /// To those who have roots follow each other.
    pub(super) taken: watch::Sender<Arc<Config>>,
    /// Where bundles go.
    pub(super) trust: Trust,
    /// To those who report.
    pub(super) filter: watch::Sender<Option<config::Filter>>,
    pub(super) tasks: TaskTracker,
    /// Who follows the policy file, and what ends it.
    pub(super) policy: Option<(CancellationToken, JoinHandle<()>)>,
    /// Who look after credentials.
    pub(super) credentials: Credentials,
    /// For those who follow the keys of token providers.
    pub(super) followers: jwks::Context,
    /// Where policies go.
    pub(super) gate: Gate,
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
    /// A directory for files: where it is named, and what is wrong with it.
    #[error("{at}")]
    Files { at: Box<Located>, source: GenerationError },
}

/// Looks whether every directory that is new can be written to.
fn check_files(new: &Config, old: &Config) -> Result<(), ReloadError> {
    for (at, certificate) in new.certificates.iter().enumerate() {
        let before = old.certificate(&certificate.name).and_then(|before| before.files.as_ref());
        let Some(files) = certificate.files.as_ref().filter(|files| Some(*files) != before) else { continue };
        let ours =
            |other: &config::Certificate| other.files.as_ref().is_some_and(|other| other.directory == files.directory);
        match Generations::open(files) {
            Ok(_) => {}
            // By this agent itself, for a certificate that may be about to let go of it.
            Err(GenerationError::Locked { .. }) if old.certificates.iter().any(ours) => {}
            Err(source) => {
                let field = format!("certificates[{at}].files.directory");
                return Err(ReloadError::Files {
                    at: Box::new(new.source.error_at(&field, "cannot be written to")),
                    source,
                });
            }
        }
    }
    Ok(())
}

/// Looks whether every authority that leaves a bundle, or the roots of an issuer, may.
fn check_bundles(new: &Config, old: &Config, context: &Context) -> Result<(), ReloadError> {
    let mut in_use = Vec::with_capacity(old.certificates.len());
    for certificate in &old.certificates {
        let found = rotation::standing(context.store.as_ref(), &certificate.name);
        let found = found.map_err(super::DaemonError::Store)?;
        in_use.extend(found.map(|standing| (certificate.name.as_str(), standing)));
    }
    let own: Vec<_> = context.authorities.trusted().iter().map(|root| root.der().clone()).collect();
    let now = leaf::now();
    let refuse = |needed: trust::StillNeeded| {
        super::DaemonError::Refused(new.source.error_at(&needed.field, &needed.to_string()))
    };
    trust::may_leave(&old.bundles, &new.bundles, &own, &in_use, now).map_err(refuse)?;
    trust::may_leave_issuers(&old.issuers, &new.issuers, &in_use, now).map_err(refuse)?;
    Ok(())
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
        new.warn();
        let old = Arc::clone(&self.config);
        let fixed = [
            ("`state_dir`", new.state_dir == old.state_dir),
            ("`listen`", new.listen == old.listen),
            ("`ca`", new.ca == old.ca),
            ("`envoy`", new.envoy_admin == old.envoy_admin),
            ("`revocation`", new.revocation == old.revocation),
            ("`seal_key_file`", new.seal_key == old.seal_key),
        ];
        let changed: Vec<&str> = fixed.into_iter().filter_map(|(name, same)| (!same).then_some(name)).collect();
        if !changed.is_empty() {
            return Err(ReloadError::NeedsRestart(changed));
        }
        check_wasm(&new)?;
        check_files(&new, &old)?;
        let context = &self.context;
        check_bundles(&new, &old, context)?;
        // First of all that changes: certificates that ask a new issuer come after it, and an order under way at one that is
        // gone begins anew.
        context.issuers.configure(&new.issuers).map_err(super::DaemonError::Issuer)?;
        if (&new.policy, &new.filter) != (&old.policy, &old.filter) {
            let policy_file = PolicyFile::open(&new, &self.gate, Jwks::new(self.followers.clone()));
            let policy_file = policy_file.map_err(super::DaemonError::Policy)?;
            let board = context.board.clone();
            let publisher = context.publisher.clone();
            let none = policy_file.is_none();
            // Until it has ended it could publish what is removed below.
            self.follow_policy(policy_file).await;
            let names = |config: &Config| config.filter.as_ref().map(config::Filter::names);
            let kept = names(&new);
            for gone in names(&old).into_iter().flatten() {
                if !kept.iter().flatten().any(|name| *name == gone) {
                    publisher.remove(&gone);
                }
            }
            self.filter.send_replace(new.filter.clone());
            if none {
                // Nothing is in force any more, and nothing is waited for.
                self.gate.close();
                board.policy(|policy| *policy = PolicyStatus::default());
                board.providers(&[]);
            }
        }
        self.trust.bundles(&new.bundles);
        // Before those who count certificates hear of it.
        for gone in old.certificates.iter().filter(|certificate| new.certificate(&certificate.name).is_none()) {
            rotation::count_dropped(&self.context, &gone.name).map_err(super::DaemonError::Store)?;
        }
        self.config = Arc::new(new);
        self.credentials.take(&self.config).await;
        self.taken.send_replace(Arc::clone(&self.config));
        // The loop ends only with the agent.
        let _ = self.configs.send(Arc::clone(&self.config)).await;
        Ok(())
    }

    /// Follows this policy file, and no other: whoever followed one before has ended then.
    pub(super) async fn follow_policy(&mut self, policy_file: Option<PolicyFile>) {
        if let Some((end, ended)) = self.policy.take() {
            end.cancel();
            if let Err(error) = ended.await {
                tracing::error!(%error, "following the policy file ended badly");
            }
        }
        if let Some(policy_file) = policy_file {
            let end = self.shutdown.child_token();
            let ended = self.tasks.spawn(policy_file.watch(end.clone()));
            self.policy = Some((end, ended));
        }
    }
}
