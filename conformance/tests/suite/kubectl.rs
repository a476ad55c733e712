//! kubectl shows views like any other resource.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_conformance::progress;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::site::{API, Site, by_name, kustomization};
use crate::world::World;

/// How long a change may take to be printed, on a busy machine.
const SHOWN: Duration = Duration::from_secs(10);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("kubectl::get_prints_the_columns_of_the_view", columns),
        world.shared("kubectl::get_prints_whole_objects_as_yaml_and_json", whole_objects),
        world.shared("kubectl::get_in_a_namespace_shows_that_namespace", in_a_namespace),
        world.shared("kubectl::get_selects_by_label", by_label),
        world.shared("kubectl::get_selects_by_field", by_field),
        world.shared("kubectl::get_by_an_unknown_field_is_refused_by_name", by_unknown_field),
        world.shared("kubectl::get_sorts_by_a_field", sorted),
        world.shared("kubectl::get_in_chunks_shows_the_same", in_chunks),
        world.shared("kubectl::get_watch_prints_a_change", watched),
        world.shared("kubectl::describe_tells_failures_and_conditions", described),
        world.shared("kubectl::wait_ends_at_once_for_what_holds", waited_for_what_holds),
        world.shared("kubectl::wait_ends_when_it_comes_to_hold", waited_for_what_comes),
        world.shared("kubectl::api_resources_lists_names_and_category", api_resources),
        world.shared("kubectl::every_name_of_a_resource_is_understood", names),
        world.shared("kubectl::writing_is_not_offered", read_only),
    ]
}

/// The cells of the line whose first cells are these.
fn line<'a>(table: &'a str, first: &[&str]) -> anyhow::Result<Vec<&'a str>> {
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut matching = lines.filter(|cells| cells.starts_with(first));
    matching.next().with_context(|| format!("no line {first:?} in\n{table}"))
}

async fn columns(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    let table = kubectl.run(["get", "fluxsummaries", "-A"]).await?.ok()?;
    let heading = "NAMESPACE NAME TOTAL READY FAILED STALLED BLOCKED PROGRESSING SUSPENDED OLDEST-FAILURE WORST PROBLEMS CAUSE";
    let heading: Vec<_> = heading.split(' ').collect();
    ensure!(line(&table, &["NAMESPACE"])? == heading, "{table}");
    let team_b = line(&table, &["team-b", "local"])?;
    ensure!(team_b[2..9].iter().all(|count| count.parse::<u32>().is_ok()), "{table}");
    ensure!(team_b[10..12] == ["HelmRelease/warehouse", "Stalled"], "{table}");
    ensure!(team_b[12].parse::<u32>().is_ok() && team_b[13..].len() == 2, "{table}");

    let wide = kubectl.run(["get", "fluxsummaries", "-A", "-o", "wide"]).await?.ok()?;
    let more = line(&wide, &["NAMESPACE"])?;
    ensure!(more.starts_with(&heading) && more.len() > heading.len(), "{wide}");

    let health = kubectl.run(["get", "clusterhealths"]).await?.ok()?;
    let heading =
        "NAME HEALTH NODES FLUX WORKLOADS STORAGE CERTS DATA NETWORK BACKUP PROBLEMS CAUSE REASON VERSION";
    ensure!(line(&health, &["NAME"])? == heading.split(' ').collect::<Vec<_>>(), "{health}");
    ensure!(line(&health, &["local", "Degraded"])?.last().is_some_and(|version| version.starts_with("v1.")));

    let games = kubectl.run(["get", "gameserversummaries", "-A"]).await?.ok()?;
    let heading = "NAMESPACE NAME FLEETS DESIRED READY ALLOCATED UNHEALTHY PLAYERS CAPACITY";
    ensure!(line(&games, &["NAMESPACE"])? == heading.split(' ').collect::<Vec<_>>(), "{games}");
    ensure!(line(&games, &["games-us", "local"])?[2..] == ["1", "8", "5", "2", "0", "26", "112"], "{games}");
    let usages = kubectl.run(["get", "tenantusages"]).await?.ok()?;
    ensure!(
        line(&usages, &["NAME"])? == ["NAME", "TIGHTEST", "DENIED", "HELD-BACK", "NAMESPACES", "USED"],
        "{usages}"
    );
    let arena = line(&usages, &["arena"])?;
    ensure!(arena[1..7] == ["gameservers", "21/22", "(95%)", "3", "0", "2"], "{usages}");

    let cycle = kubectl.run(["get", "fluxdependencies", "-n", "games-eu"]).await?.ok()?;
    ensure!(line(&cycle, &["local.kustomization.lobby", "matchmaker"])?.last() == Some(&"True"), "{cycle}");
    let root = kubectl.run(["get", "fluxdependencies", "-n", "team-b"]).await?.ok()?;
    let reports = line(&root, &["local.kustomization.reports"])?;
    ensure!(reports.contains(&"GitRepository/flux-system/storage"), "{root}");
    Ok(())
}

