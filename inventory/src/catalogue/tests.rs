//! Tests the built-in kinds by their rules, and catalogue files that users write.

use serde_json::{Value, json};

use super::*;
use crate::{Detail, End, Interner, Record, State};

/// 2026-08-29T10:40:00Z.
const NOW: i64 = 1_788_000_000;

fn observe(catalogue: &Catalogue, resource: &str, object: &Value) -> Record {
    let (id, _) = catalogue.kinds().find(|(_, kind)| kind.resource_name() == resource).unwrap();
    catalogue.observe(id, &object.to_string(), &Interner::default(), NOW).unwrap()
}

/// The state and the reason of the object under the built-in catalogue.
fn judge(resource: &str, parts: &Value) -> String {
    let mut object = json!({"metadata": {"name": "a", "namespace": "ns"}});
    for (name, part) in parts.as_object().unwrap() {
        for (field, value) in part.as_object().unwrap() {
            object[name][field] = value.clone();
        }
    }
    let record = observe(&Catalogue::builtin(), resource, &object);
    format!("{} {}", record.verdict.state, record.verdict.reason)
}

fn condition(type_: &str, status: &str, reason: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "lastTransitionTime": "2026-08-29T10:39:00Z"})
}

#[test]
fn every_kind_is_found_by_its_name_and_has_a_distinct_resource() {
    let catalogue = Catalogue::builtin();
    let mut resources = std::collections::HashSet::new();
    for (id, kind) in catalogue.kinds() {
        assert_eq!(catalogue.find(&kind.group, &kind.kind), Some(id));
        assert!(resources.insert(kind.resource_name()), "{}", kind.resource_name());
        assert_eq!(kind.is_flux(), kind.layer == Some(Layer::Flux), "{}", kind.resource_name());
    }
    assert_eq!(resources.len(), catalogue.len());
    for layer in Layer::ALL {
        let of_layer = catalogue.kinds().any(|(_, kind)| kind.layer == Some(layer));
        // Flux's controllers are ordinary Deployments; their label identifies them.
        assert_eq!(of_layer, layer != Layer::FluxControllers, "{layer:?}");
    }
}

#[test]
fn every_kind_without_a_status_is_pending_or_by_its_nature_ready() {
    let catalogue = Catalogue::builtin();
    for (_, kind) in catalogue.kinds() {
        let record = observe(&catalogue, &kind.resource_name(), &json!({"metadata": {"name": "a"}}));
        let statusless = matches!(
            kind.kind.as_str(),
            "Alert" | "Provider" | "StorageClass" | "CronJob" | "AppProject" | "BackendTLSPolicy"
        );
        let expected = if statusless { State::Ready } else { State::Pending };
        assert_eq!(record.verdict.state, expected, "{}: {:?}", kind.resource_name(), record.verdict);
        assert_eq!(&*record.key.namespace, if kind.namespaced { "default" } else { "" });
    }
}

#[test]
fn every_kind_with_an_empty_spec_and_a_strange_status_is_judged_without_an_error() {
    let catalogue = Catalogue::builtin();
    let object = json!({"metadata": {"name": "a"}, "spec": {}, "status": {"strange": {"deep": [1]}}});
    for (_, kind) in catalogue.kinds() {
        let record = observe(&catalogue, &kind.resource_name(), &object);
        assert_ne!(record.verdict.state, State::Unknown, "{}: {:?}", kind.resource_name(), record.verdict);
    }
}

