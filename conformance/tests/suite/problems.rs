//! What kubectl shows of objects that are not well: the cause down to the container, live, under the rights of a
//! namespace.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::site::{Site, by_name};
use crate::world::World;

/// For a change of an object, on a busy machine.
const SHOWN: Duration = Duration::from_secs(20);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("problems::a_failed_release_is_explained_by_the_image_of_a_container", example),
        world.shared("problems::causes_are_selected_and_count_what_they_explain", causes),
        world.shared("problems::a_watch_follows_the_cause_until_it_is_gone", watched),
        world.shared("problems::a_namespace_is_all_that_its_user_sees", rights),
        world.shared("problems::an_application_leads_to_the_container_of_what_it_applied", application),
    ]
}

async fn example(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    let table = kubectl.run(["get", "problems", "-A"]).await?.ok()?;
    let heading = "NAMESPACE NAME LAYER OBJECT STATE SINCE CAUSE AFFECTS MANAGED-BY MESSAGE";
    let first = table.lines().next().unwrap_or_default();
    ensure!(first.split_whitespace().eq(heading.split(' ')), "{table}");
    let row = |name: &str| table.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
    let release = row("local.helmrelease.checkout").unwrap_or_default();
    ensure!(
        release.contains("Pod/team-a/checkout-6c4f9b7d88-r4v8q ImagePullBackOff")
            && release
                .contains("container checkout: ImagePullBackOff: ghcr.io/example/checkout:4.0.0: not found"),
        "{table}"
    );
    let deployment = row("local.deployment.checkout").unwrap_or_default();
    ensure!(deployment.contains("HelmRelease/team-a/checkout"), "{table}");
    let debug = row("local.pod.debug").unwrap_or_default();
    ensure!(debug.contains("container debug: CrashLoopBackOff: exit code 137 (OOMKilled)"), "{table}");
    ensure!(!table.contains("local.pod.checkout"), "a pod is told by its owner:\n{table}");

    let get = ["get", "prb", "local.helmrelease.checkout", "-n", "team-a", "-o", "json"];
    let one: Value = serde_json::from_str(&kubectl.run(get).await?.ok()?)?;
    let path = json!([{"kind": "Deployment", "namespace": "team-a", "name": "checkout"}]);
    ensure!(one["status"]["path"] == path && one["status"]["isCause"] == false, "{one:#}");
    let described =
        kubectl.run(["describe", "prb", "local.helmrelease.checkout", "-n", "team-a"]).await?.ok()?;
    ensure!(described.contains("ImagePullBackOff"), "{described}");
    Ok(())
}

async fn causes(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    let get = async |selector: &str| {
        let args = ["get", "problems", "-n", "team-a", "-o", "json", "--field-selector", selector];
        anyhow::Ok(serde_json::from_str::<Value>(&kubectl.run(args).await?.ok()?)?)
    };
    let names = |list: &Value| by_name(list).keys().map(|(_, name)| name.clone()).collect::<Vec<_>>();
    let (causes, others) = (get("status.isCause=true").await?, get("status.isCause=false").await?);
    ensure!(names(&causes).contains(&"local.deployment.checkout".to_owned()), "{causes:#}");
    ensure!(names(&others).contains(&"local.helmrelease.checkout".to_owned()), "{others:#}");
    let key = ("team-a".to_owned(), "local.deployment.checkout".to_owned());
    let affects = by_name(&causes)[&key]["status"]["affects"].as_u64();
    ensure!(affects.is_some_and(|affects| affects >= 1), "{causes:#}");
    let workloads = get("status.layer=Workloads,status.state=Failed,status.kind=Deployment").await?;
    ensure!(names(&workloads) == ["local.deployment.checkout"], "{workloads:#}");
    let refused = ["get", "problems", "-A", "--field-selector", "status.colour=red"];
    ensure!(kubectl.run(refused).await?.failed()?.contains("status.colour"));
    Ok(())
}

/// A Deployment whose rollout has failed.
fn deployment(namespace: &str) -> Value {
    let labels = json!({"app": "web"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": "web"},
        "spec": {"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web:1"}]},
        }},
        "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "unavailableReplicas": 1, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                "message": "ReplicaSet \"web-5d4\" has timed out progressing.", "lastTransitionTime": "2026-11-21T08:40:40Z"},
        ]},
    })
}

