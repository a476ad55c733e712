//! Measures `gatehouse check` on large repositories: many small files, and definitions of which nothing is judged.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_conformance::process::Process;

use super::report::{Report, mebibytes, seconds};
use super::stats::float;

/// The targets on two cores, for both repositories.
const TIME_TARGET: f64 = 1.0;
const MEMORY_TARGET: u64 = 64 << 20;

/// How often the process is asked for its memory: it tells only while it runs.
const SAMPLING: Duration = Duration::from_millis(2);

/// Runs for each repository. The fastest counts, since others use the machine too.
const RUNS: usize = 5;

pub(super) fn measure(executable: &Path, report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("gatehouse-check-").tempdir()?;
    let policy = folder.path().join("policy.yaml");
    fs::write(&policy, POLICY)?;
    for (what, make, judged) in [
        ("10,100 files", files as fn(&Path) -> anyhow::Result<()>, 10_000),
        ("145 MB of CRDs", definitions, 0),
    ] {
        let root = folder.path().join("repository");
        make(&root)?;
        report.section(format!("gatehouse check, {what}"));
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push(run(executable, &root, &policy, judged)?);
        }
        fs::remove_dir_all(&root)?;
        let least = |of: fn(&Run) -> f64| runs.iter().map(of).fold(f64::INFINITY, f64::min);
        let (wall, peak) = (least(|run| run.wall), runs.iter().map(|run| run.peak).max().unwrap_or_default());
        let target = format!("≤ {}", seconds(TIME_TARGET));
        report.row_with_target("time", seconds(wall), target, wall <= TIME_TARGET);
        report.row("CPU", seconds(least(|run| run.cpu)));
        let target = format!("≤ {}", mebibytes(float(MEMORY_TARGET)));
        report.row_with_target("memory at most", mebibytes(float(peak)), target, peak <= MEMORY_TARGET);
    }
    Ok(())
}

struct Run {
    wall: f64,
    cpu: f64,
    peak: u64,
}

fn run(executable: &Path, root: &Path, policy: &Path, judged: usize) -> anyhow::Result<Run> {
    let mut command = Command::new(executable);
    command.args(["check", "-o", "json", "--policies"]).arg(policy).arg(root);
    let begin = Instant::now();
    let output = tempfile::tempfile()?;
    let mut child = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(Stdio::null()).spawn()?;
    let process = Process(child.id());
    let (mut cpu, mut peak) = (0.0, 0);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // It may have ended since.
        if let (Ok(used), Ok(memory)) = (process.cpu(), process.memory()) {
            (cpu, peak) = (used, memory.peak.max(peak));
        }
        std::thread::sleep(SAMPLING);
    };
    let wall = begin.elapsed().as_secs_f64();
    let mut output = output;
    std::io::Seek::rewind(&mut output)?;
    let report: serde_json::Value = serde_json::from_reader(std::io::BufReader::new(output))
        .with_context(|| format!("gatehouse check ended with {status}"))?;
    let found = &report["summary"]["judged"];
    ensure!(*found == judged, "{found} objects were judged, {judged} expected");
    Ok(Run { wall, cpu, peak })
}

const POLICY: &str = "\
apiVersion: policy.gatehouse.dev/v1alpha1
kind: ReconcilePolicy
metadata: {name: bench}
spec:
  rules:
    interval: {min: 1m, max: 1h}
    prune: Required
    crossNamespaceRefs: Forbid
    dependencyCycles: Forbid
    cel:
    - {name: short-timeout, kinds: [Kustomization], expression: \"object.spec.timeout <= '5m'\"}
";

/// A hundred kustomizations of a hundred Flux Kustomizations each.
fn files(root: &Path) -> anyhow::Result<()> {
    for tenant in 0..100 {
        let folder = root.join(format!("team-{tenant}"));
        fs::create_dir_all(&folder)?;
        let mut layer = format!("namespace: team-{tenant}\nresources:\n");
        for app in 0..100 {
            writeln!(layer, "- app-{app}.yaml")?;
            let interval = if app % 10 == 0 { "5s" } else { "10m" };
            let before = app.max(1) - 1;
            let object = format!(
                "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: app-{app}\n  labels:\n    \
                 app.kubernetes.io/name: app-{app}\n    app.kubernetes.io/part-of: team-{tenant}\nspec:\n  \
                 interval: {interval}\n  path: ./apps/app-{app}\n  prune: true\n  timeout: 3m\n  \
                 serviceAccountName: flux-team\n  sourceRef:\n    kind: GitRepository\n    name: team-{tenant}\n  \
                 dependsOn:\n  - name: app-{before}\n  healthChecks:\n  - apiVersion: apps/v1\n    \
                 kind: Deployment\n    name: app-{app}\n    namespace: team-{tenant}\n"
            );
            fs::write(folder.join(format!("app-{app}.yaml")), object)?;
        }
        fs::write(folder.join("kustomization.yaml"), layer)?;
    }
    Ok(())
}

/// Definitions of half a megabyte each.
fn definitions(root: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(root)?;
    let mut fields = String::new();
    for field in 0..2500 {
        let about =
            "A field of the specification, described at some length, so that it is as large as a real one.";
        write!(
            fields,
            "                  field{field}:\n                    description: {about}\n                    type: string\n"
        )?;
    }
    for number in 0..290 {
        let definition = format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  \
             name: things{number}.example.com\nspec:\n  group: example.com\n  names:\n    kind: Thing{number}\n    \
             plural: things{number}\n  scope: Namespaced\n  versions:\n  - name: v1\n    served: true\n    \
             storage: true\n    schema:\n      openAPIV3Schema:\n        type: object\n        properties:\n          \
             spec:\n            type: object\n            properties:\n              inner:\n                \
             type: object\n                properties:\n{fields}"
        );
        fs::write(root.join(format!("thing-{number}.yaml")), definition)?;
    }
    Ok(())
}
