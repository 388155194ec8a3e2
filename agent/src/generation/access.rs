//! Who may read a generation: owner, group and mode of its files and of its directory.

use std::os::fd::AsFd;

use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Stat;
use rustix::fs::Uid;
use rustix::io::Errno;

/// What is declared, or follows from the directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    /// Of the files. Directories are this agent's own, so that nobody else changes what is in them.
    pub(super) owner: Uid,
    pub(super) group: Gid,
    /// Of files with the key.
    pub(super) key: Mode,
}

impl Access {
    /// Mode of files without the key.
    pub(super) fn public(self) -> Mode {
        self.key | Mode::RGRP | Mode::ROTH
    }

    /// Who may read the key may enter the directory. An owner who is not this agent enters as one of the others; the files
    /// keep those out.
    pub(super) fn directory(self) -> Mode {
        let group = Mode::RGRP | Mode::XGRP;
        if self.owner != rustix::process::geteuid() {
            Mode::RWXU | group | Mode::ROTH | Mode::XOTH
        } else if self.key.contains(Mode::RGRP) {
            Mode::RWXU | group
        } else {
            Mode::RWXU
        }
    }

    /// Gives a file its owner and then its mode, so that nobody is let in by the mode who is kept out by the owner.
    pub(super) fn give(self, file: impl AsFd, mode: Mode) -> Result<(), Errno> {
        rustix::fs::fchown(&file, Some(self.owner), Some(self.group))?;
        rustix::fs::fchmod(file, mode)
    }

    /// The same for a directory.
    pub(super) fn give_directory(self, directory: impl AsFd) -> Result<(), Errno> {
        rustix::fs::fchown(&directory, None, Some(self.group))?;
        rustix::fs::fchmod(directory, self.directory())
    }

    pub(super) fn is_of_file(self, stat: &Stat, mode: Mode) -> bool {
        stat.st_uid == self.owner.as_raw() && self.is_of(stat, mode)
    }

    pub(super) fn is_of_directory(self, stat: &Stat) -> bool {
        self.is_of(stat, self.directory())
    }

    fn is_of(self, stat: &Stat, mode: Mode) -> bool {
        stat.st_mode & 0o7777 == mode.as_raw_mode() && stat.st_gid == self.group.as_raw()
    }
}

/// For people.
pub(super) fn described(stat: &Stat) -> String {
    format!("mode {:04o}, user {} and group {}", stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
}
