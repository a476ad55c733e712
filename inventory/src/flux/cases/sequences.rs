//! Tests sequences of statuses that controllers write over the life of an object.
//!
//! **Invariant:** The displayed state changes once for each event that happens to the object, not with every attempt.

use serde_json::{Value, json};

use super::*;

/// The conditions that are written, and what is displayed after them: the state, and the last outcome: success (`+`),
/// failure (`-`) or unknown (`?`).
type Step = (&'static [&'static str], &'static str);

/// Applies the steps in order. The last outcome changes only where the steps say so.
fn follow(place: &str, spec: &Value, beside: impl Fn(usize, &mut Value), steps: &[Step]) {
    let mut world = World::of(&[]);
    let mut written: Vec<Value> = Vec::new();
    for (at, (conditions, expected)) in steps.iter().enumerate() {
        world.now += 30;
        let since = NOW - world.now;
        let mut object = object_since(place, spec, conditions, since);
        object["metadata"]["creationTimestamp"] = ago(0);
        // An unchanged condition keeps its time.
        let words = |one: &Value| ["type", "status", "reason", "message"].map(|field| one[field].clone());
        let list = object["status"]["conditions"].as_array_mut().unwrap();
        for condition in &mut *list {
            if let Some(before) = written.iter().find(|before| words(before) == words(condition)) {
                *condition = before.clone();
            }
        }
        written.clone_from(list);
        beside(at, &mut object);
        let failed_before =
            world.inventory.cluster(LOCAL).record(&key(place)).map(|record| record.verdict.clone());
        world.apply(&object);
        let verdict = &world.record(place).verdict;
        let outcome = match verdict.outcome() {
            State::Ready => "+",
            state if state.is_failure() => "-",
            _ => "?",
        };
        let shown = format!("{}{outcome}", verdict.state);
        assert_eq!(shown, *expected, "{place}, step {at}: {conditions:?}");
        // A failure keeps its message and its time while it is retried.
        if let Some(before) = failed_before.filter(|before| before.outcome().is_failure() && outcome == "-") {
            assert_eq!(verdict.outcome_since(), before.outcome_since(), "{place}, step {at}");
            if verdict.state == State::Progressing {
                assert_eq!(verdict.message, before.message, "{place}, step {at}");
            }
        }
        let listed = world.inventory.cluster(LOCAL).namespace("apps").unwrap().failures().len();
        assert_eq!(listed, usize::from(outcome == "-"), "{place}, step {at}");
    }
}

const WORKING: &str = "Ready=Unknown Progressing: Reconciliation in progress";
const FETCH: &str = "Reconciling=True Progressing: Fetching manifests for revision 2 with a timeout of 5m0s";
const BUILD: &str = "Reconciling=True Progressing: Building manifests for revision 2 with a timeout of 5m0s";
const APPLY: &str = "Reconciling=True Progressing: Detecting drift for revision 2 with a timeout of 5m0s";
const CHECK: &str =
    "Reconciling=True Progressing: Running health checks for revision 2 with a timeout of 5m0s";
const BROKEN: &str = "Ready=False BuildFailed: kustomize build failed: no such file";
const UNHEALTHY: &str = "Ready=False HealthCheckFailed: timeout waiting for Deployment/apps/web";
const APPLIED: &str = "Ready=True ReconciliationSucceeded: Applied revision: 2";

