//! Rules: when an object is suspended, progressing, failed or current, and what is then said of it.
//!
//! The order is that of Flux's healthCheckExprs, with two lines of our own: being deleted → suspended →
//! progressing → failed → generation not observed → current → else Pending without a status, Progressing
//! with one (Ready where the kind has no `current`). Within a field the first rule that matches decides.
//! Failed stands before the generation because some controllers observe a generation only when they succeed.

use kube_cel::cel::Value;

use super::{
    Draft,
    draft::clip,
    expression::Scope,
    matching::{Lookup, Rule, Text, text},
    tree,
};
use crate::{Deadline, Interner, Layer, Seconds, State, Verdict, expression::describe};

/// How a kind's objects are judged.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) suspended: Vec<Rule>,
    pub(super) progressing: Vec<Rule>,
    pub(super) failed: Vec<Rule>,
    pub(super) current: Vec<Rule>,
    pub(super) deadlines: Vec<TimedRule>,
    /// Objects that count towards another layer than their kind's; the first that matches.
    pub(super) layers: Vec<(Layer, Rule)>,
    /// The variables that the expressions above use.
    pub(super) uses: Vec<&'static str>,
}

/// What time alone will do to an object.
#[derive(Debug)]
pub(super) struct TimedRule {
    pub(super) at: Lookup,
    /// The states it is waiting in; others it leaves alone.
    pub(super) during: Vec<State>,
    pub(super) state: State,
    pub(super) reason: Option<Text>,
    pub(super) message: Option<Text>,
}

/// Which field of a kind could not be evaluated, and why.
#[derive(Debug)]
pub(super) struct RuleError {
    pub(super) field: &'static str,
    pub(super) message: String,
}

/// Adds the field to an evaluation's error.
fn within<T>(field: &'static str, result: Result<T, String>) -> Result<T, RuleError> {
    result.map_err(|message| RuleError { field, message })
}

impl Rules {
    /// The layer that this object counts towards instead of its kind's.
    pub(super) fn layer(&self, scope: &Scope<'_>) -> Result<Option<Layer>, RuleError> {
        for (layer, rule) in &self.layers {
            if within("layers", rule.matches(scope))?.is_some() {
                return Ok(Some(*layer));
            }
        }
        Ok(None)
    }

    /// Judges an object that is not being deleted.
    pub(super) fn judge<'a>(&self, scope: &Scope<'a>, interner: &Interner) -> Result<Draft<'a>, RuleError> {
        let mut draft = match self.state(scope) {
            // Expressions written for a status need not be ready for none.
            Err(_) if !has_status(scope.object) => Draft::new(State::Pending),
            state => state?,
        };
        self.apply_deadlines(scope, interner, &mut draft)?;
        Ok(draft)
    }

    fn state<'a>(&self, scope: &Scope<'a>) -> Result<Draft<'a>, RuleError> {
        if let Some(draft) = first(State::Suspended, "suspended", &self.suspended, scope)? {
            return Ok(Draft { last_outcome: self.outcome(scope)?, ..draft });
        }
        if let Some(draft) = first(State::Progressing, "progressing", &self.progressing, scope)? {
            return Ok(Draft { last_outcome: self.outcome(scope)?, ..draft });
        }
        if let Some(draft) = first(State::Failed, "failed", &self.failed, scope)? {
            return Ok(draft);
        }
        if let Some((generation, observed)) = within("metadata.generation", generation_ahead(scope.object))? {
            return Ok(Draft {
                last_outcome: self.outcome(scope)?,
                reason: "LatestGenerationNotObserved".into(),
                message: format!(
                    "generation {generation} waits for its controller, which has seen {observed}"
                )
                .into(),
                ..Draft::new(State::Progressing)
            });
        }
        if let Some(draft) = first(State::Ready, "current", &self.current, scope)? {
            return Ok(draft);
        }
        Ok(Draft::new(match tree::field(scope.object, "status") {
            Some(Value::Map(status)) if !status.map.is_empty() => {
                if self.current.is_empty() {
                    State::Ready
                } else {
                    State::Progressing
                }
            }
            _ => State::Pending,
        }))
    }

    /// How the last attempt ended, where the rules can tell.
    fn outcome(&self, scope: &Scope<'_>) -> Result<Option<State>, RuleError> {
        if first(State::Failed, "failed", &self.failed, scope)?.is_some() {
            return Ok(Some(State::Failed));
        }
        Ok(first(State::Ready, "current", &self.current, scope)?.map(|draft| draft.state))
    }

    /// Lets the earliest deadline decide if it has passed; else notes it, for the inventory to come back to.
    fn apply_deadlines<'a>(
        &self,
        scope: &Scope<'a>,
        interner: &Interner,
        draft: &mut Draft<'a>,
    ) -> Result<(), RuleError> {
        let mut earliest: Option<(Seconds, &TimedRule)> = None;
        for rule in self.deadlines.iter().filter(|rule| rule.during.contains(&draft.state)) {
            if let Some(at) = within("deadlines", rule.at.instant(scope))? {
                // Listed first wins among those past: of two that happened, the graver is written first.
                let passed = earliest.is_some_and(|(known, _)| known <= scope.now);
                if !passed && (at <= scope.now || earliest.is_none_or(|(known, _)| at < known)) {
                    earliest = Some((at, rule));
                }
            }
        }
        let Some((at, rule)) = earliest else { return Ok(()) };
        let reason = within("deadlines", text(rule.reason.as_ref(), scope))?.unwrap_or_default();
        let message = within("deadlines", text(rule.message.as_ref(), scope))?.unwrap_or_default();
        if at <= scope.now {
            *draft = Draft { reason, message, since: Some(at), ..Draft::new(rule.state) };
        } else {
            draft.deadline = Some(Box::new(Deadline {
                at,
                state: rule.state,
                reason: interner.intern(&reason),
                message: interner.intern(clip(&message, Verdict::MESSAGE_BYTES)),
            }));
        }
        Ok(())
    }
}

/// The first rule that matches, as a verdict.
fn first<'a>(
    state: State,
    field: &'static str,
    rules: &[Rule],
    scope: &Scope<'a>,
) -> Result<Option<Draft<'a>>, RuleError> {
    for rule in rules {
        let Some(found) = within(field, rule.matches(scope))? else { continue };
        let reason = within(field, text(rule.reason.as_ref(), scope))?;
        let message = within(field, text(rule.message.as_ref(), scope))?;
        let since = match &rule.since {
            Some(since) => within(field, since.instant(scope))?,
            None => found.since,
        };
        return Ok(Some(Draft {
            reason: reason.unwrap_or(found.reason),
            message: message.unwrap_or(found.message),
            since,
            ..Draft::new(state)
        }));
    }
    Ok(None)
}

/// Whether a controller has said anything.
fn has_status(object: &Value) -> bool {
    matches!(tree::field(object, "status"), Some(Value::Map(status)) if !status.map.is_empty())
}

/// `metadata.generation` and `status.observedGeneration`, where the latter lags.
fn generation_ahead(object: &Value) -> Result<Option<(i64, i64)>, String> {
    let number =
        |part: &str, name: &str| match tree::field(object, part).and_then(|part| tree::field(part, name)) {
            None => Ok(None),
            Some(Value::Int(number)) => Ok(Some(*number)),
            Some(other) => Err(format!("{part}.{name}: expected a number, got {}", describe(other))),
        };
    let generation = number("metadata", "generation")?;
    let observed = number("status", "observedGeneration")?;
    Ok(generation.zip(observed).filter(|(generation, observed)| generation > observed && *observed >= 0))
}
