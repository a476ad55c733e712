//! Rules: when an object is suspended, progressing, failed or current, and what is then said of it.
//!
//! The order is that of Flux's healthCheckExprs, with two lines of our own: being deleted → suspended →
//! progressing → failed → generation not observed → current → else Pending without a status, Progressing
//! with one (Ready where the kind has no `current`). Within a field the first rule that matches decides.
//! Failed stands before the generation because some controllers observe a generation only when they succeed.

use std::borrow::Cow;

use kube_cel::cel::Value;

use super::{Draft, draft::clip, expression::Scope, path::FieldPath, tree};
use crate::{
    Deadline, Interner, Layer, Seconds, State, Verdict,
    expression::{Expression, describe},
};

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

/// One way to match an object, and what is told of it then.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) test: Test,
    pub(super) reason: Option<Text>,
    pub(super) message: Option<Text>,
    pub(super) since: Option<Lookup>,
}

/// What a rule looks for.
#[derive(Debug)]
pub(super) enum Test {
    /// An expression that is true.
    Cel(Expression),
    /// A field's value.
    Path(FieldPath, Check),
    /// A condition.
    Condition(ConditionTest),
}

/// What a field's value is compared with.
#[derive(Debug)]
pub(super) enum Check {
    Exists(bool),
    In(Vec<Value>),
    NotIn(Vec<Value>),
}

/// A condition that is looked for in a list of them.
#[derive(Debug)]
pub(super) struct ConditionTest {
    /// Where the lists are: most often `status.conditions`.
    pub(super) lists: FieldPath,
    pub(super) types: Vec<String>,
    pub(super) statuses: Vec<String>,
    /// If not empty, its reason is one of these.
    pub(super) reasons: Vec<String>,
}

/// A value found in the object.
#[derive(Debug)]
pub(super) enum Lookup {
    Path(FieldPath),
    Cel(Expression),
}

/// Words: given, or found in the object.
#[derive(Debug)]
pub(super) enum Text {
    Literal(String),
    Found(Lookup),
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

/// What the match itself tells, for a rule that does not say.
#[derive(Debug, Default)]
struct Found<'a> {
    reason: Cow<'a, str>,
    message: Cow<'a, str>,
    since: Option<Seconds>,
}

impl Rule {
    fn matches<'a>(&self, scope: &Scope<'a>) -> Result<Option<Found<'a>>, String> {
        match &self.test {
            Test::Cel(expression) => Ok(scope.holds(expression)?.then(Found::default)),
            Test::Path(path, check) => check.matches(path, scope.object),
            Test::Condition(test) => test.matches(scope.object),
        }
    }
}

impl Check {
    fn matches<'a>(&self, path: &FieldPath, object: &'a Value) -> Result<Option<Found<'a>>, String> {
        let values = path.values(object);
        let (among, wanted) = match self {
            Check::Exists(wanted) => return Ok((values.is_empty() != *wanted).then(Found::default)),
            Check::In(among) => (among, true),
            Check::NotIn(among) => (among, false),
        };
        for value in values {
            // A list of one type is checked when the catalogue is read.
            if let Some(expected) = among.first().filter(|first| describe(first) != describe(value)) {
                let (expected, got) = (describe(expected), describe(value));
                return Err(format!("{path}: expected {expected}, got {got}"));
            }
            if among.contains(value) == wanted {
                return Ok(Some(named(value)));
            }
        }
        Ok(None)
    }
}

/// A phase is a reason if it is one word, else a message.
fn named(value: &Value) -> Found<'_> {
    let Value::String(text) = value else { return Found::default() };
    match text.chars().next() {
        Some(first) if text.chars().all(|c| c.is_ascii_alphanumeric()) => {
            let reason = if first.is_ascii_lowercase() {
                Cow::Owned(format!("{}{}", first.to_ascii_uppercase(), &text[1..]))
            } else {
                Cow::Borrowed(text.as_str())
            };
            Found { reason, ..Found::default() }
        }
        _ => Found { message: Cow::Borrowed(text), ..Found::default() },
    }
}

impl ConditionTest {
    fn matches<'a>(&self, object: &'a Value) -> Result<Option<Found<'a>>, String> {
        for list in self.lists.values(object) {
            let Value::List(conditions) = list else {
                return Err(format!("{}: expected a list, got {}", self.lists, describe(list)));
            };
            for condition in conditions.iter() {
                if let Some(found) = self.matches_one(condition)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    fn matches_one<'a>(&self, condition: &'a Value) -> Result<Option<Found<'a>>, String> {
        let text = |name: &str| match tree::field(condition, name) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(other) => {
                Err(format!("{}[*].{name}: expected a string, got {}", self.lists, describe(other)))
            }
        };
        let one_of = |among: &[String], text: &str| among.iter().any(|one| one == text);
        let reason = text("reason")?;
        let matches = one_of(&self.types, text("type")?)
            && one_of(&self.statuses, text("status")?)
            && (self.reasons.is_empty() || one_of(&self.reasons, reason));
        if !matches {
            return Ok(None);
        }
        let since = match text("lastTransitionTime")? {
            "" => None,
            at => Some(seconds(at).ok_or_else(|| {
                format!("{}[*].lastTransitionTime: expected an RFC 3339 timestamp, got {at:?}", self.lists)
            })?),
        };
        // Kubelet and others leave the reason out; the type says what happened then.
        let reason = if reason.is_empty() { text("type")? } else { reason };
        Ok(Some(Found { reason: reason.into(), message: text("message")?.into(), since }))
    }
}

impl Lookup {
    /// The first value, if there is one.
    fn value(&self, scope: &Scope<'_>) -> Result<Option<Value>, String> {
        match self {
            Lookup::Path(path) => Ok(path.values(scope.object).first().copied().cloned()),
            Lookup::Cel(expression) => Ok(Some(scope.evaluate(expression)?).filter(|v| *v != Value::Null)),
        }
    }

    fn instant(&self, scope: &Scope<'_>) -> Result<Option<Seconds>, String> {
        match self.value(scope)? {
            None => Ok(None),
            // Longhorn writes an empty string for never.
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => seconds(&text)
                .map(Some)
                .ok_or_else(|| format!("expected an RFC 3339 timestamp, got {text:?}")),
            Some(Value::Timestamp(at)) => Ok(Some(at.timestamp())),
            Some(other) => Err(format!("expected a timestamp, got {}", describe(&other))),
        }
    }
}

fn text<'a>(text: Option<&Text>, scope: &Scope<'_>) -> Result<Option<Cow<'a, str>>, String> {
    match text {
        None => Ok(None),
        Some(Text::Literal(words)) => Ok(Some(Cow::Owned(words.clone()))),
        Some(Text::Found(lookup)) => match lookup.value(scope)? {
            None => Ok(None),
            Some(Value::String(words)) => Ok(Some(Cow::Owned(words.to_string()))),
            Some(other) => Err(format!("expected a string, got {}", describe(&other))),
        },
    }
}

/// An RFC 3339 instant, to the second.
pub(super) fn seconds(text: &str) -> Option<Seconds> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
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
