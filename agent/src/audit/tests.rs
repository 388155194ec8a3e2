use std::path::Path;
use std::path::PathBuf;

use super::*;
use crate::store::LocalStore;

struct Written {
    directory: tempfile::TempDir,
    store: LocalStore,
}

impl Written {
    /// A log of this many events.
    fn new(events: usize) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = LocalStore::open(&directory.path().join("store.redb")).expect("a store").store;
        let written = Self { directory, store };
        let mut log = written.open();
        for at in 0..events {
            written.store.note(&Event::new(Kind::Served, &format!("certificate-{at}")).note()).expect("noted");
            log.flush(&written.store).expect("flushed");
        }
        written
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("audit.jsonl")
    }

    fn open(&self) -> Log {
        Log::open(&self.path()).expect("a log")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).expect("a log")
    }

    /// What `verify` says after the text was changed.
    fn after(&self, change: impl FnOnce(&mut Vec<String>)) -> Result<Verified, VerifyError> {
        let mut lines: Vec<String> = self.text().lines().map(str::to_owned).collect();
        change(&mut lines);
        fs::write(self.path(), lines.join("\n") + "\n").expect("written");
        verify(&self.path())
    }
}

#[test]
fn an_untouched_log_is_whole() {
    assert_eq!(verify(&Written::new(5).path()).expect("whole"), Verified { lines: 5, with_head: true });
    assert_eq!(verify(&Written::new(0).path()).expect("whole").lines, 0);
}

#[test]
fn changes_are_found_and_the_line_is_named() {
    let error = Written::new(5).after(|lines| lines[2] = lines[2].replace("certificate-2", "certificate-9"));
    assert!(matches!(error, Err(VerifyError::Changed { line: 3 })), "{error:?}");
    let error = Written::new(5).after(|lines| lines[4] = lines[4].replace("certificate-4", "certificate-9"));
    assert!(matches!(error, Err(VerifyError::HeadDiffers { line: 5 })), "the last line: {error:?}");
    let error = Written::new(5).after(|lines| drop(lines.remove(2)));
    assert!(matches!(error, Err(VerifyError::Order { line: 3, found: 4 })), "{error:?}");
    let error = Written::new(5).after(|lines| lines.swap(1, 2));
    assert!(matches!(error, Err(VerifyError::Order { line: 2, found: 3 })), "{error:?}");
    let error = Written::new(5).after(|lines| lines.truncate(3));
    assert!(matches!(error, Err(VerifyError::Truncated { line: 3, expected: 5 })), "{error:?}");
    let error = Written::new(5).after(|lines| lines[1] = "{}".to_owned());
    assert!(matches!(error, Err(VerifyError::Unreadable { line: 2 })), "{error:?}");
    let error = Written::new(5).after(|lines| lines.insert(1, String::new()));
    assert!(matches!(error, Err(VerifyError::Unreadable { line: 2 })), "{error:?}");
}

#[test]
fn a_line_torn_by_a_crash_is_closed_and_told_of() {
    for torn in [1, 20, 200] {
        let written = Written::new(3);
        let whole = written.text();
        let start = whole.trim_end().rfind('\n').expect("three lines") + 1;
        let torn = start + torn.min(whole.len() - start - 2);
        fs::write(written.path(), &whole[..torn]).expect("torn");
        // As the crash left it, before the agent is back: only the head knows that the line was longer.
        fs::remove_file(head_path(&written.path())).expect("removed");
        assert!(verify(&written.path()).is_ok());
        written.store.note(&Event::new(Kind::Served, "later").note()).expect("noted");
        written.open().flush(&written.store).expect("flushed");
        let verified = verify(&written.path()).expect("closed");
        assert_eq!(verified.lines, 5, "two, the torn one, its end, and one more");
        assert!(written.text().contains("log_closed"));
    }
}

#[test]
fn an_event_is_neither_lost_nor_repeated() {
    let written = Written::new(2);
    let note = |name: &str| written.store.note(&Event::new(Kind::Served, name).note()).expect("noted");
    note("third");
    // Carried, and then a crash before it was dropped: the copy in the store comes again.
    let mut log = written.open();
    let notes = written.store.notes().expect("notes");
    log.append(Some(notes[0].number), serde_json::from_slice(&notes[0].text).expect("an event")).expect("appended");
    drop(log);
    note("fourth");
    written.open().flush(&written.store).expect("flushed");
    let text = written.text();
    assert_eq!((text.matches("third").count(), text.matches("fourth").count()), (1, 1), "{text}");
    assert_eq!(verify(&written.path()).expect("whole").lines, 4);
    assert_eq!(written.store.notes().expect("notes"), []);
}

#[test]
fn a_log_that_cannot_be_written_keeps_its_events_in_the_store() {
    let written = Written::new(1);
    let mut log = written.open();
    written.store.note(&Event::new(Kind::Served, "late").note()).expect("noted");
    log.file = File::open(written.path()).expect("only for reading");
    log.flush(&written.store).expect_err("read-only");
    assert_eq!(written.store.notes().expect("notes").len(), 1);
    written.open().flush(&written.store).expect("flushed");
    assert!(written.text().contains("late"));
    assert!(verify(Path::new(&written.path())).is_ok());
}

#[test]
fn a_link_is_not_followed() {
    let written = Written::new(1);
    let victim = written.directory.path().join("victim");
    fs::write(&victim, "precious").expect("written");
    // Where the head is written before it is renamed.
    std::os::unix::fs::symlink(&victim, written.path().with_extension("head.new")).expect("a link");
    written.store.note(&Event::new(Kind::Served, "late").note()).expect("noted");
    written.open().flush(&written.store).expect("flushed");
    assert_eq!(verify(&written.path()).expect("whole"), Verified { lines: 2, with_head: true });
    fs::rename(written.path(), written.directory.path().join("aside")).expect("moved");
    std::os::unix::fs::symlink(&victim, written.path()).expect("a link");
    Log::open(&written.path()).expect_err("a link");
    assert_eq!(fs::read_to_string(&victim).expect("kept"), "precious");
}
