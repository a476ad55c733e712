//! The aggregated API: authentication, authorisation, discovery, OpenAPI, endpoints, views, watch cache.

pub mod audit;
pub mod authn;
pub mod authz;
pub mod body;
pub mod clock;
pub(crate) mod discovery;
pub mod endpoints;
pub mod engine;
pub mod error;
pub mod fair;
pub mod health;
pub mod metrics;
pub(crate) mod negotiate;
pub(crate) mod openapi;
pub(crate) mod options;
pub mod pipeline;
pub mod request_info;
pub mod selector;
pub mod serve;
pub mod tasks;
#[cfg(feature = "otel")]
pub mod traces;
pub mod views;
pub mod watchcache;

pub use body::Body;
pub use error::ApiError;
