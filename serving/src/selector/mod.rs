//! Label and field selectors, from the query parameters `labelSelector` and `fieldSelector`.
//!
//! **Invariants:** the grammars are those of `k8s.io/apimachinery` (`labels.Parse`, `fields.ParseSelector`), because a
//! more lenient parser would select more than was requested and authorized. [`std::fmt::Display`] writes a canonical
//! form, which parses to the same selector.

mod fields;
mod labels;
mod lexer;
mod names;

pub use fields::{FieldSelector, FieldTerm, field_terms, required_name};
pub use labels::LabelSelector;
