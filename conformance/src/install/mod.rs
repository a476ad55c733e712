//! Gatehouse as an installation has it: replicas that are replaced one by one, and come and go as they say that they
//! are ready.

mod deployment;

pub use deployment::Deployment;
