//! A replica that knows blocks: what the task of a quota does, without time and I/O of its own.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{super::*, Delayed, KINDS, PATIENCE, Stage, Stored, View, World, hard, resource, seconds, spec};

#[derive(Debug, Clone)]
pub(super) struct Replica {
    pub(super) holder: Holder,
    pub(super) view: View,
    /// As it was last read, written or seen.
    base: Option<Base>,
    /// Since when each entry of the account, and each block of others, is known.
    entries: HashMap<Pending, u32>,
    blocks: HashMap<Dead, u32>,
    /// Blocks that have waited for long enough, and what had been written when that was found.
    dead: Vec<(Dead, u64)>,
    /// Since when the ledger is known not to be what it should be, and what had been written when that was long enough.
    broken: Option<Broken>,
    /// Whether the ledger was known to be as Gatehouse wrote it, and which blocks there were.
    was_whole: bool,
    others: BTreeSet<Arc<str>>,
}

#[derive(Debug, Clone)]
struct Broken {
    since: u32,
    all: Option<u64>,
    /// The version of the ledger; none, if there is none.
    version: Option<u64>,
}

impl Replica {
    fn breaks(&mut self, version: Option<u64>, now: u32) {
        if self.broken.as_ref().is_none_or(|broken| broken.version != version) {
            self.broken = Some(Broken { since: now, all: None, version });
        }
    }
}

#[derive(Debug, Clone)]
struct Base {
    version: u64,
    uid: String,
    generation: i64,
    ledger: Ledger,
}

impl Base {
    fn place(&self) -> Place<'_> {
        Place { uid: &self.uid, generation: self.generation }
    }
}

