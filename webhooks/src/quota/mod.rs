//! Enforces quotas: what a request asks of them, their ledgers, and their status.
//!
//! Every replica runs one task for each TenantQuota ([`commit`]). On its replica, only this task writes the quota's
//! ledger. It admits out of the replica's block, and writes when that is not enough. On the lease holder the same task
//! settles the ledger ([`settle`]), so settling and reserving never conflict there. Compare-and-swap keeps the writes
//! of different replicas apart.
//!
//! **Invariant:** no request is admitted before a block covers its charge. No request is denied for lack of room unless
//! the ledger was read or written after the request came in, there was time to settle what had been deleted, and other
//! replicas have given back room that they do not need. A request that cannot be decided is told to retry.

mod by_namespace;
mod commit;
mod cover;
mod denials;
mod pods;
mod quotas;
mod replacements;
mod settle;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod usage_change;
mod waiting;

pub use quotas::{Admission, Quotas, Refusal, Verdict};
pub(crate) use usage_change::released;
pub use usage_change::{QuotaRequest, Requester};
