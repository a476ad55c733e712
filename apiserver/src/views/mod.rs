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
mod flux_series;
mod flux_summary;
mod game_server_summary;
mod memory;
mod namespaces;
mod objects;
mod render;
mod tenant_usage;

use std::sync::Arc;

use gatehouse_apiservice::{Resource, Time, View, view::RESOURCES};
use gatehouse_inventory::{Cluster, ClusterId, Delta, Interner, Inventory, Str, catalogue::Kind};

pub use self::flux_series::FluxSeries;
use self::render::Renderer;
use crate::{
    clock::Clock,
    watchcache::{Published, RowKey, Update, WatchCache},
};

/// What a projection says of a row.
pub(crate) enum Projected<S> {
    /// There is one, and this is its content.
    Row {
        /// Name of the observed cluster.
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
    all: [Box<dyn AnyView>; RESOURCES.len()],
    flux_series: Option<Arc<FluxSeries>>,
}

/// How many rows changed, for the metrics.
pub type Updates = (&'static Resource, Published);

impl Views {
    /// Views without rows.
    pub fn new(clock: &Arc<Clock>, interner: &Arc<Interner>) -> Self {
        let all = [
            Driver::<cluster_health::ClusterHealths>::boxed(clock, interner),
            Driver::<flux_dependency::FluxDependencies>::boxed(clock, interner),
            Driver::<flux_resource::FluxResources>::boxed(clock, interner),
            Driver::<flux_summary::FluxSummaries>::boxed(clock, interner),
            Driver::<game_server_summary::GameServerSummaries>::boxed(clock, interner),
            Driver::<tenant_usage::TenantUsages>::boxed(clock, interner),
        ];
        Self { all, flux_series: None }
    }

    /// Keeps up a series for each of Flux's objects, too.
    #[must_use]
    pub fn with_flux_series(self, series: Option<Arc<FluxSeries>>) -> Self {
        Self { flux_series: series, ..self }
    }

    /// The cache of each resource.
    pub fn caches(&self) -> Vec<Arc<WatchCache>> {
        self.all.iter().map(|view| Arc::clone(view.cache())).collect()
    }

    /// Whether every view says something.
    pub fn are_synced(&self) -> bool {
        self.all.iter().all(|view| view.cache().is_synced())
    }

    /// Brings every view up to date with what changed.
    pub fn update(&mut self, inventory: &Inventory, delta: &Delta) -> [Updates; RESOURCES.len()] {
        let updates = self.all.each_mut().map(|view| view.update(inventory, delta));
        if let Some(series) = &self.flux_series {
            if series.is_synced() {
                series.update(inventory, delta);
            } else if self.are_synced() {
                series.update(inventory, &inventory.everything());
            }
        }
        updates
    }
}

/// A view, whatever its rows say.
trait AnyView: Send {
    fn cache(&self) -> &Arc<WatchCache>;
    fn update(&mut self, inventory: &Inventory, delta: &Delta) -> Updates;
}

/// A projection with the cache it fills.
struct Driver<P> {
    projection: P,
    renderer: Renderer,
    cache: Arc<WatchCache>,
}

/// Rows rendered before they are handed over: readers wait for a hand-over, not for rendering.
const BATCH: usize = 256;

impl<P: Projection + Default + Send + 'static> Driver<P> {
    const RESOURCE: &'static Resource = &<P::Status as View>::RESOURCE;

    fn boxed(clock: &Arc<Clock>, interner: &Arc<Interner>) -> Box<dyn AnyView> {
        Box::new(Self {
            projection: P::default(),
            renderer: Renderer::new(Self::RESOURCE, Arc::clone(interner)),
            cache: Arc::new(WatchCache::new(Self::RESOURCE, Arc::clone(clock))),
        })
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

impl<P: Projection + Default + Send + 'static> AnyView for Driver<P> {
    fn cache(&self) -> &Arc<WatchCache> {
        &self.cache
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