fn pod(namespace: &str, waiting: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": namespace, "name": "web-5d4-x2x4z", "labels": {"app": "web", "pod-template-hash": "5d4"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4", "controller": true,
                "uid": "5d0f9a52-6a0e-4d5e-9f7e-2b5a7d1c0e01"}],
        },
        "spec": {"containers": [{"name": "web", "image": "web:1"}]},
        "status": {"phase": "Pending", "containerStatuses": [{
            "name": "web", "image": "web:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": waiting, "message": "no"}},
        }]},
    })
}

async fn watched(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "problems-watch";
    site.apply([deployment(namespace)]).await?;
    let kubectl = site.kubectl()?;
    let mut watch = kubectl.watch(["get", "prb", "-n", namespace, "-w"])?;
    let shows = |words: &'static str| move |line: &str| line.contains(words);
    watch.line_where(Duration::from_secs(30), shows("has timed out progressing")).await?;
    let config = "CreateContainerConfigError";
    for (waiting, reason) in [("ErrImagePull", "ImagePullBackOff"), (config, config)] {
        site.apply([pod(namespace, waiting)]).await?;
        watch.line_where(SHOWN, shows(reason)).await?;
    }
    let delete = ["delete", "pod", "web-5d4-x2x4z", "-n", namespace, "--grace-period=0", "--force"];
    kubectl.run(delete).await?.ok()?;
    watch.line_where(SHOWN, shows("has timed out progressing")).await?;
    kubectl.run(["delete", "deployment", "web", "-n", namespace]).await?.ok()?;
    let gone = ["wait", "--for=delete", "--timeout=20s", "-n", namespace, "prb/local.deployment.web"];
    kubectl.run(gone).await?.ok()?;
    Ok(())
}

async fn rights(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "problems-rights";
    site.apply([deployment(namespace)]).await?;
    site.allow_in(namespace, "rita").await?;
    let rita = site.kubectl_as("rita")?;
    let wait = ["wait", "--for=create", "--timeout=20s", "-n", namespace, "prb/local.deployment.web"];
    rita.run(wait).await?.ok()?;
    let complaint = rita.run(["get", "prb", "-A"]).await?.failed()?;
    ensure!(complaint.contains("forbidden"), "{complaint}");
    Ok(())
}

/// Argo CD, since its version 3, does not write which of the resources is degraded.
async fn application(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "problems-argo";
    let resource = json!({"group": "apps", "version": "v1", "kind": "Deployment", "namespace": namespace, "name": "web",
        "status": "Synced"});
    let application = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
        "metadata": {"namespace": namespace, "name": "web"},
        "spec": {
            "project": "default", "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
            "source": {"repoURL": "https://git.example.com/web", "path": "."},
        },
        "status": {
            "sync": {"status": "Synced", "revision": "1.2.3"}, "health": {"status": "Degraded"},
            "resources": [resource],
            "history": [{"id": 0, "revision": "1.2.2", "deployedAt": "2026-11-21T08:40:40Z",
                "source": {"repoURL": "https://git.example.com/web"}}],
        },
    });
    site.apply([deployment(namespace), pod(namespace, "ErrImagePull"), application]).await?;
    let kubectl = site.kubectl()?;
    let row = ["prb/local.application.web", "-n", namespace];
    let cause = "--for=jsonpath={.status.cause.reason}=ImagePullBackOff";
    kubectl.run(["wait", "--for=create", "--timeout=20s", row[0], row[1], row[2]]).await?.ok()?;
    kubectl.run(["wait", cause, "--timeout=20s", row[0], row[1], row[2]]).await?.ok()?;
    let table = kubectl.run(["get", "prb", "-n", namespace]).await?.ok()?;
    let line = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    ensure!(line("local.application.web").contains("Pod/problems-argo/web-5d4-x2x4z"), "{table}");
    ensure!(line("local.deployment.web").contains("Application/problems-argo/web"), "{table}");
    let get = ["get", "aap", "local.application.web", "-n", namespace, "-o", "json"];
    let one: Value = serde_json::from_str(&kubectl.run(get).await?.ok()?)?;
    let status = &one["status"];
    ensure!(
        status["cause"]["kind"] == "Deployment"
            && status["lastGoodRevision"] == "1.2.2"
            && status["lastGoodSince"] == "2026-11-21T08:40:40Z",
        "{one:#}"
    );
    Ok(())
}
