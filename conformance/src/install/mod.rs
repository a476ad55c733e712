//! An installation of Gatehouse as the chart renders it: its objects, and replicas that are rolled one by one
//! and get connections while they are ready.

mod deployment;
mod egress;
mod installation;

pub use deployment::Deployment;
pub use egress::Egress;
pub use installation::Installation;
