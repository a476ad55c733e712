//! `mynamespaces`: each user sees the namespaces in which he may list fluxsummaries, through kubectl, while rights come
//! and go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use gatehouse_conformance::kubectl::Kubectl;
use gatehouse_conformance::pace::patience;
use gatehouse_conformance::progress;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::site::{API, Site, kustomization};
use crate::world::{World, settles};

/// The promised time, and a margin for a busy machine.
pub(crate) const KNOWN: Duration = Duration::from_secs(12);
const RBAC: &str = "rbac.authorization.k8s.io";

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("my_namespaces::each_user_sees_the_namespaces_he_may_see", own_rows),
        world.shared("my_namespaces::rows_come_and_go_with_rights_under_an_open_watch", come_and_go),
        world.shared("my_namespaces::what_another_user_was_given_shows_nothing", strangers),
        world.shared("my_namespaces::bindings_that_grant_nothing_show_nothing", bad_bindings),
    ]
}

pub(crate) fn namespace(name: &str) -> Value {
    let metadata = json!({"name": name, "labels": {"gatehouse.dev/tenant": "mns"}});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
}

pub(crate) fn role(name: &str, namespace: Option<&str>, names: &[&str]) -> Value {
    let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
    let mut rule =
        json!({"apiGroups": ["view.gatehouse.dev"], "resources": ["fluxsummaries"], "verbs": ["list"]});
    if !names.is_empty() {
        rule["resourceNames"] = json!(names);
    }
    let metadata = json!({"name": name, "namespace": namespace});
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": metadata, "rules": [rule]})
}

/// Binds a role to a user or group; without a namespace in the whole cluster.
pub(crate) fn binding(
    name: &str,
    namespace: Option<&str>,
    role: (&str, &str),
    subject: (&str, &str),
) -> Value {
    let kind = if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": RBAC, "kind": role.0, "name": role.1},
        "subjects": [{"apiGroup": RBAC, "kind": subject.0, "name": subject.1}],
    })
}

/// Deletes an object, by kubectl.
pub(crate) async fn delete(
    site: &Site,
    kind: &str,
    name: &str,
    namespace: Option<&str>,
) -> anyhow::Result<()> {
    let mut arguments = vec!["delete", kind, name, "--wait=false"];
    arguments.extend(namespace.iter().flat_map(|namespace| ["-n", namespace]));
    site.kubectl()?.run(arguments).await?.ok()?;
    Ok(())
}

/// The names that kubectl prints, of the namespaces of a trial.
async fn names(kubectl: &Kubectl, of: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let printed = kubectl.run(["get", "myns", "-o", "name"]).await?.ok()?;
    let names = printed.lines().filter_map(|line| line.strip_prefix("mynamespace.view.gatehouse.dev/"));
    Ok(names.filter(|name| of.contains(name)).map(ToOwned::to_owned).collect())
}

pub(crate) async fn sees(kubectl: &Kubectl, of: &[&str], expected: &[&str]) -> anyhow::Result<()> {
    let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
    let what = format!("{expected:?} are seen");
    let now = async || anyhow::Ok(names(kubectl, of).await?);
    settles(&what, KNOWN, &now, |names| *names == expected).await?;
    Ok(())
}