#[test]
fn workloads_follow_the_rules_of_kstatus() {
    let replicas = |all: i64, updated: i64, available: i64| {
        json!({"observedGeneration": 2, "replicas": all, "updatedReplicas": updated, "readyReplicas": available,
            "availableReplicas": available, "conditions": [condition("Available", "True", "MinimumReplicasAvailable")]})
    };
    let deployment = |status: Value| {
        judge(
            "deployments.apps",
            &json!({"metadata": {"generation": 2}, "spec": {"replicas": 3}, "status": status}),
        )
    };
    assert_eq!(deployment(replicas(3, 3, 3)), "Ready MinimumReplicasAvailable");
    assert_eq!(deployment(replicas(4, 3, 4)), "Progressing RollingOut");
    assert_eq!(deployment(replicas(3, 1, 3)), "Progressing RollingOut");
    assert_eq!(deployment(replicas(3, 3, 2)), "Progressing RollingOut");
    let mut lagging = replicas(3, 3, 3);
    lagging["observedGeneration"] = json!(1);
    assert_eq!(deployment(lagging), "Progressing LatestGenerationNotObserved");
    let mut exceeded = replicas(3, 1, 0);
    exceeded["conditions"] = json!([condition("Progressing", "False", "ProgressDeadlineExceeded")]);
    assert_eq!(deployment(exceeded), "Failed ProgressDeadlineExceeded");

    let stateful = |strategy: &str, ready: i64, update: &str| {
        let spec = json!({"replicas": 2, "updateStrategy": {"type": strategy}});
        let status =
            json!({"replicas": 2, "readyReplicas": ready, "currentRevision": "a", "updateRevision": update});
        judge("statefulsets.apps", &json!({"spec": spec, "status": status}))
    };
    assert_eq!(stateful("RollingUpdate", 2, "a"), "Ready ");
    assert_eq!(stateful("RollingUpdate", 1, "a"), "Progressing RollingOut");
    assert_eq!(stateful("RollingUpdate", 2, "b"), "Progressing RollingOut");
    assert_eq!(stateful("OnDelete", 2, "b"), "Ready ", "replaced by hand");
    assert_eq!(stateful("OnDelete", 1, "b"), "Progressing RollingOut", "and ready all the same");

    let daemons = |ready: i64| {
        let status = json!({"desiredNumberScheduled": 3, "currentNumberScheduled": 3, "updatedNumberScheduled": 3,
            "numberReady": ready, "numberAvailable": ready});
        judge("daemonsets.apps", &json!({"status": status}))
    };
    assert_eq!((daemons(3), daemons(2)), ("Ready ".into(), "Progressing RollingOut".into()));
}

#[test]
fn an_unavailable_deployment_is_given_its_own_deadline_and_flux_a_minute() {
    let deployment = |labels: Value, since: &str| {
        let unavailable = json!({"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable",
            "lastTransitionTime": since});
        json!({"metadata": {"name": "a", "namespace": "ns", "labels": labels}, "spec": {"replicas": 1},
            "status": {"replicas": 1, "updatedReplicas": 1, "conditions": [unavailable]}})
    };
    let catalogue = Catalogue::builtin();
    let lately = observe(&catalogue, "deployments.apps", &deployment(json!({}), "2026-08-29T10:39:00Z"));
    let deadline = lately.verdict.deadline.unwrap();
    assert_eq!(
        (lately.verdict.state, deadline.at, deadline.end),
        (State::Progressing, NOW + 540, End::State(State::Failed))
    );
    let long = observe(&catalogue, "deployments.apps", &deployment(json!({}), "2026-08-29T10:00:00Z"));
    assert_eq!((long.verdict.state, &*long.verdict.reason), (State::Failed, "MinimumReplicasUnavailable"));
    assert_eq!((long.verdict.since, long.layer), (Some(NOW - 2400), Some(Layer::Workloads)));
    assert_eq!(&*long.verdict.message, "0 of 1 replicas available, 1 updated, since 2026-08-29T10:00:00Z");

    let part_of_flux = json!({"app.kubernetes.io/part-of": "flux"});
    let flux = observe(&catalogue, "deployments.apps", &deployment(part_of_flux, "2026-08-29T10:39:00Z"));
    assert_eq!((flux.verdict.state, flux.layer), (State::Failed, Some(Layer::FluxControllers)));
}

