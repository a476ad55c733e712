//! Reads the fields of an object whose shape nobody guarantees.

use kube_cel::cel::Value;

use super::tree;
use crate::expression::describe;

/// The maximum of a number in an object: sums over any number of objects stay far below the maximum of `i64`.
pub(super) const MOST: i64 = u32::MAX as i64;

/// Reads fields; an error names the field that has the wrong type.
#[derive(Clone, Copy)]
pub(super) struct Object<'a>(pub(super) &'a Value);

impl<'a> Object<'a> {
    pub(super) fn get(self, path: &[&str]) -> Option<&'a Value> {
        path.iter().try_fold(self.0, |value, name| tree::field(value, name))
    }

    /// An integer from 0 to [`MOST`]; values outside are clamped.
    pub(super) fn number(self, path: &[&str]) -> Result<Option<i64>, String> {
        match self.get(path) {
            None => Ok(None),
            Some(Value::Int(number)) => Ok(Some((*number).clamp(0, MOST))),
            // An integer that is too large for an int is read as a double.
            Some(Value::Float(number)) if *number >= 9e18 => Ok(Some(MOST)),
            Some(other) => Err(wrong(path, "a whole number", other)),
        }
    }

    /// A count in the status; absent means zero, because Go omits zero.
    pub(super) fn status(self, name: &str) -> Result<i64, String> {
        self.number(&["status", name]).map(Option::unwrap_or_default)
    }

    /// A string; empty if absent.
    pub(super) fn text(self, path: &[&str]) -> Result<&'a str, String> {
        match self.get(path) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(wrong(path, "a string", other)),
        }
    }

    /// A string in an item of a list; the error names the list.
    pub(super) fn item_text(self, list: &str, field: &str) -> Result<&'a str, String> {
        self.text(&[field]).map_err(|error| format!("{list}[].{error}"))
    }

    /// A list; empty if absent.
    pub(super) fn list(self, path: &[&str]) -> Result<impl Iterator<Item = Object<'a>> + use<'a>, String> {
        let items = match self.get(path) {
            None => &[],
            Some(Value::List(items)) => items.as_slice(),
            Some(other) => return Err(wrong(path, "a list", other)),
        };
        Ok(items.iter().map(Object))
    }
}

pub(super) fn wrong(path: &[&str], expected: &str, got: &Value) -> String {
    format!("{}: expected {expected}, got {}", path.join("."), describe(got))
}
