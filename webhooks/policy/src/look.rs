//! Reads fields of an object. **Invariant:** a field of the wrong type is a violation that names it; it never passes
//! silently.

use serde_json::{Map, Value};

/// A field of the wrong type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrongType {
    /// Its path.
    pub(crate) field: String,
    /// The expected and the actual type.
    pub(crate) message: String,
}

impl WrongType {
    fn new(field: &str, expected: &str, found: &Value) -> Self {
        Self { field: field.to_owned(), message: format!("must be {expected}, is {}", describe(found)) }
    }
}

/// A place in an object: its value, if any, and its path.
#[derive(Debug, Clone)]
pub(crate) struct Look<'a> {
    value: Option<&'a Value>,
    path: String,
}

impl<'a> Look<'a> {
    /// The `spec` of an object.
    pub(crate) fn spec(object: &'a Value) -> Self {
        Self { value: object.get("spec"), path: "spec".into() }.or_absent()
    }

    /// Its path.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Whether it has a value.
    pub(crate) fn is_some(&self) -> bool {
        self.value.is_some()
    }

    /// A field of it; null counts as absent.
    pub(crate) fn field(&self, name: &str) -> Result<Self, WrongType> {
        let fields = self.map()?;
        let value = fields.and_then(|fields| fields.get(name));
        let look = Self { value, path: format!("{}.{name}", self.path) };
        #[cfg(debug_assertions)]
        assert!(look.is_covered(), "{} is not among what is read of objects, see looks.rs", look.path);
        Ok(look.or_absent())
    }

    /// A field at a path of names.
    pub(crate) fn at(&self, path: &[&str]) -> Result<Self, WrongType> {
        path.iter().try_fold(self.clone(), |look, name| look.field(name))
    }

    /// Its elements; empty if it is absent, an error if it is not a list.
    pub(crate) fn elements(&self) -> Result<Vec<Self>, WrongType> {
        let list = match self.value {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(WrongType::new(&self.path, "a list", other)),
        };
        let element = |(index, value): (usize, &'a Value)| {
            Self { value: Some(value), path: format!("{}[{index}]", self.path) }.or_absent()
        };
        Ok(list.iter().enumerate().map(element).collect())
    }

    /// The string, if present.
    pub(crate) fn string(&self) -> Result<Option<&'a str>, WrongType> {
        match self.value {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(WrongType::new(&self.path, "a string", other)),
        }
    }

    /// The boolean, if present.
    pub(crate) fn boolean(&self) -> Result<Option<bool>, WrongType> {
        match self.value {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(WrongType::new(&self.path, "a boolean", other)),
        }
    }

    /// The whole number, if present.
    pub(crate) fn integer(&self) -> Result<Option<i64>, WrongType> {
        let Some(value) = self.value else { return Ok(None) };
        // Numbers beyond i64 are rejected; a number in JSON may have a fraction of zero.
        let number = value.as_i64().or_else(|| {
            let float = value.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15)?;
            #[allow(clippy::cast_possible_truncation, reason = "whole, and within 2⁵³")]
            Some(float as i64)
        });
        number.map(Some).ok_or_else(|| WrongType::new(&self.path, "a whole number", value))
    }

    /// The map, if present.
    pub(crate) fn map(&self) -> Result<Option<&'a Map<String, Value>>, WrongType> {
        match self.value {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(fields)),
            Some(other) => Err(WrongType::new(&self.path, "a map", other)),
        }
    }

    /// Whether objects are read up to this path.
    #[cfg(debug_assertions)]
    fn is_covered(&self) -> bool {
        let steps = self.path.split('.').flat_map(|step| {
            let (name, lists) = step.split_once('[').unwrap_or((step, ""));
            std::iter::once(name).chain(lists.matches(']').map(|_| "[]"))
        });
        crate::looks::covers(steps)
    }

    fn or_absent(mut self) -> Self {
        self.value = self.value.filter(|value| !value.is_null());
        self
    }
}

/// The type of a value, for an error message.
fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
