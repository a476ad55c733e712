//! The `gatehouse demo` command as a person uses it: through kubectl, on the bundled example and on folders.

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails with what it met")]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

/// Far more than anything here takes, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);

fn gatehouse(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.args(args).env_remove("RUST_LOG").env_remove("KUBECONFIG");
    command
}

/// Runs a shell command against a demo; `{}` in it stands for kubectl with a cache folder of its own.
fn demo(flags: &[&str], shell: &str) -> Output {
    let cache = tempfile::tempdir().unwrap();
    let shell = shell.replace("{}", &format!("kubectl --cache-dir {}", cache.path().display()));
    gatehouse(&["demo"]).args(flags).args(["--", "sh", "-c", &shell]).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// A Kustomization with a Ready condition.
fn kustomization(name: &str, ready: &str, message: &str) -> String {
    format!(
        r#"---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {{name: {name}, namespace: apps, generation: 1, creationTimestamp: "2026-01-01T00:00:00Z"}}
spec: {{interval: 10m, prune: true, sourceRef: {{kind: GitRepository, name: source}}}}
status:
  observedGeneration: 1
  conditions:
  - {{type: Ready, status: "{ready}", reason: Test, message: {message}, lastTransitionTime: "2026-01-02T00:00:00Z"}}
"#
    )
}

#[test]
fn the_readme_command_prints_the_tables_and_ends() {
    let shown = ok(&demo(&[], "{} get fluxsummaries,clusterhealths -A"));
    assert_eq!(row(&shown, "NAMESPACE")[2..5], ["TOTAL", "READY", "FAILED"]);
    let team_b = row(&shown, "team-b");
    assert_eq!(team_b[2..9], ["6", "1", "1", "1", "2", "0", "1"], "the counts of team-b");
    assert!(shown.contains("HelmRelease/warehouse Stalled"), "{shown}");
    assert!(shown.contains("clusterhealth.view.gatehouse.dev/local   Degraded"), "{shown}");
}

#[test]
fn the_example_has_what_it_is_there_to_show() {
    let shown = ok(&demo(&[], "{} get fxd -A; {} get fxr -A; {} get chl -o json"));
    for expected in [
        // A chain three deep, with one root cause.
        "local.kustomization.apps",
        "GitRepository/flux-system/storage",
        // A cycle, and an object that does not exist.
        "(cycle)",
        "(missing)",
        "Suspended",
        "Progressing",
        "Stalled",
        "\"reason\": \"Expired\"",
        "\"kind\": \"Application\"",
        "\"kind\": \"Fleet\"",
    ] {
        assert!(shown.contains(expected), "{expected} is missing in:\n{shown}");
    }
}

/// The cells of the line that starts with `start`.
fn row<'a>(shown: &'a str, start: &str) -> Vec<&'a str> {
    let found = shown.lines().find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("no row {start}:\n{shown}")).split_whitespace().collect()
}

#[test]
fn game_servers_are_told_by_namespace_over_all_engines() {
    let shown = ok(&demo(&[], "{} get gsv -A"));
    let headings =
        ["NAMESPACE", "NAME", "FLEETS", "DESIRED", "READY", "ALLOCATED", "UNHEALTHY", "PLAYERS", "CAPACITY"];
    assert_eq!(row(&shown, "NAMESPACE"), headings);
    // A fleet whose servers are told by it alone, and a set of OpenKruiseGame's with a server in use.
    assert_eq!(row(&shown, "games-eu"), ["games-eu", "local", "2", "13", "4", "6", "1", "61", "160"]);
    // A fleet, a server that stands alone, and one of Pteronimbus, which tells players and no capacity.
    assert_eq!(row(&shown, "games-us"), ["games-us", "local", "1", "8", "5", "2", "0", "26", "112"]);
    assert_eq!(shown.lines().count(), 3, "{shown}");

    let wide = ok(&demo(&[], "{} get gsv -A -o wide"));
    let eu = row(&wide, "games-eu");
    assert!(eu.contains(&"agones,kruise") && wide.contains("Fleet/arena-eu Failed"), "{wide}");
    assert!(row(&wide, "games-us").contains(&"agones,pteronimbus"), "{wide}");
    assert!(row(&wide, "NAMESPACE").ends_with(&["ENGINES", "OLDEST-FAILURE", "WORST", "FRESH"]), "{wide}");
}

