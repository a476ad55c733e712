//! Sequences of controllers that try again without saying that they failed: K3s' charts, VolSync, Flagger, Rook, CSI
//! snapshots, CronJobs that were suspended. Health changes once for each real change.

use serde_json::{Value, json};

use crate::{
    sequences::{condition, healths, object},
    world::{NOW, World},
};

fn at(seconds: i64) -> String {
    jiff::Timestamp::from_second(NOW + seconds).expect("a time").to_string()
}

/// The outcomes of `of` while objects are written beside `first`, each version staying for some seconds. Consecutive
/// equal ones are merged.
fn outcomes(of: &str, first: &Value, writes: &[(i64, Value)]) -> Vec<&'static str> {
    let mut world = World::with([first]);
    let mut seen = Vec::new();
    for (seconds, object) in writes {
        world.apply(object);
        seen.push(world.verdict(of).outcome().as_str());
        world.wait(*seconds);
        seen.push(world.verdict(of).outcome().as_str());
    }
    seen.dedup();
    seen
}

/// Its own status is the same from the first Job on.
#[test]
fn a_helm_chart_of_k3s_is_installed_upgraded_broken_and_mended() {
    let conditions =
        json!([condition("JobCreated", "True", "Job created"), {"type": "Failed", "status": "False"}]);
    let chart = object(
        "helm.cattle.io/v1",
        "HelmChart",
        1,
        json!({"chart": "a"}),
        json!({"jobName": "helm-install-a", "conditions": conditions}),
    );
    let job = |created: i64, status: Value| {
        json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "helm-install-a", "namespace": "ns", "creationTimestamp": at(created),
                "labels": {"helmcharts.helm.cattle.io/chart": "a"}},
            "spec": {"backoffLimit": 1000}, "status": status})
    };
    let started = |created: i64, ready: i64| json!({"startTime": at(created), "active": 1, "ready": ready});
    let run = |created: i64| {
        [
            (1, job(created, json!({}))),
            (1, job(created, json!({"conditions": [condition("Suspended", "True", "JobSuspended")]}))),
            (3, job(created, started(created, 0))),
            (20, job(created, started(created, 1))),
        ]
    };
    let complete = |created: i64| {
        let status = json!({"startTime": at(created), "succeeded": 1, "ready": 0,
            "conditions": [condition("Complete", "True", "CompletionsReached")]});
        (600, job(created, status))
    };
    // Its container is started again and again, which the Job does not count.
    let pod = |ready: bool, since: i64| {
        let state = if ready {
            json!({"running": {"startedAt": at(since)}})
        } else {
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}})
        };
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "helm-install-a-x", "namespace": "ns",
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "helm-install-a", "controller": true}]},
            "status": {"phase": "Running",
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": at(since)}],
                "containerStatuses": [{"name": "helm", "ready": ready, "restartCount": 5, "state": state,
                    "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": at(since - 5)}}}]}})
    };
    let of = "HelmChart.helm.cattle.io ns/a";
    // The Job is made before the chart's status is written.
    let first = job(0, json!({}));
    let install = [vec![(0, chart)], run(0).to_vec(), vec![complete(0)]].concat();
    assert_eq!(outcomes(of, &first, &install), ["Ready"]);
    let upgrade = [run(700).to_vec(), vec![complete(700)]].concat();
    assert_eq!(outcomes(of, &first, &[&install[..], &upgrade].concat()), ["Ready"]);
    let mut broken = run(1400).to_vec();
    for restart in 0..6_i64 {
        let now = 1430 + restart * 120;
        broken.push((100, pod(false, now)));
        broken.push((20, pod(true, now + 100)));
    }
    broken.push((30, pod(false, 2150)));
    let mut gone = pod(false, 2150);
    gone["status"]["phase"] = json!("Succeeded");
    let mended = [vec![(0, gone)], run(2400).to_vec(), vec![complete(2400)]].concat();
    let all = [&install[..], &upgrade, &broken, &mended].concat();
    assert_eq!(outcomes(of, &first, &all), ["Ready", "Failed", "Ready"]);
}

#[test]
fn a_replication_that_is_tried_again_stays_broken_until_it_has_worked() {
    let source = |condition: Value, started: Option<i64>, synced: Option<i64>, mover: &str| {
        let mut status = json!({"conditions": [condition]});
        for (name, time) in [("lastSyncStartTime", started), ("lastSyncTime", synced)] {
            if let Some(time) = time {
                status[name] = json!(at(time));
            }
        }
        if !mover.is_empty() {
            status["latestMoverStatus"] = json!({"result": mover, "logs": "done"});
        }
        object(
            "volsync.backube/v1alpha1",
            "ReplicationSource",
            1,
            json!({"trigger": {"schedule": "0 * * * *"}}),
            status,
        )
    };
    let syncs = || condition("Synchronizing", "True", "SyncInProgress");
    let cleans = || condition("Synchronizing", "False", "CleaningUp");
    let waits = || condition("Synchronizing", "False", "WaitingForSchedule");
    let conflict = || condition("Synchronizing", "False", "Error");
    let all = [
        (60, source(syncs(), Some(0), None, "")),
        (5, source(cleans(), None, Some(60), "Successful")),
        (3000, source(waits(), None, Some(60), "Successful")),
        // A conflict of its own writes.
        (2, source(conflict(), Some(3065), Some(60), "Successful")),
        (60, source(syncs(), Some(3065), Some(60), "Successful")),
        (600, source(waits(), None, Some(3120), "Successful")),
        (60, source(syncs(), Some(3720), Some(3120), "Successful")),
        (600, source(syncs(), Some(3720), Some(3120), "Failed")),
        (2, source(conflict(), Some(3720), Some(3120), "Failed")),
        (600, source(syncs(), Some(3720), Some(3120), "Failed")),
        (60, source(cleans(), None, Some(5000), "Successful")),
        (60, source(waits(), None, Some(5000), "Successful")),
    ];
    assert_eq!(healths(&all), ["Progressing", "Healthy", "Degraded", "Healthy"]);
}

