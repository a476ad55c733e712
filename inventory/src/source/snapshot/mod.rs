//! A folder of manifests as a source: YAML or JSON, several documents in a file, `List` dumps.
//!
//! A look at the folder reads the files whose stamp changed and tells the objects whose content did. A look
//! is taken when the operating system reports a change, once that has settled, and every [`Snapshot::TICK`]
//! in any case: network file systems report nothing, and a folder that was replaced reports to nobody.

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

/// A folder of manifests, watched for changes.
///
/// `*.yaml`, `*.yml` and `*.json` at any depth; hidden files and folders are skipped, links followed. What is
/// no Kubernetes object, or of a kind that is not observed, is passed over.
#[derive(Debug)]
pub struct Snapshot {
    root: PathBuf,
}

/// Why a folder cannot be observed at all. What is wrong with single files is told by events.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Nothing has this name.
    #[error("snapshot folder {} does not exist", path.display())]
    NotFound {
        /// As given.
        path: PathBuf,
    },
    /// Something has this name, but holds no files.
    #[error("snapshot folder {} is not a folder", path.display())]
    NotAFolder {
        /// As given.
        path: PathBuf,
    },
    /// It cannot be listed.
    #[error("snapshot folder {} cannot be read", path.display())]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// There is nothing in it that could be shown.
    #[error("snapshot folder {} holds no manifest (*.yaml, *.yml, *.json)", path.display())]
    Empty {
        /// As given.
        path: PathBuf,
    },
}

impl Snapshot {
    /// The time between two looks when no change is reported, and between two signs of life.
    const TICK: Duration = Duration::from_secs(10);
    /// The same while the operating system cannot report changes: out of watches, or nothing to watch.
    const POLL: Duration = Duration::from_secs(1);
    /// Editors and checkouts change several files in a row: a look waits for this much quiet,
    const QUIET: Duration = Duration::from_millis(100);
    /// but no longer than this.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// Checks that `folder` can be observed.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, SnapshotError> {
        let root = folder.into();
        look(&root)?;
        Ok(Self { root })
    }
}

impl Source for Snapshot {
    async fn run(self, sink: Sink, stop: CancellationToken) {
        // Nothing is lost by stopping anywhere: no more events are wanted.
        stop.run_until_cancelled(observe(self.root, sink)).await;
    }
}

async fn observe(root: PathBuf, sink: Sink) {
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
                // A defect, but one that must not end the observation. A new index tells everything again.
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
                sink.send(Event::Liveness(Liveness::Alive { version: None, ahead: None })).await;
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
        // What changed before the watch began would be reported by nobody.
        listing = look(root).map_err(|error| explain(&error))?;
    }
    Ok(index.update(root, listing, sink, jiff::Timestamp::now().as_second()))
}

/// Lists the folder. An empty one is an error while running too: it is what an unmounted folder looks like,
/// and taking it at its word would delete everything.
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
