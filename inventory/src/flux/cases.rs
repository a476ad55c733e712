//! Tests objects as the controllers write them, in situations from public bug reports, with the expected verdicts.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    ClusterId, Event, Interner, Inventory, KindStatus, Liveness, ObjectKey, Record, Root, Seconds, State,
    catalogue::KindId, testing::CATALOGUE,
};

mod root_causes;
mod sequences;

const LOCAL: ClusterId = ClusterId(0);
/// 2026-11-28T22:30:00Z.
const NOW: Seconds = 1_795_905_000;

/// A timestamp some seconds before now.
fn ago(seconds: Seconds) -> Value {
    jiff::Timestamp::from_second(NOW - seconds).unwrap().to_string().into()
}

pub(super) struct World {
    inventory: Inventory,
    interner: Interner,
    now: Seconds,
}

fn kind(name: &str) -> KindId {
    let mut kinds = CATALOGUE.kinds();
    kinds.find(|(_, row)| row.kind == name && row.is_flux()).unwrap().0
}

fn key(place: &str) -> ObjectKey {
    let mut parts = place.split('/');
    let mut next = || parts.next().unwrap();
    ObjectKey::new(kind(next()), next(), next())
}

impl World {
    fn of(objects: &[Value]) -> Self {
        let mut inventory = Inventory::new(Arc::clone(&CATALOGUE), ["local".into()], NOW);
        inventory.apply(LOCAL, Event::Liveness(Liveness::Alive { version: None, ahead: None }), NOW);
        for (kind, _) in CATALOGUE.kinds() {
            let status = KindStatus::Served { version: "v1".into() };
            for event in [Event::Kind(kind, status), Event::Restart(kind), Event::Synced(kind)] {
                inventory.apply(LOCAL, event, NOW);
            }
        }
        let mut world = Self { inventory, interner: Interner::default(), now: NOW };
        for object in objects {
            world.apply(object);
        }
        world
    }

    fn apply(&mut self, object: &Value) {
        let kind = kind(object["kind"].as_str().unwrap());
        let record = CATALOGUE.observe(kind, &object.to_string(), &self.interner, self.now).unwrap();
        assert_ne!(&*record.verdict.reason, "Undecodable", "{}", record.verdict.message);
        self.inventory.apply(LOCAL, Event::Apply(Box::new(record)), self.now);
        self.inventory.take_delta();
    }

    fn delete(&mut self, place: &str) {
        self.inventory.apply(LOCAL, Event::Delete(key(place)), self.now);
        self.inventory.take_delta();
    }

    /// `Kind/namespace/name`.
    fn record(&self, place: &str) -> &Record {
        self.inventory.cluster(LOCAL).record(&key(place)).unwrap()
    }

    /// The state, the last outcome, and the root cause that the object waits for.
    fn shown(&self, place: &str) -> String {
        let cluster = self.inventory.cluster(LOCAL);
        let record = self.record(place);
        let name = |key: &ObjectKey| format!("{}/{}", CATALOGUE.kind(key.kind).kind, key.name);
        let root = cluster.root_cause(record).map_or_else(String::new, |cause| match cause.root {
            Root::Dependency(record) => format!(" < {} {}", name(&record.key), record.verdict.state),
            Root::NotEnough { dependency, .. } => format!(" < {} not enough", name(&dependency.key)),
            Root::Source(record) => format!(" < {} {}, source", name(&record.key), record.verdict.state),
            Root::Missing(key) => format!(" < {} missing", name(key)),
            Root::MissingSource(key) => format!(" < {} missing source", name(key)),
            Root::Unseen(_) => " < unseen".into(),
            Root::Cycle(key) => format!(" < {} cycle", name(key)),
        });
        let outcome = record.verdict.last_outcome.map_or_else(String::new, |state| format!("({state})"));
        format!("{}{outcome}{root}", record.verdict.state)
    }
}

/// An object `Kind/namespace/name` with these conditions, each as `Type=Status Reason: message`.
fn object(place: &str, spec: &Value, conditions: &[&str]) -> Value {
    object_since(place, spec, conditions, 60)
}

fn object_since(place: &str, spec: &Value, conditions: &[&str], seconds: Seconds) -> Value {
    let parts: Vec<_> = place.split('/').collect();
    let conditions: Vec<_> = conditions
        .iter()
        .map(|text| {
            let (head, message) = text.split_once(": ").unwrap_or((text, ""));
            let (type_, reason) = head.split_once(' ').unwrap();
            let (type_, status) = type_.split_once('=').unwrap();
            json!({"type": type_, "status": status, "reason": reason, "message": message,
                "observedGeneration": 1, "lastTransitionTime": ago(seconds)})
        })
        .collect();
    json!({
        "kind": parts[0],
        "metadata": {"namespace": parts[1], "name": parts[2], "generation": 1, "creationTimestamp": ago(864_000)},
        "spec": spec,
        "status": {"observedGeneration": 1, "conditions": conditions},
    })
}

