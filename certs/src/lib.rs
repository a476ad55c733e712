//! Certificates: issue, load, reload, rotate.
//!
//! Knows TLS and files, and nothing of Kubernetes: who a certificate names and where it is trusted is decided by
//! the caller. Everything here uses the aws-lc-rs provider explicitly and never the process-wide default.

pub mod expiry;
pub mod issue;
pub mod load;
pub mod reload;
pub mod rotation;
