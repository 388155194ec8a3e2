//! Why files are not replaced.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::state_dir::by;

/// Why files could not be replaced. What was current still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerationError {
    /// A file or directory.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another agent writes there.
    #[error("another agent{} writes to `{}`; give this one its own directory", by(*pid, None), path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other agent, if that is known.
        pid: Option<u32>,
    },
    /// Others could plant links or files.
    #[error("`{}` can be written by others (mode {mode:04o}); run `chmod go-w {}`", path.display(), path.display())]
    OpenToOthers {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Readers see another certificate than the one that was put there.
    #[error("the files in `{}` are of another certificate", path.display())]
    NotCurrent {
        /// The directory.
        path: PathBuf,
    },
    /// Something else lies where the directory should.
    #[error("`{}` is a link or no directory, and is not followed; put the directory in its place", path.display())]
    NoDirectory {
        /// The path.
        path: PathBuf,
    },
    /// Files cannot get the owner and group that are declared.
    #[error("files in `{}` cannot be given to user {owner} and group {group} by user {user}; run the agent as root or as that user and in that group, or leave out `owner` and `group`", path.display())]
    NotGiven {
        /// The directory.
        path: PathBuf,
        /// The owner to be.
        owner: u32,
        /// The group to be.
        group: u32,
        /// This process's user.
        user: u32,
        /// The cause.
        source: io::Error,
    },
    /// Another directory lies there than the one that was opened.
    #[error("`{}` was replaced by another directory", path.display())]
    Replaced {
        /// The directory.
        path: PathBuf,
    },
    /// Somebody else's directory.
    #[error("`{}` belongs to user {owner}, and this is user {user}; run `chown` on it, or choose another", path.display())]
    OtherOwner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// This process's user.
        user: u32,
    },
    /// A name that readers open is taken by something that this agent did not put there.
    #[error("`{}` is in the way and is not a link of this agent; move it away", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
    },
}

impl GenerationError {
    /// Whether the disk or the machine cannot do it now, and nobody declared anything that cannot be.
    pub fn may_pass(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        let passing = [Errno::DQUOT, Errno::IO, Errno::MFILE, Errno::NFILE, Errno::NOSPC, Errno::ROFS];
        Errno::from_io_error(source).is_some_and(|error| passing.contains(&error))
    }
}
