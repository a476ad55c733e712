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
use crate::NoTemplates;

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
    /// A server's state says `Shutdown`, or that it is ready again.
    Shut { name: u8, back: bool },
    /// It is deleted, and is there until its finalizers are gone: a server, while its pod ends.
    Delete { of: &'static str, name: u8 },
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
            Step::Shut { name, back } => {
                let object = self.objects.get_mut(&(SERVERS, *name))?;
                object["status"] = json!({"state": if *back { "Ready" } else { "Shutdown" }});
                Some((SERVERS, *name))
            }
            Step::Delete { of, name } => {
                let metadata = &mut self.objects.get_mut(&(*of, *name))?["metadata"];
                metadata["deletionTimestamp"] = json!("2026-11-29T00:00:00Z");
                Some((of, *name))
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

    /// How many servers exist of which it holds, by whether they are being deleted.
    fn exist(&self, holds: impl Fn(bool) -> bool) -> i64 {
        let servers =
            self.objects.keys().filter(|(of, name)| *of == SERVERS && holds(self.is_going(of, *name)));
        servers.count().try_into().expect("few")
    }

    /// How many servers exist or are going to: by Agones' own selection, each once.
    fn servers(&self) -> i64 {
        let roots = self.objects.keys().filter(|(of, name)| self.agones_owner(of, *name).is_none());
        roots.map(|(of, name)| self.run(of, *name)).sum()
    }

    fn is_going(&self, of: &'static str, name: u8) -> bool {
        self.objects[&(of, name)]["metadata"].get("deletionTimestamp").is_some()
    }

    fn asks(&self, of: &'static str, name: u8) -> i64 {
        let object = &self.objects[&(of, name)];
        let count = |value: &Value| value.as_i64().unwrap_or_default();
        count(&object["spec"]["replicas"]).max(count(&object["status"]["allocatedReplicas"]))
    }

    fn owned(&self, of: &'static str, name: u8) -> impl Iterator<Item = (&'static str, u8)> {
        self.objects
            .keys()
            .copied()
            .filter(move |(one, its)| self.agones_owner(one, *its) == Some((of, name)))
    }

    /// What Agones runs of an object: all that there is of it, filled up to what it asks for, and beside that what is
    /// being deleted.
    fn run(&self, of: &'static str, name: u8) -> i64 {
        let (stays, going) = self.filled(of, name);
        stays + going
    }

    fn filled(&self, of: &'static str, name: u8) -> (i64, i64) {
        if of == SERVERS {
            let is_going = self.is_going(of, name);
            return (i64::from(!is_going), i64::from(is_going));
        }
        let members = self.owned(of, name).map(|(one, its)| self.filled(one, its));
        let (there, going) = members.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        // Nothing is made any more for what is being deleted.
        let asks = if self.is_going(of, name) { 0 } else { self.asks(of, name) };
        (there.max(asks), going)
    }

    /// Whether every claim there is has a form that Agones writes, and no owner lets go of anything.
    fn is_plain(&self) -> bool {
        let is_agones =
            |owner: &Value| owner["apiVersion"] == "agones.dev/v1" && owner["kind"] != "ConfigMap";
        let is_owner_going = self.objects.keys().any(|(of, name)| *of != SERVERS && self.is_going(of, *name));
        !is_owner_going
            && self.objects.values().all(|object| {
                let owners = object["metadata"]["ownerReferences"].as_array();
                object["metadata"].get("finalizers").is_none()
                    && owners.is_none_or(|owners| owners.len() == 1)
                    && owners.into_iter().flatten().all(|owner| {
                        let label =
                            object["metadata"]["labels"].as_object().and_then(|all| all.values().next());
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
        2 => (kinds(), 0..3_u8).prop_map(|(of, name)| Step::Delete { of, name }),
        1 => (prop_oneof![Just(FLEETS), Just(SETS)], 0..3_u8).prop_map(|(of, name)| Step::Orphan { of, name }),
        2 => (prop_oneof![Just(SETS), Just(SERVERS)], 0..3_u8).prop_map(|(of, name)| Step::LetGo { of, name }),
        2 => (kinds(), 0..3_u8).prop_map(|(of, name)| Step::Remove { of, name }),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {

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
            let standing = families.standing(NAMESPACE).cloned().unwrap_or_default();
            prop_assert_eq!(number(&standing.counted()), counted);
            prop_assert_eq!(number(&standing.exists()), cluster.exist(|_| true), "after {:?}", step);
            prop_assert_eq!(number(&standing.going), cluster.exist(|going| going), "after {:?}", step);
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

/// A server that names a set by its label alone, while that is being deleted and lets go of what it has, and whose state
/// says `Shutdown`: its pod runs.
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
