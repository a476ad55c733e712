//! What tests of this crate share.

mod api;

pub(crate) use api::FakeApi;
