//! Trials of commands against an API server in process.

use clap::{FromArgMatches as _, Subcommand as _};
use gatehouse_apiservice::view::{API_VERSION, GROUP, VERSION};
use gatehouse_fake_api::FakeApi;
use serde_json::{Value, json};

use super::*;

const VIEWS: [(&str, &str); 5] = [
    ("fluxresources", "FluxResource"),
    ("fluxsummaries", "FluxSummary"),
    ("fluxdependencies", "FluxDependency"),
    ("mynamespaces", "MyNamespace"),
    ("problems", "Problem"),
];

fn api() -> FakeApi {
    let api = FakeApi::new();
    for (plural, kind) in VIEWS {
        api.serve(GROUP, VERSION, plural, kind);
    }
    api
}

/// A row of a Kustomization.
fn row(namespace: &str, name: &str, status: &Value) -> Value {
    let mut row = json!({
        "apiVersion": API_VERSION, "kind": "FluxResource",
        "metadata": {"namespace": namespace, "name": format!("local.kustomization.{name}")},
        "status": {
            "cluster": "local", "group": "kustomize.toolkit.fluxcd.io", "kind": "Kustomization", "name": name,
            "state": "Ready", "suspended": false,
        },
    });
    for (field, value) in status.as_object().into_iter().flatten() {
        row["status"][field] = value.clone();
    }
    row
}

fn summary(namespace: &str) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "FluxSummary", "metadata": {"namespace": namespace, "name": "local"},
    })
}

fn parsed(line: &str) -> Result<Command, clap::Error> {
    let command = Command::augment_subcommands(clap::Command::new("gatehouse"));
    let matches = command.try_get_matches_from(["gatehouse"].into_iter().chain(line.split(' ')))?;
    Command::from_arg_matches(&matches)
}

/// Runs a command line in the namespace `team-a`: what it prints, and how it ends.
async fn ran(api: &FakeApi, line: &str) -> (String, Result<u8, String>) {
    let connection = Connection { client: api.client(), namespace: "team-a".to_owned() };
    let mut out = Vec::new();
    let command = parsed(line).expect("a command line");
    let ended = run(command, &connection, Terminal::default(), &mut out).await;
    (String::from_utf8(out).expect("text"), ended.map_err(|error| error.to_string()))
}

/// What was posted, below the group.
fn posted(api: &FakeApi) -> Vec<String> {
    let below = format!("POST /apis/{API_VERSION}/");
    api.asked().iter().filter_map(|asked| Some(asked.strip_prefix(&below)?.to_owned())).collect()
}

#[test]
fn everything_is_meant_only_if_that_is_said() {
    for line in ["reconcile -A", "suspend -A", "resume -A", "suspend", "suspend ks/a --all", "resume ks/a -A"]
    {
        assert!(parsed(line).is_err(), "{line}");
    }
    assert!(parsed("reconcile --all --with-source").is_err());
    for line in ["reconcile -A --all", "suspend -A --state Failed,Stalled", "resume --all", "reconcile ks/a"]
    {
        assert!(parsed(line).is_ok(), "{line}");
    }
    let error = parsed("suspend --state Broken").expect_err("no state").to_string();
    assert!(error.contains("Stalled"), "{error}");
}

#[tokio::test]
async fn a_reconciliation_of_all_namespaces_asks_in_each() {
    let api = api();
    for namespace in ["team-a", "team-b"] {
        api.put(summary(namespace));
    }
    let (out, ended) = ran(&api, "reconcile -A --state Failed").await;
    assert_eq!((&*out, ended), ("Nothing to reconcile\n", Ok(0)));
    let expected = ["team-a", "team-b"].map(|of| format!("namespaces/{of}/fluxsummaries/local/reconcile"));
    assert_eq!(posted(&api), expected);
}

#[tokio::test]
async fn who_may_not_list_over_all_acts_where_he_sees_something() {
    let api = api();
    api.put(row("team-a", "shop", &json!({})));
    api.put(json!({
        "apiVersion": API_VERSION, "kind": "MyNamespace", "metadata": {"name": "local.team-a"},
        "status": {"cluster": "local", "namespace": "team-a"},
    }));
    api.forbid_over_all(GROUP, "fluxresources");
    let (out, ended) = ran(&api, "suspend -A --all --reason moving").await;
    assert_eq!(ended, Ok(0));
    assert!(out.contains("local.kustomization.shop") && out.ends_with("(namespace team-a)\n"), "{out}");
    api.forbid(GROUP, "mynamespaces", true);
    let (_, ended) = ran(&api, "suspend -A --all").await;
    assert_eq!(ended.expect_err("refused"), "Error from server (Forbidden): fluxresources is forbidden");
}

#[tokio::test]
async fn what_is_suspended_already_is_left_alone() {
    let api = api();
    api.put(row("team-a", "shop", &json!({"state": "Failed"})));
    api.put(row("team-a", "held", &json!({"state": "Suspended", "suspended": true})));
    api.put(row("team-b", "far", &json!({"state": "Failed"})));
    let at = |namespace: &str, name: &str, subresource: &str| {
        format!("namespaces/{namespace}/fluxresources/local.kustomization.{name}/{subresource}")
    };
    assert_eq!(ran(&api, "suspend --all").await.1, Ok(0));
    assert_eq!(ran(&api, "resume --all").await.1, Ok(0));
    assert_eq!(ran(&api, "suspend -A --state Failed").await.1, Ok(0));
    let expected = [
        at("team-a", "shop", "suspend"),
        at("team-a", "held", "resume"),
        at("team-a", "shop", "suspend"),
        at("team-b", "far", "suspend"),
    ];
    assert_eq!(posted(&api), expected);
    assert_eq!(ran(&api, "resume --state Stalled").await, ("Nothing to resume\n".to_owned(), Ok(0)));
}

