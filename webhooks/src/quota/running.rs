//! A game server that runs: its pod keeps the requests, the room for players and the grace period that it was made with,
//! whatever is written into the GameServer later. So a smaller figure frees nothing, and is refused.

use gatehouse_quota::{Amounts, GroupResource};
use serde_json::Value;

/// What Kubernetes gives a pod to end that does not say, in seconds.
const GRACE: i64 = 30;

/// The field of an Agones GameServer that an update makes smaller than its pod is, with why that is refused. None for
/// other resources: Fleets and sets make new servers of what they say.
pub(super) fn shrunk(
    resource: &GroupResource,
    (object, amounts): (&Value, &Amounts),
    (old, before): (&Value, &Amounts),
) -> Option<String> {
    if (&*resource.group, &*resource.resource) != ("agones.dev", "gameservers") {
        return None;
    }
    let refused = |field: &str, what: &str| {
        Some(format!(
            "{field}: Forbidden: a game server keeps the {what} that it was made with: delete it instead"
        ))
    };
    if let Some((dimension, _)) = before.iter().find(|(dimension, had)| amounts.get(dimension) < **had) {
        return refused("spec", &dimension.to_string());
    }
    let grace = |object: &Value| {
        let stated = object.pointer("/spec/template/spec/terminationGracePeriodSeconds");
        stated.and_then(Value::as_i64).unwrap_or(GRACE)
    };
    if grace(object) < grace(old) {
        return refused("spec.template.spec.terminationGracePeriodSeconds", "grace period");
    }
    None
}
