//! What an Application of Argo CD has applied: `status.resources`, as an inventory.

use kube_cel::cel::Value;

use super::{Kind, tree};
use crate::Applied;

/// The names of its own cluster among destinations.
const HERE: [&str; 2] = ["https://kubernetes.default.svc", "in-cluster"];

/// The objects that it has applied to its own cluster; `None` for other kinds, and without any. The error is the path of
/// a field that has the wrong type.
pub(super) fn applied(kind: &Kind, object: &Value) -> Result<Option<Box<Applied>>, String> {
    if !kind.is_application() || !is_here(object) {
        return Ok(None);
    }
    let status = tree::field(object, "status");
    let resources = match status.and_then(|status| tree::field(status, "resources")) {
        None => return Ok(None),
        Some(Value::List(resources)) => resources,
        Some(_) => return Err("status.resources: expected a list".to_owned()),
    };
    let text = |resource: &Value, name: &str| match tree::field(resource, name) {
        Some(Value::String(text)) => text.to_string(),
        _ => String::new(),
    };
    let ids = resources.iter().take(Applied::MOST).map(|resource| {
        let [namespace, name, group, kind] =
            ["namespace", "name", "group", "kind"].map(|part| text(resource, part));
        // As Flux writes ids.
        format!("{namespace}_{}_{group}_{kind}", name.replace(':', "__"))
    });
    let ids: Vec<_> = ids.collect();
    let applied =
        Applied::pack(ids.iter().map(String::as_str), resources.len().saturating_sub(Applied::MOST));
    Ok((applied != Applied::default()).then(|| Box::new(applied)))
}

/// Whether it applies to the cluster that it is in.
pub(super) fn is_here(object: &Value) -> bool {
    let destination = tree::field(object, "spec").and_then(|spec| tree::field(spec, "destination"));
    let named = |name: &str| match destination.and_then(|destination| tree::field(destination, name)) {
        Some(Value::String(text)) => Some(text.as_str()),
        _ => None,
    };
    named("server").or_else(|| named("name")).is_some_and(|destination| HERE.contains(&destination))
}
