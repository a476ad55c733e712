//! Fleets, their sets, and the servers of these: what is counted of each, so that every server counts once.
//!
//! A Fleet is charged for what it asks for, before anything of it exists. What Agones makes of it takes up no more than
//! that, as a rule: while a rollout surges, or where somebody else has made an object in the owner's name, it is more.
//! So an owner counts for the larger of what it asks for itself and what its members take up together, limit by limit,
//! and a member of an owner that exists counts for nothing but the object that it is.
//!
//! Invariant: what is counted of a family is at least what exists of it and at least what its owner asks for; and it
//! never grows by more than an object does, as long as that keeps its owner. Whoever is admitted by what an object takes
//! up alone is therefore charged enough.
//!
//! An object belongs to an owner by [`Owner`], if that exists with this name and uid. One that the garbage collector has
//! let go of, with the label alone left, belongs to an owner that is being deleted as orphaning until that is gone:
//! it is charged through it up to then, and by itself afterwards. A set that is deleted so is its Fleet's no more, which
//! makes another.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{Amounts, Dimension, GroupResource, Usage};

/// An object of Agones.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// Its resource.
    pub resource: GroupResource,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// Families, kept up object by object.
#[derive(Debug, Default)]
pub struct Families {
    objects: HashMap<Name, Object>,
    /// By the owner's name, then by its uid: none for those that have the label alone. The owner need not exist.
    by_owner: HashMap<Name, BTreeMap<Uid, Family>>,
    /// By resource: an object that is counted, and takes up nothing.
    bare: HashMap<GroupResource, Arc<Usage>>,
}

type Uid = Option<Arc<str>>;

#[derive(Debug)]
struct Object {
    uid: Arc<str>,
    /// What is let go of it is still its own.
    orphans: bool,
    /// What it takes up alone.
    alone: Arc<Usage>,
    /// What its owner's family has of it.
    weight: Arc<Usage>,
    /// What is counted of it.
    counted: Arc<Usage>,
}

#[derive(Debug, Default)]
struct Family {
    members: BTreeSet<Name>,
    /// What they take up together, beside being objects.
    sum: Amounts,
}

impl Families {
    /// Takes in an object, or what it has become, and says of which objects another amount is counted now. `orphans`:
    /// it is being deleted and lets go of its members.
    pub fn put(&mut self, name: &Name, uid: &str, orphans: bool, alone: &Arc<Usage>) -> BTreeSet<Name> {
        let mut changed = BTreeSet::new();
        let before = self.objects.get(name);
        let is_same = before.is_some_and(|before| *before.uid == *uid && before.orphans == orphans);
        if is_same && before.is_some_and(|before| Arc::ptr_eq(&before.alone, alone)) {
            return changed;
        }
        if before.is_some_and(|before| before.alone.owner != alone.owner) {
            self.leave(name, &mut changed);
        }
        let nothing = self.bare(&name.resource);
        let object = self.objects.entry(name.clone()).or_insert_with(|| Object {
            uid: uid.into(),
            orphans,
            alone: Arc::clone(alone),
            weight: Arc::clone(&nothing),
            counted: nothing,
        });
        (object.uid, object.orphans, object.alone) = (uid.into(), orphans, Arc::clone(alone));
        if let Some((owner, uid)) = head(name, alone) {
            let of_owner = self.by_owner.entry(owner).or_default();
            of_owner.entry(uid).or_default().members.insert(name.clone());
        }
        self.weigh(name, &mut changed);
        if !is_same {
            self.recount_members(name, &mut changed);
        }
        changed
    }

    /// Takes out an object, and says of which others another amount is counted now.
    pub fn remove(&mut self, name: &Name) -> BTreeSet<Name> {
        let mut changed = BTreeSet::new();
        self.leave(name, &mut changed);
        if self.objects.remove(name).is_some() {
            self.recount_members(name, &mut changed);
        }
        changed.remove(name);
        changed
    }

    /// What is counted of an object.
    pub fn counted(&self, name: &Name) -> Option<&Arc<Usage>> {
        self.objects.get(name).map(|object| &object.counted)
    }

