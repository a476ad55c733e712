//! A replica with blocks: it does what the task of a quota does, without time and I/O of its own.

use std::{collections::HashMap, sync::Arc};

use super::{super::*, Delayed, Stage, Stored, View, World, hard, seconds, spec};

#[derive(Debug, Clone)]
pub(super) struct Replica {
    pub(super) holder: Holder,
    pub(super) view: View,
    /// The ledger as last read, written or observed.
    pub(super) base: Option<Base>,
    /// Since when each entry of the account, and each block of others, is known.
    pub(super) entries: HashMap<Pending, u32>,
    pub(super) blocks: HashMap<Dead, u32>,
    /// The expired blocks, and the revision written when that was found.
    pub(super) dead: Vec<(Dead, u64)>,
    /// The last state that only Gatehouse can have written.
    pub(super) known: Option<Base>,
    /// Since when the ledger is known to be broken, and the revision written when that had been long enough.
    pub(super) broken: Option<Broken>,
    /// Whether it has waited, with an unsealed ledger, for replicas that know earlier states.
    has_waited: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Broken {
    pub(super) since: u32,
    pub(super) all: Option<u64>,
    /// The version of the ledger; `None` if there is none.
    pub(super) version: Option<u64>,
}

impl Replica {
    fn breaks(&mut self, version: Option<u64>, now: u32) {
        if self.broken.as_ref().is_none_or(|broken| broken.version != version) {
            self.broken = Some(Broken { since: now, all: None, version });
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Base {
    pub(super) version: u64,
    pub(super) uid: String,
    pub(super) generation: i64,
    pub(super) ledger: Ledger,
}

impl Base {
    fn place(&self) -> Place<'_> {
        Place { uid: &self.uid, generation: self.generation }
    }

    /// Whether it is the state right after another, or the same.
    fn is_next(&self, before: &Self) -> bool {
        self.uid == before.uid && self.generation <= before.generation + 1
    }
}

/// Whether a replica may reserve in a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    Stands,
    Broken,
    /// Replicas that know earlier states may still mark the ledger as broken.
    Waits,
}

/// Deliberate faults, each of which some case must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Blocks are removed as soon as their replicas are considered dead.
    BlocksDroppedEarly,
    /// A replica that returns reuses its old block.
    BlocksTakenUp,
    /// A replica goes on admitting out of an expired block.
    BlocksOutlived,
    /// Counted admissions free their part of the block.
    CountedTwice,
    /// A request is denied because of other blocks, without a recall.
    NoRecall,
    /// The lease holder settles before it has observed everything that dead replicas may have admitted.
    CountedAsSeen,
    /// A replica that has not observed all states of an emptied ledger does not wait for those that have.
    EmptiedUnseen,
    /// A replica restores the last state that it knows, whatever others have written after it.
    RestoredAsKnown,
}

impl World {
    pub(super) fn born(&mut self) -> Replica {
        self.lives += 1;
        Replica {
            holder: Holder::new(format!("life{}", self.lives)),
            view: View::default(),
            base: None,
            entries: HashMap::new(),
            blocks: HashMap::new(),
            dead: Vec::new(),
            known: None,
            broken: None,
            has_waited: false,
        }
    }

    /// Without a word. Its writes may yet be done, and its requests.
    pub(super) fn die(&mut self, index: usize) {
        if self.run.editor {
            // Not just after somebody has taken the seal away, before anybody has seen it.
            (0..self.replicas.len()).for_each(|replica| self.meet(replica));
        }
        let before = self.replicas[index].holder.clone();
        let mut born = self.born();
        if self.has(Fault::BlocksTakenUp) {
            born.holder = before;
            born.holder.account = Account::default();
            born.holder.account.stands(&Extent {
                amount: self.replicas[index].holder.account.left().amount,
                right: self.replicas[index].holder.account.left().right,
            });
        }
        born.view = self.old_view(0);
        self.replicas[index] = born;
    }

