//! A wall clock for agent and Envoy that a story sets, while the story's own goes on as it is.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use super::EnvironmentError;
use super::programs;

/// The clock, as it stands and as programs get it.
#[derive(Clone, Debug)]
pub struct SteppedClock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    library: PathBuf,
    path: PathBuf,
    file: File,
    _directory: TempDir,
}

impl SteppedClock {
    /// One that shows the time.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::ProgramMissing`], [`EnvironmentError::File`].
    pub fn new() -> Result<Self, EnvironmentError> {
        let library = programs::stepped_clock()?;
        let failed = |path: PathBuf| move |source| EnvironmentError::File { doing: "write", path, source };
        let directory = tempfile::tempdir().map_err(failed(std::env::temp_dir()))?;
        let path = directory.path().join("step");
        fs::write(&path, 0_i64.to_ne_bytes()).map_err(failed(path.clone()))?;
        let file = File::options().write(true).open(&path).map_err(failed(path.clone()))?;
        Ok(Self(Arc::new(Shared { library, path, file, _directory: directory })))
    }

    /// Sets it to so many seconds after the time, or before it.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::File`].
    pub fn step(&self, seconds: i64) -> Result<(), EnvironmentError> {
        // In place: programs have mapped these bytes.
        let Self(shared) = self;
        let failed = |source| EnvironmentError::File { doing: "write", path: shared.path.clone(), source };
        shared.file.write_all_at(&seconds.to_ne_bytes(), 0).map_err(failed)
    }

    /// What a program is started with to have it.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        let Self(shared) = self;
        let text = |path: &PathBuf| path.display().to_string();
        vec![("LD_PRELOAD", text(&shared.library)), ("STEPPED_CLOCK", text(&shared.path))]
    }
}
