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

mod folders;
mod plugin;

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
    let health = |cluster: &str| {
        let name = format!("clusterhealth.view.gatehouse.dev/{cluster} ");
        let line = shown.lines().find(|line| line.contains(&name)).unwrap_or_else(|| panic!("{shown}"));
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(["local", "prod-eu", "prod-us"].map(health), ["Degraded", "Degraded", "Unknown"]);
}

#[test]
fn a_cluster_of_the_example_does_not_answer_and_its_last_state_is_shown() {
    let shown =
        ok(&demo(&[], "{} get chl prod-us -o json; {} get fxr -n shop -l gatehouse.dev/cluster=prod-us"));
    let (health, resources) = shown.split_once("\n}\n").unwrap();
    let health: serde_json::Value = serde_json::from_str(&format!("{health}}}")).unwrap();
    let conditions = health["status"]["conditions"].as_array().unwrap();
    for (kind, status, reason) in [
        ("Registered", "True", "Accepted"),
        ("Reachable", "False", "Silent"),
        ("Fresh", "False", "ClusterSilent"),
    ] {
        let found = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
        assert_eq!((&found["status"], &found["reason"]), (&status.into(), &reason.into()), "{found}");
    }
    assert!(health["status"]["lastHeardTime"].is_string(), "{health:#}");
    assert_eq!(row(resources, "prod-us.kustomization.storefront")[3], "Ready");
    let wide = ok(&demo(&[], "{} get chl -o wide"));
    assert!(row(&wide, "NAME").ends_with(&["LAST-HEARD", "CREDENTIAL-EXPIRES"]), "{wide}");
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
    // A fleet whose servers show in it alone, and a set of OpenKruiseGame's with a server in use.
    assert_eq!(row(&shown, "games-eu"), ["games-eu", "local", "2", "13", "4", "6", "1", "61", "160"]);
    // A fleet, a server that stands alone, and one of Pteronimbus, which reports players and no capacity.
    assert_eq!(row(&shown, "games-us"), ["games-us", "local", "1", "8", "5", "2", "0", "26", "112"]);
    assert_eq!(shown.lines().count(), 3, "{shown}");

    let wide = ok(&demo(&[], "{} get gsv -A -o wide"));
    let eu = row(&wide, "games-eu");
    assert!(eu.contains(&"agones,kruise") && wide.contains("Fleet/arena-eu Failed"), "{wide}");
    assert!(row(&wide, "games-us").contains(&"agones,pteronimbus"), "{wide}");
    assert!(row(&wide, "NAMESPACE").ends_with(&["ENGINES", "OLDEST-FAILURE", "WORST", "FRESH"]), "{wide}");
}

#[test]
fn fleets_are_told_by_engine_with_what_their_servers_tell() {
    let shown = ok(&demo(&[], "{} get gfl -A"));
    let headings =
        ["NAMESPACE", "NAME", "ENGINE", "DESIRED", "READY", "ALLOCATED", "PLAYERS", "CAPACITY", "STATE"];
    assert_eq!(row(&shown, "NAMESPACE"), headings);
    let rows: Vec<Vec<_>> = shown.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows,
        [
            vec!["games-eu", "local.agones.arena-eu", "agones", "10", "3", "5", "61", "160", "Failed"],
            // One of its servers is in use and one under maintenance; no server tells its players.
            vec!["games-eu", "local.kruise.survival", "kruise", "3", "1", "1", "Progressing"],
            vec!["games-us", "local.agones.arena-us", "agones", "6", "4", "2", "19", "96", "Ready"],
        ],
        "{shown}"
    );
    let failed =
        ok(&demo(&[], "{} get gfl -A --field-selector status.state=Failed,status.engine=agones -o name"));
    assert_eq!(failed.trim(), "gamefleet.view.gatehouse.dev/local.agones.arena-eu");
}

