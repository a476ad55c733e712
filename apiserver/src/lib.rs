//! The aggregated API server: clock, watch cache, views, endpoints, discovery and OpenAPI.

pub mod actions;
pub(crate) mod callers;
pub mod clock;
pub mod clusters;
pub(crate) mod discovery;
pub mod endpoints;
pub mod engine;
pub(crate) mod fit;
pub mod metrics;
pub(crate) mod openapi;
pub(crate) mod options;
mod request_body;
pub mod server;
pub(crate) mod tree;
pub mod views;
pub mod watchcache;
