//! The kubectl plugin, as kubectl runs it, through kube-apiserver.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_conformance::gatehouse;
use gatehouse_conformance::kubectl::{Kubectl, Output};
use gatehouse_conformance::pace::patience;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::gate::{Gate, KNOWN, kustomization};
use crate::gate_freezes::object;
use crate::site::{API, Site};
use crate::world::World;

const ROW: &str = "local.kustomization.app";
const REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
/// Far longer than any command takes.
const TIMEOUT: Duration = Duration::from_mins(1);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("plugin::kubectl_runs_it_and_reads_what_it_prints", by_kubectl),
        world.shared("plugin::a_chain_is_shown_as_far_as_rights_reach", with_few_rights),
        world.shared("plugin::a_refusal_reads_as_kubectl_s_own", refused),
        world.shared("plugin::kubectl_completes_with_the_rights_of_its_user", completed),
        world.guarded("plugin::reconcile_waits_for_its_own_request", reconciled),
        world.guarded("plugin::suspend_and_resume_need_no_patch", suspended),
    ]
}

/// kubectl with the plugin on its PATH.
pub(crate) struct Plugin {
    bin: TempDir,
}

impl Plugin {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let bin = tempfile::Builder::new().prefix("gatehouse-plugin-").tempdir()?;
        let executable = std::path::absolute(gatehouse::executable().await?)?;
        for name in ["kubectl-gatehouse", "kubectl_complete-gatehouse"] {
            std::os::unix::fs::symlink(&executable, bin.path().join(name))?;
        }
        Ok(Self { bin })
    }

    /// Runs `kubectl ARGS` to its end, as the user of a kubeconfig.
    pub(crate) async fn run(&self, kubeconfig: &Path, args: &str) -> anyhow::Result<Output> {
        let program = std::env::var_os("KUBECTL").unwrap_or_else(|| "kubectl".into());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = [self.bin.path().to_owned()].into_iter().chain(std::env::split_paths(&path));
        let command = format!("kubectl {args}");
        let mut child = Command::new(program);
        child.args(args.split(' ')).env("KUBECONFIG", kubeconfig).env("PATH", std::env::join_paths(path)?);
        let running = child.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(patience(TIMEOUT), running).await.context(command.clone())??;
        Ok(Output {
            command,
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        })
    }
}

async fn by_kubectl(site: Arc<Site>) -> anyhow::Result<()> {
    let plugin = Plugin::new().await?;
    let admin = site.control_plane.kubeconfig();
    let chain = plugin.run(admin, "gatehouse why ks/apps -n flux-system").await?.ok()?;
    let links: Vec<&str> = chain.lines().filter(|line| line.starts_with('↳')).collect();
    ensure!(links.len() == 3 && links[2].contains("GitRepository/flux-system/storage: Failing"), "{chain}");

    // What it prints for programs, kubectl reads.
    let list = plugin.run(admin, "gatehouse why ks/apps -n flux-system -o yaml").await?.ok()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("list.yaml");
    std::fs::write(&file, list)?;
    let get = ["get", "-o", "json", "-f"].map(Into::into).into_iter().chain([file.into_os_string()]);
    let read: Value = serde_json::from_str(&site.kubectl()?.run(get).await?.ok()?)?;
    ensure!(read["items"].as_array().is_some_and(|items| items.len() == 4), "{read:#}");

    let clusters = plugin.run(admin, "gatehouse clusters").await?.ok()?;
    ensure!(clusters == site.kubectl()?.run(["get", "clusterhealths"]).await?.ok()?, "{clusters}");
    let quota = plugin.run(admin, "gatehouse quota team-b -n team-b --exit-code").await?;
    ensure!(quota.code == Some(3) && quota.stdout.contains("133%"), "{quota:?}");
    Ok(())
}

