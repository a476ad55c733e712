//! What people are given beside policies: to read the views, and a scraper the metrics. Pure values.

use serde_json::{Value, json};

use super::account::{labelled_cluster_role, rule};
use crate::view::GROUP;

/// The ClusterRole that reads the views.
pub const VIEWS: &str = "gatehouse-views-view";
/// The ClusterRole that reads `/metrics` of both processes.
pub const METRICS: &str = "gatehouse-metrics-reader";
/// The ClusterRole that reads `/metrics/flux`, where every Flux object is named.
pub const FLUX_METRICS: &str = "gatehouse-flux-metrics-reader";

/// Reading the views comes with the roles `view`, `edit` and `admin`, wherever they are bound: a view shows of a
/// namespace what its objects' own status shows. Reading metrics comes with nothing.
pub fn user_roles() -> [Value; 3] {
    let usual = json!({
        "rbac.authorization.k8s.io/aggregate-to-admin": "true",
        "rbac.authorization.k8s.io/aggregate-to-edit": "true",
        "rbac.authorization.k8s.io/aggregate-to-view": "true",
    });
    let plurals: Vec<_> = crate::view::RESOURCES.iter().map(|resource| resource.plural).collect();
    let views = rule(&[GROUP], &plurals, &["get", "list", "watch"]);
    let scrape = |path: &str| json!({"nonResourceURLs": [path], "verbs": ["get"]});
    [
        labelled_cluster_role(VIEWS, &usual, &[views]),
        labelled_cluster_role(METRICS, &json!({}), &[scrape("/metrics")]),
        labelled_cluster_role(FLUX_METRICS, &json!({}), &[scrape("/metrics/flux")]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_come_with_the_usual_roles_and_are_only_read() {
        let [views, metrics, flux] = user_roles();
        assert_eq!(views["metadata"]["labels"].as_object().expect("labels").len(), 3);
        let rules = views["rules"].as_array().expect("rules");
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0]["verbs"], json!(["get", "list", "watch"]));
        assert!(rules[0]["resources"].as_array().expect("resources").contains(&json!("fluxsummaries")));
        for role in [metrics, flux] {
            assert_eq!(role["metadata"]["labels"], json!({}), "comes with nothing");
        }
    }
}
