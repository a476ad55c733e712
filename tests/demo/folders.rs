//! Folders and files that the demo shows instead of the example.

use super::*;

#[test]
fn a_broken_file_is_reported_by_line_and_hides_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("good.yaml"), kustomization("good", "True", "applied")).unwrap();
    let broken =
        format!("{}---\napiVersion: v1\nkind: [unclosed\n", kustomization("also-good", "True", "applied"));
    fs::write(folder.path().join("broken.yaml"), &broken).unwrap();
    let output = demo(&["--snapshot", folder.path().to_str().unwrap()], "{} get fxr -n apps -o name");
    let shown = ok(&output);
    assert!(shown.contains("local.kustomization.good"), "{shown}");
    assert!(shown.contains("local.kustomization.also-good"), "{shown}");
    let printed = text(&output.stderr);
    let line = broken.lines().count();
    assert!(
        printed.contains(&format!("broken.yaml:{line}"))
            || printed.contains(&format!("broken.yaml:{}", line + 1)),
        "the file and line in {printed}"
    );
}

#[test]
fn a_field_of_the_wrong_type_makes_its_row_unknown_and_the_others_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let bad =
        kustomization("bad", "True", "applied").replace("interval: 10m", "interval: 10m, suspend: perhaps");
    fs::write(folder.path().join("all.yaml"), kustomization("good", "True", "applied") + &bad).unwrap();
    let snapshot = folder.path().to_str().unwrap();
    let shown =
        ok(&demo(&["--snapshot", snapshot], "{} get fxr -n apps --no-headers; {} get fxs -n apps -o json"));
    let row = |name: &str| shown.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
    assert!(row("kustomization.good").contains("Ready"), "{shown}");
    assert!(
        row("kustomization.bad").contains("Unknown") && row("kustomization.bad").contains("suspend"),
        "{shown}"
    );
    assert!(shown.contains("\"unknown\": 1"), "{shown}");
}

#[test]
fn a_folder_that_cannot_be_served_is_refused_by_name() {
    let empty = tempfile::tempdir().unwrap();
    let file = empty.path().join("file.txt");
    for (path, complaint) in [
        (Path::new("/no/such/folder"), "does not exist"),
        (empty.path(), "no manifest"),
        (&file, "is no manifest"),
    ] {
        if complaint == "is no manifest" {
            fs::write(&file, "text").unwrap();
        }
        let output = demo(&["--snapshot", path.to_str().unwrap()], "echo served");
        let printed = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(printed.contains(path.to_str().unwrap()) && printed.contains(complaint), "{printed}");
        assert!(output.stdout.is_empty(), "nothing was served");
    }
}

/// As somebody whom permissions bind, which they do not do to root.
#[test]
fn what_may_not_be_read_is_told_by_name_and_hides_nothing_else() {
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let base = tempfile::tempdir().unwrap();
    open(base.path(), 0o755);
    let (folder, locked) = (base.path().join("manifests"), base.path().join("manifests/locked.yaml"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("good.yaml"), kustomization("good", "True", "applied")).unwrap();
    fs::write(&locked, kustomization("locked", "True", "applied")).unwrap();
    open(&locked, 0);
    // The build's folder may be closed to others.
    let executable = base.path().join("gatehouse");
    fs::copy(env!("CARGO_BIN_EXE_gatehouse"), &executable).unwrap();
    let demo = || {
        let mut command = Command::new(&executable);
        command.args(["demo", "--snapshot", folder.to_str().unwrap(), "--", "sh", "-c"]);
        command.arg("kubectl --cache-dir $(dirname $KUBECONFIG)/cache get fxr -n apps -o name");
        if rustix::process::geteuid().is_root() {
            const NOBODY: u32 = 65534;
            command.uid(NOBODY).gid(NOBODY).current_dir("/");
        }
        command.env_remove("RUST_LOG").output().unwrap()
    };
    let output = demo();
    let (shown, printed) = (ok(&output), text(&output.stderr));
    assert!(shown.contains("good") && !shown.contains("locked"), "{shown}");
    assert!(printed.contains("locked.yaml: cannot be read"), "{printed}");
    open(&folder, 0);
    let refused = demo();
    let printed = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{printed}");
    assert!(printed.contains(&format!("{} cannot be read", folder.display())), "{printed}");
    open(&folder, 0o755);
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[test]
fn a_repository_is_shown_as_it_would_be_applied() {
    let folder = tempfile::tempdir().unwrap();
    let bare = |name: &str, more: &str| {
        format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}}}\nspec: {{interval: 10m, path: ./x, sourceRef: {{kind: GitRepository, name: g}}{more}}}\n"
        )
    };
    write(
        folder.path(),
        &[
            ("apps/a/kustomization.yaml", "namespace: ns-a\nresources: [k.yaml]\n"),
            ("apps/a/k.yaml", &bare("ka", "")),
            ("apps/b/kustomization.yaml", "namespace: ns-b\nresources: [k.yaml]\n"),
            ("apps/b/k.yaml", &bare("kb", ", dependsOn: [{name: ka, namespace: ns-a}]")),
            ("over/kustomization.yaml", "resources: [../apps/a]\npatches: [{path: p.yaml}]\n"),
            (
                "over/p.yaml",
                "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: ka, namespace: ns-a}\nspec: {interval: 5m}\n",
            ),
        ],
    );
    let snapshot = folder.path().to_str().unwrap();
    let shown =
        ok(&demo(&["--snapshot", snapshot], "{} get fxr -A --no-headers; {} get fxd -A --no-headers"));
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    let of =
        |namespace: &str, name: &str| rows.iter().filter(|row| row[0] == namespace && row[1] == name).count();
    assert_eq!(of("ns-a", "local.kustomization.ka"), 2, "{shown}");
    assert_eq!(of("ns-b", "local.kustomization.kb"), 2, "{shown}");
    assert_eq!(rows.len(), 4, "{shown}");
    assert!(!shown.contains("Missing"), "{shown}");
}

