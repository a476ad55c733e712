//! Admission: reviews answered, the quota ledger at work, and the controllers behind the policies.

pub mod check;
mod condition;
pub mod control;
mod cycles;
pub mod events;
pub mod intercepted;
mod looks;
pub mod metrics;
pub mod own_user;
pub mod quota;
pub mod review;
pub mod sar;
pub mod server;
pub mod world;
