//! Collects additions to an object as a patch, and applies each to a copy at once.

use json_patch::{AddOperation, Patch, PatchOperation, jsonptr::PointerBuf};
use serde_json::{Map, Value};

/// Additions to an object.
pub(crate) struct Additions {
    object: Value,
    operations: Vec<PatchOperation>,
}

/// A path in an object: names of fields, and indices of lists.
pub(crate) type Path<'p> = [&'p str];

impl Additions {
    pub(crate) fn to(object: &Value) -> Self {
        Self { object: object.clone(), operations: Vec::new() }
    }

    pub(crate) fn into_patch(self) -> Patch {
        Patch(self.operations)
    }

    /// The current value; `None` if it is absent or null.
    pub(super) fn get(&self, path: &Path<'_>) -> Option<&Value> {
        #[cfg(debug_assertions)]
        self.check(path);
        path.iter().try_fold(&self.object, child).filter(|value| !value.is_null())
    }

    /// Asserts that the path is read, since a field that is not read would seem absent.
    #[cfg(debug_assertions)]
    fn check(&self, path: &Path<'_>) {
        let mut at = Some(&self.object);
        let steps = path.iter().map(|step| {
            let is_element = at.is_some_and(Value::is_array) && step.parse::<usize>().is_ok();
            at = at.and_then(|at| child(at, step));
            if is_element { "[]" } else { *step }
        });
        assert!(crate::looks::covers(steps), "{path:?} is not among what is read of objects, see looks.rs");
    }

    /// Sets a field if it is absent.
    pub(super) fn add(&mut self, path: &Path<'_>, value: Option<Value>) {
        let Some(value) = value else { return };
        if self.get(path).is_none() {
            self.set(path, value);
        }
    }

    /// Sets a field, whatever its value. Missing maps on the path are created; if the path leads through another type,
    /// the object is left as it is, and validation reports the error. `spec` is never created: an object without one
    /// must be denied, not completed.
    pub(crate) fn set(&mut self, path: &Path<'_>, value: Value) {
        for end in 1..path.len() {
            match self.get(&path[..end]) {
                Some(Value::Object(_) | Value::Array(_)) => {}
                None if path[..end] != ["spec"] => self.put(&path[..end], Value::Object(Map::new())),
                _ => return,
            }
        }
        self.put(path, value);
    }

    fn put(&mut self, path: &Path<'_>, value: Value) {
        let Some((last, parents)) = path.split_last() else { return };
        let parent = parents.iter().try_fold(&mut self.object, |at, step| match at {
            Value::Object(fields) => fields.get_mut(*step),
            Value::Array(elements) => elements.get_mut(step.parse::<usize>().ok()?),
            _ => None,
        });
        if let Some(Value::Object(fields)) = parent {
            fields.insert((*last).to_owned(), value.clone());
            let path = PointerBuf::from_tokens(path.iter().copied());
            self.operations.push(PatchOperation::Add(AddOperation { path, value }));
        }
    }
}

fn child<'v>(value: &'v Value, step: &&str) -> Option<&'v Value> {
    match value {
        Value::Object(fields) => fields.get(*step),
        Value::Array(elements) => elements.get(step.parse::<usize>().ok()?),
        _ => None,
    }
}
