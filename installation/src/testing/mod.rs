//! What tests of this crate and of its users share.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic there")]

mod api;
mod fields;

pub use api::FakeApi;