    /// Adopts the current ledger.
    pub(super) fn meet(&mut self, index: usize) {
        let now = self.now;
        let stored = self.stored.clone();
        let replica = &mut self.replicas[index];
        let Some(Stored { version, uid, generation, spec }) = stored else {
            replica.base = None;
            replica.holder.account.lose();
            replica.breaks(None, now);
            return;
        };
        if replica.base.as_ref().is_some_and(|base| base.version == version) {
            self.follow(index);
            return;
        }
        let ledger = Ledger::read(&spec, Place { uid: &uid, generation });
        let Ok(ledger) = ledger else {
            replica.base = Some(Base { version, uid, generation, ledger: Ledger::new("quota") });
            replica.holder.account.lose();
            replica.breaks(Some(version), now);
            return;
        };
        if ledger.seal() == Seal::Broken {
            replica.base = Some(Base { version, uid, generation, ledger });
            replica.breaks(Some(version), now);
            replica.holder.account.lose();
            return self.follow(index);
        }
        if ledger.quota_uid() != "quota" {
            // There was this quota's, and is another's: it is made anew as if it were broken.
            replica.base = Some(Base { version, uid, generation, ledger });
            replica.breaks(Some(version), now);
            replica.holder.account.lose();
            return;
        }
        let mut base = Base { version, uid, generation, ledger };
        let judgement = self.judge(index, &base);
        if judgement == Judgement::Waits {
            // Replicas that know earlier states observe such a ledger before this one reserves anything in it.
            self.replicas[index].has_waited = true;
            (0..self.replicas.len()).filter(|other| *other != index).for_each(|other| self.meet(other));
            return self.meet(index);
        }
        let replica = &mut self.replicas[index];
        let is_lost = replica.holder.meet(&base.ledger, seconds(now));
        if is_lost || judgement == Judgement::Broken {
            if base.ledger.seal() == Seal::Whole {
                base.ledger.doubt();
            } else {
                base.ledger.break_seal();
            }
            let spec = spec_of(&base);
            replica.holder.account.lose();
            self.swap(base.version, spec);
            return self.meet(index);
        }
        replica.has_waited &= base.ledger.seal() != Seal::Whole;
        replica.known = Some(base.clone());
        replica.base = Some(base);
        replica.broken = None;
        self.follow(index);
    }

    /// An unsealed ledger is trusted if only versions without seals can have made it out of a known state; the API
    /// server may supply the states that were not observed.
    fn judge(&self, index: usize, base: &Base) -> Judgement {
        let replica = &self.replicas[index];
        if base.ledger.seal() == Seal::Whole {
            return Judgement::Stands;
        }
        let Some(known) = &replica.known else {
            let was_broken = replica.broken.as_ref().is_some_and(|broken| broken.version.is_some());
            return match (was_broken, replica.has_waited) {
                (true, _) => Judgement::Broken,
                (false, false) => Judgement::Waits,
                (false, true) => Judgement::Stands,
            };
        };
        let is_unbroken = if base.is_next(known) {
            base.ledger.may_be_of_older(&known.ledger)
        } else {
            let history = self.since(known);
            self.has(Fault::EmptiedUnseen) || history.is_some_and(|history| history.is_unbroken())
        };
        if is_unbroken { Judgement::Stands } else { Judgement::Broken }
    }

    /// All states of the ledger since, if the API server still knows them.
    pub(super) fn since(&self, known: &Base) -> Option<History> {
        let mut states = self.states.iter().skip_while(|state| state.version != known.version);
        states.next()?;
        let mut history = History::new(known.ledger.clone());
        states.for_each(|state| history.see(state.read()));
        Some(history)
    }

