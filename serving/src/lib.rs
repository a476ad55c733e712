//! The parts of an HTTPS server that behaves like kube-apiserver: TLS, connections, requests, authentication,
//! authorization, selectors, health checks, request metrics, audit log, Events, traces, shutdown.
//!
//! [`server::ServerBuilder`] puts them together. The crate does not know what the handlers serve.

pub mod audit;
pub mod authn;
pub mod authz;
pub mod body;
pub mod error;
pub mod events;
pub mod fair;
pub mod field_selector;
pub mod health;
pub mod metrics;
pub mod negotiate;
pub mod pipeline;
pub mod query;
pub mod request_info;
pub mod review;
pub mod serve;
pub mod server;
pub mod shutdown;
pub mod tasks;
#[cfg(feature = "otel")]
pub mod traces;
pub mod upstream;

pub use body::Body;
pub use error::ApiError;
