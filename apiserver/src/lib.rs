//! The aggregated API: authentication, authorisation, discovery, OpenAPI, endpoints, views, watch cache.

pub mod body;
pub mod error;

pub use body::Body;
pub use error::ApiError;
