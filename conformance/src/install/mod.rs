//! An installation of Gatehouse as the chart renders it: its objects, and replicas that are rolled one by one
//! and get connections while they are ready.

mod cert_manager;
mod deployment;
mod egress;
mod executables;
mod installation;
mod volumes;

pub use cert_manager::CertManager;
pub use deployment::Deployment;
pub use egress::Egress;
pub use executables::Executables;
pub use installation::Installation;
