//! A request's span, where traces are part of the build.

#[cfg(feature = "otel")]
pub(super) use crate::traces::RequestSpan;

/// Without them there are no spans.
#[cfg(not(feature = "otel"))]
pub(super) enum RequestSpan {}

#[cfg(not(feature = "otel"))]
impl RequestSpan {
    pub(super) fn answered(&mut self, _: http::StatusCode) {
        match *self {}
    }
}