async fn whole_objects(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    let list: Value =
        serde_json::from_str(&kubectl.run(["get", "fluxsummaries", "-A", "-o", "json"]).await?.ok()?)?;
    for (name, item) in by_name(&list) {
        let metadata = &item["metadata"];
        ensure!(item["kind"] == "FluxSummary" && item["apiVersion"] == "view.gatehouse.dev/v1alpha1");
        ensure!(metadata["uid"].is_string() && metadata["creationTimestamp"].is_string(), "{name:?}");
        ensure!(item["status"]["conditions"][0]["type"] == "Ready", "{name:?}: {item:#}");
    }
    let get = ["get", "fluxsummary", "local", "-n", "team-b", "-o"];
    let json: Value = serde_json::from_str(&kubectl.run(get.iter().chain(&["json"])).await?.ok()?)?;
    let yaml: Value = serde_saphyr::from_str(&kubectl.run(get.iter().chain(&["yaml"])).await?.ok()?)?;
    ensure!(json == yaml, "{json:#} is not {yaml:#}");
    ensure!(json["status"]["failures"][0]["name"] == "warehouse", "{json:#}");
    Ok(())
}

async fn in_a_namespace(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    let json = kubectl.run(["get", "fxr", "-n", "team-a", "-o", "json"]).await?.ok()?;
    let list: Value = serde_json::from_str(&json)?;
    let items = by_name(&list);
    ensure!(!items.is_empty() && items.keys().all(|(namespace, _)| namespace == "team-a"), "{items:?}");
    let nothing = kubectl.run(["get", "fxr", "-n", "there-is-no-such-namespace"]).await?;
    ensure!(nothing.stderr.contains("No resources found"), "{nothing:?}");
    Ok(())
}

async fn by_label(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    let names = async |selector: &str| {
        let args = ["get", "fxr", "-n", "team-a", "-o", "name", "--selector", selector];
        anyhow::Ok(kubectl.run(args).await?.ok()?.lines().count())
    };
    let all = names("").await?;
    ensure!(all > 0);
    for (selector, expected) in [
        ("gatehouse.dev/cluster=local", all),
        ("gatehouse.dev/cluster!=local", 0),
        ("gatehouse.dev/cluster in (local, other),gatehouse.dev/tenant=team-a", all),
        ("gatehouse.dev/tenant notin (team-a)", 0),
        ("!gatehouse.dev/tenant", 0),
        ("gatehouse.dev/tenant", all),
    ] {
        let found = names(selector).await?;
        ensure!(found == expected, "{selector}: {found} of {all}");
    }
    Ok(())
}

