//! Rules, defaults and quotas have the same results on the fields that are read as on the whole object.

use gatehouse_apiservice::{UserInfo, policy::ReconcilePolicy};
use gatehouse_policy::{
    Accounts, Case, Dependencies, GOVERNED, Kind, ObjectName, Operation, Policy, Subject, defaults,
    depends_on,
};
use gatehouse_quota::{CHARGED, GroupResource, NoTemplates, usage};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A cluster without dependencies.
struct Alone;

impl Dependencies for Alone {
    fn depends_on(&self, _of: &ObjectName) -> Option<Vec<ObjectName>> {
        None
    }
}

/// A policy with all rules and defaults, except conditions, which see whole objects.
static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let policy = json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1",
        "kind": "ReconcilePolicy",
        "metadata": {"name": "all"},
        "spec": {
            "rules": {
                "interval": {"min": "1m", "max": "1h"},
                "serviceAccountName": {"required": true, "allowed": ["flux-*"]},
                "crossNamespaceRefs": "Forbid",
                "sources": {"allowed": ["https://github.com/my-org/*", "oci://*.example.com/**"]},
                "targetNamespaces": {"allowed": ["team-*"]},
                "prune": "Required",
                "dependencyCycles": "Forbid",
                "suspension": {"requireReason": true, "maxDuration": "24h"},
                "freezes": [{"name": "always", "schedule": "0 0 * * *", "duration": "23h"}],
                "replicas": {"max": 5},
                "verbs": "Authorize",
            },
            "defaults": {
                "interval": "10m", "timeout": "5m", "retryInterval": "2m", "prune": true, "serviceAccountName": "flux-x",
                "labels": {"gatehouse.dev/managed": "true"},
                "gameServerResources": {"requests": {"cpu": "500m", "memory": "512Mi"}},
            },
        },
    });
    let policy: ReconcilePolicy = serde_json::from_value(policy).expect("the policy has its shape");
    Policy::compile(&policy).unwrap_or_else(|errors| panic!("{errors:?}"))
});

