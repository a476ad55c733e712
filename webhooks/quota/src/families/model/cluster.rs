//! A cluster as it is, and what Agones would make of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{FLEETS, NAMESPACE, SERVERS, SETS};

/// What somebody does.
#[derive(Debug, Clone)]
pub(super) enum Step {
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
    /// Agones makes a server for a set that lacks one, as `name`.
    Replace { set: u8, name: u8 },
    /// It is deleted, and its dependents are to stay.
    Orphan { of: &'static str, name: u8 },
    /// The collector lets go of one dependent of an owner that is being deleted so.
    LetGo { of: &'static str, name: u8 },
    /// It is gone.
    Remove { of: &'static str, name: u8 },
}

#[derive(Debug, Clone)]
pub(super) struct Owned {
    pub(super) name: u8,
    pub(super) form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
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
pub(super) struct Cluster {
    pub(super) objects: BTreeMap<(&'static str, u8), Value>,
    pub(super) uids: u64,
}

impl Cluster {
    pub(super) fn uid(&self, of: &'static str, name: u8) -> Option<&str> {
        self.objects.get(&(of, name))?["metadata"]["uid"].as_str()
    }

    pub(super) fn metadata(
        &mut self,
        of: &'static str,
        name: u8,
        label: Option<u8>,
        owner: Option<&Owned>,
    ) -> Value {
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
    pub(super) fn take(&mut self, step: &Step) -> Option<(&'static str, u8)> {
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
            Step::Replace { set, name } => {
                let is_up = |(of, name): &(&'static str, u8)| {
                    !self.is_going(of, *name) && self.objects[&(*of, *name)]["status"]["state"] != "Shutdown"
                };
                let is_free = !self.objects.contains_key(&(SERVERS, *name));
                if !is_free || !self.objects.contains_key(&(SETS, *set)) || self.is_going(SETS, *set) {
                    return None;
                }
                let up = i64::try_from(self.owned(SETS, *set).filter(is_up).count()).expect("few");
                if up >= self.replicas(SETS, *set) {
                    return None;
                }
                let owner = Some(Owned { name: *set, form: Form::Whole });
                self.take(&Step::Make { of: SERVERS, name: *name, replicas: 0, label: Some(*set), owner })
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
    pub(super) fn agones_owner(&self, of: &'static str, name: u8) -> Option<(&'static str, u8)> {
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
    pub(super) fn exist(&self, holds: impl Fn(bool) -> bool) -> i64 {
        let servers =
            self.objects.keys().filter(|(of, name)| *of == SERVERS && holds(self.is_going(of, *name)));
        servers.count().try_into().expect("few")
    }

    /// How many servers exist or are going to: by Agones' own selection, each once.
    pub(super) fn servers(&self) -> i64 {
        let roots = self.objects.keys().filter(|(of, name)| self.agones_owner(of, *name).is_none());
        roots.map(|(of, name)| self.run(of, *name)).sum()
    }

    pub(super) fn is_going(&self, of: &'static str, name: u8) -> bool {
        self.objects[&(of, name)]["metadata"].get("deletionTimestamp").is_some()
    }

    pub(super) fn replicas(&self, of: &'static str, name: u8) -> i64 {
        self.objects[&(of, name)]["spec"]["replicas"].as_i64().unwrap_or_default()
    }

    pub(super) fn asks(&self, of: &'static str, name: u8) -> i64 {
        let status = &self.objects[&(of, name)]["status"];
        self.replicas(of, name).max(status["allocatedReplicas"].as_i64().unwrap_or_default())
    }

    /// What somebody asks for of all that runs.
    pub(super) fn asked(&self) -> i64 {
        let of_own = |of: &'static str, name| if self.is_going(of, name) { 0 } else { self.asks(of, name) };
        let of_root = |(of, name): &(&'static str, u8)| match *of {
            SERVERS => {
                let owner = crate::owner(&of.parse().unwrap(), &self.objects[&(*of, *name)]);
                i64::from(!self.is_going(of, *name) && owner.is_none_or(|owner| owner.uid.is_none()))
            }
            SETS => of_own(of, *name),
            _ => {
                let sets = self.owned(of, *name).map(|(one, its)| of_own(one, its));
                of_own(of, *name).max(sets.sum())
            }
        };
        let roots = self.objects.keys().filter(|(of, name)| self.agones_owner(of, *name).is_none());
        roots.map(of_root).sum()
    }

    /// Whether nothing is being deleted, and Agones has no more servers than it was asked for.
    pub(super) fn is_calm(&self) -> bool {
        let is_within = |(of, name): &(&'static str, u8)| match *of {
            SETS => i64::try_from(self.owned(of, *name).count()).expect("few") <= self.asks(of, *name),
            SERVERS => {
                let is_shut_down = self.objects[&(*of, *name)]["status"]["state"] == "Shutdown";
                !is_shut_down && self.agones_owner(of, *name).is_some()
            }
            _ => true,
        };
        self.objects.keys().all(|object| is_within(object) && !self.is_going(object.0, object.1))
    }

    pub(super) fn owned(&self, of: &'static str, name: u8) -> impl Iterator<Item = (&'static str, u8)> {
        self.objects
            .keys()
            .copied()
            .filter(move |(one, its)| self.agones_owner(one, *its) == Some((of, name)))
    }

    /// What Agones runs of an object: all that there is of it, filled up to what it asks for, and beside that what is
    /// being deleted.
    pub(super) fn run(&self, of: &'static str, name: u8) -> i64 {
        let (stays, going) = self.filled(of, name);
        stays + going
    }

    pub(super) fn filled(&self, of: &'static str, name: u8) -> (i64, i64) {
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
    pub(super) fn is_plain(&self) -> bool {
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

pub(super) fn text(name: u8) -> String {
    format!("n{name}")
}
