//! A Kubernetes API server in process, for tests of whatever is a client of one.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic there")]

mod api;
mod fields;
mod reviews;

pub use api::FakeApi;
pub use reviews::Reviews;
