//! Remote clusters come and go while the inventory is in use.

use super::Inventory;
use crate::{ClusterId, LOCAL, Registration, Seconds, cluster::Cluster};

impl Inventory {
    /// Adds a remote cluster under an id that follows the others, or changes what is known of its registration.
    pub(super) fn register(&mut self, id: ClusterId, registration: Box<Registration>, now: Seconds) {
        let at = usize::from(id.0);
        debug_assert!(id != LOCAL && at <= self.clusters.len(), "ids are given in order");
        if at == self.clusters.len() {
            self.clusters.push(Cluster::new(registration.name.clone(), self.catalogue.len(), now));
        }
        let Some(cluster) = self.clusters.get_mut(at) else { return };
        if std::mem::take(&mut cluster.removed) {
            (cluster.added, cluster.contact.since, cluster.fresh_since) = (now, now, now);
        }
        cluster.validity = registration.validity(now);
        (cluster.registration, cluster.registered) = (Some(registration), now);
        self.delta.clusters.insert(id);
    }

    /// Forgets everything about a remote cluster. Its rows are in the next delta, to be deleted.
    pub(super) fn remove(&mut self, id: ClusterId, now: Seconds) {
        let Some(cluster) = self.clusters.get_mut(usize::from(id.0)).filter(|_| id != LOCAL) else { return };
        let mut empty = Cluster::new(cluster.name.clone(), self.catalogue.len(), now);
        empty.removed = true;
        let gone = std::mem::replace(cluster, empty);
        self.delta.objects.extend(gone.records.keys().map(|key| (id, key.clone())));
        self.delta.namespaces.extend(gone.tallies.namespaces.keys().map(|name| (id, name.clone())));
        self.delta.games.extend(gone.tallies.games.keys().map(|name| (id, name.clone())));
        self.delta.problems.extend(gone.tallies.problems.namespaces.keys().map(|name| (id, name.clone())));
        self.delta.applications.extend(gone.tallies.applications.keys().map(|name| (id, name.clone())));
        self.delta.clusters.insert(id);
        self.deadlines.retain(|(_, of, _)| *of != id);
        self.backlog.forget(id);
    }
}
