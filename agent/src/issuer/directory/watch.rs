//! Watching: told by the system where it can, and looked at now and then all the same. A watch that cannot be had makes
//! everything a little later and nothing else.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher as _;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::Settings;
use super::pair;
use super::pair::Pair;
use crate::leaf::Leaf;
use crate::policy_file::stamp;

/// Looked at this often even if nothing is reported: watches get lost, and some file systems have none.
const RESCAN: Duration = Duration::from_secs(2);
/// What is no pair may be one that is still being written: it is told if it stays so for this long.
const SETTLE: Duration = Duration::from_secs(1);

/// What was seen last.
type Seen = Option<Result<Leaf, String>>;
/// What changes when something is put there.
type Stamps = Vec<Option<(u64, u64, i64, i64)>>;

/// Somebody who looks until this is dropped.
pub(super) struct Watch {
    seen: watch::Receiver<Seen>,
    task: AbortHandle,
}

impl Watch {
    pub(super) fn start(settings: Settings) -> Self {
        let (tell, seen) = watch::channel(None);
        let task = tokio::spawn(follow(settings, tell)).abort_handle();
        Self { seen, task }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(settings: Settings, tell: watch::Sender<Seen>) {
    let changed = Arc::new(Notify::new());
    let mut armed = None;
    let mut stamps = None;
    loop {
        let now = blocking(&settings, |settings| (places(&settings.path), stamps_of(settings))).await;
        if armed.as_ref().map(|(places, _)| places) != Some(&now.0) {
            // Another directory has the name by now: the old watch says nothing of it.
            armed = Some((now.0.clone(), watcher(&now.0, &changed)));
        }
        if stamps.as_ref() != Some(&now.1) {
            stamps = Some(now.1);
            look(&settings, &tell).await;
        }
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(RESCAN) => {}
        }
    }
}

/// Reads the pair. One that is torn gets a moment to become whole.
async fn look(settings: &Settings, tell: &watch::Sender<Seen>) {
    let mut read = blocking(settings, Pair::read).await;
    if read.is_err() {
        tokio::time::sleep(SETTLE).await;
        read = blocking(settings, Pair::read).await;
    }
    let seen = read.map(|pair| pair.leaf).map_err(|error| crate::errors::chain(&error));
    tell.send_if_modified(|before| {
        let is_new = before.as_ref() != Some(&seen);
        *before = Some(seen);
        is_new
    });
}

/// The directory, where it leads to, and what they are in, each as it is now.
fn places(path: &Path) -> Vec<(PathBuf, Option<u64>)> {
    let canonical = fs::canonicalize(path).ok();
    let all = [Some(path.to_owned()), path.parent().map(Path::to_owned), canonical];
    let mut places: Vec<_> = all.into_iter().flatten().map(|place| (inode(&place), place)).collect();
    places.dedup();
    places.into_iter().map(|(inode, place)| (place, inode)).collect()
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

fn stamps_of(settings: &Settings) -> Stamps {
    let files = pair::files(settings).into_iter().flatten();
    files.map(|file| stamp(&file)).chain([inode(&settings.path).map(|inode| (inode, 0, 0, 0))]).collect()
}

fn watcher(places: &[(PathBuf, Option<u64>)], changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let changed = Arc::clone(changed);
    let handler = move |event: notify::Result<notify::Event>| {
        // Our own reading is no news.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            changed.notify_one();
        }
    };
    let watched = notify::recommended_watcher(handler).and_then(|mut watcher| {
        for (place, _) in places.iter().filter(|(_, inode)| inode.is_some()) {
            watcher.watch(place, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    });
    let directory = places.first().map(|(place, _)| place.display().to_string()).unwrap_or_default();
    watched
        .inspect_err(|error| tracing::warn!(directory, %error, "not watched; a new pair is seen a little later"))
        .ok()
}

/// Looks elsewhere: the directory may be on a disk that hangs.
async fn blocking<T: Send + 'static>(settings: &Settings, look: impl FnOnce(&Settings) -> T + Send + 'static) -> T {
    let settings = settings.clone();
    tokio::task::spawn_blocking(move || look(&settings)).await.expect("looking at a directory does not panic")
}
