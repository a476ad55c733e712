//! After any changes in any order, the incremental sums equal recomputed ones.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Fleet { name: u8, namespace: u8, replicas: u8, recreated: bool },
    Server { name: u8, template: u8 },
    Template { name: u8, cpu: u8 },
    Delete { what: u8, name: u8, namespace: u8 },
    Restart(u8),
    Synced(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let small = 0..3u8;
    let step = prop_oneof![
        4 => (small.clone(), small.clone(), 0..5u8, any::<bool>())
            .prop_map(|(name, namespace, replicas, recreated)| Step::Fleet { name, namespace, replicas, recreated }),
        3 => (small.clone(), small.clone()).prop_map(|(name, template)| Step::Server { name, template }),
        3 => (small.clone(), 0..4u8).prop_map(|(name, cpu)| Step::Template { name, cpu }),
        3 => (small.clone(), small.clone(), small.clone())
            .prop_map(|(what, name, namespace)| Step::Delete { what, name, namespace }),
        1 => small.clone().prop_map(Step::Restart),
        1 => small.prop_map(Step::Synced),
    ];
    prop::collection::vec(step, 0..60)
}

fn resource(what: u8) -> GroupResource {
    match what {
        0 => fleets(),
        1 => servers(),
        _ => templates(),
    }
}

fn run(builder: &mut Builder, steps: &[Step]) {
    for (index, step) in steps.iter().enumerate() {
        let version = index as u64 + 1;
        match step {
            Step::Fleet { name, namespace, replicas, recreated } => {
                let mut object = fleet(&format!("f{name}"), version, (*replicas).into());
                object["metadata"]["namespace"] = format!("n{namespace}").into();
                let life = if *recreated { version } else { 0 };
                object["metadata"]["uid"] = format!("{name}-{namespace}-{life}").into();
                builder.apply(&fleets(), &object);
            }
            Step::Server { name, template } => {
                let mut object = server(&format!("s{name}"), &format!("t{template}"));
                object["metadata"]["resourceVersion"] = version.to_string().into();
                builder.apply(&servers(), &object);
            }
            Step::Template { name, cpu } => {
                let mut object = template(version, &cpu.to_string());
                object["metadata"]["name"] = format!("t{name}").into();
                object["metadata"]["uid"] = format!("t{name}").into();
                builder.apply(&templates(), &object);
            }
            Step::Delete { what: 0, name, namespace } => {
                builder.delete(&fleets(), &format!("n{namespace}"), &format!("f{name}"));
            }
            Step::Delete { what: 1, name, .. } => {
                builder.delete(&servers(), "games", &format!("s{name}"));
            }
            Step::Delete { name, .. } => {
                builder.delete(&templates(), "games", &format!("t{name}"));
            }
            Step::Restart(what) => builder.take(&resource(*what), Change::Restart),
            Step::Synced(what) => builder.take(&resource(*what), Change::Synced),
        }
    }
}

/// The usage of all objects, recomputed from their fields and the existing templates, by namespace.
fn recomputed(snapshot: &Snapshot) -> BTreeMap<String, Amounts> {
    let mut sums: BTreeMap<String, Amounts> = BTreeMap::new();
    for held in snapshot.all_objects() {
        let value = held.value().unwrap();
        let usage = gatehouse_quota::usage(&held.resource, &value, snapshot).unwrap_or_else(|_| {
            let mut usage = gatehouse_quota::Usage::counted(&held.resource);
            usage.amounts.set(Dimension::GameServers, Quantity::from_integer(1));
            usage
        });
        let sum = sums.entry(held.key.namespace.to_string()).or_default();
        *sum = sum.checked_add(&usage.amounts).unwrap();
    }
    sums
}

proptest! {
    #[test]
    fn usage_kept_up_is_usage_counted_anew(steps in steps()) {
        let mut builder = Builder::new();
        run(&mut builder, &steps);
        let snapshot = builder.snapshot();
        let kept: BTreeMap<String, Amounts> =
            snapshot.usage.iter().map(|(name, sum)| (name.to_string(), sum.clone())).collect();
        prop_assert_eq!(kept, recomputed(&snapshot));
        let uids: HashSet<_> = snapshot.all_objects().map(|held| held.uid.clone()).collect();
        let known: HashSet<_> = snapshot.by_uid.keys().cloned().collect();
        prop_assert_eq!(&uids, &known);
        prop_assert!(uids.iter().all(|uid| !snapshot.was_deleted(uid)), "what exists is not deleted");
        let charged = snapshot.objects(&servers()).map_or(0, imbl::OrdMap::len);
        prop_assert_eq!(builder.state.sums.remembered(), (charged, charged), "of what is gone nothing is remembered");
    }
}
