//! Whose a set or a server of Agones' is: what Agones makes of a Fleet is charged and judged there, and nothing that
//! somebody else makes to look like it.

use std::sync::Arc;

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::caller::{Answer, Caller};
use crate::gate::{AGONES, Gate, KNOWN, fleet, game_server};
use crate::gate_quotas::used;
use crate::world::World;

pub(crate) const CONTROLLER: &str = "system:serviceaccount:agones-system:agones-controller";
pub(crate) const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
const MERGE: &str = "application/merge-patch+json";

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("gate_owners::what_only_looks_like_a_fleet_s_is_charged", stowaways),
        world.guarded("gate_owners::an_update_is_judged_by_whose_the_object_becomes", updates),
        world.guarded("gate_owners::policies_judge_what_only_looks_like_a_fleet_s", judged),
        world.guarded("gate_owners::orphaning_under_a_full_quota_ends_and_counts_once", orphaning),
        world.guarded("gate_owners::labels_of_game_servers_are_judged_and_their_state_is_not", labels),
    ]
}

/// A user with every right.
pub(crate) async fn as_user(gate: &Gate, user: &str) -> anyhow::Result<Caller> {
    let path = gate.site.control_plane.kubeconfig_for(user, Some("system:masters"))?;
    Caller::of_kubeconfig(&path).await
}

pub(crate) fn path(namespace: &str, resource: &str) -> String {
    format!("{AGONES}/namespaces/{namespace}/{resource}")
}

pub(crate) async fn create(caller: &Caller, resource: &str, object: &Value) -> anyhow::Result<Answer> {
    let namespace = object["metadata"]["namespace"].as_str().context("a namespace")?;
    caller.post(&path(namespace, resource), object).await
}

pub(crate) async fn patch(caller: &Caller, path: &str, body: &Value) -> anyhow::Result<Answer> {
    caller.write(&Method::PATCH, path, MERGE, body.to_string().into_bytes()).await
}

pub(crate) fn made(answer: &Answer) -> anyhow::Result<()> {
    ensure!(answer.code.is_success(), "{answer:#?}");
    Ok(())
}

/// Refused by a quota.
pub(crate) fn exceeded(answer: &Answer, what: &str) -> anyhow::Result<()> {
    ensure!(answer.code == StatusCode::FORBIDDEN, "{what}: {answer:#?}");
    ensure!(answer.body["message"].to_string().contains("exceeded quota"), "{what}: {answer:#?}");
    Ok(())
}

pub(crate) async fn uid_of(
    gate: &Gate,
    namespace: &str,
    resource: &str,
    name: &str,
) -> anyhow::Result<String> {
    let object = gate.get(&format!("{}/{name}", path(namespace, resource))).await?;
    Ok(object["metadata"]["uid"].as_str().context("a uid")?.to_owned())
}

pub(crate) fn set(namespace: &str, name: &str, replicas: i64) -> Value {
    let mut set = fleet(namespace, name, replicas);
    set["kind"] = json!("GameServerSet");
    set
}

/// With the label and the owner reference that Agones writes.
pub(crate) fn owned(mut object: Value, kind: &str, owner: &str, uid: &str) -> Value {
    let label = if kind == "Fleet" { "agones.dev/fleet" } else { "agones.dev/gameserverset" };
    object["metadata"]["labels"] = json!({label: owner});
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "agones.dev/v1", "kind": kind, "name": owner, "uid": uid,
        "controller": true, "blockOwnerDeletion": true,
    }]);
    object
}

