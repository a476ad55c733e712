//! Bounds how often a replica writes a ledger, and chooses the size of its block.

use std::time::Duration;

use gatehouse_quota::{Amounts, Dimension, Holder, Quantity, Totals};
use tokio::time::Instant;

/// The least time between two writes of a ledger by all replicas together, except for short bursts.
const APART: Duration = Duration::from_millis(200);
/// The burst of writes of each replica, so that a write for room or for a waiting request need not wait for its turn.
const AT_ONCE: u32 = 4;
/// The time, in milliseconds, that a block should last at the recent rate.
const LASTS: u128 = 2_000;
/// The factor by which a block exceeds the current request while no rate is known.
const AHEAD: i64 = 32;
/// A block is enlarged when less than one in so many of the expected amount is left.
const LOW: u128 = 4;

/// The write budget of a replica.
#[derive(Debug)]
pub(super) struct Budget {
    /// When the budget will be full again.
    full_at: Instant,
    replicas: u32,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { full_at: now, replicas: 1 }
    }

    /// Sets the number of replicas that share the write rate.
    pub(super) fn share(&mut self, replicas: usize) {
        self.replicas = u32::try_from(replicas).unwrap_or(u32::MAX).max(1);
    }

    /// When the next write may begin.
    pub(super) fn next(&self) -> Instant {
        let apart = APART * self.replicas;
        self.full_at.checked_sub(apart * (AT_ONCE - 1)).unwrap_or(self.full_at)
    }

    pub(super) fn has_one(&self, now: Instant) -> bool {
        self.next() <= now
    }

    pub(super) fn take(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + APART * self.replicas;
    }
}

/// The rate at which a tenant's requests use up the block.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// The charges since the block was last written.
    spent: Amounts,
    /// The expected charges for as long as a block should last.
    expected: Amounts,
}

impl Demand {
    /// Records a charge.
    pub(super) fn spend(&mut self, before: &Amounts, after: &Amounts) {
        let grown = after.saturating_sub(before);
        self.spent = self.spent.saturating_add(&grown.only(|one| !grown.get(one).is_negative()));
    }

    /// The amounts to ask for beyond the charges: a share of the remaining room that leaves other replicas theirs.
    /// `waits` is charged in the same write.
    pub(super) fn wish(
        &mut self,
        elapsed: Duration,
        waits: &Amounts,
        holder: &Holder,
        totals: Totals<'_>,
    ) -> Amounts {
        let spent = std::mem::take(&mut self.spent).saturating_add(waits);
        let half = self.expected.iter().map(|(one, two)| (one.clone(), scaled(*two, 1, 2)));
        self.expected = expected(&spent, elapsed).max(&half.collect());
        let ahead = waits.checked_mul(AHEAD).unwrap_or_default();
        share(&self.expected.max(&ahead), holder, totals)
    }

    /// Whether the block will soon be used up, and there is room to enlarge it.
    pub(super) fn is_low(&self, elapsed: Duration, holder: &Holder, totals: Totals<'_>) -> bool {
        let wished = self.expected.max(&expected(&self.spent, elapsed));
        let share = share(&wished, holder, totals);
        let account = &holder.account;
        wished.iter().any(|(dimension, wished)| {
            let charge = account.charge().get(dimension);
            let left = account.limit().get(dimension).checked_sub(charge).unwrap_or_default();
            let is_low = left < scaled(*wished, 1, LOW);
            is_low && share.get(dimension) > scaled(left, 2, 1).max(Quantity::ZERO)
        })
    }
}

/// The charges to expect for as long as a block should last, at the recent rate.
fn expected(spent: &Amounts, elapsed: Duration) -> Amounts {
    let elapsed = elapsed.as_millis().max(50);
    spent.iter().map(|(one, two)| (one.clone(), scaled(*two, LASTS, elapsed))).collect()
}

/// The part of a wish that leaves other replicas their share.
fn share(wish: &Amounts, holder: &Holder, totals: Totals<'_>) -> Amounts {
    let replicas = totals.ledger.blocks().filter(|(_, block)| block.is_ours()).count().max(2) as u128;
    let share = |(dimension, wished): (&Dimension, &Quantity)| {
        let charge = holder.account.charge().get(dimension);
        let room = totals.ledger.room(totals.own, dimension, totals.hard).filter(|_| totals.denies);
        let left = room.and_then(|room| room.checked_sub(charge));
        let most = left.map_or(*wished, |left| scaled(left, 1, 2 * replicas));
        (dimension.clone(), whole(dimension, (*wished).min(most)))
    };
    wish.iter().map(share).filter(|(_, wished)| !wished.is_negative()).collect()
}

/// Rounds amounts that must be whole numbers, such as servers and bytes.
fn whole(dimension: &Dimension, quantity: Quantity) -> Quantity {
    let milli = quantity.milli();
    let is_whole = *dimension != Dimension::RequestsCpu;
    Quantity::from_milli(if is_whole { milli - milli.rem_euclid(1000) } else { milli })
}

fn scaled(quantity: Quantity, times: u128, by: u128) -> Quantity {
    let (times, by) = (i128::try_from(times).unwrap_or(1), i128::try_from(by).unwrap_or(1).max(1));
    let milli = quantity.milli();
    Quantity::from_milli(milli.checked_mul(times).map_or(milli, |product| product / by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_are_five_a_second_of_all_replicas_together_after_a_few_at_once() {
        for replicas in [1, 3] {
            let begin = Instant::now();
            let mut budget = Budget::new(begin);
            budget.share(replicas);
            let mut now = begin;
            let mut written = 0;
            while now < begin + Duration::from_mins(1) {
                if budget.has_one(now) {
                    budget.take(now);
                    written += 1;
                } else {
                    now = budget.next();
                }
            }
            let most = 60 * 5 / replicas + AT_ONCE as usize;
            assert!((most - 2..=most + 1).contains(&written), "{written} of {replicas}");
        }
    }
}
