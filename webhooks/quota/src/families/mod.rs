//! Counts Fleets, their sets, and the servers of these, so that every server counts once.
//!
//! A Fleet is charged for what it asks for, before anything of it exists. What Agones creates for it normally uses no
//! more than that; during the surge of a rollout, or if somebody else created an object in the owner's name, it uses
//! more. So an owner counts for the larger of what it asks for itself and what its members use together, limit by
//! limit, and a member of an existing owner counts only as an object. A GameServer that is being deleted counts in
//! addition until it is gone, as a Pod does for ResourceQuota: Agones no longer treats it as a replica, and creates
//! another while its pod still runs.
//!
//! **Invariant:** the count of a family is at least what exists of it and at least what its owner asks for; and it
//! never grows by more than an object does, as long as that object keeps its owner. A request that is admitted by the
//! usage of its object alone is therefore charged enough.
//!
//! An object belongs to an [`Owner`] if an owner with this name and uid exists. An object that the garbage collector
//! has orphaned, with only the label left, belongs to an owner that is being deleted with orphaning until that owner is
//! gone: up to then it is charged through the owner, afterwards by itself. A set that is deleted with orphaning no
//! longer belongs to its Fleet, which creates another.
//!
//! A GameServerSet of OpenKruiseGame and its pods are a family as well. A pod belongs to the set of its label's name, so
//! these sets are put with an empty uid; and one that is being deleted counts as any other, since none replaces it before
//! it is gone.

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

/// All families, updated object by object.
#[derive(Debug, Default)]
pub struct Families {
    objects: HashMap<Name, Object>,
    /// By the owner's name, then by its uid; without a uid for objects that have only the label. The owner need not
    /// exist.
    by_owner: HashMap<Name, BTreeMap<Uid, Family>>,
    /// By resource: the usage of an object that only counts as an object.
    bare: HashMap<GroupResource, Arc<Usage>>,
    /// By namespace: the sums over objects that have no owner.
    standing: HashMap<Arc<str>, Weight>,
    /// The last computed weight of a server, to be shared: consecutive servers mostly have the same usage.
    last: Option<(Arc<Usage>, Arc<Weight>)>,
}

/// The usage of an object and its members together, without their object counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weight {
    /// The amount that Agones scales it to.
    pub asked: Amounts,
    /// What is counted of it without servers being deleted: what it asks for, or what exists if that is more.
    pub stays: Amounts,
    /// The usage of servers that are not being deleted.
    pub there: Amounts,
    /// The usage of servers that are being deleted.
    pub going: Amounts,
    /// The room that servers which are not being deleted added at run time, beyond what was asked for.
    pub grown: Amounts,
}

impl Weight {
    /// A server on its own.
    fn of_server(usage: &Usage) -> Self {
        let alone = beside_count(&usage.amounts);
        if usage.is_going {
            return Self { going: alone, ..Self::default() };
        }
        // A server created for an owner counts towards what the owner asks for; if the owner is gone, it is
        // garbage-collected.
        let is_made_for = usage.owner.as_ref().is_some_and(|owner| owner.uid.is_some());
        let (asked, grown) = if is_made_for {
            (Amounts::default(), usage.grown.clone())
        } else {
            (alone.clone(), Amounts::default())
        };
        Self { asked, stays: alone.clone(), there: alone, going: Amounts::default(), grown }
    }

    /// All that is counted of it.
    pub fn counted(&self) -> Amounts {
        self.stays.saturating_add(&self.going)
    }

    /// The usage of all servers, including those being deleted.
    pub fn exists(&self) -> Amounts {
        self.there.saturating_add(&self.going)
    }

    /// The sum of each.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.each(other, Amounts::saturating_add)
    }

    #[must_use]
    fn minus(&self, other: &Self) -> Self {
        self.each(other, Amounts::saturating_sub)
    }

    fn each(&self, other: &Self, of: impl Fn(&Amounts, &Amounts) -> Amounts) -> Self {
        Self {
            asked: of(&self.asked, &other.asked),
            stays: of(&self.stays, &other.stays),
            there: of(&self.there, &other.there),
            going: of(&self.going, &other.going),
            grown: of(&self.grown, &other.grown),
        }
    }
}

