//! Sequences of what controllers write. Health changes once for each real change, and recovers.

use serde_json::{Value, json};

use crate::world::{NOW, World};

/// The health of a cluster while an object is updated several times, each version staying for some seconds. Consecutive
/// equal values are merged.
pub(crate) fn healths(writes: &[(i64, Value)]) -> Vec<&'static str> {
    let mut world = World::with([]);
    let mut seen = Vec::new();
    for (seconds, object) in writes {
        world.apply(object);
        seen.push(world.overall());
        world.wait(*seconds);
        seen.push(world.overall());
    }
    seen.dedup();
    seen
}

#[allow(clippy::needless_pass_by_value, reason = "what is written is made where it is passed")]
pub(crate) fn object(api_version: &str, kind: &str, generation: i64, spec: Value, status: Value) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": {"name": "a", "namespace": "ns", "generation": generation},
        "spec": spec, "status": status,
    })
}

pub(crate) fn condition(type_: &str, status: &str, reason: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": reason})
}

#[test]
fn a_deployment_is_installed_upgraded_broken_and_mended() {
    let deployment = |generation, [all, updated, available]: [i64; 3], conditions: Value| {
        let status = json!({"observedGeneration": generation, "replicas": all, "updatedReplicas": updated,
            "availableReplicas": available, "readyReplicas": available, "conditions": conditions});
        object("apps/v1", "Deployment", generation, json!({"replicas": 3}), status)
    };
    let up = || condition("Available", "True", "MinimumReplicasAvailable");
    let down = || condition("Available", "False", "MinimumReplicasUnavailable");
    let rolling = || condition("Progressing", "True", "ReplicaSetUpdated");
    let done = || condition("Progressing", "True", "NewReplicaSetAvailable");
    let exceeded = || condition("Progressing", "False", "ProgressDeadlineExceeded");
    let installed = deployment(1, [3, 3, 3], json!([up(), done()]));
    let install = [
        (1, deployment(1, [3, 3, 0], json!([down(), rolling()]))),
        (5, deployment(1, [3, 3, 2], json!([down(), rolling()]))),
        (60, installed),
    ];
    assert_eq!(healths(&install), ["Progressing", "Healthy"]);
    let upgrade = [
        (1, deployment(2, [4, 1, 3], json!([up(), rolling()]))),
        (5, deployment(2, [4, 2, 3], json!([up(), rolling()]))),
        (60, deployment(2, [3, 3, 3], json!([up(), done()]))),
    ];
    assert_eq!(healths(&[&install[..], &upgrade].concat()), ["Progressing", "Healthy"]);
    let failure = [
        (300, deployment(3, [4, 1, 3], json!([up(), rolling()]))),
        (5, deployment(3, [4, 1, 3], json!([up(), exceeded()]))),
    ];
    let retry = [
        (30, deployment(4, [4, 1, 3], json!([up(), rolling()]))),
        (30, deployment(4, [4, 2, 3], json!([up(), rolling()]))),
    ];
    let recovery = [(60, deployment(4, [3, 3, 3], json!([up(), done()])))];
    let all = [&install[..], &upgrade, &failure, &retry, &recovery].concat();
    assert_eq!(healths(&all), ["Progressing", "Healthy", "Degraded", "Healthy"]);
}

#[test]
fn a_certificate_is_issued_renewed_refused_and_issued() {
    let certificate = |conditions: Value, rest: Value| {
        let mut status = rest;
        status["conditions"] = conditions;
        object(
            "cert-manager.io/v1",
            "Certificate",
            1,
            json!({"issuerRef": {"name": "own", "kind": "Other"}}),
            status,
        )
    };
    let ready = || condition("Ready", "True", "Ready");
    let missing = || condition("Ready", "False", "DoesNotExist");
    let good = || certificate(json!([ready()]), json!({}));
    let first = [
        (1, object("cert-manager.io/v1", "Certificate", 1, json!({}), json!({}))),
        (1, certificate(json!([missing()]), json!({}))),
        (30, certificate(json!([missing(), condition("Issuing", "True", "DoesNotExist")]), json!({}))),
        (1, certificate(json!([ready(), condition("Issuing", "True", "DoesNotExist")]), json!({}))),
        (600, good()),
    ];
    assert_eq!(healths(&first), ["Progressing", "Healthy"]);
    let renewal = [
        (30, certificate(json!([ready(), condition("Issuing", "True", "Renewing")]), json!({}))),
        (600, good()),
    ];
    assert_eq!(healths(&[&first[..], &renewal].concat()), ["Progressing", "Healthy"]);
    let failed = |attempts: i64| {
        json!({"failedIssuanceAttempts": attempts, "lastFailureTime": "2026-11-28T22:00:00Z",
        "renewalTime": "2026-11-28T22:20:00Z", "notAfter": "2026-12-28T22:20:00Z"})
    };
    let mut refused =
        vec![(30, certificate(json!([ready(), condition("Issuing", "True", "Renewing")]), json!({})))];
    for attempt in 1..4 {
        refused.push((
            3000,
            certificate(json!([ready(), condition("Issuing", "False", "Failed")]), failed(attempt)),
        ));
        refused.push((
            30,
            certificate(json!([ready(), condition("Issuing", "True", "Renewing")]), failed(attempt)),
        ));
    }
    let all = [&first[..], &renewal, &refused, &[(600, good())]].concat();
    assert_eq!(healths(&all), ["Progressing", "Healthy", "Degraded", "Healthy"]);
}