async fn stowaways(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-stowaways";
    gate.namespace(namespace).await?;
    gate.quota(namespace, json!({"gameservers": "2"}), &fleet(namespace, "big", 3)).await?;
    gate.put(&fleet(namespace, "real", 2)).await?;
    let uid = uid_of(&gate, namespace, "fleets", "real").await?;
    let whole = || owned(set(namespace, "stowaway", 1000), "Fleet", "real", &uid);
    let with = |field: &str, value: Value| {
        let mut set = whole();
        set["metadata"]["ownerReferences"][0][field] = value;
        set
    };
    let labelled = |labels: Value| {
        let mut set = whole();
        set["metadata"]["labels"] = labels;
        set
    };
    let mut several = whole();
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "c", "controller": true});
    several["metadata"]["ownerReferences"][0]["controller"] = json!(false);
    several["metadata"]["ownerReferences"].as_array_mut().context("owners")?.push(other);
    let agones = as_user(&gate, CONTROLLER).await?;
    for (what, set) in [
        ("whole, and not by Agones", whole()),
        ("no label", labelled(json!({}))),
        ("the label of another fleet", labelled(json!({"agones.dev/fleet": "other"}))),
        ("an owner that does not exist", with("uid", json!("00000000-0000-4000-8000-000000000002"))),
        ("an owner of another name", with("name", json!("other"))),
        ("a version that is not served", with("apiVersion", json!("agones.dev/v9"))),
        ("an owner of another kind", with("kind", json!("GameServerSet"))),
        ("an owner that does not control", with("controller", json!(false))),
        ("several owners", several),
    ] {
        exceeded(&create(&gate.caller, "gameserversets", &set).await?, what)?;
    }
    exceeded(&create(&agones, "gameserversets", &labelled(json!({}))).await?, "what Agones would not write")?;
    // What it does write is the fleet's: the servers of a rollout's two sets for one.
    made(
        &create(&agones, "gameserversets", &owned(set(namespace, "real-1", 2), "Fleet", "real", &uid))
            .await?,
    )?;
    let uid = uid_of(&gate, namespace, "gameserversets", "real-1").await?;
    let server = |name: &str| owned(game_server(namespace, name), "GameServerSet", "real-1", &uid);
    for name in ["a", "b"] {
        made(&create(&agones, "gameservers", &server(name)).await?)?;
    }
    used(&gate, namespace, "gameservers", "2").await?;
    exceeded(&create(&gate.caller, "gameservers", &server("c")).await?, "a server of the set's")?;
    exceeded(&create(&gate.caller, "gameservers", &game_server(namespace, "d")).await?, "a server")?;
    // A surge is shown as what it is, and not refused.
    let surge = |name: &str| owned(set(namespace, name, 1), "Fleet", "real", "");
    let uid = uid_of(&gate, namespace, "fleets", "real").await?;
    let mut second = surge("real-2");
    second["metadata"]["ownerReferences"][0]["uid"] = json!(uid);
    made(&create(&agones, "gameserversets", &second).await?)?;
    used(&gate, namespace, "gameservers", "3").await
}

async fn updates(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-owner-updates";
    gate.namespace(namespace).await?;
    gate.quota(namespace, json!({"gameservers": "4"}), &fleet(namespace, "big", 5)).await?;
    gate.put(&fleet(namespace, "real", 2)).await?;
    let uid = uid_of(&gate, namespace, "fleets", "real").await?;
    let agones = as_user(&gate, CONTROLLER).await?;
    made(
        &create(&agones, "gameserversets", &owned(set(namespace, "real-1", 2), "Fleet", "real", &uid))
            .await?,
    )?;
    made(&create(&gate.caller, "gameserversets", &set(namespace, "alone", 2)).await?)?;
    used(&gate, namespace, "gameservers", "4").await?;
    let member = format!("{}/real-1", path(namespace, "gameserversets"));
    let alone = format!("{}/alone", path(namespace, "gameserversets"));
    let owners = |uid: &str| json!([{"apiVersion": "agones.dev/v1", "kind": "Fleet", "name": "real", "uid": uid, "controller": true}]);
    for (what, body) in [
        ("no owner", json!({"metadata": {"ownerReferences": null}})),
        ("an owner that does not exist", json!({"metadata": {"ownerReferences": owners("nobody")}})),
        ("no label", json!({"metadata": {"labels": {"agones.dev/fleet": null}}})),
        ("another label", json!({"metadata": {"labels": {"agones.dev/fleet": "other"}}})),
    ] {
        exceeded(&patch(&gate.caller, &member, &body).await?, what)?;
    }
    // What is no change of owner goes through: labels of people's own, and less.
    made(&patch(&gate.caller, &member, &json!({"metadata": {"labels": {"mine": "yes"}}})).await?)?;
    let scale = async |path: &str, replicas: i64| {
        patch(&gate.caller, &format!("{path}/scale"), &json!({"spec": {"replicas": replicas}})).await
    };
    exceeded(&scale(&member, 5000).await?, "a scale of what is the fleet's")?;
    // An owner that is claimed excuses from nothing that comes after.
    let claim =
        json!({"metadata": {"labels": {"agones.dev/fleet": "real"}, "ownerReferences": owners(&uid)}});
    made(&patch(&gate.caller, &alone, &claim).await?)?;
    exceeded(&patch(&gate.caller, &alone, &json!({"spec": {"replicas": 1000}})).await?, "and raised")?;
    exceeded(&scale(&alone, 1000).await?, "and scaled")?;
    used(&gate, namespace, "gameservers", "4").await
}

async fn judged(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-owners-judged";
    gate.namespace(namespace).await?;
    let refused = fleet(namespace, "big", 6);
    gate.policy(namespace, json!({"rules": {"replicas": {"max": 5}}}), &refused).await?;
    gate.put(&fleet(namespace, "real", 2)).await?;
    let uid = uid_of(&gate, namespace, "fleets", "real").await?;
    let whole = owned(set(namespace, "real-1", 9), "Fleet", "real", &uid);
    let mut version = whole.clone();
    version["metadata"]["ownerReferences"][0]["apiVersion"] = json!("agones.dev/v9");
    let mut nobody = whole.clone();
    nobody["metadata"]["ownerReferences"][0]["uid"] = json!("nobody");
    for set in [&whole, &version, &nobody] {
        let answer = create(&gate.caller, "gameserversets", set).await?;
        ensure!(answer.body["message"].to_string().contains("9 is more than 5"), "{answer:#?}");
    }
    let agones = as_user(&gate, CONTROLLER).await?;
    let answer = create(&agones, "gameserversets", &nobody).await?;
    ensure!(answer.body["message"].to_string().contains("9 is more than 5"), "{answer:#?}");
    made(&create(&agones, "gameserversets", &whole).await?)
}