#[test]
fn tenants_are_told_by_their_tightest_limit() {
    let shown = ok(&demo(&[], "{} get tnu"));
    assert_eq!(row(&shown, "NAME"), ["NAME", "TIGHTEST", "DENIED", "HELD-BACK", "NAMESPACES", "USED"]);
    assert!(
        row(&shown, "arena").starts_with(&["arena", "gameservers", "21/22", "(95%)", "3", "0", "2"]),
        "{shown}"
    );
    assert!(shown.contains("gameservers 21/22, players 272/400, count/fleets 2/4,"), "{shown}");
    let over = ["team-b", "count/kustomizations", "4/3", "(133%)"];
    assert!(row(&shown, "team-b").starts_with(&over), "{shown}");
    let wide = ok(&demo(&[], "{} get tnu -o wide"));
    let headings = ["RESERVED", "OVERCOMMIT", "ENFORCEMENT", "LAST-DENIAL", "READY", "FRESH"];
    assert!(row(&wide, "NAME").ends_with(&headings), "{wide}");
    assert!(row(&wide, "arena").ends_with(&["Deny", "120m", "True", "True"]), "{wide}");
}

#[test]
fn the_views_of_games_and_tenants_can_be_selected_from_explained_and_waited_for() {
    let select = "{} get tnu --field-selector status.tightest=gameservers -o name; \
                  {} get gsv -A --field-selector status.cluster=elsewhere -o name; \
                  {} get tnu,gsv -A --selector gatehouse.dev/tenant=arena -o name";
    let (usage, games) =
        ("tenantusage.view.gatehouse.dev/arena", "gameserversummary.view.gatehouse.dev/local");
    let selected = ok(&demo(&[], select));
    assert_eq!(selected.lines().collect::<Vec<_>>(), [usage, usage, games, games]);

    let explained = ok(&demo(&[], "{} explain gsv.status.engines; {} explain tnu.status.limits.percent"));
    assert!(explained.contains("The same numbers by engine"), "{explained}");
    assert!(explained.contains("in percent of"), "{explained}");

    let waits = "{} wait --for=condition=WithinLimits tnu/arena --timeout=10s && \
                 {} wait --for=condition=WithinLimits=false tnu/team-b --timeout=10s && \
                 {} wait --for=condition=Ready gsv/local -n games-us --timeout=10s && \
                 {} wait --for=condition=Ready=false gsv/local -n games-eu --timeout=10s";
    assert_eq!(ok(&demo(&[], waits)).matches("condition met").count(), 4);
    let refused = demo(&[], "{} get tnu --field-selector status.denied=3");
    assert!(text(&refused.stderr).contains("status.denied"), "{}", text(&refused.stderr));
}

