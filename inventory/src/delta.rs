//! Which rows have to be rendered again after a change.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    ops::Bound,
};

use crate::{ClusterId, ObjectKey, Seconds, Str};

/// The objects, namespaces and clusters that changed since the last
/// [`Inventory::take_delta`](crate::Inventory::take_delta).
#[derive(Debug, Default)]
pub struct Delta {
    /// Objects that changed, appeared or disappeared, and those whose place in the graph or root cause may have
    /// changed.
    pub objects: HashSet<(ClusterId, ObjectKey)>,
    /// Namespaces that contain such a Flux object, or whose tenant changed.
    pub namespaces: HashSet<(ClusterId, Str)>,
    /// Namespaces that contain such a game server or fleet, or whose tenant changed.
    pub games: HashSet<(ClusterId, Str)>,
    /// Namespaces in which such an object is a problem, or was one, as [`problem_namespace`](crate::problem_namespace)
    /// tells.
    pub problems: HashSet<(ClusterId, Str)>,
    /// Namespaces that contain such an Application of Argo CD, or whose tenant changed.
    pub applications: HashSet<(ClusterId, Str)>,
    /// Clusters in which anything changed.
    pub clusters: HashSet<ClusterId>,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
            && self.namespaces.is_empty()
            && self.games.is_empty()
            && self.problems.is_empty()
            && self.applications.is_empty()
            && self.clusters.is_empty()
    }

    /// What changed in each cluster, so that each part is of one cluster.
    pub fn by_cluster(&self) -> BTreeMap<ClusterId, Self> {
        let Self { objects, namespaces, games, problems, applications, clusters } = self;
        let mut parts: BTreeMap<ClusterId, Self> = BTreeMap::new();
        for (id, key) in objects {
            parts.entry(*id).or_default().objects.insert((*id, key.clone()));
        }
        for (id, name) in namespaces {
            parts.entry(*id).or_default().namespaces.insert((*id, name.clone()));
        }
        for (id, name) in games {
            parts.entry(*id).or_default().games.insert((*id, name.clone()));
        }
        for (id, name) in problems {
            parts.entry(*id).or_default().problems.insert((*id, name.clone()));
        }
        for (id, name) in applications {
            parts.entry(*id).or_default().applications.insert((*id, name.clone()));
        }
        for id in clusters {
            parts.entry(*id).or_default().clusters.insert(*id);
        }
        parts
    }

    /// Adds what changed besides.
    pub(crate) fn extend(&mut self, other: Self) {
        let Self { objects, namespaces, games, problems, applications, clusters } = other;
        self.objects.extend(objects);
        self.namespaces.extend(namespaces);
        self.games.extend(games);
        self.problems.extend(problems);
        self.applications.extend(applications);
        self.clusters.extend(clusters);
    }
}

/// A queue, without duplicates, of the objects whose rows may be outdated because other objects changed. Oldest first
/// within a cluster; the clusters take turns, so that one with many changes keeps no other waiting.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    queues: BTreeMap<ClusterId, VecDeque<(ObjectKey, Seconds)>>,
    known: HashSet<(ClusterId, ObjectKey)>,
    /// The cluster whose turn was last.
    last: Option<ClusterId>,
}

impl Backlog {
    /// Queues `key`, whose row may be outdated since `since`.
    pub(crate) fn push(&mut self, id: ClusterId, key: &ObjectKey, since: Seconds) {
        if self.known.insert((id, key.clone())) {
            self.queues.entry(id).or_default().push_back((key.clone(), since));
        }
    }

    /// The oldest entry of the next cluster, with the time since when its row may be outdated.
    pub(crate) fn pop(&mut self) -> Option<(ClusterId, ObjectKey, Seconds)> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.queues.range((after, Bound::Unbounded)).next().or_else(|| self.queues.iter().next());
        let id = *next?.0;
        let queue = self.queues.get_mut(&id)?;
        let (key, since) = queue.pop_front()?;
        if queue.is_empty() {
            // Frees the memory that a burst of changes has allocated.
            self.queues.remove(&id);
        }
        self.known.remove(&(id, key.clone()));
        if self.queues.is_empty() {
            *self = Self::default();
        }
        self.last = Some(id);
        Some((id, key, since))
    }

    /// Forgets the entries of a cluster.
    pub(crate) fn forget(&mut self, id: ClusterId) {
        self.queues.remove(&id);
        self.known.retain(|(of, _)| *of != id);
    }

    /// When the first entry of a cluster was queued for.
    pub(crate) fn since(&self, id: ClusterId) -> Option<Seconds> {
        self.queues.get(&id)?.front().map(|(_, since)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::KindId;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(KindId(0), "n", name)
    }

    #[test]
    fn clusters_take_turns_and_each_is_behind_by_itself() {
        let mut backlog = Backlog::default();
        for n in 0..3 {
            backlog.push(ClusterId(1), &key(&n.to_string()), 5);
        }
        backlog.push(ClusterId(0), &key("a"), 9);
        backlog.push(ClusterId(1), &key("0"), 9);
        assert_eq!((backlog.since(ClusterId(0)), backlog.since(ClusterId(1))), (Some(9), Some(5)));
        let popped: Vec<_> =
            std::iter::from_fn(|| backlog.pop()).map(|(id, key, _)| (id.0, key.name.to_string())).collect();
        let expected = [(0, "a"), (1, "0"), (1, "1"), (1, "2")].map(|(id, name)| (id, name.to_owned()));
        assert_eq!(popped, expected);
    }

    #[test]
    fn what_a_removed_cluster_left_is_forgotten() {
        let mut backlog = Backlog::default();
        backlog.push(ClusterId(1), &key("a"), 5);
        backlog.push(ClusterId(2), &key("b"), 6);
        backlog.forget(ClusterId(1));
        assert_eq!(backlog.pop().map(|(id, ..)| id), Some(ClusterId(2)));
        backlog.push(ClusterId(1), &key("a"), 7);
        assert_eq!(backlog.since(ClusterId(1)), Some(7), "it may be queued again");
    }
}
