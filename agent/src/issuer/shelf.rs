//! The issuers of the configuration in force.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use tokio::time::Instant;

use super::IssueError;
use super::Issuer;
use super::acme::Acme;
use super::directory::Directory;
use super::openbao::OpenBao;
use crate::ca::Authorities;
use crate::config;
use crate::store::Store;

/// Every issuer by its name, the built-in CA always among them.
pub struct Issuers {
    built_in: Arc<Issuer>,
    store: Arc<dyn Store>,
    others: RwLock<BTreeMap<String, (config::Issuer, Arc<Issuer>)>>,
}

/// Why an issuer cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("issuer `{name}` cannot be used")]
pub struct IssuersError {
    /// Its name.
    pub name: String,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Issuers {
    /// The built-in CA alone, until [`Self::configure`].
    pub fn new(authorities: impl Into<Authorities>, store: Arc<dyn Store>) -> Self {
        let built_in = Arc::new(Issuer::built_in(authorities.into()));
        Self { built_in, store, others: RwLock::default() }
    }

    /// Takes the issuers of a configuration. One that did not change goes on with what it knows of its server.
    ///
    /// # Errors
    ///
    /// [`IssuersError`], the first that cannot be used; nothing is changed then.
    pub fn configure(&self, wanted: &[config::Issuer]) -> Result<(), IssuersError> {
        let mut others = BTreeMap::new();
        for config in wanted {
            let known = self.known(config);
            let issuer = known.map_or_else(|| make(config, &self.store).map(Arc::new), Ok)?;
            others.insert(config.name.clone(), (config.clone(), issuer));
        }
        *self.others.write().unwrap_or_else(PoisonError::into_inner) = others;
        Ok(())
    }

    /// Everybody but the built-in CA.
    pub fn others(&self) -> Vec<Arc<Issuer>> {
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        others.values().map(|(_, issuer)| Arc::clone(issuer)).collect()
    }

    /// Those that issued to this process and only fail since, though they are asked, and since when.
    pub fn failing(&self, now: Instant) -> Vec<(String, Instant)> {
        let failing = |issuer: Arc<Issuer>| Some((issuer.name().to_owned(), issuer.failing_since(now)?));
        self.others().into_iter().filter_map(failing).collect()
    }

    fn known(&self, config: &config::Issuer) -> Option<Arc<Issuer>> {
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        let (old, issuer) = others.get(&config.name)?;
        (old.kind == config.kind && old.roots == config.roots).then(|| Arc::clone(issuer))
    }

    /// The issuer of this name.
    ///
    /// # Errors
    ///
    /// [`IssueError::Gone`].
    pub fn named(&self, name: &str) -> Result<Arc<Issuer>, IssueError> {
        if name == self.built_in.name() {
            return Ok(Arc::clone(&self.built_in));
        }
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        let issuer = others.get(name).map(|(_, issuer)| Arc::clone(issuer));
        issuer.ok_or_else(|| IssueError::Gone { name: name.to_owned() })
    }
}

fn make(config: &config::Issuer, store: &Arc<dyn Store>) -> Result<Issuer, IssuersError> {
    let (name, roots) = (config.name.clone(), config.roots.clone());
    let made: Result<Issuer, Box<dyn std::error::Error + Send + Sync>> = match &config.kind {
        config::IssuerKind::Acme(acme) => acme.settings().map_err(Into::into).and_then(|settings| {
            let acme = Acme::new(name.clone(), settings, Arc::clone(store))?;
            Ok(Issuer::acme(name.clone(), roots, acme))
        }),
        config::IssuerKind::Directory(settings) => {
            Ok(Issuer::directory(name.clone(), roots, Directory::new((**settings).clone())))
        }
        config::IssuerKind::OpenBao(settings) => OpenBao::new((**settings).clone())
            .map(|openbao| Issuer::openbao(name.clone(), roots, openbao))
            .map_err(Into::into),
    };
    made.map_err(|source| IssuersError { name, source })
}
