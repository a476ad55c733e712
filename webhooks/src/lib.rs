//! The admission webhooks: the answers to reviews, the quota ledgers, and the controllers of policies and quotas.

mod condition;
pub mod controllers;
pub mod intercepted;
mod looks;
pub mod metrics;
pub mod own_user;
pub mod quota;
pub mod review;
pub mod server;
mod tenant_metrics;
pub mod world;