#[test]
fn each_layer_is_bad_when_the_reference_says_so() {
    let status = |resource: &str, status: Value| judge(resource, &json!({"status": status}));
    let conditions = |list: &[Value]| json!({"conditions": list});
    let parents = |resolved: &str| {
        json!({"parents": [{"conditions": [condition("Accepted", "True", "Accepted")]},
            {"conditions": [condition("ResolvedRefs", resolved, "BackendNotFound")]}]})
    };
    let pg = |phase: &str, ready: i64| json!({"phase": phase, "instances": 3, "readyInstances": ready});
    let healthy = "Cluster in healthy state";
    let app = |sync: &str, health: &str| json!({"sync": {"status": sync}, "health": {"status": health}});
    for (resource, given, expected) in [
        (
            "nodes",
            conditions(&[condition("Ready", "Unknown", "NodeStatusUnknown")]),
            "Failed NodeStatusUnknown",
        ),
        (
            "nodes",
            conditions(&[condition("PIDPressure", "True", ""), condition("Ready", "True", "")]),
            "Failed PIDPressure",
        ),
        ("persistentvolumeclaims", json!({"phase": "Lost"}), "Failed Lost"),
        ("persistentvolumes", json!({"phase": "Released"}), "Ready Retained"),
        ("persistentvolumes", json!({"phase": "Failed"}), "Failed Failed"),
        ("persistentvolumes", json!({"phase": "Available"}), "Ready Available"),
        (
            "volumes.longhorn.io",
            json!({"state": "attached", "robustness": "faulted", "lastDegradedAt": ""}),
            "Failed Faulted",
        ),
        ("volumes.longhorn.io", json!({"state": "detached", "robustness": "unknown"}), "Ready Detached"),
        (
            "volumes.longhorn.io",
            json!({"state": "attaching", "robustness": "unknown"}),
            "Progressing InProgress",
        ),
        (
            "certificates.cert-manager.io",
            conditions(&[condition("Issuing", "True", "Renewing"), condition("Ready", "False", "Expired")]),
            "Progressing Renewing",
        ),
        (
            "certificates.cert-manager.io",
            conditions(&[condition("Ready", "False", "DoesNotExist")]),
            "Failed DoesNotExist",
        ),
        (
            "externalsecrets.external-secrets.io",
            conditions(&[condition("Ready", "False", "SecretSyncedError")]),
            "Failed SecretSyncedError",
        ),
        ("sealedsecrets.bitnami.com", conditions(&[condition("Synced", "False", "")]), "Failed Synced"),
        ("clusters.postgresql.cnpg.io", pg(healthy, 3), "Ready "),
        ("clusters.postgresql.cnpg.io", pg(healthy, 2), "Progressing InstancesNotReady"),
        ("clusters.postgresql.cnpg.io", pg("Creating a new replica", 2), "Progressing Reconciling"),
        ("clusters.postgresql.cnpg.io", pg("Failing over", 2), "Failed Unhealthy"),
        ("dragonflies.dragonflydb.io", json!({"phase": "ResourcesCreated"}), "Progressing ResourcesCreated"),
        (
            "gateways.gateway.networking.k8s.io",
            conditions(&[
                condition("Accepted", "True", "Accepted"),
                condition("Programmed", "False", "AddressNotAssigned"),
            ]),
            "Progressing AddressNotAssigned",
        ),
        ("httproutes.gateway.networking.k8s.io", parents("False"), "Failed BackendNotFound"),
        ("httproutes.gateway.networking.k8s.io", parents("True"), "Ready Accepted"),
        ("backups.velero.io", json!({"phase": "PartiallyFailed"}), "Failed PartiallyFailed"),
        ("backups.velero.io", json!({"phase": "InProgress"}), "Progressing InProgress"),
        ("backupstoragelocations.velero.io", json!({"phase": "Unavailable"}), "Failed Unavailable"),
        ("applications.argoproj.io", app("Synced", "Healthy"), "Ready Healthy"),
        ("applications.argoproj.io", app("OutOfSync", "Healthy"), "Suspended OutOfSync"),
        ("applications.argoproj.io", app("OutOfSync", "Missing"), "Suspended OutOfSync"),
        ("applications.argoproj.io", app("OutOfSync", "Progressing"), "Progressing Progressing"),
        ("applications.argoproj.io", app("Synced", "Suspended"), "Suspended Suspended"),
        ("gameservers.agones.dev", json!({"state": "Error"}), "Failed Error"),
        ("gameservers.agones.dev", json!({"state": "Scheduled"}), "Progressing Scheduled"),
        ("gameservers.game.kruise.io", json!({"currentState": "Crash"}), "Failed Crash"),
        ("gameservers.pteronimbus.io", json!({"phase": "Stopped"}), "Suspended Stopped"),
    ] {
        assert_eq!(status(resource, given.clone()), expected, "{resource} {given}");
    }
}

#[test]
fn a_fleet_lacks_only_servers_that_are_neither_ready_nor_taken() {
    let fleet = |all: i64, ready: i64, allocated: i64| {
        let status = json!({"replicas": all, "readyReplicas": ready, "allocatedReplicas": allocated, "reservedReplicas": 0});
        judge("fleets.agones.dev", &json!({"spec": {"replicas": 5}, "status": status}))
    };
    assert_eq!(fleet(5, 2, 3), "Ready ");
    assert_eq!(fleet(5, 2, 2), "Progressing Starting");
    assert_eq!(fleet(8, 1, 7), "Ready ", "players stay for as long as they like");
    assert_eq!(fleet(3, 2, 1), "Progressing Scaling");
}

