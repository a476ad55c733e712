//! `mynamespaces` where RBAC is not the only authorizer: kube-apiserver also has ABAC, which allows what no binding does,
//! or a webhook, which stops answering.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::front::{Front, Identity};
use gatehouse_conformance::kubectl::Kubectl;
use gatehouse_fake_api::Reviews;
use libtest_mimic::Trial;
use serde_json::json;

use crate::my_namespaces::{KNOWN, binding, namespace, role, sees};
use crate::site::Site;
use crate::world::{World, settles};

const USER: &str = "abac-user";
const ALL: [&str; 3] = ["abac-a", "abac-b", "abac-c"];

const HOOKED: &str = "hook-user";
/// A watch goes on for a minute without answers. A review that hangs takes ten seconds.
const OUTAGE: Duration = Duration::from_mins(2);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.trial("my_authorizers::what_another_authorizer_allows_is_listed_by_a_label", another),
        world.trial("my_authorizers::what_cannot_be_decided_is_not_shown_and_ends_watches", silent),
    ]
}

/// With its own control plane, since its authorizers are fixed when it starts.
async fn another(_: Arc<ControlPlane>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let policies = folder.path().join("abac.jsonl");
    let policy = |user: &str, namespace: &str| {
        let spec = json!({
            "user": user, "namespace": namespace, "apiGroup": "view.gatehouse.dev", "resource": "fluxsummaries",
            "readonly": true,
        });
        json!({"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": spec})
    };
    let lines = [policy(USER, "abac-a"), policy(USER, "abac-b"), policy("abac-everywhere", "*")];
    std::fs::write(&policies, lines.map(|line| line.to_string()).join("\n"))?;
    // It has RBAC already.
    let flags = vec![
        "--authorization-mode=ABAC".to_owned(),
        format!("--authorization-policy-file={}", policies.display()),
    ];
    let control_plane =
        ControlPlane::start(&Options { api_server_flags: flags, ..Options::default() }).await?;
    let (site, mut gatehouse) = Site::with(Arc::new(control_plane), Vec::new()).await?;
    site.apply(ALL.map(namespace)).await?;

    let everywhere = site.kubectl_as("abac-everywhere")?;
    sees(&everywhere, &ALL, &ALL).await?;
    let kubectl = site.kubectl_as(USER)?;
    sees(&kubectl, &ALL, &[]).await?;
    found_by_name(&kubectl).await?;

    let mut watch = kubectl.watch(["get", "myns", "-w", "--output-watch-events"])?;
    // The role does not exist: RBAC grants nothing by it, with the label or without.
    let asks =
        |namespace, subject| binding("asks", Some(namespace), ("ClusterRole", "abac-not-there"), subject);
    let label = json!({"gatehouse.dev/ask-authorizer": "true"});
    let mut of_user = asks("abac-a", ("User", USER));
    site.apply([of_user.clone()]).await?;
    sees(&kubectl, &ALL, &[]).await?;
    of_user["metadata"]["labels"] = label.clone();
    site.apply([of_user]).await?;
    watch.line_where(KNOWN, |line| line.starts_with("ADDED") && line.contains("abac-a")).await?;
    let mut of_everybody = asks("abac-c", ("Group", "system:authenticated"));
    of_everybody["metadata"]["labels"] = label;
    site.apply([of_everybody]).await?;
    // Who is asked about and not allowed sees nothing by that.
    for (kubectl, expected) in [(site.kubectl_as("abac-nobody")?, &[][..]), (kubectl, &["abac-a"])] {
        sees(&kubectl, &ALL, expected).await?;
    }
    gatehouse.stop().await?;
    Ok(())
}

async fn found_by_name(kubectl: &Kubectl) -> anyhow::Result<()> {
    for namespace in ["abac-a", "abac-b"] {
        kubectl.run(["get", "myns", namespace]).await?.ok()?;
    }
    let hidden = kubectl.run(["get", "myns", "abac-c"]).await?.failed()?;
    ensure!(hidden.contains("NotFound"), "{hidden}");
    Ok(())
}

/// The webhook allows a namespace, hangs, and answers again.
async fn silent(_: Arc<ControlPlane>) -> anyhow::Result<()> {
    let (_, reviews) = Reviews::deciding(|spec| {
        let asked = &spec["resourceAttributes"];
        spec["user"] == HOOKED && asked["namespace"] == "hook-b" && asked["resource"] == "fluxsummaries"
    });
    let front = Front::start(&Identity::new()?, reviews, |_| {}).await?;
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("authorizer.kubeconfig");
    std::fs::write(&kubeconfig, front.kubeconfig().to_string())?;
    let flags = vec![
        "--authorization-mode=Webhook".to_owned(),
        format!("--authorization-webhook-config-file={}", kubeconfig.display()),
        "--authorization-webhook-version=v1".to_owned(),
        // Every review reaches it.
        "--authorization-webhook-cache-authorized-ttl=1ms".to_owned(),
        "--authorization-webhook-cache-unauthorized-ttl=1ms".to_owned(),
    ];
    let control_plane =
        ControlPlane::start(&Options { api_server_flags: flags, ..Options::default() }).await?;
    let (site, mut gatehouse) = Site::with(Arc::new(control_plane), Vec::new()).await?;
    let both = ["hook-a", "hook-b"];
    site.apply(both.map(namespace)).await?;
    let label = json!({"gatehouse.dev/ask-authorizer": "true"});
    let mut asks = binding("asks", Some("hook-b"), ("ClusterRole", "hook-not-there"), ("User", HOOKED));
    asks["metadata"]["labels"] = label;
    let lists = binding("lists", Some("hook-a"), ("ClusterRole", "hook-lister"), ("User", HOOKED));
    site.apply([role("hook-lister", None, &[]), lists, asks]).await?;

    let kubectl = site.kubectl_as(HOOKED)?;
    sees(&kubectl, &both, &both).await?;
    let mut watch = kubectl.watch(["get", "myns", "-w", "--output-watch-events"])?;
    watch.line_where(KNOWN, |line| line.contains("hook-b")).await?;

    front.answer(false);
    let list = async || kubectl.run(["get", "myns"]).await;
    let failed = settles("the list fails", OUTAGE, list, |output| output.code != Some(0)).await?;
    ensure!(failed.stderr.contains("ServiceUnavailable"), "{failed:?}");
    // It tells of no row that went, since nobody has taken the right away.
    let told = watch.line_where(OUTAGE, |line| line.starts_with("DELETED")).await;
    let end = told.err().context("a row was deleted")?;
    ensure!(format!("{end:#}").ends_with("ended"), "{end:#}");

    front.answer(true);
    let back = settles("the list works again", OUTAGE, list, |output| output.code == Some(0)).await?;
    ensure!(both.iter().all(|name| back.stdout.contains(name)), "{back:?}");
    gatehouse.stop().await?;
    Ok(())
}
