//! The last state of a ledger that was as Gatehouse wrote it, out of everything that it has been since.
//!
//! Replicas promise upon a ledger with its seal alone, and each promise is a write of it. So whatever somebody else makes of
//! the object, its last state with a seal still holds all that was promised, if none that came after it is missing here.

use super::{Ledger, LedgerError, Seal};

/// The states of a ledger, one after the other.
#[derive(Debug, Clone)]
pub struct History {
    quota_uid: String,
    last: Option<Ledger>,
}

impl History {
    /// Begins with a state that has its seal.
    pub fn new(ledger: Ledger) -> Self {
        Self { quota_uid: ledger.quota_uid.clone(), last: Some(ledger) }
    }

    /// Takes the next state.
    pub fn see(&mut self, state: Result<Ledger, LedgerError>) {
        let Ok(ledger) = state else { return };
        match ledger.seal {
            // Of a version that is yet to come, or found not to be true.
            Seal::Broken if ledger.is_doubted => self.last = None,
            Seal::Broken => {}
            // Another quota's.
            _ if ledger.quota_uid != self.quota_uid && ledger.seal == Seal::Whole => self.last = None,
            Seal::Whole => self.last = Some(ledger),
            // A version that knows no seal has left an entry for what it admitted. Without any, it admitted nothing.
            Seal::None if ledger.blocks.is_empty() => {}
            Seal::None => self.last = None,
        }
    }

    /// The last state that was as Gatehouse wrote it, to be written anew. None, if something was admitted since by a version
    /// without seals, or it was found not to be true.
    pub fn last(self) -> Option<Ledger> {
        let mut ledger = self.last?;
        ledger.seal = Seal::None;
        Some(ledger)
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_apiservice::policy::QuotaLedgerSpec;
    use serde_json::{Value, json};

    use super::{super::Place, *};

    /// The object as it is at a generation, sealed to it.
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

    /// What is found after `states`, each with the generation that the object has then: the tickets, to know it by.
    fn found(states: Vec<(Value, i64)>) -> Option<i64> {
        let mut history = History::new(sealed(1, 1));
        for (spec, generation) in states {
            history.see(read(spec, generation));
        }
        history.last().map(|ledger| ledger.tickets)
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
