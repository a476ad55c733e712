//! Tests of `fluxresources/NAME/tree`.

use std::pin::pin;

use futures::FutureExt;
use gatehouse_inventory::State;
use serde_json::json;

use super::{
    records::{key, kustomization, object},
    *,
};
use crate::tree;

/// The tree of the row `namespace/name`.
pub(super) fn tree_of(world: &World, place: &str) -> Option<Value> {
    let (client, mut questions) = tree::channel();
    let (namespace, name) = place.split_once('/').expect("namespace/name");
    let row = RowKey { namespace: namespace.into(), name: name.into() };
    let mut asked = pin!(client.tree(row));
    assert!(asked.as_mut().now_or_never().is_none(), "nobody has answered yet");
    questions.try_recv().expect("a question").answer(&world.inventory);
    asked.now_or_never().expect("the answer is there").expect("it is answered")
}

#[test]
fn a_tree_nests_what_was_applied_with_its_state() {
    let all = kustomization("apps", "all").state(State::Failed, 10).applied(&[
        "apps_shop_helm.toolkit.fluxcd.io_HelmRelease",
        "apps_settings__ConfigMap",
        "apps_gone_apps_Deployment",
        "other_db_apps_StatefulSet",
        "apps_all_kustomize.toolkit.fluxcd.io_Kustomization",
        "broken",
    ]);
    let mut release = object(kind("HelmRelease"), "apps", "shop");
    release = release.applied(&["apps_web_apps_Deployment"]);
    let web = object(kind("Deployment"), "apps", "web").state(State::Failed, 5);
    let db = object(kind("StatefulSet"), "other", "db").state(State::Failed, 5);
    let world = World::with([all.build(), release.build(), web.build(), db.build()]);
    let tree = tree_of(&world, "apps/local.kustomization.all").expect("it exists");
    assert_eq!(tree["kind"], "FluxResourceTree");
    let status = &tree["status"];
    assert_eq!((&status["cluster"], &status["omitted"]), (&json!("local"), &json!(1)));
    assert_eq!(status["object"]["state"], "Failed");
    let applied = status["object"]["applied"].as_array().expect("what it applied");
    let find = |name: &str| applied.iter().find(|node| node["name"] == name).expect("a node");
    assert_eq!(find("settings"), &json!({"kind": "ConfigMap", "namespace": "apps", "name": "settings"}));
    assert_eq!(find("gone")["state"], "Missing");
    assert_eq!(
        (&find("db")["state"], find("db").get("message")),
        (&json!("Failed"), None),
        "of another namespace"
    );
    assert_eq!(find("all").get("applied"), None, "each object once");
    let nested = &find("shop")["applied"][0];
    assert_eq!(
        (&nested["name"], &nested["state"], &nested["message"]),
        (&json!("web"), &json!("Failed"), &json!("web is Failed"))
    );
    assert!(tree_of(&world, "apps/local.kustomization.none").is_none());
    assert!(tree_of(&world, "apps/all").is_none());
    assert!(world.inventory.cluster(LOCAL).record(&key(kind("Deployment"), "apps", "web")).is_some());
}

#[test]
fn a_tree_is_bounded() {
    let ids: Vec<_> = (0..5_000).map(|n| format!("apps_n{n}_apps_Deployment")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let world = World::with([kustomization("apps", "all").applied(&ids).build()]);
    let tree = tree_of(&world, "apps/local.kustomization.all").expect("it exists");
    let nodes = tree["status"]["object"]["applied"].as_array().map_or(0, Vec::len);
    assert!(nodes < 2_001, "{nodes}");
    assert_eq!(tree["status"]["omitted"], 5_000 - nodes);
}
