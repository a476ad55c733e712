//! A source that reads a folder of manifests: YAML or JSON files with one or more documents, `List` dumps included.
//!
//! A scan of the folder reads the files whose stamp changed and sends the objects whose content changed. A scan happens
//! when the operating system reports a change, after a short debounce, and at least every [`Snapshot::TICK`]: network
//! file systems report no changes, and neither does a folder that was replaced by another.

pub(crate) mod folder;
mod folder_watcher;
mod index;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use gatehouse_apiservice::client::explain;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{folder_watcher::FolderWatcher, index::Index};
use super::{Event, Liveness, Sink, Source};
use crate::{Seconds, Str};

/// A folder of manifests, watched for changes.
///
/// It reads `*.yaml`, `*.yml` and `*.json` at any depth, follows symbolic links, and skips hidden files and folders.
/// Documents that are not Kubernetes objects, or of a kind that is not observed, are ignored.
#[derive(Debug)]
pub struct Snapshot {
    root: PathBuf,
    /// Since when the cluster that it was taken of does not answer, and why.
    lost: Option<(Seconds, Str)>,
}

/// Why a folder cannot be observed. Errors in single files are sent as [`Event::Undecodable`].
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The path does not exist.
    #[error("snapshot folder {} does not exist", path.display())]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// The path is not a folder.
    #[error("snapshot folder {} is not a folder", path.display())]
    NotAFolder {
        /// The path as given.
        path: PathBuf,
    },
    /// The folder cannot be listed.
    #[error("snapshot folder {} cannot be read", path.display())]
    Unreadable {
        /// The path as given.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The folder contains no manifest file.
    #[error("snapshot folder {} holds no manifest (*.yaml, *.yml, *.json)", path.display())]
    Empty {
        /// The path as given.
        path: PathBuf,
    },
}

impl Snapshot {
    /// The interval of scans if no change is reported, and of liveness events.
    const TICK: Duration = Duration::from_secs(10);
    /// The same interval while the operating system cannot report changes, for example because it is out of inotify
    /// watches.
    const POLL: Duration = Duration::from_secs(1);
    /// A scan waits until no change was reported for this long, since editors and checkouts change several files in a
    /// row.
    const QUIET: Duration = Duration::from_millis(100);
    /// A scan waits no longer than this in total.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// Checks that `folder` can be observed.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, SnapshotError> {
        let root = folder.into();
        look(&root)?;
        Ok(Self { root, lost: None })
    }

    /// The last that is known of a cluster that has not answered since then.
    #[must_use]
    pub fn of_lost(self, since: Seconds, message: Str) -> Self {
        Self { lost: Some((since, message)), ..self }
    }
}

impl Source for Snapshot {
    async fn run(self, sink: Sink, stop: CancellationToken) {
        // Cancellation is safe at any await: no events are wanted afterwards.
        stop.run_until_cancelled(observe(self.root, self.lost, sink)).await;
    }
}

async fn observe(root: PathBuf, lost: Option<(Seconds, Str)>, sink: Sink) {
    let changes = Arc::new(Notify::new());
    let mut state = (Index::default(), FolderWatcher::new(Arc::clone(&changes)));
    loop {
        let (look_at, for_sink) = (root.clone(), sink.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let (mut index, mut folder_watcher) = state;
            let events = look_and_tell(&look_at, &mut index, &mut folder_watcher, &for_sink);
            (events, index, folder_watcher)
        });
        let events = match looked.await {
            Ok((events, index, folder_watcher)) => {
                state = (index, folder_watcher);
                events
            }
            Err(error) => {
                // This is a bug, but it must not end the observation. A new index sends all objects again.
                tracing::error!(%error, folder = %root.display(), "reading the snapshot failed");
                state = (Index::default(), FolderWatcher::new(Arc::clone(&changes)));
                Err("reading the snapshot failed; the log says why".to_owned())
            }
        };
        match events {
            Ok(events) => {
                for event in events {
                    sink.send(event).await;
                }
                let liveness = match &lost {
                    None => Liveness::Alive { version: None, ahead: None },
                    Some((since, message)) => Liveness::Lost { since: *since, message: message.clone() },
                };
                sink.send(Event::Liveness(liveness)).await;
            }
            Err(message) => sink.send(Event::Liveness(Liveness::Silent { message: message.into() })).await,
        }
        let tick = if state.1.are_open() { Snapshot::TICK } else { Snapshot::POLL };
        if timeout(tick, changes.notified()).await.is_ok() {
            settle(&changes).await;
        }
    }
}

fn look_and_tell(
    root: &Path,
    index: &mut Index,
    folder_watcher: &mut FolderWatcher,
    sink: &Sink,
) -> Result<Vec<Event>, String> {
    let looked = look(root);
    let Ok(mut listing) = looked else {
        folder_watcher.close();
        return looked.map(|_| Vec::new()).map_err(|error| explain(&error));
    };
    if folder_watcher.open(root, &listing.identity) {
        // Scan again, since changes before the watch began are not reported.
        listing = look(root).map_err(|error| explain(&error))?;
    }
    Ok(index.update(root, listing, sink, jiff::Timestamp::now().as_second()))
}

/// Lists the folder. An empty folder is an error, at run time too: an unmounted folder is empty, and all its objects
/// would be deleted.
fn look(root: &Path) -> Result<folder::Listing, SnapshotError> {
    let path = || root.to_path_buf();
    match folder::list(root) {
        Ok(listing) if listing.files.is_empty() && listing.unreadable.is_empty() => {
            Err(SnapshotError::Empty { path: path() })
        }
        Ok(listing) => Ok(listing),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound => SnapshotError::NotFound { path: path() },
            io::ErrorKind::NotADirectory => SnapshotError::NotAFolder { path: path() },
            _ => SnapshotError::Unreadable { path: path(), source: error },
        }),
    }
}

async fn settle(changes: &Notify) {
    let latest = Instant::now() + Snapshot::PATIENCE;
    while Instant::now() < latest {
        tokio::select! {
            () = changes.notified() => {}
            () = sleep(Snapshot::QUIET) => return,
        }
    }
}
