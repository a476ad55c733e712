//! Sources on real folders, whose events are received as the inventory does. Tests await events and never sleep.

use std::{fs, time::Duration};

use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle};

use super::*;
use crate::{
    ClusterId, Interner, KindStatus,
    catalogue::{Catalogue, KindId},
};

struct Running {
    folder: TempDir,
    catalogue: Arc<Catalogue>,
    events: mpsc::Receiver<(ClusterId, Event)>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        write(&folder, path, text);
    }
    folder
}

fn write(folder: &TempDir, path: &str, text: &str) {
    let path = folder.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A Kustomization. Different paths make different contents.
fn app(name: &str, path: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: apps}}\nspec: {{path: {path}}}\n"
    )
}

fn run(folder: TempDir) -> Running {
    let catalogue = Arc::new(Catalogue::builtin());
    let (sender, events) = mpsc::channel(64);
    let sink = Sink::new(Arc::clone(&catalogue), Arc::new(Interner::default()), ClusterId(0), sender);
    let stop = CancellationToken::new();
    let snapshot = Snapshot::open(folder.path()).unwrap();
    let task = tokio::spawn(snapshot.run(sink, stop.clone()));
    Running { folder, catalogue, events, stop, task }
}

impl Running {
    async fn next(&mut self) -> Event {
        tokio::time::timeout(Duration::from_mins(1), self.events.recv()).await.unwrap().unwrap().1
    }

    /// The events of a scan as text, without those of kinds that stay absent.
    async fn look(&mut self) -> Vec<String> {
        let mut events_seen = Vec::new();
        loop {
            match self.next().await {
                Event::Liveness(Liveness::Alive { .. }) => return events_seen,
                Event::Liveness(Liveness::Silent { message }) => {
                    events_seen.push(format!("silent: {message}"));
                    return events_seen;
                }
                event => events_seen.push(self.describe(&event)),
            }
        }
    }

    /// The first scan with events. Periodic scans in between have none.
    async fn news(&mut self) -> Vec<String> {
        loop {
            let events_seen = self.look().await;
            if !events_seen.is_empty() {
                return events_seen;
            }
        }
    }

    /// The objects and faults of the first scan.
    async fn objects(&mut self) -> Vec<String> {
        let mut events_seen = self.look().await;
        events_seen.retain(|line| line.starts_with("apply") || line.starts_with("undecodable"));
        events_seen
    }

    fn kind(&self, kind: KindId) -> &str {
        &self.catalogue.kind(kind).kind
    }

    fn describe(&self, event: &Event) -> String {
        match event {
            Event::Kind(kind, KindStatus::Served { version }) => {
                format!("served {} {version}", self.kind(*kind))
            }
            Event::Kind(kind, status) => format!("{status:?} {}", self.kind(*kind)),
            Event::Restart(kind) => format!("restart {}", self.kind(*kind)),
            Event::Apply(record) => {
                let key = &record.key;
                format!("apply {} {}/{}", self.kind(key.kind), key.namespace, key.name)
            }
            Event::Delete(key) => format!("delete {} {}/{}", self.kind(key.kind), key.namespace, key.name),
            Event::Synced(kind) => format!("synced {}", self.kind(*kind)),
            Event::Undecodable(_, message) => format!("undecodable {message}"),
            Event::Current(kind) => format!("current {}", self.kind(*kind)),
            Event::Liveness(liveness) => format!("{liveness:?}"),
            Event::Registered(_)
            | Event::Ignored(_)
            | Event::Removed
            | Event::Mode(_)
            | Event::Lacks(_)
            | Event::Aside(_) => format!("{event:?}"),
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.task).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn every_kind_is_told_first_present_or_not() {
    let mut run = run(folder(&[("a.yaml", &app("a", "./a"))]));
    let events_seen = run.look().await;
    let of = |kind: &str| -> Vec<&str> {
        events_seen.iter().map(String::as_str).filter(|line| line.split(' ').nth(1) == Some(kind)).collect()
    };
    assert_eq!(
        of("Kustomization"),
        [
            "served Kustomization v1",
            "restart Kustomization",
            "apply Kustomization apps/a",
            "synced Kustomization"
        ]
    );
    assert_eq!(of("Pooler"), ["Absent Pooler", "restart Pooler", "synced Pooler"]);
    assert_eq!(
        events_seen.iter().filter(|line| line.starts_with("synced")).count(),
        run.catalogue.kinds().count()
    );
    run.stop().await;
}

#[tokio::test]
async fn files_of_every_shape_are_read_and_others_passed_over() {
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}]}"#;
    let files = [
        ("deep/er/a.yaml", format!("{}---\n{}", app("a", "x"), app("b", "x"))),
        ("list.json", list.to_owned()),
        ("values.yaml", "replicas: 3\n".to_owned()),
        ("kustomization.yaml", "resources: [deep]\n".to_owned()),
        ("unknown.yml", "apiVersion: example.dev/v1\nkind: Unknown\nmetadata: {name: u}\n".to_owned()),
        ("README.md", "# not a manifest".to_owned()),
        (".hidden/a.yaml", app("hidden", "x")),
        (".hidden.yaml", app("hidden", "x")),
        ("node.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: m, namespace: stray}\n".to_owned()),
        ("bare.yaml", app("bare", "x").replace(", namespace: apps", "")),
    ];
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let mut run = run(folder(&files));
    let mut events_seen = run.objects().await;
    events_seen.sort();
    assert_eq!(
        events_seen,
        [
            "apply Kustomization apps/a",
            "apply Kustomization apps/b",
            "apply Kustomization default/bare",
            "apply Node /m",
            "apply Node /node",
        ]
    );
    run.stop().await;
}

