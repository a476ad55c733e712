//! The objects that register Gatehouse with a cluster, as pure values.
//!
//! They are what an installation needs beside the server itself and the Service that leads to it. The rights are the
//! least there can be: to read the kinds that are summarised, to notice definitions of kinds that come and go, to have
//! tokens and access reviewed, and to read the ConfigMap that says whom to trust. No right to write, none to Secrets.
//! What the webhooks need is in modules of its own.

pub mod user_roles;
pub mod webhook_account;
pub mod webhooks;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::view::{GROUP, VERSION};

/// Where Gatehouse is installed.
pub const NAMESPACE: &str = "gatehouse-system";
/// The name of its Service, account and roles.
pub const NAME: &str = "gatehouse-apiserver";
/// Its user name: that of its service account.
pub const USER: &str = "system:serviceaccount:gatehouse-system:gatehouse-apiserver";
/// The name under which kube-apiserver asks for it in the TLS handshake: a serving certificate must carry it.
pub const SERVER_NAME: &str = "gatehouse-apiserver.gatehouse-system.svc";

/// The name of its APIService.
pub fn api_service_name() -> String {
    format!("{VERSION}.{GROUP}")
}

/// The APIService: it sends kube-apiserver to `port` of the Service [`NAME`], and has it trust `ca_bundle` (PEM) alone.
pub fn api_service(port: u16, ca_bundle: &str) -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": api_service_name()},
        "spec": {
            "group": GROUP,
            "version": VERSION,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"namespace": NAMESPACE, "name": NAME, "port": port},
            "caBundle": ByteString(ca_bundle.as_bytes().to_vec()),
        },
    })
}

/// The namespace.
pub fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
}

/// Every right of the account [`USER`], which summarises `kinds`, each a group and a plural name.
pub fn rights<G, P>(kinds: impl IntoIterator<Item = (G, P)>) -> Vec<Value>
where
    G: Into<String>,
    P: Into<String>,
{
    vec![
        cluster_role(NAME, kinds),
        cluster_role_binding(NAME, NAME),
        // Reviews of tokens and of access.
        cluster_role_binding("gatehouse-apiserver:system:auth-delegator", "system:auth-delegator"),
        authentication_reader(),
    ]
}

/// The right to read `kinds`, and to notice when definitions come and go.
pub fn cluster_role<G, P>(name: &str, kinds: impl IntoIterator<Item = (G, P)>) -> Value
where
    G: Into<String>,
    P: Into<String>,
{
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (group, plural) in kinds {
        groups.entry(group.into()).or_default().insert(plural.into());
    }
    let mut rules: Vec<_> = groups
        .into_iter()
        .map(|(group, plurals)| json!({"apiGroups": [group], "resources": plurals, "verbs": ["get", "list", "watch"]}))
        .collect();
    rules.push(json!({
        "apiGroups": ["apiextensions.k8s.io"],
        "resources": ["customresourcedefinitions"],
        "verbs": ["list", "watch"],
    }));
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
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
    json!({"kind": "ServiceAccount", "namespace": NAMESPACE, "name": NAME})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_reads_the_kinds_named_and_nothing_else() {
        let kinds = [("apps", "deployments"), ("", "nodes"), ("apps", "daemonsets"), ("apps", "deployments")];
        let read = json!(["get", "list", "watch"]);
        assert_eq!(
            cluster_role(NAME, kinds)["rules"],
            json!([
                {"apiGroups": [""], "resources": ["nodes"], "verbs": read},
                {"apiGroups": ["apps"], "resources": ["daemonsets", "deployments"], "verbs": read},
                {
                    "apiGroups": ["apiextensions.k8s.io"],
                    "resources": ["customresourcedefinitions"],
                    "verbs": ["list", "watch"],
                },
            ])
        );
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