async fn own_rows(site: Arc<Site>) -> anyhow::Result<()> {
    let all = ["mns-a", "mns-b", "mns-c"];
    site.apply(all.map(namespace)).await?;
    site.apply([
        kustomization("mns-a", "good", Ok(())),
        kustomization("mns-a", "bad", Err("kustomize build failed")),
        role("mns-lister", None, &[]),
        // The controller writes the rules of an aggregated role into it, as here. `controllers::tenants` has the
        // controller.
        role("mns-aggregated", None, &[]),
        role("mns-named", Some("mns-a"), &["local"]),
        binding("mns-one", Some("mns-a"), ("ClusterRole", "mns-lister"), ("User", "mns-one")),
        binding("mns-many", Some("mns-a"), ("ClusterRole", "mns-lister"), ("User", "mns-many")),
        binding("mns-many", Some("mns-c"), ("ClusterRole", "mns-aggregated"), ("User", "mns-many")),
        binding("mns-group", Some("mns-b"), ("ClusterRole", "mns-lister"), ("Group", "mns-team")),
        binding("mns-named", Some("mns-a"), ("Role", "mns-named"), ("User", "mns-named")),
        binding("mns-all", None, ("ClusterRole", "mns-lister"), ("User", "mns-all")),
    ])
    .await?;
    let kubectl = |user: &str| site.kubectl_as(user);
    sees(&kubectl("mns-none")?, &all, &[]).await?;
    sees(&kubectl("mns-one")?, &all, &["mns-a"]).await?;
    sees(&kubectl("mns-many")?, &all, &["mns-a", "mns-c"]).await?;
    sees(&kubectl("mns-named")?, &all, &[]).await?;
    sees(&kubectl("mns-all")?, &all, &all).await?;
    let kubeconfig = site.control_plane.kubeconfig_for("mns-member", Some("mns-team"))?;
    sees(&Kubectl::new(&kubeconfig)?, &all, &["mns-b"]).await?;
    sees(&site.kubectl()?, &all, &all).await?;

    let one = kubectl("mns-one")?;
    let counted = async || anyhow::Ok(one.run(["get", "mynamespaces", "mns-a"]).await?.ok()?);
    let table = settles("its objects are counted", KNOWN, &counted, |table| table.contains("1/2")).await?;
    let heading = ["NAME", "TENANT", "FLUX", "WORST", "GAMES", "QUOTA", "PROBLEMS"];
    ensure!(table.split_whitespace().take(7).eq(heading), "{table}");
    ensure!(table.contains("mns") && table.contains("Kustomization/bad Failed"), "{table}");
    let hidden = one.run(["get", "myns", "mns-b"]).await?.failed()?;
    ensure!(hidden.contains("NotFound"), "{hidden}");
    let selected = one.run(["get", "myns", "--field-selector", "status.tenant=other"]).await?;
    ensure!(selected.stdout.is_empty(), "{selected:?}");
    let many = kubectl("mns-many")?;
    let paged = many.run(["get", "myns", "--chunk-size=1", "-o", "name"]).await?.ok()?;
    ensure!(paged.lines().count() == 2, "{paged}");
    let described = one.run(["describe", "myns", "mns-a"]).await?.ok()?;
    ensure!(described.contains("Problems:"), "{described}");
    let refused = one.run(["get", "fluxsummaries", "-A"]).await?.failed()?;
    ensure!(refused.contains("(Forbidden)"), "this is what he cannot ask otherwise: {refused}");
    Ok(())
}

async fn come_and_go(site: Arc<Site>) -> anyhow::Result<()> {
    let (user, lister) = ("mns-watcher", ("ClusterRole", "mns-watched"));
    site.apply(["mns-w1", "mns-w2", "mns-w3"].map(namespace)).await?;
    site.apply([role(lister.1, None, &[])]).await?;
    let subject = ("User", user);
    let bind = |namespace| binding(user, namespace, lister, subject);
    site.apply([bind(Some("mns-w1"))]).await?;
    let kubectl = site.kubectl_as(user)?;
    sees(&kubectl, &["mns-w1", "mns-w2"], &["mns-w1"]).await?;
    let mut watch = kubectl.watch(["get", "myns", "-w", "--output-watch-events"])?;
    let mut began = Instant::now();
    let mut told = async |what: &'static str, event: &'static str, name: &'static str| {
        watch.line_where(KNOWN, |line| line.starts_with(event) && line.contains(name)).await?;
        let took = began.elapsed();
        progress::say(format_args!("{what}: {event} {name} after {:.1} s", took.as_secs_f32()));
        ensure!(took < patience(KNOWN), "{what}: {took:?}");
        began = Instant::now();
        anyhow::Ok(())
    };
    told("began", "ADDED", "mns-w1").await?;
    site.apply([bind(Some("mns-w2"))]).await?;
    told("bound", "ADDED", "mns-w2").await?;
    delete(&site, "rolebinding", user, Some("mns-w1")).await?;
    told("unbound", "DELETED", "mns-w1").await?;
    site.apply([bind(None)]).await?;
    told("bound in the cluster", "ADDED", "mns-w3").await?;
    delete(&site, "clusterrolebinding", user, None).await?;
    told("unbound in the cluster", "DELETED", "mns-w3").await?;
    let mut nothing = role(lister.1, None, &[]);
    nothing["rules"] = json!([]);
    site.apply([nothing]).await?;
    told("the role lost its rule", "DELETED", "mns-w2").await?;
    site.apply([role(lister.1, None, &[])]).await?;
    told("the role got it back", "ADDED", "mns-w2").await?;
    site.apply([kustomization("mns-w2", "bad", Err("kustomize build failed"))]).await?;
    told("the row changed", "MODIFIED", "mns-w2").await?;
    Ok(())
}

