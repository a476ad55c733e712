//! Limits the memory for the bodies of reviews. Room is taken as bytes arrive, and held until the review is answered.
//!
//! **Invariant:** a declared length takes no room. The first bytes of every body come out of separate room, so that
//! large bodies cannot block ordinary reviews, which have no more than that. Clients share both rooms fairly
//! (`FairShare`), so that one client cannot block others. A body that arrives too slowly is aborted.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gatehouse_serving::ApiError;
use gatehouse_serving::body::RequestBody;
use gatehouse_serving::fair::{FairShare, Held};
use gatehouse_serving::pipeline::Holder;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::MAX_BODY;

/// The first part of each body: fifty times the size of a usual review.
const FIRST: usize = 128 * 1024;
/// The most bytes of the first parts of all bodies together.
const FIRSTS: usize = 16 * 1024 * 1024;
/// The most bytes beyond the first parts of all bodies together, not counting the body that holds the lane.
const REST: usize = 24 * 1024 * 1024;

/// The longest time without new bytes of a body.
const PAUSE: Duration = Duration::from_secs(3);
/// The least bytes per second of waiting, beyond [`PAUSE`]. kube-apiserver has the whole body in memory when it sends.
const RATE: u32 = 128 * 1024;

/// Receives bodies.
pub(super) struct BodyMemory {
    firsts: Arc<FairShare<Holder>>,
    rest: Arc<FairShare<Holder>>,
    /// A body that holds the lane needs no room for the bytes beyond its first part. Without the lane, several large
    /// bodies could wait for each other, each with a part of the room.
    lane: Arc<Semaphore>,
}

/// A complete body, and its room.
pub(super) struct ReceivedBody {
    pub(super) bytes: Bytes,
    _room: Room,
}

struct Room {
    first: Held<Holder>,
    rest: Held<Holder>,
    lane: Option<OwnedSemaphorePermit>,
}

/// The time that was spent waiting for a body.
#[derive(Default)]
struct IdleTime {
    waited: Duration,
}

impl BodyMemory {
    pub(super) fn new() -> Self {
        Self { firsts: FairShare::new(FIRSTS), rest: FairShare::new(REST), lane: Arc::new(Semaphore::new(1)) }
    }

