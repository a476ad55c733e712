//! Defaults fill in what is absent, once, and never make Flux see a difference.

use std::sync::Arc;

use anyhow::ensure;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::gate::{
    AGONES, Gate, KNOWN, KUSTOMIZE, SIDES, Side, apply, fleet, kustomization, policy, with_file,
};
use crate::world::{World, settles};

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("gate_mutation::what_is_absent_is_filled_in_and_what_is_there_is_left", absent_only),
        world.guarded("gate_mutation::applying_again_changes_nothing", idempotent),
        world.guarded("gate_mutation::flux_sees_no_drift", no_drift),
        world.guarded("gate_mutation::the_first_policy_by_name_wins", first_wins),
        world.guarded("gate_mutation::game_servers_get_their_resources", game_servers),
    ]
}

fn defaults() -> Value {
    json!({
        "timeout": "5m", "retryInterval": "2m", "serviceAccountName": "flux-tenant",
        "labels": {"gatehouse.dev/managed": "true"},
        "gameServerResources": {"requests": {"cpu": "250m", "memory": "128Mi"}},
    })
}

/// A namespace with these defaults in force.
async fn with_defaults(gate: &Gate, namespace: &str) -> anyhow::Result<()> {
    gate.namespace(namespace).await?;
    gate.put(&policy(namespace, json!({"defaults": defaults()}))).await?;
    let review = crate::gate::creation(namespace, &bare(namespace, "probe"));
    for replica in &gate.replicas {
        let ask = || replica.post("/mutate", &review);
        settles("defaults are filled in", KNOWN, ask, |answer| answer.body["response"]["patch"].is_string())
            .await?;
    }
    Ok(())
}

/// A Kustomization that says nothing of what has a default.
fn bare(namespace: &str, name: &str) -> Value {
    kustomization(namespace, name, json!({"timeout": null}))
}

fn path(namespace: &str, name: &str) -> String {
    format!("{KUSTOMIZE}/namespaces/{namespace}/kustomizations/{name}")
}

async fn absent_only(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-defaults";
    with_defaults(&gate, namespace).await?;
    let kubectl = gate.kubectl()?;
    let mut printed = kustomization(namespace, "said", json!({"timeout": "1m", "serviceAccountName": "own"}));
    printed["metadata"]["labels"] = json!({"gatehouse.dev/managed": "false"});
    for side in SIDES {
        apply(&kubectl, side, &[bare(namespace, "bare"), printed.clone()], &[]).await?.ok()?;
    }
    let bare = gate.get(&path(namespace, "bare")).await?;
    ensure!(bare["spec"]["timeout"] == "5m" && bare["spec"]["retryInterval"] == "2m", "{bare:#}");
    ensure!(bare["spec"]["serviceAccountName"] == "flux-tenant", "{bare:#}");
    ensure!(bare["metadata"]["labels"]["gatehouse.dev/managed"] == "true", "{bare:#}");
    let printed = gate.get(&path(namespace, "said")).await?;
    ensure!(
        printed["spec"]["timeout"] == "1m" && printed["spec"]["serviceAccountName"] == "own",
        "{printed:#}"
    );
    ensure!(printed["metadata"]["labels"]["gatehouse.dev/managed"] == "false", "{printed:#}");
    ensure!(printed["spec"]["retryInterval"] == "2m", "{printed:#}");
    Ok(())
}

fn versions(object: &Value) -> [&Value; 2] {
    [&object["metadata"]["resourceVersion"], &object["metadata"]["generation"]]
}

async fn idempotent(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-idempotent";
    with_defaults(&gate, namespace).await?;
    let kubectl = gate.kubectl()?;
    for (side, name) in [(Side::Client, "client"), (Side::Server, "server")] {
        let objects = [bare(namespace, name), fleet(namespace, name, 1)];
        apply(&kubectl, side, &objects, &[]).await?.ok()?;
        // Upon the first server-side apply to a custom resource that it has made, kube-apiserver writes it once more,
        // whether or not anybody admits anything.
        apply(&kubectl, side, &objects, &[]).await?.ok()?;
        let fleet_path = format!("{AGONES}/namespaces/{namespace}/fleets/{name}");
        let before = [gate.get(&path(namespace, name)).await?, gate.get(&fleet_path).await?];
        apply(&kubectl, side, &objects, &[]).await?.ok()?;
        let after = [gate.get(&path(namespace, name)).await?, gate.get(&fleet_path).await?];
        for (before, after) in before.iter().zip(&after) {
            ensure!(versions(before) == versions(after), "{side:?}: {before:#} became {after:#}");
        }
    }
    Ok(())
}

