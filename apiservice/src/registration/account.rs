//! The service accounts of both processes and their RBAC objects, as pure values.
//!
//! Permissions that only self-managed certificates need are separate objects, so that an installation with its own
//! certificates can omit them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::NAMESPACE;

pub(super) const AUTHORIZATION: &str = "rbac.authorization.k8s.io";

/// A service account in [`NAMESPACE`]. The Service, the Lease and the roles have the same name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account(pub(super) &'static str);

/// A rule of a role.
pub(super) fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

/// A rule that is limited to objects with these names.
///
/// Server-side apply of an object that does not exist needs `create` for its name; a POST would need `create` for all
/// names.
pub(super) fn named(group: &str, resource: &str, names: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "resourceNames": names, "verbs": verbs})
}

/// One rule for each group, sorted.
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

/// A ClusterRole with these rules.
pub(super) fn cluster_role(name: &str, rules: &[Value]) -> Value {
    json!({
        "apiVersion": format!("{AUTHORIZATION}/v1"),
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    })
}

/// A ClusterRole with these rules and labels.
pub(super) fn labelled_cluster_role(name: &str, labels: &Value, rules: &[Value]) -> Value {
    let mut role = cluster_role(name, rules);
    role["metadata"]["labels"] = labels.clone();
    role
}

impl Account {
    /// Binds the account to a ClusterRole.
    pub(super) fn cluster_role_binding(self, name: &str, role: &str) -> Value {
        json!({
            "apiVersion": format!("{AUTHORIZATION}/v1"),
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": AUTHORIZATION, "kind": "ClusterRole", "name": role},
            "subjects": [self.subject()],
        })
    }

    /// A Role with these rules in [`NAMESPACE`], and its RoleBinding.
    pub(super) fn role(self, name: &str, rules: &[Value]) -> [Value; 2] {
        self.role_in(NAMESPACE, name, rules)
    }

    /// A Role with these rules in a namespace, and its RoleBinding.
    pub(super) fn role_in(self, namespace: &str, name: &str, rules: &[Value]) -> [Value; 2] {
        let role = json!({
            "apiVersion": format!("{AUTHORIZATION}/v1"),
            "kind": "Role",
            "metadata": {"name": name, "namespace": namespace},
            "rules": rules,
        });
        [role, self.role_binding(name, namespace, name)]
    }

    /// Bindings for delegated authentication and authorization: to create TokenReviews and SubjectAccessReviews, and to
    /// read the ConfigMap `extension-apiserver-authentication` in kube-system.
    pub(super) fn delegation(self) -> [Value; 2] {
        let name = self.0;
        [
            self.cluster_role_binding(&format!("{name}:system:auth-delegator"), "system:auth-delegator"),
            self.role_binding(name, "kube-system", "extension-apiserver-authentication-reader"),
        ]
    }

    /// The permission to hold the Leases with these names: each is first applied without a holder, and then updated.
    pub(super) fn leases(names: &[&str]) -> Value {
        named("coordination.k8s.io", "leases", names, &["get", "create", "patch", "update"])
    }

    /// The permissions for self-managed certificates: to apply and update the Secret, and to write the objects of
    /// `registrations`, given as rules. The account may read its own ClusterRole, which it sets as the owner of objects
    /// that it creates, so that they are garbage-collected with the installation.
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

    /// The name of the Secret with its certificates.
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
