//! OpenKruiseGame: `GameServerSet`, and the pods of these.
//!
//! A pod may use more than the set's template states: its webhook writes what a GameServer of the pod's name states for
//! its containers into the pod at its creation, and a pod that was made by an earlier template stays as long as the
//! update strategy lets it. So pods count beside their set, see [`crate::Families`].

use std::collections::BTreeMap;

pub(super) use gatehouse_apiservice::kruise::GROUP;
use gatehouse_apiservice::{kruise::SET_LABEL, quantity::Quantity};
use serde_json::Value;

use super::{At, Owner, Templates, UsageError, pod, times};
use crate::{Amounts, Dimension, GroupResource};

/// The usage of a GameServerSet: its replicas of one pod template.
pub(super) fn game_server_set(
    root: &At<'_, '_>,
    replicas: Option<i64>,
    templates: &dyn Templates,
    unstated: &mut BTreeMap<Dimension, Vec<String>>,
) -> Result<Amounts, UsageError> {
    let spec = root.at("spec");
    spec.object()?;
    let stated = spec.at("replicas").count()?;
    let template = spec.at("gameServerTemplate");
    template.object()?;
    let mut each = pod::amounts(&template.at("spec"), templates, unstated)?;
    each.set(Dimension::GameServers, Quantity::from_integer(1));
    // The workload behind it defaults to one replica.
    let replicas = replicas.or(stated).unwrap_or(1);
    if replicas < 0 {
        return Err(spec.at("replicas").wrong("must not be negative"));
    }
    times(&each, replicas, &spec)
}

/// The usage of a pod of a set; `None` for other pods, which use nothing but their count. The set was asked for requests
/// that are missing.
pub(super) fn pod(
    root: &At<'_, '_>,
    object: &Value,
    templates: &dyn Templates,
) -> Result<Option<Amounts>, UsageError> {
    if set_label(object).is_none() {
        return Ok(None);
    }
    let mut amounts = pod::amounts(&root.at("spec"), templates, &mut BTreeMap::new())?;
    amounts.set(Dimension::GameServers, Quantity::from_integer(1));
    Ok(Some(amounts))
}

/// The set that a pod belongs to. OpenKruiseGame goes by the label alone, so whichever set has that name.
pub(super) fn owner(object: &Value) -> Option<Owner> {
    let name = set_label(object)?.as_str().filter(|name| !name.is_empty())?;
    Some(Owner {
        resource: GroupResource::new(GROUP, "gameserversets"),
        name: name.into(),
        uid: Some("".into()),
    })
}

fn set_label(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("labels")?.get(SET_LABEL)
}

/// What the creation of a pod adds to the usage of its set's tenant. `share` is what the set is charged for each of its
/// servers, `asked` what it is charged for all, and `there` the usage of the pods that exist.
///
/// Pods are created at the same time, and each is judged by what is observed of the others; so what a pod uses beyond its
/// share is always charged.
pub fn added_by_pod(pod: &Amounts, share: &Amounts, asked: &Amounts, there: &Amounts) -> Amounts {
    let beyond = |amounts: &Amounts| pod.saturating_sub(amounts).max(&Amounts::default());
    let room = asked.saturating_sub(there).max(&Amounts::default());
    beyond(share).max(&beyond(&room))
}
