//! Quotas at work: what a request asks for, the ledgers that promise it, and what their status says.
//!
//! Every replica has one task for each TenantQuota ([`commit`]): it alone writes that quota's ledger here. It admits out of
//! its replica's block, and writes when that is not enough. On the replica that leads the same task settles the ledger
//! ([`settle`]), so that settling and promising never stand in each other's way. Replicas are kept apart by the
//! compare-and-swap.
//!
//! Invariants: nobody is told that a request is admitted before a block covers its charge; nobody is refused for want of
//! room unless the ledger was read or written after the request came in, there was time to settle what had been deleted,
//! and other replicas have given back what they do not need; whatever cannot be decided is to be tried again.

mod ask;
mod commit;
mod cover;
mod denials;
mod facade;
mod replacements;
mod settle;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod waiting;

pub(crate) use ask::released;
pub use ask::{Facts, Requester};
pub use facade::{Quotas, Verdict};
