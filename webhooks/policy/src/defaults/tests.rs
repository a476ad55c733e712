//! Tests each default on the kinds that have the field, and what defaults leave unchanged.

use gatehouse_apiservice::{UserInfo, policy::ReconcilePolicy};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::Accounts;

const ALL: &str = r#"{
    "interval": "10m", "timeout": "5m", "retryInterval": "2m", "prune": true, "serviceAccountName": "flux-tenant",
    "labels": {"gatehouse.dev/managed": "true"}, "gameServerResources": {"requests": {"cpu": "500m", "memory": "512Mi"}}
}"#;

#[allow(clippy::needless_pass_by_value, reason = "calls read better")]
fn policy(name: &str, defaults: Value, rules: Value) -> Policy {
    let policy = json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy", "metadata": {"name": name},
        "spec": {"defaults": defaults, "rules": rules},
    });
    Policy::compile(&serde_json::from_value::<ReconcilePolicy>(policy).unwrap()).unwrap()
}

fn all() -> Policy {
    policy("all", serde_json::from_str(ALL).unwrap(), json!({}))
}

fn subject(kind: Kind, object: Value) -> Subject {
    Subject::new(kind, "team-a", "x", object)
}

fn patch_of(policies: &[&Policy], object: &Subject, old: Option<&Subject>, user: &str) -> Patch {
    let user = UserInfo { name: user.into(), ..UserInfo::default() };
    let case = Case {
        operation: if old.is_some() { Operation::Update } else { Operation::Create },
        subresource: None,
        object: Some(object),
        old,
        scaling: None,
        user: Some(&user),
        field_manager: None,
        now: Timestamp::from_second(1_800_000_000).unwrap(),
        accounts: &Accounts::default(),
    };
    defaults(policies, &case)
}

#[allow(clippy::needless_pass_by_value, reason = "calls read better")]
/// Creates the object under the policies, compares the result, and then reviews it again.
fn check(policies: &[&Policy], kind: Kind, object: Value, expected: Value) {
    let patch = patch_of(policies, &subject(kind, object.clone()), None, "jane");
    let mut patched = object;
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(patched, expected);
    let again = patch_of(policies, &subject(kind, patched), None, "jane");
    assert_eq!(again.0, [], "asking again adds nothing");
}

#[test]
fn a_kustomization_gets_what_it_leaves_out() {
    let labels = json!({"gatehouse.dev/managed": "true"});
    check(
        &[&all()],
        Kind::Kustomization,
        json!({"metadata": {"name": "x"}, "spec": {"path": "./", "timeout": "1m", "prune": false}}),
        json!({"metadata": {"name": "x", "labels": labels}, "spec": {
            "path": "./", "timeout": "1m", "prune": false, "interval": "10m", "retryInterval": "2m",
            "serviceAccountName": "flux-tenant",
        }}),
    );
    let whole = json!({"metadata": {"labels": labels}, "spec": {
        "interval": "1h", "timeout": "1m", "retryInterval": "1m", "prune": false, "serviceAccountName": "own",
    }});
    check(&[&all()], Kind::Kustomization, whole.clone(), whole);
}

#[test]
fn a_kind_gets_the_fields_it_has() {
    let labels = json!({"gatehouse.dev/managed": "true"});
    for (kind, spec) in [
        (Kind::GitRepository, json!({"interval": "10m", "timeout": "5m"})),
        (Kind::OciRepository, json!({"interval": "10m", "timeout": "5m"})),
        (Kind::HelmRelease, json!({"interval": "10m", "timeout": "5m", "serviceAccountName": "flux-tenant"})),
        (Kind::HelmChart, json!({"interval": "10m"})),
        (Kind::ImageUpdateAutomation, json!({"interval": "10m"})),
        (Kind::ImagePolicy, json!({})),
        (Kind::Alert, json!({})),
        (Kind::ResourceSet, json!({})),
        (Kind::ArtifactGenerator, json!({})),
        (Kind::FleetAutoscaler, json!({})),
    ] {
        check(
            &[&all()],
            kind,
            json!({"metadata": {}, "spec": {}}),
            json!({"metadata": {"labels": labels}, "spec": spec}),
        );
    }
    check(
        &[&policy("a", json!({"interval": "10m"}), json!({}))],
        Kind::ImagePolicy,
        json!({"spec": {"digestReflectionPolicy": "Always"}}),
        json!({"spec": {"digestReflectionPolicy": "Always", "interval": "10m"}}),
    );
}

