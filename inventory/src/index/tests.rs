//! Which rows a change affects, and what is updated with it.

use super::*;
use crate::{
    Dependency, Liveness, NotCurrent, Reference, Root, State, Verdict,
    root_cause::WALK,
    testing::{CATALOGUE, key, kustomization, record},
};

const LOCAL: ClusterId = ClusterId(0);

/// An inventory of one cluster that serves only Kustomizations, which have been listed.
fn inventory(records: impl IntoIterator<Item = Record>) -> Inventory {
    let mut inventory = Inventory::new(Arc::clone(&CATALOGUE), ["local".into()], 0);
    for (kind, _) in CATALOGUE.kinds() {
        let status = if kind == kustomization() {
            KindStatus::Served { version: "v1".into() }
        } else {
            KindStatus::Absent
        };
        inventory.apply(LOCAL, Event::Kind(kind, status), 0);
    }
    inventory.apply(LOCAL, Event::Restart(kustomization()), 0);
    for record in records {
        inventory.apply(LOCAL, Event::Apply(Box::new(record)), 0);
    }
    inventory.apply(LOCAL, Event::Synced(kustomization()), 0);
    inventory.apply(LOCAL, Event::Liveness(Liveness::Alive { version: None, ahead: None }), 0);
    inventory.take_delta();
    inventory
}

fn apply(inventory: &mut Inventory, record: Record) -> Vec<String> {
    inventory.apply(LOCAL, Event::Apply(Box::new(record)), 1);
    touched(inventory)
}

fn touched(inventory: &mut Inventory) -> Vec<String> {
    let delta = inventory.take_delta();
    let mut names: Vec<_> = delta.objects.iter().map(|(_, key)| key.name.to_string()).collect();
    names.sort();
    names
}

fn depth(inventory: &Inventory, name: &str) -> u32 {
    inventory.cluster(LOCAL).place(&key(name)).depth
}

fn cycle(inventory: &Inventory, name: &str) -> Vec<String> {
    let key = key(name);
    let cycle = inventory.cluster(LOCAL).cycle(&key).unwrap_or_default();
    cycle.path.iter().map(|key| key.name.to_string()).collect()
}

fn blocked(name: &str, on: &[&str]) -> Record {
    record(name).depends_on(on).state(State::Blocked).build()
}

#[test]
fn an_object_that_did_not_change_touches_nothing() {
    let mut inventory = inventory([record("a").build()]);
    inventory.apply(LOCAL, Event::Apply(Box::new(record("a").build())), 1);
    assert!(inventory.take_delta().is_empty());
}

#[test]
fn a_change_touches_its_dependents_and_goes_on_only_through_blocked_ones() {
    let mut inventory = inventory([
        record("base").build(),
        record("ready").depends_on(&["base"]).build(),
        record("above-ready").depends_on(&["ready"]).build(),
        blocked("blocked", &["base"]),
        blocked("above-blocked", &["blocked"]),
        record("unrelated").build(),
    ]);
    let touched = apply(&mut inventory, record("base").state(State::Failed).build());
    assert_eq!(touched, ["above-blocked", "base", "blocked", "ready"]);
}

#[test]
fn a_resync_drops_what_was_not_sent_again_and_keeps_the_rest_meanwhile() {
    let mut inventory = inventory([record("stays").build(), record("goes").build()]);
    inventory.apply(LOCAL, Event::Restart(kustomization()), 1);
    assert_eq!(inventory.cluster(LOCAL).records().len(), 2, "nothing is lost while the list is under way");
    inventory.apply(LOCAL, Event::Apply(Box::new(record("stays").build())), 1);
    inventory.apply(LOCAL, Event::Synced(kustomization()), 1);
    assert!(inventory.cluster(LOCAL).record(&key("stays")).is_some());
    assert!(inventory.cluster(LOCAL).record(&key("goes")).is_none());
    assert_eq!(touched(&mut inventory), ["goes"]);
}

#[test]
fn depth_follows_the_longest_chain_as_it_grows_and_shrinks() {
    let mut inventory = inventory([
        record("c").depends_on(&["b", "a"]).build(),
        record("b").depends_on(&["a"]).build(),
        record("a").build(),
    ]);
    assert_eq!(["a", "b", "c"].map(|name| depth(&inventory, name)), [0, 1, 2]);
    apply(&mut inventory, record("a").depends_on(&["z"]).build());
    assert_eq!(["a", "b", "c"].map(|name| depth(&inventory, name)), [1, 2, 3]);
    apply(&mut inventory, record("b").build());
    assert_eq!(depth(&inventory, "c"), 2, "through a to z");
}

