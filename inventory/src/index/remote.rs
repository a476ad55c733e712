//! Remote clusters come and go while the inventory is in use.

use super::Inventory;
use crate::{ClusterId, LOCAL, Mode, Registration, Seconds, cluster::Cluster};

impl Inventory {
    /// Adds a remote cluster under an id that follows the others, or changes what is known of its registration.
    pub(super) fn register(&mut self, id: ClusterId, registration: Box<Registration>, now: Seconds) {
        let at = usize::from(id.0);
        debug_assert!(id != LOCAL && at <= self.clusters.len(), "ids are given in order");
        if at == self.clusters.len() {
            let mut cluster = Cluster::new(registration.name.clone(), self.catalogue.len(), now);
            cluster.mode = registration.mode;
            self.clusters.push(cluster);
        }
        let Some(cluster) = self.clusters.get_mut(at) else { return };
        if std::mem::take(&mut cluster.removed) {
            (cluster.added, cluster.contact.since, cluster.fresh_since) = (now, now, now);
            cluster.mode = registration.mode;
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
        self.forget(id, &gone);
    }

    /// Observes a remote cluster in another way. Its objects are forgotten; who registered it, and when it answered, is
    /// not. The rows that showed its objects are in the next delta.
    pub(super) fn observe_by(&mut self, id: ClusterId, mode: Mode, now: Seconds) {
        let kinds = self.catalogue.len();
        let Some(cluster) = self.clusters.get_mut(usize::from(id.0)).filter(|_| id != LOCAL) else { return };
        if cluster.mode == mode {
            return;
        }
        let empty = Cluster::new(cluster.name.clone(), kinds, now);
        let gone = std::mem::replace(cluster, empty);
        cluster.mode = mode;
        (cluster.added, cluster.fresh, cluster.fresh_since) = (gone.added, gone.fresh, gone.fresh_since);
        (cluster.registered, cluster.validity, cluster.lag) = (gone.registered, gone.validity, gone.lag);
        cluster.contact = gone.contact.clone();
        cluster.registration.clone_from(&gone.registration);
        cluster.ignored.clone_from(&gone.ignored);
        self.forget(id, &gone);
    }

    fn forget(&mut self, id: ClusterId, gone: &Cluster) {
        self.delta.extend(super::everything_of(id, gone));
        self.deadlines.retain(|(_, of, _)| *of != id);
        self.backlog.forget(id);
    }
}