/// Objects with all fields that rules and quotas use, and others.
fn examples() -> Vec<Value> {
    let pod = json!({
        "containers": [
            {"name": "sidecar", "image": "x", "env": [{"name": "A", "value": "b"}], "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
            {"name": "game", "resources": {"limits": {"cpu": "2", "memory": "2Gi"}, "claims": [{"name": "x"}]}},
        ],
        "initContainers": [{"name": "init", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}],
        "resources": {"requests": {"cpu": "3"}, "limits": {"memory": "8Gi"}}, "overhead": {"cpu": "100m"},
        "volumes": [{"name": "v", "emptyDir": {}}], "nodeSelector": {"a": "b"},
    });
    let server = json!({
        "container": "game", "ports": [{"name": "p"}], "template": {"metadata": {"labels": {"x": "y"}}, "spec": pod},
        "players": {"initialCapacity": 4}, "counters": {"players": {"count": 1, "capacity": 8}},
        "lists": {"players": {"capacity": 9, "values": ["a"]}, "rooms": {"values": []}},
    });
    let reference = json!({"kind": "GitRepository", "name": "a", "namespace": "other", "apiVersion": "v1"});
    let specs = [
        json!({"replicas": 7, "template": {"metadata": {"labels": {"x": "y"}}, "spec": server}, "strategy": {"type": "Recreate"}}),
        server,
        json!({"replicas": 2, "gameServerTemplate": {"spec": pod}, "network": {"a": "b"}}),
        json!({"templateRef": {"name": "t", "namespace": "n"}, "resources": {"cpu": "1", "requests": {"memory": "1Gi"}}}),
        json!({"fleetName": "f", "policy": {"type": "Chain", "chain": [
            {"id": "a", "type": "Buffer", "buffer": {"maxReplicas": 9, "bufferSize": 1}},
            {"type": "Schedule", "schedule": {"between": {}, "policy": {"type": "Counter", "counter": {"key": "players", "maxCapacity": 90}}}},
        ]}}),
        json!({
            "interval": "10s", "timeout": "1m", "suspend": true, "prune": false, "serviceAccountName": "admin",
            "targetNamespace": "kube-system", "storageNamespace": "kube-system", "path": "./x",
            "sourceRef": reference, "chartRef": reference, "dependsOn": [reference, {"name": "b"}],
            "chart": {"spec": {"chart": "../up", "interval": "2s", "version": "1", "sourceRef": reference, "valuesFiles": ["a"]}},
            "values": {"a": [1, {"b": null}]}, "patches": [{"patch": "x"}],
        }),
        json!({
            "url": "https://evil.example/x", "image": "evil.example/x", "endpoint": "s3.evil.example", "bucketName": "b",
            "insecure": true, "provider": "generic", "chart": "../up", "digestReflectionPolicy": "Always",
            "imageRepositoryRef": reference, "eventSources": [reference], "resources": [reference], "sources": [reference],
            "sync": {"url": "https://evil.example/x", "kind": "GitRepository"}, "distribution": {"registry": "evil.example"},
            "resourcesTemplate": "- a: b",
        }),
    ];
    let metadata = json!({
        "name": "x", "namespace": "n", "uid": "u", "resourceVersion": "5", "labels": {"a": "b"}, "finalizers": ["f"],
        "annotations": {
            "gatehouse.dev/suspend-reason": "why", "fluxcd.controlplane.io/reconcile": "disabled",
            "reconcile.fluxcd.io/requestedAt": "now", "kubectl.kubernetes.io/last-applied-configuration": "{}",
        },
        "ownerReferences": [{"apiVersion": "agones.dev/v1", "kind": "Fleet", "name": "f", "uid": "o", "controller": true}],
        "managedFields": [{"manager": "m"}],
    });
    specs.map(|spec| json!({"apiVersion": "g/v1", "kind": "K", "metadata": metadata, "spec": spec})).into()
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..9).prop_map(Value::from),
        proptest::sample::select(vec![
            "",
            "1",
            "5m",
            "10s",
            "2Gi",
            "a",
            "other",
            "Always",
            "game",
            "https://github.com/my-org/x"
        ])
        .prop_map(Value::from),
    ];
    let names = proptest::sample::select(vec![
        "name",
        "namespace",
        "cpu",
        "memory",
        "requests",
        "limits",
        "resources",
        "spec",
        "template",
        "capacity",
        "players",
        "containers",
        "controller",
        "deletionTimestamp",
        "x",
    ]);
    leaf.prop_recursive(3, 12, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(names.clone(), inner, 0..3)
                .prop_map(|map| map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

/// Replaces or removes the part of a value with the index `at`.
fn change(value: &mut Value, at: &mut usize, new: Option<&Value>) {
    let mut turn = |value: &mut Value| {
        let is_here = *at == 0;
        *at = at.wrapping_sub(1);
        if is_here && let Some(new) = new {
            value.clone_from(new);
        } else if !is_here && *at != usize::MAX {
            change(value, at, new);
        }
        !(is_here && new.is_none())
    };
    match value {
        Value::Array(list) => list.retain_mut(turn),
        Value::Object(map) => map.retain(|_, value| turn(value)),
        _ => {}
    }
}

fn objects() -> impl Strategy<Value = Value> {
    let changes = prop::collection::vec((0_usize..120, prop::option::weighted(0.8, any_value())), 0..4);
    (proptest::sample::select(examples()), changes).prop_map(|(mut object, changes)| {
        for (mut at, new) in changes {
            change(&mut object, &mut at, new.as_ref());
        }
        object
    })
}

fn lean(object: &Value) -> gatehouse_object::Read {
    gatehouse_object::read(&object.to_string(), &FIELDS, 1 << 30).expect("an object")
}

/// The result of the policy for an update, or for a creation if `old` is `None`.
fn judged(new: &Subject, old: Option<&Subject>) -> String {
    let (user, accounts) = (UserInfo { name: "jane".into(), ..UserInfo::default() }, Accounts::default());
    let case = Case {
        operation: if old.is_some() { Operation::Update } else { Operation::Create },
        subresource: None,
        object: Some(new),
        old,
        scaling: None,
        user: Some(&user),
        field_manager: None,
        // A time within the freeze.
        now: jiff::Timestamp::UNIX_EPOCH,
        accounts: &accounts,
    };
    let patch = serde_json::to_string(&defaults(&[&POLICY], &case)).expect("JSON");
    let (violations, verbs) = (POLICY.judge(&case, &Alone), POLICY.required_verbs(&case));
    format!("{violations:?} {verbs:?} {patch} {:?} {:?}", depends_on(new), POLICY.audit(new, &Alone))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_lean_object_takes_up_what_the_whole_one_does(object in objects()) {
        let lean = lean(&object).value;
        for (group, resource) in CHARGED.iter().chain(&[("autoscaling.agones.dev", "fleetautoscalers")]) {
            let resource = GroupResource::new(group, resource);
            let (whole, lean) = (usage(&resource, &object, &NoTemplates), usage(&resource, &lean, &NoTemplates));
            prop_assert_eq!(format!("{whole:?}"), format!("{lean:?}"));
        }
    }

    #[test]
    fn a_lean_object_is_judged_as_the_whole_one_is(
        kind in proptest::sample::select(GOVERNED.to_vec()), new in objects(), old in prop::option::of(objects()),
    ) {
        let whole = |object: &Value| Subject::new(kind, "n", "x", object.clone());
        let lean = |object: &Value| {
            let read = lean(object);
            Subject::new(kind, "n", "x", read.value).with_rest(read.rest)
        };
        let by_whole = judged(&whole(&new), old.as_ref().map(whole).as_ref());
        let by_lean = judged(&lean(&new), old.as_ref().map(lean).as_ref());
        prop_assert_eq!(by_whole, by_lean);
        // An update without a change.
        prop_assert_eq!(judged(&whole(&new), Some(&whole(&new))), judged(&lean(&new), Some(&lean(&new))));
    }
}

#[test]
fn each_example_has_something_that_breaks_rules() {
    let broken = |kind: Kind| {
        let judged = |object: Value| judged(&Subject::new(kind, "n", "x", object), None);
        examples().into_iter().map(judged).filter(|judged| judged.contains("rule: ")).count()
    };
    assert!(
        [Kind::Kustomization, Kind::HelmRelease, Kind::Fleet, Kind::GitRepository]
            .into_iter()
            .all(|kind| broken(kind) > 0)
    );
}