#[test]
fn a_cycle_is_found_when_it_closes_and_forgotten_when_it_opens() {
    let mut inventory = inventory([
        record("a").depends_on(&["b"]).build(),
        record("b").depends_on(&["c"]).build(),
        record("c").build(),
        record("outside").depends_on(&["a"]).build(),
    ]);
    assert!(cycle(&inventory, "a").is_empty());
    let touched = apply(&mut inventory, record("c").depends_on(&["a"]).build());
    assert_eq!(touched, ["a", "b", "c", "outside"]);
    assert_eq!(cycle(&inventory, "a"), ["a", "b", "c"]);
    assert_eq!(cycle(&inventory, "b"), ["b", "c", "a"]);
    assert!(cycle(&inventory, "outside").is_empty());
    assert_eq!(depth(&inventory, "outside"), 1);
    apply(&mut inventory, record("b").build());
    assert!(["a", "b", "c"].iter().all(|name| cycle(&inventory, name).is_empty()));
}

#[test]
fn an_object_that_depends_on_itself_is_a_cycle() {
    let inventory = inventory([record("a").depends_on(&["a"]).build()]);
    assert_eq!(cycle(&inventory, "a"), ["a"]);
}

#[test]
fn a_chain_of_ten_thousand_has_its_depth_and_is_walked_as_far_as_a_walk_goes() {
    let name = |n: usize| format!("app-{n:05}");
    let records = (0..10_000).map(|n| match n {
        0 => record(&name(0)).state(State::Failed).build(),
        n => blocked(&name(n), &[&name(n - 1)]),
    });
    let inventory = inventory(records);
    assert_eq!(depth(&inventory, &name(9_999)), 9_999);
    let cluster = inventory.cluster(LOCAL);
    let cause = cluster.root_cause(cluster.record(&key(&name(9_999))).unwrap()).unwrap();
    assert_eq!(cause.path.len() + 1, WALK);
    assert_eq!(cause.root, Root::Dependency(cluster.record(&key(&name(9_999 - WALK))).unwrap()));
    let near = cluster.root_cause(cluster.record(&key(&name(WALK))).unwrap()).unwrap();
    assert_eq!(near.root, Root::Dependency(cluster.record(&key(&name(0))).unwrap()));
}

fn root(records: impl IntoIterator<Item = Record>, of: &str) -> String {
    let inventory = inventory(records);
    let cluster = inventory.cluster(LOCAL);
    let Some(cause) = cluster.root_cause(cluster.record(&key(of)).unwrap()) else { return "none".into() };
    let path: Vec<_> = cause.path.iter().map(|key| &*key.name).collect();
    let root = match cause.root {
        Root::Dependency(record) => format!("{} {}", record.key.name, record.verdict.state),
        Root::Source(record) => format!("source {}", record.key.name),
        Root::Missing(key) | Root::MissingSource(key) => format!("missing {}", key.name),
        Root::NotEnough { dependency, .. } => format!("not enough {}", dependency.key.name),
        Root::Unseen(_) => "unseen".into(),
        Root::Cycle(key) => format!("cycle {}", key.name),
    };
    [&*path.join(">"), &*root].join("|")
}

#[test]
fn the_root_of_a_blocked_chain_is_named_with_the_way_to_it() {
    let chain = [
        blocked("top", &["middle"]),
        blocked("middle", &["fine", "bottom"]),
        record("fine").build(),
        record("bottom").state(State::Failed).build(),
    ];
    assert_eq!(root(chain, "top"), "middle|bottom Failed");
}

#[test]
fn a_missing_dependency_is_named_before_one_that_is_merely_not_ready() {
    let records = [blocked("top", &["nowhere", "slow"]), record("slow").state(State::Progressing).build()];
    assert_eq!(root(records, "top"), "|missing nowhere");
}

#[test]
fn a_failed_dependency_is_named_before_a_missing_one() {
    let records = [blocked("top", &["nowhere", "broken"]), record("broken").state(State::Stalled).build()];
    assert_eq!(root(records, "top"), "|broken Stalled");
}

#[test]
fn a_chain_that_ends_in_a_cycle_says_so() {
    let records = [blocked("top", &["a"]), blocked("a", &["b"]), blocked("b", &["a"])];
    assert_eq!(root(records, "top"), "a|cycle a");
}

#[test]
fn what_is_not_blocked_has_no_root_but_itself() {
    assert_eq!(root([record("a").state(State::Failed).build()], "a"), "none");
    assert_eq!(root([blocked("a", &["b"]), record("b").build()], "a"), "none");
}

fn fails_at(at: i64, reason: &str, message: &str) -> crate::Deadline {
    crate::Deadline {
        at,
        since: at,
        observed: false,
        end: crate::End::State(State::Failed),
        reason: reason.into(),
        message: message.into(),
        passed: false,
        next: None,
    }
}

#[test]
fn a_deadline_turns_the_verdict_when_its_time_has_come() {
    let mut soon = record("cert").build();
    soon.verdict =
        Verdict { deadline: Some(Box::new(fails_at(100, "Expired", "it has expired"))), ..soon.verdict };
    let mut inventory = inventory([soon]);
    inventory.apply(LOCAL, Event::Liveness(Liveness::Alive { version: None, ahead: None }), 98);
    inventory.tick(99);
    assert_eq!(touched(&mut inventory), [""; 0]);
    inventory.tick(100);
    assert_eq!(touched(&mut inventory), ["cert"]);
    let verdict = &inventory.cluster(LOCAL).record(&key("cert")).unwrap().verdict;
    assert_eq!((verdict.state, verdict.since), (State::Failed, Some(100)));
    assert_eq!(inventory.cluster(LOCAL).namespace("apps").unwrap().failures().len(), 1);
}

