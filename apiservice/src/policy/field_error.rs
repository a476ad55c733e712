//! What is wrong with a field, worded as Kubernetes words it.

use std::fmt;

/// A field with a value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Which, for example `spec.hard[players]` or `spec.rules.freezes[0].timeZone`.
    pub field: String,
    /// What it says.
    pub value: String,
    /// What is wrong with that.
    pub message: String,
}

impl FieldError {
    /// `field` says `value`, and `message` says why that will not do.
    pub fn new(field: impl Into<String>, value: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.into(), message: message.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// What was written may be a book; enough of it to find it again.
        const SHOWN: usize = 128;
        let Self { field, value, message } = self;
        match value.char_indices().nth(SHOWN) {
            None => write!(f, "{field}: Invalid value: {value:?}: {message}"),
            Some((end, _)) => {
                write!(f, "{field}: Invalid value: {:?}: {message}", format!("{}…", &value[..end]))
            }
        }
    }
}

impl std::error::Error for FieldError {}
