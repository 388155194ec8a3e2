//! The state directory: private to the agent's user, and used by one agent at a time.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::Unit;
use rustix::fs::CWD;
use rustix::fs::FlockOperation;
use rustix::fs::OFlags;
use rustix::fs::flock;
use rustix::io::Errno;

use crate::durable;
use crate::keys;

/// The directory, held. Dropping it lets the next agent in.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Another agent holds it.
    #[error("another agent{} uses the state directory `{}`; stop it, or give this one its own `state_dir`", by(*pid, since.as_deref()), path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other agent, if that is known.
        pid: Option<u32>,
        /// Since when it runs, if it said so.
        since: Option<String>,
    },
    /// Others could change what is in it.
    #[error("`{}` can be written by others (mode {mode:04o}); run `chmod go-w {}`", path.display(), path.display())]
    OpenToOthers {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Somebody else's.
    #[error("`{}` belongs to user {owner}, and this is user {user}; run the agent as its owner, or choose another directory", path.display())]
    OtherOwner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// This process's user.
        user: u32,
    },
    /// It cannot be made or opened.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl StateDir {
    /// Makes the directory if it is not there (0700), and takes its lock.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`].
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        private_directory(path)?;
        // A state directory that others can read would show the CA's key: narrowed rather than refused.
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(|source| DirectoryError::Io {
            action: "set the mode of",
            path: path.to_owned(),
            source,
        })?;
        let name = path.join("lock");
        let failed = |source| DirectoryError::Io { action: "lock", path: name.clone(), source };
        let mut lock =
            open_own(&name, OpenOptions::new().read(true).write(true).create(true).truncate(false)).map_err(failed)?;
        if !try_lock(&lock).map_err(failed)? {
            // Whatever is in it is for people: the lock is the kernel's, and ends with the process that has it.
            let mut said = Vec::new();
            let _ = lock.read_to_end(&mut said);
            let said = String::from_utf8_lossy(&said);
            let mut lines = said.lines();
            let pid = lines.next().and_then(|line| line.trim().parse().ok()).or_else(|| holder(&lock));
            let since = lines.next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty());
            return Err(DirectoryError::Locked { path: path.to_owned(), pid, since });
        }
        let now = Timestamp::now().round(Unit::Second).unwrap_or_default();
        let said = lock.set_len(0).and_then(|()| writeln!(lock, "{}\n{now}", std::process::id()));
        said.map_err(failed)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.path.join("store.redb")
    }

    /// What operators revoked, once more.
    pub fn revocations(&self) -> PathBuf {
        self.path.join("revocations.jsonl")
    }

    /// The audit log.
    pub fn audit(&self) -> PathBuf {
        audit_file(&self.path)
    }

    /// The CA's directory, made if it is not there.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`].
    pub fn ca(&self) -> Result<PathBuf, DirectoryError> {
        let path = ca_directory(&self.path);
        private_directory(&path)?;
        Ok(path)
    }
}

/// Takes a lock that ends with the file. False if somebody else has it; whatever else goes wrong is an error.
///
/// # Errors
///
/// The file system's, such as one that has no locks.
pub(crate) fn try_lock(file: impl AsFd) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The process that has the lock of a file, as far as the kernel tells us.
pub(crate) fn holder(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // As in `1: FLOCK  ADVISORY  WRITE 4242 fe:00:1337 0 EOF`; one that waits has an arrow.
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, place, ..] = words.as_slice() else { return None };
        place.rsplit(':').next().filter(|found| *found == inode).and_then(|_| pid.parse().ok())
    })
}

/// Who and since when, for an error.
pub(crate) fn by(pid: Option<u32>, since: Option<&str>) -> String {
    match (pid, since) {
        (Some(pid), Some(since)) => format!(" (process {pid}, since {since})"),
        (Some(pid), None) => format!(" (process {pid})"),
        (None, _) => String::new(),
    }
}

/// Opens a file of the state, or makes it (0600) if the options say so. A link is not followed: the file that it leads to is not
/// the agent's.
///
/// # Errors
///
/// The file system's.
pub(crate) fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    const NOFOLLOW: i32 = OFlags::NOFOLLOW.bits().cast_signed();

    options.mode(0o600).custom_flags(NOFOLLOW).open(path).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => io::Error::other("it is a link, which is not followed; put a file in its place"),
        _ => error,
    })
}

/// Writes a file beside its place, renames it there and syncs the directory. The file is whole or as it was.
///
/// # Errors
///
/// The file system's.
pub(crate) fn place(file: &Path, write: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let temporary = directory.join(format!(".{}.new", name.display()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    write(&temporary)?;
    durable::rename(CWD, &temporary, file)?;
    keys::sync_directory(directory)
}

/// The audit log of a state directory.
pub fn audit_file(state_dir: &Path) -> PathBuf {
    state_dir.join("audit.jsonl")
}

/// The CA's directory of a state directory.
pub fn ca_directory(state_dir: &Path) -> PathBuf {
    state_dir.join("ca")
}

/// Makes a directory (0700, with its parents) or looks whether the one that is there is ours alone.
///
/// # Errors
///
/// [`DirectoryError`].
pub fn private_directory(path: &Path) -> Result<(), DirectoryError> {
    let failed = |action, source| DirectoryError::Io { action, path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| failed("make", source))?;
    let metadata = fs::metadata(path).map_err(|source| failed("look at", source))?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(DirectoryError::OtherOwner { path: path.to_owned(), owner: metadata.uid(), user });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(DirectoryError::OpenToOthers { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::recorded;

    #[test]
    fn a_second_agent_is_told_who_the_first_is() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("a/b");
        let first = StateDir::open(&path).expect("free");
        let error = StateDir::open(&path).expect_err("taken");
        assert!(error.to_string().contains(&format!("(process {}, since 20", std::process::id())), "{error}");
        // What is in the file is nobody's lock: whoever finds it torn asks the kernel.
        fs::write(path.join("lock"), "\0\0\0\0").expect("torn");
        let error = StateDir::open(&path).expect_err("taken");
        assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");
        drop(first);
        fs::write(path.join("lock"), "\0\0\0\0").expect("torn");
        StateDir::open(&path).expect("free again");
    }

    #[test]
    fn only_a_lock_that_is_taken_is_another_agent() {
        let parent = tempfile::tempdir().expect("a directory");
        let open = || File::create(parent.path().join("lock")).expect("a file");
        let first = open();
        assert!(try_lock(&first).expect("free"));
        assert!(!try_lock(open()).expect("taken"));
        // A descriptor that cannot be locked stands for a file system that has no locks.
        let path = rustix::fs::open(parent.path(), OFlags::PATH, rustix::fs::Mode::empty()).expect("there");
        assert!(try_lock(path).is_err(), "not taken by anybody, and not locked either");
    }

    #[test]
    fn a_file_is_on_the_disk_before_its_name_leads_to_it() {
        let parent = tempfile::tempdir().expect("a directory");
        let file = parent.path().join("root.key");
        for text in ["first", "second and longer"] {
            recorded::take();
            place(&file, |path| keys::write_new(path, text.as_bytes(), 0o600)).expect("placed");
            recorded::assert_in_order(&file);
            assert_eq!(fs::read_to_string(&file).expect("there"), text);
        }
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("open");
        fs::create_dir(&path).expect("made");
        fs::set_permissions(&path, Permissions::from_mode(0o770)).expect("mode");
        let error = StateDir::open(&path).expect_err("refused");
        assert!(error.to_string().contains("chmod go-w"), "{error}");
    }
}
