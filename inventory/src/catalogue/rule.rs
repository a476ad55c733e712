//! The rules of a kind: when an object is suspended, progressing, failed or current, and what is reported then.
//!
//! **Invariant:** The order is that of Flux's healthCheckExprs, with three additional checks: being deleted → suspended
//! → broken → progressing → failed → generation not observed → current → else Pending without a status, Progressing
//! with one (Ready if the kind has no `current`). Within a field, the first rule that matches decides.
//!
//! `broken` is a failure that outlives its retries: a new attempt does not clear it until that attempt ends, so the
//! health does not flap. Failed is checked before the generation, because some controllers observe a generation only
//! when they succeed.

use std::borrow::Cow;

use kube_cel::cel::Value;

use super::{
    Draft,
    draft::clip,
    expression::Scope,
    link::{SeriesRule, TargetRule, UseRule},
    matching::{Lookup, Rule, Text, text},
    tree,
};
use crate::{Deadline, End, Interner, Layer, Seconds, State, Verdict, expression::describe};

/// How the objects of a kind are judged.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) suspended: Vec<Rule>,
    pub(super) broken: Vec<Rule>,
    pub(super) progressing: Vec<Rule>,
    pub(super) failed: Vec<Rule>,
    pub(super) current: Vec<Rule>,
    pub(super) deadlines: Vec<TimedRule>,
    /// How long a deletion may take before it counts as stuck.
    pub(super) deleting: Seconds,
    /// Rules that find out why a deletion has not finished.
    pub(super) deletion_explained_by: Vec<Rule>,
    /// Objects that count towards a layer other than that of their kind; the first match decides.
    pub(super) layers: Vec<(Layer, Rule)>,
    /// The objects that an object of this kind uses.
    pub(super) uses: Vec<UseRule>,
    /// What groups objects of this kind into a series.
    pub(super) series: Option<SeriesRule>,
    /// The object that an object of this kind was made for, if its owner is not observed.
    pub(super) made_for: Option<TargetRule>,
    /// The variables that the expressions above use.
    pub(super) variables: Vec<&'static str>,
}

/// A change of an object's state that elapsed time alone causes.
#[derive(Debug)]
pub(super) struct TimedRule {
    /// When the time starts; if absent, when the object entered its state.
    pub(super) at: Option<Lookup>,
    /// How long it lasts.
    pub(super) after: Span,
    /// The states that it applies to; it does not change other states.
    pub(super) during: Vec<State>,
    pub(super) end: End,
    pub(super) reason: Option<Text>,
    pub(super) message: Option<Text>,
}

/// A duration.
#[derive(Debug)]
pub(super) enum Span {
    Given(Seconds),
    /// A number of seconds.
    Found(Lookup),
}

/// The field of a kind that could not be evaluated, and the error.
#[derive(Debug)]
pub(super) struct RuleError {
    pub(super) field: &'static str,
    pub(super) message: String,
}

/// Adds the field name to an evaluation error.
fn within<T>(field: &'static str, result: Result<T, String>) -> Result<T, RuleError> {
    result.map_err(|message| RuleError { field, message })
}

impl Rules {
    /// The layer that this object counts towards instead of that of its kind.
    pub(super) fn layer(&self, scope: &Scope<'_>) -> Result<Option<Layer>, RuleError> {
        for (layer, rule) in &self.layers {
            if within("layers", rule.matches(scope))?.is_some() {
                return Ok(Some(*layer));
            }
        }
        Ok(None)
    }

