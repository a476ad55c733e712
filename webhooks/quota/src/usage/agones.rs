//! Agones: `Fleet`, `GameServerSet`, `GameServer`.
//!
//! The sidecar that Agones adds to each server is not in the template, and is not charged: only the settings of Agones'
//! controller state its size.

use std::collections::BTreeMap;

pub(super) use gatehouse_apiservice::agones::GROUP;
use gatehouse_apiservice::quantity::Quantity;

use super::{At, UsageError, pod, times};
use crate::{Amounts, Dimension};

/// The counter or list that counts players, by Agones' own examples.
pub(super) const PLAYERS: &str = "players";

/// The capacity of a counter or list that states none; the API server uses the same default.
const CAPACITY: i64 = 1000;

/// The usage of a Fleet or a GameServerSet: its replicas of one template, and no fewer than are allocated or reserved.
/// A scale-down keeps those servers, and they count as replicas that need not be created.
pub(super) fn fleet(
    root: &At<'_, '_>,
    replicas: Option<i64>,
    unstated: &mut BTreeMap<Dimension, Vec<String>>,
) -> Result<Amounts, UsageError> {
    let spec = root.at("spec");
    spec.object()?;
    let stated = spec.at("replicas").count()?;
    let template = spec.at("template");
    template.object()?;
    let each = server(&template.at("spec"), unstated)?;
    let replicas = replicas.or(stated).unwrap_or(0);
    if replicas < 0 {
        return Err(spec.at("replicas").wrong("must not be negative"));
    }
    times(&each, replicas.max(kept(root)), &spec)
}

/// The number of servers of a Fleet or a set that a scale-down keeps, by its status. An invalid status counts as zero:
/// it is not part of the request, and the servers themselves are counted as well.
fn kept(root: &At<'_, '_>) -> i64 {
    let status = root.at("status");
    let count = |field: &str| status.at(field).count().ok().flatten().unwrap_or(0);
    count("allocatedReplicas").saturating_add(count("reservedReplicas")).min(i64::from(i32::MAX))
}

/// The usage of a server alone, and the room for players in it that was added since its creation.
pub(super) fn game_server(
    root: &At<'_, '_>,
    unstated: &mut BTreeMap<Dimension, Vec<String>>,
) -> Result<(Amounts, Quantity), UsageError> {
    let mut amounts = server(&root.at("spec"), unstated)?;
    let made_with = amounts.get(&Dimension::Players);
    let players = made_with.max(Quantity::from_integer(grown(root)));
    amounts.set(Dimension::Players, players);
    Ok((amounts, players.checked_sub(made_with).unwrap_or_default()))
}

/// The number of players that a server has room for by now, which the SDK writes into its status. An invalid value
/// counts as zero: it is not part of the request.
fn grown(root: &At<'_, '_>) -> i64 {
    let status = root.at("status");
    let capacity = |at: &At<'_, '_>| at.at("capacity").count().ok().flatten().unwrap_or(0);
    let tracked = ["counters", "lists"].map(|tracked| capacity(&status.at(tracked).key(PLAYERS)));
    tracked.into_iter().fold(capacity(&status.at("players")), i64::max)
}

/// Whether an object is being deleted.
pub(super) fn is_going(root: &At<'_, '_>) -> bool {
    root.at("metadata").at("deletionTimestamp").is_some()
}

/// A GameServer's `spec`.
fn server(spec: &At<'_, '_>, unstated: &mut BTreeMap<Dimension, Vec<String>>) -> Result<Amounts, UsageError> {
    spec.object()?;
    let template = spec.at("template");
    template.object()?;
    let mut amounts = pod::requests(&template.at("spec"), unstated)?;
    amounts.set(Dimension::GameServers, Quantity::from_integer(1));
    amounts.set(Dimension::Players, Quantity::from_integer(players(spec)?));
    Ok(amounts)
}

/// The number of players that a server has room for. Several statements of it mean the same players.
fn players(spec: &At<'_, '_>) -> Result<i64, UsageError> {
    let alpha = spec.at("players");
    alpha.object()?;
    let mut most = alpha.at("initialCapacity").count()?.unwrap_or(0);
    for tracked in ["counters", "lists"] {
        most = most.max(capacity(spec, tracked, PLAYERS)?.unwrap_or(0));
    }
    Ok(most)
}

/// The capacity of the counter or list `key` of a server; `None` if there is none.
pub(super) fn capacity(spec: &At<'_, '_>, tracked: &str, key: &str) -> Result<Option<i64>, UsageError> {
    let all = spec.at(tracked);
    let one = match all.object()? {
        Some(_) => all.key(key),
        None => return Ok(None),
    };
    match one.object()? {
        Some(_) => Ok(Some(one.at("capacity").count()?.unwrap_or(CAPACITY))),
        None => Ok(None),
    }
}
