//! Tests objects as the controllers write them, in situations from public bug reports, with the expected verdicts.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    ClusterId, Event, Interner, Inventory, KindStatus, Liveness, ObjectKey, Record, Root, Seconds, State,
    catalogue::KindId, testing::CATALOGUE,
};

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
    ObjectKey { kind: kind(next()), namespace: next().into(), name: next().into() }
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

/// A HelmRelease whose HelmChart is created in another namespace, and does not become ready because of `why`.
fn waiting_release(why: &str, seconds: Seconds) -> Value {
    let message = format!("Ready=False SourceNotReady: HelmChart 'infra/shop-search' is not ready: {why}");
    let conditions = ["Reconciling=True Progressing: Fulfilling prerequisites", &message];
    let mut release = object_since("HelmRelease/shop/search", &templated(), &conditions, seconds);
    release["status"]["helmChart"] = "infra/shop-search".into();
    release["status"]["observedGeneration"] = (-1).into();
    release
}

#[test]
fn what_waits_for_a_chart_that_is_made_has_not_failed() {
    let unreconciled = "latest generation of object has not been reconciled";
    let chart = json!({"kind": "HelmChart", "metadata": {"namespace": "infra", "name": "shop-search", "generation": 1,
        "creationTimestamp": ago(1)}, "spec": templated()["chart"]["spec"], "status": {"observedGeneration": -1}});
    let mut world = World::of(&[
        object("HelmRepository/infra/catalog", &json!({}), &[READY]),
        chart,
        waiting_release(unreconciled, 1),
    ]);
    assert_eq!(world.shown("HelmRelease/shop/search"), "Progressing < HelmChart/shop-search Pending, source");
    // A new version of a healthy release.
    let mut bumped = waiting_release("does not have an artifact", 1);
    let released = json!({"type": "Released", "status": "True", "reason": "UpgradeSucceeded",
        "lastTransitionTime": ago(864_000)});
    bumped["status"]["conditions"].as_array_mut().unwrap().push(released);
    world.apply(&bumped);
    assert!(world.shown("HelmRelease/shop/search").starts_with("Progressing(Ready)"));
    // The wait has a limit.
    for (seconds, state) in [(299, State::Progressing), (300, State::Blocked), (90_000, State::Blocked)] {
        world.apply(&waiting_release(unreconciled, seconds));
        assert_eq!(world.record("HelmRelease/shop/search").verdict.state, state, "{seconds}");
    }
}

#[test]
fn the_chart_that_a_release_had_made_is_the_root_cause_wherever_it_stands() {
    let why = "invalid chart reference: no 'search' chart with version matching '9.9.9' found";
    let failed = format!("Ready=False InvalidChartReference: {why}");
    let mut world = World::of(&[
        object("HelmRepository/infra/catalog", &json!({}), &[READY]),
        object("HelmChart/infra/shop-search", &templated()["chart"]["spec"], &[RETRY, &failed]),
        waiting_release(why, 7_200),
    ]);
    assert_eq!(world.shown("HelmRelease/shop/search"), "Blocked < HelmChart/shop-search Failing, source");
    // The repository of that chart.
    world.apply(&object(
        "HelmRepository/infra/catalog",
        &json!({}),
        &["Ready=False IndexationFailed: no such host"],
    ));
    assert_eq!(world.shown("HelmRelease/shop/search"), "Blocked < HelmRepository/catalog Failed, source");
    world.delete("HelmChart/infra/shop-search");
    assert_eq!(world.shown("HelmRelease/shop/search"), "Blocked < HelmChart/shop-search missing source");
}

