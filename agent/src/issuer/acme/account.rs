//! The account at the CA: made once, its key kept in the store and nowhere else.

use std::sync::Arc;

use instant_acme::Account;
use instant_acme::AccountCredentials;
use instant_acme::NewAccount;
use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroizing;

use super::error::AcmeError;
use super::ledger::blocking;
use super::settings::Settings;
use super::transport::Conversation;
use crate::rotation::failpoint;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Version;

/// The account of one issuer in the store.
pub(super) struct Accounts {
    store: Arc<dyn Store>,
    key: String,
    /// One is made at a time: many orders begin at once when the agent starts for the first time.
    making: tokio::sync::Mutex<()>,
}

/// What the store holds. Serialising it is for the store alone.
#[derive(Serialize, Deserialize)]
struct Record {
    /// An account of another CA is none here.
    directory: String,
    contact: Vec<String>,
    credentials: AccountCredentials,
}

impl Accounts {
    pub(super) fn new(store: Arc<dyn Store>, issuer: &str) -> Self {
        Self { store, key: format!("acme/{issuer}/account"), making: tokio::sync::Mutex::default() }
    }

    /// Where it is kept.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// The account, made if there is none. What it asks goes through `conversation`.
    pub(super) async fn open(&self, conversation: &Conversation, settings: &Settings) -> Result<Account, AcmeError> {
        let making = self.making.lock().await;
        let (version, record) = self.read(conversation).await?;
        let record = record.filter(|record| record.directory == settings.directory.url().as_str());
        let Some(record) = record else {
            return self.make(conversation, settings, version).await;
        };
        drop(making);
        let is_new_contact = record.contact != settings.contact;
        let directory = record.directory;
        let account = builder(conversation).from_credentials(record.credentials).await;
        let account = account.map_err(|error| conversation.error(error))?;
        if is_new_contact {
            let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
            patiently!(account.update_contacts(&contact)).map_err(|error| conversation.error(error))?;
            self.note_contact(conversation, &directory, settings.contact.clone()).await?;
        }
        Ok(account)
    }

    /// Forgets an account that the CA does not know, or lets do nothing. Its key is kept aside, in case that it was the CA who was wrong.
    pub(super) async fn forget(&self, conversation: &Conversation) -> Result<(), AcmeError> {
        let _making = self.making.lock().await;
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        tracing::warn!(ca = conversation.host(), "the CA does not take the account any more; another is made");
        blocking(move || {
            let Some(found) = store.read(&key)? else { return Ok(()) };
            let aside = format!("{key}/former");
            let former = store.read(&aside)?.map(|former| former.version);
            store.swap(&aside, former, &found.value, &[])?;
            store.swap(&key, Some(found.version), b"null", &[]).map(drop)
        })
        .await
    }

    /// Makes one. Between the CA's answer and the store's nothing knows its key: after a crash just then another is made,
    /// and the first is never used.
    async fn make(
        &self,
        conversation: &Conversation,
        settings: &Settings,
        version: Option<Version>,
    ) -> Result<Account, AcmeError> {
        let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let directory = settings.directory.url().to_string();
        let external = settings.external_account.as_ref().map(|account| account.key());
        failpoint::hit("acme-account");
        let made = patiently!(builder(conversation).create(&new, directory.clone(), external.as_ref()));
        let (account, credentials) = made.map_err(|error| conversation.error(error))?;
        failpoint::hit("acme-account-made");
        let record = Record { directory, contact: settings.contact.clone(), credentials };
        match self.write(version, &record).await {
            Ok(()) => {
                failpoint::hit("acme-account-kept");
                Ok(account)
            }
            // Another agent of the same store made one: there is to be one account only.
            Err(AcmeError::Store(StoreError::Conflict { .. })) => match self.read(conversation).await?.1 {
                Some(theirs) if theirs.directory == record.directory => {
                    let account = builder(conversation).from_credentials(theirs.credentials).await;
                    account.map_err(|error| conversation.error(error))
                }
                _ => Err(AcmeError::Store(StoreError::Conflict { key: self.key.clone() })),
            },
            Err(error) => Err(error),
        }
    }

    async fn note_contact(
        &self,
        conversation: &Conversation,
        directory: &str,
        contact: Vec<String>,
    ) -> Result<(), AcmeError> {
        let (version, record) = self.read(conversation).await?;
        match record.filter(|record| record.directory == directory) {
            Some(record) => self.write(version, &Record { contact, ..record }).await,
            None => Ok(()),
        }
    }

    async fn read(&self, conversation: &Conversation) -> Result<(Option<Version>, Option<Record>), AcmeError> {
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        let Some(found) = blocking(move || store.read(&key)).await? else { return Ok((None, None)) };
        let record = serde_json::from_slice(&found.value)
            .map_err(|source| AcmeError::Record { host: conversation.host(), source })?;
        Ok((Some(found.version), record))
    }

    async fn write(&self, version: Option<Version>, record: &Record) -> Result<(), AcmeError> {
        let json = Zeroizing::new(serde_json::to_vec(record).expect("text"));
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        blocking(move || store.swap(&key, version, &json, &[]).map(drop)).await
    }
}

fn builder(conversation: &Conversation) -> instant_acme::AccountBuilder {
    Account::builder_with_http(Box::new(conversation.clone()))
}
