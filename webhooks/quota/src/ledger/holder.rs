//! A replica's block of one ledger: how it is made, renewed, given back and lost.
//!
//! Times are of the replica's own steady clock. A block is good for [`VALID`] from when the write was *begun* that stands
//! last; whoever settles takes its replica for gone [`DEAD`] after it has *seen* that write, which is later.

use std::{sync::Arc, time::Duration};

use super::{Account, Block, Extent, Ledger, Seal, Totals};
use crate::Amounts;

/// Nothing is admitted out of a block that was written longer ago than this.
pub const VALID: Duration = Duration::from_secs(10);
/// A block that is in use is written again after this.
pub const RENEW: Duration = Duration::from_secs(4);
/// The replica of a block that was not written for so long is gone.
pub const DEAD: Duration = Duration::from_secs(15);

/// What a replica holds of one ledger.
#[derive(Debug, Clone)]
pub struct Holder {
    /// What it has admitted.
    pub account: Account,
    /// Of this life of the process: no other has it.
    life: Arc<str>,
    /// How many blocks there were before.
    number: u32,
    name: Arc<str>,
    /// Of the last write that was begun.
    ticket: i64,
    /// When the write was begun that stands last; none, if there is no block.
    written: Option<Duration>,
    sent: Option<Sent>,
    /// The last recall after which nothing was held that is not needed.
    answered: u64,
}

/// A write that is under way.
#[derive(Debug, Clone)]
struct Sent {
    at: Duration,
    /// None: the block is given back.
    extent: Option<Extent>,
    /// The account's, as they were before.
    before: Extent,
}

impl Holder {
    /// A replica that holds nothing yet. `life` must be of this life of the process alone.
    pub fn new(life: impl Into<Arc<str>>) -> Self {
        let life = life.into();
        Self {
            account: Account::default(),
            name: name(&life, 0),
            life,
            number: 0,
            ticket: 0,
            written: None,
            sent: None,
            answered: 0,
        }
    }

    /// The block's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The last recall after which nothing was held that is not needed.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Whether something may be admitted without writing.
    pub fn is_valid(&self, now: Duration) -> bool {
        self.written.is_some_and(|written| now < written + VALID)
    }

    /// When the block was written last.
    pub fn written(&self) -> Option<Duration> {
        self.written
    }

    /// Takes a state of the ledger that is newer than all before. Says whether the block has gone that nobody but its
    /// replica could have removed: then the ledger is not as Gatehouse wrote it. If it has no seal, the block is not
    /// forgotten: it may be there again when the ledger was put right.
    pub fn meet(&mut self, ledger: &Ledger, now: Duration) -> bool {
        // A ledger that was put right may ask again by a number that was seen before.
        self.answered = self.answered.min(ledger.recalls());
        if let Some(block) = ledger.block(&self.name) {
            self.account.may_become(block.amount());
            return false;
        }
        self.account.lose();
        let Some(written) = self.written else {
            self.answered = ledger.recalls();
            return false;
        };
        // Given back, without an answer.
        let was_given_back = self.sent.as_ref().is_some_and(|sent| sent.extent.is_none());
        let is_lost = !was_given_back && now < written + DEAD;
        if !is_lost || ledger.seal() == Seal::Whole {
            self.answered = ledger.recalls();
            (self.written, self.sent) = (None, None);
            self.begin_anew();
        }
        is_lost
    }

    /// There is another ledger, for another quota: the block is in none.
    pub fn abandon(&mut self) {
        self.account.lose();
        self.sent = None;
        if self.written.take().is_some() {
            self.begin_anew();
        }
    }

    /// The block to be written: what was admitted, and `wish` beyond it. Until [`Holder::landed`] or [`Holder::failed`]
    /// it may have either size.
    pub fn send(&mut self, wish: &Amounts, totals: Totals<'_>, now: Duration) -> Block {
        let extent = self.account.extent(wish, totals);
        self.ticket += 1;
        let ledger = totals.ledger;
        // Whoever holds more than it needs has not answered, whichever recall it is that somebody waits for.
        let answered = if wish.is_empty() { ledger.recalls() } else { 0 };
        self.answered = self.answered.max(answered);
        let reserved = self.account.charge().clone();
        let block =
            Block::new(&self.name, self.ticket, extent.amount.clone(), reserved, (answered, ledger.counts()));
        self.send_extent(Some(extent), now);
        block
    }

    /// The block is to be given back.
    pub fn give_back(&mut self, now: Duration) {
        self.send_extent(None, now);
    }

    fn send_extent(&mut self, extent: Option<Extent>, at: Duration) {
        let before = self.account.left();
        let amount = extent.as_ref().map(|extent| extent.amount.clone()).unwrap_or_default();
        self.account.may_become(&amount);
        self.sent = Some(Sent { at, extent, before });
    }

    /// What was sent has been written.
    pub fn landed(&mut self) {
        let Some(Sent { at, extent, .. }) = self.sent.take() else { return };
        if let Some(extent) = extent {
            self.account.stands(&extent);
            self.written = Some(at);
        } else {
            self.account.lose();
            self.account.keep();
            self.written = None;
            self.begin_anew();
        }
    }

    /// What was sent has not been answered by a success; `is_certain`: it was not done, and never will be.
    pub fn failed(&mut self, is_certain: bool) {
        self.account.roll_back();
        if is_certain && let Some(Sent { before, .. }) = self.sent.take() {
            self.account.restore(before);
        }
    }

    /// What a block was is nobody's any more, and never again.
    fn begin_anew(&mut self) {
        self.number += 1;
        self.name = name(&self.life, self.number);
    }
}

fn name(life: &str, number: u32) -> Arc<str> {
    format!("block-{life}-{number}").into()
}
