//! Computes what to apply to a registered object, if anything. A pure function.
//!
//! A manager that installed the object, such as Helm or kubectl, owns its fields, and Gatehouse never applies those:
//! otherwise the two would overwrite each other forever. In an object that another manager installed, Gatehouse applies
//! the caBundle alone. In an object that no other manager installed, or whose installation was removed, Gatehouse
//! applies all fields that no other manager owns, and the object is owned by Gatehouse's ClusterRole.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::fields::{field_owners, has_field_missing_in, within, within_item, without_owned};
use crate::FIELD_MANAGER;

const CA_BUNDLE: &str = "caBundle";

/// What to apply, and what only the installer can add.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ApplyPlan {
    /// The configuration to apply; `None` if the object is right, or must not be created.
    pub(super) apply: Option<Value>,
    /// The names of webhooks that the manager that installed the object left out.
    pub(super) missing: Vec<String>,
}

/// Compares an object with `desired`, the complete object that Gatehouse applies if no other manager owns any of its
/// fields. `owner` becomes its owner reference; without one, a missing object is not created, since it would never be
/// garbage-collected.
pub(super) fn plan_apply(live: Option<&Value>, desired: &Value, owner: Option<&OwnerReference>) -> ApplyPlan {
    let Some(live) = live else {
        return ApplyPlan {
            apply: owner.is_some().then(|| with_owner(desired.clone(), owner)),
            missing: Vec::new(),
        };
    };
    let (ours, others) = field_owners(live, FIELD_MANAGER);
    let (patch, missing) = match desired["webhooks"].as_array() {
        Some(webhooks) => configuration(desired, webhooks, &within(&others, "webhooks"), owner),
        None => (api_service(desired, &within(&others, "spec"), owner), Vec::new()),
    };
    let is_up_to_date =
        is_superset(live, &patch) && !ours.is_some_and(|ours| has_field_missing_in(ours, &patch));
    ApplyPlan { apply: (!is_up_to_date).then_some(patch), missing }
}

/// The caBundles (base64) of a live object in the places that `desired` has; empty where there is none. Webhooks that
/// the live object lacks are left out.
pub(super) fn bundles<'a>(live: &'a Value, desired: &Value) -> Vec<&'a str> {
    let text = |config: &'a Value| config[CA_BUNDLE].as_str().unwrap_or_default();
    let Some(webhooks) = desired["webhooks"].as_array() else { return vec![text(&live["spec"])] };
    let live = live["webhooks"].as_array().into_iter().flatten();
    live.filter(|webhook| webhooks.iter().any(|wanted| wanted["name"] == webhook["name"]))
        .map(|webhook| text(&webhook["clientConfig"]))
        .collect()
}

fn api_service(desired: &Value, others: &[&Value], owner: Option<&OwnerReference>) -> Value {
    // The manager that created the APIService owns spec.group.
    if others.iter().any(|other| other.get("f:group").is_some()) {
        return with(desired, "spec", &json!({CA_BUNDLE: desired["spec"][CA_BUNDLE]}));
    }
    let spec = without_owned(&desired["spec"], others, CA_BUNDLE).unwrap_or_default();
    with_owner(with(desired, "spec", &spec), owner)
}

fn configuration(
    desired: &Value,
    webhooks: &[Value],
    others: &[&Value],
    owner: Option<&OwnerReference>,
) -> (Value, Vec<String>) {
    let by_others = |webhook: &Value| within_item(others, webhook);
    // The manager that created a webhook owns its name.
    let is_installed =
        |webhook: &&Value| by_others(webhook).iter().any(|other| other.get("f:name").is_some());
    let (installed, rest): (Vec<_>, Vec<_>) = webhooks.iter().partition(is_installed);
    if !installed.is_empty() {
        let ours = |webhook: &&Value| json!({"name": webhook["name"], "clientConfig": {CA_BUNDLE: webhook["clientConfig"][CA_BUNDLE]}});
        let name = |webhook: &&Value| webhook["name"].as_str().unwrap_or_default().to_owned();
        let patch = with(desired, "webhooks", &installed.iter().map(ours).collect());
        return (patch, rest.iter().map(name).collect());
    }
    let ours = |webhook: &Value| {
        let mut left = without_owned(webhook, &by_others(webhook), CA_BUNDLE).unwrap_or_default();
        left["name"] = webhook["name"].clone();
        left
    };
    (with_owner(with(desired, "webhooks", &webhooks.iter().map(ours).collect()), owner), Vec::new())
}

/// An object with the identity of `desired` and one field.
fn with(desired: &Value, field: &str, value: &Value) -> Value {
    json!({
        "apiVersion": desired["apiVersion"],
        "kind": desired["kind"],
        "metadata": {"name": desired["metadata"]["name"]},
        field: value,
    })
}

