//! Whether a file system has room for what is about to be written. Asked before a certificate is issued: half a
//! generation helps nobody, and a certificate that cannot be stored was issued in vain.

use std::io;
use std::path::Path;
use std::path::PathBuf;

/// The store grows in steps; a generation is far smaller.
const LEAST_BYTES: u64 = 4 * 1024 * 1024;
/// A generation with its directory and links, and as many again.
const LEAST_FILES: u64 = 32;

/// What is left for this user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub bytes: u64,
    /// Files, where the file system counts them.
    pub files: Option<u64>,
}

/// How the room at a path is found out; [`at`], but in tests.
pub type Look = fn(&Path) -> io::Result<Room>;

/// Nothing is issued for want of room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no room at `{}`: {} KiB{} are left, and {} KiB and {LEAST_FILES} files are needed; nothing is issued until there is",
    path.display(), room.bytes / 1024, files(*room), LEAST_BYTES / 1024
)]
pub struct NoRoom {
    /// Where.
    pub path: PathBuf,
    /// What is left.
    pub room: Room,
}

/// The room at a path.
///
/// # Errors
///
/// The file system's.
pub fn at(path: &Path) -> io::Result<Room> {
    let stat = rustix::fs::statvfs(path)?;
    // Some file systems make inodes as they need them, and say 0 of 0.
    let files = (stat.f_files > 0).then_some(stat.f_favail);
    Ok(Room { bytes: stat.f_bavail.saturating_mul(stat.f_frsize), files })
}

/// Looks whether there is enough room at all of these paths.
///
/// # Errors
///
/// [`NoRoom`], for the first without.
pub fn check<'a>(look: Look, paths: impl IntoIterator<Item = &'a Path>) -> Result<(), NoRoom> {
    for path in paths {
        // Where nothing can be said the writing itself will tell.
        let Ok(room) = look(path) else { continue };
        if room.bytes < LEAST_BYTES || room.files.is_some_and(|files| files < LEAST_FILES) {
            return Err(NoRoom { path: path.to_owned(), room });
        }
    }
    Ok(())
}

fn files(room: Room) -> String {
    room.files.map(|files| format!(" and {files} files")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_files_are_both_needed() {
        let none: Look = |_| Ok(Room { bytes: 1024, files: None });
        let full: Look = |_| Ok(Room { bytes: u64::MAX, files: Some(3) });
        let unknown: Look = |_| Err(io::Error::other("no"));
        assert_eq!(check(|_| Ok(Room { bytes: LEAST_BYTES, files: Some(LEAST_FILES) }), [Path::new("/a")]), Ok(()));
        assert_eq!(check(unknown, [Path::new("/a")]), Ok(()));
        let error = check(none, [Path::new("/a")]).expect_err("no bytes").to_string();
        assert!(error.contains("`/a`: 1 KiB are left"), "{error}");
        let error = check(full, [Path::new("/a")]).expect_err("no files").to_string();
        assert!(error.contains("and 3 files are left"), "{error}");
    }

    #[test]
    fn the_room_of_a_real_directory_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(at(directory.path()).expect("read").bytes > 0);
        at(&directory.path().join("missing")).expect_err("not there");
    }
}