/// Ways to be wrong, each of which some case must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Blocks of the dead are removed as soon as their replicas are taken for gone.
    BlocksDroppedEarly,
    /// A replica that returns goes on with the block it had.
    BlocksTakenUp,
    /// A replica goes on admitting out of a block that it cannot have renewed.
    BlocksOutlived,
    /// What is counted makes the block free again.
    CountedTwice,
    /// A request is refused for what others hold, without asking them.
    NoRecall,
    /// Whoever settles has not seen all that the dead may have admitted.
    CountedAsSeen,
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
            broken: None,
            was_whole: false,
            others: BTreeSet::new(),
        }
    }

    /// Without a word. Its writes may yet be done, and its requests.
    pub(super) fn die(&mut self, index: usize) {
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

    /// Takes over the ledger as it is.
    pub(super) fn meet(&mut self, index: usize) {
        let now = self.now;
        let stored = self.stored.clone();
        let replica = &mut self.replicas[index];
        let Some(Stored { version, uid, generation, spec }) = stored else {
            replica.base = None;
            replica.holder.meet(&Ledger::default(), seconds(now));
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
            replica.holder.meet(&Ledger::default(), seconds(now));
            replica.breaks(Some(version), now);
            return;
        };
        let others = blocks(&ledger);
        let is_lost = replica.holder.meet(&ledger, seconds(now));
        let was_robbed =
            ledger.seal() == Seal::None && replica.was_whole && !replica.others.is_subset(&others);
        replica.was_whole = ledger.seal() == Seal::Whole;
        replica.others = others;
        let is_broken = ledger.seal() == Seal::Broken;
        replica.base = Some(Base { version, uid, generation, ledger });
        if is_broken {
            replica.breaks(Some(version), now);
            replica.holder.account.lose();
        } else {
            replica.broken = None;
        }
        if (is_lost || was_robbed) && !is_broken {
            let mut base = replica.base.clone().unwrap();
            base.ledger.break_seal();
            let spec = spec_of(&base);
            self.swap(base.version, spec);
            return self.meet(index);
        }
        self.follow(index);
    }

    fn follow(&mut self, index: usize) {
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

    /// Requests ride on one write together. Those that were admitted may be reviewed again.
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
                // To be tried again.
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

    /// Writes the own block, or that there is none. Says whether that was done, if it is known.
    fn put(&mut self, index: usize, block: Option<Block>, how: u8) -> Option<bool> {
        let replica = &mut self.replicas[index];
        let mut base = replica.base.clone()?;
        base.ledger.put(&Arc::clone(replica.holder.name()), block);
        let spec = spec_of(&base);
        match how {
            // Nobody answers; it is done, or will be, or not.
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
                    replica.others = blocks(&ledger);
                    replica.was_whole = true;
                    replica.base = Some(Base { version, uid, generation, ledger });
                } else {
                    replica.holder.failed(true);
                }
                Some(is_done)
            }
        }
    }

    /// Gives back what is not needed, or renews.
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

    /// Gives all back, if nothing is waited for.
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

    /// Sees everything, of all kinds but perhaps one, and settles.
    pub(super) fn catch_up(&mut self, index: usize, but: usize) {
        for kind in (0..KINDS).filter(|kind| *kind != but) {
            self.advance(index, kind, usize::MAX);
        }
        self.settle(index);
        self.meet(index);
    }

    /// Reads with a quorum what has waited for too long.
    pub(super) fn read_expired(&mut self, index: usize) {
        self.meet(index);
        let replica = &mut self.replicas[index];
        let mut expired = Vec::new();
        for (entry, since) in &replica.entries {
            if self.now - since > PATIENCE {
                let found = self.objects.get(&entry.uid).map(|object| object.revision);
                let fate = found.map_or(Fate::Absent, Fate::Present);
                expired.push(Expired { entry: entry.clone(), fate });
            }
        }
        replica.holder.account.found(&expired);
        self.follow(index);
    }

    /// Finds blocks that nobody writes any more, and a ledger that is not what it should be for long enough; and reads
    /// how far everything was written by then.
    pub(super) fn read_dead(&mut self, index: usize) {
        self.meet(index);
        let early = self.has(Fault::BlocksDroppedEarly);
        let replica = &mut self.replicas[index];
        let dead = u32::try_from(DEAD.as_secs()).unwrap();
        let patience = if early { dead } else { PATIENCE + dead };
        for (block, since) in &replica.blocks {
            if self.now - since > patience && replica.dead.iter().all(|(known, _)| known != block) {
                replica.dead.push((block.clone(), self.revision));
            }
        }
        if let Some(Broken { since, all: all @ None, .. }) = &mut replica.broken
            && self.now - *since > PATIENCE + dead
        {
            *all = Some(self.revision);
        }
    }

    /// Counts, removes the blocks of the dead, and makes anew a ledger that is not what it should be.
    pub(super) fn settle(&mut self, index: usize) {
        self.meet(index);
        let as_seen = self.has(Fault::CountedAsSeen);
        let resources: BTreeSet<_> = (0..KINDS).map(resource).collect();
        let has_seen = |view: &View, all: u64| as_seen || view.reached.iter().all(|reached| *reached >= all);
        let Replica { view, base, dead, broken, .. } = self.replicas[index].clone();
        if let Some(Broken { all, .. }) = broken {
            if !all.is_some_and(|all| has_seen(&view, all)) {
                return;
            }
            let mut ledger = Ledger::new("quota");
            if ledger.settle(&hard(), &resources, &view, &[], Counted::AllWritten) != Settled::Changed {
                return;
            }
            match base {
                Some(base) => {
                    let spec = spec_of(&Base { ledger, ..base });
                    self.swap(base_version(&self.replicas[index]), spec);
                }
                None if self.stored.is_none() => {
                    self.create(&ledger);
                    self.seal();
                }
                None => {}
            }
            self.replicas[index].broken = None;
            return self.meet(index);
        }
        let Some(mut base) = base else { return };
        let counted = if dead.iter().all(|(_, all)| has_seen(&view, *all)) {
            Counted::AllWritten
        } else {
            Counted::AsSeen
        };
        let dead: Vec<Dead> = dead.into_iter().map(|(dead, _)| dead).collect();
        let settled = base.ledger.settle(&hard(), &resources, &view, &dead, counted);
        let is_future = |kind: &usize| base.ledger.revision(&resource(*kind)) > Some(self.revision);
        if (0..KINDS).any(|kind| is_future(&kind)) {
            base.ledger.break_seal();
            let spec = spec_of(&base);
            self.swap(base.version, spec);
            return self.meet(index);
        }
        if matches!(settled, Settled::Changed | Settled::Later) {
            let spec = spec_of(&base);
            self.swap(base.version, spec);
            self.meet(index);
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.run.fault == Some(fault)
    }
}

fn blocks(ledger: &Ledger) -> BTreeSet<Arc<str>> {
    ledger.blocks().filter(|(_, block)| block.is_ours()).map(|(name, _)| Arc::clone(name)).collect()
}

fn base_version(replica: &Replica) -> u64 {
    replica.base.as_ref().map_or(0, |base| base.version)
}

fn spec_of(base: &Base) -> gatehouse_apiservice::policy::QuotaLedgerSpec {
    spec(&base.ledger, Some(base.place()))
}
