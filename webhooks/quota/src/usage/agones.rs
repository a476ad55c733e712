//! Agones: `Fleet`, `GameServerSet`, `GameServer`.
//!
//! The sidecar that Agones adds to each server is not in the template, and is not charged: only the settings of Agones'
//! controller state its size.

use std::collections::BTreeMap;

pub(super) use gatehouse_apiservice::agones::GROUP;
use gatehouse_apiservice::quantity::Quantity;

use super::{At, Templates, UsageError, pod, times};
use crate::{Amounts, Dimension};

/// The counter or list that counts players, by Agones' own examples.
pub(super) const PLAYERS: &str = "players";

/// The fields with what a server counts, each with a capacity.
const TRACKED: [&str; 2] = ["counters", "lists"];

/// The counters, and the lists, that a server may have: each takes memory in the sums of all its owners.
const MOST_TRACKED: usize = 64;

/// The capacity of a counter or list that states none; the API server uses the same default.
const CAPACITY: i64 = 1000;

/// The usage of a Fleet or a GameServerSet: its replicas of one template, and no fewer than are allocated or reserved.
/// A scale-down keeps those servers, and they count as replicas that need not be created.
pub(super) fn fleet(
    root: &At<'_, '_>,
    replicas: Option<i64>,
    templates: &dyn Templates,
    unstated: &mut BTreeMap<Dimension, Vec<String>>,
) -> Result<Amounts, UsageError> {
    let spec = root.at("spec");
    spec.object()?;
    let stated = spec.at("replicas").count()?;
    let template = spec.at("template");
    template.object()?;
    let each = server(&template.at("spec"), templates, unstated)?;
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

/// The usage of a server alone, and the capacity in it that was added since its creation.
pub(super) fn game_server(
    root: &At<'_, '_>,
    templates: &dyn Templates,
    unstated: &mut BTreeMap<Dimension, Vec<String>>,
) -> Result<(Amounts, Amounts), UsageError> {
    let made_with = server(&root.at("spec"), templates, unstated)?;
    let amounts = made_with.max(&capacity_by_now(root));
    let grown = amounts.saturating_sub(&made_with);
    Ok((amounts, grown))
}

/// The capacities of a server by now, which the SDK writes into its status. An invalid value counts as zero: it is not
/// part of the request.
fn capacity_by_now(root: &At<'_, '_>) -> Amounts {
    let status = root.at("status");
    let capacity = |at: &At<'_, '_>| at.at("capacity").count().ok().flatten().unwrap_or(0);
    let mut amounts = Amounts::default();
    let mut raise = |dimension: Dimension, capacity: i64| {
        let most = amounts.get(&dimension).max(Quantity::from_integer(capacity));
        amounts.set(dimension, most);
    };
    raise(Dimension::Players, capacity(&status.at("players")));
    for tracked in TRACKED {
        let all = status.at(tracked);
        let names =
            all.object().ok().flatten().into_iter().flat_map(serde_json::Map::keys).take(MOST_TRACKED);
        for (name, dimension) in names.filter_map(|name| Some((name, Dimension::capacity(name)?))) {
            raise(dimension, capacity(&all.key(name)));
        }
        // Not among the first, perhaps.
        raise(Dimension::Players, capacity(&all.key(PLAYERS)));
    }
    amounts
}

/// Whether an object is being deleted.
pub(super) fn is_going(root: &At<'_, '_>) -> bool {
    root.at("metadata").at("deletionTimestamp").is_some()
}

/// A GameServer's `spec`.
fn server(
    spec: &At<'_, '_>,
    templates: &dyn Templates,
    unstated: &mut BTreeMap<Dimension, Vec<String>>,
) -> Result<Amounts, UsageError> {
    spec.object()?;
    let template = spec.at("template");
    template.object()?;
    let mut amounts = pod::amounts(&template.at("spec"), templates, unstated)?;
    amounts.set(Dimension::GameServers, Quantity::from_integer(1));
    amounts.set(Dimension::Players, Quantity::from_integer(players(spec)?));
    for (dimension, capacity) in capacities(spec)? {
        amounts.set(dimension, Quantity::from_integer(capacity));
    }
    Ok(amounts)
}

/// The capacity of each counter and list of a server that a limit can name. A counter and a list of one name mean the
/// same.
fn capacities(spec: &At<'_, '_>) -> Result<BTreeMap<Dimension, i64>, UsageError> {
    let mut capacities = BTreeMap::new();
    for tracked in TRACKED {
        let all = spec.at(tracked);
        let Some(entries) = all.object()? else { continue };
        if entries.len() > MOST_TRACKED {
            return Err(all.wrong(format!("must have at most {MOST_TRACKED} entries")));
        }
        for (name, dimension) in entries.keys().filter_map(|name| Some((name, Dimension::capacity(name)?))) {
            let most = capacities.entry(dimension).or_insert(0);
            *most = i64::max(*most, capacity(spec, tracked, name)?.unwrap_or(0));
        }
    }
    Ok(capacities)
}

/// The number of players that a server has room for. Several statements of it mean the same players.
fn players(spec: &At<'_, '_>) -> Result<i64, UsageError> {
    let alpha = spec.at("players");
    alpha.object()?;
    let mut most = alpha.at("initialCapacity").count()?.unwrap_or(0);
    for tracked in TRACKED {
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
