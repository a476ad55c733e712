//! Label and field selectors: parsed at the edge, matched against rows.
//!
//! Input: the values of `labelSelector` and `fieldSelector`. Invariants: the grammars are those of
//! `k8s.io/apimachinery` (`labels.Parse`, `fields.ParseSelector`), because a selector that is read more
//! loosely selects more than was asked and authorised for; and [`std::fmt::Display`] writes a canonical form
//! that parses back to the same selector.

mod fields;
mod labels;
mod lexer;
mod names;

pub use fields::{FieldSelector, FieldTerm, field_terms, required_name};
pub use labels::LabelSelector;