    /// Receives a whole body, and waits for room as needed.
    pub(super) async fn take(&self, holder: Holder, mut body: RequestBody) -> Result<ReceivedBody, ApiError> {
        use hyper::body::Body as _;
        let hint = body.size_hint();
        if hint.lower() > MAX_BODY as u64 {
            return Err(ApiError::too_large(MAX_BODY));
        }
        let declared = hint.exact().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
        let mut room =
            Room { first: self.firsts.nothing(holder.clone()), rest: self.rest.nothing(holder), lane: None };
        let mut pace = IdleTime::default();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = pace.next(&mut body, bytes.len()).await? {
            let length = bytes.len() + chunk.len();
            if length > MAX_BODY {
                return Err(ApiError::too_large(MAX_BODY));
            }
            room.extend(bytes.len(), length, &self.lane).await;
            if length > bytes.capacity() {
                // Allocate the declared length only after the first part has arrived.
                let target = if length > FIRST { declared } else { declared.min(FIRST) };
                bytes.reserve(target.max(length) - bytes.len());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(ReceivedBody { bytes: bytes.freeze(), _room: room })
    }
}

impl Room {
    /// Grows the room from a body of `from` bytes to one of `to` bytes.
    async fn extend(&mut self, from: usize, to: usize, lane: &Arc<Semaphore>) {
        self.first.grow(to.min(FIRST) - from.min(FIRST)).await;
        let rest = to.max(FIRST) - from.max(FIRST);
        if self.lane.is_some() || self.rest.try_grow(rest) {
            return;
        }
        tokio::select! {
            () = self.rest.grow(rest) => {}
            // The semaphore is never closed.
            permit = Arc::clone(lane).acquire_owned() => self.lane = permit.ok(),
        }
    }
}

impl IdleTime {
    /// The next bytes of a body of which `received` bytes have arrived; `None` at its end.
    async fn next(&mut self, body: &mut RequestBody, received: usize) -> Result<Option<Bytes>, ApiError> {
        let earned = Duration::from_secs(1) * u32::try_from(received).unwrap_or(u32::MAX) / RATE;
        let allowed = (PAUSE + earned).saturating_sub(self.waited).min(PAUSE);
        let began = Instant::now();
        loop {
            let frame = timeout(allowed.saturating_sub(began.elapsed()), body.frame()).await;
            let frame = frame.map_err(|_| ApiError::timeout("the body arrives too slowly"))?;
            let Some(frame) = frame else { return Ok(None) };
            let frame =
                frame.map_err(|error| ApiError::bad_request(format!("the body ended early: {error}")))?;
            // Trailers are ignored, and empty frames do not count as progress.
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                self.waited += began.elapsed();
                return Ok(Some(data));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt, stream};
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use tokio::time::sleep;

    use super::*;

    const CHUNK: usize = 16 * 1024;

    fn from(last: u8) -> Holder {
        Holder::address([10, 0, 0, last].into())
    }

    fn whole(length: usize) -> RequestBody {
        Full::new(Bytes::from(vec![b'x'; length])).map_err(|never| match never {}).boxed_unsync()
    }

    /// A body that arrives in chunks, with a pause before each.
    fn paced(chunks: usize, chunk: usize, pause: Duration) -> RequestBody {
        let chunks = stream::iter(0..chunks).then(move |_| async move {
            sleep(pause).await;
            Ok(Frame::data(Bytes::from(vec![b'x'; chunk])))
        });
        StreamBody::new(chunks).boxed_unsync()
    }

    fn code(outcome: Result<ReceivedBody, ApiError>) -> Result<usize, u16> {
        outcome.map(|arrived| arrived.bytes.len()).map_err(|error| error.code().as_u16())
    }

    /// The outcome for a body that does not have to wait for room.
    async fn at_once(
        intake: &BodyMemory,
        holder: Holder,
        length: usize,
    ) -> Option<Result<ReceivedBody, ApiError>> {
        timeout(Duration::from_millis(1), intake.take(holder, whole(length))).await.ok()
    }

    /// A body that declares its length and sends nothing.
    struct Declared;

    impl hyper::body::Body for Declared {
        type Data = Bytes;
        type Error = gatehouse_serving::body::BodyError;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Pending
        }

        fn size_hint(&self) -> hyper::body::SizeHint {
            hyper::body::SizeHint::with_exact(MAX_BODY as u64)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_declared_and_not_sent_takes_no_room_and_is_cut_soon() {
        let intake = BodyMemory::new();
        let strangers: Vec<_> = (0..600).map(|_| intake.take(from(1), Declared.boxed_unsync())).collect();
        let beside = async {
            tokio::task::yield_now().await;
            assert_eq!((intake.firsts.free(), intake.rest.free()), (FIRSTS, REST));
            for length in [4096, MAX_BODY] {
                assert_eq!(at_once(&intake, from(2), length).await.map(code), Some(Ok(length)));
            }
        };
        let start = Instant::now();
        let (cut, ()) = tokio::join!(futures::future::join_all(strangers), beside);
        assert!(cut.into_iter().all(|outcome| code(outcome) == Err(504)));
        assert_eq!(start.elapsed(), PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_held_until_the_review_is_answered_and_large_bodies_leave_small_ones_theirs() {
        let intake = BodyMemory::new();
        let mut held = Vec::new();
        while let Some(arrived) = at_once(&intake, from(1), MAX_BODY).await {
            held.push(arrived.unwrap_or_else(|error| panic!("{error}")));
        }
        let bytes: usize = held.iter().map(|arrived| arrived.bytes.len()).sum();
        assert!((MAX_BODY..=FIRSTS + REST + MAX_BODY).contains(&bytes), "{bytes}");
        assert!(intake.rest.free() < REST / 2);
        // Senders do not share their room, and large bodies do not use the room of ordinary reviews.
        let mut small = Vec::new();
        for _ in 0..500 {
            small.push(
                at_once(&intake, from(1), 4096)
                    .await
                    .expect("room")
                    .unwrap_or_else(|error| panic!("{error}")),
            );
        }
        assert_eq!(at_once(&intake, from(2), 2 << 20).await.map(code), Some(Ok(2 << 20)));
        drop(small);
        drop(held);
        assert_eq!((intake.firsts.free(), intake.rest.free()), (FIRSTS, REST));
    }

    #[tokio::test(start_paused = true)]
    async fn large_bodies_that_come_together_all_arrive() {
        let intake = BodyMemory::new();
        let bodies =
            (0..40).map(|_| intake.take(from(1), paced(MAX_BODY / CHUNK, CHUNK, Duration::from_millis(1))));
        // Each body is dropped as soon as it has arrived.
        let outcomes = futures::future::join_all(bodies.map(|body| body.map(code))).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Ok(MAX_BODY)), "{outcomes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_goes_on_arriving_or_is_cut() {
        let intake = BodyMemory::new();
        for (chunks, chunk, pause, expected) in [
            (2, 1000, PAUSE / 3, Ok(2000)),
            (2, 1000, PAUSE + Duration::from_millis(1), Err(504)),
            (1000, 1, Duration::from_millis(100), Err(504)),
            (100, 1 << 16, Duration::from_millis(500), Ok(100 << 16)),
            (100, 1 << 15, Duration::from_millis(500), Err(504)),
            (10, 0, Duration::from_secs(1), Err(504)),
            (113, 1 << 16, Duration::ZERO, Err(413)),
        ] {
            let start = Instant::now();
            let outcome = code(intake.take(from(1), paced(chunks, chunk, pause)).await);
            assert_eq!(outcome, expected, "{chunks} × {chunk} each {pause:?}");
            assert!(outcome.is_ok() || start.elapsed() <= 2 * PAUSE, "{:?}", start.elapsed());
            assert_eq!((intake.firsts.free(), intake.rest.free()), (FIRSTS, REST));
        }
    }
}
