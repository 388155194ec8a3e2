//! `portcullis init`.

use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use super::Global;
use super::Outcome;
use super::print;

const CONFIG: &str = include_str!("init/portcullis.yaml");
const POLICY: &str = include_str!("init/policy.yaml");

/// Write a commented `portcullis.yaml` and `policy.yaml` to begin with. Nothing is overwritten.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Directory to write to.
    #[arg(default_value = ".")]
    directory: PathBuf,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("`{}` is there already; remove it, or choose another directory", .0.display())]
    Exists(PathBuf),
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl Args {
    pub(super) fn run(self, _: &Global) -> Outcome {
        fs::create_dir_all(&self.directory)
            .map_err(|source| InitError::Write { path: self.directory.clone(), source })?;
        let files = [("portcullis.yaml", CONFIG), ("policy.yaml", POLICY)];
        for (name, _) in files {
            let path = self.directory.join(name);
            if path.exists() {
                return Err(InitError::Exists(path).into());
            }
        }
        for (name, text) in files {
            let path = self.directory.join(name);
            write_new(&path, text)?;
            print(&format!("{}\n", path.display()))?;
        }
        writeln!(
            io::stderr(),
            "next: look through both files, then `portcullis run`; the CA is made at the first start, and \
             `portcullis ca show` prints its root"
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

fn write_new(path: &Path, text: &str) -> Result<(), InitError> {
    let write = || OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes());
    write().map_err(|source| InitError::Write { path: path.to_owned(), source })
}
