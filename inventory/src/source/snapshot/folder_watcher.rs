//! Watches a folder with the operating system's notifications.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::Notify;

/// A watch on a folder, which is renewed when the folder, or a folder that a link leads to, is replaced.
#[derive(Debug)]
pub(super) struct FolderWatcher {
    changes: Arc<Notify>,
    watch: Option<RecommendedWatcher>,
    /// The folders for which `watch` was created, also if that failed.
    identity: Vec<(PathBuf, u64)>,
}

impl FolderWatcher {
    /// A watcher that notifies `changes`.
    pub(super) fn new(changes: Arc<Notify>) -> Self {
        Self { changes, watch: None, identity: Vec::new() }
    }

    /// Whether the operating system reports changes.
    pub(super) fn are_open(&self) -> bool {
        self.watch.is_some()
    }

    /// Watches `root`, unless the same folder is being watched already. Returns true if a new watch began.
    pub(super) fn open(&mut self, root: &Path, identity: &[(PathBuf, u64)]) -> bool {
        if self.identity == identity {
            return false;
        }
        self.close();
        let changes = Arc::clone(&self.changes);
        let below = root.to_path_buf();
        let watch = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error requires a scan too, since events may have been lost.
            if event.is_ok_and(|event| !is_news(&event, &below)) {
                return;
            }
            changes.notify_one();
        })
        .and_then(|mut watch| watch.watch(root, RecursiveMode::Recursive).map(|()| watch));
        self.identity = identity.to_vec();
        match watch {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => tracing::warn!(
                %error, folder = %root.display(),
                "the operating system reports no file changes, polling the folder"
            ),
        }
        self.watch.is_some()
    }

    /// Stops the watch.
    pub(super) fn close(&mut self) {
        self.watch = None;
        self.identity.clear();
    }
}

/// Whether an event can mean that a manifest changed. Reads are reported too, and each scan reads files, so without
/// this filter a scan would cause the next one. The files of version control change often, and are not manifests.
fn is_news(event: &Event, root: &Path) -> bool {
    let read =
        matches!(event.kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write));
    let only_git = !event.paths.is_empty()
        && event.paths.iter().all(|path| {
            let below = path.strip_prefix(root).unwrap_or(path);
            below.components().any(|part| part.as_os_str() == OsStr::new(".git"))
        });
    !read && !only_git
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, ModifyKind, RenameMode};

    use super::*;

    fn event(kind: EventKind, path: &str) -> Event {
        Event::new(kind).add_path(path.into())
    }

    #[test]
    fn reading_and_version_control_are_no_news() {
        let root = Path::new("/snapshot");
        for (kind, path, news) in [
            (EventKind::Create(CreateKind::File), "/snapshot/a.yaml", true),
            (EventKind::Modify(ModifyKind::Name(RenameMode::To)), "/snapshot/..data", true),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), "/snapshot/a.yaml", true),
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), "/snapshot/a.yaml", false),
            (EventKind::Access(AccessKind::Close(AccessMode::Read)), "/snapshot/a.yaml", false),
            (EventKind::Create(CreateKind::File), "/snapshot/.git/index.lock", false),
        ] {
            assert_eq!(is_news(&event(kind, path), root), news, "{kind:?} {path}");
        }
    }
}