type Uid = Option<Arc<str>>;

#[derive(Debug)]
struct Object {
    uid: Arc<str>,
    /// Whether it is being deleted and orphans its members, which still belong to it.
    orphans: bool,
    /// Its usage alone.
    alone: Arc<Usage>,
    /// Its usage with its members.
    whole: Arc<Weight>,
    /// What is counted of it.
    counted: Arc<Usage>,
    /// Whether an owner is charged for it.
    is_covered: bool,
}

impl Object {
    /// What it adds to its owner's family. The owner replaces a member that orphans its own members.
    fn weight(&self) -> Arc<Weight> {
        if self.orphans { Arc::default() } else { Arc::clone(&self.whole) }
    }

    /// What it adds to its namespace.
    fn standing(&self) -> Arc<Weight> {
        if self.is_covered { Arc::default() } else { Arc::clone(&self.whole) }
    }
}

#[derive(Debug, Default)]
struct Family {
    members: BTreeSet<Name>,
    /// Their usage together.
    sum: Weight,
}

impl Families {
    /// Adds or updates an object, and returns the objects whose count has changed. `orphans`: it is being deleted and
    /// orphans its members.
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
        // Its share in the owner's family and in the namespace is replaced below.
        let (weight, standing) = self.weights(name);
        let nothing = self.bare(&name.resource);
        let object = self.objects.entry(name.clone()).or_insert_with(|| Object {
            uid: uid.into(),
            orphans,
            alone: Arc::clone(alone),
            whole: Arc::default(),
            counted: nothing,
            is_covered: true,
        });
        (object.uid, object.orphans, object.alone) = (uid.into(), orphans, Arc::clone(alone));
        if let Some((owner, uid)) = head(name, alone) {
            let of_owner = self.by_owner.entry(owner).or_default();
            of_owner.entry(uid).or_default().members.insert(name.clone());
        }
        self.reweigh(name, (&weight, &standing), &mut changed);
        if !is_same {
            self.recount_members(name, &mut changed);
        }
        changed
    }

    /// Removes an object, and returns the others whose count has changed.
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

    /// The sums over a namespace.
    pub fn standing(&self, namespace: &str) -> Option<&Weight> {
        self.standing.get(namespace)
    }

    /// Removes an object from its namespace's sums and from its family, if it has one.
    fn leave(&mut self, name: &Name, changed: &mut BTreeSet<Name>) {
        let (weight, standing) = self.weights(name);
        let Some(object) = self.objects.get_mut(name) else { return };
        object.whole = Arc::default();
        let head = head(name, &object.alone);
        self.stand(&name.namespace, &standing, &Weight::default());
        let Some((owner, uid)) = head else { return };
        if let Some(of_owner) = self.by_owner.get_mut(&owner)
            && let Some(family) = of_owner.get_mut(&uid)
        {
            family.members.remove(name);
            family.sum = family.sum.minus(&weight);
            if family.members.is_empty() {
                of_owner.remove(&uid);
            }
            if of_owner.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        self.weigh(&owner, changed);
    }

    /// What an object adds to its owner's family, and to its namespace.
    fn weights(&self, name: &Name) -> (Arc<Weight>, Arc<Weight>) {
        self.objects.get(name).map(|object| (object.weight(), object.standing())).unwrap_or_default()
    }

    /// Computes the weight of an object, and passes a difference on to its owner.
    fn weigh(&mut self, name: &Name, changed: &mut BTreeSet<Name>) {
        let (weight, standing) = self.weights(name);
        self.reweigh(name, (&weight, &standing), changed);
    }

    /// The same for an object that had added `before` to its owner's family and to its namespace.
    fn reweigh(&mut self, name: &Name, before: (&Weight, &Weight), changed: &mut BTreeSet<Name>) {
        let bare = self.bare(&name.resource);
        let Some(object) = self.objects.get(name) else { return };
        let (alone, orphans) = (Arc::clone(&object.alone), object.orphans);
        let whole = match &*name.resource.resource {
            "gameservers" | "pods" => self.of_server(&alone),
            _ => Arc::new(self.of_owner(name, object)),
        };
        let amounts = whole.counted();
        let total = if amounts == beside_count(&alone.amounts) {
            Arc::clone(&alone)
        } else {
            Arc::new(Usage { amounts: amounts.saturating_add(&bare.amounts), ..Usage::default() })
        };
        let head = head(name, &alone);
        // An object that orphans its members no longer belongs to its owner.
        let is_covered =
            !orphans && head.as_ref().is_some_and(|(owner, uid)| self.exists(owner, uid.as_ref()));
        let Some(object) = self.objects.get_mut(name) else { return };
        (object.whole, object.is_covered) = (whole, is_covered);
        let counted = if is_covered { bare } else { total };
        if object.counted != counted {
            object.counted = counted;
            changed.insert(name.clone());
        }
        let (weight, standing) = (object.weight(), object.standing());
        self.stand(&name.namespace, before.1, &standing);
        let Some((owner, uid)) = head.filter(|_| *before.0 != *weight) else { return };
        if let Some(family) = self.by_owner.get_mut(&owner).and_then(|of_owner| of_owner.get_mut(&uid)) {
            family.sum = family.sum.minus(before.0).plus(&weight);
        }
        self.weigh(&owner, changed);
    }

    /// Replaces an object's share in the sums of its namespace.
    fn stand(&mut self, namespace: &Arc<str>, before: &Weight, now: &Weight) {
        if before == now {
            return;
        }
        let sum = self.standing.entry(Arc::clone(namespace)).or_default();
        *sum = sum.minus(before).plus(now);
        if *sum == Weight::default() {
            self.standing.remove(namespace);
        }
    }

    fn of_server(&mut self, alone: &Arc<Usage>) -> Arc<Weight> {
        if let Some((usage, weight)) = &self.last
            && Arc::ptr_eq(usage, alone)
        {
            return Arc::clone(weight);
        }
        let weight = Arc::new(Weight::of_server(alone));
        self.last = Some((Arc::clone(alone), Arc::clone(&weight)));
        weight
    }

    /// The weight of a Fleet or a set with its members. Agones creates nothing for one that is being deleted; it still
    /// counts in full until it is gone.
    fn of_owner(&self, name: &Name, object: &Object) -> Weight {
        let alone = beside_count(&object.alone.amounts);
        let together = self.together(name, object);
        let own = if object.alone.is_going { Amounts::default() } else { alone.clone() };
        let asked = match &*name.resource.resource {
            "fleets" => own.max(&together.asked),
            _ => own,
        };
        Weight { asked, stays: alone.max(&together.stays), ..together }
    }

    /// The usage of the members of an object together.
    fn together(&self, name: &Name, object: &Object) -> Weight {
        let Some(families) = self.by_owner.get(name) else { return Weight::default() };
        let is_own = |uid: &Uid| match uid {
            Some(uid) => *uid == object.uid,
            None => object.orphans,
        };
        let own = families.iter().filter(|(uid, _)| is_own(uid));
        own.fold(Weight::default(), |sum, (_, family)| sum.plus(&family.sum))
    }

    /// Recounts the objects that name an object as their owner, after it was created, deleted or replaced.
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

/// The family of an object: the owner's name and uid.
fn head(name: &Name, usage: &Usage) -> Option<(Name, Uid)> {
    let owner = usage.owner.as_ref()?;
    let named = Name {
        resource: owner.resource.clone(),
        namespace: Arc::clone(&name.namespace),
        name: Arc::clone(&owner.name),
    };
    Some((named, owner.uid.clone()))
}

/// The amounts without the object count.
pub(crate) fn beside_count(amounts: &Amounts) -> Amounts {
    amounts.only(|dimension| !matches!(dimension, Dimension::Count(_)))
}

#[cfg(test)]
mod model;