#[test]
fn what_time_brings_is_a_deadline_before_and_a_failure_after() {
    let catalogue = Catalogue::builtin();
    let certificate = |not_after: &str, renewal: &str| {
        json!({"metadata": {"name": "a"}, "status": {"conditions": [condition("Ready", "True", "Ready")],
            "notAfter": not_after, "renewalTime": renewal}})
    };
    let resource = "certificates.cert-manager.io";
    let good = observe(&catalogue, resource, &certificate("2026-10-01T00:00:00Z", "2026-09-01T00:00:00Z"));
    let deadline = good.verdict.deadline.unwrap();
    assert_eq!((good.verdict.state, &*deadline.reason), (State::Ready, "RenewalOverdue"));
    let late = observe(&catalogue, resource, &certificate("2026-10-01T00:00:00Z", "2026-08-01T00:00:00Z"));
    assert_eq!((late.verdict.state, &*late.verdict.reason), (State::Failed, "RenewalOverdue"));
    let expired = observe(&catalogue, resource, &certificate("2026-08-20T00:00:00Z", "2026-08-01T00:00:00Z"));
    assert_eq!((expired.verdict.state, &*expired.verdict.reason), (State::Failed, "Expired"));

    let schedule = |cron: &str, last: &str| {
        let object = json!({"metadata": {"name": "a"}, "spec": {"schedule": cron}, "status": {"phase": "Enabled", "lastBackup": last}});
        let verdict = observe(&catalogue, "schedules.velero.io", &object).verdict;
        (verdict.state, verdict.reason.to_string(), verdict.deadline.map(|deadline| deadline.at - NOW))
    };
    // The next run is at 02:00 tomorrow, a day after the last one, with an hour of grace.
    let ready = |at| (State::Ready, "Enabled".to_owned(), Some(at));
    assert_eq!(schedule("0 2 * * *", "2026-08-29T02:00:05Z"), ready(58_805));
    // One that began late is not followed by the next one at its time.
    assert_eq!(schedule("0 2 * * *", "2026-08-28T20:00:00Z"), ready(9 * 3600 + 1200 + 3600));
    assert_eq!(schedule("@daily", "2026-08-27T00:00:05Z").1, "LastBackupTooOld");
    assert_eq!(schedule("@every 6h", "2026-08-29T08:40:00Z").2, Some(4 * 3600 + 3600));
    let unread = schedule("at midnight", "2026-08-29T02:00:05Z");
    assert_eq!(unread, (State::Ready, "Enabled".to_owned(), None), "Velero can read it, if it says so");
}

#[test]
fn namespaces_tell_their_tenant_and_nodes_their_version() {
    let catalogue = Catalogue::builtin();
    let namespace = json!({"metadata": {"name": "a", "labels": {"gatehouse.dev/tenant": "team-a"}}});
    let record = observe(&catalogue, "namespaces", &namespace);
    assert_eq!(record.detail, Detail::Namespace { tenant: Some("team-a".into()) });
    let node = json!({"metadata": {"name": "a"}, "status": {"nodeInfo": {"kubeletVersion": "v1.36.1"}}});
    let record = observe(&catalogue, "nodes", &node);
    assert_eq!(record.detail, Detail::Node { kubelet_version: "v1.36.1".into() });
}

