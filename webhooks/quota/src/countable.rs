//! The resources that cannot be counted: those without a namespace, and those without stored objects.

use crate::GroupResource;

/// Cluster-scoped resources of Kubernetes and of Gatehouse. A star stands for every resource of a group.
const CLUSTER_SCOPED: &[(&str, &str)] = &[
    ("", "componentstatuses"),
    ("", "namespaces"),
    ("", "nodes"),
    ("", "persistentvolumes"),
    ("admissionregistration.k8s.io", "*"),
    ("apiextensions.k8s.io", "*"),
    ("apiregistration.k8s.io", "*"),
    ("certificates.k8s.io", "certificatesigningrequests"),
    ("certificates.k8s.io", "clustertrustbundles"),
    ("flowcontrol.apiserver.k8s.io", "*"),
    ("internal.apiserver.k8s.io", "*"),
    ("networking.k8s.io", "ingressclasses"),
    ("networking.k8s.io", "ipaddresses"),
    ("networking.k8s.io", "servicecidrs"),
    ("node.k8s.io", "*"),
    ("policy", "podsecuritypolicies"),
    ("policy.gatehouse.dev", "*"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "devicetaintrules"),
    ("resource.k8s.io", "resourceslices"),
    ("scheduling.k8s.io", "priorityclasses"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "volumeattributesclasses"),
    ("storagemigration.k8s.io", "*"),
];

/// Resources that are requests for a review, or a view of others: they are not stored.
const WITHOUT_OBJECTS: &[(&str, &str)] = &[
    ("", "bindings"),
    ("authentication.k8s.io", "*"),
    ("authorization.k8s.io", "*"),
    ("metrics.k8s.io", "*"),
    ("view.gatehouse.dev", "*"),
];

/// Why objects of a resource cannot be counted, as far as it is known for Kubernetes' own resources; discovery tells
/// for all others.
pub fn uncountable(resource: &GroupResource) -> Option<&'static str> {
    let is_among = |list: &[(&str, &str)]| {
        list.iter()
            .any(|(group, plural)| *group == &*resource.group && ["*", &*resource.resource].contains(plural))
    };
    if is_among(CLUSTER_SCOPED) {
        Some(NO_NAMESPACE)
    } else if is_among(WITHOUT_OBJECTS) {
        Some(NO_OBJECTS)
    } else {
        None
    }
}

/// The reason for a resource that is not namespaced.
pub const NO_NAMESPACE: &str = "cannot be counted: its objects belong to no namespace, and so to no tenant";
/// The reason for a resource without the verbs list and watch.
pub const NO_OBJECTS: &str = "cannot be counted: it has no objects that can be listed and watched";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_no_tenant_or_is_not_stored_cannot_be_counted() {
        for (resource, why) in [
            ("namespaces", Some(NO_NAMESPACE)),
            ("clusterroles.rbac.authorization.k8s.io", Some(NO_NAMESPACE)),
            ("customresourcedefinitions.apiextensions.k8s.io", Some(NO_NAMESPACE)),
            ("tenantquotas.policy.gatehouse.dev", Some(NO_NAMESPACE)),
            ("bindings", Some(NO_OBJECTS)),
            ("localsubjectaccessreviews.authorization.k8s.io", Some(NO_OBJECTS)),
            ("fluxsummaries.view.gatehouse.dev", Some(NO_OBJECTS)),
            ("configmaps", None),
            ("namespaces.example.com", None),
            ("rolebindings.rbac.authorization.k8s.io", None),
            ("poddisruptionbudgets.policy", None),
        ] {
            assert_eq!(uncountable(&resource.parse().unwrap()), why, "{resource}");
        }
    }
}
