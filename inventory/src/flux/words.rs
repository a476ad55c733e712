//! Flux's controllers' words, and what they mean: as data, by kind, read in the controllers' sources (Flux 2.9,
//! flux-operator 0.58, source-watcher 2.2).

use crate::Seconds;

/// Condition types.
pub(super) mod condition {
    pub(in crate::flux) const READY: &str = "Ready";
    pub(in crate::flux) const RECONCILING: &str = "Reconciling";
    pub(in crate::flux) const STALLED: &str = "Stalled";
    /// HelmRelease: whether the last install or upgrade succeeded.
    pub(in crate::flux) const RELEASED: &str = "Released";
    /// HelmRelease: whether the release passed its tests; Unknown until they have run.
    pub(in crate::flux) const TEST_SUCCESS: &str = "TestSuccess";
    /// HelmRelease: a failed release was rolled back or uninstalled.
    pub(in crate::flux) const REMEDIATED: &str = "Remediated";
    /// Kustomization: how the last health check that began ended. It stays while another attempt gets ready.
    pub(in crate::flux) const HEALTHY: &str = "Healthy";
    /// Sources: an artifact can be had.
    pub(in crate::flux) const ARTIFACT_IN_STORAGE: &str = "ArtifactInStorage";
    /// Sources: present, and True, only while what they name goes wrong.
    pub(in crate::flux) const SOURCE_FAILURES: [&str; 4] =
        ["FetchFailed", "BuildFailed", "StorageOperationFailed", "IncludeUnavailable"];
}

/// Condition reasons.
pub(crate) mod reason {
    pub(crate) const DEPENDENCY_NOT_READY: &str = "DependencyNotReady";
    pub(in crate::flux) const PROGRESSING_WITH_RETRY: &str = "ProgressingWithRetry";
    pub(in crate::flux) const RECONCILIATION_SUCCEEDED: &str = "ReconciliationSucceeded";
    /// A new revision came while the health of the one before was looked at: the next attempt begins at once.
    pub(in crate::flux) const HEALTH_CHECK_CANCELED: &str = "HealthCheckCanceled";
    pub(in crate::flux) const SOURCE_NOT_READY: &str = "SourceNotReady";
    /// kstatus' name for a generation the controller has not come to.
    pub(crate) const GENERATION_NOT_OBSERVED: &str = "LatestGenerationNotObserved";
    // Gatehouse's own, for what took too long.
    pub(in crate::flux) const DELETION_STUCK: &str = "DeletionStuck";
    pub(in crate::flux) const PROGRESS_STUCK: &str = "ProgressStuck";
    pub(in crate::flux) const NOT_RECONCILED: &str = "NotReconciled";
}

/// How long something may take before it is trouble. Where `spec.timeout` allows more, twice that.
pub(super) mod limit {
    use super::Seconds;

    /// From `metadata.deletionTimestamp`.
    pub(in crate::flux) const DELETION: Seconds = 3_600;
    /// From when Ready became Unknown.
    pub(in crate::flux) const PROGRESS: Seconds = 3_600;
    /// From when the object was made, or a generation was first seen that its controller has not come to.
    pub(in crate::flux) const SILENCE: Seconds = 3_600;
    /// From when an object began to wait for a source that is still made.
    pub(in crate::flux) const SOURCE: Seconds = 300;
}

/// A reason of Ready=False, and how messages begin or end that go with it.
struct Waits {
    reason: &'static str,
    begins: &'static [&'static str],
    ends: &'static [&'static str],
}

/// Ready=False that is no failed attempt: what the object is made from is about to be made itself, at every
/// installation and every new version. The controllers go on as soon as it is there.
const FOR_A_SOURCE: [Waits; 6] = [
    Waits {
        reason: reason::SOURCE_NOT_READY,
        begins: &[],
        ends: &["latest generation of object has not been reconciled", "does not have an artifact"],
    },
    Waits {
        reason: "ArtifactFailed",
        begins: &[
            "Source artifact not found, retrying in",
            "Source is not ready, artifact not found",
            "Source not ready: artifact not found",
        ],
        ends: &[],
    },
    // An ImagePolicy whose repository was not scanned yet.
    Waits { reason: reason::DEPENDENCY_NOT_READY, begins: &[], ends: &["no tags in database"] },
    // An ArtifactGenerator's source without an artifact.
    Waits { reason: "SourceFetchFailed", begins: &["get sources failed: source '"], ends: &[] },
    Waits { reason: "NoSourceArtifact", begins: &["no artifact available for"], ends: &[] },
    Waits { reason: "NoArtifact", begins: &["no artifact available for"], ends: &[] },
];

/// Whether Ready=False says that the object waits for a source that is still made.
pub(super) fn waits_for_source(reason: &str, message: &str) -> bool {
    FOR_A_SOURCE.iter().any(|waits| {
        waits.reason == reason
            && (waits.begins.iter().any(|begin| message.starts_with(begin))
                || waits.ends.iter().any(|end| message.ends_with(end)))
    })
}