#[test]
fn fields_of_the_wrong_type_make_an_unknown_row_that_names_them() {
    let catalogue = Catalogue::builtin();
    for (resource, object, message) in [
        (
            "deployments.apps",
            json!({"metadata": {"name": "a"}, "status": "fine"}),
            "status: expected a map, got a string",
        ),
        (
            "nodes",
            json!({"metadata": {"name": "a"}, "status": {"nodeInfo": {"kubeletVersion": 1}}}),
            "status.nodeInfo.kubeletVersion: expected a string, got a number",
        ),
        (
            "persistentvolumes",
            json!({"metadata": {"name": "a"}, "status": {"phase": 3}}),
            "progressing: status.phase: expected a string, got a number",
        ),
        (
            "nodes",
            json!({"metadata": {"name": "a"}, "status": {"conditions": {}}}),
            "failed: status.conditions: expected a list, got a map",
        ),
        (
            "fleets.agones.dev",
            json!({"metadata": {"name": "a"}, "spec": {"replicas": "2"}, "status": {"replicas": 2, "readyReplicas": {}}}),
            "spec.replicas: expected a whole number, got a string",
        ),
        (
            "clusters.postgresql.cnpg.io",
            json!({"metadata": {"name": "a"}, "status": {"readyInstances": {}, "instances": 2}}),
            "progressing: cannot compare a map with a number",
        ),
        (
            "namespaces",
            json!({"metadata": {"name": "a", "creationTimestamp": "x"}}),
            r#"metadata.creationTimestamp: expected an RFC 3339 timestamp, got "x""#,
        ),
    ] {
        let verdict = observe(&catalogue, resource, &object).verdict;
        assert_eq!((verdict.state, &*verdict.message), (State::Unknown, message), "{resource}");
    }
    let id = catalogue.find("", "Node").unwrap();
    for text in [
        "",
        "[]",
        "{}",
        r#"{"metadata": 5}"#,
        r#"{"metadata": {"name": 5}}"#,
        r#"{"metadata": {"name": ""}}"#,
    ] {
        assert!(catalogue.observe(id, text, &Interner::default(), NOW).is_err(), "{text}");
    }
}

#[test]
fn being_deleted_comes_before_every_rule() {
    let deleted = json!({"deletionTimestamp": "2026-08-29T10:00:00Z"});
    assert_eq!(
        judge("gameservers.agones.dev", &json!({"metadata": deleted, "status": {"state": "Error"}})),
        "Terminating "
    );
}

/// The built-in catalogue with this file added.
fn with(text: &str) -> Result<Catalogue, CatalogueError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.yaml");
    std::fs::write(&path, text).unwrap();
    Catalogue::builtin().with_file(&path)
}

#[test]
fn a_file_adds_a_kind_with_the_expressions_of_flux() {
    let catalogue = with(
        "
kinds:
  - group: example.com
    kind: Database
    plural: databases
    layer: Data
    inProgress: status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'Unknown')
    failed: status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'False')
    current: status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True')
",
    )
    .unwrap();
    let state = |status: &str| {
        let object =
            json!({"metadata": {"name": "a"}, "status": {"conditions": [condition("Ready", status, "X")]}});
        observe(&catalogue, "databases.example.com", &object).verdict.state
    };
    assert_eq!(
        [state("Unknown"), state("False"), state("True")],
        [State::Progressing, State::Failed, State::Ready]
    );
    let mut object = json!({"metadata": {"name": "a"}});
    assert_eq!(observe(&catalogue, "databases.example.com", &object).verdict.state, State::Pending);
    object["status"] = json!({"phase": "Made"});
    let verdict = observe(&catalogue, "databases.example.com", &object).verdict;
    assert_eq!((verdict.state, &*verdict.message), (State::Unknown, "progressing: No such key: conditions"));
}

#[test]
fn a_file_replaces_a_kind_in_its_place() {
    let before = Catalogue::builtin();
    let catalogue =
        with("kinds: [{kind: Namespace, plural: namespaces, scope: Cluster, layer: Nodes}]").unwrap();
    assert_eq!(catalogue.len(), before.len());
    let id = before.find("", "Namespace").unwrap();
    assert_eq!(catalogue.kind(id).layer, Some(Layer::Nodes));
}

