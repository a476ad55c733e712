//! Condition types, reasons and messages of Flux's controllers, and their meaning, as tables by kind.
//!
//! They were taken from the sources of the controllers (Flux 2.9, flux-operator 0.58, source-watcher 2.2).
//!
//! **Invariant:** `OWN` is sorted, because it is searched with a binary search.

use gatehouse_apiservice::duration;

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
    /// Sources: whether the signature of what was fetched is good.
    pub(in crate::flux) const SOURCE_VERIFIED: &str = "SourceVerified";
}

/// Condition reasons.
pub(crate) mod reason {
    pub(crate) const DEPENDENCY_NOT_READY: &str = "DependencyNotReady";
    pub(in crate::flux) const PROGRESSING_WITH_RETRY: &str = "ProgressingWithRetry";
    pub(in crate::flux) const RECONCILIATION_SUCCEEDED: &str = "ReconciliationSucceeded";
    /// A new revision arrived during the health check of the previous one; the next attempt starts at once.
    pub(in crate::flux) const HEALTH_CHECK_CANCELED: &str = "HealthCheckCanceled";
    pub(in crate::flux) const SOURCE_NOT_READY: &str = "SourceNotReady";
    /// A release was uninstalled: as a remediation, or because it is installed anew under another name.
    pub(in crate::flux) const UNINSTALL_SUCCEEDED: &str = "UninstallSucceeded";
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

/// Reasons of Ready=False with which controllers report, among others, that the source does not exist.
const WITHOUT_SOURCE: [&str; 5] =
    ["ArtifactFailed", "NotFound", "SourceFetchFailed", "SourceManagerFailed", "SourceUnavailable"];

/// Whether a condition reports that the source of the object does not exist. Objects are often created moments before
/// their sources.
pub(super) fn source_is_missing(reason: &str, message: &str) -> bool {
    let is_of_policy = reason == reason::DEPENDENCY_NOT_READY
        && message.starts_with("failed to get the referred ImageRepository");
    (is_of_policy || WITHOUT_SOURCE.contains(&reason)) && message.ends_with("not found")
}

/// What messages of failed attempts contain if the objects that were applied did not become healthy in time.
const UNHEALTHY: [&str; 6] = [
    "health check",
    "not ready",
    "timed out waiting",
    "timeout waiting",
    "failed early due to stalled resources",
    "context deadline exceeded",
];

/// What messages contain if a request failed, whatever else they say: nothing was waited for.
const REQUEST: [&str; 6] =
    ["calling webhook", "call webhook", "dry-run failed", "Post \"", "Patch \"", "Put \""];

/// Whether an attempt failed because of what it applied: the cause is one of those objects.
pub(crate) fn waits_for_health(reason: &str, message: &str) -> bool {
    let has = |among: &[&str]| among.iter().any(|words| message.contains(words));
    reason == "HealthCheckFailed" || has(&UNHEALTHY) && !has(&REQUEST)
}

/// The time limit of the operation that a controller's message reports: "Running 'upgrade' action with timeout of 3h0m0s".
pub(super) fn timeout(message: &str) -> Option<Seconds> {
    let (_, rest) = message.split_once("timeout of ")?;
    duration::parse(rest.split_whitespace().next()?).ok().map(|limit| limit.as_secs())
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
const OWN: [&str; 43] = [
    "AccessDenied",
    "BuildFailed",
    "ChartMutateError",
    "ConfigFactoryErr",
    reason::DELETION_STUCK,
    "DirectoryCreationFailed",
    "DriftDetected",
    "FactoryError",
    "FeatureGateDisabled",
    "HealthCheckFailed",
    "InstallFailed",
    "InvalidCELExpression",
    "InvalidDefaultValues",
    "InvalidExportedInputs",
    "InvalidPolicy",
    "InvalidPolicySelector",
    "InvalidSchedule",
    "InvalidSpec",
    "InvalidUpdateStrategy",
    reason::GENERATION_NOT_OBSERVED,
    "MetadataPatchError",
    reason::NOT_RECONCILED,
    "PendingRelease",
    reason::PROGRESS_STUCK,
    "PruneFailed",
    "RESTClientError",
    "ReconcileError",
    "ReconciliationFailed",
    "RemovedTemplateField",
    "ResourceManagerError",
    "RetriesExceeded",
    "RollbackFailed",
    "RollbackSucceeded",
    "StateError",
    "TestFailed",
    "TokenNotFound",
    "UninstallFailed",
    reason::UNINSTALL_SUCCEEDED,
    "UpdateFailed",
    "UpgradeFailed",
    "ValidationFailed",
    "ValuesError",
    "ValuesFilesError",
];

/// Whether a failure with this reason and message may be caused by the source of the object.
pub(crate) fn may_be_the_source(reason: &str, message: &str) -> bool {
    let is_own = OWN.binary_search(&reason).is_ok() || message.starts_with("kustomization path not found");
    !is_own || message.contains(NO_PROVIDER)
}

/// With what a ResourceSet says that a provider of its inputs cannot be read. The provider's name follows.
const NO_PROVIDER: &str = "failed to get provider ";

/// Whether the message of a ResourceSet names this provider as one that cannot be read.
pub(super) fn names_provider(message: &str, namespace: &str, name: &str) -> bool {
    message.contains(&format!("{NO_PROVIDER}{namespace}/{name}: "))
}

/// Whether an object that is not ready for this reason lacks a source.
pub(crate) fn needs_a_source(reason: &str) -> bool {
    let is_awaited = FOR_A_SOURCE.iter().any(|waits| waits.reason == reason);
    reason != reason::DEPENDENCY_NOT_READY && (is_awaited || WITHOUT_SOURCE.contains(&reason))
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

/// Whether the message of a GitRepository names this repository as one that it cannot include.
pub(super) fn names_include(message: &str, name: &str) -> bool {
    message.contains(&format!("include '{name}'"))
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
        assert!(!may_be_the_source("UpgradeFailed", "") && may_be_the_source("ArtifactFailed", "404"));
        assert!(!may_be_the_source(
            "ArtifactFailed",
            "kustomization path not found: stat /tmp/a: no such file"
        ));
    }

    #[test]
    fn a_request_that_fails_is_no_health_check() {
        let webhook =
            "failed calling webhook \"a.example.com\": failed to call webhook: context deadline exceeded";
        for (reason, message, expected) in [
            ("HealthCheckFailed", "health check failed after 5m0s", true),
            ("UpgradeFailed", "Helm upgrade failed: context deadline exceeded", true),
            (
                "UpgradeFailed",
                "Helm upgrade failed: failed early due to stalled resources: [A/b status: 'Failed']",
                true,
            ),
            ("UpgradeFailed", webhook, false),
            ("ReconciliationFailed", "Ingress/a/b dry-run failed: context deadline exceeded", false),
            ("UpgradeFailed", "Post \"https://10.0.0.1/x\": context deadline exceeded", false),
        ] {
            assert_eq!(waits_for_health(reason, message), expected, "{message}");
        }
    }

    #[test]
    fn the_limit_of_an_operation_is_read_from_its_message() {
        for (message, limit) in [
            ("Running 'upgrade' action with timeout of 3h0m0s", Some(10_800)),
            ("Building manifests for revision main@sha1:1 with a timeout of 5m0s", Some(300)),
            ("Health check ended with timeout of the client", None),
            ("timeout of ", None),
        ] {
            assert_eq!(timeout(message), limit, "{message}");
        }
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
