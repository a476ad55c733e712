//! Changes of one tenant are shown at once, whatever objects another tenant writes.

use gatehouse_inventory::{ObjectKey, State};
use gatehouse_serving::metrics::RequestMetrics;

use super::*;
use crate::views::tests::{
    DEPENDENCIES, RESOURCES, World,
    records::{Builder, kustomization},
};

const STATES: [State; 2] = [State::Failed, State::Ready];

/// `count` Kustomizations that depend on each other in a ring.
fn ring(count: usize) -> impl Iterator<Item = Builder> {
    (0..count).map(move |n| {
        let on = format!("evil/n{}", (n + 1) % count);
        kustomization("evil", &format!("n{n}")).depends_on(&[&on]).state(State::Blocked, 5)
    })
}

impl World {
    fn apply_only(&mut self, builder: Builder) -> ObjectKey {
        let record = builder.build();
        let key = record.key.clone();
        self.event(Event::Apply(Box::new(record)));
        key
    }

    /// Runs a round of the engine in which another tenant's object changes its state, and checks that its row
    /// shows it afterwards. Returns how many rows of others changed.
    fn round_with(&mut self, turn: usize, metrics: &ViewMetrics) -> usize {
        let before = self.versions(RESOURCES);
        let state = STATES[turn % 2];
        self.apply_only(kustomization("good", "own").state(state, 5));
        update_views(&mut self.inventory, &mut self.views, metrics);
        assert_eq!(self.cell(RESOURCES, "good/local.kustomization.own", "State"), state.as_str());
        self.changed_since(RESOURCES, &before).len() - 1
    }
}

#[test]
fn a_ring_of_four_thousand_arrives_and_another_tenants_changes_are_shown_meanwhile() {
    let metrics = ViewMetrics::new(Arc::new(RequestMetrics::new(&[])));
    let mut world = World::with([kustomization("good", "own").build()]);
    let mut ring = ring(4_000).peekable();
    let mut turn = 0;
    while ring.peek().is_some() {
        for builder in ring.by_ref().take(BATCH) {
            world.apply_only(builder);
        }
        assert!(world.round_with(turn, &metrics) <= BATCH + FOLLOW_ROWS);
        turn += 1;
    }
    let mut rounds = 0;
    while world.inventory.is_behind() {
        assert!(world.round_with(turn, &metrics) <= FOLLOW_ROWS);
        (turn, rounds) = (turn + 1, rounds + 1);
    }
    assert!((4_000 / FOLLOW_ROWS..40).contains(&rounds), "{rounds} rounds");
    let row = world.status_of(DEPENDENCIES, "evil/local.kustomization.n3999");
    assert_eq!((&row["cycle"], &row["cycleOmitted"]), (&true.into(), &3_984.into()));
    assert_eq!(row["cyclePath"].as_array().unwrap().len(), 16);

    // The ring is broken and closed in turn, one change each round, so that its consequences never come to an
    // end.
    let mut shown = 0;
    for turn in 0..20 {
        let on = if turn % 2 == 0 { "evil/nowhere" } else { "evil/n0" };
        world.apply_only(kustomization("evil", "n3999").depends_on(&[on]).state(State::Blocked, 5));
        shown += world.round_with(turn, &metrics);
        assert!(shown <= (turn + 1) * (FOLLOW_ROWS + 1));
    }
    assert!(world.inventory.is_behind() && shown > 500, "{shown} rows were shown all the same");
}

#[test]
fn a_star_that_flaps_keeps_nobody_waiting() {
    let metrics = ViewMetrics::new(Arc::new(RequestMetrics::new(&[])));
    let star = (0..3_000)
        .map(|n| kustomization("evil", &format!("n{n}")).depends_on(&["evil/hub"]).state(State::Blocked, 5));
    let hub = kustomization("evil", "hub");
    let records = star.chain([hub.clone(), kustomization("good", "own")]).map(Builder::build);
    let mut world = World::with(records);
    for turn in 0..20 {
        world.apply_only(hub.clone().state(STATES[turn % 2], 5));
        assert!(world.round_with(turn, &metrics) <= FOLLOW_ROWS + 1);
    }
    // Once there are no more changes, all rows show the current state.
    while world.inventory.is_behind() {
        update_views(&mut world.inventory, &mut world.views, &metrics);
    }
    for n in [0, 1_499, 2_999] {
        let row = world.status_of(DEPENDENCIES, &format!("evil/local.kustomization.n{n}"));
        assert_eq!(row["dependsOn"][0]["state"], "Ready");
    }
}
