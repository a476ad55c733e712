//! Fleets, sets and servers in the world: each server is counted once, whatever their owner references.

use super::*;

fn sets() -> GroupResource {
    GroupResource::new("agones.dev", "gameserversets")
}

fn game_servers() -> GroupResource {
    GroupResource::new("agones.dev", "gameservers")
}

/// A Fleet, set or server of `version`, with the owner in its label and in its owner reference.
fn object(
    name: &str,
    version: u64,
    replicas: u64,
    label: Option<(&str, &str)>,
    owner: Option<Value>,
) -> Value {
    let mut object = fleet(name, version, replicas);
    if let Some((key, value)) = label {
        object["metadata"]["labels"] = json!({key: value});
    }
    if let Some(owner) = owner {
        object["metadata"]["ownerReferences"] = json!([owner]);
    }
    object["spec"]["template"] = json!({});
    object
}

fn reference(kind: &str, name: &str, uid: &str) -> Value {
    json!({"apiVersion": "agones.dev/v1", "kind": kind, "name": name, "uid": uid, "controller": true})
}

const FLEET: &str = "agones.dev/fleet";
const SET: &str = "agones.dev/gameserverset";

fn used(builder: &Builder) -> String {
    builder.snapshot().usage_of("games").map(|used| of(used, "gameservers")).unwrap_or_default()
}

#[test]
fn what_agones_makes_of_a_fleet_is_the_fleet_s() {
    let mut builder = Builder::new();
    let owner = || Some(reference("Fleet", "f", "uid-f"));
    // Kinds are listed concurrently, so a set may be observed before its Fleet.
    builder.apply(&sets(), &object("s", 3, 8, Some((FLEET, "f")), owner()));
    assert_eq!(used(&builder), "8");
    builder.apply(&fleets(), &object("f", 2, 8, None, None));
    assert_eq!(used(&builder), "8");
    let of_set = Some(reference("GameServerSet", "s", "uid-s"));
    builder.apply(&game_servers(), &object("g", 4, 0, Some((SET, "s")), of_set));
    assert_eq!(used(&builder), "8");
    let snapshot = builder.snapshot();
    assert_eq!(of(snapshot.usage_of("games").unwrap(), "count/gameservers.agones.dev"), "1");
    let set = snapshot.object(&sets(), "games", "s").unwrap();
    assert_eq!(of(&set.usage.amounts, "gameservers"), "0", "what a ledger's entry may count on");
    assert_eq!(of(&set.alone.amounts, "gameservers"), "8");
    // A rollout that surges, and its end.
    builder.apply(&sets(), &object("s2", 5, 3, Some((FLEET, "f")), owner()));
    assert_eq!(used(&builder), "11");
    builder.delete(&sets(), "games", "s");
    assert_eq!(used(&builder), "9", "the server has lost its set, and runs until it is collected");
    builder.delete(&fleets(), "games", "f");
    assert_eq!(used(&builder), "4");
}

#[test]
fn an_owner_that_agones_does_not_see_excuses_from_nothing() {
    let whole = || reference("Fleet", "f", "uid-f");
    let with = |field: &str, value: &str| {
        let mut owner = whole();
        owner[field] = value.into();
        owner
    };
    let mut aside = whole();
    aside["controller"] = false.into();
    for (what, label, owner) in [
        ("no label", None, whole()),
        ("the label of another fleet", Some((FLEET, "other")), whole()),
        ("the label of another kind", Some((SET, "f")), whole()),
        ("a uid of nobody's", Some((FLEET, "f")), with("uid", "uid-nobody")),
        ("a name of nobody's", Some((FLEET, "f")), with("name", "nobody")),
        ("a version that is not served", Some((FLEET, "f")), with("apiVersion", "agones.dev/v9")),
        ("another kind", Some((FLEET, "f")), with("kind", "GameServerSet")),
        ("it does not control", Some((FLEET, "f")), aside),
    ] {
        let mut builder = Builder::new();
        builder.apply(&fleets(), &object("f", 2, 2, None, None));
        builder.apply(&sets(), &object("s", 3, 1001, label, Some(owner.clone())));
        assert_eq!(used(&builder), "1003", "{what}");
        // An update adds the owner, and another one removes it.
        builder.apply(&sets(), &object("s", 4, 2, Some((FLEET, "f")), Some(whole())));
        assert_eq!(used(&builder), "2", "{what}");
        builder.apply(&sets(), &object("s", 5, 1001, Some((FLEET, "f")), Some(whole())));
        assert_eq!(used(&builder), "1001", "more than the fleet asks for");
        builder.apply(&sets(), &object("s", 6, 1001, label, Some(owner)));
        assert_eq!(used(&builder), "1003", "{what}");
    }
    let mut builder = Builder::new();
    builder.apply(&fleets(), &object("f", 2, 2, None, None));
    let mut elsewhere = object("s", 3, 5, Some((FLEET, "f")), Some(whole()));
    elsewhere["metadata"]["namespace"] = "others".into();
    builder.apply(&sets(), &elsewhere);
    assert_eq!(
        of(builder.snapshot().usage_of("others").unwrap(), "gameservers"),
        "5",
        "in another namespace"
    );
}

