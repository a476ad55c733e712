//! Tenant quotas: what objects take up, and the ledger that promises it. No I/O, no clock.
//!
//! - [`CompiledQuota`]: a TenantQuota whose every field was found to make sense.
//! - [`usage`]: what an object takes up, in exact numbers; an object that cannot be read is an error that names the
//!   field, never nothing.
//! - [`Families`]: what is counted of it, where Agones has made it for an object that is charged already.
//! - [`Ledger`]: what was promised. Usage is at most what it has counted and charged, whatever is retried, lost,
//!   late or seen twice.

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
    CHARGED, Ceiling, NoTemplates, Owner, Templates, Usage, UsageError, is_charged, looks, owner,
    scale_replicas, scaled, usage,
};
