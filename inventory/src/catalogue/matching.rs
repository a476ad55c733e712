//! Matches rules against an object. A match has a reason, a message and a time.

use std::borrow::Cow;

use kube_cel::cel::Value;

use super::{expression::Scope, path::FieldPath, tree};
use crate::{
    Seconds,
    expression::{Expression, describe},
};

/// One way to match an object, and what is reported for a match.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) test: Test,
    pub(super) reason: Option<Text>,
    pub(super) message: Option<Text>,
    pub(super) since: Option<Lookup>,
}

/// The condition of a rule.
#[derive(Debug)]
pub(super) enum Test {
    /// A CEL expression that must be true.
    Cel(Expression),
    /// The value of a field.
    Path(FieldPath, Check),
    /// A status condition.
    Condition(ConditionTest),
}

/// What the value of a field is compared with.
#[derive(Debug)]
pub(super) enum Check {
    Exists(bool),
    In(Vec<Value>),
    NotIn(Vec<Value>),
}

/// A test for a condition in a list of conditions.
#[derive(Debug)]
pub(super) struct ConditionTest {
    /// The path of the lists, usually `status.conditions`.
    pub(super) lists: FieldPath,
    /// The condition types; the one that explains most comes first.
    pub(super) types: Vec<String>,
    /// The accepted statuses; the empty string matches a condition without a status.
    pub(super) statuses: Vec<String>,
    /// The accepted reasons, if not empty.
    pub(super) reasons: Vec<String>,
    /// The excluded reasons.
    pub(super) not_reasons: Vec<String>,
    /// Whether conditions of an older generation of the object are ignored.
    pub(super) latest: bool,
}

/// A value to look up in the object.
#[derive(Debug)]
pub(super) enum Lookup {
    Path(FieldPath),
    Cel(Expression),
}

/// A text, given in the rule or looked up in the object.
#[derive(Debug)]
pub(super) enum Text {
    Literal(String),
    Found(Lookup),
}

/// What the match itself provides, for rules that do not set it.
#[derive(Debug, Default)]
pub(super) struct Found<'a> {
    pub(super) reason: Cow<'a, str>,
    pub(super) message: Cow<'a, str>,
    pub(super) since: Option<Seconds>,
}

impl Rule {
    pub(super) fn matches<'a>(&self, scope: &Scope<'a>) -> Result<Option<Found<'a>>, String> {
        match &self.test {
            Test::Cel(expression) => Ok(scope.holds(expression)?.then(Found::default)),
            Test::Path(path, check) => check.matches(path, scope.object),
            Test::Condition(test) => test.matches(scope.object),
        }
    }
}

