//! The store of a single agent: one redb file.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use redb::Database;
use redb::Durability;
use redb::ReadableDatabase as _;
use redb::ReadableTable as _;
use redb::TableDefinition;
use redb::WriteTransaction;
use redb::backends::FileBackend;
use zeroize::Zeroizing;

use super::Note;
use super::Store;
use super::StoreError;
use super::Version;
use super::Versioned;
use crate::state_dir::open_own;

/// Format of the tables below. Raise it when an older agent would misread them.
const FORMAT: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Key → (version, value).
const VALUES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("values");
const NOTES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("notes");
const FORMAT_KEY: &str = "format";
const LAST_VERSION: &str = "last_version";
const LAST_NOTE: &str = "last_note";

/// A store in one file.
///
/// A database that met an error of the disk does nothing more. The next call opens it again, as it was before the change that
/// failed: a disk that was full is a disk like any other afterwards.
pub struct LocalStore {
    /// None where it could not be opened again yet.
    database: RwLock<Option<Database>>,
    failed: AtomicBool,
    path: PathBuf,
}

/// A store, and what had to be done to open it.
pub struct Opened {
    /// The store.
    pub store: LocalStore,
    /// Where an unreadable file was moved; worth an alarm, since everything in it is made anew.
    pub moved_aside: Option<PathBuf>,
}

impl LocalStore {
    /// Opens the file or makes it (0600). An unreadable one is moved aside, and an empty one takes its place: what
    /// proxies serve stays served, and certificates are issued anew.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: a file that cannot be opened, or one that a newer agent wrote, is not moved.
    pub fn open(path: &Path) -> Result<Opened, StoreError> {
        match Self::try_open(path) {
            Ok(store) => Ok(Opened { store, moved_aside: None }),
            Err(StoreError::Failed { source, .. }) if is_corrupt(&source) => {
                let aside = path.with_extension(format!("redb.unreadable-{}", Timestamp::now().as_millisecond()));
                fs::rename(path, &aside).map_err(|source| StoreError::Stuck { path: path.to_owned(), source })?;
                Ok(Opened { store: Self::try_open(path)?, moved_aside: Some(aside) })
            }
            Err(error) => Err(error),
        }
    }

    fn try_open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| failed(path, source);
        let io = |source: io::Error| failed(redb::Error::from(source));
        let file =
            open_own(path, OpenOptions::new().read(true).write(true).create(true).truncate(false)).map_err(io)?;
        file.set_permissions(Permissions::from_mode(0o600)).map_err(io)?;
        let database = open_database(file).map_err(failed)?;
        let (database, failed) = (RwLock::new(Some(database)), AtomicBool::new(false));
        let store = Self { database, failed, path: path.to_owned() };
        let found = store.write(Durability::Immediate, |transaction| {
            // Made here, so that reading never meets a table that is not there.
            transaction.open_table(VALUES)?;
            transaction.open_table(NOTES)?;
            let mut meta = transaction.open_table(META)?;
            let found = meta.get(FORMAT_KEY)?.map(|found| found.value());
            if found.is_none() {
                meta.insert(FORMAT_KEY, FORMAT)?;
            }
            Ok(found.unwrap_or(FORMAT))
        })?;
        if found > FORMAT {
            return Err(StoreError::Newer { path: path.to_owned(), found, known: FORMAT });
        }
        store.read_all()?;
        Ok(store)
    }

    /// Reads every value, so that one that cannot be read is known.
    fn read_all(&self) -> Result<(), StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(VALUES)?;
            for value in table.iter()? {
                value?.1.value();
            }
            Ok(())
        })?;
        self.notes().map(drop)
    }

    fn write<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.with(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(durability)?;
            let outcome = change(&transaction)?;
            transaction.commit()?;
            Ok(outcome)
        })
    }

    /// Does something with the database, which is opened again first if it met an error of the disk.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        if self.failed.load(Ordering::Acquire) {
            self.open_again().map_err(|source| failed(&self.path, source))?;
        }
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let outcome = match database.as_ref() {
            Some(database) => guarded(|| work(database)),
            // It failed again in another thread.
            None => Err(redb::Error::PreviousIo),
        };
        if let Err(redb::Error::Io(_) | redb::Error::PreviousIo) = &outcome {
            self.failed.store(true, Ordering::Release);
        }
        outcome.map_err(|source| failed(&self.path, source))
    }

    fn open_again(&self) -> Result<(), redb::Error> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        // It holds the file's lock.
        *database = None;
        // Never a new one in its place: what was in it would be forgotten.
        *database = Some(guarded(|| Ok(Database::builder().set_check_integrity_on_open(true).open(&self.path)?))?);
        self.failed.store(false, Ordering::Release);
        Ok(())
    }
}

/// By what was opened, and not by a name that may be a link by now.
fn open_database(file: File) -> Result<Database, redb::Error> {
    // Whatever is damaged is to be found now, and not under a certificate that is due.
    guarded(|| {
        Ok(Database::builder().set_check_integrity_on_open(true).create_with_backend(FileBackend::new(file)?)?)
    })
}

