//! Finds the last trustworthy state of a ledger among all the states that it has had since a known one.
//!
//! Replicas reserve only in a ledger with its seal, and each block is a write of it. **Invariant:** whatever somebody
//! else makes of the object, its last sealed state holds all reservations, provided that no later sealed state is
//! missing here. A state without a seal is trusted if versions without seals can have written each of the states up to
//! it; else somebody else has written, and blocks may be missing.

use std::sync::Arc;

use super::{Block, Ledger, LedgerError, Seal};

/// The states of a ledger, in order.
#[derive(Debug, Clone)]
pub struct History {
    quota_uid: String,
    /// The last sealed state that can be restored.
    sealed: Option<Ledger>,
    /// The last state, if only Gatehouse can have written it.
    last: Option<Ledger>,
}

impl History {
    /// Begins with a state that only Gatehouse has written.
    pub fn new(ledger: Ledger) -> Self {
        let sealed = Some(&ledger).filter(|ledger| ledger.seal == Seal::Whole).cloned();
        Self { quota_uid: ledger.quota_uid.clone(), sealed, last: Some(ledger) }
    }

    /// Observes the next state.
    pub fn see(&mut self, state: Result<Ledger, LedgerError>) {
        let before = self.last.take();
        let Ok(ledger) = state else { return };
        match ledger.seal {
            // A later version wrote it, or it was found to be wrong.
            Seal::Broken if ledger.is_doubted => self.sealed = None,
            Seal::Broken => {}
            // The ledger of another quota.
            Seal::Whole if ledger.quota_uid != self.quota_uid => self.sealed = None,
            Seal::Whole => {
                self.sealed = Some(ledger.clone());
                self.last = Some(ledger);
            }
            Seal::None => {
                if self.sealed.as_ref().is_some_and(|sealed| ledger.has_entries_beside(sealed)) {
                    self.sealed = None;
                }
                let is_ours = ledger.quota_uid == self.quota_uid;
                self.last = before.filter(|before| is_ours && ledger.may_be_of_older(before)).map(|_| ledger);
            }
        }
    }

    /// Whether only Gatehouse can have written the last state.
    pub fn is_unbroken(&self) -> bool {
        self.last.is_some()
    }

    /// The last sealed state, to be written again. `None` if a version without seals has admitted something since, or
    /// if the ledger was found to be wrong, is of a later version, or is of another quota.
    pub fn restored(self) -> Option<Ledger> {
        let mut ledger = self.sealed?;
        ledger.seal = Seal::None;
        Some(ledger)
    }
}

impl Ledger {
    /// Whether it has entries of a version without seals that `sealed` does not have. Without any, no such version has
    /// admitted anything since.
    fn has_entries_beside(&self, sealed: &Self) -> bool {
        let is_known = |(name, block): (&Arc<str>, &Block)| {
            sealed.blocks.get(name).is_some_and(|known| known.is_ours || known.text == block.text)
        };
        !self.blocks.iter().all(is_known)
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_apiservice::policy::QuotaLedgerSpec;
    use serde_json::{Value, json};

    use super::{super::Place, *};

    /// A ledger that is sealed to the object at a generation.
    fn sealed(generation: i64, tickets: i64) -> Ledger {
        let ledger = Ledger { tickets, ..Ledger::new("quota") };
        read(written(&ledger, generation - 1), generation).unwrap()
    }

    fn written(ledger: &Ledger, generation: i64) -> Value {
        serde_json::to_value(ledger.written(Some(Place { uid: "u", generation }))).unwrap()
    }

    fn read(spec: Value, generation: i64) -> Result<Ledger, LedgerError> {
        let spec: QuotaLedgerSpec = serde_json::from_value(spec).unwrap();
        Ledger::read(&spec, Place { uid: "u", generation })
    }

    /// The tickets of the state that is restored after `states`, each with the object's generation then.
    fn found(states: Vec<(Value, i64)>) -> Option<i64> {
        let mut history = History::new(sealed(1, 1));
        for (spec, generation) in states {
            history.see(read(spec, generation));
        }
        history.restored().map(|ledger| ledger.tickets)
    }

    #[test]
    fn what_somebody_else_wrote_is_passed_over() {
        let edited = json!({"quotaUid": "quota", "used": {"gameservers": "-1"}});
        let copied = written(&sealed(1, 1), 0);
        let emptied = json!({"quotaUid": "quota", "used": {"gameservers": "0"}, "entries": {}});
        for bad in [edited, copied, emptied] {
            assert_eq!(found(vec![(bad.clone(), 2)]), Some(1), "{bad}");
            let later = written(&sealed(2, 2), 2);
            assert_eq!(found(vec![(later, 3), (bad.clone(), 4), (bad.clone(), 5)]), Some(2), "{bad}");
        }
    }

    #[test]
    fn what_a_version_without_seals_has_admitted_is_not_forgotten() {
        let entry = json!({"resource": "fleets.agones.dev", "namespace": "n", "name": "a", "peak": {"gameservers": "1"}});
        let older = json!({"quotaUid": "quota", "entries": {"uid": entry.to_string()}});
        assert_eq!(found(vec![(older.clone(), 2)]), None);
        assert_eq!(found(vec![(older, 2), (written(&sealed(2, 2), 2), 3)]), Some(2));
    }

    #[test]
    fn only_what_follows_from_what_is_known_is_believed() {
        let is_unbroken = |states: &[(Value, i64)]| {
            let mut history = History::new(sealed(1, 1));
            for (spec, generation) in states {
                history.see(read(spec.clone(), *generation));
            }
            history.is_unbroken()
        };
        let older = |entries: Value| json!({"quotaUid": "quota", "entries": entries});
        let entry = json!({"resource": "fleets.agones.dev", "namespace": "n", "name": "a"}).to_string();
        let (one, none) = (older(json!({"uid": entry})), older(json!({})));
        let broken = json!({"quotaUid": "quota", "entries": {"seal": "{"}});
        let another = json!({"quotaUid": "another"});
        let whole = (written(&sealed(4, 4), 4), 5);
        assert!(is_unbroken(&[]) && is_unbroken(&[(one.clone(), 2), (none.clone(), 3)]));
        for bad in [broken, another, written(&sealed(1, 1), 0)] {
            assert!(!is_unbroken(&[(bad.clone(), 2)]), "{bad}");
            assert!(!is_unbroken(&[(bad.clone(), 2), (none.clone(), 3)]), "{bad}");
            assert!(is_unbroken(&[(bad.clone(), 2), whole.clone(), (one.clone(), 6)]), "{bad}");
        }
    }

    #[test]
    fn what_gatehouse_doubts_is_not_put_back() {
        let mut doubted = sealed(2, 2);
        doubted.doubt();
        assert_eq!(found(vec![(written(&doubted, 2), 3)]), None);
        let mut broken = sealed(2, 2);
        broken.break_seal();
        assert_eq!(found(vec![(written(&broken, 2), 3)]), Some(1));
        let another = Ledger { quota_uid: "another".to_owned(), ..sealed(2, 2) };
        assert_eq!(found(vec![(written(&another, 2), 3)]), None);
    }
}
