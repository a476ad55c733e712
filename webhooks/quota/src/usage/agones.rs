//! Agones: `Fleet`, `GameServerSet`, `GameServer`.
//!
//! The sidecar that Agones adds to each server is not in the template, and is not charged: how large it is, only the
//! settings of Agones' controller say.

use std::collections::BTreeMap;

pub(super) use gatehouse_apiservice::agones::GROUP;
use gatehouse_apiservice::quantity::Quantity;

use super::{At, UsageError, pod, times};
use crate::{Amounts, Dimension};

/// The counter or list that counts players, by Agones' own examples.
pub(super) const PLAYERS: &str = "players";

/// What a counter or list may hold that does not say; the API server fills the same in.
const CAPACITY: i64 = 1000;

/// A Fleet, or a GameServerSet: so many servers of one template, and no fewer than are played on or reserved. Those a
/// scale-down leaves alone, and as many as there are count as replicas that need not be made.
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

/// How many servers of a Fleet or a set are not taken away, by its status. A status that makes no sense is none: it is
/// not the request's, and the servers themselves are counted as well.
fn kept(root: &At<'_, '_>) -> i64 {
    let status = root.at("status");
    let count = |field: &str| status.at(field).count().ok().flatten().unwrap_or(0);
    count("allocatedReplicas").saturating_add(count("reservedReplicas")).min(i64::from(i32::MAX))
}

/// A server on its own, and what of it is room for players that it has made since it was made itself.
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

/// How many players a server has made room for since, which the SDK writes into its status. What makes no sense there is
/// none: it is not the request's.
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

/// How many players a server has room for. A server that says so in several ways means the same players.
fn players(spec: &At<'_, '_>) -> Result<i64, UsageError> {
    let alpha = spec.at("players");
    alpha.object()?;
    let mut most = alpha.at("initialCapacity").count()?.unwrap_or(0);
    for tracked in ["counters", "lists"] {
        most = most.max(capacity(spec, tracked, PLAYERS)?.unwrap_or(0));
    }
    Ok(most)
}

/// What the counter or list `key` of a server may hold; none, if there is none.
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