async fn by_field(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    let get = async |selector: &str| {
        let args = ["get", "fxr", "-A", "-o", "json", "--field-selector", selector];
        anyhow::Ok(serde_json::from_str::<Value>(&kubectl.run(args).await?.ok()?)?)
    };
    let all = get("").await?;
    for (field, value) in [("state", "Blocked"), ("kind", "HelmRelease"), ("cluster", "local")] {
        let found = get(&format!("status.{field}={value}")).await?;
        let found = by_name(&found);
        ensure!(!found.is_empty() && found.values().all(|item| item["status"][field] == value), "{found:?}");
    }
    let suspended = get("status.suspended=true").await?;
    let expected = by_name(&all).values().filter(|item| item["status"]["suspended"] == true).count();
    ensure!(expected >= 2 && by_name(&suspended).len() >= expected, "{suspended:#}");

    let both = get("status.kind=Kustomization,status.state!=Ready,metadata.namespace=team-b").await?;
    let states: Vec<_> = by_name(&both).values().map(|item| item["status"]["state"].clone()).collect();
    ensure!(!states.is_empty() && !states.contains(&"Ready".into()), "{states:?}");
    let one = get("metadata.name=local.helmrelease.warehouse").await?;
    ensure!(by_name(&one).len() == 1, "{one:#}");
    Ok(())
}

async fn by_unknown_field(site: Arc<Site>) -> anyhow::Result<()> {
    let args = ["get", "fxr", "-A", "--field-selector", "status.colour=red"];
    let complaint = site.kubectl()?.run(args).await?.failed()?;
    ensure!(complaint.contains("status.colour"), "{complaint}");
    Ok(())
}

async fn sorted(site: Arc<Site>) -> anyhow::Result<()> {
    let args = ["get", "fxs", "-A", "--sort-by", ".status.total", "--no-headers"];
    let table = site.kubectl()?.run(args).await?.ok()?;
    let totals: Result<Vec<u32>, _> =
        table.lines().map(|line| line.split_whitespace().nth(2).unwrap_or_default().parse()).collect();
    let totals = totals.with_context(|| table.clone())?;
    ensure!(totals.len() > 5 && totals.is_sorted(), "{table}");
    Ok(())
}

async fn in_chunks(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    // Namespaces that no trial changes.
    for namespace in ["flux-system", "team-b"] {
        let get = ["get", "fxr", "-n", namespace, "-o", "name"];
        let whole = kubectl.run(get).await?.ok()?;
        let chunked = kubectl.run(get.iter().chain(&["--chunk-size=2"])).await?.ok()?;
        ensure!(whole.lines().count() > 4 && whole == chunked, "{whole}\nin chunks:\n{chunked}");
    }
    // Without this, a server that ignores the limit would pass: kubectl would print the same.
    let page =
        site.caller().await?.get(&format!("{API}/namespaces/team-b/fluxresources?limit=2")).await?.ok()?;
    ensure!(by_name(&page).len() == 2 && page["metadata"]["continue"].is_string(), "{page:#}");
    ensure!(page["metadata"]["remainingItemCount"].as_u64() > Some(2), "{page:#}");
    Ok(())
}

async fn watched(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "kubectl-watch";
    site.apply([kustomization(namespace, "app", Ok(()))]).await?;
    let kubectl = site.kubectl()?;
    let mut watch = kubectl.watch(["get", "fxr", "-n", namespace, "-w"])?;
    let shows = |state: &'static str| move |line: &str| line.split_whitespace().any(|cell| cell == state);
    watch.line_where(Duration::from_secs(30), shows("Ready")).await?;
    let mut slowest = Duration::ZERO;
    for (verdict, state) in [(Err("no such file"), "Failed"), (Ok(()), "Ready"), (Err("again"), "Failed")] {
        let asked = Instant::now();
        site.apply([kustomization(namespace, "app", verdict)]).await?;
        watch.line_where(SHOWN, shows(state)).await?;
        slowest = slowest.max(asked.elapsed());
    }
    progress::say(format_args!(
        "kubectl get -w: the slowest of three changes took {slowest:?}, writing included"
    ));
    Ok(())
}