#[test]
fn a_kustomization() {
    // The history of kustomize-controller, which does not record builds. By step: applied revision, attempted revision,
    // newest entry.
    let beside = |at: usize, object: &mut Value| {
        let (applied, attempted, entry) = match at {
            0..=2 => (None, None, None),
            3..=6 => (None, Some("1"), None),
            7..=9 => (Some("1"), Some("1"), Some(("ReconciliationSucceeded", "1"))),
            10..=18 => (Some("1"), Some("2"), Some(("ReconciliationSucceeded", "1"))),
            19..=22 => (Some("1"), Some("2"), Some(("HealthCheckFailed", "2"))),
            _ => (Some("2"), Some("2"), Some(("ReconciliationSucceeded", "2"))),
        };
        object["status"]["lastAppliedRevision"] = applied.into();
        object["status"]["lastAttemptedRevision"] = attempted.into();
        object["status"]["history"] = entry.map_or(Value::Null, |(status, revision)| {
            json!([{"lastReconciledStatus": status, "lastReconciled": ago(100_000), "metadata": {"revision": revision}}])
        });
    };
    let steps: &[Step] = &[
        // The object was created; its source has not been fetched yet.
        (&[], "Pending?"),
        (&["Ready=False ArtifactFailed: Source artifact not found, retrying in 30s"], "Progressing?"),
        (&[FETCH, WORKING], "Progressing?"),
        (&[BUILD, WORKING], "Progressing?"),
        (&[APPLY, WORKING], "Progressing?"),
        (&[CHECK, WORKING, "Healthy=Unknown Progressing: running"], "Progressing?"),
        (&["Healthy=True Succeeded: passed", CHECK, WORKING], "Progressing?"),
        (&["Healthy=True Succeeded: passed", APPLIED], "Ready+"),
        // The same revision is reconciled again.
        (&[FETCH, WORKING], "Progressing+"),
        (&[APPLIED], "Ready+"),
        // A revision that does not build is attempted three times.
        (&[BUILD, WORKING], "Progressing+"),
        (&[RETRY, BROKEN], "Failing-"),
        (&[FETCH, WORKING], "Progressing-"),
        (&[BUILD, WORKING], "Progressing-"),
        (&[RETRY, BROKEN], "Failing-"),
        (&[BUILD, WORKING], "Progressing-"),
        (&[RETRY, BROKEN], "Failing-"),
        // A revision builds but does not become healthy, and is abandoned during the attempt for a newer one.
        (&[APPLY, WORKING], "Progressing-"),
        (&[CHECK, WORKING, "Healthy=Unknown Progressing: running"], "Progressing-"),
        (&[RETRY, UNHEALTHY, "Healthy=False HealthCheckFailed: timeout"], "Failing-"),
        (&[CHECK, WORKING, "Healthy=Unknown Progressing: running"], "Progressing-"),
        (
            &[
                RETRY,
                "Ready=False HealthCheckCanceled: New reconciliation triggered by GitRepository/apps/fleet",
            ],
            "Progressing-",
        ),
        (&[CHECK, WORKING], "Progressing-"),
        (&[APPLIED], "Ready+"),
        // A dependency fails and recovers.
        (&["Ready=False DependencyNotReady: dependency 'apps/base' is not ready"], "Blocked-"),
        (&[FETCH, WORKING], "Progressing-"),
        (&[APPLIED], "Ready+"),
    ];
    follow("Kustomization/apps/billing", &git(), beside, steps);
}

#[test]
fn a_kustomization_whose_first_build_never_succeeds() {
    let beside = |at: usize, object: &mut Value| {
        object["status"]["observedGeneration"] = (-1).into();
        object["status"]["lastAttemptedRevision"] = (at > 1).then_some("1").into();
    };
    let steps: &[Step] = &[
        (&[FETCH, WORKING], "Progressing?"),
        (&[BUILD, WORKING], "Progressing?"),
        (&[RETRY, BROKEN], "Failing-"),
        (&[FETCH, WORKING], "Progressing-"),
        (&[BUILD, WORKING], "Progressing-"),
        (&[RETRY, BROKEN], "Failing-"),
    ];
    follow("Kustomization/apps/billing", &git(), beside, steps);
}

