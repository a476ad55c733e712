//! The memory that is built from reviews, beside their bodies: reserved before an object is read, and held until the
//! review is answered.
//!
//! What reading may build is bounded by the length of the text; what it did build is known after it, and the rest is
//! given back. Small reviews have room of their own, so that large ones never keep them waiting.

use std::sync::Arc;

use gatehouse_object::MOST_PER_BYTE;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most that is built from one review.
pub(super) const MOST: usize = 32 << 20;
/// What is built from all large reviews together: two at their most, with their users.
const LARGE: usize = 72 << 20;
/// What is built from all small ones together.
const SMALL: usize = 32 << 20;
/// A review is small that may build so much: an object of some fifteen kilobytes, before and after.
const MOST_OF_SMALL: usize = 2 << 20;
/// What every review takes: its envelope, its user, its answer.
const BASE: usize = 16 << 10;

/// What is counted as one.
const UNIT: usize = 1 << 10;

/// Room for what is built from reviews.
#[derive(Debug)]
pub struct Room {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// Room that is taken, until this is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    permit: Option<OwnedSemaphorePermit>,
}

impl Default for Room {
    fn default() -> Self {
        let room = |bytes: usize| Arc::new(Semaphore::new(bytes / UNIT));
        Self { small: room(SMALL), large: room(LARGE) }
    }
}

impl Room {
    /// The most that may be built from texts of so many bytes together.
    pub(super) fn bound(text: usize) -> usize {
        text.saturating_mul(MOST_PER_BYTE).min(MOST)
    }

    /// Takes room for so much, as soon as there is. Callers hold no other.
    pub(super) async fn reserve(&self, bytes: usize) -> Reservation {
        let bytes = bytes.saturating_add(BASE);
        let room = if bytes <= MOST_OF_SMALL { &self.small } else { &self.large };
        // More than there is altogether would never come.
        let units = units(bytes.min(LARGE));
        // Never closed; a review that could not be counted would be better answered than lost.
        Reservation { permit: Arc::clone(room).acquire_many_owned(units).await.ok() }
    }
}

impl Reservation {
    /// Gives back what is more than so many bytes.
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
        let room = Room::default();
        let take = |bytes| room.reserve(bytes).now_or_never();
        let mut first = take(Room::bound(usize::MAX)).expect("there is room");
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
            let read = gatehouse_object::read(&json, &shape, Room::bound(json.len())).expect("there is room");
            assert!(read.cost > json.len(), "{}", read.cost);
        }
    }
}
