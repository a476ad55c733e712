//! From observed state to rows: each view is a projection of the inventory, kept up change by change.
//!
//! Runs in the task that owns the inventory. A projection says which rows a [`Delta`] touches and what
//! they look like; what a row said before is compared in the watch cache, so nothing is emitted twice.
//! Until every kind that a view tells about is known or known to be unreadable, the view renders
//! nothing and its resource answers 503.

mod cluster_health;
mod common;
mod flux_dependency;
mod flux_resource;
mod flux_summary;
mod game_server_summary;
mod memory;
mod namespaces;
mod objects;
mod render;
mod tenant_usage;

use std::sync::Arc;

use gatehouse_apiservice::{Resource, Time, View};
use gatehouse_inventory::{Cluster, ClusterId, Delta, Interner, Inventory, Str, catalogue::Kind};

use self::{
    cluster_health::ClusterHealths, flux_dependency::FluxDependencies, flux_resource::FluxResources,
    flux_summary::FluxSummaries, game_server_summary::GameServerSummaries, render::Renderer,
    tenant_usage::TenantUsages,
};
use crate::{
    clock::Clock,
    watchcache::{Published, RowKey, Update, WatchCache},
};

/// What a projection says of a row.
pub(crate) enum Projected<S> {
    /// There is one, and this is its content.
    Row {
        /// The cluster told about.
        cluster: Str,
        /// Where it is listed.
        key: RowKey,
        /// `metadata.creationTimestamp`.
        created: Time,
        /// The namespace's tenant.
        tenant: Option<Str>,
        /// Everything else.
        status: Box<S>,
    },
    /// There is none.
    Gone(RowKey),
}

/// Makes the rows of one resource.
pub(crate) trait Projection {
    /// The type of `status`.
    type Status: View;

    /// Whether the view cannot be told without the objects of this kind. Namespaces give every row its labels:
    /// rows made before they are known would all be made again.
    fn needs(kind: &Kind) -> bool {
        kind.is_flux() || kind.is_namespace()
    }

    /// The rows that `delta` touches, as they are to be now.
    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<Self::Status>> + 'a;
}

/// Every view, and the caches that serve them.
pub struct Views {
    cluster_healths: Driver<ClusterHealths>,
    flux_dependencies: Driver<FluxDependencies>,
    flux_resources: Driver<FluxResources>,
    flux_summaries: Driver<FluxSummaries>,
    game_server_summaries: Driver<GameServerSummaries>,
    tenant_usages: Driver<TenantUsages>,
}

/// How many rows changed, for the metrics.
pub type Updates = (&'static Resource, Published);

impl Views {
    /// Views without rows.
    pub fn new(clock: &Arc<Clock>, interner: &Arc<Interner>) -> Self {
        Self {
            cluster_healths: Driver::new(clock, interner),
            flux_dependencies: Driver::new(clock, interner),
            flux_resources: Driver::new(clock, interner),
            flux_summaries: Driver::new(clock, interner),
            game_server_summaries: Driver::new(clock, interner),
            tenant_usages: Driver::new(clock, interner),
        }
    }

    /// The cache of each resource.
    pub fn caches(&self) -> Vec<Arc<WatchCache>> {
        vec![
            Arc::clone(&self.cluster_healths.cache),
            Arc::clone(&self.flux_dependencies.cache),
            Arc::clone(&self.flux_resources.cache),
            Arc::clone(&self.flux_summaries.cache),
            Arc::clone(&self.game_server_summaries.cache),
            Arc::clone(&self.tenant_usages.cache),
        ]
    }

    /// Whether every view says something.
    pub fn are_synced(&self) -> bool {
        self.caches().iter().all(|cache| cache.is_synced())
    }

    /// Brings every view up to date with what changed.
    pub fn update(&mut self, inventory: &Inventory, delta: &Delta) -> [Updates; 6] {
        [
            self.cluster_healths.update(inventory, delta),
            self.flux_dependencies.update(inventory, delta),
            self.flux_resources.update(inventory, delta),
            self.flux_summaries.update(inventory, delta),
            self.game_server_summaries.update(inventory, delta),
            self.tenant_usages.update(inventory, delta),
        ]
    }
}

/// A projection with the cache it fills.
struct Driver<P> {
    projection: P,
    renderer: Renderer,
    cache: Arc<WatchCache>,
}

/// Rows rendered before they are handed over: readers wait for a hand-over, not for rendering.
const BATCH: usize = 256;

impl<P: Projection + Default> Driver<P> {
    const RESOURCE: &'static Resource = &<P::Status as View>::RESOURCE;

    fn new(clock: &Arc<Clock>, interner: &Arc<Interner>) -> Self {
        Self {
            projection: P::default(),
            renderer: Renderer::new(Self::RESOURCE, Arc::clone(interner)),
            cache: Arc::new(WatchCache::new(Self::RESOURCE, Arc::clone(clock))),
        }
    }

    fn update(&mut self, inventory: &Inventory, delta: &Delta) -> Updates {
        let mut published = Published::default();
        if self.cache.is_synced() {
            self.publish(inventory, delta, &mut published);
        } else if inventory.clusters().all(|(id, cluster)| settled::<P>(inventory, id, cluster)) {
            self.publish(inventory, &inventory.everything(), &mut published);
            self.cache.mark_synced();
        }
        (Self::RESOURCE, published)
    }

    fn publish(&mut self, inventory: &Inventory, delta: &Delta, published: &mut Published) {
        let mut rows = self.projection.project(inventory, delta);
        loop {
            let batch: Vec<Update> = rows.by_ref().take(BATCH).map(|row| self.renderer.render(row)).collect();
            if batch.is_empty() {
                return;
            }
            *published += self.cache.publish(batch);
        }
    }
}

/// Whether all that the view needs of a cluster is known. The first cluster is waited for; one that is
/// watched from afar and does not answer holds nothing up.
fn settled<P: Projection>(inventory: &Inventory, id: ClusterId, cluster: &Cluster) -> bool {
    let mut kinds = inventory.catalogue().kinds();
    let known = kinds.all(|(id, kind)| !P::needs(kind) || cluster.is_settled(id));
    known || (id != ClusterId(0) && cluster.contact().silent.is_some())
}

#[cfg(test)]
pub(crate) mod tests;
