//! The last good list of an authority: in force, in the store, and in the status.
//!
//! What was good stays: a list that is gone, cut off or bad changes nothing but the status, and a start without a good one goes
//! on with the list that the store has.

use std::sync::Arc;

use sha2::Digest as _;
use sha2::Sha256;

use super::List;
use super::ListError;
use super::Revoker;
use crate::audit::Event;
use crate::audit::Kind;
use crate::config::ListSource;
use crate::config::RevocationList;
use crate::errors::chain;
use crate::leaf;
use crate::status::ListStatus;
use crate::store::Version;

/// Keeps one list.
pub(super) struct Keeper {
    config: RevocationList,
    revoker: Revoker,
    stored: Option<Version>,
    last: Option<Arc<List>>,
    status: ListStatus,
}

impl Keeper {
    /// Puts in force what the store has.
    pub(super) fn open(config: RevocationList, revoker: Revoker) -> Self {
        let status = ListStatus::new(&config.name, &config.source.to_string());
        let mut keeper = Self { config, revoker, stored: None, last: None, status };
        match keeper.revoker.context.store.read(&keeper.store_key()) {
            Ok(Some(found)) => {
                keeper.stored = Some(found.version);
                match List::kept(&found.value, &keeper.config.authority) {
                    Ok(list) => keeper.put_in_force(list),
                    Err(error) => tracing::error!(list = keeper.config.name, %error, "the kept list is no use"),
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(list = keeper.config.name, error = chain(&error), "the kept list is not read")
            }
        }
        keeper
    }

    /// Reads a list as the next one. It takes a while for a long one, and nothing of the keeper.
    pub(super) fn reader(&self) -> impl Fn(&[u8]) -> Result<List, ListError> + Send + use<> {
        let (authority, last, emptied) = (self.config.authority.clone(), self.last.clone(), self.config.emptied);
        move |bytes| List::read(bytes, &authority, last.as_deref(), emptied, leaf::now())
    }

    /// The one in force.
    pub(super) fn last(&self) -> Option<&List> {
        self.last.as_deref()
    }

    /// Why the last one was refused, if it was.
    pub(super) fn last_error(&self) -> Option<&str> {
        self.status.last_error.as_deref()
    }

    /// Where it comes from.
    pub(super) fn source(&self) -> &ListSource {
        &self.config.source
    }

    /// What a list is taken with.
    pub(super) fn revoker(&self) -> &Revoker {
        &self.revoker
    }

    /// Writes the list down, with a line for the audit log, and puts it in force.
    pub(super) fn take(&mut self, bytes: &[u8], list: List) {
        let was_refused = self.clear();
        if self.last.as_deref() == Some(&list) {
            if was_refused {
                self.show();
            }
            return;
        }
        let cause = format!("{} entries, {list}", list.keys.len());
        tracing::info!(list = self.config.name, cause, "revocation list taken");
        let event = Event::new(Kind::ListTaken, &self.config.name).because(cause);
        match self.revoker.context.store.swap(&self.store_key(), self.stored, bytes, &[event.note()]) {
            Ok(version) => {
                self.stored = Some(version);
                self.revoker.context.noted.notify_one();
            }
            Err(error) => {
                tracing::error!(list = self.config.name, error = chain(&error), "the list is in force and not kept");
            }
        }
        self.put_in_force(list);
    }

    /// The list in force is still the newest.
    pub(super) fn confirm(&mut self) {
        if self.clear() {
            self.show();
        }
    }

    /// Says why there is no new one; in the audit log once, however often it is found.
    pub(super) fn refuse(&mut self, text: String, code: &'static str) {
        tracing::error!(list = self.config.name, error = text, "no new revocation list; the one before stays");
        self.revoker.context.metrics.list_refused(&self.config.name, code);
        if self.last_error() == Some(text.as_str()) {
            return;
        }
        let event = Event::new(Kind::Alarm, &self.config.name).because(format!("no new revocation list: {text}"));
        self.tell(&event);
        self.status.last_error = Some(text);
        self.show();
    }

    /// Whether there was something wrong.
    fn clear(&mut self) -> bool {
        let was_refused = self.status.last_error.take().is_some();
        if was_refused {
            self.tell(&Event::new(Kind::AlarmCleared, &self.config.name).because("the list is good again"));
        }
        was_refused
    }

    fn put_in_force(&mut self, list: List) {
        self.status.entries = list.keys.len();
        self.status.this_update = Some(leaf::timestamp(list.this_update));
        self.status.next_update = Some(leaf::timestamp(list.next_update));
        self.last = Some(Arc::new(list));
        self.show();
    }

    fn show(&self) {
        self.revoker.list(self.status.clone(), self.last.clone());
    }

    fn tell(&self, event: &Event) {
        match self.revoker.context.store.note(&event.note()) {
            Ok(()) => self.revoker.context.noted.notify_one(),
            Err(error) => tracing::error!(error = chain(&error), "an event is lost to the audit log: {event:?}"),
        }
    }

    /// A name may be longer than a key should be.
    fn store_key(&self) -> String {
        format!("revocation-list/{}", leaf::hex(&Sha256::digest(&self.config.name)))
    }
}
