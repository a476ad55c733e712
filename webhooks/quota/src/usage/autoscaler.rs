//! Agones' `FleetAutoscaler`: how far it may scale its fleet.
//!
//! A policy that asks a webhook or a Wasm module has no ceiling of its own: each of its steps is admitted or denied
//! like any other request for the fleet.

use gatehouse_apiservice::quantity::Quantity;
use serde_json::Value;

use super::{At, UsageError, agones};
use crate::{Amounts, Dimension, GroupResource, NoTemplates};

pub(super) const GROUP: &str = "autoscaling.agones.dev";

/// The deepest nesting of policies that is read; Agones itself allows two levels.
const DEPTH: usize = 8;

/// How far an autoscaler may scale.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// The fleet, in the autoscaler's namespace.
    pub fleet: String,
    /// The most replicas that a buffer scales to.
    pub replicas: Option<i64>,
    /// The most capacity that all counters or lists of a name reach together.
    capacities: Vec<Capacity>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Capacity {
    /// `counters` or `lists`.
    tracked: &'static str,
    key: String,
    most: i64,
}

pub(super) fn ceiling(root: &At<'_, '_>) -> Result<Ceiling, UsageError> {
    let spec = root.at("spec");
    spec.object()?;
    let fleet = spec.at("fleetName").text()?.unwrap_or_default().to_owned();
    let mut ceiling = Ceiling { fleet, ..Ceiling::default() };
    ceiling.raise(&spec.at("policy"), DEPTH)?;
    Ok(ceiling)
}

impl Ceiling {
    /// The usage of the fleet at the autoscaler's ceiling; `None` if unknown. For a fleet that does not exist, only
    /// what the autoscaler itself states is known.
    pub fn amounts(&self, fleet: Option<&Value>) -> Result<Option<Amounts>, UsageError> {
        let Some(fleet) = fleet else { return Ok(self.amounts_alone()) };
        let root = At::root(fleet);
        let spec = root.at("spec");
        let template = spec.at("template");
        let server = template.at("spec");
        let mut most = self.replicas;
        for Capacity { tracked, key, most: capacity } in &self.capacities {
            let each = agones::capacity(&server, tracked, key)?.unwrap_or(0);
            // It never exceeds the capacity, so a remainder adds no server.
            most = most.max(capacity.checked_div(each));
        }
        let Some(replicas) = most else { return Ok(None) };
        let fleets = GroupResource::new(agones::GROUP, "fleets");
        let usage = super::scaled(&fleets, fleet, replicas, &NoTemplates)?;
        Ok(Some(usage.amounts.only(|dimension| !matches!(dimension, Dimension::Count(_)))))
    }

    /// Whether it has any bound.
    pub fn is_bounded(&self) -> bool {
        self.replicas.is_some() || !self.capacities.is_empty()
    }

    fn amounts_alone(&self) -> Option<Amounts> {
        let mut amounts = Amounts::default();
        amounts.set(Dimension::GameServers, Quantity::from_integer(self.replicas.unwrap_or(0)));
        let players = self.capacities.iter().filter(|one| one.key == agones::PLAYERS).map(|one| one.most);
        amounts.set(Dimension::Players, Quantity::from_integer(players.max().unwrap_or(0)));
        for Capacity { key, most, .. } in &self.capacities {
            if let Some(dimension) = Dimension::capacity(key) {
                let most = amounts.get(&dimension).max(Quantity::from_integer(*most));
                amounts.set(dimension, most);
            }
        }
        (!amounts.is_empty()).then_some(amounts)
    }

    /// Adds the bounds of a policy. Only the part that its type names applies.
    fn raise(&mut self, policy: &At<'_, '_>, depth: usize) -> Result<(), UsageError> {
        policy.object()?;
        if depth == 0 {
            return Err(policy.wrong("policies are nested too deeply"));
        }
        match policy.at("type").text()? {
            Some("Buffer") => {
                let buffer = policy.at("buffer");
                buffer.object()?;
                self.replicas = self.replicas.max(buffer.at("maxReplicas").count()?);
            }
            Some("Counter") => self.capacity("counters", &policy.at("counter"))?,
            Some("List") => self.capacity("lists", &policy.at("list"))?,
            Some("Schedule") => {
                let schedule = policy.at("schedule");
                schedule.object()?;
                self.raise(&schedule.at("policy"), depth - 1)?;
            }
            Some("Chain") => {
                for entry in policy.at("chain").items()? {
                    self.raise(&entry, depth - 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn capacity(&mut self, tracked: &'static str, policy: &At<'_, '_>) -> Result<(), UsageError> {
        policy.object()?;
        let key = policy.at("key").text()?.unwrap_or_default().to_owned();
        if let Some(most) = policy.at("maxCapacity").count()? {
            self.capacities.push(Capacity { tracked, key, most });
        }
        Ok(())
    }
}