#[tokio::test]
async fn the_trees_of_a_namespace_begin_where_nothing_needs_them() {
    let api = api();
    api.put(row("team-a", "apps", &json!({"state": "Blocked"})));
    api.put(row("team-a", "infra", &json!({})));
    api.put(row("team-b", "alone", &json!({})));
    let infra = json!({"kind": "Kustomization", "namespace": "team-a", "name": "infra"});
    api.put(json!({
        "apiVersion": API_VERSION, "kind": "FluxDependency",
        "metadata": {"namespace": "team-a", "name": "local.kustomization.apps"}, "status": {"dependsOn": [infra]},
    }));
    let (out, _) = ran(&api, "tree").await;
    assert_eq!(out, "Kustomization/team-a/apps  Blocked\n└─ Kustomization/team-a/infra  Ready\n");
    let (out, _) = ran(&api, "tree -A").await;
    assert!(out.ends_with("infra  Ready\nKustomization/team-b/alone  Ready\n"), "{out}");
}

/// A row of a Kustomization in another cluster.
fn remote(namespace: &str, name: &str, status: &Value) -> Value {
    let mut row = row(namespace, name, status);
    row["metadata"]["name"] = format!("eu.kustomization.{name}").into();
    row["status"]["cluster"] = "eu".into();
    row
}

#[tokio::test]
async fn causes_in_other_clusters_are_shown_with_the_name_of_the_cluster() {
    let api = api();
    let failed = json!({"state": "Failed", "message": "no registry"});
    api.put(row("team-a", "shop", &failed));
    let (out, _) = ran(&api, "why -A").await;
    assert!(out.starts_with("ROOT-CAUSE "), "{out}");
    api.put(remote("team-a", "shop", &failed));
    for line in ["why -A", "why"] {
        let (out, _) = ran(&api, line).await;
        let words = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let mut shown: Vec<_> = out.lines().map(words).collect();
        shown[1..].sort();
        assert_eq!(
            shown,
            ["CLUSTER ROOT-CAUSE", "eu Kustomization/team-a/shop", "local Kustomization/team-a/shop"],
            "{line}"
        );
    }
    let (out, _) = ran(&api, "why -A --cluster-name local").await;
    assert!(out.starts_with("ROOT-CAUSE "), "{out}");
}

#[tokio::test]
async fn chains_and_trees_of_another_cluster_name_it() {
    let api = api();
    api.put(remote("team-a", "shop", &json!({"state": "Failed", "message": "no registry"})));
    let (out, _) = ran(&api, "why ks/shop --cluster-name eu").await;
    assert!(out.starts_with("Kustomization/team-a/shop (cluster eu): Failed\n"), "{out}");
    let next =
        "Next, in cluster eu: kubectl describe kustomization.kustomize.toolkit.fluxcd.io/shop -n team-a\n";
    assert!(out.ends_with(next), "{out}");
    for line in ["tree ks/shop --cluster-name eu", "tree --cluster-name eu"] {
        let (out, _) = ran(&api, line).await;
        assert!(out.starts_with("Kustomization/team-a/shop (cluster eu)  Failed"), "{out}");
    }
    // What acts goes by this cluster.
    api.put(remote("team-a", "held", &json!({"state": "Suspended", "suspended": true})));
    let (out, _) = ran(&api, "why ks/held --cluster-name eu").await;
    let next = "Next: kubectl gatehouse resume fluxresource/eu.kustomization.held -n team-a\n";
    assert!(out.ends_with(next), "{out}");
}

#[tokio::test]
async fn why_says_why_an_object_is_suspended() {
    let api = api();
    let mut held = row("team-a", "shop", &json!({"state": "Suspended", "suspended": true, "by": "jane"}));
    // The server in process answers with the same object for its subresources.
    held["spec"] =
        json!({"suspended": true, "reason": "database migration", "until": "2026-11-29T20:00:00Z"});
    api.put(held);
    let (out, _) = ran(&api, "why ks/shop").await;
    assert!(out.contains("suspended by jane until 2026-11-29T20:00:00Z: database migration\n"), "{out}");
    assert!(out.contains("Next: kubectl gatehouse resume"), "{out}");
}

#[tokio::test]
async fn what_a_freeze_holds_is_not_to_be_resumed() {
    let api = api();
    let status = json!({
        "state": "Suspended", "suspended": true, "suspendedBy": "gatehouse", "frozenBy": "weekend/freeze",
    });
    api.put(row("team-a", "shop", &status));
    let (out, _) = ran(&api, "why ks/shop").await;
    assert!(out.contains("held by the freeze weekend/freeze\n"), "{out}");
    let next = "Next: kubectl get --subresource=suspension fluxresource/local.kustomization.shop -n team-a\n";
    assert!(out.ends_with(next), "{out}");
}

#[tokio::test]
async fn an_empty_namespace_is_that_of_the_context() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        connection: ConnectionArgs,
    }
    let connected = |words: &[&str]| {
        let line = <Line as clap::Parser>::try_parse_from(["x"].iter().chain(words)).expect("flags");
        let mut config = kube::Config::new("https://127.0.0.1:1".parse().expect("a URL"));
        config.default_namespace = "of-the-context".to_owned();
        line.connection.connect(config).expect("a client").namespace
    };
    assert_eq!(connected(&["-n", ""]), "of-the-context");
    assert_eq!(connected(&["-n", "team-a"]), "team-a");
}