impl Test {
    /// What an object that does not match has instead. Expressions do not tell.
    pub(super) fn lacks<'a>(&self, object: &'a Value) -> Option<Found<'a>> {
        match self {
            Test::Cel(_) => None,
            Test::Path(path, _) => path.values(object).first().map(|value| {
                let value = match value {
                    Value::String(text) => text.to_string(),
                    Value::Bool(flag) => flag.to_string(),
                    Value::Int(number) => number.to_string(),
                    other => describe(other).to_owned(),
                };
                Found { message: format!("{path} is {value}").into(), ..Found::default() }
            }),
            Test::Condition(test) => test.lacks(object),
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
            // The catalogue checks when it is read that the values of this list have one type.
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

/// A phase becomes the reason if it is one word, else the message.
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
    /// If several conditions match, the one whose type is listed first provides the reason.
    fn matches<'a>(&self, object: &'a Value) -> Result<Option<Found<'a>>, String> {
        let generation = if self.latest { number(object, &["metadata", "generation"])? } else { None };
        let mut best = None;
        for list in self.lists.values(object) {
            let Value::List(conditions) = list else {
                return Err(format!("{}: expected a list, got {}", self.lists, describe(list)));
            };
            for condition in conditions.iter() {
                let observed = number(condition, &["observedGeneration"])?;
                if generation.zip(observed).is_some_and(|(generation, observed)| observed < generation) {
                    continue;
                }
                if let Some((rank, found)) = self.matches_one(condition)?
                    && best.as_ref().is_none_or(|(known, _)| rank < *known)
                {
                    best = Some((rank, found));
                }
            }
        }
        Ok(best.map(|(_, found)| found))
    }

    /// The first of the conditions, with whichever status it has.
    fn lacks<'a>(&self, object: &'a Value) -> Option<Found<'a>> {
        fn text<'a>(condition: &'a Value, name: &str) -> &'a str {
            match tree::field(condition, name) {
                Some(Value::String(text)) => text,
                _ => "",
            }
        }
        let lists = self.lists.values(object).into_iter();
        let conditions = lists.flat_map(|list| match list {
            Value::List(conditions) => conditions.as_slice(),
            _ => &[],
        });
        let mut found =
            conditions.filter(|condition| self.types.iter().any(|type_| type_ == text(condition, "type")));
        found.next().map(|condition| {
            // It has the right status, so that it is of another generation.
            if self.latest && self.statuses.iter().any(|status| status == text(condition, "status")) {
                let message = "what its controller reports is of an older generation".into();
                return Found { reason: "LatestGenerationNotObserved".into(), message, since: None };
            }
            let message = match text(condition, "message") {
                "" => format!("{} is {}", text(condition, "type"), text(condition, "status")).into(),
                message => Cow::Borrowed(message),
            };
            Found { reason: text(condition, "reason").into(), message, since: None }
        })
    }

    /// The match, and the index of the condition's type in the rule.
    fn matches_one<'a>(&self, condition: &'a Value) -> Result<Option<(usize, Found<'a>)>, String> {
        let text = |name: &str| match tree::field(condition, name) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(other) => {
                Err(format!("{}[*].{name}: expected a string, got {}", self.lists, describe(other)))
            }
        };
        let one_of = |among: &[String], text: &str| among.iter().any(|one| one == text);
        let reason = text("reason")?;
        let type_ = text("type")?;
        let Some(rank) = self.types.iter().position(|one| one == type_) else { return Ok(None) };
        let matches = one_of(&self.statuses, text("status")?)
            && (self.reasons.is_empty() || one_of(&self.reasons, reason))
            && !one_of(&self.not_reasons, reason);
        if !matches {
            return Ok(None);
        }
        let since = match text("lastTransitionTime")? {
            "" => None,
            at => Some(seconds(at).ok_or_else(|| {
                format!("{}[*].lastTransitionTime: expected an RFC 3339 timestamp, got {at:?}", self.lists)
            })?),
        };
        // The CRDs of the Gateway API give new objects conditions with a time in 1970.
        let since = since.filter(|since| *since > 0);
        // Kubelet and others omit the reason; the type is used instead.
        let reason = if reason.is_empty() { type_ } else { reason };
        Ok(Some((rank, Found { reason: reason.into(), message: text("message")?.into(), since })))
    }
}

/// An integer.
fn number(value: &Value, path: &[&str]) -> Result<Option<i64>, String> {
    match path.iter().try_fold(value, |value, name| tree::field(value, name)) {
        None => Ok(None),
        Some(Value::Int(number)) => Ok(Some(*number)),
        Some(other) => Err(format!("{}: expected a number, got {}", path.join("."), describe(other))),
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

    /// A string.
    pub(super) fn text(&self, scope: &Scope<'_>) -> Result<Option<String>, String> {
        match self.value(scope)? {
            None => Ok(None),
            Some(Value::String(words)) => Ok(Some(words.to_string())),
            Some(other) => Err(format!("expected a string, got {}", describe(&other))),
        }
    }

    /// A number of seconds.
    pub(super) fn seconds(&self, scope: &Scope<'_>) -> Result<Option<Seconds>, String> {
        match self.value(scope)? {
            None => Ok(None),
            Some(Value::Int(seconds)) => Ok(Some(seconds)),
            Some(other) => Err(format!("expected a number of seconds, got {}", describe(&other))),
        }
    }

    pub(super) fn instant(&self, scope: &Scope<'_>) -> Result<Option<Seconds>, String> {
        match self.value(scope)? {
            None => Ok(None),
            // Longhorn writes an empty string for "never".
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => seconds(&text)
                .map(Some)
                .ok_or_else(|| format!("expected an RFC 3339 timestamp, got {text:?}")),
            Some(Value::Timestamp(at)) => Ok(Some(at.timestamp())),
            Some(other) => Err(format!("expected a timestamp, got {}", describe(&other))),
        }
    }
}

pub(super) fn text<'a>(text: Option<&Text>, scope: &Scope<'_>) -> Result<Option<Cow<'a, str>>, String> {
    match text {
        None => Ok(None),
        Some(Text::Literal(words)) => Ok(Some(Cow::Owned(words.clone()))),
        Some(Text::Found(lookup)) => Ok(lookup.text(scope)?.map(Cow::Owned)),
    }
}

/// Parses an RFC 3339 timestamp, in whole seconds.
pub(super) fn seconds(text: &str) -> Option<Seconds> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}
