//! The contract of the Gatehouse API: what a resource is called, what its objects look like, what its
//! tables show, and how the server is registered. Types and values only; what fills them is in `inventory` and
//! `apiserver`. And, since everything else stands on this crate, what all clients of an API server have in common.

pub mod agones;
pub mod client;
pub mod crds;
pub mod denial;
pub mod duration;
pub mod kubeconfig;
mod meta;
pub mod policy;
pub mod quantity;
pub mod registration;
mod resource;
pub mod view;

pub use meta::{Condition, ConditionStatus, Time};
pub use resource::{Cell, Column, ColumnType, Resource, View};
