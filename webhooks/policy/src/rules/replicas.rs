//! `replicas`: how large a fleet may be, and how large an autoscaler may make it.

use gatehouse_apiservice::policy::ReplicasRule;

use super::{Errors, Report};
use crate::{
    Kind, Scaling, Subject,
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

    /// `old`: the object before. One that was too large may become smaller step by step.
    pub(crate) fn check(
        &self,
        subject: &Subject,
        old: Option<&Subject>,
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
            Kind::FleetAutoscaler => self.autoscaler(&Look::spec(&subject.object), report)?,
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn check_scale(&self, scaling: Scaling, report: &mut Report<'_>) {
        if scaling.to > self.max && scaling.to > scaling.from {
            report.broken("spec.replicas", self.message(scaling.to), self.hint());
        }
    }

    /// Walks the policies of an autoscaler: a schedule holds one, a chain several.
    fn autoscaler(&self, spec: &Look<'_>, report: &mut Report<'_>) -> Result<(), WrongType> {
        /// As Agones nests them, a chain of schedules is the deepest there is.
        const DEEPEST: usize = 8;
        let mut open = vec![(spec.field("policy")?, 0)];
        while let Some((policy, depth)) = open.pop() {
            let field = policy.at(&["buffer", "maxReplicas"])?;
            if let Some(replicas) = field.integer()? {
                self.bound(&field, replicas, report);
            }
            if depth == DEEPEST {
                report.broken(policy.path(), "is nested too deep to be judged", "nest fewer policies");
                continue;
            }
            let inner = policy.at(&["schedule", "policy"])?;
            if inner.is_some() {
                open.push((inner, depth + 1));
            }
            for entry in policy.field("chain")?.elements()? {
                // An entry of a chain is a policy with an id.
                open.push((entry, depth + 1));
            }
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