#[test]
fn a_fleet_is_made_played_on_scaled_and_stuck() {
    let fleet = |replicas: i64, [all, ready, allocated]: [i64; 3]| {
        let status = json!({"replicas": all, "readyReplicas": ready, "reservedReplicas": 0, "allocatedReplicas": allocated});
        object("agones.dev/v1", "Fleet", replicas, json!({"replicas": replicas}), status)
    };
    let made = [
        (1, fleet(4, [0, 0, 0])),
        (5, fleet(4, [4, 0, 0])),
        (5, fleet(4, [4, 2, 0])),
        (60, fleet(4, [4, 4, 0])),
    ];
    assert_eq!(healths(&made), ["Progressing", "Healthy"]);
    // Matches begin and end. A server that ends is replaced by a new one.
    let mut played = Vec::new();
    for _ in 0..20 {
        played.extend([
            (200, fleet(4, [4, 3, 1])),
            (20, fleet(4, [3, 3, 0])),
            (20, fleet(4, [4, 3, 0])),
            (20, fleet(4, [4, 2, 1])),
            (20, fleet(4, [4, 3, 1])),
        ]);
    }
    assert_eq!(healths(&[&made[..], &played].concat()), ["Progressing", "Healthy"]);
    // Some servers are always missing, but never the same ones for long.
    let busy: Vec<_> = (0..50).map(|turn| (300, fleet(4, [4, 1 + turn % 2, 2 - turn % 2]))).collect();
    assert_eq!(healths(&[&made[..], &busy].concat()), ["Progressing", "Healthy"]);
    let scaled = [
        (30, fleet(8, [4, 4, 0])),
        (30, fleet(8, [8, 4, 0])),
        (60, fleet(8, [8, 8, 0])),
        (60, fleet(4, [8, 2, 6])),
    ];
    assert_eq!(healths(&[&made[..], &scaled].concat()), ["Progressing", "Healthy"]);
    // Sent again without a change, as an informer resyncs: the deadline is not extended.
    let stuck = [
        (300, fleet(4, [4, 3, 0])),
        (200, fleet(4, [4, 3, 0])),
        (200, fleet(4, [4, 3, 0])),
        (30, fleet(4, [4, 2, 1])),
        (30, fleet(4, [4, 3, 0])),
        (60, fleet(4, [4, 4, 0])),
    ];
    let all = [&made[..], &stuck].concat();
    assert_eq!(healths(&all), ["Progressing", "Healthy", "Degraded", "Healthy"]);
}