#[tokio::test]
async fn a_broken_file_is_told_by_file_and_line_and_hides_no_other() {
    let broken = format!("{}---\nkind: [\n---\n{}", app("before", "x"), app("after", "x"));
    let mut run = run(folder(&[
        ("apps/broken.yaml", &broken),
        ("apps/nameless.yaml", "# first\napiVersion: v1\nkind: Node\nmetadata: {}\n"),
        ("good.yaml", &app("good", "x")),
    ]));
    let events_seen = run.objects().await;
    assert_eq!(events_seen.len(), 5, "{events_seen:?}");
    assert!(events_seen[0].starts_with("undecodable apps/broken.yaml:"), "{events_seen:?}");
    let line: usize = events_seen[0].split(':').nth(1).unwrap().parse().unwrap();
    assert!((6..=7).contains(&line), "{events_seen:?}");
    assert!(events_seen[1].starts_with("undecodable apps/nameless.yaml:1: metadata.name"), "{events_seen:?}");
    for name in ["before", "after", "good"] {
        assert!(events_seen.contains(&format!("apply Kustomization apps/{name}")), "{events_seen:?}");
    }
    // A repaired file is read like any other, and nothing else is sent again.
    write(&run.folder, "apps/broken.yaml", &broken.replace("kind: [", "# gone"));
    write(&run.folder, "apps/nameless.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: node}\n");
    let mut events_seen = run.news().await;
    while !events_seen.contains(&"apply Node /node".to_owned()) {
        events_seen.extend(run.news().await);
    }
    assert_eq!(events_seen, ["served Node v1", "apply Node /node"]);
    run.stop().await;
}

#[tokio::test]
async fn of_two_documents_naming_one_object_the_last_in_path_order_counts() {
    let mut run = run(folder(&[
        ("a.yaml", &app("twice", "first")),
        ("b/b.yaml", &app("twice", "second")),
        ("c.yaml", &app("other", "x")),
    ]));
    assert_eq!(run.objects().await.len(), 2);
    // A change of the hidden document sends nothing,
    write(&run.folder, "a.yaml", &app("twice", "third"));
    write(&run.folder, "c.yaml", &app("other", "y"));
    assert_eq!(run.news().await, ["apply Kustomization apps/other"]);
    // but it appears once the other document is gone.
    fs::remove_file(run.folder.path().join("b/b.yaml")).unwrap();
    assert_eq!(run.news().await, ["apply Kustomization apps/twice"]);
    run.stop().await;
}

#[tokio::test]
async fn an_edit_tells_exactly_the_object_that_changed() {
    let text = |path| format!("{}---\n{}", app("a", "same"), app("b", path));
    let mut run = run(folder(&[("both.yaml", &text("one")), ("c.yaml", &app("c", "x"))]));
    run.look().await;
    write(&run.folder, "both.yaml", &text("two"));
    assert_eq!(run.news().await, ["apply Kustomization apps/b"]);
    // A second write within the clock's granularity and with the same length has the same stamp.
    write(&run.folder, "both.yaml", &text("six"));
    assert_eq!(run.news().await, ["apply Kustomization apps/b"]);
    // Comments and the order of keys do not change an object.
    write(&run.folder, "c.yaml", &format!("# why\n{}", app("c", "x")));
    write(&run.folder, "d.yaml", &app("d", "x"));
    assert_eq!(run.news().await, ["apply Kustomization apps/d"]);
    run.stop().await;
}