#[test]
fn the_dependency_that_the_controller_names_is_blamed_and_no_tolerated_one() {
    let failing = "Ready=False HealthCheckFailed: Deployment/apps/metrics not ready";
    let blocked = |name: &str, on_: &[&str], message: &str| {
        object_since(
            &format!("Kustomization/apps/{name}"),
            &on(on_),
            &[&format!("Ready=False DependencyNotReady: {message}")],
            600,
        )
    };
    let world = World::of(&[
        object("GitRepository/apps/fleet", &json!({}), &[READY]),
        object("Kustomization/apps/database", &git(), &[failing, RETRY]),
        object(
            "Kustomization/apps/queue",
            &git(),
            &["Ready=Unknown Progressing: Reconciliation in progress"],
        ),
        object("Kustomization/apps/api", &git(), &[READY]),
        blocked("web", &["database", "queue"], "dependency 'apps/queue' is not ready"),
        blocked("ui", &["api"], "dependency 'apps/api' is not ready according to readyExpr eval"),
        blocked("new", &["api"], "dependency 'apps/api' revision is not up to date"),
        blocked("gone", &["database", "none"], "dependency 'apps/none' not found: no"),
        // The controller checks again in half a minute.
        blocked("soon", &["database", "api"], "dependency 'apps/api' is not ready"),
    ]);
    for (name, expected) in [
        ("web", "Blocked < Kustomization/queue Progressing"),
        ("ui", "Blocked < Kustomization/api not enough"),
        ("new", "Blocked < Kustomization/api not enough"),
        ("gone", "Blocked < Kustomization/none missing"),
        ("soon", "Blocked"),
    ] {
        assert_eq!(world.shown(&format!("Kustomization/apps/{name}")), expected, "{name}");
    }
}

/// The status that kustomize-controller writes whenever it finds that a dependency is being reconciled.
#[test]
fn who_waits_for_a_dependency_that_has_not_failed_is_blocked_after_five_minutes() {
    let queue = |condition: &str| object("Kustomization/apps/queue", &git(), &[condition]);
    let web = |condition: &str| object_since("Kustomization/apps/web", &on(&["queue"]), &[condition], 0);
    let waits = "Ready=False DependencyNotReady: dependency 'apps/queue' is not ready";
    let upgraded = "Ready=False DependencyNotReady: dependency 'apps/queue' revision is not up to date";
    let working = "Ready=Unknown Progressing: Reconciliation in progress";
    for (before, dependency, condition, expected) in [
        (READY, READY, waits, "Progressing(Ready)"),
        (READY, working, waits, "Progressing(Ready)"),
        (READY, working, upgraded, "Progressing(Ready)"),
        ("Ready=False BuildFailed: no", working, waits, "Progressing(Failed)"),
    ] {
        let mut world = World::of(&[queue(READY), web(before)]);
        world.apply(&queue(dependency));
        world.apply(&web(condition));
        assert_eq!(world.shown("Kustomization/apps/web"), expected, "{before}, {dependency}, {condition}");
        world.now += 300;
        world.inventory.tick(world.now);
        assert!(world.shown("Kustomization/apps/web").starts_with("Blocked"), "{condition}");
    }
    for dependency in ["Ready=False BuildFailed: no such file", "Stalled=True Gone: for good"] {
        let world = World::of(&[queue(dependency), web(waits)]);
        assert!(world.shown("Kustomization/apps/web").starts_with("Blocked"), "{dependency}");
    }
    let expression =
        "Ready=False DependencyNotReady: dependency 'apps/queue' is not ready according to readyExpr eval";
    assert!(
        World::of(&[queue(READY), web(expression)]).shown("Kustomization/apps/web").starts_with("Blocked")
    );
    assert!(
        World::of(&[web(waits)]).shown("Kustomization/apps/web").starts_with("Blocked"),
        "it does not exist"
    );
}