    /// Why the deletion of this object has not finished, as far as the object reports it.
    pub(super) fn deletion<'a>(&self, scope: &Scope<'a>) -> Result<Cow<'a, str>, RuleError> {
        let found = first(State::Terminating, "deletionExplainedBy", &self.deletion_explained_by, scope)?;
        Ok(found.map_or_else(Cow::default, |draft| draft.message))
    }

    /// Judges an object that is not being deleted.
    pub(super) fn judge<'a>(&self, scope: &Scope<'a>, interner: &Interner) -> Result<Draft<'a>, RuleError> {
        let mut draft = match self.state(scope) {
            // Expressions that are written for a status may fail on an object without one.
            Err(_) if !has_status(scope.object) => Draft::new(State::Pending),
            state => state?,
        };
        draft.deadline = self.deadline(scope, interner, &draft)?;
        Ok(draft)
    }

    fn state<'a>(&self, scope: &Scope<'a>) -> Result<Draft<'a>, RuleError> {
        if let Some(draft) = first(State::Suspended, "suspended", &self.suspended, scope)? {
            return Ok(Draft { last_outcome: self.outcome(scope)?, ..draft });
        }
        if let Some(draft) = first(State::Failed, "broken", &self.broken, scope)? {
            return Ok(draft);
        }
        if let Some(draft) = first(State::Progressing, "progressing", &self.progressing, scope)? {
            return Ok(Draft { last_outcome: self.good_so_far(scope)?, ..draft });
        }
        if let Some(draft) = first(State::Failed, "failed", &self.failed, scope)? {
            return Ok(draft);
        }
        if let Some((generation, observed)) = within("metadata.generation", generation_ahead(scope.object))? {
            return Ok(Draft {
                last_outcome: self.good_so_far(scope)?,
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
        if !has_status(scope.object) {
            return Ok(Draft::new(State::Pending));
        }
        if self.current.is_empty() {
            return Ok(Draft::new(State::Ready));
        }
        Ok(self.lacking(scope))
    }

    /// Of an object of which no rule says anything, what it lacks to be Ready.
    fn lacking<'a>(&self, scope: &Scope<'a>) -> Draft<'a> {
        let mut reason = None;
        let mut words = Vec::new();
        for rule in &self.current {
            if let Some(found) = rule.test.lacks(scope.object) {
                reason = reason.or(Some(found.reason).filter(|reason| !reason.is_empty()));
                words.push(found.message);
            }
        }
        let reason = reason.unwrap_or_else(|| IN_PROGRESS.into());
        Draft { reason, message: words.join(", ").into(), ..Draft::new(State::Progressing) }
    }

    /// The outcome of the last attempt, if the rules can determine it.
    fn outcome(&self, scope: &Scope<'_>) -> Result<Option<State>, RuleError> {
        for (field, rules) in [("broken", &self.broken), ("failed", &self.failed)] {
            if first(State::Failed, field, rules, scope)?.is_some() {
                return Ok(Some(State::Failed));
            }
        }
        self.good_so_far(scope)
    }

    /// Ready, if the object works while an operation is in progress. What it still lacks is that operation, not a
    /// failure.
    fn good_so_far(&self, scope: &Scope<'_>) -> Result<Option<State>, RuleError> {
        Ok(first(State::Ready, "current", &self.current, scope)?.map(|draft| draft.state))
    }

    /// The deadlines, earliest first. Of the deadlines that have passed, the one listed first decides, because the more
    /// severe ones are listed first. A deadline that is listed after an earlier one never takes effect.
    fn deadline(
        &self,
        scope: &Scope<'_>,
        interner: &Interner,
        draft: &Draft<'_>,
    ) -> Result<Option<Box<Deadline>>, RuleError> {
        let mut found = Vec::new();
        for rule in self.deadlines.iter().filter(|rule| rule.during.contains(&draft.state)) {
            let Some(deadline) = within("deadlines", rule.deadline(scope, interner, draft))? else {
                continue;
            };
            // A deadline has no effect if one that is listed before it does not come later.
            if found.iter().all(|before: &Deadline| deadline.at < before.at) {
                found.push(deadline);
            }
        }
        // Each deadline is earlier than those listed before it.
        let chain = |next, deadline| Some(Box::new(Deadline { next, ..deadline }));
        Ok(found.into_iter().fold(None, chain))
    }
}

impl TimedRule {
    fn deadline(
        &self,
        scope: &Scope<'_>,
        interner: &Interner,
        draft: &Draft<'_>,
    ) -> Result<Option<Deadline>, String> {
        let after = match &self.after {
            Span::Given(seconds) => *seconds,
            Span::Found(lookup) => match lookup.seconds(scope)? {
                Some(seconds) => seconds,
                None => return Ok(None),
            },
        };
        let (since, observed) = match &self.at {
            Some(at) => match at.instant(scope)? {
                Some(at) => (at, false),
                None => return Ok(None),
            },
            // A write that changes nothing about the state does not restart the time, so both are only the latest
            // possible start.
            None => draft
                .since
                .map_or_else(|| (scope.last_written().unwrap_or(scope.now), true), |since| (since, false)),
        };
        let reason = text(self.reason.as_ref(), scope)?;
        let message = text(self.message.as_ref(), scope)?;
        let message = message.as_ref().unwrap_or(&draft.message);
        Ok(Some(Deadline {
            at: since.saturating_add(after),
            since,
            observed,
            end: self.end,
            reason: interner.intern(reason.as_ref().unwrap_or(&draft.reason)),
            message: interner.intern(clip(message, Verdict::MESSAGE_BYTES - SINCE_BYTES)),
            passed: false,
            next: None,
        }))
    }
}

/// The reason for an object that says nothing of itself, as kstatus names it.
const IN_PROGRESS: &str = "InProgress";

/// The length of ", since …" after a message.
const SINCE_BYTES: usize = 40;

/// The verdict of the first rule that matches.
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

/// Whether a controller has written a status.
fn has_status(object: &Value) -> bool {
    matches!(tree::field(object, "status"), Some(Value::Map(status)) if !status.map.is_empty())
}

/// `metadata.generation` and `status.observedGeneration`, if the latter is behind.
fn generation_ahead(object: &Value) -> Result<Option<(i64, i64)>, String> {
    let number =
        |part: &str, name: &str| match tree::field(object, part).and_then(|part| tree::field(part, name)) {
            None => Ok(None),
            Some(Value::Int(number)) => Ok(Some(*number)),
            // Argo Rollouts writes a string, which was a hash in older versions.
            Some(Value::String(text)) => Ok(text.parse().ok()),
            Some(other) => Err(format!("{part}.{name}: expected a number, got {}", describe(other))),
        };
    let generation = number("metadata", "generation")?;
    let observed = number("status", "observedGeneration")?;
    Ok(generation.zip(observed).filter(|(generation, observed)| generation > observed && *observed >= 0))
}