#[test]
fn an_edit_of_a_patch_shows_in_a_watch() {
    let folder = tempfile::tempdir().unwrap();
    let patch = |name: &str| format!("namespace: apps\nnamePrefix: {name}-\nresources: [app.yaml]\n");
    write(
        folder.path(),
        &[("app.yaml", &kustomization("app", "True", "applied")), ("kustomization.yaml", &patch("one"))],
    );
    let cache = tempfile::tempdir().unwrap();
    let watch = format!("kubectl --cache-dir {} get fxr -n apps -w", cache.path().display());
    let snapshot = folder.path().to_str().unwrap();
    let mut child = gatehouse(&["demo", "--snapshot", snapshot, "--", "sh", "-c", &format!("exec {watch}")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = lines(&mut child);
    wait_for(&lines, |line| line.contains("local.kustomization.one-app"));
    fs::write(folder.path().join("kustomization.yaml"), patch("other")).unwrap();
    wait_for(&lines, |line| line.contains("local.kustomization.other-app"));
    terminate(&mut child);
}

#[test]
fn a_file_or_standard_input_is_served_as_a_folder_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump.yaml");
    fs::write(&file, kustomization("app", "True", "applied")).unwrap();
    let shown = ok(&demo(&["--snapshot", file.to_str().unwrap()], "{} get fxr -n apps -o name"));
    assert!(shown.contains("local.kustomization.app"), "{shown}");
    let mut child =
        gatehouse(&["demo", "--snapshot", "-", "--", "sh", "-c", "kubectl get fxr -n apps -o name"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    let list = "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"apiVersion\": \"kustomize.toolkit.fluxcd.io/v1\", \"kind\": \"Kustomization\", \"metadata\": {\"name\": \"piped\", \"namespace\": \"apps\"}}]}";
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), list.as_bytes()).unwrap();
    let shown = ok(&child.wait_with_output().unwrap());
    assert!(shown.contains("local.kustomization.piped"), "{shown}");
    let output = gatehouse(&["demo", "--snapshot", "-", "--", "true"]).stdin(Stdio::null()).output().unwrap();
    assert!(text(&output.stderr).contains("standard input is empty"), "{output:?}");
}

#[test]
fn a_real_repository_without_status_is_pending() {
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/real/endsys-gitops");
    if !real.exists() {
        eprintln!("left out: {} is not here", real.display());
        return;
    }
    let shown = ok(&demo(&["--snapshot", real.to_str().unwrap()], "{} get fxr -A --no-headers"));
    assert!(shown.lines().count() > 50, "{shown}");
    let odd: Vec<_> = shown
        .lines()
        .filter(|line| !["Pending", "Ready", "Suspended"].iter().any(|state| line.contains(state)))
        .collect();
    assert!(
        odd.is_empty(),
        "without a status there is nothing but Pending, and Ready for static kinds: {odd:?}"
    );
}

#[test]
fn several_folders_are_several_clusters() {
    let folders = ["eu", "us"].map(|_| tempfile::tempdir().unwrap());
    fs::write(folders[0].path().join("a.yaml"), kustomization("shop", "True", "applied")).unwrap();
    fs::write(folders[1].path().join("a.yaml"), kustomization("shop", "False", "no such path")).unwrap();
    let [eu, us] = ["eu", "us"].map(String::from);
    let named =
        [format!("{eu}={}", folders[0].path().display()), format!("{us}={}", folders[1].path().display())];
    let flags = ["--snapshot", &*named[0], "--snapshot", &*named[1]];
    let shown = ok(&demo(&flags, "{} get fxs,chl,fxr -A -o name"));
    for expected in [
        "fluxsummary.view.gatehouse.dev/eu",
        "fluxsummary.view.gatehouse.dev/us",
        "clusterhealth.view.gatehouse.dev/eu",
        "clusterhealth.view.gatehouse.dev/us",
        "fluxresource.view.gatehouse.dev/eu.kustomization.shop",
        "fluxresource.view.gatehouse.dev/us.kustomization.shop",
    ] {
        assert!(shown.contains(expected), "{expected} is missing in:\n{shown}");
    }
    let wide = ok(&demo(&flags, "{} get chl -o wide"));
    assert!(row(&wide, "us").contains(&"snapshot") && row(&wide, "us").contains(&"Degraded"), "{wide}");
    assert!(!row(&wide, "eu").contains(&"snapshot"), "it serves the views: {wide}");
    let twice = demo(&["--snapshot", &*named[0], "--snapshot", &*named[0]], "true");
    assert!(text(&twice.stderr).contains("eu is named twice"), "{}", text(&twice.stderr));
}
