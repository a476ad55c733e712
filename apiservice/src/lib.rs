//! The contract of the Gatehouse API: what a resource is called, what its objects look like, what its
//! tables show. Types only; what fills them is in `inventory` and `apiserver`.

pub mod kubeconfig;
mod meta;
mod resource;
pub mod view;

pub use meta::{Condition, ConditionStatus, Time};
pub use resource::{Cell, Column, ColumnType, Resource, View};
