//! What the replicas of an installation maintain in the Kubernetes API: leader election, one number for each replica,
//! serving certificates, and the registrations through which kube-apiserver finds and trusts the servers.
//!
//! The name of every object is known beforehand, so the RBAC rules need no verb for a whole kind: each of them has
//! `resourceNames`.

pub mod certificates;
mod empty_object;
mod error;
pub mod lease;
mod metrics;
pub mod number;
mod problem_log;
pub mod registration;

pub use gatehouse_apiservice::FIELD_MANAGER;
