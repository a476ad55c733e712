//! Reconcile policies: compiled when they are written, judged on objects. No I/O.
//!
//! [`Policy::compile`] reads a ReconcilePolicy and names every field that is wrong with it. [`Policy::judge`] judges a
//! request at admission, [`Policy::audit`] an object that exists, [`defaults`] fills in what an object leaves out,
//! and [`Policy::active_freeze`] says whether changes are held back at an instant. The caller brings the clock, the
//! dependencies that exist, and the answers of SubjectAccessReview.

mod case;
mod content;
mod cycle_core;
mod defaults;
mod dns;
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

pub use case::{Accounts, Case, Operation, Scaling, User, Verb, Violation};
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