const READY: &str = "Ready=True Succeeded: stored artifact";
const RETRY: &str = "Reconciling=True ProgressingWithRetry: retrying";

fn git() -> Value {
    json!({"sourceRef": {"kind": "GitRepository", "name": "fleet"}})
}

fn on(names: &[&str]) -> Value {
    let depends_on: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
    json!({"sourceRef": {"kind": "GitRepository", "name": "fleet"}, "dependsOn": depends_on})
}

fn templated() -> Value {
    json!({"chart": {"spec": {"chart": "search", "sourceRef": {"kind": "HelmRepository", "name": "catalog", "namespace": "infra"}}}})
}

#[test]
fn the_message_is_of_the_condition_that_explains() {
    let why = "Helm upgrade failed for release shop/ledger: image pull is denied";
    let failed = format!("Ready=False UpgradeFailed: {why}");
    let released = format!("Released=False UpgradeFailed: {why}");
    let stalled = "Stalled=True RetriesExceeded: Failed to upgrade after 4 attempt(s)";
    let rolled_back = "Helm rollback to previous release shop/ledger.v3 succeeded";
    for (conditions, expected) in [
        (vec![stalled, &failed, &released], "Stalled"),
        (
            vec![
                &*format!("Ready=False RollbackSucceeded: {rolled_back}"),
                &*format!("Remediated=True RollbackSucceeded: {rolled_back}"),
                &released,
                RETRY,
            ],
            "Failing",
        ),
    ] {
        let spec = json!({"chartRef": {"kind": "OCIRepository", "name": "ledger"}});
        let world = World::of(&[object("HelmRelease/shop/ledger", &spec, &conditions)]);
        assert_eq!(world.shown("HelmRelease/shop/ledger"), expected);
        let verdict = &world.record("HelmRelease/shop/ledger").verdict;
        assert_eq!(&*verdict.message, why);
    }
    // The message of another failure is its own.
    let denied = "Stalled=True AccessDenied: cross-namespace reference";
    let world = World::of(&[object("HelmRelease/shop/ledger", &json!({}), &[denied, &released])]);
    assert_eq!(&*world.record("HelmRelease/shop/ledger").verdict.message, "cross-namespace reference");
}

#[test]
fn what_takes_too_long_is_trouble_and_says_since_when() {
    let deleting = |seconds| {
        let mut one = object("Kustomization/apps/leaving", &git(), &[READY]);
        one["metadata"]["deletionTimestamp"] = ago(seconds);
        one
    };
    let upgrading = |seconds, timeout| {
        let words = "Progressing: Running 'upgrade' action with timeout of 5m0s";
        let conditions = [
            format!("Reconciling=True {words}"),
            format!("Ready=Unknown {words}"),
            "Released=True UpgradeSucceeded: upgraded".to_owned(),
        ];
        let conditions: Vec<_> = conditions.iter().map(String::as_str).collect();
        object_since("HelmRelease/apps/disks", &json!({"timeout": timeout}), &conditions, seconds)
    };
    let silent = |seconds| {
        let mut one = object("Kustomization/apps/silent", &git(), &[]);
        one["metadata"]["creationTimestamp"] = ago(seconds);
        one["status"] = json!({"observedGeneration": -1});
        one
    };
    let day = 86_400;
    for (object, place, expected, reason) in [
        (deleting(3_599), "Kustomization/apps/leaving", "Terminating", ""),
        (deleting(8 * day), "Kustomization/apps/leaving", "Failed", "DeletionStuck"),
        (upgrading(3_599, "5m0s"), "HelmRelease/apps/disks", "Progressing(Ready)", "Progressing"),
        (upgrading(3_601, "5m0s"), "HelmRelease/apps/disks", "Failed", "ProgressStuck"),
        (upgrading(129 * day, "5m0s"), "HelmRelease/apps/disks", "Failed", "ProgressStuck"),
        (upgrading(7_100, "1h"), "HelmRelease/apps/disks", "Progressing(Ready)", "Progressing"),
        (silent(3_599), "Kustomization/apps/silent", "Pending", ""),
        (silent(day), "Kustomization/apps/silent", "Failed", "NotReconciled"),
    ] {
        let world = World::of(&[object]);
        let verdict = &world.record(place).verdict;
        assert_eq!((&*world.shown(place), &*verdict.reason), (expected, reason));
    }
    let world = World::of(&[deleting(8 * day)]);
    let message = &world.record("Kustomization/apps/leaving").verdict.message;
    assert_eq!(&**message, "being deleted since 2026-11-20T22:30:00Z");

    // Elapsed time alone causes the change, and a repeated event then changes nothing.
    let mut world = World::of(&[deleting(3_000)]);
    world.now += 601;
    world.inventory.tick(world.now);
    assert_eq!(world.shown("Kustomization/apps/leaving"), "Failed");
    let due = world.record("Kustomization/apps/leaving").clone();
    world.apply(&deleting(3_000));
    assert_eq!(*world.record("Kustomization/apps/leaving"), due);
}

