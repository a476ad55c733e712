//! The incremental graph equals the graph by definition, and how many steps it takes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    State,
    records::Entry,
    testing::{key, record},
};

/// Objects by number. The tests change their dependencies and states.
#[derive(Debug, Default)]
struct World {
    records: Records,
    graph: Graph,
    affected: BTreeSet<String>,
}

fn name(n: usize) -> String {
    format!("n{n:05}")
}

impl World {
    fn put(&mut self, n: usize, new: Option<Record>) {
        let key = key(&name(n));
        let old = match new {
            Some(new) => self.records.insert(key.clone(), Entry { record: Box::new(new), pass: 0 }),
            None => self.records.remove(&key),
        };
        let old = old.map(|entry| *entry.record);
        self.graph.update(&key, old.as_ref(), records::find(&self.records, &key), 0);
    }

    fn depends(&mut self, n: usize, on: impl IntoIterator<Item = usize>) {
        let names: Vec<_> = on.into_iter().map(name).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        self.put(n, Some(record(&name(n)).state(State::Blocked).depends_on(&names).build()));
    }

    fn follow(&mut self, budget: usize) {
        let affected = &mut self.affected;
        let mut found = |key: &ObjectKey, _| {
            affected.insert(key.name.to_string());
        };
        self.graph.follow(budget, &self.records, &mut found);
    }

    /// Computes all effects. Returns the number of steps and of affected objects.
    fn settle(&mut self) -> (u64, usize) {
        let before = self.graph.steps();
        self.affected.clear();
        while self.graph.behind_since().is_some() {
            self.follow(1_000);
        }
        (self.graph.steps() - before, self.affected.len())
    }

    fn place(&self, n: usize) -> Place {
        self.graph.place(&key(&name(n)))
    }
}

/// Depths and members of cycles by definition, from reachability.
fn by_definition(edges: &BTreeMap<usize, BTreeSet<usize>>, count: usize) -> Vec<Place> {
    let reach = |from: usize| {
        let mut seen = BTreeSet::new();
        let mut open: Vec<usize> = edges.get(&from).into_iter().flatten().copied().collect();
        while let Some(next) = open.pop() {
            if seen.insert(next) {
                open.extend(edges.get(&next).into_iter().flatten());
            }
        }
        seen
    };
    let reached: Vec<_> = (0..count).map(reach).collect();
    let circle = |n: usize| -> BTreeSet<usize> {
        (0..count).filter(|m| reached[n].contains(m) && reached[*m].contains(&n)).collect()
    };
    let circles: Vec<_> = (0..count).map(circle).collect();
    let mut depths = vec![0; count];
    // No chain has more members than there are objects.
    for _ in 0..=count {
        for n in 0..count {
            let own = if circles[n].is_empty() { BTreeSet::from([n]) } else { circles[n].clone() };
            let below = own.iter().flat_map(|m| edges.get(m).into_iter().flatten());
            let below = below.filter(|target| !own.contains(target)).map(|target| depths[*target] + 1);
            depths[n] = below.max().unwrap_or(0);
        }
    }
    let place = |n: usize| Place { depth: depths[n], members: u32::try_from(circles[n].len()).unwrap() };
    (0..count).map(place).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Cycles merge and split while changes are applied in portions of any size.
    #[test]
    fn places_are_those_by_definition(changes in prop::collection::vec(
        (0..9_usize, prop::collection::btree_set(0..9_usize, 0..4), prop::bool::weighted(0.8), 0..30_usize), 1..60,
    )) {
        let mut world = World::default();
        let mut edges = BTreeMap::new();
        for (n, on, exists, budget) in changes {
            if exists {
                world.depends(n, on.iter().copied());
                edges.insert(n, on);
            } else {
                world.put(n, None);
                edges.remove(&n);
            }
            world.follow(budget);
        }
        world.settle();
        for (n, place) in by_definition(&edges, 9).into_iter().enumerate() {
            prop_assert_eq!(world.place(n), place, "{} of {:?}", n, edges);
            let dependents = edges.values().filter(|on| on.contains(&n)).count();
            prop_assert_eq!(world.graph.dependents(&key(&name(n))), dependents);
            let own = key(&name(n));
            let Some(cycle) = world.graph.cycle(&own) else { continue };
            let path: Vec<usize> = cycle.path.iter().map(|key| key.name[1..].parse().unwrap()).collect();
            prop_assert_eq!((path[0], cycle.omitted), (n, 0));
            for (at, from) in path.iter().enumerate() {
                prop_assert!(edges[from].contains(&path[(at + 1) % path.len()]), "{:?} of {:?}", path, edges);
            }
        }
        // No node of a removed object remains.
        for n in 0..9 {
            world.put(n, None);
        }
        world.settle();
        prop_assert!(world.graph.ids.is_empty());
        prop_assert_eq!(world.graph.free.len(), world.graph.nodes.len());
    }
}

fn ring(count: usize) -> World {
    let mut world = World::default();
    for n in 0..count {
        world.depends(n, [(n + 1) % count]);
    }
    world
}

#[test]
fn a_ring_costs_as_many_steps_as_it_has_members_and_so_does_each_change_of_it() {
    for count in [500, 4_000] {
        let mut world = ring(count);
        let steps = world.settle().0;
        assert!(steps < 20 * count as u64, "{steps} steps for {count}");
        assert_eq!(world.place(7), Place { depth: 0, members: u32::try_from(count).unwrap() });
        // Open the ring and close it again.
        for on in [None, Some(0)] {
            world.depends(count - 1, on);
            let (steps, affected) = world.settle();
            assert!(steps < 20 * count as u64, "{steps} steps for {count}");
            assert_eq!(affected, count, "each has another depth, or is in no cycle any more");
        }
        // The row of its dependent shows the state of a member; other rows do not.
        world.put(3, Some(record(&name(3)).state(State::Failed).depends_on(&[&*name(4)]).build()));
        assert_eq!(world.settle().1, 1);
    }
}

