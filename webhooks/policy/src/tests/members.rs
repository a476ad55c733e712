//! Tests that objects which Agones creates for a Fleet or a set are excused, and that imitations are judged.

use super::*;

const AGONES: &str = "system:serviceaccount:agones-system:agones-controller";
const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
const NONE: [&str; 0] = [];

/// A Fleet `f` with uid `u` exists, in team-a.
struct Fleets;

impl Dependencies for Fleets {
    fn depends_on(&self, _of: &ObjectName) -> Option<Vec<ObjectName>> {
        None
    }

    fn owns(&self, namespace: &str, claim: &gatehouse_apiservice::agones::Claim<'_>) -> bool {
        (namespace, claim.name, claim.uid) == ("team-a", "f", Some("u"))
    }
}

/// A set with these fields of its owner reference.
fn set(label: &str, owner: &str, replicas: u32) -> Subject {
    let owner =
        format!("{{apiVersion: agones.dev/v1, kind: Fleet, name: f, uid: u, controller: true{owner}}}");
    let metadata = format!("{{labels: {{agones.dev/fleet: '{label}', a: b}}, ownerReferences: [{owner}]}}");
    // The last of several fields of the same name counts.
    subject(Kind::GameServerSet, &format!("{{metadata: {metadata}, spec: {{replicas: {replicas}}}}}"))
}

fn alone(replicas: u32) -> Subject {
    subject(Kind::GameServerSet, &format!("spec: {{replicas: {replicas}}}"))
}

fn small() -> Policy {
    policy(
        "rules: {replicas: {max: 50}, cel: [{expression: '!has(object.metadata.labels) || object.metadata.labels[?\"a\"].orValue(\"b\") == \"b\"'}]}",
    )
}

#[test]
fn what_agones_makes_for_a_fleet_is_judged_there() {
    let policy = small();
    let made = Request::create(set("f", "", 99)).by(AGONES);
    assert_eq!(made.judged_among(&policy, &Fleets), NONE);
    assert_eq!(policy.audit(&set("f", "", 99), &Fleets), []);
    assert_eq!(Request::scale(set("f", "", 1), 1, 99).by(AGONES).judged_among(&policy, &Fleets), NONE);
    assert_eq!(made.judged(&policy).len(), 1, "the fleet does not exist");
    assert_eq!(policy.audit(&set("f", "", 99), &NoDependencies).len(), 1);
}

#[test]
fn whoever_else_makes_it_is_judged() {
    let policy = small();
    let judged = |request: Request| request.judged_among(&policy, &Fleets).len();
    assert_eq!(judged(Request::create(set("f", "", 99))), 1);
    assert_eq!(
        judged(Request::create(set("f", "", 99)).by("system:serviceaccount:team-a:agones-controller")),
        1
    );
    assert_eq!(judged(Request::update(set("f", "", 1), set("f", "", 99))), 1);
    assert_eq!(judged(Request::scale(set("f", "", 1), 1, 99)), 1);
    assert_eq!(judged(Request::update(alone(99), set("f", "", 99))), 0, "no more than it was");
    assert_eq!(judged(Request::update(alone(99), set("f", "", 100))), 1, "as it becomes");
}

#[test]
fn what_names_its_owner_otherwise_than_agones_does_is_judged() {
    let policy = small();
    for (label, owner) in [
        ("", ""),
        ("g", ""),
        ("f", ", uid: v"),
        ("f", ", controller: false"),
        ("f", ", kind: GameServerSet"),
        ("f", ", apiVersion: agones.dev/v9"),
    ] {
        let object = set_of(label, owner);
        let made = Request::create(object.clone()).by(AGONES);
        assert_eq!(made.judged_among(&policy, &Fleets).len(), 1, "{label} {owner}");
        assert_eq!(policy.audit(&object, &Fleets).len(), 1, "{label} {owner}");
    }
}

/// A set with some fields of the owner replaced.
fn set_of(label: &str, owner: &str) -> Subject {
    let mut object = set(label, "", 99);
    let fields: Value = serde_saphyr::from_str(&format!("{{{}}}", owner.trim_start_matches(", "))).unwrap();
    for (field, value) in fields.as_object().unwrap() {
        object.object["metadata"]["ownerReferences"][0][field] = value.clone();
    }
    object
}

#[test]
fn an_update_that_leaves_spec_and_owner_alone_goes_with_the_fleet() {
    let policy = small();
    let mut relabelled = set("f", "", 99);
    relabelled.object["metadata"]["labels"]["a"] = "c".into();
    assert_eq!(Request::update(set("f", "", 99), relabelled.clone()).judged_among(&policy, &Fleets), NONE);
    // A set without an owner is judged by its labels.
    let mut alone = relabelled.clone();
    alone.object["metadata"]["ownerReferences"] = json!([]);
    let mut before = alone.clone();
    before.object["metadata"]["labels"]["a"] = "b".into();
    assert_eq!(Request::update(before, alone).judged_among(&policy, &Fleets).len(), 1);
}

#[test]
fn an_owner_that_is_added_in_a_freeze_is_held_or_refused_whoever_owns_the_set_already() {
    let policy = policy("rules: {freezes: [{name: day, schedule: '0 0 * * *', duration: 24h}]}");
    let with = |names: &[&str]| {
        let mut set = set("f", "", 1);
        let owners = set.object["metadata"]["ownerReferences"].as_array_mut().unwrap();
        owners.extend(
            names
                .iter()
                .map(|name| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": name})),
        );
        set
    };
    for (before, after) in
        [(with(&[]), with(&["a"])), (with(&["a"]), with(&["a", "b"])), (with(&["a"]), with(&["b"]))]
    {
        let update = || Request::update(before.clone(), after.clone());
        let by_flux = update().by("system:serviceaccount:flux-system:kustomize-controller");
        assert!(crate::freeze::hold(&[&policy], &by_flux.case()).is_some_and(|hold| hold.stays));
        assert_eq!(update().judged_among(&policy, &Fleets).len(), 1);
        assert_eq!(update().by(AGONES).judged_among(&policy, &Fleets), NONE);
    }
    let fewer = Request::update(with(&["a", "b"]), with(&["b"]));
    assert_eq!(fewer.judged_among(&policy, &Fleets), NONE, "one that is taken away has nothing deleted");
}

#[test]
fn what_has_no_owner_any_more_is_judged_as_a_whole() {
    let policy = small();
    let orphan = || {
        let mut orphan = set("f", "", 99);
        orphan.object["metadata"].as_object_mut().unwrap().shift_remove("ownerReferences");
        orphan
    };
    let let_go = || Request::update(set("f", "", 51), set_of("f", "uid: v"));
    assert_eq!(let_go().judged_among(&policy, &Fleets).len(), 1);
    let same = || Request::update(set("f", "", 99), orphan());
    assert_eq!(same().by(COLLECTOR).judged_among(&policy, &Fleets), NONE, "the collector is not held up");
    assert_eq!(policy.audit(&orphan(), &Fleets).len(), 1, "but it is found");
}