    pub(super) fn follow(&mut self, index: usize) {
        let counted_twice = self.has(Fault::CountedTwice);
        let now = self.now;
        let replica = &mut self.replicas[index];
        let Some(base) = &replica.base else { return };
        if replica.broken.is_some() {
            return;
        }
        let left = replica.holder.account.left();
        replica.holder.account.follow(&base.ledger, &replica.view);
        if counted_twice {
            replica.holder.account.restore(left);
        }
        let pending: Vec<Pending> = replica.holder.account.pending().collect();
        replica.entries.retain(|entry, _| pending.contains(entry));
        for entry in pending {
            replica.entries.entry(entry).or_insert(now);
        }
        let own = replica.holder.name();
        let others = base.ledger.blocks().filter(|(name, _)| *name != own);
        let others: Vec<Dead> =
            others.map(|(name, block)| Dead { name: Arc::clone(name), ticket: block.ticket() }).collect();
        replica.blocks.retain(|block, _| others.contains(block));
        replica.dead.retain(|(dead, _)| others.contains(dead));
        for block in others {
            replica.blocks.entry(block).or_insert(now);
        }
    }

    /// Requests share one write. Admitted requests may be reviewed again.
    pub(super) fn review(&mut self, which: &[u8], index: usize, how: u8) {
        if how.is_multiple_of(3) {
            self.meet(index);
        }
        let mut left = Vec::new();
        let mut stages = Vec::new();
        let now = seconds(self.now);
        let is_valid = self.replicas[index].holder.is_valid(now) || self.has(Fault::BlocksOutlived);
        for request in which {
            let Some(request) = self.request(*request) else { continue };
            if !is_valid {
                left.push(request);
                continue;
            }
            let proposal = self.requests[request].proposal.clone();
            let Replica { holder, base: Some(base), broken: None, .. } = &mut self.replicas[index] else {
                // To be retried.
                return;
            };
            let name = Arc::clone(holder.name());
            let hard = hard();
            let totals = Totals { ledger: &base.ledger, own: &name, hard: &hard, denies: !self.run.forced };
            match holder.account.propose(&proposal, totals, false) {
                Outcome::Charged(charged) => {
                    stages.push((request, Stage::Admitted(charged.receipt.map(|receipt| (index, receipt)))));
                }
                Outcome::NoIncrease | Outcome::Superseded => stages.push((request, Stage::Admitted(None))),
                _ => left.push(request),
            }
        }
        for (request, stage) in stages {
            self.requests[request].stage = stage;
        }
        if !left.is_empty() {
            self.grow(&left, index, how);
        }
    }

    fn grow(&mut self, which: &[usize], index: usize, how: u8) {
        for _ in 0..2 {
            let mut stages = Vec::new();
            let proposals: Vec<_> =
                which.iter().map(|request| self.requests[*request].proposal.clone()).collect();
            let now = seconds(self.now);
            let Replica { holder, base: Some(base), broken: None, .. } = &mut self.replicas[index] else {
                return;
            };
            let name = Arc::clone(holder.name());
            let hard = hard();
            let totals = Totals { ledger: &base.ledger, own: &name, hard: &hard, denies: !self.run.forced };
            holder.account.stage();
            let mut recalls = Vec::new();
            for (request, proposal) in which.iter().zip(&proposals) {
                let stage = match holder.account.propose(proposal, totals, true) {
                    Outcome::NoIncrease | Outcome::Superseded => Some(Stage::Admitted(None)),
                    Outcome::Charged(charged) => {
                        Some(Stage::Admitted(charged.receipt.map(|receipt| (index, receipt))))
                    }
                    Outcome::Exceeded { exceeded, is_certain: false } => {
                        let dimensions = exceeded.limited.keys().cloned().collect();
                        let recall = self.requests[*request].recall;
                        let is_answered = |recall| base.ledger.is_answered(recall, &name, &dimensions);
                        if self.run.fault != Some(Fault::NoRecall) && !recall.is_some_and(is_answered) {
                            recalls.push(*request);
                            continue;
                        }
                        None
                    }
                    _ => None,
                };
                stages.push((*request, stage));
            }
            let recall = (!recalls.is_empty()).then(|| base.ledger.recall());
            for request in recalls {
                self.requests[request].recall = recall;
            }
            let name = Arc::clone(holder.name());
            let totals = Totals { ledger: &base.ledger, own: &name, hard: &hard, denies: !self.run.forced };
            let wish =
                if recall.is_some() { Amounts::default() } else { super::amounts(how % 5, how / 5 % 5) };
            let block = holder.send(&wish, totals, now);
            match self.put(index, Some(block), how / 25) {
                Some(true) => return self.answered(stages),
                Some(false) => self.meet(index),
                None => return,
            }
        }
    }

