//! Certificates: issue, load, reload, rotate.
//!
//! The crate deals with TLS and files, and does not depend on Kubernetes: callers decide which names a certificate has
//! and who trusts it. **Invariant:** all code uses the aws-lc-rs provider explicitly, never the process-wide default.

pub mod expiry;
pub mod issue;
pub mod load;
pub mod reload;
pub mod rotation;
