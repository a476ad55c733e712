//! Whether the server knows a kind, by its discovery.

use serde_json::Value;

use crate::connection::Connection;

/// Whether the server says that it has no kind of this name, as it would to kubectl. Without an answer it may have.
pub(crate) async fn is_unknown(connection: &Connection, name: &str) -> bool {
    for root in ["/api", "/apis"] {
        let Ok(found) = connection.discovery(root).await else { return false };
        if has(&found, name) != Some(false) {
            return false;
        }
    }
    true
}

/// Whether an aggregated discovery document names a kind; `None` if it does not tell.
fn has(document: &Value, name: &str) -> Option<bool> {
    if document["kind"] != "APIGroupDiscoveryList" {
        return None;
    }
    let list = |of: &Value, field: &str| of[field].as_array().cloned().unwrap_or_default();
    let versions =
        list(document, "items").iter().flat_map(|group| list(group, "versions")).collect::<Vec<_>>();
    let is_it = |text: &Value| text.as_str().is_some_and(|text| text.eq_ignore_ascii_case(name));
    for resource in versions.iter().flat_map(|version| list(version, "resources")) {
        let names = [&resource["resource"], &resource["singularResource"], &resource["responseKind"]["kind"]];
        if names.into_iter().any(is_it) || list(&resource, "shortNames").iter().any(is_it) {
            return Some(true);
        }
    }
    // What a server that does not answer has is not known.
    let is_stale = versions.iter().any(|version| version["freshness"] == "Stale");
    (!is_stale).then_some(false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kind_is_known_by_each_of_its_names() {
        let document = |freshness: &str| {
            let resource = json!({
                "resource": "deployments", "singularResource": "deployment", "shortNames": ["deploy"],
                "responseKind": {"kind": "Deployment"},
            });
            json!({
                "kind": "APIGroupDiscoveryList",
                "items": [{"versions": [{"version": "v1", "freshness": freshness, "resources": [resource]}]}],
            })
        };
        for name in ["deployments", "Deployment", "deploy", "deployment"] {
            assert_eq!(has(&document("Current"), name), Some(true), "{name}");
        }
        assert_eq!(has(&document("Current"), "nope"), Some(false));
        assert_eq!(has(&document("Stale"), "nope"), None);
        assert_eq!(has(&json!({"kind": "APIGroupList", "groups": []}), "nope"), None);
    }
}
