//! A field of an object and its path, so that errors name the field.

use std::fmt;

use gatehouse_apiservice::{policy::FieldError, quantity::Quantity};
use serde_json::{Map, Value};

use super::UsageError;

/// A place in an object, which may be empty. Null is empty.
#[derive(Clone, Copy)]
pub(super) struct At<'v, 'p> {
    value: Option<&'v Value>,
    parent: Option<&'p At<'v, 'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Key(&'a str),
    Index(usize),
}

impl<'v, 'p> At<'v, 'p> {
    /// The object itself.
    pub(super) fn root(object: &'v Value) -> Self {
        Self { value: Some(object), parent: None, step: Step::Root }
    }

    /// A tree that is named as if it were at `parent`.
    pub(super) fn beneath(parent: &'p At<'v, 'p>, value: &'v Value) -> Self {
        Self { value: present(Some(value)), parent: Some(parent), step: Step::Root }
    }

    /// The field `name`. A value that is not an object has none; [`At::object`] reports that.
    pub(super) fn at<'q>(&'q self, name: &'q str) -> At<'v, 'q>
    where
        'p: 'q,
    {
        At { value: self.child(name), parent: Some(self), step: Step::Field(name) }.covered()
    }

    /// The entry `key` of a map.
    pub(super) fn key<'q>(&'q self, key: &'q str) -> At<'v, 'q>
    where
        'p: 'q,
    {
        At { value: self.child(key), parent: Some(self), step: Step::Key(key) }.covered()
    }

    /// Checks that the field is read from objects: else it would seem to be absent.
    fn covered(self) -> Self {
        #[cfg(debug_assertions)]
        {
            let mut steps = Vec::new();
            let mut at = Some(&self);
            while let Some(place) = at {
                match place.step {
                    Step::Root => break,
                    Step::Field(name) | Step::Key(name) => steps.push(name),
                    Step::Index(_) => steps.push("[]"),
                }
                at = place.parent;
            }
            let is_covered = super::looks::covers(steps.into_iter().rev());
            assert!(is_covered, "{self} is not among what is read of objects, see looks.rs");
        }
        self
    }

    fn child(&self, name: &str) -> Option<&'v Value> {
        present(self.value?.get(name))
    }

    /// The value as it stands, if it is an object or nothing.
    pub(super) fn object(&self) -> Result<Option<&'v Map<String, Value>>, UsageError> {
        self.read("an object", Value::as_object)
    }

    pub(super) fn text(&self) -> Result<Option<&'v str>, UsageError> {
        self.read("a string", Value::as_str)
    }

    /// Whether it is not empty.
    pub(super) fn is_some(&self) -> bool {
        self.value.is_some()
    }

    /// A list, which may be absent.
    pub(super) fn items<'q>(&'q self) -> Result<impl Iterator<Item = At<'v, 'q>>, UsageError>
    where
        'p: 'q,
    {
        let items = self.read("a list", Value::as_array)?;
        let item = move |(index, value)| At {
            value: present(Some(value)),
            parent: Some(self),
            step: Step::Index(index),
        };
        Ok(items.into_iter().flatten().enumerate().map(item))
    }

    /// A non-negative integer.
    pub(super) fn count(&self) -> Result<Option<i64>, UsageError> {
        let Some(value) = self.value else { return Ok(None) };
        let Some(count) = whole(value) else { return Err(self.wrong("must be an integer")) };
        if count < 0 {
            return Err(self.wrong("must not be negative"));
        }
        Ok(Some(count))
    }

    /// A non-negative quantity, as text or as a number, within the range of Kubernetes.
    pub(super) fn quantity(&self) -> Result<Option<Quantity>, UsageError> {
        let parsed = match self.value {
            None => return Ok(None),
            Some(Value::String(text)) => text.parse::<Quantity>(),
            Some(Value::Number(number)) => number.to_string().parse(),
            Some(_) => return Err(self.wrong("must be a quantity, such as 500m, 2 or 1.5Gi")),
        };
        match parsed {
            Err(error) => Err(self.wrong(error.to_string())),
            Ok(quantity) if quantity.is_negative() => Err(self.wrong("must not be negative")),
            Ok(quantity) if quantity > Quantity::MAX_KUBERNETES => Err(self.out_of_range()),
            Ok(quantity) => Ok(Some(quantity)),
        }
    }

    /// The error that the value here is out of range.
    pub(super) fn out_of_range(&self) -> UsageError {
        self.wrong("out of range")
    }

    /// The error that a value is required here.
    pub(super) fn required(&self) -> UsageError {
        self.wrong("must be given")
    }

    /// The error that the value here is invalid.
    pub(super) fn wrong(&self, message: impl Into<String>) -> UsageError {
        let value = match self.value {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Object(_)) => "{…}".to_owned(),
            Some(Value::Array(_)) => "[…]".to_owned(),
            Some(scalar) => scalar.to_string(),
        };
        FieldError::new(self.to_string(), value, message).into()
    }

    fn read<T>(&self, what: &str, read: fn(&'v Value) -> Option<T>) -> Result<Option<T>, UsageError> {
        self.value.map(|value| read(value).ok_or_else(|| self.wrong(format!("must be {what}")))).transpose()
    }
}

/// Clients in Go write nil as null.
fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

/// `3` and `3.0`, which are the same to kube-apiserver.
fn whole(value: &Value) -> Option<i64> {
    /// Up to here a float represents each integer exactly.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if let Some(value) = value.as_i64() {
        return Some(value);
    }
    let float = value.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= EXACT)?;
    #[expect(clippy::cast_possible_truncation, reason = "whole, and within what is exact")]
    Some(float as i64)
}

impl fmt::Display for At<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let is_first =
            self.parent.is_none_or(|parent| matches!(parent.step, Step::Root) && parent.parent.is_none());
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if is_first => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Key(key) => write!(f, "[{key}]"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}
