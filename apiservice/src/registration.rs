//! The objects that register Gatehouse with a cluster, as pure values.
//!
//! They are what an installation needs beside the server itself and the Service that leads to it. The rights are the
//! least there can be: to read the kinds that are summarised, to notice definitions of kinds that come and go, to have
//! tokens and access reviewed, to read the ConfigMap that says whom to trust, and to hold Leases of its own names. Where
//! certificates are self-managed, also to write one Secret and the APIService. What the webhooks need is in modules of
//! its own.

mod account;
mod conditions;
pub mod user_roles;
pub mod webhook_account;
pub mod webhooks;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use self::account::{Account, by_group, named, rule};
use crate::view::{GROUP, VERSION};

/// Where Gatehouse is installed.
pub const NAMESPACE: &str = "gatehouse-system";
/// The name of its Service, account, roles and Lease.
pub const NAME: &str = "gatehouse-apiserver";
/// The name of the Secret of its certificates, where they are self-managed.
pub const SECRET: &str = "gatehouse-apiserver-tls";
/// How many replicas there can be: each holds a number below it, by a Lease.
pub const REPLICAS: u8 = 16;
/// Its user name: that of its service account.
pub const USER: &str = "system:serviceaccount:gatehouse-system:gatehouse-apiserver";
/// The name under which kube-apiserver asks for it in the TLS handshake: a serving certificate must carry it.
pub const SERVER_NAME: &str = "gatehouse-apiserver.gatehouse-system.svc";

const ACCOUNT: Account = Account(NAME);

/// The name of its APIService.
pub fn api_service_name() -> String {
    format!("{VERSION}.{GROUP}")
}

/// The APIService: it sends kube-apiserver to `port` of the Service [`NAME`], and has it trust `ca_bundle` (PEM) alone.
pub fn api_service(port: u16, ca_bundle: &str) -> Value {
    api_service_at(NAMESPACE, NAME, port, ca_bundle)
}

/// The same with a Service of another name.
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

/// The name of the Lease of a replica's number.
pub fn replica_lease(number: u8) -> String {
    format!("{NAME}-replica-{number:02}")
}

/// Every right that the account [`USER`], which summarises `kinds`, needs in any case. Each kind is a group and a plural
/// name.
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

/// What the account needs beyond [`rights`] where certificates are self-managed: to elect who keeps them, to write the
/// Secret [`SECRET`], and to keep the APIService.
pub fn self_managed() -> Vec<Value> {
    let registered =
        named("apiregistration.k8s.io", "apiservices", &[&api_service_name()], &["get", "create", "patch"]);
    ACCOUNT.self_managed(vec![Account::leases(&[NAME])], vec![registered])
}

/// The right to read `kinds`, and to notice when definitions come and go.
pub fn cluster_role<G, P>(name: &str, kinds: impl IntoIterator<Item = (G, P)>) -> Value
where
    G: Into<String>,
    P: Into<String>,
{
    let mut rules = by_group(kinds, &["list", "watch"]);
    rules.push(rule(&["apiextensions.k8s.io"], &["customresourcedefinitions"], &["list", "watch"]));
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
                {"apiGroups": ["apps"], "resources": ["daemonsets", "deployments"], "verbs": read},
                {
                    "apiGroups": ["apiextensions.k8s.io"],
                    "resources": ["customresourcedefinitions"],
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