fn with_owner(mut object: Value, owner: Option<&OwnerReference>) -> Value {
    if let Some(owner) = owner {
        object["metadata"]["ownerReferences"] = json!([owner]);
    }
    object
}

/// Whether `live` has every value of `patch`; it may have more. Items of keyed lists are matched by their key; other
/// lists are compared as a whole.
fn is_superset(live: &Value, patch: &Value) -> bool {
    match (live, patch) {
        (Value::Object(live), Value::Object(patch)) => patch
            .iter()
            .all(|(name, patch)| live.get(name).is_some_and(|live| is_field_superset(name, live, patch))),
        (live, patch) => live == patch,
    }
}

fn is_field_superset(name: &str, live: &Value, patch: &Value) -> bool {
    let key = match name {
        "webhooks" => "name",
        "ownerReferences" => "uid",
        // Selectors are atomic in server-side apply.
        name if name.ends_with("Selector") => return live == patch,
        _ => return is_superset(live, patch),
    };
    let (Value::Array(live), Value::Array(patch)) = (live, patch) else { return false };
    patch.iter().all(|patch| live.iter().any(|live| live[key] == patch[key] && is_superset(live, patch)))
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    /// The `fieldsV1` that the API server writes for `value`.
    fn fields_of(value: &Value) -> Value {
        let Some(object) = value.as_object() else { return json!({}) };
        let mut fields = Map::new();
        for (name, value) in object {
            let within = match (name.as_str(), value) {
                ("webhooks", Value::Array(items)) => {
                    let item = |item: &Value| {
                        let mut within = fields_of(item);
                        within["."] = json!({});
                        (format!("k:{}", json!({"name": item["name"]})), within)
                    };
                    Value::Object(items.iter().map(item).collect())
                }
                (name, _) if name.ends_with("Selector") => json!({}),
                ("apiVersion" | "kind" | "metadata", _) => continue,
                (_, value) => fields_of(value),
            };
            fields.insert(format!("f:{name}"), within);
        }
        Value::Object(fields)
    }

    fn owner() -> OwnerReference {
        OwnerReference {
            name: "gatehouse".into(),
            uid: "u".into(),
            kind: "ClusterRole".into(),
            ..OwnerReference::default()
        }
    }

    fn webhook(name: &str, bundle: &str) -> Value {
        json!({
            "name": name, "timeoutSeconds": 5, "namespaceSelector": {"matchLabels": {"a": "b"}},
            "clientConfig": {"caBundle": bundle, "service": {"name": "s"}},
        })
    }

    fn configuration(bundle: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "C", "metadata": {"name": "gatehouse"},
               "webhooks": [webhook("a", bundle), webhook("b", bundle)]})
    }

    fn api_service(bundle: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "APIService", "metadata": {"name": "gatehouse"},
               "spec": {"group": "view", "versionPriority": 100, "caBundle": bundle}})
    }

    fn held_by(mut object: Value, managers: &[(&str, Value)]) -> Value {
        let entry = |(manager, fields): &(&str, Value)| {
            let operation = if *manager == "gatehouse" { "Apply" } else { "Update" };
            json!({"manager": manager, "operation": operation, "fieldsV1": fields})
        };
        object["metadata"]["managedFields"] = managers.iter().map(entry).collect();
        object
    }

    /// The object that the API server stores when Gatehouse applies `object`.
    fn applied(object: Value) -> Value {
        let mut fields = fields_of(&object);
        fields["f:metadata"] = json!({"f:ownerReferences": {"k:{\"uid\":\"u\"}": {}}});
        held_by(object, &[("gatehouse", fields)])
    }

    fn bare(object: &Value) -> Value {
        let mut bare = object.clone();
        match bare["webhooks"].as_array_mut() {
            Some(webhooks) => webhooks.iter_mut().for_each(|webhook| {
                webhook["clientConfig"].as_object_mut().unwrap().remove(CA_BUNDLE);
            }),
            None => drop(bare["spec"].as_object_mut().unwrap().remove(CA_BUNDLE)),
        }
        bare
    }

    fn right() -> ApplyPlan {
        ApplyPlan { apply: None, missing: Vec::new() }
    }

    #[test]
    fn what_is_missing_is_made_as_a_whole_and_goes_with_its_owner() {
        for desired in [configuration("new"), api_service("new")] {
            let made = plan_apply(None, &desired, Some(&owner())).apply.expect("to be made");
            assert_eq!(made["metadata"]["ownerReferences"], json!([owner()]));
            assert!(is_superset(&made, &desired));
            assert_eq!(plan_apply(Some(&applied(made)), &desired, Some(&owner())), right());
            assert_eq!(plan_apply(None, &desired, None), right(), "nobody would ever remove it");
        }
    }

    #[test]
    fn of_what_somebody_installed_only_the_ca_bundle_is_ours() {
        for (desired, expected) in [
            (api_service("new"), json!({"spec": {"caBundle": "new"}})),
            (
                configuration("new"),
                json!({"webhooks": [
                    {"name": "a", "clientConfig": {"caBundle": "new"}},
                    {"name": "b", "clientConfig": {"caBundle": "new"}},
                ]}),
            ),
        ] {
            let mut installed = bare(&desired);
            // Set by a value of the chart.
            if let Some(webhook) = installed.pointer_mut("/webhooks/0") {
                webhook["timeoutSeconds"] = json!(9);
            }
            let helm = fields_of(&installed);
            let live = held_by(installed, &[("helm", helm.clone())]);
            let mut patch = plan_apply(Some(&live), &desired, Some(&owner())).apply.expect("no caBundle yet");
            assert_eq!(patch["metadata"], json!({"name": "gatehouse"}));
            for identity in ["apiVersion", "kind", "metadata"] {
                patch.as_object_mut().unwrap().remove(identity);
            }
            assert_eq!(patch, expected);

            // With the current bundle there is nothing to do; with an old one it is applied again.
            let ours = fields_of(&expected);
            let good = held_by(desired.clone(), &[("helm", helm.clone()), ("gatehouse", ours.clone())]);
            assert_eq!(plan_apply(Some(&good), &desired, Some(&owner())), right());
            let old = if desired["webhooks"].is_array() { configuration("old") } else { api_service("old") };
            let stale = held_by(old, &[("helm", helm), ("gatehouse", ours)]);
            assert!(plan_apply(Some(&stale), &desired, Some(&owner())).apply.is_some());
        }
    }

    #[test]
    fn a_ca_bundle_that_was_overwritten_is_mended_and_nothing_else_touched() {
        let desired = configuration("new");
        let mut by_hand = applied(with_owner(desired.clone(), Some(&owner())));
        by_hand["webhooks"][0]["clientConfig"]["caBundle"] = json!("wrong");
        by_hand["webhooks"][0]["timeoutSeconds"] = json!(30);
        let item = |fields: Value| json!({"f:webhooks": {"k:{\"name\":\"a\"}": fields}});
        let held = item(json!({"f:timeoutSeconds": {}, "f:clientConfig": {"f:caBundle": {}}}));
        let entries = by_hand["metadata"]["managedFields"].as_array_mut().unwrap();
        entries.push(json!({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": held}));
        let patch = plan_apply(Some(&by_hand), &desired, Some(&owner())).apply.expect("to be mended");
        assert_eq!(patch["webhooks"][0]["clientConfig"], desired["webhooks"][0]["clientConfig"]);
        assert_eq!(patch["webhooks"][0].get("timeoutSeconds"), None, "it is somebody else's now");
        assert_eq!(patch["webhooks"][1], desired["webhooks"][1]);
        assert_eq!(patch["metadata"]["ownerReferences"], json!([owner()]));
    }

    #[test]
    fn what_was_ours_alone_is_let_go_when_somebody_installs_it() {
        for desired in [configuration("new"), api_service("new")] {
            let mut live = applied(with_owner(desired.clone(), Some(&owner())));
            let flux = fields_of(&bare(&desired));
            let entries = live["metadata"]["managedFields"].as_array_mut().unwrap();
            entries.push(json!({"manager": "kustomize-controller", "operation": "Apply", "fieldsV1": flux}));
            let patch =
                plan_apply(Some(&live), &desired, Some(&owner())).apply.expect("less is ours than was");
            assert_eq!(patch["metadata"], json!({"name": "gatehouse"}));
        }
    }

    #[test]
    fn a_webhook_that_was_left_out_is_not_put_in() {
        let desired = configuration("new");
        let mut installed = bare(&desired);
        installed["webhooks"].as_array_mut().unwrap().pop();
        let helm = fields_of(&installed);
        let live = held_by(installed, &[("helm", helm)]);
        let plan = plan_apply(Some(&live), &desired, Some(&owner()));
        assert_eq!(plan.missing, ["b"]);
        assert_eq!(plan.apply.expect("no caBundle yet")["webhooks"].as_array().unwrap().len(), 1);
        assert_eq!(bundles(&live, &desired), [""]);
        assert_eq!(bundles(&desired, &desired), ["new", "new"]);
        assert_eq!(bundles(&api_service("old"), &api_service("new")), ["old"]);
    }
}
