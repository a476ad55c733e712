//! The permissions for remote clusters: on the local cluster, and on each remote one. Pure values.
//!
//! The Secrets that register clusters have a namespace of their own, because RBAC cannot limit a list to a label.

use serde_json::{Value, json};

use crate::view::{GROUP, RESOURCES};

use super::{
    ACCOUNT, NAME,
    account::{Account, cluster_role as role, named, rule},
    cluster_role,
};

/// The namespace of the Secrets that register clusters.
pub const NAMESPACE: &str = "gatehouse-clusters";
/// The account in a remote cluster as which it is observed, its namespace and its roles.
pub const SPOKE: &str = "gatehouse-hub";

/// The namespace [`NAMESPACE`], and the permission beyond [`super::rights`] to list its Secrets. It outlives an
/// installation, as what people put into it has to.
pub fn rights() -> Vec<Value> {
    rights_in(NAMESPACE)
}

/// The same in another namespace.
pub fn rights_in(namespace: &str) -> Vec<Value> {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace, "annotations": {"helm.sh/resource-policy": "keep"}},
    });
    let [role, binding] = in_namespace(namespace, "clusters", "", "secrets", &["list"]);
    vec![object, role, binding]
}

/// The permission to read the kubeconfigs of Cluster API in a namespace: the Secrets are listed without their content,
/// since the keys of CAs stand beside them, and read by name.
pub fn cluster_api_rights(namespace: &str) -> [Value; 2] {
    in_namespace(namespace, "cluster-api", "", "secrets", &["get", "list"])
}

/// The permission to list the cluster Secrets of Argo CD in a namespace.
pub fn argocd_rights(namespace: &str) -> [Value; 2] {
    in_namespace(namespace, "argocd-clusters", "", "secrets", &["list"])
}

/// The permission to list ClusterProfiles in some namespaces, and to read the Secrets of one, which they may name.
pub fn profile_rights(namespaces: &[String], secrets: &str) -> Vec<Value> {
    let group = "multicluster.x-k8s.io";
    let rights = namespaces.iter().flat_map(|namespace| {
        in_namespace(namespace, "cluster-profiles", group, "clusterprofiles", &["list"])
    });
    rights.chain(in_namespace(secrets, "cluster-profile-secrets", "", "secrets", &["get", "list"])).collect()
}

/// A Role in a namespace with one rule, and its binding.
fn in_namespace(namespace: &str, name: &str, group: &str, resource: &str, verbs: &[&str]) -> [Value; 2] {
    ACCOUNT.role_in(namespace, &format!("{NAME}:{name}"), &[rule(&[group], &[resource], verbs)])
}

/// Whom Gatehouse may impersonate in a remote cluster, to act there as the user who asks: these users, in these groups.
/// Each by name: RBAC has no pattern, and whoever may impersonate everybody may do everything. It may also create Events
/// about what was done. Empty without users.
pub fn spoke_actions(users: &[&str], groups: &[&str]) -> Vec<Value> {
    if users.is_empty() {
        return Vec::new();
    }
    let name = format!("{SPOKE}:actions");
    let mut rules = vec![named("", "users", users, &["impersonate"])];
    if !groups.is_empty() {
        rules.push(named("", "groups", groups, &["impersonate"]));
    }
    rules.push(rule(&["authentication.k8s.io"], &["uids"], &["impersonate"]));
    rules.push(rule(&["events.k8s.io"], &["events"], &["create"]));
    vec![role(&name, &rules), in_spoke(Account(SPOKE).cluster_role_binding(&name, &name))]
}

/// The account that a binding names is in a namespace of its own there.
fn in_spoke(mut binding: Value) -> Value {
    binding["subjects"][0]["namespace"] = SPOKE.into();
    binding
}

/// What a remote cluster needs to be observed: an account, and the permission to read `kinds`, each given as group and
/// plural name, and the views of a Gatehouse that runs there.
pub fn spoke_rights<G, P>(kinds: impl IntoIterator<Item = (G, P)>) -> Vec<Value>
where
    G: Into<String>,
    P: Into<String>,
{
    let mut role = cluster_role(SPOKE, kinds);
    let views = RESOURCES.iter().map(|resource| resource.plural).chain(["fluxresources/tree"]);
    let views = rule(&[GROUP], &views.collect::<Vec<_>>(), &["get", "list", "watch"]);
    if let Some(rules) = role["rules"].as_array_mut() {
        rules.push(views);
    }
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPOKE}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": SPOKE, "namespace": SPOKE}}),
        role,
        in_spoke(Account(SPOKE).cluster_role_binding(SPOKE, SPOKE)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_listed_in_one_namespace_and_nothing_is_written() {
        let rights = rights();
        assert_eq!(rights[1]["metadata"]["namespace"], NAMESPACE);
        let only = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]);
        assert_eq!(rights[1]["rules"], only);
        let subject = json!({"kind": "ServiceAccount", "namespace": super::super::NAMESPACE, "name": NAME});
        assert_eq!(rights[2]["subjects"], json!([subject]));
    }

    #[test]
    fn a_remote_cluster_is_only_read() {
        let rights = spoke_rights([("apps", "deployments")]);
        let rules = rights[2]["rules"].as_array().expect("rules");
        let (views, kinds) = rules.split_last().expect("rules");
        for rule in kinds {
            assert_eq!(rule["verbs"], json!(["list", "watch"]));
        }
        assert_eq!(
            (&views["apiGroups"], &views["verbs"]),
            (&json!([GROUP]), &json!(["get", "list", "watch"]))
        );
        assert!(views["resources"].as_array().expect("resources").contains(&json!("clusterhealths")));
        assert_eq!(rights[3]["subjects"][0]["namespace"], SPOKE);
    }

    #[test]
    fn only_those_who_are_named_are_impersonated_in_a_remote_cluster() {
        assert_eq!(spoke_actions(&[], &["team-a"]), Vec::<Value>::new());
        let [role, binding] =
            spoke_actions(&["jane"], &["team-a"]).try_into().expect("a role and its binding");
        let impersonate = |group: &str, resource: &str, names: &Value| {
            let mut granted = rule(&[group], &[resource], &["impersonate"]);
            if !names.is_null() {
                granted["resourceNames"] = names.clone();
            }
            granted
        };
        let rules = json!([
            impersonate("", "users", &json!(["jane"])),
            impersonate("", "groups", &json!(["team-a"])),
            impersonate("authentication.k8s.io", "uids", &Value::Null),
            rule(&["events.k8s.io"], &["events"], &["create"]),
        ]);
        assert_eq!(role["rules"], rules);
        assert_eq!(
            binding["subjects"],
            json!([{"kind": "ServiceAccount", "namespace": SPOKE, "name": SPOKE}])
        );
        let alone = spoke_actions(&["jane"], &[]);
        assert!(!alone[0].to_string().contains("groups\"]"), "{alone:?}");
    }
}
