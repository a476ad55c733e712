//! matchConditions of the webhooks (GA since Kubernetes 1.30).
//!
//! **Invariant:** they skip only requests that are always admitted. So no request is admitted that a webhook would deny;
//! and while the webhooks are down, objects can be deleted and game servers continue to run.

use serde_json::{Value, json};

use crate::kruise::SET_LABEL;

/// The accounts that delete the objects of deleted namespaces and owners, with kube-controller-manager itself for clusters
/// whose controllers have no service accounts.
const COLLECTORS: [&str; 3] = [
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:kube-controller-manager",
];

/// The prefix of Agones' service accounts, as its chart installs them. An allocation sets labels and annotations.
const AGONES: &str = "system:serviceaccount:agones-system:agones-";

/// The prefix of labels and annotations that a game server sets on itself through the SDK.
const SDK: &str = "agones.dev/sdk-";

/// Whether an update of a GameServer changes `spec`, its owners, or the labels by which Agones finds it.
const SPEC_OR_OWNER_CHANGED: &str = "request.operation != 'UPDATE' || request.resource.resource != 'gameservers' || \
     object.?spec != oldObject.?spec || \
     object.metadata.?ownerReferences != oldObject.metadata.?ownerReferences || \
     ['agones.dev/fleet', 'agones.dev/gameserverset'].exists(key, \
     object.metadata.?labels[?key] != oldObject.metadata.?labels[?key])";

/// A GameServer has no status subresource: Agones updates the whole object at every step of its life. Usage depends only
/// on its spec, and the charged owner only on its owner references and labels.
pub(super) fn game_server_spec_or_owner_changed() -> Value {
    json!({"name": "game-server-spec-or-owner-changed", "expression": SPEC_OR_OWNER_CHANGED})
}

/// In addition, the fields by which Agones keeps a GameServer until its pod has ended: its finalizers, and whether it has
/// a pod. Without them a deleted server would no longer count although it still runs. Agones may remove its finalizer.
pub(super) fn game_server_usage_changed() -> Value {
    let removed = "['agones.dev', 'agones.dev/controller'].exists(finalizer, \
                   finalizer in oldObject.metadata.?finalizers.orValue([]) && \
                   !(finalizer in object.metadata.?finalizers.orValue([])))";
    let annotation = "metadata.?annotations[?'agones.dev/dev-address']";
    json!({
        "name": "game-server-usage-changed",
        "expression": format!(
            "{SPEC_OR_OWNER_CHANGED} || !request.userInfo.username.startsWith('{AGONES}') && \
             ({removed} || object.{annotation} != oldObject.{annotation})"
        ),
    })
}

/// In addition, changes of labels and annotations, which conditions of policies may read, except by an allocation or by
/// the server itself: while the webhooks are down, servers can still be allocated.
pub(super) fn game_server_policy_fields_changed() -> Value {
    let differs = |field: &str| {
        let key = format!(
            "!key.startsWith('{SDK}') && object.metadata.?{field}[?key] != oldObject.metadata.?{field}[?key]"
        );
        let any = |side: &str| format!("{side}.metadata.?{field}.orValue({{}}).exists(key, {key})");
        format!("{} || {}", any("object"), any("oldObject"))
    };
    let (labels, annotations) = (differs("labels"), differs("annotations"));
    json!({
        "name": "game-server-policy-fields-changed",
        "expression": format!(
            "{SPEC_OR_OWNER_CHANGED} || \
             !request.userInfo.username.startsWith('{AGONES}') && ({labels} || {annotations})"
        ),
    })
}

/// An object that is being deleted is not judged, so that its finalizers can always be removed. OpenKruiseGame still
/// reconciles a set that is being deleted, so changes of its spec are judged.
pub(super) fn is_not_terminating() -> Value {
    json!({
        "name": "not-terminating",
        "expression": "request.operation != 'UPDATE' || !has(oldObject.metadata.deletionTimestamp) || \
                       request.resource.group == 'game.kruise.io' && object.?spec != oldObject.?spec",
    })
}

/// Deletions by kube-controller-manager are not judged: the namespace or the owner is deleted already.
pub(super) fn is_not_garbage_collected() -> Value {
    let collectors = COLLECTORS.map(|name| format!("'{name}'")).join(", ");
    json!({
        "name": "not-garbage-collected",
        "expression": format!("request.operation != 'DELETE' || !(request.userInfo.username in [{collectors}])"),
    })
}

/// Only an update of what a PersistentVolumeClaim requests may expand it: those that bind or annotate it may not fail.
pub(super) fn claim_requests_changed() -> Value {
    json!({
        "name": "claim-requests-changed",
        "expression": "request.operation != 'UPDATE' || object.spec.?resources != oldObject.spec.?resources",
    })
}

/// Of pods, only those of OpenKruiseGame's sets use what quotas limit: no other pod depends on the webhooks. Updates of the
/// pod itself change that only by the label.
pub(super) fn is_pod_of_a_set() -> Value {
    let label = format!("metadata.?labels[?'{SET_LABEL}']");
    json!({
        "name": "pod-of-a-set",
        "expression": format!(
            "request.resource.resource != 'pods' || \
             (request.operation == 'CREATE' || request.?subResource.orValue('') == 'resize' ? {} : \
             object.{label} != oldObject.{label})",
            of_a_set()
        ),
    })
}

/// The other pods.
pub(super) fn is_no_pod_of_a_set() -> Value {
    json!({
        "name": "no-pod-of-a-set",
        "expression": format!("request.resource.resource != 'pods' || !({})", of_a_set()),
    })
}

fn of_a_set() -> String {
    format!("'{SET_LABEL}' in object.metadata.?labels.orValue({{}})")
}

/// Only deletions that orphan dependents are judged: orphans continue to exist, and a Fleet replaces them. Of templates,
/// all are.
pub(super) fn orphans_dependents() -> Value {
    json!({
        "name": "orphans-dependents",
        "expression": "request.operation != 'DELETE' || request.resource.resource == 'gametemplates' || \
                       request.options.?propagationPolicy.orValue('') == 'Orphan' || \
                       request.options.?orphanDependents.orValue(false) || \
                       'orphan' in oldObject.metadata.?finalizers.orValue([])",
    })
}