/// kube-apiserver sets the finalizer; what the collector does then is done here as the collector does it.
async fn orphaning(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-orphaning";
    gate.namespace(namespace).await?;
    gate.quota(namespace, json!({"gameservers": "8"}), &fleet(namespace, "big", 9)).await?;
    gate.put(&fleet(namespace, "f", 8)).await?;
    let uid = uid_of(&gate, namespace, "fleets", "f").await?;
    let agones = as_user(&gate, CONTROLLER).await?;
    made(&create(&agones, "gameserversets", &owned(set(namespace, "f-1", 8), "Fleet", "f", &uid)).await?)?;
    used(&gate, namespace, "gameservers", "8").await?;
    let set = format!("{}/f-1", path(namespace, "gameserversets"));
    let owner = format!("{}/f", path(namespace, "fleets"));
    // A set alone may not be let go of: the fleet would have another made.
    let orphan = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"});
    let delete = async |path: &str| {
        gate.caller.write(&Method::DELETE, path, "application/json", orphan.to_string().into_bytes()).await
    };
    exceeded(&delete(&set).await?, "a set that leaves its servers behind")?;
    made(&delete(&owner).await?)?;
    let fleet_is_going = gate.get(&owner).await?;
    ensure!(fleet_is_going["metadata"]["finalizers"] == json!(["orphan"]), "{fleet_is_going:#}");
    let collector = as_user(&gate, COLLECTOR).await?;
    let without = json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": uid}], "uid": uid_of(&gate, namespace, "gameserversets", "f-1").await?}});
    // Of a custom resource it sends a JSON merge patch with the references that are left.
    let answer = collector
        .write(
            &Method::PATCH,
            &set,
            "application/strategic-merge-patch+json",
            without.to_string().into_bytes(),
        )
        .await?;
    ensure!(answer.code == StatusCode::UNSUPPORTED_MEDIA_TYPE, "{answer:#?}");
    made(&patch(&collector, &set, &json!({"metadata": {"ownerReferences": null}})).await?)?;
    used(&gate, namespace, "gameservers", "8").await?;
    made(&patch(&collector, &owner, &json!({"metadata": {"finalizers": null}})).await?)?;
    gate.becomes(&path(namespace, "fleets"), KNOWN, |list| list["items"] == json!([])).await?;
    used(&gate, namespace, "gameservers", "8").await?;
    exceeded(
        &create(&gate.caller, "gameservers", &game_server(namespace, "more")).await?,
        "no more than before",
    )
}

async fn labels(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-server-labels";
    gate.namespace(namespace).await?;
    gate.put(&game_server(namespace, "a")).await?;
    let mut refused = game_server(namespace, "refused");
    refused["metadata"]["labels"] = json!({"tier": "gold"});
    let looks = |field: &str| {
        // What the SDK or Agones writes would be refused too, if it were sent.
        let expression = format!(
            "!has(object.metadata.{field}) || \
             !object.metadata.{field}.exists(key, key == 'tier' || key.startsWith('agones.dev/sdk-'))"
        );
        json!({"expression": expression, "message": format!("{field} say gold")})
    };
    let rules = json!({"rules": {"cel": [looks("labels"), looks("annotations")]}});
    gate.policy(namespace, rules, &refused).await?;
    let server = format!("{}/a", path(namespace, "gameservers"));
    for field in ["labels", "annotations"] {
        let answer = patch(&gate.caller, &server, &json!({"metadata": {field: {"tier": "gold"}}})).await?;
        ensure!(answer.body["message"].to_string().contains(&format!("{field} say gold")), "{answer:#?}");
    }
    made(&patch(&gate.caller, &server, &json!({"status": {"state": "Ready"}})).await?)?;
    let sdk =
        json!({"metadata": {"labels": {"agones.dev/sdk-players": "7"}}, "status": {"state": "Allocated"}});
    made(&patch(&gate.caller, &server, &sdk).await?)?;
    // An allocation, with annotations of whoever asked for it.
    let allocated = json!({"metadata": {"annotations": {"tier": "gold"}}, "status": {"state": "Allocated"}});
    let answer = patch(&gate.caller, &server, &allocated).await?;
    ensure!(answer.code == StatusCode::FORBIDDEN, "{answer:#?}");
    made(&patch(&as_user(&gate, CONTROLLER).await?, &server, &allocated).await?)
}
