//! The objects that register Gatehouse with a cluster, as pure values.
//!
//! They are what an installation needs, but for the Service: here it is an ExternalName on `localhost`, since
//! kube-apiserver runs outside any pod network and Endpoints refuse loopback addresses.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::crds::Kind;

/// Where Gatehouse is installed.
pub const NAMESPACE: &str = "gatehouse-system";
/// The name of its Service, account and roles.
pub const NAME: &str = "gatehouse-apiserver";
/// Its user name: that of its service account.
pub const USER: &str = "system:serviceaccount:gatehouse-system:gatehouse-apiserver";
/// The name under which kube-apiserver asks for it in the TLS handshake.
pub const SERVER_NAME: &str = "gatehouse-apiserver.gatehouse-system.svc";
/// The name of its APIService.
pub const API_SERVICE: &str = "v1alpha1.view.gatehouse.dev";

/// Everything but the APIService, which follows once the server is ready.
pub fn prerequisites(kinds: &[Kind]) -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        service(),
        cluster_role(kinds),
        cluster_role_binding(NAME, NAME),
        cluster_role_binding("gatehouse-apiserver:system:auth-delegator", "system:auth-delegator"),
        authentication_reader(),
    ]
}

/// The APIService, with the server's own port: an ExternalName Service translates none.
pub fn api_service(port: u16, ca_bundle: &str) -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": API_SERVICE},
        "spec": {
            "group": "view.gatehouse.dev",
            "version": "v1alpha1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"namespace": NAMESPACE, "name": NAME, "port": port},
            "caBundle": ByteString(ca_bundle.as_bytes().to_vec()),
        },
    })
}

/// The Service that leads to this machine.
pub fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    })
}

/// The right to read what it summarises, and nothing else.
pub fn cluster_role(kinds: &[Kind]) -> Value {
    let mut resources: BTreeMap<&str, Vec<&str>> = BTreeMap::from([
        ("", vec!["namespaces", "nodes", "persistentvolumes", "persistentvolumeclaims"]),
        ("apps", vec!["daemonsets", "deployments", "statefulsets"]),
        ("apiextensions.k8s.io", vec!["customresourcedefinitions"]),
    ]);
    for kind in kinds {
        resources.entry(&kind.group).or_default().push(&kind.plural);
    }
    let rules: Vec<_> = resources
        .into_iter()
        .map(|(group, resources)| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]}))
        .collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": NAME},
        "rules": rules,
    })
}

fn cluster_role_binding(name: &str, role: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject()],
    })
}

/// The ConfigMap that says which front proxy and which client CA to trust lives in kube-system.
fn authentication_reader() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": NAME, "namespace": "kube-system"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": "extension-apiserver-authentication-reader",
        },
        "subjects": [subject()],
    })
}

fn subject() -> Value {
    json!({"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crds;

    #[test]
    fn role_reads_every_kind_and_no_secrets() {
        let role = cluster_role(&crds::kinds());
        let rules = role["rules"].as_array().expect("rules");
        let of = |group: &str| {
            rules.iter().find(|rule| rule["apiGroups"][0] == group).expect("group")["resources"].clone()
        };
        assert_eq!(of("kustomize.toolkit.fluxcd.io"), json!(["kustomizations"]));
        assert!(rules.iter().all(|rule| rule["verbs"] == json!(["get", "list", "watch"])));
        assert!(!of("").as_array().expect("resources").contains(&json!("secrets")));
    }

    #[test]
    fn user_is_the_bound_service_account() {
        assert_eq!(USER, format!("system:serviceaccount:{NAMESPACE}:{NAME}"));
        assert_eq!(SERVER_NAME, format!("{NAME}.{NAMESPACE}.svc"));
    }

    #[test]
    fn ca_bundle_is_base64() {
        assert_eq!(api_service(8443, "PEM")["spec"]["caBundle"], "UEVN");
    }
}