#[test]
fn what_a_blocked_object_waits_for_is_asked_of_its_source() {
    let world = World::of(&[
        object("GitRepository/apps/fleet", &json!({}), &["Ready=False GitOperationFailed: denied"]),
        object("Kustomization/apps/base", &git(), &["Ready=Unknown Progressing: Reconciliation in progress"]),
        object_since(
            "Kustomization/apps/web",
            &on(&["base"]),
            &["Ready=False DependencyNotReady: dependency 'apps/base' is not ready"],
            600,
        ),
        // The object failed by itself, regardless of its source.
        object("Kustomization/apps/own", &git(), &["Ready=False BuildFailed: no such file"]),
        object("Kustomization/apps/fetch", &git(), &["Ready=False ArtifactFailed: 404"]),
        // A healthy object that is being reconciled has no problem.
        object("Kustomization/apps/busy", &git(), &["Ready=Unknown Progressing: Reconciliation in progress"]),
    ]);
    for (name, expected) in [
        ("web", "Blocked < GitRepository/fleet Failed, source"),
        ("own", "Failed"),
        ("fetch", "Failed < GitRepository/fleet Failed, source"),
        ("busy", "Progressing"),
    ] {
        assert_eq!(world.shown(&format!("Kustomization/apps/{name}")), expected, "{name}");
    }
}

#[test]
fn an_image_policy_waits_for_its_repository() {
    let policy = |condition: &str| {
        object("ImagePolicy/apps/web", &json!({"imageRepositoryRef": {"name": "web"}}), &[condition])
    };
    let mut world = World::of(&[
        object("ImageRepository/apps/web", &json!({}), &["Ready=False ReadOperationFailed: unauthorized"]),
        policy("Ready=False DependencyNotReady: referenced ImageRepository has not been scanned yet"),
    ]);
    assert_eq!(world.shown("ImagePolicy/apps/web"), "Blocked < ImageRepository/web Failed, source");
    // At first there are no tags to choose from, for a while.
    let unscanned = "Ready=False DependencyNotReady: retrying in 30s error: no tags in database";
    world.apply(&policy(unscanned));
    assert_eq!(world.record("ImagePolicy/apps/web").verdict.state, State::Progressing);
    world.now += 300;
    world.apply(&policy(unscanned));
    assert_eq!(world.shown("ImagePolicy/apps/web"), "Blocked < ImageRepository/web Failed, source");
    world.delete("ImageRepository/apps/web");
    assert_eq!(world.shown("ImagePolicy/apps/web"), "Blocked < ImageRepository/web missing source");
}

#[test]
fn behind_an_artifact_that_was_never_made_stands_its_generator() {
    let spec = json!({"sources": [{"alias": "mono", "kind": "GitRepository", "name": "fleet"}],
        "artifacts": [{"name": "other"}, {"name": "portal"}]});
    let why = "Ready=False BuildFailed: portal build failed: no files match";
    let source = json!({"sourceRef": {"kind": "ExternalArtifact", "name": "portal"}});
    let missing =
        r#"Ready=False ArtifactFailed: externalartifacts.source.toolkit.fluxcd.io "portal" not found"#;
    let mut world = World::of(&[
        object("GitRepository/apps/fleet", &json!({}), &[READY]),
        object("Kustomization/apps/portal", &source, &[missing]),
    ]);
    assert_eq!(world.shown("Kustomization/apps/portal"), "Failed < ExternalArtifact/portal missing source");
    world.apply(&object("ArtifactGenerator/apps/mono", &spec, &[why, RETRY]));
    assert_eq!(world.shown("Kustomization/apps/portal"), "Failed < ArtifactGenerator/mono Failing, source");
    // The cause is further up the chain; the artifacts themselves are checked too.
    world.apply(&object("ArtifactGenerator/apps/mono", &spec, &["Ready=False SourceFetchFailed: 404"]));
    world.apply(&object("GitRepository/apps/fleet", &json!({}), &["Ready=False GitOperationFailed: denied"]));
    assert_eq!(world.shown("Kustomization/apps/portal"), "Failed < GitRepository/fleet Failed, source");
    let mut made = object("ExternalArtifact/apps/portal", &json!({}), &[]);
    made["status"] = json!({"artifact": {"revision": "latest@sha256:1"}});
    world.apply(&made);
    assert_eq!(world.shown("ExternalArtifact/apps/portal"), "Ready");
    assert_eq!(world.shown("Kustomization/apps/portal"), "Failed");
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

#[path = "sequences.rs"]
mod sequences;