impl Store for LocalStore {
    fn read(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(VALUES)?;
            Ok(table.get(key)?.map(|found| {
                let (version, value) = found.value();
                Versioned { version: Version(version), value: Zeroizing::new(value.to_vec()) }
            }))
        })
    }

    fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(VALUES)?;
            let mut keys = Vec::new();
            for found in table.range(prefix..)? {
                let (key, _) = found?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                keys.push(key.value().to_owned());
            }
            Ok(keys)
        })
    }

    fn swap(
        &self,
        key: &str,
        expected: Option<Version>,
        value: &[u8],
        notes: &[Vec<u8>],
    ) -> Result<Version, StoreError> {
        let swapped = self.write(Durability::Immediate, |transaction| {
            let mut values = transaction.open_table(VALUES)?;
            let found = values.get(key)?.map(|found| Version(found.value().0));
            if found != expected {
                return Ok(None);
            }
            let version = next(transaction, LAST_VERSION)?;
            values.insert(key, (version, value))?;
            for note in notes {
                add_note(transaction, note)?;
            }
            Ok(Some(Version(version)))
        })?;
        swapped.ok_or_else(|| StoreError::Conflict { key: key.to_owned() })
    }

    fn note(&self, text: &[u8]) -> Result<(), StoreError> {
        self.write(Durability::Immediate, |transaction| add_note(transaction, text))
    }

    fn notes(&self) -> Result<Vec<Note>, StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(NOTES)?;
            let mut notes = Vec::new();
            for note in table.iter()? {
                let (number, text) = note?;
                notes.push(Note { number: number.value(), text: text.value().to_vec() });
            }
            Ok(notes)
        })
    }

    fn drop_notes(&self, through: u64) -> Result<(), StoreError> {
        // Not synced: a note that comes back after a crash is recognised by its number.
        self.write(Durability::None, |transaction| {
            transaction.open_table(NOTES)?.retain(|number, _| number > through)?;
            Ok(())
        })
    }
}

fn add_note(transaction: &WriteTransaction, text: &[u8]) -> Result<(), redb::Error> {
    let number = next(transaction, LAST_NOTE)?;
    transaction.open_table(NOTES)?.insert(number, text)?;
    Ok(())
}

fn next(transaction: &WriteTransaction, counter: &str) -> Result<u64, redb::Error> {
    let mut meta = transaction.open_table(META)?;
    let number = meta.get(counter)?.map_or(0, |last| last.value()) + 1;
    meta.insert(counter, number)?;
    Ok(number)
}

/// What the database does with a damaged page depends on the page: it says so, or it panics.
fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    // Nothing of `work` is used after a panic: transactions roll back, and what is opened is dropped.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(redb::Error::Corrupted(text.unwrap_or("the database panicked").to_owned()))
    })
}

fn failed(path: &Path, source: redb::Error) -> StoreError {
    StoreError::Failed { path: path.to_owned(), source: Box::new(source) }
}