    /// Takes an object out of the family that it is in, if it is in one.
    fn leave(&mut self, name: &Name, changed: &mut BTreeSet<Name>) {
        let nothing = self.bare(&name.resource);
        let Some(object) = self.objects.get_mut(name) else { return };
        let weight = std::mem::replace(&mut object.weight, nothing);
        let Some((owner, uid)) = head(name, &object.alone) else { return };
        if let Some(of_owner) = self.by_owner.get_mut(&owner)
            && let Some(family) = of_owner.get_mut(&uid)
        {
            family.members.remove(name);
            family.sum = family.sum.saturating_sub(&beside_count(&weight.amounts));
            if family.members.is_empty() {
                of_owner.remove(&uid);
            }
            if of_owner.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        self.weigh(&owner, changed);
    }

    /// Finds out what an object weighs, and hands a difference on to its owner.
    fn weigh(&mut self, name: &Name, changed: &mut BTreeSet<Name>) {
        let bare = self.bare(&name.resource);
        let Some(object) = self.objects.get(name) else { return };
        let alone = beside_count(&object.alone.amounts);
        let whole = alone.max(&self.together(name, object));
        let total = if whole == alone {
            Arc::clone(&object.alone)
        } else {
            let amounts = whole.saturating_add(&bare.amounts);
            Arc::new(Usage { amounts, ..Usage::default() })
        };
        // The owner replaces what lets go of its members, and these stay.
        let has_owner = |(owner, uid): &(Name, Uid)| !object.orphans && self.exists(owner, uid.as_ref());
        let head = head(name, &object.alone);
        let is_covered = head.as_ref().is_some_and(has_owner);
        let counted = if is_covered { Arc::clone(&bare) } else { Arc::clone(&total) };
        let weight = if object.alone.is_leaving || object.orphans { bare } else { total };
        let Some(object) = self.objects.get_mut(name) else { return };
        if object.counted != counted {
            object.counted = counted;
            changed.insert(name.clone());
        }
        let before = std::mem::replace(&mut object.weight, Arc::clone(&weight));
        let Some((owner, uid)) = head.filter(|_| before.amounts != weight.amounts) else { return };
        if let Some(family) = self.by_owner.get_mut(&owner).and_then(|of_owner| of_owner.get_mut(&uid)) {
            let less = family.sum.saturating_sub(&beside_count(&before.amounts));
            family.sum = less.saturating_add(&beside_count(&weight.amounts));
        }
        self.weigh(&owner, changed);
    }

    /// What the members of an object take up together.
    fn together(&self, name: &Name, object: &Object) -> Amounts {
        let Some(families) = self.by_owner.get(name) else { return Amounts::default() };
        let is_own = |uid: &Uid| match uid {
            Some(uid) => *uid == object.uid,
            None => object.orphans,
        };
        let own = families.iter().filter(|(uid, _)| is_own(uid));
        own.fold(Amounts::default(), |sum, (_, family)| sum.saturating_add(&family.sum))
    }

    /// Counts all anew that name an object as their owner: it has come, gone, or become another.
    fn recount_members(&mut self, name: &Name, changed: &mut BTreeSet<Name>) {
        let families = self.by_owner.get(name).into_iter().flat_map(BTreeMap::values);
        let members: Vec<Name> = families.flat_map(|family| family.members.iter().cloned()).collect();
        for member in members {
            self.weigh(&member, changed);
        }
    }

    fn exists(&self, owner: &Name, uid: Option<&Arc<str>>) -> bool {
        self.objects.get(owner).is_some_and(|owner| uid.map_or(owner.orphans, |uid| owner.uid == *uid))
    }

    fn bare(&mut self, resource: &GroupResource) -> Arc<Usage> {
        let bare = || Arc::new(Usage::counted(resource));
        Arc::clone(self.bare.entry(resource.clone()).or_insert_with(bare))
    }
}

/// Whose family an object is in: the owner's name, and its uid.
fn head(name: &Name, usage: &Usage) -> Option<(Name, Uid)> {
    let owner = usage.owner.as_ref()?;
    let named = Name {
        resource: owner.resource.clone(),
        namespace: Arc::clone(&name.namespace),
        name: Arc::clone(&owner.name),
    };
    Some((named, owner.uid.clone()))
}

/// What is taken up beside being an object.
fn beside_count(amounts: &Amounts) -> Amounts {
    amounts.only(|dimension| !matches!(dimension, Dimension::Count(_)))
}

#[cfg(test)]
mod model;
