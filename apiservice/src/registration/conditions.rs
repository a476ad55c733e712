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

/// A GameServer's state is part of the object, without a subresource: Agones updates it at every step of its life. What
/// it takes up is in its spec, and on whose account, in its owners.
pub(super) fn changes_what_a_game_server_is() -> Value {
    json!({
        "name": "changes-what-a-game-server-is",
        "expression": "request.operation != 'UPDATE' || request.resource.resource != 'gameservers' || \
                       object.?spec != oldObject.?spec || \
                       object.metadata.?ownerReferences != oldObject.metadata.?ownerReferences",
    })
}

/// An object that is going is not judged: nothing may keep its finalizers from being removed.
pub(super) fn is_not_going() -> Value {
    json!({
        "name": "is-not-going",
        "expression": "request.operation != 'UPDATE' || !has(oldObject.metadata.deletionTimestamp)",
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