async fn with_few_rights(site: Arc<Site>) -> anyhow::Result<()> {
    let plugin = Plugin::new().await?;
    let user = "follows-a-chain";
    site.allow_in("team-b", user).await?;
    let kubeconfig = site.control_plane.kubeconfig_for(user, None)?;
    let chain = plugin.run(&kubeconfig, "gatehouse why ks/reports -n team-b").await?.ok()?;
    let lines: Vec<&str> = chain.lines().collect();
    ensure!(lines[0].starts_with("Kustomization/team-b/reports: Blocked"), "{chain}");
    // The row of the user's own object names what others stand for; their rows are not read.
    ensure!(chain.contains("you may not get fluxresources in namespace flux-system"), "{chain}");
    let tree = plugin.run(&kubeconfig, "gatehouse tree ks/reports -n team-b").await?.ok()?;
    ensure!(tree.contains("Kustomization/flux-system/platform  (forbidden)"), "{tree}");
    Ok(())
}

async fn refused(site: Arc<Site>) -> anyhow::Result<()> {
    let plugin = Plugin::new().await?;
    let user = "may-not-read";
    let kubeconfig = site.control_plane.kubeconfig_for(user, None)?;
    let row = "local.kustomization.apps";
    let of_kubectl = Kubectl::new(&kubeconfig)?.run(["get", "fxr", row, "-n", "flux-system"]).await?;
    let of_plugin = plugin.run(&kubeconfig, "gatehouse why ks/apps -n flux-system").await?;
    ensure!(of_plugin.code == Some(1) && of_plugin.stdout.is_empty(), "{of_plugin:?}");
    ensure!(of_plugin.stderr == of_kubectl.stderr, "{of_plugin:?} is not {of_kubectl:?}");

    // The administrator, as that user.
    let admin = site.control_plane.kubeconfig();
    let command = format!("gatehouse why ks/apps -n flux-system --as {user}");
    let acting = plugin.run(admin, &command).await?;
    ensure!(acting.stderr == of_kubectl.stderr, "{acting:?}");
    let command = format!("gatehouse why ks/apps -n flux-system --as {user} --as-group system:masters");
    plugin.run(admin, &command).await?.ok()?;

    // Nothing found in a cluster that is not there would read as a cluster without failures.
    for command in ["why", "tree", "suspend --all", "reconcile --all"] {
        let output = plugin.run(admin, &format!("gatehouse {command} -A --cluster-name typo")).await?;
        let told =
            output.code == Some(1) && output.stderr.contains("no cluster is observed by the name \"typo\"");
        ensure!(told, "{output:?}");
    }
    Ok(())
}

async fn completed(site: Arc<Site>) -> anyhow::Result<()> {
    let plugin = Plugin::new().await?;
    let words = "__complete gatehouse why -n team-b ks/rep";
    let answer = plugin.run(site.control_plane.kubeconfig(), words).await?.ok()?;
    ensure!(answer == "ks/reports\tBlocked\n:4\n", "{answer}");
    let stranger = site.control_plane.kubeconfig_for("completes-nothing", None)?;
    let answer = plugin.run(&stranger, words).await?.ok()?;
    ensure!(answer == ":4\n", "{answer}");
    Ok(())
}

/// A namespace with a Kustomization `app` and an operator of it, and the operator's kubeconfig.
async fn with_operator(gate: &Gate, namespace: &str) -> anyhow::Result<PathBuf> {
    let user = namespace;
    gate.namespace(namespace).await?;
    gate.put(&kustomization(namespace, "app", json!({}))).await?;
    gate.site.allow_in(namespace, user).await?;
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
        "metadata": {"namespace": namespace, "name": "operator"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "gatehouse-actions-operator"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    });
    gate.put(&binding).await?;
    gate.becomes(&format!("{API}/namespaces/{namespace}/fluxresources/{ROW}"), KNOWN, |row| {
        row["status"]["state"].is_string()
    })
    .await?;
    gate.site.control_plane.kubeconfig_for(user, None)
}

/// Plays the controller: handles the next request, and records an outcome with it.
async fn handle(gate: &Gate, namespace: &str, before: &Value, ready: bool) -> anyhow::Result<Value> {
    let requested = |app: &Value| app["metadata"]["annotations"][REQUESTED_AT].clone();
    let app = object(namespace, "app");
    let app =
        gate.becomes(&app, KNOWN, |app| requested(app).is_string() && requested(app) != *before).await?;
    let token = requested(&app);
    let (status, reason) = if ready { ("True", "ReconciliationSucceeded") } else { ("False", "BuildFailed") };
    let status = json!({"status": {
        "observedGeneration": app["metadata"]["generation"], "lastHandledReconcileAt": token,
        "lastAppliedRevision": "main@sha1:3f6c1d0a",
        "conditions": [{
            "type": "Ready", "status": status, "reason": reason, "message": "what the controller says",
            "observedGeneration": app["metadata"]["generation"], "lastTransitionTime": "2026-11-21T08:40:40Z",
        }],
    }});
    let (patch, kubectl) = (status.to_string(), gate.kubectl()?);
    let patch = [
        "patch",
        "kustomization",
        "app",
        "-n",
        namespace,
        "--subresource=status",
        "--type=merge",
        "-p",
        &patch,
    ];
    kubectl.run(patch).await?.ok()?;
    Ok(token)
}