#[test]
fn servers_are_told_with_their_address_players_and_uptime() {
    let shown = ok(&demo(&[], "{} get gin -A"));
    let headings = ["NAMESPACE", "NAME", "FLEET", "STATE", "PHASE", "ADDRESS", "PLAYERS", "UPTIME"];
    assert_eq!(row(&shown, "NAMESPACE"), headings);
    let rows: Vec<Vec<_>> =
        shown.lines().skip(1).map(|line| line.split_whitespace().skip(1).collect()).collect();
    for expected in [
        [
            "local.agones.arena-eu-x7k2p-9m2fz",
            "arena-eu",
            "Ready",
            "Allocated",
            "192.0.2.12:7102",
            "14",
            "5h",
        ]
        .to_vec(),
        ["local.agones.tournament-final", "Ready", "Reserved", "192.0.2.12:7105", "0", "5h"].to_vec(),
        ["local.kruise.survival-1", "survival", "Ready", "Allocated", "192.0.2.21:30101", "4d"].to_vec(),
        ["local.kruise.survival-2", "survival", "Suspended", "NotReady", "192.0.2.22:30102", "120m"].to_vec(),
        ["local.pteronimbus.community-creative", "Ready", "Running", "7", "2d23h"].to_vec(),
    ] {
        assert!(rows.contains(&expected), "{expected:?} is missing in:\n{shown}");
    }
    assert_eq!(rows.len(), 9, "{shown}");
}

#[test]
fn applications_are_told_with_drift_apart_from_failure() {
    let shown = ok(&demo(&[], "{} get aap -A"));
    let headings = [
        "NAMESPACE",
        "NAME",
        "PROJECT",
        "SYNC",
        "HEALTH",
        "STATE",
        "REVISION",
        "DESTINATION",
        "CAUSE",
        "MESSAGE",
    ];
    assert_eq!(row(&shown, "NAMESPACE"), headings);
    let line = |name: &str| {
        let line = shown.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{shown}"));
        line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ")
    };
    let metabase = "default Synced Healthy Ready 3f6c1d0a in-cluster/team-b";
    assert_eq!(line("metabase"), metabase);
    let bridge = "default Synced Degraded Failed 3f6c1d0a in-cluster/team-a \
                  Deployment/team-a/payments-bridge Degraded Deployment \"payments-bridge\" exceeded";
    assert!(line("payments-bridge").starts_with(bridge), "{shown}");
    let drifted = "default OutOfSync Healthy Suspended 3f6c1d0a in-cluster/team-a OutOfSync it differs";
    assert!(line("landing-page").starts_with(drifted), "{shown}");
    let summaries = ok(&demo(&[], "{} get aps -A"));
    let counts = ["argocd", "local", "4", "2", "1", "3", "1", "0", "2", "1"];
    assert!(row(&summaries, "argocd").starts_with(&counts), "{summaries}");
    let reports = line("reports");
    assert!(reports.contains("Unknown Healthy Failed") && reports.contains("ComparisonError"), "{shown}");
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
fn a_namespace_is_told_what_its_quota_leaves() {
    let shown =
        ok(&demo(&[], "{} get atq -n games-us; {} describe atq arena -n games-us; {} get atq -A -o name"));
    assert_eq!(row(&shown, "NAME"), ["NAME", "TIGHTEST", "LEFT", "USED-HERE", "LAST-DENIAL"]);
    assert!(shown.contains("gameservers 1, players 128, count/fleets 2,"), "{shown}");
    assert!(shown.contains("gameservers 8, players 112, count/fleets 1,"), "{shown}");
    assert!(!shown.contains("games-eu"), "no other namespace is named: {shown}");
    assert_eq!(
        shown.lines().filter(|line| line.starts_with("appliedtenantquota.view")).count(),
        3,
        "{shown}"
    );
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
    let printed = text(&refused.stderr);
    assert!(
        !refused.status.success() && printed.contains("Widget") && printed.contains("failed"),
        "{printed}"
    );
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