#[test]
fn a_ring_that_grows_object_by_object_costs_what_it_costs_at_once() {
    let count = 4_000;
    let mut world = World::default();
    for n in 0..count {
        world.depends(n, [(n + 1) % count]);
        world.follow(64);
    }
    world.settle();
    let steps = world.graph.steps();
    assert!(steps < 200 * count as u64, "{steps} steps");
}

#[test]
fn members_of_a_long_cycle_are_named_in_part_and_the_others_counted() {
    let mut world = ring(100);
    world.settle();
    let own = key(&name(98));
    let cycle = world.graph.cycle(&own).unwrap();
    let named: Vec<_> = cycle.path.iter().map(|key| &*key.name).collect();
    assert_eq!((named.len(), cycle.omitted), (Graph::CYCLE, 100 - 16));
    assert_eq!(named[..4], [name(98), name(99), name(0), name(1)]);
}

#[test]
fn two_rings_that_are_bridged_are_one_and_two_again() {
    let mut world = World::default();
    for n in 0..200 {
        world.depends(n, [if n % 100 == 99 { n - 99 } else { n + 1 }]);
    }
    world.settle();
    for _ in 0..3 {
        world.depends(0, [1, 100]);
        world.settle();
        assert_eq!(
            (world.place(0), world.place(100)),
            (Place { depth: 1, members: 100 }, Place { depth: 0, members: 100 },)
        );
        world.depends(100, [101, 0]);
        assert!(world.settle().0 < 10_000);
        assert_eq!(world.place(50), Place { depth: 0, members: 200 });
        world.depends(0, [1]);
        world.depends(100, [101]);
        assert!(world.settle().0 < 10_000);
        assert_eq!((world.place(0).members, world.place(100).members), (100, 100));
    }
}

#[test]
fn a_change_at_the_end_of_a_chain_is_shown_as_far_as_a_walk_goes() {
    let count = 20_000;
    let mut world = World::default();
    for n in (0..count).rev() {
        world.depends(n, (n > 0).then(|| n - 1));
    }
    let steps = world.settle().0;
    assert!(steps < 40 * count as u64, "{steps} steps");
    assert_eq!(world.place(count - 1).depth, u32::try_from(count - 1).unwrap());
    world.put(0, Some(record(&name(0)).state(State::Failed).build()));
    let (steps, affected) = world.settle();
    assert!(steps < 1_000 && affected == crate::root_cause::WALK + 1, "{steps} steps, {affected} objects");
}

#[test]
fn a_star_and_a_dense_graph_cost_their_edges() {
    let mut world = World::default();
    for n in 1..10_000 {
        world.depends(n, [0]);
    }
    world.settle();
    for state in [State::Failed, State::Ready].repeat(3) {
        world.put(0, Some(record(&name(0)).state(state).build()));
        let (steps, affected) = world.settle();
        assert!(steps < 40_000 && affected == 9_999, "{steps} steps, {affected} objects");
    }

    let mut world = World::default();
    for n in 0..300_usize {
        world.depends(n, (0..150).map(|m| (n * 31 + m * 7 + 1) % 300));
    }
    let steps = world.settle().0;
    assert!(steps < 10 * 45_000, "{steps} steps");
    world.depends(5, []);
    let steps = world.settle().0;
    assert!(steps < 10 * 45_000, "{steps} steps");
}

#[test]
fn a_call_takes_its_budget_and_what_one_object_costs() {
    let mut world = ring(5_000);
    while world.graph.behind_since().is_some() {
        let before = world.graph.steps();
        world.follow(100);
        // A component is settled in one step, which visits its members and their edges twice.
        let steps = world.graph.steps() - before;
        assert!(steps < 300 || steps > 10_000 && steps < 15_000, "{steps}");
    }
}

/// A ring of six, in which three members change their order. No place changes.
#[test]
fn every_member_is_shown_again_when_the_order_of_its_cycle_changes() {
    let mut world = ring(6);
    world.settle();
    let place = world.place(0);
    let order = |world: &World| -> Vec<String> {
        let own = key(&name(0));
        world.graph.cycle(&own).unwrap().path.iter().map(|key| key.name.to_string()).collect()
    };
    assert_eq!(order(&world), [0, 1, 2, 3, 4, 5].map(name));
    for (n, on) in [(2, 4), (4, 3), (3, 5)] {
        world.depends(n, [on]);
    }
    world.settle();
    assert_eq!((world.place(0), order(&world)), (place, [0, 1, 2, 4, 3, 5].map(name).to_vec()));
    assert!(world.affected.contains(&name(0)), "its row names the cycle: {:?}", world.affected);
}

/// 3 and 2 depend on a long chain, so that their depths do not depend on 1.
#[test]
fn whoever_shows_a_root_cause_is_shown_again_when_a_cycle_closes_or_opens_on_the_way_to_it() {
    let mut world = World::default();
    for n in 10..20 {
        world.depends(n, (n < 19).then_some(n + 1));
    }
    world.depends(3, [2]);
    world.depends(2, [1, 10]);
    world.depends(1, [0]);
    world.depends(0, []);
    world.settle();
    for on in [Some(1), None] {
        let places = [world.place(2), world.place(3)];
        world.depends(0, on);
        world.settle();
        assert_eq!((world.place(1).is_in_cycle(), [world.place(2), world.place(3)]), (on.is_some(), places));
        for n in [2, 3] {
            assert!(world.affected.contains(&name(n)), "{on:?}: {n} of {:?}", world.affected);
        }
    }
}