#[test]
fn a_helm_release() {
    const PREPARE: &str = "Reconciling=True Progressing: Fulfilling prerequisites";
    const NO_CHART: &str = "Ready=False SourceNotReady: HelmChart 'apps/apps-web' is not ready: latest generation of object has not been reconciled";
    const INSTALL: &str = "Ready=Unknown Progressing: Running 'install' action with timeout of 5m0s";
    const UPGRADE: &str = "Ready=Unknown Progressing: Running 'upgrade' action with timeout of 5m0s";
    const INSTALLED: &str = "Released=True InstallSucceeded: Helm install succeeded";
    const UPGRADED: &str = "Released=True UpgradeSucceeded: Helm upgrade succeeded";
    const NOT_UPGRADED: &str = "Released=False UpgradeFailed: Helm upgrade failed: timeout";
    const FAILED: &str = "Ready=False UpgradeFailed: Helm upgrade failed: timeout";
    const ROLLED_BACK: &str = "Ready=False RollbackSucceeded: Helm rollback succeeded";
    const UNINSTALLED: &str = "Ready=False UninstallSucceeded: Helm uninstall succeeded";
    const NOT_RELEASED: &str = "Released=False UninstallSucceeded: Helm uninstall succeeded";
    const REMEDIATED: &str = "Remediated=True RollbackSucceeded: Helm rollback succeeded";
    let steps: &[Step] = &[
        (&[], "Pending?"),
        (&[PREPARE], "Progressing?"),
        (&[PREPARE, NO_CHART], "Progressing?"),
        (&[PREPARE, INSTALL], "Progressing?"),
        (&["Ready=True InstallSucceeded: Helm install succeeded", INSTALLED], "Ready+"),
        // A reconciliation without changes.
        (&[PREPARE, "Ready=True InstallSucceeded: Helm install succeeded", INSTALLED], "Ready+"),
        // A new version, whose chart is built first; it fails and is rolled back, twice, and the controller gives up.
        (&[PREPARE, NO_CHART, INSTALLED], "Progressing+"),
        (&[UPGRADE, INSTALLED], "Progressing+"),
        (&["Reconciling=True Progressing: Running 'rollback' action", FAILED, NOT_UPGRADED], "Failing-"),
        (&[RETRY, ROLLED_BACK, REMEDIATED, NOT_UPGRADED], "Failing-"),
        (&[UPGRADE, REMEDIATED, NOT_UPGRADED], "Progressing-"),
        (&["Reconciling=True Progressing: Running 'rollback' action", FAILED, NOT_UPGRADED], "Failing-"),
        (
            &[
                "Stalled=True RetriesExceeded: Failed to upgrade after 2 attempt(s)",
                ROLLED_BACK,
                REMEDIATED,
                NOT_UPGRADED,
            ],
            "Stalled-",
        ),
        // A version with unreadable values, which leaves the other conditions as they are; then a version that works.
        (&[PREPARE, ROLLED_BACK, REMEDIATED, NOT_UPGRADED], "Failed-"),
        (&[PREPARE, "Ready=False ValuesError: no such Secret", REMEDIATED, NOT_UPGRADED], "Failed-"),
        (&[UPGRADE, REMEDIATED, NOT_UPGRADED], "Progressing-"),
        (&["Ready=True UpgradeSucceeded: Helm upgrade succeeded", UPGRADED], "Ready+"),
        // A new name: the release is uninstalled, and installed again.
        (&[PREPARE, UNINSTALLED, NOT_RELEASED], "Progressing+"),
        (&[INSTALL, NOT_RELEASED], "Progressing+"),
        (&["Ready=True InstallSucceeded: Helm install succeeded", INSTALLED], "Ready+"),
        // A chart that cannot be loaded: Released does not report it.
        (&[PREPARE, "Ready=False ArtifactFailed: Could not load chart: checksum", UPGRADED], "Failed-"),
        (&[PREPARE, "Ready=Unknown Progressing: reconciliation in progress", UPGRADED], "Progressing-"),
        (&["Ready=True UpgradeSucceeded: Helm upgrade succeeded", UPGRADED], "Ready+"),
    ];
    follow(
        "HelmRelease/apps/web",
        &json!({"chartRef": {"kind": "OCIRepository", "name": "web"}}),
        |_, _| {},
        steps,
    );
}

#[test]
fn a_helm_release_that_is_tested() {
    const INSTALL: &str = "Ready=Unknown Progressing: Running 'install' action with timeout of 5m0s";
    const UPGRADE: &str = "Ready=Unknown Progressing: Running 'upgrade' action with timeout of 5m0s";
    const INSTALLED: &str = "Released=True InstallSucceeded: Helm install succeeded";
    const UPGRADED: &str = "Released=True UpgradeSucceeded: Helm upgrade succeeded";
    const AWAITS: &str = "Ready=Unknown AwaitingTests: Helm release apps/web is awaiting tests";
    const AWAITED: &str = "TestSuccess=Unknown AwaitingTests: Helm release apps/web is awaiting tests";
    const PASSED: &str = "TestSuccess=True TestSucceeded: Helm test succeeded";
    const NOT_PASSED: &str = "TestSuccess=False TestFailed: Helm test failed: pod web-test failed";
    const FAILED: &str = "Ready=False TestFailed: Helm test failed: pod web-test failed";
    const ROLLED_BACK: &str = "Remediated=True RollbackSucceeded: Helm rollback succeeded";
    const GOOD: &str = "Ready=True TestSucceeded: Helm test succeeded";
    let steps: &[Step] = &[
        (&[INSTALL], "Progressing?"),
        (&[AWAITS, AWAITED, INSTALLED], "Progressing?"),
        (&[GOOD, PASSED, INSTALLED], "Ready+"),
        (&[UPGRADE, PASSED, INSTALLED], "Progressing+"),
        (&[AWAITS, AWAITED, UPGRADED], "Progressing+"),
        // The release succeeds each time, but its tests fail.
        (&[RETRY, FAILED, NOT_PASSED, UPGRADED], "Failing-"),
        (&[UPGRADE, NOT_PASSED, UPGRADED], "Progressing-"),
        (&[AWAITS, AWAITED, UPGRADED], "Progressing-"),
        (&[RETRY, FAILED, NOT_PASSED, UPGRADED], "Failing-"),
        (
            &["Reconciling=True Progressing: Running 'rollback' action", FAILED, NOT_PASSED, UPGRADED],
            "Failing-",
        ),
        (
            &[
                "Stalled=True RetriesExceeded: Failed to upgrade after 2 attempt(s)",
                "Ready=False RollbackSucceeded: Helm rollback succeeded",
                ROLLED_BACK,
                NOT_PASSED,
                UPGRADED,
            ],
            "Stalled-",
        ),
        (&[UPGRADE, ROLLED_BACK, NOT_PASSED, UPGRADED], "Progressing-"),
        (&[AWAITS, AWAITED, UPGRADED], "Progressing-"),
        (&[GOOD, PASSED, UPGRADED], "Ready+"),
    ];
    let spec = json!({"test": {"enable": true}, "chartRef": {"kind": "OCIRepository", "name": "web"}});
    follow("HelmRelease/apps/web", &spec, |_, _| {}, steps);
}

