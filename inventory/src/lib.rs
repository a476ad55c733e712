//! The observed state of one or more clusters: sources, kinds, compact records, state rules, the dependency graph.
//!
//! Sources run concurrently and decode objects. One task owns the [`Inventory`] and applies the events of all sources
//! in order.
//!
//! **Invariant:** this crate knows nothing of HTTP, nor of the views that are rendered from the inventory.

pub mod catalogue;
mod cluster;
mod delta;
pub mod expression;
mod flux;
mod game;
mod graph;
mod index;
mod intern;
pub mod manifest;
mod record;
mod records;
mod relations;
mod root_cause;
pub mod schedule;
pub mod source;
mod state;
mod tally;
#[cfg(test)]
mod testing;
mod verdict;
mod waiting;
pub mod yaml;

pub use cluster::{Cluster, Contact, Dependency, NotCurrent, STALE_AFTER};
pub use delta::Delta;
pub use flux::{DISABLED, GENERATOR_ANNOTATION, OPERATOR_ANNOTATION, Suspension};
pub use game::{Engine, GameKind, GameNumbers, PartialSum, Role};
pub use graph::{Cycle, Place};
pub use index::Inventory;
pub use intern::{Interner, Str};
pub use record::{
    Detail, FluxDetail, FluxLinks, FluxTexts, Layer, Limit, ObjectKey, Readiness, Record, Reference, Seconds,
    TenantQuotaDetail,
};
pub use relations::{Case, Links, Member, Use, When};
pub use root_cause::{Root, RootCause};
pub use source::{ClusterId, Event, KindStatus, Liveness, Sink, Source};
pub use state::{Counts, State};
pub use tally::{GameTally, Tally};
pub use verdict::{Deadline, Deniers, End, Verdict};