#[test]
fn what_happens_to_servers_and_quotas_shows_in_a_watch() {
    let server = |phase: &str| {
        format!(
            "apiVersion: pteronimbus.io/v1\nkind: GameServer\nmetadata: {{name: creative, namespace: games}}\n\
             status: {{phase: {phase}, playerCount: 7}}\n"
        )
    };
    let quota = |used: u32| {
        format!(
            "apiVersion: policy.gatehouse.dev/v1alpha1\nkind: TenantQuota\nmetadata: {{name: arena}}\n\
             spec: {{namespaceSelector: {{}}, hard: {{players: \"10\", gameservers: \"4\"}}}}\n\
             status: {{used: {{players: \"{used}\", gameservers: \"2\"}}, namespaces: 1}}\n"
        )
    };
    for (resource, before, after, first, then) in [
        ("gsv -A", server("Running"), server("Failed"), "games local 0 1 1 0 0 7", "games local 0 1 0 0 1 7"),
        ("tnu", quota(3), quota(9), "arena gameservers 2/4 (50%)", "arena players 9/10 (90%)"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("object.yaml");
        fs::write(&file, before).unwrap();
        let cache = tempfile::tempdir().unwrap();
        let watch = format!("exec kubectl --cache-dir {} get {resource} -w", cache.path().display());
        let mut child =
            gatehouse(&["demo", "--snapshot", folder.path().to_str().unwrap(), "--", "sh", "-c", &watch])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
        let lines = lines(&mut child);
        let says = |line: &str, wanted: &str| {
            line.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(wanted)
        };
        wait_for(&lines, |line| says(line, first));
        fs::write(&file, after).unwrap();
        wait_for(&lines, |line| says(line, then));
        terminate(&mut child);
    }
}

#[test]
fn the_command_s_exit_code_is_the_demo_s() {
    assert_eq!(demo(&[], "exit 7").status.code(), Some(7));
    let missing = gatehouse(&["demo", "--", "/no/such/program"]).output().unwrap();
    assert!(!missing.status.success());
    assert!(text(&missing.stderr).contains("cannot run /no/such/program"), "{}", text(&missing.stderr));
}

#[test]
fn the_demo_leaves_nothing_behind() {
    let folder = ok(&demo(&[], "dirname $KUBECONFIG"));
    let folder = Path::new(folder.trim());
    assert!(folder.is_absolute() && !folder.exists(), "{}", folder.display());
}

#[test]
fn an_edit_shows_in_a_watch() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.yaml");
    fs::write(&file, kustomization("app", "True", "applied")).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let watch = format!("kubectl --cache-dir {} get fxr -n apps -w", cache.path().display());
    let snapshot = folder.path().to_str().unwrap();
    let mut child = gatehouse(&["demo", "--snapshot", snapshot, "--", "sh", "-c", &format!("exec {watch}")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = lines(&mut child);
    wait_for(&lines, |line| line.contains("Ready") && line.contains("applied"));
    fs::write(&file, kustomization("app", "False", "it broke")).unwrap();
    wait_for(&lines, |line| line.contains("Failed") && line.contains("it broke"));
    terminate(&mut child);
}

#[test]
fn without_a_command_it_prints_the_tables_and_serves_until_it_is_ended() {
    let mut child = gatehouse(&["demo"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = lines(&mut child);
    wait_for(&lines, |line| line.starts_with("NAMESPACE") && line.contains("WORST"));
    wait_for(&lines, |line| line.contains("HEALTH"));
    wait_for(&lines, |line| line.contains("CAPACITY"));
    wait_for(&lines, |line| line.contains("TIGHTEST"));
    assert!(terminate(&mut child).success(), "it ends in good order");
}

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
    let said = text(&output.stderr);
    let line = broken.lines().count();
    assert!(
        said.contains(&format!("broken.yaml:{line}")) || said.contains(&format!("broken.yaml:{}", line + 1)),
        "the file and line in {said}"
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
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(path.to_str().unwrap()) && said.contains(complaint), "{said}");
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
    let (shown, said) = (ok(&output), text(&output.stderr));
    assert!(shown.contains("good") && !shown.contains("locked"), "{shown}");
    assert!(said.contains("locked.yaml: cannot be read"), "{said}");
    open(&folder, 0);
    let refused = demo();
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("{} cannot be read", folder.display())), "{said}");
    open(&folder, 0o755);
}

#[test]
fn the_exported_example_can_be_served_and_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("example");
    let target = target.to_str().unwrap();
    ok(&gatehouse(&["demo", "--export", target]).output().unwrap());
    let shown = ok(&demo(&["--snapshot", target], "{} get chl"));
    assert!(shown.contains("Degraded"), "{shown}");
    let again = gatehouse(&["demo", "--export", target]).output().unwrap();
    assert!(!again.status.success() && text(&again.stderr).contains("is not empty"), "{again:?}");
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
fn a_catalogue_file_adds_a_kind_and_a_bad_one_is_refused_by_field() {
    let folder = tempfile::tempdir().unwrap();
    let manifests = folder.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    let widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w, namespace: apps}\nstatus: {phase: Broken}\n";
    fs::write(manifests.join("widget.yaml"), widget).unwrap();
    let catalogue = folder.path().join("kinds.yaml");
    let kinds = |failed: &str| {
        format!(
            "kinds:\n  - group: example.com\n    kind: Widget\n    plural: widgets\n    layer: Data\n    \
             failed: \"{failed}\"\n    current: \"status.phase == 'Running'\"\n"
        )
    };
    let flags = ["--snapshot", manifests.to_str().unwrap(), "--catalogue-file", catalogue.to_str().unwrap()];
    fs::write(&catalogue, kinds("status.phase == 'Broken'")).unwrap();
    let shown = ok(&demo(&flags, "{} get chl"));
    assert!(shown.contains("Data: 1 failed"), "{shown}");
    fs::write(&catalogue, kinds("status.phase ==")).unwrap();
    let refused = demo(&flags, "echo served");
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("Widget") && said.contains("failed"), "{said}");
}

/// The lines of a child's output, as they come.
fn lines(child: &mut Child) -> mpsc::Receiver<String> {
    let output = BufReader::new(child.stdout.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn wait_for(lines: &mpsc::Receiver<String>, wanted: impl Fn(&str) -> bool) {
    let mut seen = Vec::new();
    while let Ok(line) = lines.recv_timeout(PATIENCE) {
        if wanted(&line) {
            return;
        }
        seen.push(line);
    }
    panic!("it did not come; there was only: {seen:#?}");
}

/// Asks a child to end, as a terminal or a service manager does.
fn terminate(child: &mut Child) -> std::process::ExitStatus {
    let sent = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
    child.wait().unwrap()
}