#[test]
fn a_kustomization_that_is_suspended_and_resumed() {
    let beside = |at: usize, object: &mut Value| {
        let (applied, attempted) = match at {
            0 => ("1", "1"),
            1..=9 => ("1", "2"),
            _ => ("2", "2"),
        };
        object["status"]["lastAppliedRevision"] = applied.into();
        object["status"]["lastAttemptedRevision"] = attempted.into();
        object["status"]["history"] = json!([{"lastReconciledStatus": "ReconciliationSucceeded",
            "lastReconciled": ago(100_000), "metadata": {"revision": applied}}]);
        object["spec"]["suspend"] = matches!(at, 4 | 11).into();
    };
    let steps: &[Step] = &[
        (&[APPLIED], "Ready+"),
        (&[BUILD, WORKING], "Progressing+"),
        (&[RETRY, BROKEN], "Failing-"),
        (&[BUILD, WORKING], "Progressing-"),
        // Suspended during an attempt, which the controller abandons.
        (&[BUILD, WORKING], "Suspended?"),
        (&[BUILD, WORKING], "Progressing-"),
        (&[FETCH, WORKING], "Progressing-"),
        (&[RETRY, BROKEN], "Failing-"),
        // A dependency breaks in the meantime.
        (&["Ready=False DependencyNotReady: dependency 'apps/base' is not ready"], "Blocked-"),
        (&[FETCH, WORKING], "Progressing-"),
        (&[APPLIED], "Ready+"),
        (&[APPLIED], "Suspended?"),
        (&[APPLIED], "Ready+"),
        (&[FETCH, WORKING], "Progressing+"),
    ];
    follow("Kustomization/apps/billing", &git(), beside, steps);
}

#[test]
fn a_git_repository() {
    const NEW: &str = "Ready=Unknown Progressing: building artifact: new upstream revision 'main@sha1:2'";
    const STORED: &str = "ArtifactInStorage=True Succeeded: stored artifact for revision 'main@sha1:1'";
    const OUTDATED: &str = "ArtifactOutdated=True NewRevision: new upstream revision 'main@sha1:2'";
    const DENIED: &str = "Ready=False GitOperationFailed: failed to checkout: authentication required";
    const FETCH_FAILED: &str =
        "FetchFailed=True GitOperationFailed: failed to checkout: authentication required";
    let steps: &[Step] = &[
        (&[], "Pending?"),
        (
            &[
                "Reconciling=True Progressing: building artifact",
                "Ready=Unknown Progressing: building artifact",
            ],
            "Progressing?",
        ),
        (&[READY, STORED], "Ready+"),
        (&["Reconciling=True NewRevision: new upstream revision", NEW, OUTDATED, STORED], "Progressing+"),
        (&[READY, STORED], "Ready+"),
        // The permission is revoked, and granted again.
        (&[RETRY, DENIED, FETCH_FAILED, STORED], "Failing-"),
        (
            &[
                "Reconciling=True Progressing: reconciliation in progress",
                "Ready=Unknown Progressing: reconciliation in progress",
                FETCH_FAILED,
                STORED,
            ],
            "Progressing-",
        ),
        (&[RETRY, DENIED, FETCH_FAILED, STORED], "Failing-"),
        // The condition of the failure is removed before the artifact is stored.
        (&["Reconciling=True NewRevision: new upstream revision", NEW, OUTDATED, STORED], "Progressing-"),
        (&[READY, STORED], "Ready+"),
    ];
    follow("GitRepository/apps/fleet", &json!({"url": "https://git.example.com/fleet"}), |_, _| {}, steps);
}