#[test]
fn a_canary_is_analysed_promoted_and_halted() {
    let canary = |now: i64, phase: &str, weight: i64, failed: i64| {
        let status = json!({"phase": phase, "canaryWeight": weight, "failedChecks": failed, "iterations": 0,
            "lastTransitionTime": at(now), "conditions": [condition("Promoted", "Unknown", phase)]});
        object("flagger.app/v1beta1", "Canary", 1, json!({}), status)
    };
    let all = [
        (30, canary(0, "Initializing", 0, 0)),
        (600, canary(30, "Initialized", 0, 0)),
        (60, canary(630, "Progressing", 0, 0)),
        (60, canary(690, "Progressing", 50, 1)),
        (30, canary(750, "Promoting", 50, 1)),
        (30, canary(780, "Finalising", 0, 1)),
        (600, canary(810, "Succeeded", 0, 0)),
        (60, canary(1410, "Progressing", 10, 0)),
        (600, canary(1470, "Failed", 0, 0)),
        // The next revision: the failure of the last one counts until it succeeds.
        (60, canary(2070, "Progressing", 10, 0)),
        (30, canary(2130, "Promoting", 50, 0)),
        (30, canary(2160, "Finalising", 0, 0)),
        (60, canary(2190, "Succeeded", 0, 0)),
    ];
    assert_eq!(healths(&all), ["Progressing", "Healthy", "Degraded", "Healthy"]);
}

#[test]
fn a_storage_cluster_warns_while_a_node_restarts_and_is_degraded_once_it_stays_away() {
    let cluster = |now: i64, health: &str, detail: &str| {
        let mut ceph = json!({"health": health, "lastChanged": at(now)});
        if !detail.is_empty() {
            ceph["details"] = json!({detail: {"severity": health, "message": "1 osds down"}});
        }
        object("ceph.rook.io/v1", "CephCluster", 1, json!({}), json!({"phase": "Ready", "ceph": ceph}))
    };
    let all = [
        (60, cluster(0, "HEALTH_OK", "")),
        (300, cluster(60, "HEALTH_WARN", "OSD_DOWN")),
        (60, cluster(360, "HEALTH_OK", "")),
        (600, cluster(420, "HEALTH_WARN", "RECENT_CRASH")),
        (2000, cluster(1020, "HEALTH_WARN", "OSD_DOWN")),
        (60, cluster(3020, "HEALTH_WARN", "RECENT_CRASH")),
        (60, cluster(3080, "HEALTH_OK", "")),
    ];
    assert_eq!(healths(&all), ["Healthy", "Degraded", "Healthy"]);
}

#[test]
fn a_snapshot_is_taken_after_conflicts_and_copied() {
    let snapshot = |status: Value| {
        let mut object = object("snapshot.storage.k8s.io/v1", "VolumeSnapshot", 1, json!({}), status);
        object["metadata"]["creationTimestamp"] = json!(at(0));
        object
    };
    let conflict = json!({"message": "the object has been modified", "time": at(5)});
    let all = [
        (5, snapshot(json!({}))),
        (5, snapshot(json!({"readyToUse": false, "error": conflict}))),
        (7200, snapshot(json!({"readyToUse": false, "creationTime": at(10)}))),
        (60, snapshot(json!({"readyToUse": true, "creationTime": at(10)}))),
    ];
    assert_eq!(healths(&all), ["Progressing", "Healthy"]);
}

#[test]
fn a_cron_job_that_was_suspended_for_days_is_well_in_its_first_run_after_that() {
    let cron_job = |written: i64, suspend: bool, last: i64, active: bool, succeeded: i64| {
        let mut object = object(
            "batch/v1",
            "CronJob",
            1,
            json!({"schedule": "0 * * * *", "suspend": suspend}),
            json!({"lastScheduleTime": at(last), "lastSuccessfulTime": at(succeeded)}),
        );
        if active {
            object["status"]["active"] = json!([{"name": "a"}]);
        }
        object["metadata"]["managedFields"] =
            json!([{"time": at(written)}, {"time": at(last), "subresource": "status"}]);
        object
    };
    // 22:00 was half an hour before. It is suspended for three days, and resumed ten minutes before an hour.
    let (first, day) = (-1800, 86_400);
    let resumed = 1200 + 3 * day;
    let next = resumed + 600;
    let all = [
        (1200, cron_job(first - day, false, first, false, first + 60)),
        (3 * day, cron_job(1200, true, first, false, first + 60)),
        (600, cron_job(resumed, false, first, false, first + 60)),
        (300, cron_job(resumed, false, next, true, first + 60)),
        (600, cron_job(resumed, false, next, false, next + 300)),
    ];
    assert_eq!(healths(&all), ["Healthy"]);
}
