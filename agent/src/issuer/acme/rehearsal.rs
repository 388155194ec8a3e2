//! Whole orders at a server whose certificates nobody trusts: what is wrong with names, proofs or the network shows, and nothing
//! is counted where it matters.
//!
//! Absent: anything that is taken into use. The account and the ledger are the server's own, beside those of the other.

use std::time::Instant;

use super::Acme;
use super::AcmeOrder;
use super::error::AcmeError;
use super::identifiers;
use super::ledger::NameSet;
use super::ledger::blocking;
use crate::issuer::Progress;
use crate::issuer::Request;
use crate::names::Names;

/// Steps of an order, at most.
const STEPS: usize = 20;

/// What came of an order at the staging server.
#[derive(Debug)]
pub struct Rehearsed {
    /// Its host.
    pub host: String,
    /// URL of the order.
    pub order: String,
    /// How names were proven.
    pub challenge: &'static str,
    /// Leaf first, PEM; nobody trusts it.
    pub chain_pem: String,
    /// What was asked for.
    pub request: Request,
    /// From the first request to the chain.
    pub took_ms: u64,
}

impl Acme {
    /// Whether there is somewhere to rehearse.
    pub fn can_rehearse(&self) -> bool {
        self.staging.is_some()
    }

    /// Takes every step of an order at the staging server. What it puts into the DNS is written down before, and taken away on
    /// every way out; after a crash by [`Self::forget_rehearsal`].
    ///
    /// # Errors
    ///
    /// [`AcmeError`], as for an order; [`AcmeError::NoStaging`].
    pub async fn rehearse(&self, request: Request) -> Result<Rehearsed, AcmeError> {
        let host = || self.settings.directory.host().to_owned();
        let staging = self.staging.as_ref().ok_or_else(|| AcmeError::NoStaging { host: host() })?;
        self.forget_rehearsal(&request.names).await?;
        let began = Instant::now();
        let mut order = AcmeOrder::default();
        for _ in 0..STEPS {
            match staging.advance(&request, &order, None).await {
                Ok(Progress::Journal(noted)) => {
                    order = noted;
                    staging.note_rehearsal(&request.names, Some(&order)).await?;
                }
                Ok(Progress::Issued(chain_pem)) => {
                    staging.note_rehearsal(&request.names, None).await?;
                    return Ok(Rehearsed {
                        host: staging.settings.directory.host().to_owned(),
                        order: order.url.unwrap_or_default(),
                        challenge: staging.challenger.word(),
                        chain_pem,
                        request,
                        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                    });
                }
                Err(error) => {
                    staging.abandon(&order).await;
                    staging.note_rehearsal(&request.names, None).await?;
                    return Err(error);
                }
            }
        }
        let (host, what) = (staging.settings.directory.host().to_owned(), "the rehearsal");
        Err(AcmeError::Unfinished { host, what, until: None })
    }

    /// Takes out of the DNS what a rehearsal for these names left that was cut off.
    ///
    /// # Errors
    ///
    /// [`AcmeError::Store`].
    pub async fn forget_rehearsal(&self, names: &Names) -> Result<(), AcmeError> {
        let Some(staging) = &self.staging else { return Ok(()) };
        let (store, key) = (staging.accounts.store(), staging.rehearsal_key(names)?);
        let found = blocking(move || store.read(&key)).await?;
        let noted = found.and_then(|found| serde_json::from_slice::<Option<AcmeOrder>>(&found.value).ok().flatten());
        let Some(noted) = noted else { return Ok(()) };
        staging.abandon(&noted).await;
        staging.note_rehearsal(names, None).await
    }

    async fn note_rehearsal(&self, names: &Names, order: Option<&AcmeOrder>) -> Result<(), AcmeError> {
        let (store, key) = (self.accounts.store(), self.rehearsal_key(names)?);
        let json = serde_json::to_vec(&order).expect("text");
        blocking(move || {
            let version = store.read(&key)?.map(|found| found.version);
            store.swap(&key, version, &json, &[]).map(drop)
        })
        .await
    }

    fn rehearsal_key(&self, names: &Names) -> Result<String, AcmeError> {
        let names = NameSet::new(identifiers(names)?.iter().map(super::challenge::name_of));
        Ok(format!("acme/{}/rehearsal/{}", self.name, names.digest()))
    }
}
