//! The same objects in any order: what is shown does not depend on what Gatehouse learns first.

use proptest::prelude::*;
use serde_json::Value;

use crate::{cases, world::World};

/// Every verdict and what explains it, as text.
fn verdicts(objects: &[Value]) -> Vec<String> {
    let world = World::with(objects);
    let cluster = world.cluster();
    let mut all: Vec<_> = cluster
        .records()
        .map(|record| {
            let cause = cluster.cause(record);
            let path: Vec<_> = cause.path.iter().map(|next| &next.key).collect();
            format!("{:?} {:?} {:?} {path:?} {:?}", record.key, record.verdict, record.layer, cause.lacks)
        })
        .collect();
    all.sort_unstable();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_the_first_list_decides_nothing(picks in prop::collection::vec(any::<prop::sample::Index>(), 120)) {
        for (name, documents) in cases::all() {
            let objects = &documents[1..];
            let mut shuffled = objects.to_vec();
            for (at, pick) in (1..shuffled.len()).zip(picks.iter().cycle()) {
                shuffled.swap(at, pick.index(at + 1));
            }
            let (expected, shown) = (verdicts(objects), verdicts(&shuffled));
            let differs = expected.iter().zip(&shown).find(|(expected, shown)| expected != shown);
            prop_assert!(differs.is_none() && expected.len() == shown.len(), "{name}: {differs:?}");
        }
    }
}