#[tokio::test]
async fn rename_over_new_folders_and_removal_are_seen() {
    let mut run = run(folder(&[("a.yaml", &app("a", "one")), ("b.yaml", &app("b", "x"))]));
    run.look().await;
    write(&run.folder, ".a.yaml.swp", &app("a", "two"));
    let path = |name: &str| run.folder.path().join(name);
    fs::rename(path(".a.yaml.swp"), path("a.yaml")).unwrap();
    assert_eq!(run.news().await, ["apply Kustomization apps/a"]);
    write(&run.folder, "new/node.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: node}\n");
    assert_eq!(run.news().await, ["served Node v1", "apply Node /node"]);
    fs::remove_dir_all(run.folder.path().join("new")).unwrap();
    assert_eq!(run.news().await, ["delete Node /node", "Absent Node"]);
    run.stop().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_mounted_config_map_is_followed_through_its_swap() {
    use std::os::unix::fs::symlink;
    let folder = folder(&[("..1/a.yaml", &app("a", "one")), ("..2/a.yaml", &app("a", "two"))]);
    symlink("..1", folder.path().join("..data")).unwrap();
    symlink("..data/a.yaml", folder.path().join("a.yaml")).unwrap();
    symlink("nowhere", folder.path().join("dangling.yaml")).unwrap();
    symlink(".", folder.path().join("loop")).unwrap();
    let mut run = run(folder);
    assert_eq!(run.objects().await, ["apply Kustomization apps/a"]);
    symlink("..2", run.folder.path().join("..data_tmp")).unwrap();
    fs::rename(run.folder.path().join("..data_tmp"), run.folder.path().join("..data")).unwrap();
    assert_eq!(run.news().await, ["apply Kustomization apps/a"]);
    run.stop().await;
}

#[tokio::test]
async fn a_folder_that_vanishes_is_silent_and_its_objects_stay() {
    let parent = folder(&[("snapshot/a.yaml", &app("a", "x")), ("snapshot/b.yaml", &app("b", "x"))]);
    let root = parent.path().join("snapshot");
    let mut run = run(parent);
    // Observe the inner folder; the outer one must outlive it.
    run.stop.cancel();
    let (sender, events) = mpsc::channel(64);
    let sink = Sink::new(Arc::clone(&run.catalogue), Arc::default(), ClusterId(0), sender);
    run.stop = CancellationToken::new();
    run.task = tokio::spawn(Snapshot::open(&root).unwrap().run(sink, run.stop.clone()));
    run.events = events;
    run.look().await;
    let away = run.folder.path().join("away");
    fs::rename(&root, &away).unwrap();
    let events_seen = run.news().await;
    assert!(events_seen.len() == 1 && events_seen[0].ends_with("does not exist"), "{events_seen:?}");
    fs::remove_file(away.join("b.yaml")).unwrap();
    fs::rename(&away, &root).unwrap();
    let mut events_seen = run.news().await;
    while events_seen.last().is_some_and(|line| line.starts_with("silent")) {
        events_seen = run.news().await;
    }
    assert_eq!(events_seen, ["delete Kustomization apps/b"]);
    // An unmounted folder is empty.
    fs::remove_file(root.join("a.yaml")).unwrap();
    let events_seen = run.news().await;
    assert!(events_seen.len() == 1 && events_seen[0].contains("holds no manifest"), "{events_seen:?}");
    run.stop().await;
}

#[test]
fn folders_that_cannot_be_shown_are_named_with_the_reason() {
    let empty = folder(&[("README.md", "no manifest")]);
    let file = folder(&[("a.yaml", "")]);
    for (path, expected) in [
        (empty.path().join("nowhere"), "does not exist"),
        (empty.path().to_path_buf(), "holds no manifest (*.yaml, *.yml, *.json)"),
        (file.path().join("a.yaml"), "is not a folder"),
    ] {
        let error = Snapshot::open(&path).unwrap_err().to_string();
        assert_eq!(error, format!("snapshot folder {} {expected}", path.display()));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn unreadable_folders_and_files_are_told_and_hide_no_other() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder(&[
        ("good.yaml", &app("good", "x")),
        ("locked.yaml", &app("locked", "x")),
        ("locked/a.yaml", &app("inner", "x")),
    ]);
    let lock = |path: &str, mode| {
        fs::set_permissions(folder.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    lock("locked.yaml", 0);
    lock("locked", 0);
    // Root ignores permissions, and runs the tests in many containers. The demo's tests cover this as another user.
    if fs::read(folder.path().join("locked.yaml")).is_ok() {
        eprintln!("left out: this user may read everything; see tests/demo.rs");
        return;
    }
    lock("", 0);
    assert!(matches!(Snapshot::open(folder.path()), Err(SnapshotError::Unreadable { .. })));
    lock("", 0o755);
    let mut run = run(folder);
    let events_seen = run.objects().await;
    assert_eq!(events_seen.len(), 3, "{events_seen:?}");
    assert!(events_seen[0].starts_with("undecodable locked: cannot be listed"), "{events_seen:?}");
    assert!(events_seen[1].starts_with("undecodable locked.yaml: cannot be read"), "{events_seen:?}");
    fs::set_permissions(run.folder.path().join("locked"), fs::Permissions::from_mode(0o755)).unwrap();
    run.stop().await;
}
