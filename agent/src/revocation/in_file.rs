//! One list in a file: looked at again and again, and taken when it is a newer good one.

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::List;
use super::ListError;
use super::keeper::Keeper;
use super::list;
use crate::errors::chain;
use crate::policy_file::stamp;

/// How often a file is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// A list that is followed.
pub(super) struct InFile {
    keeper: Keeper,
    file: PathBuf,
    /// Of what was last read.
    read: Option<Stamp>,
}

type Stamp = Option<(u64, u64, i64, i64)>;

/// Why a file gives no list.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("cannot read `{file}`")]
    Read { file: String, source: io::Error },
    #[error("`{file}` is refused")]
    Refused { file: String, source: ListError },
}

impl FileError {
    fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "unreadable",
            Self::Refused { source, .. } => source.code(),
        }
    }
}

impl InFile {
    /// Takes what the file has.
    pub(super) fn open(keeper: Keeper, file: PathBuf) -> Self {
        let mut followed = Self { keeper, file, read: None };
        followed.look();
        followed
    }

    /// Follows the file until the end.
    pub(super) async fn run(mut self, end: CancellationToken) {
        let mut seen = self.read;
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = Some(stamp(&self.file));
            // Read when it has stopped to change: it may be in the middle of being written.
            let settled = seen == now;
            seen = now;
            if settled && self.read != now {
                let looked = tokio::task::spawn_blocking(move || {
                    self.look();
                    self
                });
                self = looked.await.expect("reading a list does not panic");
            }
        }
    }

    /// Takes what the file has, or says why not.
    pub(super) fn look(&mut self) {
        self.read = Some(stamp(&self.file));
        match self.read_file() {
            Ok((bytes, list)) => self.keeper.take(&bytes, list),
            Err(error) => {
                let text = chain(&error);
                if matches!(&error, FileError::Refused { source: ListError::Future(_), .. }) {
                    // Good as soon as the clock is: looked at again though the file does not change.
                    self.read = None;
                    if self.keeper.last_error() == Some(text.as_str()) {
                        return;
                    }
                }
                self.keeper.refuse(text, error.code());
            }
        }
    }

    fn read_file(&self) -> Result<(Vec<u8>, List), FileError> {
        let file = || self.file.display().to_string();
        let mut bytes = Vec::new();
        File::open(&self.file)
            .and_then(|file| file.take(list::MAX_LENGTH + 1).read_to_end(&mut bytes))
            .map_err(|source| FileError::Read { file: file(), source })?;
        let list = self.keeper.reader()(&bytes).map_err(|source| FileError::Refused { file: file(), source })?;
        Ok((bytes, list))
    }
}
