//! Creates, renews, gives back and loses a replica's block of one ledger.
//!
//! **Invariant:** a replica stops admitting out of its block before any other replica may remove it. Times are of the
//! replica's own monotonic clock. A block is valid for [`VALID`] from when its last successful write was *begun*; the
//! replica that settles considers its holder dead [`DEAD`] after it *observed* that write, which is later.

use std::{sync::Arc, time::Duration};

use super::{Account, Block, Extent, Ledger, Seal, Totals};
use crate::Amounts;

/// A replica admits nothing out of a block that it wrote longer ago than this.
pub const VALID: Duration = Duration::from_secs(10);
/// A block that is in use is renewed after this.
pub const RENEW: Duration = Duration::from_secs(4);
/// The replica of a block that was not written for this long is considered dead.
pub const DEAD: Duration = Duration::from_secs(15);

/// The part of one ledger that a replica holds.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Its admissions that are not counted yet.
    pub account: Account,
    /// Identifies this life of the process: unique.
    life: Arc<str>,
    /// The number of earlier blocks.
    number: u32,
    name: Arc<str>,
    /// The ticket of the last write that was begun.
    ticket: i64,
    /// When the last successful write was begun; `None` if there is no block.
    written: Option<Duration>,
    sent: Option<Sent>,
    /// The last recall after which this replica held only what it needs.
    answered: u64,
}

/// A write in progress.
#[derive(Debug, Clone)]
struct Sent {
    at: Duration,
    /// `None` if the block is being given back.
    extent: Option<Extent>,
    /// The extent of the account before this write.
    before: Extent,
}

impl Holder {
    /// A replica that holds nothing yet. `life` must be unique to this life of the process.
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

    /// The last recall after which this replica held only what it needs.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Whether the block is valid, so that requests may be admitted without a write.
    pub fn is_valid(&self, now: Duration) -> bool {
        self.written.is_some_and(|written| now < written + VALID)
    }

    /// When the last successful write of the block was begun.
    pub fn written(&self) -> Option<Duration> {
        self.written
    }

    /// Observes a state of the ledger that is newer than all before. Returns whether the block is missing although only
    /// this replica may have removed it: then somebody else has changed the ledger. Unless the seal is whole, the block
    /// is not forgotten, because restoring the ledger may bring it back.
    pub fn meet(&mut self, ledger: &Ledger, now: Duration) -> bool {
        // A restored ledger may use a recall number again.
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
        // The block was being given back, and the answer is still unknown.
        let was_given_back = self.sent.as_ref().is_some_and(|sent| sent.extent.is_none());
        let is_lost = !was_given_back && now < written + DEAD;
        if !is_lost || ledger.seal() == Seal::Whole {
            self.answered = ledger.recalls();
            (self.written, self.sent) = (None, None);
            self.begin_anew();
        }
        is_lost
    }

    /// Drops the block: the ledger was replaced by that of another quota.
    pub fn abandon(&mut self) {
        self.account.lose();
        self.sent = None;
        if self.written.take().is_some() {
            self.begin_anew();
        }
    }

    /// The block to be written: the uncounted admissions plus `wish`. Until [`Holder::landed`] or [`Holder::failed`],
    /// the block in the ledger may have the old or the new size.
    pub fn send(&mut self, wish: &Amounts, totals: Totals<'_>, now: Duration) -> Block {
        let extent = self.account.extent(wish, totals);
        self.ticket += 1;
        let ledger = totals.ledger;
        // A replica that asks for more than it needs has answered no recall.
        let answered = if wish.is_empty() { ledger.recalls() } else { 0 };
        self.answered = self.answered.max(answered);
        let reserved = self.account.charge().clone();
        let block =
            Block::new(&self.name, self.ticket, extent.amount.clone(), reserved, (answered, ledger.counts()));
        self.send_extent(Some(extent), now);
        block
    }

    /// Begins to give the block back.
    pub fn give_back(&mut self, now: Duration) {
        self.send_extent(None, now);
    }

    fn send_extent(&mut self, extent: Option<Extent>, at: Duration) {
        let before = self.account.left();
        let amount = extent.as_ref().map(|extent| extent.amount.clone()).unwrap_or_default();
        self.account.may_become(&amount);
        self.sent = Some(Sent { at, extent, before });
    }

    /// The write succeeded.
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

    /// The write did not succeed; `is_certain`: it was not done, and never will be.
    pub fn failed(&mut self, is_certain: bool) {
        self.account.roll_back();
        if is_certain && let Some(Sent { before, .. }) = self.sent.take() {
            self.account.restore(before);
        }
    }

    /// Takes a new block name, so that the old block is never reused.
    fn begin_anew(&mut self) {
        self.number += 1;
        self.name = name(&self.life, self.number);
    }
}

fn name(life: &str, number: u32) -> Arc<str> {
    format!("block-{life}-{number}").into()
}
