//! Tenant quotas: the usage of objects, and the ledger that reserves it. No I/O, no clock.
//!
//! - [`CompiledQuota`]: a TenantQuota whose fields are all valid.
//! - [`usage`]: the exact usage of an object; an object that cannot be read is an error that names the field, never a
//!   usage of zero.
//! - [`Families`]: the part of it that is counted, if Agones created the object for an owner that is charged already.
//! - [`Ledger`]: the reservations. **Invariant:** usage is at most what it has counted and charged, whatever is
//!   retried, lost, late or observed twice.

mod amounts;
mod countable;
mod dimension;
mod families;
mod ledger;
mod quota;
mod replacement;
mod usage;

pub use amounts::Amounts;
pub use countable::{NO_NAMESPACE, NO_OBJECTS, uncountable};
pub use dimension::{Dimension, DimensionError, GroupResource};
pub use families::{Families, Name, Weight};
pub use gatehouse_apiservice::{policy::FieldError, quantity::Quantity};
pub use ledger::{
    Account, Block, Charged, Counted, DEAD, Dead, Exceeded, Expired, Extent, Fate, History, Holder, Ledger,
    LedgerError, MAX_BYTES, MAX_ENTRIES, MAX_OF_USER, Outcome, Pending, Place, Proposal, RENEW, Reached,
    Seal, Seen, Settled, Totals, Truth, VALID,
};
pub use quota::CompiledQuota;
pub use replacement::exceeded_by_replacement;
pub use usage::{
    CHARGED, Ceiling, NoTemplates, Owner, PODS, Templates, Usage, UsageError, added_by_pod, is_charged,
    looks, owner, scale_replicas, scaled, template_of, template_usage, usage,
};