/// A user with no rights tries the names, pages and versions of one who has some.
async fn strangers(site: Arc<Site>) -> anyhow::Result<()> {
    let (owner, stranger, all) = ("mns-owner", "mns-stranger", ["mns-s1", "mns-s2"]);
    site.apply(all.map(namespace)).await?;
    site.apply([role("mns-seen", None, &[])]).await?;
    let bound = all.map(|name| binding(owner, Some(name), ("ClusterRole", "mns-seen"), ("User", owner)));
    site.apply(bound).await?;
    sees(&site.kubectl_as(owner)?, &all, &all).await?;
    let caller = async |user| Caller::of_kubeconfig(&site.control_plane.kubeconfig_for(user, None)?).await;
    let (owner, stranger) = (caller(owner).await?, caller(stranger).await?);
    let mine = format!("{API}/mynamespaces");
    let page = owner.get(&format!("{mine}?limit=1")).await?.ok()?;
    let text = |field: &str| page["metadata"][field].as_str().unwrap_or_default().to_owned();
    let (version, next) = (text("resourceVersion"), text("continue"));
    ensure!(!next.is_empty(), "{page:#}");
    for query in [
        format!("limit=1&continue={next}"),
        format!("resourceVersion={version}&resourceVersionMatch=NotOlderThan"),
        format!("resourceVersion={version}&resourceVersionMatch=Exact&limit=5"),
        format!("fieldSelector=metadata.name={}", all[0]),
        "fieldSelector=status.tenant=mns".to_owned(),
        "labelSelector=gatehouse.dev/tenant=mns".to_owned(),
    ] {
        let answer = stranger.get(&format!("{mine}?{query}")).await?;
        let is_empty = answer.body["items"].as_array().is_some_and(Vec::is_empty);
        ensure!(is_empty || matches!(answer.code.as_u16(), 400 | 410), "{query}: {answer:#?}");
        ensure!(!answer.body.to_string().contains("mns-s"), "{query}: {answer:#?}");
    }
    for name in all {
        stranger.get(&format!("{mine}/{name}")).await?.refused(404, "NotFound")?;
        owner.get(&format!("{mine}/{name}")).await?.ok()?;
    }
    let watch =
        format!("{mine}?watch=true&timeoutSeconds=3&resourceVersion={version}&allowWatchBookmarks=true");
    let request = http::Request::get(watch).body(Vec::new())?;
    site.apply([kustomization(all[0], "seen", Ok(()))]).await?;
    let events = stranger.client.request_text(request).await?;
    ensure!(!events.contains("mns-s"), "{events}");
    let as_owner =
        site.kubectl_as("mns-stranger")?.run(["get", "myns", "--as", "mns-owner"]).await?.failed()?;
    ensure!(as_owner.contains("(Forbidden)"), "{as_owner}");
    Ok(())
}

async fn bad_bindings(site: Arc<Site>) -> anyhow::Result<()> {
    let user = "mns-bad";
    site.apply([namespace("mns-bad")]).await?;
    site.apply([
        binding("mns-bad-1", Some("mns-bad"), ("ClusterRole", "mns-not-there"), ("User", user)),
        binding("mns-bad-2", Some("mns-bad"), ("Role", "mns-not-there"), ("User", user)),
        binding("mns-bad-3", None, ("ClusterRole", "mns-not-there"), ("User", user)),
    ])
    .await?;
    let kubectl = site.kubectl_as(user)?;
    sees(&kubectl, &["mns-bad"], &[]).await?;
    site.apply([role("mns-not-there", Some("mns-bad"), &[])]).await?;
    sees(&kubectl, &["mns-bad"], &["mns-bad"]).await?;
    let caller = site.caller().await?;
    for path in ["mynamespaces?fieldSelector=status.nothing=x", "mynamespaces?continue=x"] {
        caller.get(&format!("{API}/{path}")).await?.refused(400, "BadRequest")?;
    }
    Ok(())
}
