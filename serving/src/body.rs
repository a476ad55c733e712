//! Bodies: those of requests, unread; those of responses, whole or streamed piece by piece.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, SizeHint};

/// The body of every response.
pub type Body = UnsyncBoxBody<Bytes, Stalled>;

/// The body of a response ends here without its end: for too long nobody read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("response aborted: the client stopped reading")]
pub struct Stalled;

/// The body of a request, of which nothing has been read. Whoever reads it bounds its length and its time.
pub type RequestBody = UnsyncBoxBody<Bytes, BodyError>;

/// Why a request's body ended early.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request, as handlers get it.
pub fn unread<B>(body: B) -> RequestBody
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// A body that is there as a whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// A body that is made as the client reads it.
pub fn streamed(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk)))).boxed_unsync()
}

fn never(impossible: Infallible) -> Stalled {
    match impossible {}
}

/// The same body; `observer` is told of each chunk, and is dropped with the body, sent to its end or not.
pub(crate) fn observed(body: Body, observer: impl FnMut(&Bytes) + Send + Unpin + 'static) -> Body {
    Observed { body, observer }.boxed_unsync()
}

struct Observed<F> {
    body: Body,
    observer: F,
}

impl<F: FnMut(&Bytes) + Unpin> hyper::body::Body for Observed<F> {
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
