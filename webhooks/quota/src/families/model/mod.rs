//! Tests families against a model of what Agones and the garbage collector do.
//!
//! The model selects as Agones does: sets of a Fleet by the label and the controlling reference's uid, servers of a set
//! likewise, whatever kind or version the reference states. Agones ignores all other servers, but they run as well. So
//! the truth is: all existing servers, and what Agones is going to create for what Fleets and sets ask for.

mod cluster;

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use self::cluster::{Cluster, Form, Owned, Step, text};
use super::*;
use crate::{NoTemplates, Quantity, exceeded_by_replacement};

const NAMESPACE: &str = "games";
const FLEETS: &str = "fleets.agones.dev";
const SETS: &str = "gameserversets.agones.dev";
const SERVERS: &str = "gameservers.agones.dev";

fn full(of: &'static str, name: u8) -> Name {
    Name { resource: of.parse().unwrap(), namespace: NAMESPACE.into(), name: text(name).into() }
}

fn put(families: &mut Families, of: &'static str, name: u8, object: &Value) -> BTreeSet<Name> {
    let usage = Arc::new(crate::usage(&of.parse().unwrap(), object, &NoTemplates).unwrap());
    let metadata = &object["metadata"];
    let orphans = gatehouse_apiservice::agones::orphans_dependents(metadata);
    families.put(&full(of, name), metadata["uid"].as_str().unwrap(), orphans, &usage)
}

fn follow(families: &mut Families, cluster: &Cluster, (of, name): (&'static str, u8)) -> BTreeSet<Name> {
    match cluster.objects.get(&(of, name)) {
        Some(object) => put(families, of, name, object),
        None => families.remove(&full(of, name)),
    }
}

fn total(families: &Families) -> i64 {
    let counted = families.objects.values().map(|object| object.counted.amounts.clone());
    number(&counted.fold(Amounts::default(), |sum, one| sum.saturating_add(&one)))
}

fn number(amounts: &Amounts) -> i64 {
    amounts.get(&Dimension::GameServers).to_string().parse().unwrap()
}

fn kinds() -> impl Strategy<Value = &'static str> {
    prop_oneof![1 => Just(FLEETS), 2 => Just(SETS), 3 => Just(SERVERS)]
}

