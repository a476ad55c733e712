//! Tests how ledgers are read, written and sealed, also beside versions that write them otherwise.

use super::*;

/// What a version without seals may make of a ledger, and what it cannot.
#[test]
fn what_a_version_without_seals_did_not_write_is_known() {
    let mut desk = Desk::new(9, &Shown::new(4, &[("a", 4, 2)]));
    desk.propose(&create("b", 3));
    desk.ledger.seal = Seal::Whole;
    let before = desk.ledger;
    let name = Arc::clone(desk.holder.name());
    let with = |change: &dyn Fn(&mut Ledger)| {
        let mut ledger = Ledger { seal: Seal::None, ..before.clone() };
        change(&mut ledger);
        ledger.may_be_of_older(&before)
    };
    let entry = || Block { is_ours: false, ..Block::new("x", 1, amounts(1), amounts(1), (0, 0)) };
    assert!(with(&|_| ()));
    assert!(with(&|ledger| ledger.put(&"uid".into(), Some(entry()))));
    let count = |ledger: &mut Ledger, revision, used| {
        ledger.revisions.insert(fleets(), revision);
        ledger.used.insert(Dimension::GameServers, Quantity::from_integer(used));
    };
    assert!(with(&|ledger| count(ledger, 7, 1)));
    assert!(!with(&|ledger| count(ledger, 3, 1)), "older than what was counted");
    assert!(!with(&|ledger| count(ledger, 4, 1)), "another count of the same");
    assert!(!with(&|ledger| ledger.used.clear()));
    assert!(!with(&|ledger| ledger.put(&name, None)));
    let block = |amount, ticket| Some(Block::new(&name, ticket, amounts(amount), amounts(0), (0, 0)));
    assert!(with(&|ledger| ledger.put(&name, block(3, 1))));
    assert!(!with(&|ledger| ledger.put(&name, block(2, 1))));
    assert!(!with(&|ledger| ledger.put(&name, block(3, 2))));
    // It removes a block that it has found nothing of, after a write of its own.
    let mut older = Ledger { seal: Seal::None, ..before.clone() };
    let unsealed = older.clone();
    older.put(&name, None);
    assert!(older.may_be_of_older(&unsealed));
}

fn read(json: serde_json::Value) -> Result<Ledger, String> {
    let spec: QuotaLedgerSpec = serde_json::from_value(json).unwrap();
    Ledger::read(&spec, Place { uid: "u", generation: 7 }).map_err(|error| error.field)
}

#[test]
fn what_is_written_is_read_and_sealed_to_its_place() {
    let mut desk = Desk::new(9, &Shown::new(1, &[("a", 1, 2)]));
    desk.propose(&create("b", 3));
    let place = Place { uid: "u", generation: 6 };
    let written = serde_json::to_value(desk.ledger.written(Some(place))).unwrap();
    let ledger = read(written.clone()).unwrap();
    assert_eq!(ledger.seal(), Seal::Whole);
    desk.ledger.was_sealed();
    assert_eq!(ledger, desk.ledger);
    let spec: QuotaLedgerSpec = serde_json::from_value(written).unwrap();
    for place in [Place { uid: "u", generation: 8 }, Place { uid: "other", generation: 7 }] {
        assert_eq!(Ledger::read(&spec, place).unwrap().seal(), Seal::Broken);
    }
}

/// To them a block is an entry of an object; and so are theirs to us.
#[test]
fn versions_without_blocks_charge_them() {
    let mut desk = Desk::new(9, &Shown::new(1, &[]));
    desk.propose(&create("b", 3));
    let written = serde_json::to_value(desk.ledger.written(Some(Place { uid: "u", generation: 6 }))).unwrap();
    for (name, text) in written["entries"].as_object().unwrap() {
        let text = text.as_str().unwrap();
        let entry: model::older::LedgerEntry = serde_json::from_str(text).unwrap();
        let charge = if name == "seal" { None } else { Some("3") };
        assert_eq!(entry.peak.get("gameservers").map(String::as_str), charge);
        assert!(entry.floor.is_empty() && entry.resource == "quotaledgers.policy.gatehouse.dev");
        // As they write it again.
        let again =
            serde_json::json!({"quotaUid": "q", "entries": {name: serde_json::to_string(&entry).unwrap()}});
        let ledger = read(again).unwrap();
        assert_eq!(ledger.seal(), Seal::None);
        assert_eq!(
            ledger.promised().get(&Dimension::GameServers),
            Quantity::from_integer(if name == "seal" { 0 } else { 3 })
        );
    }
}

#[test]
fn a_ledger_that_nobody_could_have_written_is_an_error_by_field() {
    let block = |field: &str, value: serde_json::Value| {
        let mut block = serde_json::json!({"resource": "fleets.agones.dev", "namespace": "n", "name": "a"});
        block[field] = value;
        serde_json::json!({"quotaUid": "q", "entries": {"u": block.to_string()}})
    };
    for (bad, field) in [
        (serde_json::json!({"quotaUid": "q", "used": {"gameservers": "many"}}), "spec.used[gameservers]"),
        (serde_json::json!({"quotaUid": "q", "used": {"gameservers": "-1"}}), "spec.used[gameservers]"),
        (serde_json::json!({"quotaUid": "q", "revisions": {"pods": "-1"}}), "spec.revisions[pods]"),
        (serde_json::json!({"quotaUid": "q", "entries": {"u": "{"}}), "spec.entries[u]"),
        (block("peak", serde_json::json!({"servers": "1"})), "spec.entries[u].peak[servers]"),
        (block("peak", serde_json::json!({"players": "-1"})), "spec.entries[u].peak[players]"),
        (block("floor", serde_json::json!({"players": "x"})), "spec.entries[u].floor[players]"),
    ] {
        assert_eq!(read(bad).unwrap_err(), field);
    }
}