#[test]
fn servers_of_a_set_of_none_are_servers() {
    let mut builder = Builder::new();
    builder.apply(&sets(), &object("s", 2, 0, None, None));
    for number in 0..3 {
        let owner = Some(reference("GameServerSet", "s", "uid-s"));
        builder.apply(&game_servers(), &object(&format!("g{number}"), 3, 0, Some((SET, "s")), owner));
    }
    assert_eq!(used(&builder), "3");
    let owner = Some(reference("GameServerSet", "s", "uid-s"));
    let mut going = object("g0", 4, 0, Some((SET, "s")), owner);
    going["status"] = json!({"state": "Shutdown"});
    builder.apply(&game_servers(), &going);
    going["metadata"]["deletionTimestamp"] = "2026-11-29T00:00:00Z".into();
    going["metadata"]["resourceVersion"] = "5".into();
    builder.apply(&game_servers(), &going);
    assert_eq!(used(&builder), "3", "its pod is there until it is gone");
    builder.delete(&game_servers(), "games", "g0");
    assert_eq!(used(&builder), "2");
}

#[test]
fn servers_that_are_played_on_are_the_fleet_s_after_a_scale_down() {
    let mut builder = Builder::new();
    let mut fleet = object("f", 2, 10, None, None);
    fleet["status"] = json!({"replicas": 10, "allocatedReplicas": 6, "reservedReplicas": 1});
    builder.apply(&fleets(), &fleet);
    assert_eq!(used(&builder), "10");
    fleet["spec"]["replicas"] = 0.into();
    fleet["metadata"]["resourceVersion"] = "3".into();
    builder.apply(&fleets(), &fleet);
    assert_eq!(used(&builder), "7");
    let snapshot = builder.snapshot();
    let held = snapshot.object(&fleets(), "games", "f").unwrap();
    assert!(held.subject().unwrap().object.get("status").is_none(), "policies do not see it");
}

#[test]
fn what_is_let_go_of_stays_with_an_owner_that_is_going() {
    let mut builder = Builder::new();
    builder.apply(&fleets(), &object("f", 2, 8, None, None));
    let owner = Some(reference("Fleet", "f", "uid-f"));
    builder.apply(&sets(), &object("s", 3, 8, Some((FLEET, "f")), owner));
    let mut going = object("f", 4, 8, None, None);
    going["metadata"]["deletionTimestamp"] = "2026-11-29T00:00:00Z".into();
    going["metadata"]["finalizers"] = json!(["orphan"]);
    builder.apply(&fleets(), &going);
    builder.apply(&sets(), &object("s", 5, 8, Some((FLEET, "f")), None));
    assert_eq!(used(&builder), "8");
    builder.delete(&fleets(), "games", "f");
    assert_eq!(used(&builder), "8");
    // A new fleet with the same name creates its own servers.
    builder.apply(&fleets(), &object("f", 9, 8, None, None));
    assert_eq!(used(&builder), "16");
}
