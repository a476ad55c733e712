//! The bodies of requests, which are not read yet, and of responses, which are complete or streamed.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, SizeHint};

/// The body of every response.
pub type Body = UnsyncBoxBody<Bytes, Stalled>;

/// The response was aborted before its end, because the client did not read it for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("response aborted: the client stopped reading")]
pub struct Stalled;

/// The body of a request, not read yet. The reader must limit its length and the time for it.
pub type RequestBody = UnsyncBoxBody<Bytes, BodyError>;

/// Why a request's body ended early: an error of the connection.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Boxes the body of a request for handlers.
pub fn unread<B>(body: B) -> RequestBody
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// A complete body, with a known length.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// A body whose chunks are produced as the client reads them.
pub fn streamed(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk)))).boxed_unsync()
}

fn never(impossible: Infallible) -> Stalled {
    match impossible {}
}

/// The same body; calls `observer` with each chunk. The observer is dropped with the body, whether or not all of it was
/// sent.
pub(crate) fn with_observer(body: Body, observer: impl FnMut(&Bytes) + Send + Unpin + 'static) -> Body {
    ObservedBody { body, observer }.boxed_unsync()
}

struct ObservedBody<F> {
    body: Body,
    observer: F,
}

impl<F: FnMut(&Bytes) + Unpin> hyper::body::Body for ObservedBody<F> {
    type Data = Bytes;
    type Error = Stalled;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Stalled>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            (self.observer)(data);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