fn is_corrupt(error: &redb::Error) -> bool {
    match error {
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) | redb::Error::RepairAborted => true,
        redb::Error::Io(error) => matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof),
        // Tables of other types than ours are not ours.
        redb::Error::TableTypeMismatch { .. } | redb::Error::TableIsMultimap(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> LocalStore {
        LocalStore::open(&directory.join("store.redb")).expect("a store").store
    }

    #[test]
    fn a_swap_needs_the_version_that_is_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path());
        let first = store.swap("a", None, b"1", &[]).expect("nothing there");
        assert!(matches!(store.swap("a", None, b"2", &[]), Err(StoreError::Conflict { .. })));
        let second = store.swap("a", Some(first), b"2", &[]).expect("the version that is there");
        assert!(matches!(store.swap("a", Some(first), b"3", &[b"never".to_vec()]), Err(StoreError::Conflict { .. })));
        let found = store.read("a").expect("read").expect("there");
        assert_eq!((found.version, found.value.as_slice()), (second, b"2".as_slice()));
        assert_eq!(store.notes().expect("notes"), []);
    }

    #[test]
    fn of_two_who_read_the_same_version_the_later_writer_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path());
        let version = store.swap("lock", None, b"nobody", &[]).expect("swapped");
        // Each of many believes that it is the one who goes on: exactly one is right, and the others change nothing.
        let won: Vec<usize> = std::thread::scope(|scope| {
            let store = &store;
            let write = |writer: usize| {
                let (value, note) = (writer.to_string(), format!("by {writer}").into_bytes());
                move || store.swap("lock", Some(version), value.as_bytes(), &[note]).is_ok().then_some(writer)
            };
            let all: Vec<_> = (0..8).map(|writer| scope.spawn(write(writer))).collect();
            all.into_iter().filter_map(|writer| writer.join().expect("no panic")).collect()
        });
        let [winner] = won.as_slice() else { panic!("one of them: {won:?}") };
        let found = store.read("lock").expect("read").expect("there");
        assert_eq!(found.value.as_slice(), winner.to_string().as_bytes());
        let notes: Vec<_> = store.notes().expect("notes").into_iter().map(|note| note.text).collect();
        assert_eq!(notes, [format!("by {winner}").into_bytes()], "what the others noted is not there");
    }

    #[test]
    fn keys_are_those_of_a_prefix() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path());
        for key in ["a", "a/1", "a/2", "b/1"] {
            store.swap(key, None, b"1", &[]).expect("swapped");
        }
        assert_eq!(store.keys("a/").expect("read"), ["a/1", "a/2"]);
        assert_eq!(store.keys("c").expect("read"), Vec::<String>::new());
    }

    #[test]
    fn values_and_notes_survive_and_numbers_are_not_used_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path());
        store.swap("a", None, b"1", &[b"one".to_vec(), b"two".to_vec()]).expect("swapped");
        let notes = store.notes().expect("notes");
        assert_eq!(notes.iter().map(|note| note.number).collect::<Vec<_>>(), [1, 2]);
        store.drop_notes(2).expect("dropped");
        drop(store);
        let store = open(directory.path());
        assert!(store.read("a").expect("read").is_some());
        store.note(b"three").expect("noted");
        assert_eq!(store.notes().expect("notes").last().map(|note| note.number), Some(3));
    }

    #[test]
    fn after_an_error_of_the_disk_the_file_is_opened_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store.redb");
        let store = open(directory.path());
        let first = store.swap("a", None, b"1", &[b"one".to_vec()]).expect("swapped");
        let fails = |_: &WriteTransaction| Err::<(), _>(redb::Error::Io(io::ErrorKind::StorageFull.into()));
        store.write(Durability::Immediate, fails).expect_err("full");
        // Nor can it be opened as long as that goes on.
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).expect("moved");
        fs::create_dir(&path).expect("in the way");
        store.read("a").expect_err("not yet");
        fs::remove_dir(&path).expect("removed");
        fs::rename(&aside, &path).expect("moved back");
        assert_eq!(store.read("a").expect("read").map(|found| found.version), Some(first));
        store.swap("a", Some(first), b"2", &[]).expect("as before");
        assert_eq!(store.notes().expect("notes").len(), 1);
    }

    #[test]
    fn an_unreadable_file_is_moved_aside_and_a_newer_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store.redb");
        fs::write(&path, "not a database, but longer than a header would be\n".repeat(200)).expect("written");
        let opened = LocalStore::open(&path).expect("opened anew");
        let aside = opened.moved_aside.expect("moved");
        assert!(fs::read_to_string(aside).expect("kept").starts_with("not a database"));
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        opened
            .store
            .write(Durability::Immediate, |transaction| {
                Ok(transaction.open_table(META)?.insert(FORMAT_KEY, 99).map(|_| ())?)
            })
            .expect("written");
        drop(opened.store);
        assert!(matches!(LocalStore::open(&path), Err(StoreError::Newer { found: 99, .. })));
        assert!(path.exists());
    }

    #[test]
    fn a_file_cut_off_anywhere_is_moved_aside_or_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store.redb");
        let store = LocalStore::open(&path).expect("a store").store;
        store.swap("a", None, &[7; 5000], &[]).expect("swapped");
        drop(store);
        let whole = fs::read(&path).expect("bytes");
        for part in [1, 9, 64, 320, 4096, 9000, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..part]).expect("cut");
            LocalStore::open(&path).unwrap_or_else(|error| panic!("cut to {part}: {error:?}"));
        }
    }

    #[test]
    fn a_file_damaged_on_any_one_page_is_moved_aside_or_read_as_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store.redb");
        let store = LocalStore::open(&path).expect("a store").store;
        let keys: Vec<String> = (0..20).map(|number| format!("certificate/{number}")).collect();
        for key in &keys {
            store.swap(key, None, &[7; 3000], &[b"a note".to_vec()]).expect("swapped");
        }
        drop(store);
        let whole = fs::read(&path).expect("bytes");
        let mut moved = 0;
        for page in (0..whole.len()).step_by(4096) {
            for (name, change) in [("zeroed", [0u8; 64]), ("overwritten", [0xa5; 64])] {
                let mut damaged = whole.clone();
                for (at, byte) in change.iter().enumerate() {
                    damaged[page + at] = *byte;
                }
                fs::write(&path, &damaged).expect("damaged");
                let opened = LocalStore::open(&path).unwrap_or_else(|error| panic!("{name} at {page}: {error:?}"));
                match opened.moved_aside {
                    Some(aside) => {
                        moved += 1;
                        fs::remove_file(aside).expect("it was kept");
                        assert_eq!(opened.store.read(&keys[0]).expect("read"), None, "{name} at {page}");
                    }
                    None => {
                        for key in &keys {
                            let value = opened.store.read(key).expect("read").map(|found| found.value);
                            assert!(value.is_some_and(|value| *value == [7; 3000]), "{name} at {page}: {key}");
                        }
                    }
                }
            }
        }
        assert!(moved > 0, "no page holds anything");
    }
}
