//! Holds the values that the conditions of a policy see of a request, converted once for all of them, and their shared
//! budget.

use std::cell::OnceCell;
use std::time::Instant;

use gatehouse_inventory::expression::{Budget, Memo, value_of};
use kube_cel::cel::Value as CelValue;
use serde_json::{Value, json};

use super::compile::VARIABLES;
use crate::{Case, Subject, parameters::Usable};

/// The values of a request or an object.
pub(crate) struct Seen<'a> {
    pub(super) object: &'a Subject,
    pub(super) old: Option<&'a Subject>,
    case: Option<&'a Case<'a>>,
    params: &'a Usable<CelValue>,
    values: [OnceCell<CelValue>; VARIABLES.len()],
    pub(super) memo: Memo,
    until: Option<Instant>,
    pub(super) budget: Budget,
}

/// Why a variable has no value.
pub(super) enum Unknown {
    /// It is unknown for existing objects: the condition is not judged.
    OfExisting,
    /// Something that should exist is missing.
    Missing(String),
}

impl<'a> Seen<'a> {
    /// Creates the values. `case` is `None` for existing objects, since their request is unknown.
    pub(super) fn new(
        object: &'a Subject,
        old: Option<&'a Subject>,
        case: Option<&'a Case<'a>>,
        params: &'a Usable<CelValue>,
        memo: Memo,
        budget: Budget,
    ) -> Self {
        Self { object, old, case, params, values: Default::default(), memo, until: None, budget }
    }

    /// Sets the deadline of evaluation.
    pub(super) fn until(self, until: Option<Instant>) -> Self {
        Self { until, ..self }
    }

    /// The remaining steps of the budget.
    pub(crate) fn steps_left(&self) -> u64 {
        self.budget.steps_left()
    }

    pub(super) fn is_late(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// The value of a variable.
    pub(super) fn value(&self, name: &'static str) -> Result<CelValue, Unknown> {
        let make = || match name {
            "object" => Ok(value_of(&self.object.object)),
            "oldObject" => Ok(value_of(self.old.map_or(&Value::Null, |old| &old.object))),
            "request" => {
                let case = self.case.ok_or(Unknown::OfExisting)?;
                Ok(value_of(&request(case, self.object)))
            }
            "namespaceObject" => self.object.namespace_object().map(value_of).ok_or_else(|| {
                Unknown::Missing(format!("the Namespace {} is not known", self.object.namespace))
            }),
            _ => self.params.clone().map_err(Unknown::Missing),
        };
        let Some(at) = VARIABLES.iter().position(|variable| *variable == name) else { return make() };
        if let Some(known) = self.values[at].get() {
            return Ok(known.clone());
        }
        make().inspect(|value| drop(self.values[at].set(value.clone())))
    }
}

fn request(case: &Case<'_>, object: &Subject) -> Value {
    let user = case.user.map(|user| json!({"username": user.name, "groups": user.groups}));
    json!({
        "operation": case.operation.as_str(),
        "namespace": object.namespace,
        "name": object.name,
        "userInfo": user.unwrap_or_else(|| json!({"username": "", "groups": []})),
    })
}