async fn described(site: Arc<Site>) -> anyhow::Result<()> {
    let text = site.kubectl()?.run(["describe", "fxs", "local", "-n", "team-b"]).await?.ok()?;
    for expected in
        ["Kind:         FluxSummary", "Conditions:", "Failures:", "warehouse", "Helm upgrade failed"]
    {
        ensure!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    Ok(())
}

async fn waited_for_what_holds(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    let wait = ["wait", "--for=condition=Ready", "--timeout=20s", "-n", "velero"];
    for object in ["fluxsummary/local", "fxr/local.helmrelease.velero"] {
        let text = kubectl.run(wait.iter().chain(&[object])).await?.ok()?;
        ensure!(text.contains("condition met"), "{text}");
    }
    let field = ["wait", "--for=jsonpath={.status.state}=Stalled", "--timeout=20s", "-n", "team-b"];
    kubectl.run(field.iter().chain(&["fxr/local.helmrelease.warehouse"])).await?.ok()?;
    Ok(())
}

async fn waited_for_what_comes(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "kubectl-wait";
    site.apply([kustomization(namespace, "app", Err("no such file"))]).await?;
    let kubectl = site.kubectl()?;
    for there in ["--for=create", "--for=condition=Ready=false"] {
        let args = ["wait", there, "--timeout=20s", "-n", namespace, "fluxsummary/local"];
        kubectl.run(args).await?.ok()?;
    }
    let args = ["wait", "--for=condition=Ready", "--timeout=30s", "-n", namespace, "fluxsummary/local"];
    let mut waiting = Box::pin(kubectl.run(args));
    let early = tokio::time::timeout(Duration::from_secs(1), &mut waiting).await;
    ensure!(early.is_err(), "it does not hold yet: {early:?}");
    site.apply([kustomization(namespace, "app", Ok(()))]).await?;
    ensure!(waiting.await?.ok()?.contains("condition met"));
    Ok(())
}

async fn api_resources(site: Arc<Site>) -> anyhow::Result<()> {
    let args = ["api-resources", "--api-group=view.gatehouse.dev", "-o", "wide", "--no-headers"];
    let table = site.kubectl()?.run(args).await?.ok()?;
    for (plural, short, namespaced, kind) in [
        ("appliedtenantquotas", "atq", "true", "AppliedTenantQuota"),
        ("argoapplications", "aap", "true", "ArgoApplication"),
        ("argosummaries", "aps", "true", "ArgoSummary"),
        ("clusterhealths", "chl", "false", "ClusterHealth"),
        ("fluxdependencies", "fxd", "true", "FluxDependency"),
        ("fluxhistories", "fxh", "true", "FluxHistory"),
        ("fluxresources", "fxr", "true", "FluxResource"),
        ("fluxsummaries", "fxs", "true", "FluxSummary"),
        ("gamefleets", "gfl", "true", "GameFleet"),
        ("gameinstances", "gin", "true", "GameInstance"),
        ("gameserversummaries", "gsv", "true", "GameServerSummary"),
        ("mynamespaces", "myns", "false", "MyNamespace"),
        ("problems", "prb", "true", "Problem"),
        ("tenantusages", "tnu", "false", "TenantUsage"),
    ] {
        let cells = line(&table, &[plural])?;
        let expected =
            [plural, short, "view.gatehouse.dev/v1alpha1", namespaced, kind, "get,list,watch", "gatehouse"];
        ensure!(cells == expected, "{table}");
    }
    Ok(())
}

async fn names(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    for name in ["fxs", "fluxsummary", "fluxsummaries.view.gatehouse.dev", "FluxSummary"] {
        kubectl.run(["get", name, "local", "-n", "velero"]).await?.ok()?;
    }
    let category = kubectl.run(["get", "gatehouse", "-A", "-o", "name"]).await?.ok()?;
    for singular in ["clusterhealth", "fluxdependency", "fluxresource", "fluxsummary", "gameserversummary"] {
        ensure!(category.contains(&format!("{singular}.view.gatehouse.dev/local")), "{category}");
    }
    for singular in ["appliedtenantquota", "tenantusage"] {
        ensure!(category.contains(&format!("{singular}.view.gatehouse.dev/arena")), "{category}");
    }
    Ok(())
}

async fn read_only(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    let complaint = kubectl.run(["delete", "fxs", "local", "-n", "velero"]).await?.failed()?;
    ensure!(complaint.contains("MethodNotAllowed"), "{complaint}");
    let complaint = kubectl.run(["label", "fxs", "local", "-n", "velero", "a=b"]).await?.failed()?;
    ensure!(complaint.contains("MethodNotAllowed") || complaint.contains("does not allow"), "{complaint}");
    Ok(())
}
