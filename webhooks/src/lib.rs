//! Admission: reviews answered, the quota ledger at work, and the controllers behind the policies.

pub mod check;
mod condition;
pub mod control;
pub mod events;
pub mod intercepted;
pub mod lease;
pub mod metrics;
pub mod quota;
pub mod review;
pub mod sar;
pub mod server;
#[cfg(test)]
mod testing;
pub mod world;
