//! A permission that Gatehouse's own account lacks makes a kind unknown. It never counts as zero, and hides nothing
//! else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::cluster_role;
use gatehouse_conformance::gatehouse::{Gatehouse, Options};
use gatehouse_conformance::{progress, registration};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::site::{API, Site};
use crate::world::{World, settles};

/// A forbidden kind is retried after a minute at most.
const TRIED_AGAIN: Duration = Duration::from_secs(90);

const KIND: (&str, &str) = ("kustomize.toolkit.fluxcd.io", "kustomizations");

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world
            .shared("rights::missing_right_is_told_and_a_granted_one_needs_no_restart", missing_then_granted),
        world.shared("rights::the_account_may_read_what_is_summarised_and_nothing_else", least),
    ]
}

fn is_kind(kind: &Value) -> bool {
    kind["kind"] == "Kustomization"
}

/// The `observed` status of the kind in clusterhealths, and the health of its layer.
fn reported(health: &Value) -> Option<(String, String)> {
    let layers = health["status"]["layers"].as_array()?;
    let flux = layers.iter().find(|layer| layer["name"] == "Flux")?;
    let kind = flux["kinds"].as_array()?.iter().find(|kind| is_kind(kind))?;
    Some((kind["observed"].as_str()?.to_owned(), flux["health"].as_str()?.to_owned()))
}

fn unreadable(summary: &Value) -> Option<&Value> {
    summary["status"]["unreadable"].as_array()?.iter().find(|kind| is_kind(kind))
}

fn counted(summary: &Value) -> Option<u64> {
    let kind = summary["status"]["kinds"].as_array()?.iter().find(|kind| is_kind(kind))?;
    kind["total"].as_u64()
}

async fn missing_then_granted(site: Arc<Site>) -> anyhow::Result<()> {
    let user = "gatehouse-with-one-right-less";
    let all = registration::kinds();
    let less = all.iter().filter(|(group, plural)| (group.as_str(), plural.as_str()) != KIND).cloned();
    site.apply([cluster_role(user, less)]).await?;
    site.apply(bindings(user)).await?;

    let options = Options {
        name: Some("gatehouse-less".to_owned()),
        kubeconfig: Some(site.control_plane.kubeconfig_for(user, None)?),
        ..site.options.clone()
    };
    let gatehouse = Gatehouse::start(&site.control_plane, &options).await?;
    let kubeconfig = gatehouse.kubeconfig_for(&site.control_plane, "root", Some("system:masters"))?;
    let caller = Caller::of_kubeconfig(&kubeconfig).await?;
    let health = async || caller.get(&format!("{API}/clusterhealths/local")).await?.ok();
    let path = format!("{API}/namespaces/flux-system/fluxsummaries/local");
    let summary = async || caller.get(&path).await?.ok();

    let now = settles("it has heard of the kind", Duration::from_secs(20), &health, |health| {
        reported(health).is_some_and(|(observed, _)| observed != "Pending")
    });
    let now = now.await?;
    let (observed, _) = reported(&now).context("named")?;
    ensure!(observed == "Forbidden", "{now:#}");
    // Even if all other kinds are well, the health is not known.
    let condition = now["status"]["conditions"].as_array().into_iter().flatten();
    ensure!(condition.into_iter().any(|one| one["type"] == "Healthy" && one["status"] != "True"), "{now:#}");
    let now = summary().await?;
    let why = unreadable(&now).with_context(|| format!("{now:#}"))?;
    ensure!(why["reason"] == "Forbidden", "{now:#}");
    let message = why["message"].as_str().unwrap_or_default();
    ensure!(message.contains(user) && message.contains("kustomizations"), "{now:#}");
    ensure!(counted(&now).is_none() && now["status"]["total"].as_u64() > Some(3), "{now:#}");

    site.apply([cluster_role(user, all)]).await?;
    let granted = Instant::now();
    let now =
        settles("the kind is read", TRIED_AGAIN, &summary, |summary| unreadable(summary).is_none()).await?;
    ensure!(counted(&now) == Some(5), "{now:#}");
    progress::say(format_args!("a granted right took effect after {:.0} s", granted.elapsed().as_secs_f32()));
    let watched = |health: &Value| reported(health).is_some_and(|(observed, _)| observed == "Watched");
    settles("and said to be", Duration::from_secs(10), &health, watched).await?;
    Ok(())
}

/// The bindings of `gatehouse_apiservice::registration`, for a user instead of the service account.
fn bindings(user: &str) -> Vec<Value> {
    let api = "rbac.authorization.k8s.io";
    let subjects = json!([{"apiGroup": api, "kind": "User", "name": user}]);
    let cluster = |name: &str, role: &str| {
        json!({
            "apiVersion": format!("{api}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": role}, "subjects": subjects,
        })
    };
    let reader = json!({
        "apiVersion": format!("{api}/v1"), "kind": "RoleBinding",
        "metadata": {"name": user, "namespace": "kube-system"},
        "roleRef": {"apiGroup": api, "kind": "Role", "name": "extension-apiserver-authentication-reader"},
        "subjects": subjects,
    });
    vec![cluster(user, user), cluster(&format!("{user}:auth"), "system:auth-delegator"), reader]
}

async fn least(site: Arc<Site>) -> anyhow::Result<()> {
    // The account of the site may act, too.
    let user = "gatehouse-without-actions";
    site.apply([cluster_role(user, registration::kinds())]).await?;
    site.apply(bindings(user)).await?;
    let kubectl = site.kubectl_as(user)?;
    for (verb, resource, answer) in [
        ("watch", "kustomizations.kustomize.toolkit.fluxcd.io", "yes"),
        ("watch", "customresourcedefinitions.apiextensions.k8s.io", "yes"),
        ("create", "subjectaccessreviews.authorization.k8s.io", "yes"),
        ("create", "tokenreviews.authentication.k8s.io", "yes"),
        ("get", "kustomizations.kustomize.toolkit.fluxcd.io", "no"),
        ("get", "secrets", "no"),
        ("list", "configmaps", "no"),
        ("list", "pods", "yes"),
        ("get", "pods/log", "no"),
        ("patch", "kustomizations.kustomize.toolkit.fluxcd.io", "no"),
        ("delete", "namespaces", "no"),
    ] {
        let printed = kubectl.run(["auth", "can-i", verb, resource, "-A"]).await?.stdout;
        ensure!(printed.trim() == answer, "{verb} {resource}: {printed}");
    }
    Ok(())
}
