//! The contract of the Gatehouse API: what a resource is called, what its objects look like, what its
//! tables show, and how the server is registered. Types and values only; what fills them is in `inventory` and
//! `apiserver`. And, since everything else stands on this crate, what all clients of an API server have in common.

pub mod action;
pub mod age;
pub mod agones;
pub mod annotation;
pub mod client;
pub mod crds;
pub mod denial;
pub mod dns;
pub mod duration;
pub mod kruise;
pub mod kubeconfig;
pub mod labels;
mod meta;
pub mod policy;
pub mod quantity;
pub mod registration;
pub mod requester;
mod resource;
mod user_info;
pub mod view;

pub use meta::{Condition, ConditionStatus, Time};
pub use resource::{Cell, Column, ColumnType, Resource, View};
pub use user_info::UserInfo;

/// The field manager of everything that Gatehouse writes.
pub const FIELD_MANAGER: &str = "gatehouse";
