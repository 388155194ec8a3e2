//! The pages of the book once more, a line each, in a file beside the store.
//!
//! The store is what counts. This is what is left of an operator's word when the store cannot be read and a new one takes its
//! place.

use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::keys;
use crate::state_dir;

/// The file.
#[derive(Debug)]
pub(super) struct Copy {
    path: PathBuf,
}

impl Copy {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its pages, as far as they are whole: the last line of a crash may not be.
    pub(super) fn read(&self) -> io::Result<Vec<Vec<u8>>> {
        let text = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let whole = text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
        Ok(whole.map(<[u8]>::to_vec).collect())
    }

    /// Adds a page. When it returns, the page survives a power cut.
    pub(super) fn append(&self, page: &[u8]) -> io::Result<()> {
        let mut file = state_dir::open_own(&self.path, OpenOptions::new().append(true).create(true))?;
        file.write_all(&[page, b"\n"].concat())?;
        file.sync_data()
    }

    /// Writes it anew, as a whole.
    pub(super) fn replace(&self, pages: &[Vec<u8>]) -> io::Result<()> {
        let text: Vec<u8> = pages.iter().flat_map(|page| [page.as_slice(), b"\n"]).flatten().copied().collect();
        state_dir::place(&self.path, |path| keys::write_new(path, &text, 0o600))
    }

    /// Moves it out of the way, and says where to.
    pub(super) fn move_aside(&self) -> io::Result<PathBuf> {
        let aside = self.path.with_extension(format!("jsonl.other-{}", Timestamp::now().as_millisecond()));
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }
}
