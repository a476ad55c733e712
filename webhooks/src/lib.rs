//! Admission: reviews answered, the quota ledger at work, and the controllers behind the policies.

mod condition;
pub mod controllers;
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
