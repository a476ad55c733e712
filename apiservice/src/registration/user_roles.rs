//! ClusterRoles for users: to read the views and the metrics. Pure values.

use serde_json::{Value, json};

use super::account::{AUTHORIZATION, cluster_role, labelled_cluster_role, rule};
use crate::View;
use crate::view::{GROUP, MyNamespaceStatus};

/// The ClusterRole to read the views.
pub const VIEWS: &str = "gatehouse-views-view";
/// The ClusterRole to read `/metrics` of both processes.
pub const METRICS: &str = "gatehouse-metrics-reader";
/// The ClusterRole to read `/metrics/flux`, which names every Flux object.
pub const FLUX_METRICS: &str = "gatehouse-flux-metrics-reader";

/// The ClusterRole to read `mynamespaces`, and the binding that grants it to everybody.
pub const MY_NAMESPACES: &str = "gatehouse-mynamespaces";

/// Lets every authenticated user, service accounts included, read `mynamespaces`. Each sees only the rows of namespaces
/// that he may see anyhow.
pub fn for_everyone() -> [Value; 2] {
    let read = rule(&[GROUP], &[<MyNamespaceStatus as View>::RESOURCE.plural], &["get", "list", "watch"]);
    let binding = json!({
        "apiVersion": format!("{AUTHORIZATION}/v1"),
        "kind": "ClusterRoleBinding",
        "metadata": {"name": MY_NAMESPACES},
        "roleRef": {"apiGroup": AUTHORIZATION, "kind": "ClusterRole", "name": MY_NAMESPACES},
        "subjects": [{"apiGroup": AUTHORIZATION, "kind": "Group", "name": "system:authenticated"}],
    });
    [cluster_role(MY_NAMESPACES, &[read]), binding]
}

/// The ClusterRole for the views is aggregated to `view`, `edit` and `admin`, since the views of a namespace show what
/// the status of its objects shows. `fit` writes nothing: it is created only because it takes a body. Those for metrics
/// are aggregated to nothing.
pub fn user_roles() -> [Value; 3] {
    let usual = json!({
        "rbac.authorization.k8s.io/aggregate-to-admin": "true",
        "rbac.authorization.k8s.io/aggregate-to-edit": "true",
        "rbac.authorization.k8s.io/aggregate-to-view": "true",
    });
    let mut plurals: Vec<_> = crate::view::RESOURCES.iter().map(|resource| resource.plural).collect();
    plurals.push("fluxresources/tree");
    let views = rule(&[GROUP], &plurals, &["get", "list", "watch"]);
    let fit = rule(&[GROUP], &["appliedtenantquotas/fit", "tenantusages/fit"], &["create"]);
    let scrape = |path: &str| json!({"nonResourceURLs": [path], "verbs": ["get"]});
    [
        labelled_cluster_role(VIEWS, &usual, &[views, fit]),
        labelled_cluster_role(METRICS, &json!({}), &[scrape("/metrics")]),
        labelled_cluster_role(FLUX_METRICS, &json!({}), &[scrape("/metrics/flux")]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_reads_what_depends_on_who_reads_it_and_nothing_else() {
        let [role, binding] = for_everyone();
        let expected =
            json!([{"apiGroups": [GROUP], "resources": ["mynamespaces"], "verbs": ["get", "list", "watch"]}]);
        assert_eq!(role["rules"], expected);
        assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    }

    #[test]
    fn views_come_with_the_usual_roles_and_are_only_read() {
        let [views, metrics, flux] = user_roles();
        assert_eq!(views["metadata"]["labels"].as_object().expect("labels").len(), 3);
        let rules = views["rules"].as_array().expect("rules");
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[1]["verbs"], json!(["create"]));
        let fit = json!(["appliedtenantquotas/fit", "tenantusages/fit"]);
        assert_eq!(rules[1]["resources"], fit, "which changes nothing");
        assert_eq!(rules[0]["verbs"], json!(["get", "list", "watch"]));
        assert!(rules[0]["resources"].as_array().expect("resources").contains(&json!("fluxsummaries")));
        for role in [metrics, flux] {
            assert_eq!(role["metadata"]["labels"], json!({}), "comes with nothing");
        }
    }
}
