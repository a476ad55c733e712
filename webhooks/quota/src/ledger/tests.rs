//! What single rules of the ledger are for. That they hold together, the model shows.

use std::collections::{BTreeSet, HashMap, HashSet};

use gatehouse_apiservice::policy::QuotaLedgerSpec;

use super::*;

fn fleets() -> GroupResource {
    GroupResource::new("agones.dev", "fleets")
}

fn amounts(servers: i64) -> Amounts {
    [(Dimension::GameServers, Quantity::from_integer(servers))].into_iter().collect()
}

fn hard(servers: i64) -> BTreeMap<Dimension, Quantity> {
    [(Dimension::GameServers, Quantity::from_integer(servers))].into()
}

fn create(uid: &str, new: i64) -> Proposal {
    update(uid, None, 0, new)
}

fn update(uid: &str, at: impl Into<Option<u64>>, old: i64, new: i64) -> Proposal {
    Proposal {
        uid: uid.into(),
        resource: fleets(),
        namespace: "games".into(),
        name: "lobby".into(),
        at: at.into(),
        old: amounts(old),
        new: amounts(new),
        forced: false,
    }
}

/// Objects by uid: revision and servers; and how far they were seen.
#[derive(Default)]
struct Told {
    reached: u64,
    objects: HashMap<&'static str, (u64, i64)>,
    elsewhere: HashSet<&'static str>,
    deleted: HashSet<&'static str>,
}

