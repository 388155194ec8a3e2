//! What operators revoked, and what they took back: pages in the store, one for each command, never rewritten.
//!
//! So a command costs what it says and not what was said before, and it is in the store together with the note for the audit
//! log before it takes effect. Each page is also in a file beside the store, from which a store that was lost is filled again.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use portcullis_policy::revocation::Brake;
use portcullis_policy::revocation::Key;
use serde::Deserialize;
use serde::Serialize;

use super::Change;
use super::Target;
use super::copy::Copy;
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
    copy: Copy,
    /// The copy lacks a page.
    is_behind: bool,
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
    /// The copy cannot be read, and the store has nothing.
    #[error("what operators revoked is not in the store, and its copy `{}` cannot be read; restore it, or move it away to go on without", path.display())]
    CopyUnreadable {
        /// The copy.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line of the copy, which the store lacks, is not a page.
    #[error("what operators revoked is not in the store, and line {line} of its copy `{}` cannot be read; restore it, or move it away to go on without", path.display())]
    CopyLine {
        /// The copy.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The cause.
        source: serde_json::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What had to be done to open a book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mended {
    /// Nothing.
    Nothing,
    /// So many pages came from the copy.
    Recovered(usize),
    /// The copy was of another book, and was moved here.
    MovedAside(PathBuf),
}

impl Book {
    /// Reads all pages; those that only the copy has are written into the store again.
    pub(super) fn open(store: Arc<dyn Store>, copy: PathBuf) -> Result<(Self, Mended), BookError> {
        let mut pages = Vec::new();
        while let Some(found) = store.read(&key(pages.len() as u64))? {
            pages.push(found.value.to_vec());
        }
        let copy = Copy::new(copy);
        let mended = match copy.read() {
            Err(source) if pages.is_empty() => {
                return Err(BookError::CopyUnreadable { path: copy.path().to_owned(), source });
            }
            Err(error) => {
                tracing::error!(%error, copy = %copy.path().display(), "the copy of what is revoked is not read");
                Mended::Nothing
            }
            Ok(mut lines) if lines.len() > pages.len() && lines.starts_with(&pages) => {
                let missing = lines.split_off(pages.len());
                let count = missing.len();
                for line in missing {
                    let at = pages.len();
                    let path = || copy.path().to_owned();
                    serde_json::from_slice::<Page>(&line).map_err(|source| BookError::CopyLine {
                        path: path(),
                        line: at + 1,
                        source,
                    })?;
                    store.swap(&key(at as u64), None, &line, &[])?;
                    pages.push(line);
                }
                Mended::Recovered(count)
            }
            Ok(lines) if !pages.starts_with(&lines) => match copy.move_aside() {
                Ok(aside) => Mended::MovedAside(aside),
                Err(error) => {
                    tracing::error!(%error, copy = %copy.path().display(), "a copy of another book is not moved");
                    Mended::Nothing
                }
            },
            Ok(_) => Mended::Nothing,
        };
        let mut book = Self { store, copy, is_behind: false, next: 0, entries: BTreeMap::new() };
        for page in &pages {
            let page =
                serde_json::from_slice(page).map_err(|source| BookError::Unreadable { key: key(book.next), source })?;
            book.take(page);
        }
        // Anew, for the last line may have been cut off.
        if !pages.is_empty() {
            book.copied(book.copy.replace(&pages));
        }
        Ok((book, mended))
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
        // It is in force from here on, whatever becomes of the copy.
        let copied = if self.is_behind {
            self.copy_all().unwrap_or_else(|error| Err(io::Error::other(error)))
        } else {
            self.copy.append(&value)
        };
        self.copied(copied);
        Ok(())
    }

    fn copy_all(&self) -> Result<io::Result<()>, StoreError> {
        let page = |number| Ok(self.store.read(&key(number))?.map(|found| found.value.to_vec()).unwrap_or_default());
        let pages: Result<Vec<_>, StoreError> = (0..self.next).map(page).collect();
        Ok(self.copy.replace(&pages?))
    }

    /// The store has it, so nothing is undone.
    fn copied(&mut self, copied: io::Result<()>) {
        self.is_behind = copied.is_err();
        if let Err(error) = copied {
            tracing::error!(%error, copy = %self.copy.path().display(), "what is revoked is in the store alone");
        }
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

    struct Shelf(tempfile::TempDir);

    impl Shelf {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a directory"))
        }

        fn copy(&self) -> PathBuf {
            self.0.path().join("revocations.jsonl")
        }

        fn store(&self, name: &str) -> Arc<dyn Store> {
            Arc::new(LocalStore::open(&self.0.path().join(name)).expect("a store").store)
        }

        fn open(&self, store: &Arc<dyn Store>) -> (Book, Mended) {
            Book::open(Arc::clone(store), self.copy()).expect("a book")
        }
    }

    fn revoke(book: &mut Book, names: &[&str]) {
        book.write(Change::Revoke, "lost", targets(names), b"{}".to_vec()).expect("written");
    }

    fn names(book: &Book) -> Vec<String> {
        book.entries().map(|(target, _)| target.to_string()).collect()
    }

    #[test]
    fn a_store_that_is_lost_is_filled_from_the_copy() {
        let shelf = Shelf::new();
        let (mut book, mended) = shelf.open(&shelf.store("one.redb"));
        assert_eq!(mended, Mended::Nothing);
        revoke(&mut book, &["a", "b"]);
        revoke(&mut book, &["c"]);
        book.write(Change::Unrevoke, "found", targets(&["b"]), b"{}".to_vec()).expect("written");
        let before = names(&book);
        drop(book);
        std::fs::OpenOptions::new()
            .append(true)
            .open(shelf.copy())
            .and_then(|mut file| io::Write::write_all(&mut file, b"{\"time\""))
            .expect("torn");

        let store = shelf.store("two.redb");
        let (mut book, mended) = shelf.open(&store);
        assert_eq!((mended, names(&book)), (Mended::Recovered(3), before));
        revoke(&mut book, &["d"]);
        let before = names(&book);
        drop(book);
        let (book, mended) = shelf.open(&store);
        assert_eq!((mended, names(&book)), (Mended::Nothing, before.clone()), "the store has it again");
        drop(book);
        let (book, mended) = shelf.open(&shelf.store("three.redb"));
        assert_eq!((mended, names(&book)), (Mended::Recovered(4), before), "and so has the copy");
    }

    #[test]
    fn a_copy_that_is_behind_or_of_another_book_is_written_anew() {
        let shelf = Shelf::new();
        let store = shelf.store("one.redb");
        let (mut book, _) = shelf.open(&store);
        revoke(&mut book, &["a"]);
        let one = std::fs::read(shelf.copy()).expect("a copy");
        // Where the copy should be something else is: the command is carried out all the same.
        std::fs::remove_file(shelf.copy()).expect("removed");
        std::fs::create_dir(shelf.copy()).expect("in the way");
        revoke(&mut book, &["b"]);
        std::fs::remove_dir(shelf.copy()).expect("removed");
        revoke(&mut book, &["c"]);
        let whole = std::fs::read(shelf.copy()).expect("a copy");
        assert_eq!(whole.iter().filter(|byte| **byte == b'\n').count(), 3, "what it lacked came with the next");
        drop(book);
        std::fs::write(shelf.copy(), one).expect("from before");
        assert_eq!(shelf.open(&store).1, Mended::Nothing);
        assert_eq!(std::fs::read(shelf.copy()).expect("a copy"), whole);

        let (mut other, _) = Book::open(shelf.store("other.redb"), shelf.0.path().join("other")).expect("a book");
        revoke(&mut other, &["z"]);
        std::fs::copy(shelf.0.path().join("other"), shelf.copy()).expect("copied");
        let (_, mended) = shelf.open(&store);
        let Mended::MovedAside(aside) = mended else { panic!("{mended:?}") };
        assert!(std::fs::read_to_string(aside).expect("kept").contains("dns:z"));
        assert_eq!(std::fs::read(shelf.copy()).expect("a copy"), whole);
    }

    #[test]
    fn a_copy_that_cannot_be_read_is_an_error_while_the_store_has_nothing() {
        let shelf = Shelf::new();
        std::fs::write(shelf.copy(), "{\"change\": \"perhaps\"}\n").expect("written");
        let opened = Book::open(shelf.store("one.redb"), shelf.copy());
        assert!(matches!(opened, Err(BookError::CopyLine { line: 1, .. })));
        std::fs::remove_file(shelf.copy()).expect("removed");
        std::fs::create_dir(shelf.copy()).expect("in the way");
        let opened = Book::open(shelf.store("two.redb"), shelf.copy());
        assert!(matches!(opened, Err(BookError::CopyUnreadable { .. })));
    }

    #[test]
    fn what_was_written_is_read_again_in_order() {
        let shelf = Shelf::new();
        let store = shelf.store("store.redb");
        let (mut book, _) = shelf.open(&store);
        let write = |book: &mut Book, change, reason, names: &[&str]| {
            let news = book.news(change, targets(names));
            book.write(change, reason, news.clone(), b"{}".to_vec()).expect("written");
            news.len()
        };
        assert_eq!(write(&mut book, Change::Revoke, "lost", &["a", "b", "b"]), 2);
        assert_eq!(write(&mut book, Change::Revoke, "stolen", &["b", "c"]), 1, "one is revoked already");
        assert_eq!(write(&mut book, Change::Unrevoke, "found", &["a", "d"]), 1, "one was never revoked");
        assert_eq!(store.notes().expect("notes").len(), 3);

        let (again, _) = shelf.open(&store);
        let read: Vec<_> =
            again.entries().map(|(target, entry)| (target.to_string(), entry.reason.to_string())).collect();
        let want = [("identity dns:b", "lost"), ("identity dns:c", "stolen")];
        assert_eq!(read, want.map(|(target, reason)| (target.to_owned(), reason.to_owned())));
        assert_eq!(again.keys().count(), 2);
    }

    #[test]
    fn a_page_that_is_none_is_an_error_and_not_an_empty_book() {
        let shelf = Shelf::new();
        let store = shelf.store("store.redb");
        store.swap("revocation/0", None, b"{\"change\": \"perhaps\"}", &[]).expect("written");
        assert!(matches!(Book::open(store, shelf.copy()), Err(BookError::Unreadable { .. })));
    }
}