/// Reasons that say only what became of a failure, and the conditions that say why, the best first.
struct Explained {
    kind: &'static str,
    reasons: &'static [&'static str],
    by: &'static [(&'static str, &'static str)],
}

const EXPLAINED: [Explained; 1] = [Explained {
    kind: "HelmRelease",
    reasons: &[
        "RetriesExceeded",
        "MissingRollbackTarget",
        "RollbackSucceeded",
        "RollbackFailed",
        "UninstallSucceeded",
        "UninstallFailed",
    ],
    by: &[("Released", "False"), ("TestSuccess", "False"), ("Remediated", "False"), ("Ready", "False")],
}];

/// The conditions, as type and status, that explain one with `reason`, the best first.
pub(super) fn explained_by(kind: &str, reason: &str) -> &'static [(&'static str, &'static str)] {
    let found = EXPLAINED.iter().find(|one| one.kind == kind && one.reasons.contains(&reason));
    found.map_or(&[], |one| one.by)
}

/// Reasons of an object's own: its source, whatever that is doing, has nothing to do with it.
const OWN: [&str; 28] = [
    "AccessDenied",
    "BuildFailed",
    "ChartMutateError",
    reason::DELETION_STUCK,
    "DriftDetected",
    "FactoryError",
    "FeatureGateDisabled",
    "HealthCheckFailed",
    "InstallFailed",
    "InvalidCELExpression",
    "InvalidPolicy",
    reason::GENERATION_NOT_OBSERVED,
    reason::NOT_RECONCILED,
    reason::PROGRESS_STUCK,
    "PruneFailed",
    "RESTClientError",
    "ReconcileError",
    "ReconciliationFailed",
    "ResourceManagerError",
    "RetriesExceeded",
    "RollbackFailed",
    "RollbackSucceeded",
    "StateError",
    "TestFailed",
    "UninstallFailed",
    "UninstallSucceeded",
    "UpgradeFailed",
    "ValuesError",
];

/// Whether what went wrong, by its reason, may have begun with the object's source.
pub(crate) fn may_be_the_source(reason: &str) -> bool {
    OWN.binary_search(&reason).is_err()
}

/// Whether an object that is not ready for this reason has no source that it could be made from.
pub(crate) fn needs_a_source(reason: &str) -> bool {
    reason != reason::DEPENDENCY_NOT_READY && FOR_A_SOURCE.iter().any(|waits| waits.reason == reason)
}

/// Whether a controller names an object that it waits for.
pub(super) fn names(message: &str, kind: &str, namespace: &str, name: &str) -> bool {
    // kustomize- and helm-controller: 'namespace/name'; source-watcher also 'Kind/namespace/name'; the operator:
    // version/Kind/namespace/name.
    message.contains(&format!("'{namespace}/{name}'"))
        || message.contains(&format!("'{kind}/{namespace}/{name}'"))
        || message.split(' ').any(|word| {
            let rest = word.strip_suffix(&format!("/{name}")).unwrap_or_default();
            let rest =
                if namespace.is_empty() { Some(rest) } else { rest.strip_suffix(&format!("/{namespace}")) };
            rest.is_some_and(|rest| rest == kind || rest.ends_with(&format!("/{kind}")))
        })
}

/// Whether a dependency that is Ready by itself may be what the controller waits for.
pub(crate) fn asks_for_more(message: &str) -> bool {
    asks_by_expression(message) || message.contains("revision is not up to date")
}

/// Whether the controller waits until an expression about the dependency is true.
pub(crate) fn asks_by_expression(message: &str) -> bool {
    ["according to readyExpr", "not ready: expression"].iter().any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_reasons_are_in_order() {
        assert!(OWN.is_sorted());
        assert!(!may_be_the_source("UpgradeFailed") && may_be_the_source("ArtifactFailed"));
    }

    #[test]
    fn a_dependency_is_named_in_each_controllers_way() {
        for (message, kind, namespace, name, expected) in [
            ("dependency 'apps/queue' is not ready", "Kustomization", "apps", "queue", true),
            ("dependency 'apps/queue' is not ready", "Kustomization", "apps", "que", false),
            ("unable to get 'a/b' dependency: not found", "HelmRelease", "a", "b", true),
            ("dependency apps/v1/Deployment/other/d not ready", "Deployment", "other", "d", true),
            ("dependency apps/v1/Deployment/other/d not ready", "Deployment", "", "d", false),
            ("dependency v1/Namespace/n not found: no", "Namespace", "", "n", true),
            ("source 'GitRepository/apps/b' is not ready", "GitRepository", "apps", "b", true),
            ("source 'GitRepository/apps/b' is not ready", "Bucket", "apps", "b", false),
        ] {
            assert_eq!(names(message, kind, namespace, name), expected, "{message} {name}");
        }
    }
}
