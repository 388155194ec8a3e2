//! The calls on which it hangs whether what was written outlives a power cut. They go through here so that a test sees their order,
//! which nothing else shows as long as the power stays on.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Result;
use rustix::io::retry_on_intr;

/// Has a file's contents, or a directory's names, written to the disk.
pub(crate) fn sync(file: impl AsFd) -> Result<()> {
    #[cfg(test)]
    recorded::sync(&file);
    // A network file system may be interrupted.
    retry_on_intr(|| rustix::fs::fsync(&file))
}

/// Gives a file another name, in place of whatever had it.
pub(crate) fn rename(directory: impl AsFd, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    #[cfg(test)]
    recorded::rename(&directory, from, to);
    rustix::fs::renameat(&directory, from, &directory, to)
}

#[cfg(test)]
pub(crate) mod recorded {
    use std::cell::RefCell;
    use std::os::fd::AsFd;
    use std::os::fd::AsRawFd as _;
    use std::path::Path;
    use std::path::PathBuf;

    /// What was done by this thread.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Call {
        /// With so many bytes in it.
        Sync(PathBuf, u64),
        Rename(PathBuf, PathBuf),
    }

    thread_local! {
        static CALLS: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn sync(file: &impl AsFd) {
        let length = rustix::fs::fstat(file).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or_default());
        push(Call::Sync(path(file), length));
    }

    pub(super) fn rename(directory: &impl AsFd, from: &Path, to: &Path) {
        let directory = path(directory);
        push(Call::Rename(canonical(&directory.join(from)), canonical(&directory.join(to))));
    }

    /// What this thread did since it was last asked.
    pub(crate) fn take() -> Vec<Call> {
        CALLS.take()
    }

    /// Whether this thread renamed a file into its place of which all was synced before, and then the directory.
    pub(crate) fn assert_in_order(file: &Path) {
        let (calls, file) = (take(), canonical(file));
        let renamed = calls.iter().position(|call| matches!(call, Call::Rename(_, to) if *to == file));
        let renamed = renamed.unwrap_or_else(|| panic!("`{}` came by no rename: {calls:#?}", file.display()));
        let (before, after) = calls.split_at(renamed);
        let Call::Rename(temporary, _) = &calls[renamed] else { unreachable!("found as one") };
        let length = std::fs::metadata(&file).expect("it is there").len();
        assert!(before.contains(&Call::Sync(temporary.clone(), length)), "not synced before: {calls:#?}");
        assert!(is_synced(after, file.parent().expect("a directory")), "its name is not synced after: {calls:#?}");
    }

    /// Whether a directory was.
    pub(crate) fn is_synced(calls: &[Call], directory: &Path) -> bool {
        calls.iter().any(|call| matches!(call, Call::Sync(path, _) if path == directory))
    }

    fn push(call: Call) {
        CALLS.with_borrow_mut(|calls| calls.push(call));
    }

    /// As the system itself names it, but for a link that it may be.
    fn canonical(file: &Path) -> PathBuf {
        let directory = file.parent().and_then(|directory| directory.canonicalize().ok()).unwrap_or_default();
        directory.join(file.file_name().unwrap_or_default())
    }

    /// Empty for the one where a process is.
    fn path(file: &impl AsFd) -> PathBuf {
        std::fs::read_link(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())).unwrap_or_default()
    }
}
