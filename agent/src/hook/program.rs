//! Where a hook's program is.

use std::env;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Access;

use super::HookError;

/// The program that a path names: itself if it is absolute, and the first of that name on `PATH` if it is a bare name.
///
/// # Errors
///
/// [`HookError::Missing`], [`HookError::NotExecutable`].
pub(crate) fn find(program: &Path) -> Result<PathBuf, HookError> {
    if program.is_absolute() {
        return usable(program).map(|()| program.to_owned());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut error = HookError::Missing { path: program.to_owned() };
    for directory in env::split_paths(&path).filter(|directory| directory.is_absolute()) {
        let candidate = directory.join(program);
        match usable(&candidate) {
            Ok(()) => return Ok(candidate),
            // As a shell does: there may be another one further down.
            Err(found @ HookError::NotExecutable { .. }) => error = found,
            Err(_) => {}
        }
    }
    Err(error)
}

fn usable(path: &Path) -> Result<(), HookError> {
    if !path.is_file() {
        return Err(HookError::Missing { path: path.to_owned() });
    }
    rustix::fs::access(path, Access::EXEC_OK).map_err(|_| HookError::NotExecutable { path: path.to_owned() })
}