    /// Writes or removes its own block. Returns whether that was done, if it is known.
    fn put(&mut self, index: usize, block: Option<Block>, how: u8) -> Option<bool> {
        if how % 2 == 1 {
            self.admit_meanwhile(index);
        }
        let replica = &mut self.replicas[index];
        let mut base = replica.base.clone()?;
        replica.holder.account.sent();
        base.ledger.put(&Arc::clone(replica.holder.name()), block);
        let spec = spec_of(&base);
        match how {
            // There is no answer; the write is done now, later, or never.
            7 | 8 => {
                if how == 7 {
                    self.swap(base.version, spec);
                } else {
                    self.delayed.push(Delayed { version: base.version, spec });
                }
                self.replicas[index].holder.failed(false);
                None
            }
            _ => {
                let is_done = self.swap(base.version, spec);
                let stored = self.stored.clone();
                let replica = &mut self.replicas[index];
                if is_done {
                    replica.holder.landed();
                    let stored = stored?;
                    let ledger = stored.read().unwrap();
                    let Stored { version, uid, generation, .. } = stored;
                    replica.has_waited = false;
                    replica.base = Some(Base { version, uid, generation, ledger });
                    replica.known = replica.base.clone();
                } else {
                    replica.holder.failed(true);
                }
                Some(is_done)
            }
        }
    }

    /// While its block is being written, a replica admits what the block covers whether or not the write succeeds.
    fn admit_meanwhile(&mut self, index: usize) {
        let now = seconds(self.now);
        let fresh = self.requests.iter().position(|request| request.stage == Stage::Fresh);
        let Some(request) = fresh else { return };
        let proposal = self.requests[request].proposal.clone();
        let Replica { holder, base: Some(base), .. } = &mut self.replicas[index] else { return };
        holder.account.sent();
        if !holder.is_valid(now) {
            return;
        }
        let name = Arc::clone(holder.name());
        let hard = hard();
        let totals = Totals { ledger: &base.ledger, own: &name, hard: &hard, denies: !self.run.forced };
        if let Outcome::Charged(charged) = holder.account.propose(&proposal, totals, false) {
            self.requests[request].stage = Stage::Admitted(charged.receipt.map(|receipt| (index, receipt)));
        }
    }

    /// Gives back room that is not needed, or renews the block.
    pub(super) fn answer(&mut self, index: usize, how: u8) {
        let now = seconds(self.now);
        let Replica { holder, base: Some(base), broken: None, .. } = &mut self.replicas[index] else {
            return;
        };
        if base.ledger.block(holder.name()).is_none() && holder.account.is_empty() {
            return;
        }
        let name = Arc::clone(holder.name());
        let hard = hard();
        let totals = Totals { ledger: &base.ledger, own: &name, hard: &hard, denies: !self.run.forced };
        let wish = super::amounts(how % 4, how / 4 % 4);
        let wish = if base.ledger.recalls() > holder.answered() { Amounts::default() } else { wish };
        let block = holder.send(&wish, totals, now);
        if self.put(index, Some(block), how / 16) == Some(false) {
            self.meet(index);
        }
    }

    /// Gives the block back, if no admission is uncounted.
    pub(super) fn give_back(&mut self, index: usize, how: u8) {
        let now = seconds(self.now);
        let Replica { holder, base: Some(base), broken: None, .. } = &mut self.replicas[index] else {
            return;
        };
        if base.ledger.block(holder.name()).is_none() || !holder.account.is_empty() {
            return;
        }
        holder.give_back(now);
        if self.put(index, None, how / 16) == Some(false) {
            self.meet(index);
        }
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.run.fault == Some(fault)
    }
}

pub(super) fn spec_of(base: &Base) -> gatehouse_apiservice::policy::QuotaLedgerSpec {
    spec(&base.ledger, Some(base.place()))
}
