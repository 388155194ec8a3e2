//! Unix sockets: 0600, in a directory that others cannot write to, and gone when the agent is.

use std::fs;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;

use tokio::net::UnixListener;

use crate::state_dir::DirectoryError;
use crate::state_dir::private_directory;

/// The file of a bound socket; dropping it removes the file, if it is still this socket's.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    inode: u64,
}

/// Why a socket cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Binding failed.
    #[error("cannot listen on `{}`", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Its directory cannot be used.
    #[error("the directory of `{}` cannot be used", path.display())]
    Directory {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: DirectoryError,
    },
    /// Somebody answers there.
    #[error("another process listens on `{}`; stop it, or choose another path", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("`{}` is there and is not a socket; move it away, or choose another path", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
    },
}

impl Socket {
    pub(super) fn bind(path: &Path) -> Result<(UnixListener, Self), SocketError> {
        let bind = |source| SocketError::Bind { path: path.to_owned(), source };
        let parent = path.parent().unwrap_or_else(|| Path::new("/"));
        private_directory(parent).map_err(|source| SocketError::Directory { path: path.to_owned(), source })?;
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(bind(error)),
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(SocketError::InTheWay { path: path.to_owned() });
            }
            // Left by one that died: removed only if nobody answers.
            Ok(_) => match UnixStream::connect(path) {
                Ok(_) => return Err(SocketError::InUse { path: path.to_owned() }),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(bind)?
                }
                Err(error) => return Err(bind(error)),
            },
        }
        let listener = UnixListener::bind(path).map_err(bind)?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(bind)?;
        let inode = fs::symlink_metadata(path).map_err(bind)?.ino();
        Ok((listener, Self { path: path.to_owned(), inode }))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
