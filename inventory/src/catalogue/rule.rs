//! Rules: when an object is suspended, progressing, failed or current, and what is then said of it.
//!
//! The order is that of Flux's healthCheckExprs, with three lines of our own: being deleted → suspended → broken →
//! progressing → failed → generation not observed → current → else Pending without a status, Progressing
//! with one (Ready where the kind has no `current`). Within a field the first rule that matches decides.
//! `broken` is what a new attempt does not cure before it has ended: a failure that outlives its retries, so that health
//! does not flap. Failed stands before the generation because some controllers observe a generation only when they
//! succeed.

use std::borrow::Cow;

use kube_cel::cel::Value;

use super::{
    Draft,
    draft::clip,
    expression::Scope,
    link::{SeriesRule, UseRule},
    matching::{Lookup, Rule, Text, text},
    tree,
};
use crate::{Deadline, End, Interner, Layer, Seconds, State, Verdict, expression::describe};

/// How a kind's objects are judged.
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
    /// What tells why a deletion is not over.
    pub(super) deletion_explained_by: Vec<Rule>,
    /// Objects that count towards another layer than their kind's; the first that matches.
    pub(super) layers: Vec<(Layer, Rule)>,
    /// The objects that one of this kind works by.
    pub(super) uses: Vec<UseRule>,
    /// What makes several of this kind a series.
    pub(super) series: Option<SeriesRule>,
    /// The variables that the expressions above use.
    pub(super) variables: Vec<&'static str>,
}

/// What time alone will do to an object.
#[derive(Debug)]
pub(super) struct TimedRule {
    /// When the time begins; without it, when the object entered its state.
    pub(super) at: Option<Lookup>,
    /// How long it lasts.
    pub(super) after: Span,
    /// The states it is waiting in; others it leaves alone.
    pub(super) during: Vec<State>,
    pub(super) end: End,
    pub(super) reason: Option<Text>,
    pub(super) message: Option<Text>,
}

/// How long something lasts.
#[derive(Debug)]
pub(super) enum Span {
    Given(Seconds),
    /// A number of seconds.
    Found(Lookup),
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

    /// Why the deletion of an object that is being deleted is not over, as far as it says.
    pub(super) fn deletion<'a>(&self, scope: &Scope<'a>) -> Result<Cow<'a, str>, RuleError> {
        let found = first(State::Terminating, "deletionExplainedBy", &self.deletion_explained_by, scope)?;
        Ok(found.map_or_else(Cow::default, |draft| draft.message))
    }

    /// Judges an object that is not being deleted.
    pub(super) fn judge<'a>(&self, scope: &Scope<'a>, interner: &Interner) -> Result<Draft<'a>, RuleError> {
        let mut draft = match self.state(scope) {
            // Expressions written for a status need not be ready for none.
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
        for (field, rules) in [("broken", &self.broken), ("failed", &self.failed)] {
            if first(State::Failed, field, rules, scope)?.is_some() {
                return Ok(Some(State::Failed));
            }
        }
        self.good_so_far(scope)
    }

    /// Ready, if the object does its work while something is under way. What it lacks is what is under way: no failure.
    fn good_so_far(&self, scope: &Scope<'_>) -> Result<Option<State>, RuleError> {
        Ok(first(State::Ready, "current", &self.current, scope)?.map(|draft| draft.state))
    }

    /// The deadlines, the earliest first. Of those that have come the first listed counts, since the graver is written
    /// first: one that is listed after an earlier one never does.
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
            // What is listed before it and comes no later leaves nothing for it to decide.
            if found.iter().all(|before: &Deadline| deadline.at < before.at) {
                found.push(deadline);
            }
        }
        // Each comes before those that are listed before it.
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
            None => match draft.since.or_else(|| scope.last_written()) {
                Some(since) => (since, false),
                None => (scope.now, true),
            },
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

/// What ", since …" takes behind a message.
const SINCE_BYTES: usize = 40;

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
            // Argo Rollouts writes a text, which was a hash once.
            Some(Value::String(text)) => Ok(text.parse().ok()),
            Some(other) => Err(format!("{part}.{name}: expected a number, got {}", describe(other))),
        };
    let generation = number("metadata", "generation")?;
    let observed = number("status", "observedGeneration")?;
    Ok(generation.zip(observed).filter(|(generation, observed)| generation > observed && *observed >= 0))
}