#[test]
fn a_write_without_progress_does_not_put_off_a_deadline() {
    let written = |mut object: Value, turn: i64| {
        let at = jiff::Timestamp::from_second(crate::world::NOW + 30 * turn).expect("a time");
        object["metadata"]["managedFields"] = json!([{"time": at.to_string()}]);
        (30, object)
    };
    // Each server crashes as it starts, and the set makes another one.
    let crashing: Vec<_> = (0..40)
        .map(|turn| {
            let status = json!({"replicas": 10 - turn % 2, "readyReplicas": 0});
            written(object("agones.dev/v1", "Fleet", 1, json!({"replicas": 10}), status), turn)
        })
        .collect();
    assert_eq!(healths(&crashing), ["Progressing", "Degraded"]);
    // Some become ready for a moment.
    let flapping: Vec<_> = (0..200)
        .map(|turn| {
            let status = json!({"replicas": 10, "readyReplicas": turn % 4});
            written(object("agones.dev/v1", "Fleet", 1, json!({"replicas": 10}), status), turn)
        })
        .collect();
    assert_eq!(healths(&flapping), ["Progressing", "Healthy", "Degraded"]);
    // Argo CD looks at the application every three minutes, and writes when it did.
    let drifted: Vec<_> = (0..40)
        .map(|turn| {
            let status = json!({"health": {"status": "Healthy"}, "sync": {"status": "OutOfSync", "revision": "2"}, "reconciledAt": turn});
            let spec = json!({"syncPolicy": {"automated": {"selfHeal": true}}});
            written(object("argoproj.io/v1alpha1", "Application", 1, spec, status), turn)
        })
        .collect();
    assert_eq!(healths(&drifted), ["Healthy", "Degraded"]);
}

#[test]
fn a_database_is_made_grown_backed_up_failed_over_and_put_to_sleep() {
    let cluster = |phase: &str, [wanted, all, ready]: [i64; 3], conditions: Value| {
        let status =
            json!({"phase": phase, "instances": all, "readyInstances": ready, "conditions": conditions});
        object("postgresql.cnpg.io/v1", "Cluster", 1, json!({"instances": wanted}), status)
    };
    let healthy = "Cluster in healthy state";
    let archiving = || condition("ContinuousArchiving", "True", "ContinuousArchivingSuccess");
    let backup =
        |status: &str, reason: &str| json!([archiving(), condition("LastBackupSucceeded", status, reason)]);
    let made = [
        (60, cluster("Setting up primary", [2, 0, 0], json!([]))),
        (30, cluster("Creating a new replica", [2, 1, 1], json!([]))),
        (10, cluster("Waiting for the instances to become active", [2, 2, 1], json!([archiving()]))),
        (600, cluster(healthy, [2, 2, 2], json!([archiving()]))),
    ];
    assert_eq!(healths(&made), ["Progressing", "Healthy"]);
    let grown = [
        (60, cluster("Creating a new replica", [3, 2, 2], json!([archiving()]))),
        (10, cluster(healthy, [3, 3, 2], json!([archiving()]))),
        (600, cluster(healthy, [3, 3, 3], json!([archiving()]))),
        (300, cluster("Upgrading cluster", [3, 3, 2], json!([archiving()]))),
        (30, cluster("Switchover in progress", [3, 3, 2], json!([archiving()]))),
        (600, cluster(healthy, [3, 3, 3], json!([archiving()]))),
        (900, cluster(healthy, [3, 3, 3], backup("False", "BackupStarted"))),
        (600, cluster(healthy, [3, 3, 3], backup("True", "LastBackupSucceeded"))),
    ];
    assert_eq!(healths(&[&made[..], &grown].concat()), ["Progressing", "Healthy"]);
    let backups_fail = [
        (900, cluster(healthy, [3, 3, 3], backup("False", "BackupStarted"))),
        (600, cluster(healthy, [3, 3, 3], backup("False", "LastBackupFailed"))),
        (900, cluster(healthy, [3, 3, 3], backup("False", "BackupStarted"))),
        (600, cluster(healthy, [3, 3, 3], backup("False", "LastBackupFailed"))),
        (900, cluster(healthy, [3, 3, 3], backup("False", "BackupStarted"))),
        (600, cluster(healthy, [3, 3, 3], backup("True", "LastBackupSucceeded"))),
    ];
    let all = [&made[..], &grown, &backups_fail].concat();
    assert_eq!(healths(&all), ["Progressing", "Healthy", "Degraded", "Healthy"]);
    let failed_over = [
        (20, cluster("Failing over", [3, 3, 2], json!([archiving()]))),
        (60, cluster("Waiting for the instances to become active", [3, 3, 2], json!([archiving()]))),
        (600, cluster(healthy, [3, 3, 3], json!([archiving()]))),
    ];
    let all = [&made[..], &grown, &failed_over].concat();
    assert_eq!(healths(&all), ["Progressing", "Healthy", "Degraded", "Healthy"]);
    let asleep = |status: &str, reason: &str| json!([condition("cnpg.io/hibernation", status, reason)]);
    let hibernated = [
        (10, cluster(healthy, [3, 3, 3], asleep("False", "DeletingPods"))),
        (10, cluster(healthy, [3, 3, 1], asleep("False", "WaitingPodsDeletion"))),
        (9000, cluster(healthy, [3, 3, 0], asleep("True", "Hibernated"))),
        (60, cluster("Waiting for the instances to become active", [3, 3, 0], json!([]))),
        (600, cluster(healthy, [3, 3, 3], json!([]))),
    ];
    // After hibernation no success has been observed yet, so waking up is a change.
    let all = [&made[..], &hibernated].concat();
    assert_eq!(healths(&all), ["Progressing", "Healthy", "Progressing", "Healthy"]);
}

