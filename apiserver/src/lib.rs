//! The aggregated API server: clock, watch cache, views, endpoints, discovery and OpenAPI.

pub mod clock;
pub(crate) mod discovery;
pub mod endpoints;
pub mod engine;
pub mod metrics;
pub(crate) mod openapi;
pub(crate) mod options;
pub mod server;
pub mod views;
pub mod watchcache;
