//! The permissions for remote clusters: on the local cluster, and on each remote one. Pure values.
//!
//! The Secrets that register clusters have a namespace of their own, because RBAC cannot limit a list to a label.

use serde_json::{Value, json};

use super::{
    ACCOUNT, NAME,
    account::{Account, rule},
    cluster_role,
};

/// The namespace of the Secrets that register clusters.
pub const NAMESPACE: &str = "gatehouse-clusters";
/// The account in a remote cluster as which it is observed, its namespace and its roles.
pub const SPOKE: &str = "gatehouse-hub";

/// The namespace [`NAMESPACE`], and the permission beyond [`super::rights`] to list its Secrets. It outlives an
/// installation, as what people put into it has to.
pub fn rights() -> Vec<Value> {
    let name = format!("{NAME}:clusters");
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "annotations": {"helm.sh/resource-policy": "keep"}},
    });
    let [role, binding] = ACCOUNT.role_in(NAMESPACE, &name, &[rule(&[""], &["secrets"], &["list"])]);
    vec![namespace, role, binding]
}

/// What a remote cluster needs to be observed: an account, and the permission to read `kinds`, each given as group and
/// plural name.
pub fn spoke_rights<G, P>(kinds: impl IntoIterator<Item = (G, P)>) -> Vec<Value>
where
    G: Into<String>,
    P: Into<String>,
{
    let spoke = Account(SPOKE);
    let mut binding = spoke.cluster_role_binding(SPOKE, SPOKE);
    binding["subjects"][0]["namespace"] = SPOKE.into();
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPOKE}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": SPOKE, "namespace": SPOKE}}),
        cluster_role(SPOKE, kinds),
        binding,
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
        for rule in rights[2]["rules"].as_array().expect("rules") {
            assert_eq!(rule["verbs"], json!(["list", "watch"]));
        }
        assert_eq!(rights[3]["subjects"][0]["namespace"], SPOKE);
    }
}