#[test]
fn a_failure_is_over_when_it_is_seen_to_be_and_a_restart_knows_what_the_object_says() {
    let store = |status: &str| {
        let condition =
            json!({"type": "Ready", "status": status, "lastTransitionTime": "2026-11-28T22:30:00Z"});
        object("external-secrets.io/v1", "SecretStore", 1, json!({}), json!({"conditions": [condition]}))
    };
    // A failure of some seconds does not count. One that lasts does, once.
    assert_eq!(
        healths(&[(60, store("True")), (30, store("False")), (30, store("True"))]),
        ["Healthy", "Degraded", "Healthy"]
    );
    let mut blip = World::with([]);
    blip.apply(&store("True"));
    blip.now -= 30;
    blip.apply(&store("False"));
    assert_eq!((blip.overall(), blip.verdict("SecretStore ns/a").state.as_str()), ("Healthy", "Progressing"));
    // A rollout whose last write was long ago is stuck, even if it is observed for the first time.
    let written = |time: &str| {
        let mut set = object(
            "apps/v1",
            "StatefulSet",
            1,
            json!({"replicas": 2}),
            json!({"replicas": 2, "readyReplicas": 0}),
        );
        set["metadata"]["managedFields"] = json!([{"manager": "kube-controller-manager", "time": time, "subresource": "status",
            "fieldsV1": {"f:status": {}}}]);
        set
    };
    assert_eq!(healths(&[(1, written("2026-11-28T20:00:00Z"))]), ["Degraded"]);
    assert_eq!(healths(&[(1, written("2026-11-28T22:29:00Z"))]), ["Progressing"]);
}

#[test]
fn what_others_say_follows_their_changes() {
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "c", "namespace": "ns", "creationTimestamp": "2026-11-28T20:00:00Z"},
        "spec": {"storageClassName": "disks"}, "status": {"phase": "Pending"}});
    let class = |mode: &str| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "disks"},
            "volumeBindingMode": mode})
    };
    let mut world = World::with([&claim]);
    let said = |world: &World| world.verdict("PersistentVolumeClaim ns/c").reason.to_string();
    assert_eq!(said(&world), "StorageClassMissing");
    world.apply(&class("WaitForFirstConsumer"));
    assert_eq!((said(&world), world.overall()), ("WaitForFirstConsumer".into(), "Healthy"));
    world.apply(&class("Immediate"));
    assert_eq!((said(&world), world.overall()), ("Unbound".into(), "Degraded"));
    world.apply(&class("WaitForFirstConsumer"));
    world.delete(&class("WaitForFirstConsumer"));
    assert_eq!(said(&world), "StorageClassMissing");

    let backup = |name: &str, phase: &str, at: &str| {
        json!({"apiVersion": "velero.io/v1", "kind": "Backup",
            "metadata": {"name": name, "namespace": "velero", "labels": {"velero.io/schedule-name": "s"}},
            "status": {"phase": phase, "startTimestamp": at, "completionTimestamp": at}})
    };
    let (first, second) =
        (backup("1", "Failed", "2026-11-27T02:00:00Z"), backup("2", "Completed", "2026-11-28T02:00:00Z"));
    let mut world = World::with([&first]);
    assert_eq!(world.overall(), "Degraded");
    world.apply(&second);
    assert_eq!(world.overall(), "Healthy");
    world.delete(&second);
    assert_eq!(world.overall(), "Degraded", "what outdid it is gone");
}

