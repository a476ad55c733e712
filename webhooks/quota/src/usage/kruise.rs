//! OpenKruiseGame: `GameServerSet`.

use std::collections::BTreeMap;

use gatehouse_apiservice::quantity::Quantity;

use super::{At, Templates, UsageError, pod, times};
use crate::{Amounts, Dimension};

pub(super) const GROUP: &str = "game.kruise.io";

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
