//! `gameServerResources`: resource requests of the game server's container.

use std::collections::BTreeMap;

use serde_json::Value;

use super::patch::Additions;
use crate::Kind;

/// Sets the requests of the game server's container that have neither a request nor a limit: a limit alone implies an
/// equal request.
pub(super) fn add_requests(kind: Kind, requests: &BTreeMap<String, String>, additions: &mut Additions) {
    // The path of the pod spec, and the path of the name of the game server's container; without a name, it is the
    // first.
    let (pod, named): (&[&str], Option<&[&str]>) = match kind {
        Kind::GameServer => (&["spec", "template", "spec"], Some(&["spec", "container"])),
        Kind::Fleet | Kind::GameServerSet => (
            &["spec", "template", "spec", "template", "spec"],
            Some(&["spec", "template", "spec", "container"]),
        ),
        Kind::KruiseGameServerSet => (&["spec", "gameServerTemplate", "spec"], None),
        _ => return,
    };
    let list = [pod, &["containers"]].concat();
    let Some(Value::Array(containers)) = additions.get(&list) else { return };
    let named =
        named.and_then(|path| additions.get(path)).and_then(Value::as_str).filter(|name| !name.is_empty());
    let index = match named {
        Some(named) => containers
            .iter()
            .position(|container| container.get("name").and_then(Value::as_str) == Some(named)),
        None => (!containers.is_empty()).then_some(0),
    };
    let Some(index) = index.map(|index| index.to_string()) else { return };
    let resources = [&list[..], &[index.as_str(), "resources"]].concat();
    for (name, quantity) in requests {
        let of = |part| [&resources[..], &[part, name.as_str()]].concat();
        if additions.get(&of("limits")).is_none() {
            additions.add(&of("requests"), Some(Value::String(quantity.clone())));
        }
    }
}
