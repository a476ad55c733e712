//! Authorization of views by the cluster's RBAC, through the aggregator and in direct requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use gatehouse_conformance::progress;
use http::StatusCode;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use libtest_mimic::Trial;

use crate::site::{API, Site};
use crate::world::{World, settles};

/// Decisions are cached for 10 s; the rest is a margin for a busy machine.
const FORGOTTEN: Duration = Duration::from_secs(20);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("access::a_right_that_is_taken_away_ends_within_the_cache_time", taken_away),
        world.shared("access::a_right_in_one_namespace_opens_that_namespace_alone", in_one_namespace),
        world.shared("access::refusals_are_worded_as_the_clusters_own", wording),
        world.shared("access::auth_can_i_answers_for_views", can_i),
        world.shared("access::right_to_one_name_opens_that_object_alone", one_name),
    ]
}

async fn in_one_namespace(site: Arc<Site>) -> anyhow::Result<()> {
    let user = "tenant-of-team-a";
    site.allow_in("team-a", user).await?;
    for kubectl in [site.kubectl_as(user)?, site.kubectl_direct_as(user)?] {
        let args = ["get", "fluxresources.v1alpha1.view.gatehouse.dev"];
        // Without access to discovery, kubectl would fail earlier.
        let own = kubectl.run(args.iter().chain(&["-n", "team-a", "-o", "name"])).await?.ok()?;
        ensure!(own.lines().count() > 3, "{own}");
        for elsewhere in [&["-n", "team-b"][..], &["-A"]] {
            let complaint = kubectl.run(args.iter().chain(elsewhere)).await?.failed()?;
            ensure!(complaint.contains("(Forbidden)") && complaint.contains(user), "{complaint}");
        }
    }

    let direct = site.direct_as(user, None).await?;
    let watch = "watch=true&timeoutSeconds=1";
    for path in ["/namespaces/team-a/fluxsummaries", "/namespaces/team-a/fluxsummaries/local"] {
        direct.get(&format!("{API}{path}")).await?.ok()?;
    }
    ensure!(
        direct.get(&format!("{API}/namespaces/team-a/fluxsummaries?{watch}")).await?.code == StatusCode::OK
    );
    for path in [
        "/namespaces/team-b/fluxsummaries".to_owned(),
        "/namespaces/team-b/fluxsummaries/local".to_owned(),
        format!("/namespaces/team-b/fluxsummaries?{watch}"),
        "/fluxsummaries?fieldSelector=metadata.namespace%3Dteam-a".to_owned(),
        format!("/fluxsummaries?{watch}"),
        "/clusterhealths".to_owned(),
    ] {
        direct.get(&format!("{API}{path}")).await?.refused(403, "Forbidden")?;
    }
    Ok(())
}

async fn wording(site: Arc<Site>) -> anyhow::Result<()> {
    let user = "nobody-who-may";
    let direct = site.direct_as(user, None).await?;
    let path = format!("{API}/namespaces/team-b/fluxsummaries");
    let answer = direct.get(&path).await?;
    let message = answer.refused(403, "Forbidden")?;
    let expected = format!(
        "fluxsummaries.view.gatehouse.dev is forbidden: User \"{user}\" cannot list resource \"fluxsummaries\" in \
         API group \"view.gatehouse.dev\" in the namespace \"team-b\""
    );
    ensure!(message.starts_with(&expected), "{message}");
    Ok(())
}

async fn can_i(site: Arc<Site>) -> anyhow::Result<()> {
    let user = "asks-first";
    site.allow_in("monitoring", user).await?;
    let kubectl = site.kubectl_as(user)?;
    for (verb, namespace, answer) in [
        ("list", "monitoring", "yes"),
        ("watch", "monitoring", "yes"),
        ("list", "velero", "no"),
        ("delete", "monitoring", "no"),
    ] {
        let args = ["auth", "can-i", verb, "fluxsummaries.view.gatehouse.dev", "-n", namespace];
        let printed = kubectl.run(args).await?.stdout;
        ensure!(printed.trim() == answer, "{verb} in {namespace}: {printed}");
    }
    Ok(())
}

/// `resourceNames` in a role also allows list and watch of that name.
async fn one_name(site: Arc<Site>) -> anyhow::Result<()> {
    let user = "reads-one-name";
    let metadata = serde_json::json!({"name": user, "namespace": "team-b"});
    let named =
        |kind: &str| serde_json::json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": user});
    site.apply([
        serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
            "rules": [{
                "apiGroups": ["view.gatehouse.dev"], "resources": ["fluxresources"],
                "resourceNames": ["local.helmrelease.warehouse"], "verbs": ["get", "list", "watch"],
            }],
        }),
        serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": named("Role"), "subjects": [named("User")],
        }),
    ])
    .await?;
    let direct = site.direct_as(user, None).await?;
    let base = format!("{API}/namespaces/team-b/fluxresources");
    direct.get(&format!("{base}/local.helmrelease.warehouse")).await?.ok()?;
    let selected = format!("{base}?fieldSelector=metadata.name%3Dlocal.helmrelease.warehouse");
    let list = direct.get(&selected).await?.ok()?;
    ensure!(list["items"].as_array().is_some_and(|items| items.len() == 1), "{list:#}");
    direct.get(&base).await?.refused(403, "Forbidden")?;
    direct.get(&format!("{base}/local.kustomization.reports")).await?.refused(403, "Forbidden")?;
    Ok(())
}

async fn taken_away(site: Arc<Site>) -> anyhow::Result<()> {
    let user = "leaves-team-b";
    site.allow_in("team-b", user).await?;
    let (kubectl, direct) = (site.kubectl_as(user)?, site.direct_as(user, None).await?);
    let path = format!("{API}/namespaces/team-b/fluxsummaries");
    direct.get(&path).await?.ok()?;
    kubectl.run(["get", "fxs", "-n", "team-b"]).await?.ok()?;

    let bindings: Api<RoleBinding> = Api::namespaced(site.client.clone(), "team-b");
    bindings.delete(user, &kube::api::DeleteParams::default()).await?;
    let taken = Instant::now();
    let refused = settles(
        "the user is refused",
        FORGOTTEN,
        || direct.get(&path),
        |answer| answer.code == StatusCode::FORBIDDEN,
    );
    refused.await?.refused(403, "Forbidden")?;
    progress::say(format_args!("a right taken away ended after {:.1} s", taken.elapsed().as_secs_f32()));
    kubectl.run(["get", "fxs", "-n", "team-b"]).await?.failed()?;
    Ok(())
}
