//! The observed state of one or more clusters: sources, kinds, compact records, state rules, the dependency graph.
//!
//! Sources run concurrently and decode objects. One task owns the [`Inventory`] and applies the events of all sources
//! in order.
//!
//! **Invariant:** this crate knows nothing of HTTP, nor of the views that are rendered from the inventory.

mod above;
mod applied;
mod argo;
mod below;
pub mod catalogue;
mod cause;
mod cluster;
mod crashes;
mod delta;
pub mod expression;
mod flux;
mod game;
mod game_server;
mod graph;
mod history;
mod index;
mod intern;
mod managers;
pub mod manifest;
mod object_key;
mod pod;
mod problems;
mod record;
mod records;
mod registration;
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

pub use above::Above;
pub use applied::{Applied, Entry as AppliedEntry};
pub use argo::{Application, ArgoHealth, ArgoSync, ArgoTally, Culprit, SyncedRevisions};
pub use cause::{Cause, Step};
pub use cluster::{Cluster, Contact, Dependency, NotCurrent, STALE_AFTER};
pub use delta::Delta;
pub use flux::{DISABLED, GENERATOR_ANNOTATION, OPERATOR_ANNOTATION, Suspension, Unpruned as Named};
pub use game::{Engine, GameKind, GameNumbers, PartialSum, Role};
pub use game_server::{GameServer, Port};
pub use graph::{Cycle, Place};
pub use history::{EntryId, History, HistoryEntry, HistoryResult};
pub use index::Inventory;
pub use intern::{Interner, Str};
pub use object_key::{ObjectKey, ObjectName};
pub use problems::{Problems, is_problem, problem_namespace};
pub use record::{
    Detail, FluxDetail, FluxLinks, FluxRequest, FluxTexts, ForeignName, Layer, Limit, NamespaceShare,
    Readiness, Record, Reference, Seconds, TenantQuotaDetail,
};
pub use registration::{LOCAL, Mode, NOTICE, Refusal, Registration, Validity};
pub use relations::{Case, Links, Member, Use, When};
pub use root_cause::{Root, RootCause};
pub use source::{ClusterId, Event, KindStatus, Liveness, Sink, Source};
pub use state::{Counts, State};
pub use tally::{GameTally, Tally};
pub use verdict::{Deadline, Deniers, End, Verdict};
