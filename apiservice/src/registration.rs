//! The objects that register Gatehouse with a cluster, as pure values.
//!
//! An installation needs them in addition to the Deployment and the Service. The permissions are minimal: the account
//! may read the kinds that the views show, CustomResourceDefinitions, bindings and roles, create TokenReviews and
//! SubjectAccessReviews, read the ConfigMap `extension-apiserver-authentication`, and hold Leases with its own names. If
//! certificates are self-managed, it may also write one Secret and the APIService. The objects of the webhooks are in
//! separate modules.

mod account;
pub mod actions;
pub mod clusters;
mod conditions;
pub mod user_roles;
pub mod webhook_account;
pub mod webhooks;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use self::account::{Account, by_group, named, rule};
use crate::view::{GROUP, VERSION};

/// The namespace of the installation.
pub const NAMESPACE: &str = "gatehouse-system";
/// The name of the API server's Service, service account, roles and Lease.
pub const NAME: &str = "gatehouse-apiserver";
/// The name of the Secret with its certificates, if they are self-managed.
pub const SECRET: &str = "gatehouse-apiserver-tls";
/// The most replicas: each holds a Lease with a number below this.
pub const REPLICAS: u8 = 16;
/// The user name of its service account.
pub const USER: &str = "system:serviceaccount:gatehouse-system:gatehouse-apiserver";
/// The server name that kube-apiserver sends in the TLS handshake. The serving certificate must be valid for it.
pub const SERVER_NAME: &str = "gatehouse-apiserver.gatehouse-system.svc";

const ACCOUNT: Account = Account(NAME);

/// The name of the APIService.
pub fn api_service_name() -> String {
    format!("{VERSION}.{GROUP}")
}

/// The APIService: kube-apiserver connects to `port` of the Service [`NAME`] and trusts only `ca_bundle` (PEM).
pub fn api_service(port: u16, ca_bundle: &str) -> Value {
    api_service_at(NAMESPACE, NAME, port, ca_bundle)
}

/// The APIService for a Service with another name.
pub fn api_service_at(namespace: &str, service: &str, port: u16, ca_bundle: &str) -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": api_service_name()},
        "spec": {
            "group": GROUP,
            "version": VERSION,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"namespace": namespace, "name": service, "port": port},
            "caBundle": ByteString(ca_bundle.as_bytes().to_vec()),
        },
    })
}

/// The namespace.
pub fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
}

/// The name of the Lease for a replica number.
pub fn replica_lease(number: u8) -> String {
    format!("{NAME}-replica-{number:02}")
}

/// The permissions that the account [`USER`] always needs. It reads `kinds`, each given as group and plural name.
pub fn rights<G, P>(kinds: impl IntoIterator<Item = (G, P)>) -> Vec<Value>
where
    G: Into<String>,
    P: Into<String>,
{
    let leases: Vec<_> = (0..REPLICAS).map(replica_lease).collect();
    let leases: Vec<_> = leases.iter().map(String::as_str).collect();
    let mut rights = vec![cluster_role(NAME, kinds), ACCOUNT.cluster_role_binding(NAME, NAME)];
    rights.extend(ACCOUNT.role(NAME, &[Account::leases(&leases)]));
    rights.extend(ACCOUNT.delegation());
    rights
}

/// The permissions beyond [`rights`] that the account needs if certificates are self-managed: for the leader's Lease, the
/// Secret [`SECRET`] and the APIService.
pub fn self_managed() -> Vec<Value> {
    let registered =
        named("apiregistration.k8s.io", "apiservices", &[&api_service_name()], &["get", "create", "patch"]);
    ACCOUNT.self_managed(vec![Account::leases(&[NAME])], vec![registered])
}

/// The permission to read `kinds`, to watch CustomResourceDefinitions, and to read the bindings and roles that tell
/// which namespaces a user may see.
pub fn cluster_role<G, P>(name: &str, kinds: impl IntoIterator<Item = (G, P)>) -> Value
where
    G: Into<String>,
    P: Into<String>,
{
    let definitions = ("apiextensions.k8s.io".to_owned(), "customresourcedefinitions".to_owned());
    let kinds = kinds.into_iter().map(|(group, plural)| (group.into(), plural.into()));
    let mut rules = by_group(kinds.chain([definitions]), &["list", "watch"]);
    let rbac = ["clusterrolebindings", "clusterroles", "rolebindings", "roles"];
    rules.push(rule(&[account::AUTHORIZATION], &rbac, &["list", "watch"]));
    account::cluster_role(name, &rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_reads_the_kinds_named_and_nothing_else() {
        let kinds = [("apps", "deployments"), ("", "nodes"), ("apps", "daemonsets"), ("apps", "deployments")];
        let read = json!(["list", "watch"]);
        assert_eq!(
            cluster_role(NAME, kinds)["rules"],
            json!([
                {"apiGroups": [""], "resources": ["nodes"], "verbs": read},
                {
                    "apiGroups": ["apiextensions.k8s.io"],
                    "resources": ["customresourcedefinitions"],
                    "verbs": read,
                },
                {"apiGroups": ["apps"], "resources": ["daemonsets", "deployments"], "verbs": read},
                {
                    "apiGroups": ["rbac.authorization.k8s.io"],
                    "resources": ["clusterrolebindings", "clusterroles", "rolebindings", "roles"],
                    "verbs": read,
                },
            ])
        );
    }

    #[test]
    fn what_may_be_written_is_named() {
        let kinds = [("apps", "deployments")];
        let mut rights = rights(kinds);
        rights.extend(self_managed());
        let rules = rights.iter().filter_map(|right| right["rules"].as_array()).flatten();
        let mut written = Vec::new();
        for rule in rules {
            let verbs = rule["verbs"].as_array().expect("verbs");
            if verbs.iter().any(|verb| !["get", "list", "watch"].contains(&verb.as_str().expect("text"))) {
                let names = rule["resourceNames"].as_array().expect("names");
                written.push((rule["resources"][0].as_str().expect("text"), names.len(), names[0].clone()));
            }
        }
        assert_eq!(
            written,
            [
                ("leases", 16, json!("gatehouse-apiserver-replica-00")),
                ("apiservices", 1, json!("v1alpha1.view.gatehouse.dev")),
                ("secrets", 1, json!(SECRET)),
                ("leases", 1, json!(NAME)),
            ]
        );
    }

    #[test]
    fn user_is_the_bound_service_account() {
        assert_eq!(USER, format!("system:serviceaccount:{NAMESPACE}:{NAME}"));
        assert_eq!(SERVER_NAME, format!("{NAME}.{NAMESPACE}.svc"));
        assert_eq!(SECRET, ACCOUNT.secret());
    }

    #[test]
    fn ca_bundle_is_base64() {
        assert_eq!(api_service(8443, "PEM")["spec"]["caBundle"], "UEVN");
    }
}
