//! What kube-apiserver need not ask about, as matchConditions of webhooks (GA since Kubernetes 1.30).
//!
//! Each says only what the answer would be anyway. So nothing is let through that would have been refused, and while
//! nobody can be asked, what is going can go, and what is at work stays at work.

use serde_json::{Value, json};

/// The accounts that take away what has been decided on elsewhere: the objects of a namespace that was deleted, and of
/// owners that are gone. By the name of kube-controller-manager itself, where its controllers have no accounts.
const CLEANERS: [&str; 3] = [
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:kube-controller-manager",
];

/// Agones' controllers, where its chart puts them. An allocation writes labels and annotations of its own.
const AGONES: &str = "system:serviceaccount:agones-system:agones-";

/// What a game server's process writes through the SDK, as its labels and annotations.
const SDK: &str = "agones.dev/sdk-";

/// A change of what a GameServer is, or whose: `spec`, its owners, and the labels by which Agones finds it.
const CHANGES_WHAT_IT_IS: &str = "request.operation != 'UPDATE' || request.resource.resource != 'gameservers' || \
     object.?spec != oldObject.?spec || \
     object.metadata.?ownerReferences != oldObject.metadata.?ownerReferences || \
     ['agones.dev/fleet', 'agones.dev/gameserverset'].exists(key, \
     object.metadata.?labels[?key] != oldObject.metadata.?labels[?key])";

/// A GameServer's state is part of the object, without a subresource: Agones updates it at every step of its life. What
/// it takes up is in its spec, and on whose account, in its owners and labels.
pub(super) fn changes_what_a_game_server_is() -> Value {
    json!({"name": "changes-what-a-game-server-is", "expression": CHANGES_WHAT_IT_IS})
}

/// The same, and that by which Agones keeps a GameServer until its pod has ended: its finalizers, and whether there is a
/// pod. One that is deleted would be counted no more while it runs. Agones' own removal is not asked about.
pub(super) fn changes_what_is_counted_of_a_game_server() -> Value {
    let removed = "['agones.dev', 'agones.dev/controller'].exists(keeper, \
                   keeper in oldObject.metadata.?finalizers.orValue([]) && \
                   !(keeper in object.metadata.?finalizers.orValue([])))";
    let annotation = "metadata.?annotations[?'agones.dev/dev-address']";
    json!({
        "name": "changes-what-is-counted-of-a-game-server",
        "expression": format!(
            "{CHANGES_WHAT_IT_IS} || !request.userInfo.username.startsWith('{AGONES}') && \
             ({removed} || object.{annotation} != oldObject.{annotation})"
        ),
    })
}

/// A change of what it is, and of labels and annotations, which a policy's conditions may look at. But for those that the server itself and
/// an allocation write: while nobody can be asked, servers go on being handed out and played on.
pub(super) fn changes_what_is_judged_of_a_game_server() -> Value {
    let differs = |field: &str| {
        let key = format!(
            "!key.startsWith('{SDK}') && object.metadata.?{field}[?key] != oldObject.metadata.?{field}[?key]"
        );
        let any = |side: &str| format!("{side}.metadata.?{field}.orValue({{}}).exists(key, {key})");
        format!("{} || {}", any("object"), any("oldObject"))
    };
    let (labels, annotations) = (differs("labels"), differs("annotations"));
    json!({
        "name": "changes-what-is-judged-of-a-game-server",
        "expression": format!(
            "{CHANGES_WHAT_IT_IS} || \
             !request.userInfo.username.startsWith('{AGONES}') && ({labels} || {annotations})"
        ),
    })
}

/// An object that is going is not judged: nothing may keep its finalizers from being removed. OpenKruiseGame goes on with
/// a set that a finalizer keeps, so that what it is to become is judged.
pub(super) fn is_not_going() -> Value {
    json!({
        "name": "is-not-going",
        "expression": "request.operation != 'UPDATE' || !has(oldObject.metadata.deletionTimestamp) || \
                       request.resource.group == 'game.kruise.io' && object.?spec != oldObject.?spec",
    })
}

/// Nobody decides anew on what is cleaned up.
pub(super) fn is_not_cleaned_up() -> Value {
    let cleaners = CLEANERS.map(|name| format!("'{name}'")).join(", ");
    json!({
        "name": "is-not-cleaned-up",
        "expression": format!("request.operation != 'DELETE' || !(request.userInfo.username in [{cleaners}])"),
    })
}

/// Of deletions, those that let go of what the object owns: it stays, and a Fleet has more made in its place.
pub(super) fn leaves_something_behind() -> Value {
    json!({
        "name": "leaves-something-behind",
        "expression": "request.operation != 'DELETE' || \
                       request.options.?propagationPolicy.orValue('') == 'Orphan' || \
                       request.options.?orphanDependents.orValue(false) || \
                       'orphan' in oldObject.metadata.?finalizers.orValue([])",
    })
}
