//! One provider: fetches its keys again and again, keeps the last good ones, and tells of every change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Client;
use reqwest::Url;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use sha2::Digest as _;
use sha2::Sha256;
use tokio::sync::watch;

use super::Context;
use super::Keys;
use super::KeysError;
use super::Remote;
use crate::audit::Event;
use crate::audit::Kind;
use crate::errors::chain;
use crate::fetch::FetchError;
use crate::fetch::Fetcher;
use crate::fetch::Followed;
use crate::fetch::schedule;
use crate::leaf;
use crate::status::ProviderStatus;
use crate::store::StoreError;
use crate::store::Version;

/// What the store has of a provider.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Where the keys came from; those of another URL are nothing to this one.
    url: String,
    etag: Option<String>,
    fetched_at: Timestamp,
    keys: Vec<Value>,
}

/// Why there are no new keys. The ones before stay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// No document came.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The document gives no keys.
    #[error("the answer is no use")]
    Keys(#[source] KeysError),
}

impl RefreshError {
    /// The stable code, a label of the metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Fetch(error) => error.code(),
            Self::Keys(KeysError::NotASet(_)) => "not_a_key_set",
            Self::Keys(KeysError::NoneUsable(_)) => "no_usable_key",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        if let Self::Fetch(error) = self { error.retry_after() } else { None }
    }
}

pub(super) struct Follower {
    context: Context,
    remote: Remote,
    known: watch::Sender<BTreeMap<Remote, Arc<Keys>>>,
    keys: Option<Arc<Keys>>,
    etag: Option<String>,
    stored: Option<Version>,
    status: ProviderStatus,
    failures: u32,
}

impl Followed for Follower {
    type Error = RefreshError;

    fn source(&self) -> (&Fetcher, &Url) {
        (&self.context.fetcher, &self.remote.url)
    }

    async fn refresh(&mut self, client: &Client) -> Result<Duration, RefreshError> {
        let etag = self.etag.as_deref().filter(|_| self.keys.is_some());
        let answer = self.context.fetcher.fetch(client, &self.remote.url, etag).await?;
        if let Some(document) = &answer.document {
            let keys = Arc::new(Keys::read(document, &self.remote.algorithms).map_err(RefreshError::Keys)?);
            self.etag.clone_from(&answer.etag);
            self.take(keys);
        }
        if self.failures > 0 {
            self.tell(&Event::new(Kind::AlarmCleared, self.name()).because("keys are fetched again"));
        }
        self.failures = 0;
        self.status.failures = 0;
        self.status.last_error = None;
        self.status.fetched_at = Some(Timestamp::now());
        let draw = (self.context.draw)().unwrap_or_default();
        Ok(schedule::fresh_for(answer.cache_control.as_deref(), answer.age.as_deref(), draw))
    }

    fn failed(&mut self, error: &RefreshError) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let text = chain(error);
        tracing::warn!(provider = self.name(), failures = self.failures, error = text, "no new keys");
        self.context.metrics.keys_not_fetched(self.name(), error.code());
        if self.failures == 1 {
            self.tell(&Event::new(Kind::Alarm, self.name()).because(format!("keys were not fetched: {text}")));
        }
        self.status.failures = u64::from(self.failures);
        self.status.last_error = Some(text);
        let draw = (self.context.draw)().unwrap_or_default();
        schedule::back_off(self.failures, error.retry_after(), draw)
    }

    fn failures(&self) -> u32 {
        self.failures
    }

    fn announce(&mut self, next: Option<Timestamp>) {
        self.status.next_attempt = next;
        self.context.board.provider(self.status.clone());
    }
}

impl Follower {
    /// Takes what the store has.
    pub(super) fn open(context: Context, remote: Remote, known: watch::Sender<BTreeMap<Remote, Arc<Keys>>>) -> Self {
        let mut follower = Self {
            status: ProviderStatus::new(&remote.provider, remote.url.as_str()),
            context,
            remote,
            known,
            keys: None,
            etag: None,
            stored: None,
            failures: 0,
        };
        match follower.context.store.read(&follower.store_key()) {
            Ok(Some(found)) => {
                follower.stored = Some(found.version);
                match serde_json::from_slice::<Kept>(&found.value) {
                    Ok(kept) => follower.take_kept(kept),
                    Err(error) => tracing::error!(provider = follower.name(), %error, "kept keys are unreadable"),
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(provider = follower.name(), error = chain(&error), "kept keys are not read"),
        }
        follower
    }

    fn take_kept(&mut self, kept: Kept) {
        if kept.url != self.remote.url.as_str() {
            return;
        }
        // Read as if they came now: this agent may know more, or less, of keys than the one that kept them.
        let text = serde_json::json!({ "keys": kept.keys }).to_string();
        match Keys::read(text.as_bytes(), &self.remote.algorithms) {
            Ok(keys) => {
                self.etag = kept.etag;
                self.status.fetched_at = Some(kept.fetched_at);
                self.publish(Arc::new(keys));
            }
            Err(error) => tracing::error!(provider = self.name(), error = chain(&error), "kept keys are no use"),
        }
    }

    /// Writes the keys down, with a line for the audit log if they are others, and hands them on.
    fn take(&mut self, keys: Arc<Keys>) {
        let before = self.keys.as_ref().map(|keys| keys.digest());
        let digest = keys.digest();
        if before.as_ref() == Some(&digest) {
            return;
        }
        let kept = Kept {
            url: self.remote.url.to_string(),
            etag: self.etag.clone(),
            fetched_at: Timestamp::now(),
            keys: keys.values().to_vec(),
        };
        let cause = format!("{} keys from {}", keys.len(), self.status.source);
        tracing::info!(provider = self.name(), keys = keys.len(), "other keys");
        let event = Event::new(Kind::KeysChanged, self.name()).because(cause).change(before.as_deref(), Some(&digest));
        match self.keep(&kept, &event) {
            Ok(version) => {
                self.stored = Some(version);
                self.context.noted.notify_one();
            }
            Err(error) => tracing::error!(provider = self.name(), error = chain(&error), "keys are used and not kept"),
        }
        self.publish(keys);
    }

    fn keep(&self, kept: &Kept, event: &Event) -> Result<Version, StoreError> {
        let value = serde_json::to_vec(kept).expect("keys are made of JSON");
        self.context.store.swap(&self.store_key(), self.stored, &value, &[event.note()])
    }

    fn publish(&mut self, keys: Arc<Keys>) {
        self.status.keys = keys.len();
        self.keys = Some(Arc::clone(&keys));
        self.context.board.provider(self.status.clone());
        self.known.send_modify(|known| {
            known.insert(self.remote.clone(), keys);
        });
    }

    fn tell(&self, event: &Event) {
        match self.context.store.note(&event.note()) {
            Ok(()) => self.context.noted.notify_one(),
            Err(error) => tracing::error!(error = chain(&error), "an event is lost to the audit log: {event:?}"),
        }
    }

    fn name(&self) -> &str {
        &self.remote.provider
    }

    /// A provider's name may be longer than a key should be, and the same name may lead to several places over time.
    fn store_key(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.remote.provider);
        hash.update(b"\0");
        hash.update(self.remote.url.as_str());
        format!("jwks/{}", leaf::hex(&hash.finalize()))
    }
}