#[test]
fn labels_are_added_one_by_one_and_their_keys_escaped() {
    let policy = policy("a", json!({"labels": {"a/b": "1", "c": "2", "d": "3"}}), json!({}));
    check(
        &[&policy],
        Kind::Alert,
        json!({"metadata": {"labels": {"c": "own"}}, "spec": {}}),
        json!({"metadata": {"labels": {"c": "own", "a/b": "1", "d": "3"}}, "spec": {}}),
    );
    let patch =
        patch_of(&[&policy], &subject(Kind::Alert, json!({"metadata": {}, "spec": {}})), None, "jane");
    assert_eq!(
        serde_json::to_value(&patch).unwrap(),
        json!([
            {"op": "add", "path": "/metadata/labels", "value": {}},
            {"op": "add", "path": "/metadata/labels/a~1b", "value": "1"},
            {"op": "add", "path": "/metadata/labels/c", "value": "2"},
            {"op": "add", "path": "/metadata/labels/d", "value": "3"},
        ])
    );
}

#[test]
fn the_game_servers_container_gets_requests_without_limits_of_its_own() {
    let policy = policy(
        "a",
        json!({"gameServerResources": {"requests": {"cpu": "500m", "memory": "512Mi"}}}),
        json!({}),
    );
    let fleet = |containers: Value| json!({"spec": {"template": {"spec": {"container": "game", "template": {"spec": {"containers": containers}}}}}});
    check(
        &[&policy],
        Kind::Fleet,
        fleet(json!([{"name": "side"}, {"name": "game", "resources": {"limits": {"cpu": "1"}}}])),
        fleet(json!([
            {"name": "side"},
            {"name": "game", "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "512Mi"}}},
        ])),
    );
    let server = |containers: Value| json!({"spec": {"template": {"spec": {"containers": containers}}}});
    check(
        &[&policy],
        Kind::GameServer,
        server(json!([{"name": "a", "resources": {"requests": {"cpu": "1"}}}, {"name": "b"}])),
        server(
            json!([{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "512Mi"}}}, {"name": "b"}]),
        ),
    );
    let set =
        |containers: Value| json!({"spec": {"gameServerTemplate": {"spec": {"containers": containers}}}});
    check(
        &[&policy],
        Kind::KruiseGameServerSet,
        set(json!([{"name": "a"}])),
        set(json!([{"name": "a", "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}}}])),
    );
    // A missing container and invalid lists are left unchanged.
    for containers in [json!([]), json!([{"name": "other"}]), json!("x"), json!(null)] {
        check(&[&policy], Kind::Fleet, fleet(containers.clone()), fleet(containers));
    }
}

#[test]
fn of_several_policies_the_first_by_name_wins() {
    let (a, b) = (
        policy("a", json!({"interval": "1m", "labels": {"team": "a"}}), json!({})),
        policy("b", json!({"interval": "2m", "timeout": "2m", "labels": {"team": "b", "b": "b"}}), json!({})),
    );
    for policies in [[&a, &b], [&b, &a]] {
        check(
            &policies,
            Kind::GitRepository,
            json!({"metadata": {"labels": {}}, "spec": {}}),
            json!({"metadata": {"labels": {"team": "a", "b": "b"}}, "spec": {"interval": "1m", "timeout": "2m"}}),
        );
    }
}

#[test]
fn an_update_that_changes_nothing_declared_is_left_alone() {
    let old = subject(Kind::Kustomization, json!({"metadata": {}, "spec": {"path": "./"}}));
    let finalizer =
        subject(Kind::Kustomization, json!({"metadata": {"finalizers": ["x"]}, "spec": {"path": "./"}}));
    assert_eq!(patch_of(&[&all()], &finalizer, Some(&old), "jane").0, []);
    let changed = subject(Kind::Kustomization, json!({"metadata": {}, "spec": {"path": "./b"}}));
    assert_ne!(patch_of(&[&all()], &changed, Some(&old), "jane").0, []);
    let going = subject(
        Kind::Kustomization,
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {}}),
    );
    assert_eq!(patch_of(&[&all()], &going, Some(&going), "jane").0, []);
}

#[test]
fn objects_of_the_wrong_shape_are_left_alone() {
    for object in
        [json!({}), json!(null), json!([]), json!({"spec": null}), json!({"spec": "x", "metadata": "x"})]
    {
        let patch = patch_of(&[&all()], &subject(Kind::Kustomization, object.clone()), None, "jane");
        let mut patched = object;
        json_patch::patch(&mut patched, &patch).unwrap();
    }
}

#[test]
fn who_suspends_and_when_is_noted_under_a_policy_about_it() {
    let noting = policy("a", json!({}), json!({"suspension": {"requireReason": true}}));
    let on = |value: bool| subject(Kind::Kustomization, json!({"metadata": {}, "spec": {"suspend": value}}));
    let noted = json!([
        {"op": "add", "path": "/metadata/annotations", "value": {}},
        {"op": "add", "path": "/metadata/annotations/fluxcd.controlplane.io~1suspendedBy", "value": "jane"},
        {"op": "add", "path": "/metadata/annotations/gatehouse.dev~1suspended-at", "value": "2027-01-15T08:00:00Z"},
    ]);
    let json = |patch: &Patch| serde_json::to_value(patch).unwrap();
    assert_eq!(json(&patch_of(&[&noting], &on(true), Some(&on(false)), "jane")), noted);
    assert_eq!(json(&patch_of(&[&noting], &on(true), None, "jane")), noted);
    // Somebody wrote this before, to have the suspension end at once.
    let marked = |value: bool| {
        let annotations = json!({"gatehouse.dev/suspended-at": "2020-01-01T00:00:00Z",
            "fluxcd.controlplane.io/suspendedBy": "nobody"});
        subject(
            Kind::Kustomization,
            json!({"metadata": {"annotations": annotations}, "spec": {"suspend": value}}),
        )
    };
    let mut patched = marked(true).object;
    json_patch::patch(&mut patched, &patch_of(&[&noting], &marked(true), Some(&marked(false)), "jane"))
        .unwrap();
    assert_eq!(
        patched["metadata"]["annotations"],
        json!({"gatehouse.dev/suspended-at": "2027-01-15T08:00:00Z", "fluxcd.controlplane.io/suspendedBy": "jane"})
    );
    let set = |state: &str| {
        subject(
            Kind::ResourceSet,
            json!({"metadata": {"annotations": {"fluxcd.controlplane.io/reconcile": state}}, "spec": {}}),
        )
    };
    assert_eq!(patch_of(&[&noting], &set("disabled"), Some(&set("enabled")), "jane").0.len(), 2);
    for (policy, object, old, user) in [
        (&noting, on(true), on(true), "jane"),
        (&noting, on(false), on(true), "jane"),
        (&noting, on(true), on(false), "system:serviceaccount:flux-system:kustomize-controller"),
        (&noting, on(true), on(false), "system:serviceaccount:gatehouse-system:gatehouse"),
        (&policy("b", json!({}), json!({})), on(true), on(false), "jane"),
    ] {
        assert_eq!(patch_of(&[policy], &object, Some(&old), user).0, [], "{user}");
    }
}

fn some_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i32>().prop_map(|number| json!(number)),
        "[a-z/~]{0,4}".prop_map(Value::String),
    ];
    let key = prop::sample::select(vec![
        "spec",
        "template",
        "containers",
        "container",
        "resources",
        "requests",
        "limits",
        "interval",
        "name",
        "suspend",
        "gameServerTemplate",
        "cpu",
        "labels",
        "annotations",
    ]);
    leaf.prop_recursive(7, 48, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map(key.clone(), inner, 0..5).prop_map(|map| Value::Object(
                map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn a_patch_applies_and_asking_again_adds_nothing(
        kind in prop::sample::select(crate::GOVERNED.to_vec()),
        metadata in some_json(),
        spec in some_json(),
    ) {
        let policies = [all(), policy("b", json!({"interval": "1m", "labels": {"a/b": "x"}}), json!({"suspension": {}}))];
        let policies: Vec<_> = policies.iter().collect();
        let object = json!({"metadata": metadata, "spec": spec});
        let patch = patch_of(&policies, &subject(kind, object.clone()), None, "jane");
        let mut patched = object.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        prop_assert_eq!(&patch_of(&policies, &subject(kind, patched.clone()), None, "jane").0, &[]);
        // No existing field has changed.
        prop_assert!(contains(&patched, &object), "{} {}", patched, object);
    }
}

fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (_, Value::Null) => true,
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(key, value)| {
            value.is_null() || whole.get(key).is_some_and(|in_whole| contains(in_whole, value))
        }),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        (whole, part) => whole == part,
    }
}
