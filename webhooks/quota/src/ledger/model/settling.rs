//! Settling in the model: reads expired entries, counts, and repairs a ledger.

use std::collections::BTreeSet;

use super::{
    super::*,
    KINDS, PATIENCE, Stored, View, World, hard,
    replica::{Base, Broken, Fault, Replica, spec_of},
    resource,
};

impl World {
    /// Observes everything, except perhaps one kind, and settles.
    pub(super) fn catch_up(&mut self, index: usize, but: usize) {
        for kind in (0..KINDS).filter(|kind| *kind != but) {
            self.advance(index, kind, usize::MAX);
        }
        self.settle(index);
        self.meet(index);
    }

    /// Reads expired entries with a quorum.
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

    /// Finds expired blocks, and a ledger that has been broken for long enough; and reads the revision that everything
    /// was written at by then.
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

    /// Counts, removes the blocks of dead replicas, and rebuilds a broken ledger.
    pub(super) fn settle(&mut self, index: usize) {
        self.meet(index);
        let as_seen = self.has(Fault::CountedAsSeen);
        let resources: BTreeSet<_> = (0..KINDS).map(resource).collect();
        let has_seen = |view: &View, all: u64| as_seen || view.reached.iter().all(|reached| *reached >= all);
        let Replica { view, base, dead, broken, .. } = self.replicas[index].clone();
        if let Some(Broken { all, .. }) = broken {
            if self.restore(index) {
                return self.meet(index);
            }
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
                None if self.stored.is_none() => self.make_ledger(&ledger),
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
            base.ledger.doubt();
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

    /// Restores the last state that Gatehouse wrote, if the API server still knows all states after one that this
    /// replica knows.
    fn restore(&mut self, index: usize) -> bool {
        let Some(known) = self.replicas[index].known.clone() else { return false };
        let Some(current) = self.stored.clone() else {
            let mut ledger = Ledger::new("quota");
            ledger.break_seal();
            self.create(&ledger);
            return true;
        };
        let history = if self.has(Fault::RestoredAsKnown) {
            Some(History::new(known.ledger))
        } else {
            self.since(&known)
        };
        let Some(ledger) = history.and_then(History::restored) else { return false };
        let Stored { version, uid, generation, .. } = current;
        let spec = spec_of(&Base { version, uid, generation, ledger });
        self.swap(version, spec)
    }
}

fn base_version(replica: &Replica) -> u64 {
    replica.base.as_ref().map_or(0, |base| base.version)
}