#[test]
fn an_object_that_is_gone_does_not_outlive_a_list_because_its_time_came_meanwhile() {
    let due = |name: &str| {
        let mut due = record(name).build();
        due.verdict.deadline = Some(Box::new(fails_at(100, "Late", "")));
        due
    };
    let mut inventory = inventory([due("stays"), due("gone")]);
    inventory.apply(LOCAL, Event::Restart(kustomization()), 99);
    inventory.apply(LOCAL, Event::Apply(Box::new(due("stays"))), 99);
    inventory.tick(100);
    inventory.apply(LOCAL, Event::Synced(kustomization()), 101);
    let cluster = inventory.cluster(LOCAL);
    assert!(cluster.record(&key("gone")).is_none());
    assert_eq!(cluster.record(&key("stays")).unwrap().verdict.state, State::Failed);
}

#[test]
fn a_silent_cluster_grows_stale_and_comes_back() {
    let mut inventory = inventory([record("a").build()]);
    let silent = |message: &str| Event::Liveness(Liveness::Silent { message: message.into() });
    inventory.apply(LOCAL, silent("connection refused"), 10);
    inventory.tick(STALE_AFTER - 1);
    assert!(inventory.cluster(LOCAL).is_fresh(kustomization()));
    inventory.tick(STALE_AFTER);
    assert!(!inventory.cluster(LOCAL).is_fresh(kustomization()));
    assert_eq!(touched(&mut inventory), ["a"], "every row says that it may be stale");
    inventory.apply(LOCAL, Event::Liveness(Liveness::Alive { version: None, ahead: None }), 50);
    inventory.tick(51);
    assert!(inventory.cluster(LOCAL).is_fresh(kustomization()));
    assert_eq!(touched(&mut inventory), ["a"]);
}

#[test]
fn a_kind_whose_watch_fails_for_long_is_stale_alone() {
    let mut inventory = inventory([record("a").build()]);
    let failing = KindStatus::Failing { message: "timeout".into() };
    inventory.apply(LOCAL, Event::Kind(kustomization(), failing), 5);
    inventory.apply(LOCAL, Event::Liveness(Liveness::Alive { version: None, ahead: None }), 5 + STALE_AFTER);
    inventory.tick(5 + STALE_AFTER);
    let cluster = inventory.cluster(LOCAL);
    assert!(cluster.freshness().0 && !cluster.is_fresh(kustomization()));
}

#[test]
fn a_forbidden_kind_is_settled_and_its_objects_are_not_missing() {
    let mut inventory = inventory([]);
    let forbidden = KindStatus::Forbidden { message: "no".into() };
    inventory.apply(LOCAL, Event::Kind(kustomization(), forbidden), 1);
    let cluster = inventory.cluster(LOCAL);
    assert!(cluster.is_settled(kustomization()));
    assert_eq!(cluster.dependency(&Reference::Known(key("a"))), Dependency::Unseen, "unknown, not missing");
}

#[test]
fn what_piles_up_during_a_silence_that_was_too_long_takes_its_time() {
    let mut inventory = inventory([record("a").build()]).with_lag(20);
    let mut is_current = |event: Option<Event>, now: Seconds| {
        inventory.apply(LOCAL, Event::Liveness(Liveness::Alive { version: None, ahead: None }), now);
        if let Some(event) = event {
            inventory.apply(LOCAL, event, now);
        }
        inventory.tick(now);
        inventory.cluster(LOCAL).is_current(now)
    };
    let current = || Some(Event::Current(kustomization()));
    assert_eq!(is_current(current(), 0), Ok(()));
    assert_eq!(is_current(current(), 20), Ok(()));
    assert_eq!(is_current(None, 41), Err(NotCurrent::Quiet(kustomization())));
    // The watch has been reopened, before it has delivered the events that it missed.
    assert_eq!(is_current(current(), 42), Err(NotCurrent::Behind(kustomization())));
    assert_eq!(is_current(current(), 61), Err(NotCurrent::Behind(kustomization())));
    assert_eq!(is_current(current(), 62), Ok(()));
}

#[test]
fn a_clock_is_wrong_that_is_further_off_than_replicas_may_be_apart() {
    let mut inventory = inventory([]).with_lag(20);
    let mut error = |ahead| {
        inventory.apply(LOCAL, Event::Liveness(Liveness::Alive { version: None, ahead }), 0);
        inventory.cluster(LOCAL).clock_error()
    };
    assert_eq!((error(None), error(Some(6)), error(Some(-6))), (None, None, None));
    assert_eq!((error(Some(7)), error(None), error(Some(-7))), (Some(7), Some(7), Some(-7)));
    assert_eq!(error(Some(0)), None);
}
