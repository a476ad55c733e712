//! `replicas`: the size of a fleet, and the size that an autoscaler may scale it to.

use gatehouse_apiservice::policy::ReplicasRule;
use serde_json::Value;

use super::{Errors, Report};
use crate::{
    Dependencies, Kind, Scaling, Subject,
    look::{Look, WrongType},
};

#[derive(Debug)]
pub(crate) struct Replicas {
    max: i64,
}

impl Replicas {
    pub(crate) fn compile(rule: &ReplicasRule, errors: &mut Errors) -> Self {
        if rule.max < 0 {
            errors.refuse("spec.rules.replicas.max", rule.max.to_string(), "must not be negative");
        }
        Self { max: rule.max }
    }

    /// Judges an object. `old` is the object before: one that was too large may be reduced step by step.
    pub(crate) fn check(
        &self,
        subject: &Subject,
        old: Option<&Subject>,
        deps: &dyn Dependencies,
        report: &mut Report<'_>,
    ) -> Result<(), WrongType> {
        match subject.kind {
            Kind::Fleet | Kind::GameServerSet | Kind::KruiseGameServerSet => {
                let field = Look::spec(&subject.object).field("replicas")?;
                let before =
                    old.and_then(|old| Look::spec(&old.object).field("replicas").ok()?.integer().ok()?);
                if let Some(replicas) = field.integer()?
                    && before.is_none_or(|before| replicas >= before)
                {
                    self.bound(&field, replicas, report);
                }
            }
            Kind::FleetAutoscaler => {
                let spec = Look::spec(&subject.object);
                let fleet = spec.field("fleetName")?.string()?.unwrap_or_default();
                let fleet = deps.fleet(&subject.namespace, fleet);
                self.autoscaler(&spec, fleet.as_ref(), report)?;
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn check_scale(&self, scaling: Scaling, report: &mut Report<'_>) {
        if scaling.to > self.max && scaling.to > scaling.from {
            report.broken("spec.replicas", self.message(scaling.to), self.hint());
        }
    }

    /// Walks the policies of an autoscaler: a schedule contains one, a chain several. Only the part that `type` names
    /// is in force.
    fn autoscaler(
        &self,
        spec: &Look<'_>,
        fleet: Option<&Value>,
        report: &mut Report<'_>,
    ) -> Result<(), WrongType> {
        /// The deepest nesting. Agones allows at most a chain of schedules.
        const DEEPEST: usize = 8;
        let mut open = vec![(spec.field("policy")?, 0)];
        while let Some((policy, depth)) = open.pop() {
            if depth == DEEPEST {
                report.broken(policy.path(), "is nested too deep to be judged", "nest fewer policies");
                continue;
            }
            match policy.field("type")?.string()? {
                Some("Buffer") => {
                    let field = policy.at(&["buffer", "maxReplicas"])?;
                    if let Some(replicas) = field.integer()? {
                        self.bound(&field, replicas, report);
                    }
                }
                Some("Counter") => self.capacity(&policy.field("counter")?, "counters", fleet, report)?,
                Some("List") => self.capacity(&policy.field("list")?, "lists", fleet, report)?,
                Some("Schedule") => open.push((policy.at(&["schedule", "policy"])?, depth + 1)),
                // An entry of a chain is a policy with an id.
                Some("Chain") => {
                    open.extend(
                        policy.field("chain")?.elements()?.into_iter().map(|entry| (entry, depth + 1)),
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Judges a limit on the total of a counter or list of all servers, converted to a number of servers. If the fleet
    /// does not exist yet, the limit cannot be converted; its scaling is then judged by the replicas.
    fn capacity(
        &self,
        policy: &Look<'_>,
        tracked: &str,
        fleet: Option<&Value>,
        report: &mut Report<'_>,
    ) -> Result<(), WrongType> {
        /// The default capacity of a counter or list, which the API server fills in.
        const CAPACITY: i64 = 1000;
        let field = policy.field("maxCapacity")?;
        let (Some(most), Some(key), Some(fleet)) = (field.integer()?, policy.field("key")?.string()?, fleet)
        else {
            return Ok(());
        };
        // Errors of the fleet are reported when it is judged. Quotas read the same fields.
        let path = ["spec", "template", "spec", tracked, key];
        let each = path.into_iter().try_fold(fleet, |value, name| value.get(name));
        let Some(each) = each.filter(|each| each.is_object()) else { return Ok(()) };
        let each = each.get("capacity").and_then(Value::as_i64).unwrap_or(CAPACITY);
        if let Some(replicas) = most.checked_div(each)
            && replicas > self.max
        {
            let message = format!("{most} are {replicas} replicas of the fleet, more than {}", self.max);
            report.broken(field.path(), message, "lower the ceiling of the autoscaler");
        }
        Ok(())
    }

    fn bound(&self, field: &Look<'_>, replicas: i64, report: &mut Report<'_>) {
        if replicas > self.max {
            report.broken(field.path(), self.message(replicas), self.hint());
        }
    }

    fn message(&self, replicas: i64) -> String {
        format!("{replicas} is more than {}", self.max)
    }

    fn hint(&self) -> String {
        format!("use {} or fewer", self.max)
    }
}
