//! Families, against a model of what Agones and the garbage collector do.
//!
//! The model selects as Agones does: sets of a Fleet by the label and the controlling reference's uid, servers of a set
//! likewise, whatever kind or version the reference says. What exists beside, Agones has nothing to do with, and it runs
//! all the same. So the truth is: whatever exists of servers, and what Agones is going to make of what Fleets and sets
//! ask for.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{NoTemplates, Quantity};

const NAMESPACE: &str = "games";
const FLEETS: &str = "fleets.agones.dev";
const SETS: &str = "gameserversets.agones.dev";
const SERVERS: &str = "gameservers.agones.dev";

/// What somebody does.
#[derive(Debug, Clone)]
enum Step {
    /// Makes an object, or replaces it by another one of the same name.
    Make { of: &'static str, name: u8, replicas: u8, label: Option<u8>, owner: Option<Owned> },
    /// Changes an object that is there.
    Change { of: &'static str, name: u8, replicas: u8, label: Option<u8>, owner: Option<Owned> },
    /// Says in a status how many servers are played on.
    Play { of: &'static str, name: u8, allocated: u8 },
    /// Agones' or somebody's going server.
    Shut { name: u8, grace: bool },
    /// It is deleted, and its dependents are to stay.
    Orphan { of: &'static str, name: u8 },
    /// The collector lets go of one dependent of an owner that is being deleted so.
    LetGo { of: &'static str, name: u8 },
    /// It is gone.
    Remove { of: &'static str, name: u8 },
}

#[derive(Debug, Clone)]
struct Owned {
    name: u8,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As Agones writes it.
    Whole,
    /// The uid of somebody who was never there.
    Stranger,
    /// Of a version that does not exist.
    Version,
    /// Of another kind.
    Kind,
    /// It does not control.
    Aside,
    /// Beside another one, which keeps the object when this owner goes.
    Beside,
}

/// The cluster as it is, with a new uid for each object.
#[derive(Debug, Default)]
struct Cluster {
    objects: BTreeMap<(&'static str, u8), Value>,
    uids: u64,
}

impl Cluster {
    fn uid(&self, of: &'static str, name: u8) -> Option<&str> {
        self.objects.get(&(of, name))?["metadata"]["uid"].as_str()
    }

    fn metadata(&mut self, of: &'static str, name: u8, label: Option<u8>, owner: Option<&Owned>) -> Value {
        let (owners, kind, key) = match of {
            SETS => (FLEETS, "Fleet", "agones.dev/fleet"),
            _ => (SETS, "GameServerSet", "agones.dev/gameserverset"),
        };
        self.uids += 1;
        let mut metadata =
            json!({"namespace": NAMESPACE, "name": text(name), "uid": format!("u{}", self.uids)});
        if of == FLEETS {
            return metadata;
        }
        if let Some(label) = label {
            metadata["labels"] = json!({key: text(label)});
        }
        if let Some(Owned { name, form }) = owner {
            let uid = self.uid(owners, *name).filter(|_| *form != Form::Stranger).unwrap_or("stranger");
            metadata["ownerReferences"] = json!([{
                "apiVersion": if *form == Form::Version { "agones.dev/v9" } else { "agones.dev/v1" },
                "kind": if *form == Form::Kind { "ConfigMap" } else { kind },
                "name": text(*name), "uid": uid, "controller": *form != Form::Aside,
            }]);
            if *form == Form::Beside {
                let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "c"});
                metadata["ownerReferences"].as_array_mut().expect("a list").push(other);
            }
        }
        metadata
    }

    /// Does it, and says which object is another now.
    fn take(&mut self, step: &Step) -> Option<(&'static str, u8)> {
        match step {
            Step::Make { of, name, replicas, label, owner } => {
                let metadata = self.metadata(of, *name, *label, owner.as_ref());
                let spec = json!({"replicas": if *of == SERVERS { 0 } else { *replicas }});
                self.objects.insert((of, *name), json!({"metadata": metadata, "spec": spec}));
                Some((of, *name))
            }
            Step::Change { of, name, replicas, label, owner } => {
                let before = self.objects.get(&(*of, *name))?.clone();
                let mut metadata = self.metadata(of, *name, *label, owner.as_ref());
                for kept in ["uid", "deletionTimestamp", "finalizers"] {
                    if let Some(value) = before["metadata"].get(kept) {
                        metadata[kept] = value.clone();
                    }
                }
                let object = self.objects.get_mut(&(*of, *name))?;
                object["metadata"] = metadata;
                object["spec"]["replicas"] = json!(replicas);
                Some((of, *name))
            }
            Step::Play { of, name, allocated } => {
                let object = self.objects.get_mut(&(*of, *name))?;
                object["status"] = json!({"allocatedReplicas": allocated});
                Some((of, *name))
            }
            Step::Shut { name, grace } => {
                let object = self.objects.get_mut(&(SERVERS, *name))?;
                object["status"] = json!({"state": "Shutdown"});
                let seconds = if *grace { 3600 } else { 30 };
                object["spec"]["template"] = json!({"spec": {"terminationGracePeriodSeconds": seconds}});
                Some((SERVERS, *name))
            }
            Step::Orphan { of, name } => {
                let metadata = &mut self.objects.get_mut(&(*of, *name))?["metadata"];
                metadata["deletionTimestamp"] = json!("2026-11-29T00:00:00Z");
                metadata["finalizers"] = json!(["orphan"]);
                Some((of, *name))
            }
            Step::LetGo { of, name } => {
                let owner = self.agones_owner(of, *name)?;
                let metadata = &self.objects[&owner]["metadata"];
                metadata.get("deletionTimestamp")?;
                let metadata = &mut self.objects.get_mut(&(*of, *name))?["metadata"];
                metadata.as_object_mut()?.shift_remove("ownerReferences");
                Some((of, *name))
            }
            Step::Remove { of, name } => self.objects.remove(&(*of, *name)).map(|_| (*of, *name)),
        }
    }

    /// Whose Agones takes an object for: by the label, then by the uid of whoever controls it.
    fn agones_owner(&self, of: &'static str, name: u8) -> Option<(&'static str, u8)> {
        let (owners, key) = match of {
            SETS => (FLEETS, "agones.dev/fleet"),
            SERVERS => (SETS, "agones.dev/gameserverset"),
            _ => return None,
        };
        let metadata = &self.objects.get(&(of, name))?["metadata"];
        let label = metadata["labels"][key].as_str()?;
        let owner =
            metadata["ownerReferences"].as_array()?.iter().find(|owner| owner["controller"] == true)?;
        let named = self.objects.keys().find(|(one, name)| *one == owners && text(*name) == label)?;
        (self.objects[named]["metadata"]["uid"] == owner["uid"]).then_some(*named)
    }

    /// How many servers exist or are going to: by Agones' own selection, each once.
    fn servers(&self) -> i64 {
        let roots = self.objects.keys().filter(|(of, name)| self.agones_owner(of, *name).is_none());
        roots.map(|(of, name)| self.run(of, *name)).sum()
    }

    /// What Agones runs of an object: all that there is of it, filled up to what it asks for.
    fn run(&self, of: &'static str, name: u8) -> i64 {
        let object = &self.objects[&(of, name)];
        if of == SERVERS {
            let is_quick = object["status"]["state"] == "Shutdown"
                && object["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 30;
            return i64::from(!(is_quick && self.agones_owner(of, name).is_some()));
        }
        let owned = self.objects.keys().filter(|(one, its)| self.agones_owner(one, *its) == Some((of, name)));
        let there: i64 = owned.map(|(one, its)| self.run(one, *its)).sum();
        if object["metadata"].get("deletionTimestamp").is_some() {
            // Nothing is made any more for what is being deleted.
            return there;
        }
        let count = |value: &Value| value.as_i64().unwrap_or_default();
        there.max(count(&object["spec"]["replicas"])).max(count(&object["status"]["allocatedReplicas"]))
    }

    /// Whether every claim there is has a form that Agones writes, and no owner lets go of anything.
    fn is_plain(&self) -> bool {
        let is_agones =
            |owner: &Value| owner["apiVersion"] == "agones.dev/v1" && owner["kind"] != "ConfigMap";
        self.objects.values().all(|object| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            object["metadata"].get("deletionTimestamp").is_none()
                && owners.is_none_or(|owners| owners.len() == 1)
                && owners.into_iter().flatten().all(|owner| {
                    let label = object["metadata"]["labels"].as_object().and_then(|all| all.values().next());
                    is_agones(owner) && (owner["controller"] == false || label == Some(&owner["name"]))
                })
        })
    }
}

fn text(name: u8) -> String {
    format!("n{name}")
}

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
    let counted = families.objects.values().map(|object| object.counted.amounts.get(&Dimension::GameServers));
    let sum = counted.fold(Quantity::ZERO, |sum, one| sum.checked_add(one).unwrap());
    sum.to_string().parse().unwrap()
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
        1 => (0..3_u8, any::<bool>()).prop_map(|(name, grace)| Step::Shut { name, grace }),
        1 => (prop_oneof![Just(FLEETS), Just(SETS)], 0..3_u8).prop_map(|(of, name)| Step::Orphan { of, name }),
        2 => (prop_oneof![Just(SETS), Just(SERVERS)], 0..3_u8).prop_map(|(of, name)| Step::LetGo { of, name }),
        2 => (kinds(), 0..3_u8).prop_map(|(of, name)| Step::Remove { of, name }),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// What Agones runs is counted; and once, wherever nobody writes what Agones would not.
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
        }
    }

    /// In whatever order objects are observed, the same is counted in the end; and whoever is counted otherwise is told.
    #[test]
    fn kept_up_is_counted_anew(steps in steps(), seed in any::<u64>()) {
        let (mut cluster, mut families) = (Cluster::default(), Families::default());
        let mut told: BTreeMap<Name, Amounts> = BTreeMap::new();
        for step in &steps {
            let Some((of, name)) = cluster.take(step) else { continue };
            let mut changed = follow(&mut families, &cluster, (of, name));
            changed.insert(full(of, name));
            for name in changed {
                match families.counted(&name) {
                    Some(counted) => told.insert(name, counted.amounts.clone()),
                    None => told.remove(&name),
                };
            }
        }
        let mut order: Vec<_> = cluster.objects.keys().copied().collect();
        order.sort_by_key(|(of, name)| (seed.rotate_left(u32::from(*name) * 7) ^ of.len() as u64) % 11);
        let mut anew = Families::default();
        for (of, name) in order {
            put(&mut anew, of, name, &cluster.objects[&(of, name)]);
        }
        let counted: BTreeMap<_, _> =
            anew.objects.iter().map(|(name, object)| (name.clone(), object.counted.amounts.clone())).collect();
        prop_assert_eq!(&told, &counted);
        let objects = families.by_owner.values().flat_map(BTreeMap::values).map(|one| one.members.len());
        let claims = cluster.objects.iter().filter(|((of, _), object)| {
            crate::owner(&of.parse().unwrap(), object).is_some()
        });
        prop_assert_eq!(objects.sum::<usize>(), claims.count(), "nothing is remembered of what is gone");
    }
}

/// The collector lets go of what a Fleet of eight has: eight are counted throughout.
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
