//! Computes what the creation of a pod of an OpenKruiseGame set adds to the usage of its tenant.
//!
//! The set was charged for its servers when it was written. What its pods use beyond that, nobody was asked for: by the
//! resources of a GameServer, which OpenKruiseGame writes into the pod; or since others of the set, which it has deleted or
//! does not update, exist beside it. kube-apiserver asks about a pod after all mutating webhooks.
//!
//! A pod counts by its label. Without it the pod would run on uncounted, while its set gets another.

use gatehouse_apiservice::kruise::SET_LABEL;
use gatehouse_policy::Operation;
use gatehouse_quota::{Amounts, GroupResource, PODS, Templates, Usage, added_by_pod, scaled};
use serde_json::Value;

use super::usage_change::QuotaRequest;
use crate::world::Snapshot;

/// The usage of an object, of a new pod what it adds. A pod is charged as a whole while its set is not observed, and for
/// what it grows by.
pub(super) fn added(
    request: &QuotaRequest<'_>,
    new: Usage,
    world: &Snapshot,
    templates: &dyn Templates,
) -> Usage {
    if request.operation != Operation::Create || !is_pod(request.resource) {
        return new;
    }
    let Some(owner) = &new.owner else { return new };
    let set = world.object(&owner.resource, request.namespace, &owner.name);
    let share = set.and_then(|set| scaled(&owner.resource, &set.value()?, 1, templates).ok());
    let (Some(set), Some(share)) = (set, share) else { return new };
    let used = new.beside_count();
    let there = world.pods_of_set(request.namespace, &owner.name);
    let added = added_by_pod(&used, &share.beside_count(), &set.alone.beside_count(), &there);
    let counts: Amounts = new.amounts.saturating_sub(&used);
    Usage { amounts: counts.saturating_add(&added), ..new }
}

/// The field by which an update would take a pod away from its set, and the reason.
pub(super) fn released(resource: &GroupResource, object: &Value, old: &Value) -> Option<(String, String)> {
    let label = |object: &Value| object.get("metadata")?.get("labels")?.get(SET_LABEL).cloned();
    let before = label(old)?;
    (is_pod(resource) && label(object).as_ref() != Some(&before)).then(|| {
        let why = "the pod is a game server of its set".to_owned();
        (format!("metadata.labels[{SET_LABEL}]"), why)
    })
}

fn is_pod(resource: &GroupResource) -> bool {
    resource.group.is_empty() && *resource.resource == *PODS
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_keeps_the_label_of_its_set() {
        let pods = GroupResource::new("", "pods");
        let labelled = |labels: Value| json!({"metadata": {"name": "set-0", "labels": labels}});
        let of_set = labelled(json!({"game.kruise.io/owner-gss": "set", "a": "b"}));
        let field = |object: &Value, old: &Value| released(&pods, object, old).map(|(field, _)| field);
        let expected = Some("metadata.labels[game.kruise.io/owner-gss]".to_owned());
        for other in [json!({"a": "b"}), json!(null), json!({"game.kruise.io/owner-gss": "other"})] {
            assert_eq!(field(&labelled(other.clone()), &of_set), expected, "{other}");
        }
        assert_eq!(field(&labelled(json!({"game.kruise.io/owner-gss": "set"})), &of_set), None);
        assert_eq!(field(&of_set, &labelled(json!({}))), None, "it counts from now on");
        assert_eq!(released(&GroupResource::new("", "configmaps"), &labelled(json!({})), &of_set), None);
    }
}
