//! The generation that readers see, compared with what was written: modes, owner, contents, links. What differs is put
//! right, each file and each link by a rename of its own; all of them belong to the one certificate, so that no reader
//! meets a pair that does not match.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::io::Errno;

use super::Contents;
use super::DATA;
use super::GenerationError;
use super::Generations;
use super::access::described;
use super::generation;
use crate::durable;
use crate::leaf;

/// What was found good, as the file system describes it: whatever is done to a file changes the time of its last change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp(Vec<(u64, u32, i64, i64)>);

/// File systems count time in steps: what was changed only just now may be changed again within the same step.
const STEP: i64 = 2;

impl Generations {
    /// Puts right what somebody changed in the generation of `set`, and names it: nothing, as a rule. None if readers
    /// see another generation, which is not touched.
    ///
    /// # Errors
    ///
    /// [`GenerationError`], if something cannot be put right.
    pub fn mend(&self, set: &impl Contents) -> Result<Option<Vec<String>>, GenerationError> {
        self.look_at_place()?;
        let name = generation(set.serial());
        if self.current()?.as_deref() != Some(&name) {
            return Ok(None);
        }
        let mut mended = Vec::new();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inside = rustix::fs::openat(&self.directory, &name, flags, Mode::empty())
            .map_err(|error| self.fail("open", &name, error))?;
        let mut verified = self.verified.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if verified.is_none() || *verified != self.stamp(&inside) {
            *verified = None;
            self.mend_directory(&inside, &name, &mut mended)?;
            for (file, text, mode) in self.contents(set) {
                self.mend_file(&inside, &name, file, &text, mode, &mut mended)?;
            }
            durable::sync(&inside).map_err(|error| self.fail("sync", &name, error))?;
            *verified = self.stamp(&inside);
        }
        drop(verified);
        mended.extend(self.link_names()?.into_iter().map(|link| format!("`{link}` did not lead to `{DATA}`")));
        Ok(Some(mended))
    }

    fn mend_directory(&self, inside: &OwnedFd, name: &str, mended: &mut Vec<String>) -> Result<(), GenerationError> {
        let stat = rustix::fs::fstat(inside).map_err(|error| self.fail("look at", name, error))?;
        if self.access.is_of_directory(&stat) {
            return Ok(());
        }
        self.access.give_directory(inside).map_err(|error| self.fail("set the mode of", name, error))?;
        mended.push(format!("`{name}` had {}", described(&stat)));
        Ok(())
    }

    fn mend_file(
        &self,
        inside: &OwnedFd,
        name: &str,
        file: &str,
        text: &str,
        mode: Mode,
        mended: &mut Vec<String>,
    ) -> Result<(), GenerationError> {
        let shown = format!("{name}/{file}");
        let was = match self.look_at(inside, file, text) {
            Err(error) => return Err(self.fail("look at", &shown, error)),
            Ok(Found::Good(stat)) if self.access.is_of_file(&stat, mode) => return Ok(()),
            Ok(Found::Good(stat)) => described(&stat),
            Ok(Found::Absent) => "gone".to_owned(),
            Ok(Found::Other) => "other contents".to_owned(),
        };
        // Written anew also if only its mode was wrong: whoever could open it then may still have it open.
        let temporary = format!("{file}.new");
        match rustix::fs::unlinkat(inside, &temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(self.fail("remove", &temporary, error)),
        }
        let io = |source| GenerationError::Io { action: "write", path: self.path.join(&shown), source };
        self.write(inside, &temporary, text, mode).map_err(io)?;
        durable::rename(inside, &temporary, file).map_err(|error| self.fail("replace", &shown, error))?;
        mended.push(if was == "gone" { format!("`{file}` was gone") } else { format!("`{file}` had {was}") });
        Ok(())
    }

    fn look_at(&self, inside: &OwnedFd, file: &str, text: &str) -> Result<Found, Errno> {
        // Not blocking: whatever was put there must not hold up the agent.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = match rustix::fs::openat(inside, file, flags, Mode::empty()) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return Ok(Found::Absent),
            // A link, a socket, or a file that was made unreadable: whatever it is, it is not the file.
            Err(Errno::LOOP | Errno::NXIO | Errno::ACCESS) => return Ok(Found::Other),
            Err(error) => return Err(error),
        };
        let stat = rustix::fs::fstat(&opened)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Found::Other);
        }
        let mut found = zeroize::Zeroizing::new(Vec::with_capacity(text.len() + 1));
        let read = File::from(opened).take(text.len() as u64 + 1).read_to_end(&mut found);
        Ok(if read.is_ok() && *found == text.as_bytes() { Found::Good(stat) } else { Found::Other })
    }

    /// None if there is anything that cannot be looked at, or that was changed so lately that the stamp would not show
    /// another change.
    fn stamp(&self, inside: &OwnedFd) -> Option<Stamp> {
        let settled = leaf::now().0.saturating_sub(STEP);
        let of = |stat: Stat| {
            let nanoseconds = i64::try_from(stat.st_ctime_nsec).unwrap_or_default();
            (stat.st_ctime <= settled).then_some((stat.st_ino, stat.st_mode, stat.st_ctime, nanoseconds))
        };
        let mut stamp = vec![of(rustix::fs::fstat(inside).ok()?)?];
        for file in &self.names {
            stamp.push(of(rustix::fs::statat(inside, file, AtFlags::SYMLINK_NOFOLLOW).ok()?)?);
        }
        Some(Stamp(stamp))
    }
}

enum Found {
    Absent,
    Good(Stat),
    Other,
}