impl Told {
    fn new(reached: u64, objects: &[(&'static str, u64, i64)]) -> Self {
        let objects = objects.iter().map(|(uid, revision, servers)| (*uid, (*revision, *servers)));
        Self { reached, objects: objects.collect(), ..Self::default() }
    }
}

impl Truth for Told {
    fn used(&self) -> Amounts {
        let ours = self.objects.iter().filter(|(uid, _)| !self.elsewhere.contains(**uid));
        amounts(ours.map(|(_, (_, servers))| servers).sum())
    }

    fn reached(&self, _resource: &GroupResource) -> Reached {
        Reached::To(self.reached)
    }

    fn seen(&self, _resource: &GroupResource, uid: &str) -> Option<Seen> {
        let (revision, servers) = self.objects.get(uid)?;
        Some(Seen {
            revision: *revision,
            counted: (!self.elsewhere.contains(uid)).then(|| amounts(*servers)),
        })
    }

    fn was_deleted(&self, uid: &str) -> bool {
        self.deleted.contains(uid)
    }
}

fn settle(ledger: &mut Ledger, limit: i64, truth: &Told) -> Settled {
    settle_expired(ledger, limit, truth, &[])
}

fn settle_expired(ledger: &mut Ledger, limit: i64, truth: &Told, expired: &[Expired]) -> Settled {
    ledger.settle(&hard(limit), &BTreeSet::from([fleets()]), truth, expired)
}

fn ledger(limit: i64, truth: &Told) -> Ledger {
    let mut ledger = Ledger::new("quota");
    assert_eq!(settle(&mut ledger, limit, truth), Settled::Changed);
    ledger
}

/// What is counted, and what is charged beyond.
fn sums(ledger: &Ledger) -> (String, String) {
    let used = ledger.used()[&Dimension::GameServers];
    (used.to_string(), ledger.charge().get(&Dimension::GameServers).to_string())
}

fn is(sums: &(String, String), used: i64, charge: i64) -> bool {
    *sums == (used.to_string(), charge.to_string())
}

fn expired(ledger: &Ledger, fate: Fate) -> Vec<Expired> {
    ledger.pending().map(|entry| Expired { entry, fate }).collect()
}

#[test]
fn a_refusal_reads_as_that_of_resourcequota() {
    let mut ledger = ledger(80, &Told::new(1, &[("a", 1, 77)]));
    assert!(matches!(ledger.propose(&create("b", 1), &hard(80)), Outcome::Charged(_)));
    let Outcome::Exceeded(exceeded) = ledger.propose(&create("c", 5), &hard(80)) else { panic!("refused") };
    assert_eq!(
        forbidden(&fleets(), "lobby", &exceeded.message("team-a")),
        r#"fleets.agones.dev "lobby" is forbidden: exceeded quota: team-a, requested: gameservers=5, used: gameservers=78, limited: gameservers=80"#
    );
    assert!(is(&sums(&ledger), 77, 1), "a refusal changes nothing");
}

#[test]
fn zero_is_said_in_a_refusal() {
    let mut ledger = ledger(0, &Told::new(1, &[]));
    let Outcome::Exceeded(exceeded) = ledger.propose(&create("a", 1), &hard(0)) else { panic!("refused") };
    assert_eq!(
        exceeded.message("q"),
        "exceeded quota: q, requested: gameservers=1, used: gameservers=0, limited: gameservers=0"
    );
}

#[test]
fn what_does_not_grow_is_admitted_though_more_is_used_than_allowed() {
    let mut ledger = ledger(5, &Told::new(1, &[("a", 1, 9)]));
    assert_eq!(ledger.propose(&update("a", 1, 9, 9), &hard(5)), Outcome::NoIncrease);
    assert_eq!(ledger.propose(&update("a", 1, 9, 2), &hard(5)), Outcome::NoIncrease);
    assert!(matches!(ledger.propose(&update("a", 1, 9, 10), &hard(5)), Outcome::Exceeded(_)));
}

#[test]
fn a_request_that_is_tried_again_is_charged_once() {
    let mut ledger = ledger(5, &Told::new(1, &[]));
    for _ in 0..3 {
        assert!(matches!(ledger.propose(&create("a", 3), &hard(5)), Outcome::Charged(_)));
    }
    assert!(is(&sums(&ledger), 0, 3));
    // One of the two will be written.
    assert!(matches!(ledger.propose(&update("b", 7, 1, 2), &hard(5)), Outcome::Charged(_)));
    assert!(matches!(ledger.propose(&update("b", 7, 1, 3), &hard(5)), Outcome::Charged(_)));
    assert!(is(&sums(&ledger), 0, 5));
}

#[test]
fn an_update_upon_history_is_admitted_and_not_charged() {
    let mut ledger = ledger(5, &Told::new(1, &[("a", 1, 1)]));
    assert!(matches!(ledger.propose(&update("a", 9, 1, 2), &hard(5)), Outcome::Charged(_)));
    assert_eq!(ledger.propose(&update("a", 1, 1, 9), &hard(5)), Outcome::Superseded);
    assert_eq!(ledger.propose(&create("a", 9), &hard(5)), Outcome::Superseded);
}

/// Admission is shown the object as the API server has cached it, and the update is then not written. What it took up
/// then is no longer counted.
#[test]
fn the_floor_of_an_update_upon_history_is_not_believed() {
    let mut ledger = ledger(9, &Told::new(6, &[("a", 6, 2)]));
    assert!(matches!(ledger.propose(&update("a", 5, 5, 6), &hard(9)), Outcome::Charged(_)));
    assert!(matches!(ledger.propose(&update("a", 6, 2, 4), &hard(9)), Outcome::Charged(_)));
    assert!(is(&sums(&ledger), 2, 2), "4 may come to be, and 2 are counted");
}

#[test]
fn the_floor_falls_with_what_is_counted() {
    let mut ledger = ledger(9, &Told::new(5, &[("a", 5, 5)]));
    assert!(matches!(ledger.propose(&update("a", 6, 2, 4), &hard(9)), Outcome::Charged(_)));
    assert_eq!(settle(&mut ledger, 9, &Told::new(5, &[("a", 5, 5)])), Settled::Changed);
    assert!(is(&sums(&ledger), 5, 0), "the object as it was takes up more than is asked for");
    assert_eq!(settle(&mut ledger, 9, &Told::new(6, &[("a", 6, 2)])), Settled::Changed);
    assert!(is(&sums(&ledger), 2, 2));
}

#[test]
fn what_was_written_is_charged_until_it_is_seen() {
    let mut ledger = ledger(9, &Told::new(1, &[]));
    ledger.propose(&create("a", 3), &hard(9));
    assert_eq!(settle(&mut ledger, 9, &Told::new(4, &[])), Settled::Unchanged);
    assert_eq!(settle(&mut ledger, 9, &Told::new(5, &[("a", 5, 3)])), Settled::Changed);
    assert!(is(&sums(&ledger), 3, 0) && ledger.is_empty());
    ledger.propose(&update("a", 5, 3, 4), &hard(9));
    assert_eq!(settle(&mut ledger, 9, &Told::new(8, &[("a", 5, 3)])), Settled::Unchanged);
    assert_eq!(settle(&mut ledger, 9, &Told::new(9, &[("a", 9, 4)])), Settled::Changed);
    assert!(is(&sums(&ledger), 4, 0) && ledger.is_empty());
}

#[test]
fn who_has_seen_less_than_was_counted_does_not_settle() {
    let mut ledger = ledger(9, &Told::new(5, &[("a", 5, 3)]));
    assert_eq!(settle(&mut ledger, 9, &Told::new(4, &[])), Settled::Behind(fleets()));
    assert!(is(&sums(&ledger), 3, 0));
}

/// A list may be half told when the ledger is settled.
#[test]
fn who_settles_next_must_have_seen_what_was_dropped() {
    let mut ledger = ledger(9, &Told::new(1, &[]));
    ledger.propose(&create("a", 3), &hard(9));
    assert_eq!(settle(&mut ledger, 9, &Told::new(4, &[("a", 8, 3)])), Settled::Changed);
    assert_eq!(ledger.revision(&fleets()), Some(8));
    assert_eq!(settle(&mut ledger, 9, &Told::new(7, &[])), Settled::Behind(fleets()));
}

#[test]
fn what_was_deleted_gives_its_room_back() {
    let mut ledger = ledger(9, &Told::new(1, &[("a", 1, 3)]));
    ledger.propose(&create("b", 3), &hard(9));
    ledger.propose(&update("a", 1, 3, 5), &hard(9));
    let deleted = HashSet::from(["b"]);
    assert_eq!(settle(&mut ledger, 9, &Told { deleted, ..Told::new(6, &[]) }), Settled::Changed);
    assert!(is(&sums(&ledger), 0, 0) && ledger.is_empty());
}

#[test]
fn what_never_came_gives_its_room_back_once_it_cannot_come_any_more() {
    let truth = Told::new(1, &[("b", 1, 2)]);
    let mut ledger = ledger(9, &truth);
    ledger.propose(&create("a", 3), &hard(9));
    let gone = expired(&ledger, Fate::Absent);
    // Admitted once more: younger than what was asked about.
    ledger.propose(&create("a", 3), &hard(9));
    assert_eq!(settle_expired(&mut ledger, 9, &truth, &gone), Settled::Unchanged);
    let gone = expired(&ledger, Fate::Absent);
    assert_eq!(settle_expired(&mut ledger, 9, &truth, &gone), Settled::Changed);
    assert!(ledger.is_empty());

    ledger.propose(&update("b", 1, 2, 4), &hard(9));
    let same = expired(&ledger, Fate::Present(1));
    assert_eq!(settle_expired(&mut ledger, 9, &truth, &same), Settled::Changed);
    assert!(is(&sums(&ledger), 2, 0) && ledger.is_empty());
}

/// Two updates; the first was written, and has not been seen for more than a minute.
#[test]
fn what_expired_is_kept_until_the_object_was_seen_as_it_is() {
    let truth = Told::new(5, &[("a", 5, 2)]);
    let mut ledger = ledger(9, &truth);
    ledger.propose(&update("a", 5, 2, 6), &hard(9));
    ledger.propose(&update("a", 6, 6, 7), &hard(9));
    let found = expired(&ledger, Fate::Present(6));
    assert_eq!(settle_expired(&mut ledger, 9, &truth, &found), Settled::Unchanged);
    assert!(is(&sums(&ledger), 2, 5), "6 are used");
    let found = expired(&ledger, Fate::Present(6));
    let seen = Told::new(6, &[("a", 6, 6)]);
    assert_eq!(settle_expired(&mut ledger, 9, &seen, &found), Settled::Changed);
    assert!(is(&sums(&ledger), 6, 0) && ledger.is_empty());
}

#[test]
fn what_is_in_a_namespace_not_known_to_be_the_tenants_stays_charged() {
    let mut ledger = ledger(9, &Told::new(1, &[]));
    ledger.propose(&create("a", 3), &hard(9));
    let truth = Told { elsewhere: HashSet::from(["a"]), ..Told::new(5, &[("a", 5, 3)]) };
    assert_eq!(settle(&mut ledger, 9, &truth), Settled::Unchanged);
    let found = expired(&ledger, Fate::Present(5));
    assert_eq!(settle_expired(&mut ledger, 9, &truth, &found), Settled::Changed);
    assert!(ledger.is_empty());
}

#[test]
fn a_charge_is_taken_back_unless_others_rest_on_it() {
    let mut ledger = ledger(9, &Told::new(1, &[("b", 1, 2)]));
    let mut charged = |proposal: &Proposal| match ledger.propose(proposal, &hard(9)) {
        Outcome::Charged(charged) => charged.receipt,
        other => panic!("{other:?}"),
    };
    let alone = charged(&create("a", 3)).unwrap();
    let shared = charged(&update("b", 1, 2, 3)).unwrap();
    assert_eq!(charged(&update("b", 1, 2, 4)), None);
    assert!(ledger.withdraw(&create("a", 3), alone));
    assert!(!ledger.withdraw(&update("b", 1, 2, 3), shared));
    assert!(is(&sums(&ledger), 2, 2));
}

/// Of two updates the first may have been written, and is not counted yet.
#[test]
fn taking_back_a_later_charge_leaves_what_the_object_takes_up_by_now() {
    let mut ledger = ledger(9, &Told::new(1, &[("a", 1, 2)]));
    ledger.propose(&update("a", 1, 2, 5), &hard(9));
    let Outcome::Charged(charged) = ledger.propose(&update("a", 4, 5, 8), &hard(9)) else {
        panic!("charged")
    };
    assert!(is(&sums(&ledger), 2, 6));
    assert!(ledger.withdraw(&update("a", 4, 5, 8), charged.receipt.unwrap()));
    assert!(is(&sums(&ledger), 2, 3));
}

#[test]
fn a_limit_that_is_new_is_waited_for() {
    let mut ledger = ledger(9, &Told::new(1, &[]));
    let mut more = hard(9);
    more.insert(Dimension::Players, Quantity::from_integer(1));
    let mut proposal = create("a", 1);
    proposal.new.set(Dimension::Players, Quantity::from_integer(1));
    assert_eq!(ledger.propose(&proposal, &more), Outcome::Untracked(Dimension::Players));
    assert!(matches!(ledger.propose(&proposal, &hard(9)), Outcome::Charged(_)));
}

#[test]
fn what_is_forced_is_charged_and_told() {
    let mut ledger = ledger(2, &Told::new(1, &[]));
    let forced = Proposal { forced: true, ..create("a", 5) };
    let Outcome::Charged(Charged { exceeds: Some(exceeds), .. }) = ledger.propose(&forced, &hard(2)) else {
        panic!("charged, and told")
    };
    assert_eq!(exceeds.limited, hard(2));
    assert!(is(&sums(&ledger), 0, 5));
}

#[test]
fn a_ceiling_counts_in_place_of_what_the_fleet_takes_up() {
    let ledger = ledger(10, &Told::new(1, &[("a", 1, 3), ("b", 1, 4)]));
    assert_eq!(ledger.over_ceiling(&amounts(6), &amounts(3), &hard(10)), None);
    let over = ledger.over_ceiling(&amounts(7), &amounts(3), &hard(10)).unwrap();
    assert_eq!(
        over.message("q"),
        "exceeded quota: q, requested: gameservers=4, used: gameservers=7, limited: gameservers=10"
    );
    assert_eq!(ledger.over_ceiling(&amounts(2), &amounts(3), &hard(1)), None, "it does not grow");
}

#[test]
fn too_many_entries_are_contention() {
    let mut ledger = ledger(1_000_000, &Told::new(1, &[]));
    for index in 0..MAX_ENTRIES {
        ledger.propose(&create(&format!("0b5f0ba1-3f6c-4c5c-9f39-{index:012}"), 1), &hard(1_000_000));
    }
    assert_eq!(ledger.propose(&create("one more", 1), &hard(1_000_000)), Outcome::Full);
    let written = serde_json::to_vec(&ledger).unwrap();
    assert!(written.len() < 1_572_864, "{} bytes are more than etcd takes", written.len());
}

#[test]
fn a_ledger_that_nobody_could_have_written_is_an_error_by_field() {
    let read = |json: serde_json::Value| {
        let spec: QuotaLedgerSpec = serde_json::from_value(json).unwrap();
        Ledger::try_from(&spec).map_err(|error| error.field)
    };
    let entry = |field: &str, value: serde_json::Value| {
        let mut entry = serde_json::json!({"resource": "fleets.agones.dev", "namespace": "n", "name": "a"});
        entry[field] = value;
        serde_json::json!({"quotaUid": "q", "entries": {"u": entry.to_string()}})
    };
    assert_eq!(
        read(serde_json::json!({"quotaUid": "q", "used": {"gameservers": "many"}})).unwrap_err(),
        "spec.used[gameservers]"
    );
    assert_eq!(
        read(serde_json::json!({"quotaUid": "q", "revisions": {"pods": "-1"}})).unwrap_err(),
        "spec.revisions[pods]"
    );
    let garbled = serde_json::json!({"quotaUid": "q", "entries": {"u": "{"}});
    assert_eq!(read(garbled).unwrap_err(), "spec.entries[u]");
    assert_eq!(read(entry("resource", "A".into())).unwrap_err(), "spec.entries[u].resource");
    assert_eq!(read(entry("resourceVersion", "x".into())).unwrap_err(), "spec.entries[u].resourceVersion");
    assert_eq!(
        read(entry("peak", serde_json::json!({"servers": "1"}))).unwrap_err(),
        "spec.entries[u].peak[servers]"
    );
}