#[test]
fn a_generation_that_its_controller_does_not_come_to_is_trouble_in_the_end() {
    let mut ahead = object("Kustomization/apps/a", &git(), &[READY]);
    ahead["metadata"]["generation"] = 2.into();
    let mut world = World::of(&[ahead.clone()]);
    assert_eq!(world.shown("Kustomization/apps/a"), "Progressing(Ready)");
    world.now += 3_000;
    world.apply(&ahead);
    world.now += 601;
    world.inventory.tick(world.now);
    assert_eq!(world.shown("Kustomization/apps/a"), "Failed", "the time goes on over a list");
    world.apply(&ahead);
    assert_eq!(world.shown("Kustomization/apps/a"), "Failed");
    world.apply(&object("Kustomization/apps/a", &git(), &[READY]));
    assert_eq!(world.shown("Kustomization/apps/a"), "Ready");
}

#[test]
fn a_canceled_health_check_is_no_failure() {
    let canceled =
        "Ready=False HealthCheckCanceled: New reconciliation triggered by GitRepository/apps/fleet";
    let mut world = World::of(&[object("Kustomization/apps/a", &git(), &[READY])]);
    world.apply(&object("Kustomization/apps/a", &git(), &[canceled, RETRY]));
    assert_eq!(world.shown("Kustomization/apps/a"), "Progressing(Ready)");
    world.apply(&object("Kustomization/apps/a", &git(), &["Ready=False HealthCheckFailed: timeout", RETRY]));
    world.apply(&object("Kustomization/apps/a", &git(), &[canceled, RETRY]));
    assert_eq!(world.shown("Kustomization/apps/a"), "Progressing(Failing)", "nor a success");
}

/// A Kustomization with an applied revision, an attempted revision, and history entries (status and revision), newest
/// first.
fn build(conditions: &[&str], applied: &str, attempted: &str, history: &[(&str, &str)]) -> Value {
    let mut one = object("Kustomization/apps/billing", &git(), conditions);
    one["status"]["lastAppliedRevision"] = applied.into();
    one["status"]["lastAttemptedRevision"] = attempted.into();
    let history: Vec<_> = history
        .iter()
        .map(|(status, revision)| {
            json!({"lastReconciledStatus": status, "lastReconciled": ago(10_000),
            "metadata": {"revision": revision}})
        })
        .collect();
    one["status"]["history"] = history.into();
    one
}

#[test]
fn after_a_restart_an_attempt_is_judged_by_what_the_object_tells() {
    let fetching = [
        "Reconciling=True Progressing: Fetching manifests for revision 2 with a timeout of 5m0s",
        "Ready=Unknown Progressing: Reconciliation in progress",
    ];
    let building = [
        "Reconciling=True Progressing: Building manifests for revision 2 with a timeout of 5m0s",
        "Ready=Unknown Progressing: Reconciliation in progress",
    ];
    let checking = [
        "Reconciling=True Progressing: Running health checks for revision 2 with a timeout of 5m0s",
        building[1],
    ];
    let unhealthy = ["Healthy=False HealthCheckFailed: timeout", building[0], building[1]];
    for (object, expected) in [
        // The previous revision was applied, so the last outcome is a success.
        (build(&fetching, "1", "1", &[("ReconciliationSucceeded", "1")]), "Progressing(Ready)"),
        // It was not applied and left no history entry, so its build failed.
        (build(&fetching, "1", "2", &[("ReconciliationSucceeded", "1")]), "Progressing(Failed)"),
        // This may be the first attempt of the revision or the tenth.
        (build(&building, "1", "2", &[("ReconciliationSucceeded", "1")]), "Progressing"),
        (build(&building, "1", "2", &[("HealthCheckFailed", "2")]), "Progressing(Failed)"),
        // The build is done: any failure from here on leaves a history entry.
        (build(&checking, "1", "2", &[("ReconciliationSucceeded", "1")]), "Progressing(Ready)"),
        (build(&building, "2", "2", &[("ReconciliationSucceeded", "2")]), "Progressing(Ready)"),
        (build(&unhealthy, "1", "2", &[("ReconciliationSucceeded", "1")]), "Progressing(Failed)"),
    ] {
        let world = World::of(std::slice::from_ref(&object));
        assert_eq!(world.shown("Kustomization/apps/billing"), expected, "{object}");
    }
}

#[test]
fn another_object_of_the_same_name_has_no_past() {
    let mut world =
        World::of(&[object("Kustomization/apps/a", &git(), &["Ready=False BuildFailed: no", RETRY])]);
    let mut new =
        object("Kustomization/apps/a", &git(), &["Ready=Unknown Progressing: Reconciliation in progress"]);
    new["metadata"]["creationTimestamp"] = ago(5);
    world.apply(&new);
    assert_eq!(world.shown("Kustomization/apps/a"), "Progressing");
}
