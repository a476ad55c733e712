//! How often a replica writes a ledger, and how large a block it asks for.

use std::time::Duration;

use gatehouse_quota::{Amounts, Dimension, Holder, Quantity, Totals};
use tokio::time::Instant;

/// All replicas together write a ledger no more often than once in this time, but for a few writes at once.
const APART: Duration = Duration::from_millis(200);
/// So many writes at once, of each replica: one that waits for room, or for somebody's answer, need not wait for its turn.
const AT_ONCE: u32 = 4;
/// A block is to last so long, as things have gone.
const LASTS: u128 = 2_000;
/// What is asked for while nothing is known of how things go: so many times what was asked for just now.
const AHEAD: i64 = 32;
/// A block is filled up when less than this part is left of what it is to last for.
const LOW: u128 = 4;

/// The writes that a replica has left.
#[derive(Debug)]
pub(super) struct Budget {
    /// When all would be there again.
    full_at: Instant,
    replicas: u32,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { full_at: now, replicas: 1 }
    }

    /// So many replicas write the ledger by turns.
    pub(super) fn share(&mut self, replicas: usize) {
        self.replicas = u32::try_from(replicas).unwrap_or(u32::MAX).max(1);
    }

    /// When one more may be begun.
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

/// How fast a tenant's requests use up what there is.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// What was charged since the block was written last.
    spent: Amounts,
    /// What is spent while a block is to last.
    expected: Amounts,
}

impl Demand {
    /// So much more was charged.
    pub(super) fn spend(&mut self, before: &Amounts, after: &Amounts) {
        let grown = after.saturating_sub(before);
        self.spent = self.spent.saturating_add(&grown.only(|one| !grown.get(one).is_negative()));
    }

    /// How much to ask for beyond what is charged: of what is left, a share that leaves others theirs. `waits` is
    /// charged in the same write.
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

    /// Whether the block will soon be used up, and there is room to fill it up.
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

/// What is spent while a block is to last, as things go.
fn expected(spent: &Amounts, elapsed: Duration) -> Amounts {
    let elapsed = elapsed.as_millis().max(50);
    spent.iter().map(|(one, two)| (one.clone(), scaled(*two, LASTS, elapsed))).collect()
}

/// Of what is wished for, so much as leaves others theirs.
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

/// Servers come in whole numbers, and bytes.
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
