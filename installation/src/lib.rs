//! What an installation keeps right by itself, through the Kubernetes API: who leads, whose number is whose, what
//! certificates are served, and how kube-apiserver finds them.
//!
//! An account needs no right to create or read objects by kind for that: every object has a name that is known before.

mod blank;
pub mod certificates;
mod error;
pub mod lease;
mod metrics;
pub mod number;
pub mod registration;
mod troubles;

/// Who owns the fields that are applied.
pub const FIELD_MANAGER: &str = "gatehouse";
