//! Requests of the model: reviewed, and then written late, or never, or at an object that has changed.

use std::collections::BTreeSet;

use super::{Object, REPLICAS, REQUEST, World, amounts, resource};
use crate::{Amounts, Proposal};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stage {
    /// To be reviewed.
    Fresh,
    /// May be written at any time, or never. By whom it was admitted, with what receipt.
    Admitted(Option<(usize, i64)>),
}

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) began: u32,
    pub(super) stage: Stage,
    pub(super) namespace: usize,
    pub(super) kind: usize,
    pub(super) proposal: Proposal,
    /// The recall that was made for the request.
    pub(super) recall: Option<u64>,
}

impl World {
    pub(super) fn request(&mut self, index: u8) -> Option<usize> {
        // A request that took too long ends, admitted or not.
        let now = self.now;
        self.requests.retain(|request| now - request.began <= REQUEST);
        (!self.requests.is_empty()).then(|| usize::from(index) % self.requests.len())
    }

    /// A creation that goes through at once.
    pub(super) fn make(&mut self, a: u8, servers: u8, players: u8) {
        self.ask_to_create(a, servers, players);
        let last = self.requests.len() - 1;
        self.review_one(last, usize::from(a) % REPLICAS);
        if let Ok(last) = u8::try_from(last) {
            self.commit(last);
        }
    }

    pub(super) fn review_one(&mut self, index: usize, replica: usize) {
        if let Ok(index) = u8::try_from(index) {
            self.review(&[index], replica, 0);
        }
    }

    pub(super) fn ask_to_create(&mut self, a: u8, servers: u8, players: u8) {
        let labelled = self.objects.contains_key("namespace-1");
        self.uids += 1;
        let kind = usize::from(a) % 2;
        let proposal = Proposal {
            uid: format!("u{}", self.uids).into(),
            resource: resource(kind),
            namespace: "n".into(),
            name: "o".into(),
            user: "someone".into(),
            at: None,
            old: Amounts::default(),
            new: amounts(servers % 7, players % 7),
            forced: self.run.forced,
        };
        let namespace = usize::from(labelled && a >= 128);
        self.requests.push(Request {
            began: self.now,
            stage: Stage::Fresh,
            namespace,
            kind,
            proposal,
            recall: None,
        });
    }

    /// Shown to admission as it is, or as it was: the API server may begin with what it has cached.
    pub(super) fn ask_to_update(&mut self, index: u8, usage: u8, age: u8) {
        let Some((uid, object)) = self.pick(index) else { return };
        let known: Vec<&Object> = self
            .history
            .iter()
            .filter(|event| event.uid == uid)
            .filter_map(|event| event.object.as_ref())
            .collect();
        let shown = known[known.len() - 1 - usize::from(age % 4 / 2 * (age / 8)) % known.len()].clone();
        let proposal = Proposal {
            uid,
            resource: resource(object.kind),
            namespace: "n".into(),
            name: "o".into(),
            user: "someone".into(),
            at: Some(shown.revision),
            old: shown.usage,
            new: amounts(usage % 8, usage / 8 % 8),
            forced: self.run.forced,
        };
        let Object { kind, namespace, .. } = object;
        self.requests.push(Request {
            began: self.now,
            stage: Stage::Fresh,
            namespace,
            kind,
            proposal,
            recall: None,
        });
    }

    /// Records the results of requests. A denied review does not undo an admitted one.
    pub(super) fn answered(&mut self, stages: Vec<(usize, Option<Stage>)>) {
        let mut refused = BTreeSet::new();
        // In a round, a later request may show that an earlier one was not written, and free room.
        if let [(index, None)] = stages.as_slice()
            && self.requests[*index].stage == Stage::Fresh
        {
            self.refuses(*index);
        }
        for (index, stage) in stages {
            match stage {
                Some(stage) => self.requests[index].stage = stage,
                None if self.requests[index].stage == Stage::Fresh => {
                    refused.insert(index);
                }
                None => {}
            }
        }
        for index in refused.into_iter().rev() {
            self.requests.remove(index);
        }
    }

    pub(super) fn commit(&mut self, index: u8) {
        let Some(index) = self.request(index) else { return };
        let Request { stage: Stage::Admitted(_), namespace, kind, proposal, .. } =
            self.requests[index].clone()
        else {
            return;
        };
        let current = self.objects.get(&proposal.uid).cloned();
        match (proposal.at, current) {
            (None, None) => {}
            (Some(at), Some(object)) if object.revision == at => {}
            (Some(_), Some(object)) => {
                // A conflict: the request is retried and reviewed at the current object.
                let request = &mut self.requests[index];
                request.stage = Stage::Fresh;
                request.proposal.at = Some(object.revision);
                request.proposal.old = object.usage;
                return;
            }
            (None, Some(_)) | (Some(_), None) => {
                self.requests.remove(index);
                return;
            }
        }
        self.requests.remove(index);
        let object = Object { kind, namespace, revision: self.revision + 1, usage: proposal.new };
        self.write(&proposal.uid, kind, Some(object));
    }

    /// A request ends unwritten. If another quota has denied it, its charge is withdrawn.
    pub(super) fn give_up(&mut self, index: u8, how: u8) {
        let Some(index) = self.request(index) else { return };
        let request = self.requests.remove(index);
        let Stage::Admitted(Some((replica, receipt))) = request.stage else { return };
        if how.is_multiple_of(2) {
            self.replicas[replica].holder.account.withdraw(&request.proposal, receipt);
        }
    }
}
