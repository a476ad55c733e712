//! Lists the fields of `spec` for each kind, from their definitions.
//!
//! Distinguishes a field that an object omits from one that its kind does not have. **Invariant:** a field that is
//! newer than this table counts as omitted, which is the strict reading.

use crate::{GOVERNED, Kind};

/// Whether a field of `spec` belongs to other kinds and not to this one.
pub(crate) fn is_of_other_kinds(kind: Kind, field: &str) -> bool {
    let has = |kind: Kind| fields(kind).contains(&field);
    !has(kind) && GOVERNED.iter().copied().any(has)
}

#[rustfmt::skip]
const fn fields(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Bucket => &[
            "bucketName", "certSecretRef", "endpoint", "ignore", "insecure", "interval", "prefix",
            "provider", "proxySecretRef", "region", "secretRef", "serviceAccountName", "sts", "suspend",
            "timeout",
        ],
        Kind::ExternalArtifact => &[
            "sourceRef",
        ],
        Kind::GitRepository => &[
            "ignore", "include", "interval", "provider", "proxySecretRef", "recurseSubmodules", "ref",
            "secretRef", "serviceAccountName", "sparseCheckout", "suspend", "timeout", "url", "verify",
        ],
        Kind::HelmChart => &[
            "chart", "ignoreMissingValuesFiles", "interval", "reconcileStrategy", "sourceRef", "suspend",
            "valuesFiles", "verify", "version",
        ],
        Kind::HelmRepository => &[
            "accessFrom", "certSecretRef", "insecure", "interval", "passCredentials", "provider",
            "secretRef", "suspend", "timeout", "type", "url",
        ],
        Kind::OciRepository => &[
            "certSecretRef", "ignore", "insecure", "interval", "layerSelector", "provider",
            "proxySecretRef", "ref", "secretRef", "serviceAccountName", "suspend", "timeout", "url",
            "verify",
        ],
        Kind::ArtifactGenerator => &[
            "artifacts", "commonMetadata", "pathPattern", "sources",
        ],
        Kind::Kustomization => &[
            "buildMetadata", "commonMetadata", "components", "decryption", "deletionPolicy", "dependsOn",
            "force", "healthCheckExprs", "healthChecks", "ignore", "ignoreMissingComponents", "images",
            "interval", "kubeConfig", "namePrefix", "nameSuffix", "patches", "path", "postBuild", "prune",
            "retryInterval", "serviceAccountName", "sourceRef", "suspend", "targetNamespace", "timeout",
            "wait",
        ],
        Kind::HelmRelease => &[
            "chart", "chartRef", "commonMetadata", "dependsOn", "driftDetection", "healthCheckExprs",
            "install", "interval", "kubeConfig", "maxHistory", "persistentClient", "postRenderStrategy",
            "postRenderers", "releaseName", "rollback", "serviceAccountName", "storageNamespace",
            "suspend", "targetNamespace", "test", "timeout", "uninstall", "upgrade", "values",
            "valuesFrom", "waitStrategy",
        ],
        Kind::Alert => &[
            "eventMetadata", "eventSeverity", "eventSources", "exclusionList", "inclusionList",
            "providerRef", "summary", "suspend",
        ],
        Kind::Provider => &[
            "address", "certSecretRef", "channel", "commitStatusExpr", "interval", "proxy",
            "proxySecretRef", "secretRef", "serviceAccountName", "suspend", "timeout", "type", "username",
        ],
        Kind::Receiver => &[
            "events", "interval", "oidcProviders", "resourceFilter", "resources", "secretRef", "suspend",
            "type",
        ],
        Kind::ImagePolicy => &[
            "digestReflectionPolicy", "filterTags", "imageRepositoryRef", "interval", "policy", "suspend",
        ],
        Kind::ImageRepository => &[
            "accessFrom", "certSecretRef", "exclusionList", "image", "insecure", "interval", "provider",
            "proxySecretRef", "secretRef", "serviceAccountName", "suspend", "timeout",
        ],
        Kind::ImageUpdateAutomation => &[
            "git", "interval", "policySelector", "sourceRef", "suspend", "update",
        ],
        Kind::FluxInstance => &[
            "cluster", "commonMetadata", "components", "distribution", "kustomize", "migrateResources",
            "sharding", "storage", "sync", "wait",
        ],
        Kind::ResourceSet => &[
            "commonMetadata", "dependsOn", "inputStrategy", "inputs", "inputsFrom", "resources",
            "resourcesTemplate", "serviceAccountName", "wait",
        ],
        Kind::ResourceSetInputProvider => &[
            "certSecretRef", "defaultValues", "filter", "insecure", "schedule", "secretRef",
            "serviceAccountName", "skip", "type", "url",
        ],
        Kind::Fleet => &[
            "allocationOverflow", "priorities", "replicas", "scheduling", "strategy", "template",
        ],
        Kind::GameServer => &[
            "container", "counters", "eviction", "health", "immutableReplicas", "lists", "players",
            "ports", "scheduling", "sdkServer", "template",
        ],
        Kind::GameServerSet => &[
            "allocationOverflow", "priorities", "replicas", "scheduling", "template",
        ],
        Kind::FleetAutoscaler => &[
            "fleetName", "policy", "sync",
        ],
        Kind::KruiseGameServerSet => &[
            "gameServerTemplate", "lifecycle", "network", "persistentVolumeClaimRetentionPolicy",
            "replicas", "reserveGameServerIds", "scaleStrategy", "serviceName", "serviceQualities",
            "updateStrategy",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_no_kind_is_known_to_have_may_be_anybodys() {
        assert!(is_of_other_kinds(Kind::Alert, "timeout"));
        assert!(!is_of_other_kinds(Kind::Kustomization, "timeout"));
        assert!(!is_of_other_kinds(Kind::Alert, "brandNew"));
    }
}
