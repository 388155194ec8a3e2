//! What operators revoked, and what they took back: pages in the store, one for each command, never rewritten.
//!
//! So a command costs what it says and not what was said before, and it is in the store together with the note for the audit
//! log before it takes effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use portcullis_policy::revocation::Brake;
use portcullis_policy::revocation::Key;
use serde::Deserialize;
use serde::Serialize;

use super::Change;
use super::Target;
use crate::store::Store;
use crate::store::StoreError;

/// When and why something was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) since: Timestamp,
    pub(super) reason: Arc<str>,
    key: Option<Key>,
}

/// One command.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    time: Timestamp,
    change: Change,
    reason: String,
    targets: Vec<Target>,
}

/// Everything that is revoked on an operator's word.
pub(super) struct Book {
    store: Arc<dyn Store>,
    /// Number of the next page.
    next: u64,
    entries: BTreeMap<Target, Entry>,
}

/// Why the book cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BookError {
    /// A page is not one. Going on without it would let in whom it revokes.
    #[error("what operators revoked cannot be read (`{key}` of the store)")]
    Unreadable {
        /// The page.
        key: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Book {
    /// Reads all pages.
    pub(super) fn open(store: Arc<dyn Store>) -> Result<Self, BookError> {
        let mut book = Self { store, next: 0, entries: BTreeMap::new() };
        while let Some(found) = book.store.read(&key(book.next))? {
            let page = serde_json::from_slice(&found.value)
                .map_err(|source| BookError::Unreadable { key: key(book.next), source })?;
            book.take(page);
        }
        Ok(book)
    }

    /// Those of the targets that a command would change something about, none twice.
    pub(super) fn news(&self, change: Change, targets: Vec<Target>) -> Vec<Target> {
        let mut news: Vec<Target> = targets
            .into_iter()
            .filter(|target| self.entries.contains_key(target) == (change == Change::Unrevoke))
            .collect();
        news.sort_unstable();
        news.dedup();
        news
    }

    /// Writes a page. When it returns, the page and the note survive a power cut.
    pub(super) fn write(
        &mut self,
        change: Change,
        reason: &str,
        targets: Vec<Target>,
        note: Vec<u8>,
    ) -> Result<(), BookError> {
        let page = Page { time: Timestamp::now(), change, reason: reason.to_owned(), targets };
        let value = serde_json::to_vec(&page).expect("a page is made of strings");
        self.store.swap(&key(self.next), None, &value, &[note])?;
        self.take(page);
        Ok(())
    }

    pub(super) fn entries(&self) -> impl ExactSizeIterator<Item = (&Target, &Entry)> {
        self.entries.iter()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.entries.values().filter_map(|entry| entry.key)
    }

    pub(super) fn brakes(&self) -> impl Iterator<Item = Brake> {
        self.entries.keys().filter_map(Target::brake)
    }

    fn take(&mut self, page: Page) {
        self.next += 1;
        let reason: Arc<str> = page.reason.into();
        for target in page.targets {
            match page.change {
                Change::Revoke => {
                    let entry = Entry { since: page.time, reason: Arc::clone(&reason), key: target.key() };
                    self.entries.entry(target).or_insert(entry);
                }
                Change::Unrevoke => {
                    self.entries.remove(&target);
                }
            }
        }
    }
}

fn key(page: u64) -> String {
    format!("revocation/{page}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LocalStore;

    fn targets(names: &[&str]) -> Vec<Target> {
        names.iter().map(|name| Target::identity(&format!("dns:{name}")).expect("an identity")).collect()
    }

    #[test]
    fn what_was_written_is_read_again_in_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let store: Arc<dyn Store> =
            Arc::new(LocalStore::open(&directory.path().join("store.redb")).expect("a store").store);
        let mut book = Book::open(Arc::clone(&store)).expect("an empty book");
        let write = |book: &mut Book, change, reason, names: &[&str]| {
            let news = book.news(change, targets(names));
            book.write(change, reason, news.clone(), b"{}".to_vec()).expect("written");
            news.len()
        };
        assert_eq!(write(&mut book, Change::Revoke, "lost", &["a", "b", "b"]), 2);
        assert_eq!(write(&mut book, Change::Revoke, "stolen", &["b", "c"]), 1, "one is revoked already");
        assert_eq!(write(&mut book, Change::Unrevoke, "found", &["a", "d"]), 1, "one was never revoked");
        assert_eq!(store.notes().expect("notes").len(), 3);

        let again = Book::open(store).expect("the book");
        let read: Vec<_> =
            again.entries().map(|(target, entry)| (target.to_string(), entry.reason.to_string())).collect();
        let want = [("identity dns:b", "lost"), ("identity dns:c", "stolen")];
        assert_eq!(read, want.map(|(target, reason)| (target.to_owned(), reason.to_owned())));
        assert_eq!(again.keys().count(), 2);
    }

    #[test]
    fn a_page_that_is_none_is_an_error_and_not_an_empty_book() {
        let directory = tempfile::tempdir().expect("a directory");
        let store: Arc<dyn Store> =
            Arc::new(LocalStore::open(&directory.path().join("store.redb")).expect("a store").store);
        store.swap("revocation/0", None, b"{\"change\": \"perhaps\"}", &[]).expect("written");
        assert!(matches!(Book::open(store), Err(BookError::Unreadable { .. })));
    }
}
