//! A request's span, if the build has the feature `otel`.

#[cfg(feature = "otel")]
pub(super) use crate::traces::RequestSpan;

/// Without the feature there are no spans: this type has no values.
#[cfg(not(feature = "otel"))]
pub(super) enum RequestSpan {}

#[cfg(not(feature = "otel"))]
impl RequestSpan {
    pub(super) fn record_status(&mut self, _: http::StatusCode) {
        match *self {}
    }
}