fn owners() -> impl Strategy<Value = (Option<u8>, Option<Owned>)> {
    let form = prop_oneof![
        8 => Just(Form::Whole),
        1 => Just(Form::Stranger),
        1 => Just(Form::Version),
        1 => Just(Form::Kind),
        1 => Just(Form::Aside),
        1 => Just(Form::Beside),
    ];
    prop_oneof![
        // As Agones does it: both name the same owner.
        4 => (0..3_u8).prop_map(|name| (Some(name), Some(Owned { name, form: Form::Whole }))),
        3 => (
            proptest::option::of(0..3_u8),
            proptest::option::of((0..3_u8, form).prop_map(|(name, form)| Owned { name, form })),
        ),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let made = || (kinds(), 0..3_u8, 0..6_u8, owners());
    let step = prop_oneof![
        6 => made().prop_map(|(of, name, replicas, (label, owner))| Step::Make { of, name, replicas, label, owner }),
        4 => made().prop_map(|(of, name, replicas, (label, owner))| Step::Change { of, name, replicas, label, owner }),
        1 => (prop_oneof![Just(FLEETS), Just(SETS)], 0..3_u8, 0..9_u8)
            .prop_map(|(of, name, allocated)| Step::Play { of, name, allocated }),
        1 => (0..3_u8, any::<bool>()).prop_map(|(name, back)| Step::Shut { name, back }),
        1 => (0..3_u8, 0..3_u8).prop_map(|(set, name)| Step::Replace { set, name }),
        2 => (kinds(), 0..3_u8).prop_map(|(of, name)| Step::Delete { of, name }),
        1 => (prop_oneof![Just(FLEETS), Just(SETS)], 0..3_u8).prop_map(|(of, name)| Step::Orphan { of, name }),
        2 => (prop_oneof![Just(SETS), Just(SERVERS)], 0..3_u8).prop_map(|(of, name)| Step::LetGo { of, name }),
        2 => (kinds(), 0..3_u8).prop_map(|(of, name)| Step::Remove { of, name }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Fleets and sets as Agones has them, with servers that come and go all the time.
fn replacements() -> impl Strategy<Value = Vec<Step>> {
    let whole = |name| Some(Owned { name, form: Form::Whole });
    let fleet = (0..2_u8, 0..5_u8).prop_map(|(name, replicas)| Step::Make {
        of: FLEETS,
        name,
        replicas,
        label: None,
        owner: None,
    });
    let set = (0..3_u8, 0..5_u8, 0..2_u8).prop_map(move |(name, replicas, fleet)| Step::Make {
        of: SETS,
        name,
        replicas,
        label: Some(fleet),
        owner: whole(fleet),
    });
    let scale = (0..3_u8, 0..5_u8, 0..2_u8).prop_map(move |(name, replicas, fleet)| Step::Change {
        of: SETS,
        name,
        replicas,
        label: Some(fleet),
        owner: whole(fleet),
    });
    let of_all = || prop_oneof![1 => Just(FLEETS), 2 => Just(SETS), 9 => Just(SERVERS)];
    let step = prop_oneof![
        1 => fleet,
        2 => set,
        2 => scale,
        12 => (0..3_u8, 0..12_u8).prop_map(|(set, name)| Step::Replace { set, name }),
        3 => (of_all(), 0..12_u8).prop_map(|(of, name)| Step::Delete { of, name }),
        2 => (of_all(), 0..12_u8).prop_map(|(of, name)| Step::Remove { of, name }),
        1 => (0..12_u8, any::<bool>()).prop_map(|(name, back)| Step::Shut { name, back }),
        1 => (0..3_u8, 0..5_u8).prop_map(|(name, allocated)| Step::Play { of: SETS, name, allocated }),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {

    /// What Agones runs is counted; and exactly once, unless somebody writes what Agones would not.
    #[test]
    fn whatever_agones_runs_is_counted_once(steps in steps()) {
        let (mut cluster, mut families) = (Cluster::default(), Families::default());
        for step in &steps {
            let Some(changed) = cluster.take(step) else { continue };
            follow(&mut families, &cluster, changed);
            let (counted, runs) = (total(&families), cluster.servers());
            prop_assert!(counted >= runs, "{counted} of {runs} after {step:?}");
            if cluster.is_plain() {
                prop_assert_eq!(counted, runs, "after {:?}", step);
            }
            let standing = families.standing(NAMESPACE).cloned().unwrap_or_default();
            prop_assert_eq!(number(&standing.counted()), counted);
            prop_assert_eq!(number(&standing.exists()), cluster.exist(|_| true), "after {:?}", step);
            prop_assert_eq!(number(&standing.going), cluster.exist(|going| going), "after {:?}", step);
        }
    }

    /// However servers are deleted and replaced, there are never more than the limit or than is asked for; and if
    /// nothing is being deleted, Agones creates what is asked for, including a rollout's surge.
    #[test]
    fn what_agones_replaces_stays_within_the_limit(steps in replacements(), limit in 0..9_i64) {
        let (mut cluster, mut families) = (Cluster::default(), Families::default());
        let hard = BTreeMap::from([(Dimension::GameServers, Quantity::from_integer(limit))]);
        let one = Amounts::from_iter([(Dimension::GameServers, Quantity::from_integer(1))]);
        for step in &steps {
            let (before, asked, calm) = (cluster.objects.clone(), cluster.asked(), cluster.is_calm());
            let Some(changed) = cluster.take(step) else { continue };
            if matches!(step, Step::Replace { .. }) {
                let standing = families.standing(NAMESPACE).cloned().unwrap_or_default();
                let used = standing.counted();
                if exceeded_by_replacement(&hard, &used, &standing, &Amounts::default(), &one).is_some() {
                    prop_assert!(!calm, "{step:?} is refused");
                    cluster.objects = before;
                    continue;
                }
                prop_assert!(cluster.exist(|_| true) <= limit.max(asked), "after {step:?}");
            }
            follow(&mut families, &cluster, changed);
        }
    }

    /// The final count does not depend on the order of observation, and every object whose count changes is reported.
    #[test]
    fn kept_up_is_counted_anew(steps in steps(), seed in any::<u64>()) {
        let (mut cluster, mut families) = (Cluster::default(), Families::default());
        let mut reported: BTreeMap<Name, Amounts> = BTreeMap::new();
        for step in &steps {
            let Some((of, name)) = cluster.take(step) else { continue };
            let mut changed = follow(&mut families, &cluster, (of, name));
            changed.insert(full(of, name));
            for name in changed {
                match families.counted(&name) {
                    Some(counted) => reported.insert(name, counted.amounts.clone()),
                    None => reported.remove(&name),
                };
            }
        }
        let mut order: Vec<_> = cluster.objects.keys().copied().collect();
        order.sort_by_key(|(of, name)| (seed.rotate_left(u32::from(*name) * 7) ^ of.len() as u64) % 11);
        let mut rebuilt = Families::default();
        for (of, name) in order {
            put(&mut rebuilt, of, name, &cluster.objects[&(of, name)]);
        }
        let counted: BTreeMap<_, _> =
            rebuilt.objects.iter().map(|(name, object)| (name.clone(), object.counted.amounts.clone())).collect();
        prop_assert_eq!(&reported, &counted);
        let objects = families.by_owner.values().flat_map(BTreeMap::values).map(|one| one.members.len());
        let claims = cluster.objects.iter().filter(|((of, _), object)| {
            crate::owner(&of.parse().unwrap(), object).is_some()
        });
        prop_assert_eq!(objects.sum::<usize>(), claims.count(), "nothing is remembered of what is gone");
    }
}

/// The collector orphans the servers of a Fleet of eight: eight are counted throughout.
#[test]
fn what_is_let_go_of_is_counted_once_at_every_moment() {
    let mut cluster = Cluster::default();
    let mut families = Families::default();
    let whole = |name| Some(Owned { name, form: Form::Whole });
    let mut seen = Vec::new();
    for step in [
        Step::Make { of: FLEETS, name: 0, replicas: 8, label: None, owner: None },
        Step::Make { of: SETS, name: 0, replicas: 8, label: Some(0), owner: whole(0) },
        Step::Make { of: SERVERS, name: 0, replicas: 0, label: Some(0), owner: whole(0) },
        Step::Orphan { of: FLEETS, name: 0 },
        Step::LetGo { of: SETS, name: 0 },
        Step::Remove { of: FLEETS, name: 0 },
        Step::Orphan { of: SETS, name: 0 },
        Step::LetGo { of: SERVERS, name: 0 },
    ] {
        let changed = cluster.take(&step).expect("there");
        follow(&mut families, &cluster, changed);
        seen.push(total(&families));
    }
    assert_eq!(seen, [8; 8]);
    let changed = cluster.take(&Step::Remove { of: SETS, name: 0 }).expect("there");
    follow(&mut families, &cluster, changed);
    assert_eq!(total(&families), 1, "the server that is left");
}

/// A server that names a set by its label alone, while that is being deleted and lets go of what it has, and whose
/// state says `Shutdown`: its pod runs.
#[test]
fn a_server_of_a_set_that_lets_go_counts_whatever_its_state_says() {
    let (mut cluster, mut families) = (Cluster::default(), Families::default());
    let of_nobody = Some(Owned { name: 0, form: Form::Whole });
    for step in [
        Step::Make { of: SERVERS, name: 2, replicas: 0, label: Some(1), owner: None },
        Step::Make { of: SETS, name: 1, replicas: 0, label: Some(0), owner: of_nobody },
        Step::Orphan { of: SETS, name: 1 },
        Step::Shut { name: 2, back: false },
    ] {
        let changed = cluster.take(&step).expect("there");
        follow(&mut families, &cluster, changed);
        assert_eq!(total(&families), 1, "after {step:?}");
    }
}

/// A Fleet of two whose servers are deleted one after the other: each counts until it is gone.
#[test]
fn a_server_counts_until_it_is_gone() {
    let (mut cluster, mut families) = (Cluster::default(), Families::default());
    let whole = |name| Some(Owned { name, form: Form::Whole });
    let make = |name| Step::Make { of: SERVERS, name, replicas: 0, label: Some(0), owner: whole(0) };
    let delete = |name| Step::Delete { of: SERVERS, name };
    let mut seen = Vec::new();
    for step in [
        Step::Make { of: FLEETS, name: 0, replicas: 2, label: None, owner: None },
        Step::Make { of: SETS, name: 0, replicas: 2, label: Some(0), owner: whole(0) },
        make(0),
        make(1),
        Step::Shut { name: 0, back: false },
        delete(0),
        delete(1),
        make(2),
        Step::Remove { of: SERVERS, name: 0 },
        Step::Remove { of: SERVERS, name: 1 },
    ] {
        let changed = cluster.take(&step).expect("there");
        follow(&mut families, &cluster, changed);
        seen.push(total(&families));
    }
    assert_eq!(seen, [2, 2, 2, 2, 2, 3, 4, 4, 3, 2]);
}