/// As kustomize-controller does it: what a server-side apply would make of the object is compared with what is there.
async fn no_drift(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-drift";
    with_defaults(&gate, namespace).await?;
    let kubectl = gate.kubectl()?;
    let manager = "--field-manager=kustomize-controller";
    let objects = [bare(namespace, "app"), fleet(namespace, "f", 1)];
    apply(&kubectl, Side::Server, &objects, &[manager]).await?.ok()?;
    let names = [
        (path(namespace, "app"), &objects[0]),
        (format!("{AGONES}/namespaces/{namespace}/fleets/f"), &objects[1]),
    ];
    for (path, object) in names {
        let there = gate.get(&path).await?;
        let dry_run = format!("{path}?fieldManager=kustomize-controller&force=true&dryRun=All");
        let body = object.to_string().into_bytes();
        let made = gate
            .caller
            .write(&http::Method::PATCH, &dry_run, "application/apply-patch+yaml", body)
            .await?
            .ok()?;
        let mut sides = [there, made];
        for object in &mut sides {
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
        }
        ensure!(sides[0] == sides[1], "{:#} would become {:#}", sides[0], sides[1]);
    }
    let args = ["diff", "--server-side", "--force-conflicts"];
    let diff = with_file(&kubectl, &args, &objects, &[manager]).await?;
    ensure!(diff.code == Some(0), "{}", diff.stdout);
    Ok(())
}

async fn first_wins(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-first-wins";
    with_defaults(&gate, namespace).await?;
    let mut second = policy(namespace, json!({"defaults": {"timeout": "7m", "labels": {"second": "too"}}}));
    second["metadata"]["name"] = json!("gate-first-wins-second");
    gate.put(&second).await?;
    let review = crate::gate::creation(namespace, &bare(namespace, "probe"));
    for replica in &gate.replicas {
        let ask = || replica.post("/mutate", &review);
        settles("both are known", KNOWN, ask, |answer| {
            let patch = answer.body["response"]["patch"].as_str().unwrap_or_default();
            // Base64, the length of which tells: the second policy adds a label.
            patch.len() > 400
                || patch.contains("c2Vjb25k")
                || patch.contains("NlY29uZ")
                || patch.contains("zZWNvbm")
        })
        .await?;
    }
    apply(&gate.kubectl()?, Side::Server, &[bare(namespace, "app")], &[]).await?.ok()?;
    let app = gate.get(&path(namespace, "app")).await?;
    ensure!(app["spec"]["timeout"] == "5m" && app["metadata"]["labels"]["second"] == "too", "{app:#}");
    Ok(())
}

async fn game_servers(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-game-defaults";
    with_defaults(&gate, namespace).await?;
    let kubectl = gate.kubectl()?;
    let pod = "/spec/template/spec/template/spec/containers/0/resources";
    let mut silent = fleet(namespace, "silent", 1);
    *silent.pointer_mut(pod).expect("resources") = json!({});
    let mut half = fleet(namespace, "half", 1);
    *half.pointer_mut(pod).expect("resources") = json!({"requests": {"cpu": "1"}});
    apply(&kubectl, Side::Server, &[silent, half], &[]).await?.ok()?;
    for (name, cpu) in [("silent", "250m"), ("half", "1")] {
        let fleet = gate.get(&format!("{AGONES}/namespaces/{namespace}/fleets/{name}")).await?;
        let requests = &fleet.pointer(pod).expect("resources")["requests"];
        ensure!(requests["cpu"] == cpu && requests["memory"] == "128Mi", "{name}: {requests:#}");
    }
    Ok(())
}