async fn reconciled(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "plugin-reconciles";
    let kubeconfig = with_operator(&gate, namespace).await?;
    let plugin = Plugin::new().await?;
    let command = format!("gatehouse reconcile ks/app -n {namespace} --wait --reason pushed");
    let run = async || plugin.run(&kubeconfig, &command).await;
    let (output, token) = tokio::try_join!(run(), handle(&gate, namespace, &Value::Null, true))?;
    let object = "kustomization.kustomize.toolkit.fluxcd.io/app";
    let printed = format!("{object} reconciliation requested\n{object} reconciled at main@sha1:3f6c1d0a\n");
    ensure!(output.code == Some(0) && output.stdout == printed, "{output:?}");

    // Ready from before is not ready now.
    let (output, _) = tokio::try_join!(run(), handle(&gate, namespace, &token, false))?;
    ensure!(output.code == Some(3), "{output:?}");
    ensure!(output.stderr.contains("BuildFailed: what the controller says"), "{output:?}");

    let nobody = gate.site.control_plane.kubeconfig_for("plugin-nobody", None)?;
    let output = plugin.run(&nobody, &command).await?;
    let refused = "Error from server (Forbidden): fluxresources.view.gatehouse.dev";
    ensure!(output.code == Some(1) && output.stderr.starts_with(refused), "{output:?}");
    let dry = plugin.run(&kubeconfig, &format!("{command} --dry-run=server")).await?.ok()?;
    ensure!(dry == format!("{object} reconciliation requested (server dry run)\n"), "{dry}");
    Ok(())
}

async fn suspended(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "plugin-suspends";
    let kubeconfig = with_operator(&gate, namespace).await?;
    let plugin = Plugin::new().await?;
    let run = async |command: &str| {
        plugin.run(&kubeconfig, &format!("gatehouse {command} ks/app -n {namespace}")).await
    };
    let printed = run("suspend --reason migration --until 1h").await?.ok()?;
    ensure!(printed.contains("suspended until "), "{printed}");
    let app = gate.get(&object(namespace, "app")).await?;
    ensure!(app["spec"]["suspend"] == true, "{app:#}");
    ensure!(app["metadata"]["annotations"]["gatehouse.dev/suspend-reason"] == "migration", "{app:#}");

    let output = run("reconcile").await?;
    let refused = "Error from server (Conflict): ";
    ensure!(output.code == Some(1) && output.stderr.starts_with(refused), "{output:?}");
    let dry = run("resume --dry-run=server").await?.ok()?;
    ensure!(dry.ends_with("resumed (server dry run)\n"), "{dry}");
    let app = gate.get(&object(namespace, "app")).await?;
    ensure!(app["spec"]["suspend"] == true, "a dry run has written: {app:#}");
    run("resume").await?.ok()?;
    let app = gate.get(&object(namespace, "app")).await?;
    ensure!(app["spec"].get("suspend").is_none(), "{app:#}");

    // Where nothing is there to act on, both say so.
    let admin = gate.site.control_plane.kubeconfig();
    for command in ["reconcile", "suspend"] {
        let printed = plugin.run(admin, &format!("gatehouse {command} --all -n kube-public")).await?.ok()?;
        ensure!(printed == format!("Nothing to {command}\n"), "{printed}");
    }
    let nothing = plugin.run(admin, &format!("gatehouse suspend -n {namespace}")).await?;
    let missing = nothing.code == Some(2) && nothing.stderr.contains("<KIND/NAME|--all|--state <STATE>>");
    ensure!(missing, "{nothing:?}");
    Ok(())
}
