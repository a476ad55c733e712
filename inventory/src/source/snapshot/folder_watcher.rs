//! Has the operating system report changes under a folder.

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

/// A watch on a folder, renewed when what it stands on is replaced.
#[derive(Debug)]
pub(super) struct FolderWatcher {
    changes: Arc<Notify>,
    watch: Option<RecommendedWatcher>,
    /// What `watch` was begun for, successfully or not.
    identity: Vec<(PathBuf, u64)>,
}

impl FolderWatcher {
    /// Reports to `changes`.
    pub(super) fn new(changes: Arc<Notify>) -> Self {
        Self { changes, watch: None, identity: Vec::new() }
    }

    /// Whether changes are being reported.
    pub(super) fn are_open(&self) -> bool {
        self.watch.is_some()
    }

    /// Watches `root`, unless that same folder is being watched already. True if a new watch began.
    pub(super) fn open(&mut self, root: &Path, identity: &[(PathBuf, u64)]) -> bool {
        if self.identity == identity {
            return false;
        }
        self.close();
        let changes = Arc::clone(&self.changes);
        let below = root.to_path_buf();
        let watch = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error is a reason to look, too: events may have been lost.
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

    /// Stops watching.
    pub(super) fn close(&mut self) {
        self.watch = None;
        self.identity.clear();
    }
}

/// Whether an event can mean that a manifest changed. Reading the files, as every look does, is reported too:
/// without this one look would cause the next. Version control's own files change often, and mean nothing.
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
