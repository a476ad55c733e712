//! What the accounts of both processes have in common, as pure values.
//!
//! The rights that only self-managed certificates need are objects of their own: who brings certificates along leaves
//! them out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::NAMESPACE;

const AUTHORIZATION: &str = "rbac.authorization.k8s.io";

/// A service account in [`NAMESPACE`]. Its Service, its Lease and its roles have the same name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account(pub(super) &'static str);

/// A rule of a role.
pub(super) fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

/// A rule for objects of these names and no others.
///
/// The right to create by name is what server-side apply asks for where the object is not there yet; a POST would need
/// the right to create any.
pub(super) fn named(group: &str, resource: &str, names: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "resourceNames": names, "verbs": verbs})
}

/// One rule for each group, in order.
pub(super) fn by_group<G, P>(kinds: impl IntoIterator<Item = (G, P)>, verbs: &[&str]) -> Vec<Value>
where
    G: Into<String>,
    P: Into<String>,
{
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (group, plural) in kinds {
        groups.entry(group.into()).or_default().insert(plural.into());
    }
    groups
        .into_iter()
        .map(|(group, plurals)| json!({"apiGroups": [group], "resources": plurals, "verbs": verbs}))
        .collect()
}

/// A ClusterRole of these rules.
pub(super) fn cluster_role(name: &str, rules: &[Value]) -> Value {
    json!({
        "apiVersion": format!("{AUTHORIZATION}/v1"),
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    })
}

/// The same, with labels, which others find it by.
pub(super) fn labelled_cluster_role(name: &str, labels: &Value, rules: &[Value]) -> Value {
    let mut role = cluster_role(name, rules);
    role["metadata"]["labels"] = labels.clone();
    role
}

impl Account {
    /// Binds it to a ClusterRole.
    pub(super) fn cluster_role_binding(self, name: &str, role: &str) -> Value {
        json!({
            "apiVersion": format!("{AUTHORIZATION}/v1"),
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": AUTHORIZATION, "kind": "ClusterRole", "name": role},
            "subjects": [self.subject()],
        })
    }

    /// A Role of these rules in [`NAMESPACE`], and what binds the account to it.
    pub(super) fn role(self, name: &str, rules: &[Value]) -> [Value; 2] {
        let role = json!({
            "apiVersion": format!("{AUTHORIZATION}/v1"),
            "kind": "Role",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "rules": rules,
        });
        [role, self.role_binding(name, NAMESPACE, name)]
    }

    /// To have tokens and access reviewed, and to read the ConfigMap that says which front proxy and which client CA to
    /// trust, which lives in kube-system.
    pub(super) fn delegation(self) -> [Value; 2] {
        let name = self.0;
        [
            self.cluster_role_binding(&format!("{name}:system:auth-delegator"), "system:auth-delegator"),
            self.role_binding(name, "kube-system", "extension-apiserver-authentication-reader"),
        ]
    }

    /// To hold the Leases of these names: each is applied once, empty, and replaced from then on.
    pub(super) fn leases(names: &[&str]) -> Value {
        named("coordination.k8s.io", "leases", names, &["get", "create", "patch", "update"])
    }

    /// To keep its certificates in its Secret (applied and replaced as Leases are), and what leads to it registered: `registrations` are the objects, each a
    /// rule. The account's own ClusterRole is read to be named as the owner of what is registered, so that it goes when
    /// the installation goes.
    pub(super) fn self_managed(self, certificates: Vec<Value>, registrations: Vec<Value>) -> Vec<Value> {
        let name = self.0;
        let mut in_namespace =
            vec![named("", "secrets", &[&self.secret()], &["get", "create", "patch", "update"])];
        in_namespace.extend(certificates);
        let mut in_cluster = registrations;
        in_cluster.push(named(AUTHORIZATION, "clusterroles", &[name], &["get"]));
        let registration = format!("{name}:registration");
        let mut rights = vec![
            cluster_role(&registration, &in_cluster),
            self.cluster_role_binding(&registration, &registration),
        ];
        rights.extend(self.role(&format!("{name}:certificates"), &in_namespace));
        rights
    }

    /// The name of the Secret of its certificates.
    pub(super) fn secret(self) -> String {
        format!("{}-tls", self.0)
    }

    fn role_binding(self, name: &str, namespace: &str, role: &str) -> Value {
        json!({
            "apiVersion": format!("{AUTHORIZATION}/v1"),
            "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": AUTHORIZATION, "kind": "Role", "name": role},
            "subjects": [self.subject()],
        })
    }

    fn subject(self) -> Value {
        json!({"kind": "ServiceAccount", "namespace": NAMESPACE, "name": self.0})
    }
}
