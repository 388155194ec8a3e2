//! The directory itself: whether it is still the one that was opened, is nobody else's, and can be written to. Asked before
//! a certificate is issued, since one that cannot be put in its place was issued in vain.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::io::Errno;

use super::GenerationError;
use super::Generations;
use super::TEMPORARY;

/// Bytes that are written to see whether they can be: more than a generation has.
const PROBE: usize = 64 * 1024;

/// Opens a directory and looks whether it is this user's alone.
pub(super) fn open(path: &Path) -> Result<(OwnedFd, Stat), GenerationError> {
    let fail = |action, source: Errno| GenerationError::Io { action, path: path.to_owned(), source: source.into() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        Errno::LOOP | Errno::NOTDIR => GenerationError::NoDirectory { path: path.to_owned() },
        error => fail("open", error),
    })?;
    let stat = rustix::fs::fstat(&directory).map_err(|error| fail("look at", error))?;
    let user = rustix::process::geteuid().as_raw();
    if stat.st_uid != user {
        return Err(GenerationError::OtherOwner { path: path.to_owned(), owner: stat.st_uid, user });
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(GenerationError::OpenToOthers { path: path.to_owned(), mode: stat.st_mode & 0o7777 });
    }
    Ok((directory, stat))
}

impl Generations {
    /// Looks whether readers still find this directory at its path, and nobody else can change it.
    ///
    /// # Errors
    ///
    /// [`GenerationError::Replaced`], if another is there: open that. Otherwise what is wrong with what is there.
    pub fn look_at_place(&self) -> Result<(), GenerationError> {
        let (_, found) = open(&self.path)?;
        let held = rustix::fs::fstat(&self.directory).map_err(|error| self.fail("look at", ".", error))?;
        if (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino) {
            Ok(())
        } else {
            Err(GenerationError::Replaced { path: self.path.clone() })
        }
    }

    /// Looks whether a generation could be written now: writes a file as large as one, gives it to its owner, and
    /// removes it.
    ///
    /// # Errors
    ///
    /// [`GenerationError`].
    pub fn preflight(&self) -> Result<(), GenerationError> {
        self.look_at_place()?;
        let name = format!("{TEMPORARY}probe");
        match rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(self.fail("remove", &name, error)),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| self.fail("write", &name, error))?;
        let outcome = self.probe(File::from(file));
        rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty())
            .map_err(|error| self.fail("remove", &name, error))?;
        outcome
    }

    fn probe(&self, mut file: File) -> Result<(), GenerationError> {
        self.access.give(&file, self.access.key).map_err(|source| GenerationError::NotGiven {
            path: self.path.clone(),
            owner: self.access.owner.as_raw(),
            group: self.access.group.as_raw(),
            user: rustix::process::geteuid().as_raw(),
            source: source.into(),
        })?;
        // Blocks are found for it at the latest when it is synced.
        let written = file.write_all(&vec![0; PROBE]).and_then(|()| file.sync_all());
        written.map_err(|source| GenerationError::Io {
            action: "write a test file to",
            path: self.path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests;