#[test]
fn what_waits_for_a_dependency_is_blocked_once_that_fails_though_nobody_writes_it_again() {
    let kustomization = |name: &str, depends_on: &[&str], ready: [&str; 2], message: &str| {
        let depends_on: Vec<_> = depends_on.iter().map(|name| json!({"name": name})).collect();
        let [status, reason] = ready;
        let ready = json!({"type": "Ready", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-11-28T22:29:58Z"});
        let mut object = object(
            "kustomize.toolkit.fluxcd.io/v1",
            "Kustomization",
            1,
            json!({"dependsOn": depends_on}),
            json!({"observedGeneration": 1, "conditions": [ready]}),
        );
        object["metadata"]["name"] = json!(name);
        object
    };
    let well = |name: &str, depends_on: &[&str]| {
        kustomization(name, depends_on, ["True", "ReconciliationSucceeded"], "Applied revision: 1")
    };
    let waits = |name: &str, on: &str| {
        kustomization(
            name,
            &[on],
            ["False", "DependencyNotReady"],
            &format!("dependency 'ns/{on}' is not ready"),
        )
    };
    let mut world = World::with(&[well("app", &[]), well("web", &["app"]), well("top", &["web"])]);
    world.apply(&kustomization("app", &[], ["Unknown", "Progressing"], "Reconciliation in progress"));
    world.apply(&waits("web", "app"));
    world.apply(&waits("top", "web"));
    let state = |world: &World, name: &str| world.verdict(&format!("Kustomization ns/{name}")).state.as_str();
    assert_eq!(["web", "top"].map(|name| state(&world, name)), ["Progressing"; 2]);
    world.apply(&kustomization("app", &[], ["False", "BuildFailed"], "no such file"));
    assert_eq!(["web", "top"].map(|name| state(&world, name)), ["Blocked"; 2]);
    assert_eq!(world.cause("Kustomization ns/top"), "Kustomization ns/app");
    assert_eq!(world.verdict("Kustomization ns/web").message, "dependency 'ns/app' is not ready".into());
    world.apply(&well("app", &[]));
    assert_eq!(state(&world, "web"), "Blocked", "until it is seen to have succeeded");
    world.apply(&well("web", &["app"]));
    assert_eq!(state(&world, "web"), "Ready");
    let mut suspended = well("app", &[]);
    suspended["spec"]["suspend"] = json!(true);
    world.apply(&suspended);
    world.apply(&waits("web", "app"));
    assert_eq!(state(&world, "web"), "Progressing", "until the new generation of app is recorded");
    let mut failed = kustomization("app", &[], ["False", "BuildFailed"], "no such file");
    failed["spec"]["suspend"] = json!(true);
    world.apply(&failed);
    assert_eq!(state(&world, "web"), "Blocked");
}

/// A pod is ready for a moment at each restart, so that the Deployment is written each time.
#[test]
fn a_deployment_of_which_a_pod_crashes_for_hours_fails_once_and_recovers_once() {
    let deployment = |ready: i64| {
        let conditions = json!([
            condition("Available", "True", "MinimumReplicasAvailable"),
            condition("Progressing", "True", "NewReplicaSetAvailable"),
        ]);
        let status = json!({"observedGeneration": 1, "replicas": 10, "updatedReplicas": 10,
            "availableReplicas": ready, "readyReplicas": ready, "conditions": conditions});
        object("apps/v1", "Deployment", 1, json!({"replicas": 10}), status)
    };
    let at = |seconds: i64| jiff::Timestamp::from_second(NOW + seconds).unwrap().to_string();
    let pod = |restarts: i64, ready: bool, since: i64, state: Value| {
        let condition = json!({"type": "Ready", "status": if ready { "True" } else { "False" },
            "lastTransitionTime": at(since)});
        let container = json!({"name": "c", "ready": ready, "restartCount": restarts, "state": state,
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": at(since - 10)}}});
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a-7f-x", "namespace": "ns", "labels": {"pod-template-hash": "7f"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a-7f", "controller": true}]},
            "status": {"phase": "Running", "conditions": [condition], "containerStatuses": [container]},
        })
    };
    let mut writes = vec![(60, deployment(10))];
    for restart in 0..20_i64 {
        let now = 60 + restart * 300;
        let waiting =
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}});
        writes.push((1, pod(restart + 1, false, now, waiting)));
        writes.push((269, deployment(9)));
        let running = json!({"running": {"startedAt": at(now + 270)}});
        writes.push((1, pod(restart + 2, true, now + 270, running)));
        writes.push((29, deployment(10)));
    }
    // It has run for ten minutes.
    writes.push((600, deployment(10)));
    assert_eq!(healths(&writes), ["Healthy", "Degraded", "Healthy"]);
}
