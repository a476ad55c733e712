//! Condition types, reasons and messages of Flux's controllers, and their meaning, as tables by kind.
//!
//! They were taken from the sources of the controllers (Flux 2.9, flux-operator 0.58, source-watcher 2.2).
//!
//! **Invariant:** `OWN` is sorted, because it is searched with a binary search.

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
    /// Kustomization: the result of the last health check that started. It stays while the next attempt prepares.
    pub(in crate::flux) const HEALTHY: &str = "Healthy";
    /// Sources: an artifact is available.
    pub(in crate::flux) const ARTIFACT_IN_STORAGE: &str = "ArtifactInStorage";
    /// Sources: each condition is present, and True, only while the failure that it names lasts.
    pub(in crate::flux) const SOURCE_FAILURES: [&str; 4] =
        ["FetchFailed", "BuildFailed", "StorageOperationFailed", "IncludeUnavailable"];
}

/// Condition reasons.
pub(crate) mod reason {
    pub(crate) const DEPENDENCY_NOT_READY: &str = "DependencyNotReady";
    pub(in crate::flux) const PROGRESSING_WITH_RETRY: &str = "ProgressingWithRetry";
    pub(in crate::flux) const RECONCILIATION_SUCCEEDED: &str = "ReconciliationSucceeded";
    /// A new revision arrived during the health check of the previous one; the next attempt starts at once.
    pub(in crate::flux) const HEALTH_CHECK_CANCELED: &str = "HealthCheckCanceled";
    pub(in crate::flux) const SOURCE_NOT_READY: &str = "SourceNotReady";
    /// The name that kstatus gives to a generation that the controller has not observed.
    pub(crate) const GENERATION_NOT_OBSERVED: &str = "LatestGenerationNotObserved";
    // Gatehouse's own reasons, for operations that exceeded a time limit.
    pub(in crate::flux) const DELETION_STUCK: &str = "DeletionStuck";
    pub(in crate::flux) const PROGRESS_STUCK: &str = "ProgressStuck";
    pub(in crate::flux) const NOT_RECONCILED: &str = "NotReconciled";
}

/// Time limits after which an operation counts as a problem. If twice `spec.timeout` is longer, that applies instead.
pub(super) mod limit {
    use super::Seconds;

    /// Since `metadata.deletionTimestamp`.
    pub(in crate::flux) const DELETION: Seconds = 3_600;
    /// Since Ready became Unknown.
    pub(in crate::flux) const PROGRESS: Seconds = 3_600;
    /// Since the object was created, or since Gatehouse first saw a generation that its controller has not observed.
    pub(in crate::flux) const SILENCE: Seconds = 3_600;
    /// Since the object began to wait for a source that is not available yet.
    pub(in crate::flux) const SOURCE: Seconds = 300;
}

/// A reason of Ready=False, and the prefixes or suffixes of the messages that come with it.
struct Waits {
    reason: &'static str,
    begins: &'static [&'static str],
    ends: &'static [&'static str],
}

/// Ready=False that is not a failed attempt: the source of the object is still being created, as in every installation
/// and for every new version. The controller continues as soon as the source is available.
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
    // An ImagePolicy whose ImageRepository has not been scanned yet.
    Waits { reason: reason::DEPENDENCY_NOT_READY, begins: &[], ends: &["no tags in database"] },
    // An ArtifactGenerator whose source has no artifact.
    Waits { reason: "SourceFetchFailed", begins: &["get sources failed: source '"], ends: &[] },
    Waits { reason: "NoSourceArtifact", begins: &["no artifact available for"], ends: &[] },
    Waits { reason: "NoArtifact", begins: &["no artifact available for"], ends: &[] },
];

/// Whether Ready=False reports that the object waits for a source that is not available yet.
pub(super) fn waits_for_source(reason: &str, message: &str) -> bool {
    FOR_A_SOURCE.iter().any(|waits| {
        waits.reason == reason
            && (waits.begins.iter().any(|begin| message.starts_with(begin))
                || waits.ends.iter().any(|end| message.ends_with(end)))
    })
}

/// Reasons that report only the consequence of a failure, and the conditions that report its cause, best first.
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

/// The conditions (type and status) that explain a condition with `reason`, best first.
pub(super) fn explained_by(kind: &str, reason: &str) -> &'static [(&'static str, &'static str)] {
    let found = EXPLAINED.iter().find(|one| one.kind == kind && one.reasons.contains(&reason));
    found.map_or(&[], |one| one.by)
}

/// Reasons of failures that the object causes itself, independently of its source.
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

/// Whether a failure with this reason may be caused by the source of the object.
pub(crate) fn may_be_the_source(reason: &str) -> bool {
    OWN.binary_search(&reason).is_err()
}

/// Whether an object that is not ready for this reason lacks a source.
pub(crate) fn needs_a_source(reason: &str) -> bool {
    reason != reason::DEPENDENCY_NOT_READY && FOR_A_SOURCE.iter().any(|waits| waits.reason == reason)
}

/// Whether the message of a controller names this object as one that it waits for.
pub(super) fn names(message: &str, kind: &str, namespace: &str, name: &str) -> bool {
    // kustomize-controller and helm-controller write 'namespace/name', source-watcher also 'Kind/namespace/name', and
    // the operator version/Kind/namespace/name.
    message.contains(&format!("'{namespace}/{name}'"))
        || message.contains(&format!("'{kind}/{namespace}/{name}'"))
        || message.split(' ').any(|word| {
            let rest = word.strip_suffix(&format!("/{name}")).unwrap_or_default();
            let rest =
                if namespace.is_empty() { Some(rest) } else { rest.strip_suffix(&format!("/{namespace}")) };
            rest.is_some_and(|rest| rest == kind || rest.ends_with(&format!("/{kind}")))
        })
}

/// Whether the controller may wait for a dependency although that dependency is Ready.
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
