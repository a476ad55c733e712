//! Gatehouse as the chart installs it: its objects as they are rendered, and replicas that are replaced one by one, and
//! come and go as they say that they are ready.

mod deployment;
mod egress;
mod installation;

pub use deployment::Deployment;
pub use egress::Egress;
pub use installation::Installation;
