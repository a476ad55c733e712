//! Compiles reconcile policies, and judges objects by them. **Invariant:** this crate does no I/O.
//!
//! [`Policy::compile`] reads a ReconcilePolicy and reports every invalid field. [`Policy::judge`] judges an admission
//! request, [`Policy::audit`] an existing object, [`defaults`] fills in absent fields, and [`Policy::active_freeze`]
//! returns the freeze that is active at an instant. The caller provides the clock, the existing dependencies, and the
//! results of SubjectAccessReview.

mod case;
mod content;
mod cycle_core;
mod defaults;
mod exemptions;
mod fields;
pub mod freeze;
mod glob;
mod kind;
mod look;
mod looks;
mod members;
mod mutation;
mod names;
mod parameters;
mod policy;
mod rules;
mod settings;
mod subject;
mod visible;

pub use case::{Accounts, Case, Operation, Scaling, Verb, Violation};
pub use cycle_core::{CycleCore, Edges};
pub use defaults::defaults;
pub use gatehouse_apiservice::policy::FieldError;
pub use kind::{GOVERNED, Kind, governed};
pub use looks::looks;
pub use mutation::mutation;
pub use names::{ActiveFreeze, Dependencies, ObjectName};
pub use policy::Policy;
pub use rules::{cycles::depends_on, freezes::gains_owner};
pub use subject::{Subject, annotation};

#[cfg(test)]
mod tests;
