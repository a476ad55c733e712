//! Limits the memory that is built from reviews, apart from their bodies. It is reserved before an object is read, and
//! held until the review is answered.
//!
//! The length of the text bounds what reading may build; after reading, the unused part is released.
//!
//! **Invariant:** small reviews have separate room, so large reviews never block them.

use std::sync::Arc;

use gatehouse_object::MOST_PER_BYTE;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most bytes that are built from one review.
pub(super) const MOST: usize = 32 << 20;
/// The most bytes of all large reviews together: two of the largest, with their user info.
const LARGE: usize = 72 << 20;
/// The most bytes of all small reviews together.
const SMALL: usize = 32 << 20;
/// A review is small if it builds at most this: an object of about fifteen kilobytes, old and new.
const MOST_OF_SMALL: usize = 2 << 20;
/// What every review takes: its envelope, user info and response.
const BASE: usize = 16 << 10;

/// The bytes of one permit.
const UNIT: usize = 1 << 10;

/// The memory for what is built from reviews.
#[derive(Debug)]
pub struct ReviewMemory {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// Reserved room, until this is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    permit: Option<OwnedSemaphorePermit>,
}

impl Default for ReviewMemory {
    fn default() -> Self {
        let room = |bytes: usize| Arc::new(Semaphore::new(bytes / UNIT));
        Self { small: room(SMALL), large: room(LARGE) }
    }
}

impl ReviewMemory {
    /// The most bytes that may be built from texts of `text` bytes together.
    pub(super) fn bound(text: usize) -> usize {
        text.saturating_mul(MOST_PER_BYTE).min(MOST)
    }

    /// Reserves room, and waits for it if needed. Callers must not hold another reservation.
    pub(super) async fn reserve(&self, bytes: usize) -> Reservation {
        let bytes = bytes.saturating_add(BASE);
        let room = if bytes <= MOST_OF_SMALL { &self.small } else { &self.large };
        // A request for more than the total would wait forever.
        let units = units(bytes.min(LARGE));
        // The semaphore is never closed. Were it, answering without a reservation is better than failing the review.
        Reservation { permit: Arc::clone(room).acquire_many_owned(units).await.ok() }
    }
}

impl Reservation {
    /// Releases what exceeds `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let Some(permit) = &mut self.permit else { return };
        let excess = permit.num_permits().saturating_sub(units(bytes.saturating_add(BASE)) as usize);
        drop(permit.split(excess));
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn large_reviews_wait_for_each_other_and_never_keep_small_ones_waiting() {
        let room = ReviewMemory::default();
        let take = |bytes| room.reserve(bytes).now_or_never();
        let mut first = take(ReviewMemory::bound(usize::MAX)).expect("there is room");
        let second = take(MOST).expect("there is room for a second one");
        assert!(take(MOST / 2).is_none());
        let small: Vec<_> = std::iter::from_fn(|| take(MOST_OF_SMALL - BASE)).collect();
        assert_eq!(small.len(), SMALL / MOST_OF_SMALL);
        drop(small);
        first.shrink(1 << 20);
        assert!(take(MOST / 2).is_some());
        drop((first, second));
        assert!(take(LARGE).is_some() && take(usize::MAX).is_some());
    }

    #[test]
    fn what_is_built_is_within_what_was_reserved() {
        let shape = gatehouse_object::Shape::new(gatehouse_object::WHOLE);
        for (many, separator) in [("0", ","), ("[]", ","), ("{}", ","), ("\"\"", ","), ("[0]", ",")] {
            let json = format!("{{\"spec\":[{}]}}", vec![many; 10_000].join(separator));
            let read = gatehouse_object::read(&json, &shape, ReviewMemory::bound(json.len()))
                .expect("there is room");
            assert!(read.cost > json.len(), "{}", read.cost);
        }
    }
}