#[test]
fn a_wrong_file_is_refused_by_file_kind_and_field() {
    for (row, expected) in [
        ("plural: as", "kinds[0]: .: missing field `kind`"),
        ("{kind: A, plural: as, colour: red}", "A: colour: unknown field `colour`"),
        ("{kind: A, plural: as, scope: Galaxy}", "A: scope: unknown variant `Galaxy`"),
        ("{kind: A, plural: ''}", "A: plural: is empty"),
        ("{kind: A, plural: as, layer: Cellar}", "A: layer: unknown variant `Cellar`"),
        ("{kind: A, plural: as, failed: 'status.ok =='}", "A: failed: line 1 column 13: "),
        (
            "{kind: A, plural: as, failed: ['true', 'stauts.ok']}",
            "A: failed[1]: line 1 column 1: unknown variable \"stauts\"",
        ),
        (
            "{kind: A, plural: as, failed: 'nope(status)'}",
            "A: failed: line 1 column 1: unknown function \"nope\"",
        ),
        (
            "{kind: A, plural: as, failed: 'Thing{a: 1}'}",
            "A: failed: line 1 column 1: Thing {…}: messages cannot",
        ),
        (
            "{kind: A, plural: as, failed: {path: 'status..x', exists: true}}",
            "A: failed.path: expected a field's name at character 7",
        ),
        ("{kind: A, plural: as, failed: {path: status.x}}", "A: failed: a path needs exactly one of"),
        (
            "{kind: A, plural: as, failed: {path: status.x, in: [1, a]}}",
            "A: failed.in: expected values of one type",
        ),
        ("{kind: A, plural: as, failed: {path: status.x, in: []}}", "A: failed.in: is empty"),
        ("{kind: A, plural: as, failed: {condition: Ready, equals: 1}}", "A: failed: expected one of"),
        (
            "{kind: A, plural: as, failed: {cel: 'true', reason: {path: 'a b'}}}",
            "A: failed.reason: expected a field's name",
        ),
        (
            "{kind: A, plural: as, deadlines: [{at: 'soon'}]}",
            "A: deadlines[0].at: line 1 column 1: unknown variable \"soon\"",
        ),
        ("{kind: A, plural: as, judge: Flux, failed: 'true'}", "A: judge: leaves no room for rules"),
        ("{kind: A, plural: as}\n  - {kind: A, plural: as}", "A: kind: as is listed twice"),
    ] {
        let row =
            row.strip_prefix("plural").map_or_else(|| row.to_owned(), |rest| format!("{{plural{rest}}}"));
        let error = with(&format!("kinds:\n  - {row}\n")).unwrap_err().to_string();
        assert!(error.contains(&format!("mine.yaml: {expected}")), "{row}: {error}");
    }
    for text in ["", "kinds: 5", "kinds: [", "sorts: []"] {
        assert!(matches!(with(text), Err(CatalogueError::File { .. })), "{text:?}");
    }
    let missing = Catalogue::builtin().with_file(Path::new("nowhere/mine.yaml"));
    assert!(matches!(missing, Err(CatalogueError::Read { .. })));
}

#[test]
fn pods_can_be_left_out() {
    let catalogue = Catalogue::builtin().without_pods();
    assert!(catalogue.find("", "Pod").is_none());
    assert_eq!(catalogue.len() + 1, Catalogue::builtin().len());
    assert!(catalogue.kinds().all(|(id, kind)| catalogue.find(&kind.group, &kind.kind) == Some(id)));
}

#[test]
fn an_application_has_the_inventory_of_what_it_applied_here() {
    let application = |destination: &Value, resources: &Value| {
        let object = json!({
            "metadata": {"name": "shop", "namespace": "argocd"}, "spec": {"destination": destination},
            "status": {"health": {"status": "Healthy"}, "sync": {"status": "Synced"}, "resources": resources},
        });
        observe(&Catalogue::builtin(), "applications.argoproj.io", &object)
    };
    let resources = json!([
        {"group": "apps", "version": "v1", "kind": "Deployment", "namespace": "apps", "name": "shop", "status": "Synced"},
        {"version": "v1", "kind": "Service", "namespace": "apps", "name": "shop"},
        {"group": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:shop"},
        {"kind": 7}, "text",
    ]);
    let here = json!({"server": "https://kubernetes.default.svc", "namespace": "apps"});
    let record = application(&here, &resources);
    let (applied, elsewhere) = record.applied().expect("an inventory");
    let entries: Vec<_> =
        applied.entries().map(|entry| format!("{}/{}/{}", entry.kind, entry.namespace, entry.name)).collect();
    assert_eq!(entries, ["ClusterRole//system:shop", "Service/apps/shop", "Deployment/apps/shop"]);
    assert_eq!((applied.omitted, elsewhere, record.verdict.state), (2, false, State::Ready));
    assert_eq!(
        application(&json!({"name": "in-cluster"}), &resources).applied().map(|found| found.0.len()),
        Some(3)
    );
    assert_eq!(application(&json!({"server": "https://edge:6443"}), &resources).applied(), None);
    assert_eq!(application(&here, &json!({"a": 1})).verdict.state, State::Unknown);
}
