//! Views: the projections from observed objects to the rows of a resource, updated change by change.
//!
//! The views run in the task that owns the inventory. A projection decides which rows a [`Delta`] affects and
//! what they contain; the watch cache compares them with the current rows, so that unchanged rows emit
//! nothing. A view renders nothing, and its resource answers with 503, until every kind that it needs of the
//! local cluster has been listed or is known to be unreadable.

mod applied_tenant_quota;
mod argo_application;
mod argo_summary;
mod causes;
mod cluster_health;
mod common;
mod flux_dependency;
mod flux_history;
mod flux_resource;
mod flux_series;
mod flux_summary;
mod game_fleet;
mod game_instance;
mod game_server_summary;
mod last_statuses;
mod limits;
mod my_namespace;
mod namespaces;
mod objects;
mod problem;
mod remote_rows;
mod remote_status;
mod render;
mod tenant_usage;

use std::{collections::HashMap, sync::Arc};

use gatehouse_apiservice::{Resource, Time, view::RESOURCES};
use gatehouse_inventory::{
    Cluster, ClusterId, Delta, Interner, Inventory, LOCAL, Mode, ObjectKey, Seconds, Str, catalogue::Kind,
};

pub use self::flux_series::FluxSeries;
pub(crate) use self::{
    cluster_health::ClusterMetrics,
    common::named,
    remote_rows::{RemoteRow, RemoteRows, RowNotice},
    remote_status::RemoteStatus,
};
use self::{remote_rows::Remote, render::Renderer};
use crate::{
    actions::Observed,
    clock::Clock,
    tree::{Question, Questions},
    watchcache::{Published, RowKey, Update, WatchCache},
};

/// What a projection makes of one row.
pub(crate) enum Projected<S> {
    /// The row exists, with this content.
    Row {
        /// The name of the observed cluster.
        cluster: Str,
        /// The namespace and name of the row.
        key: RowKey,
        /// `metadata.creationTimestamp`.
        created: Time,
        /// The tenant of the row's namespace.
        tenant: Option<Str>,
        /// The `status` of the row.
        status: Box<S>,
    },
    /// The row does not exist.
    Deleted(RowKey),
}

/// Computes the rows of one resource.
pub(crate) trait Projection {
    /// The type of `status`.
    type Status: RemoteStatus;

    /// Whether rows of another Gatehouse are [adopted](Self::adopt) instead of published.
    const ADOPTS: bool = false;

    /// Whether the view needs the objects of this kind before it can render rows. Namespaces are needed for
    /// the labels of every row: otherwise all rows would be rendered again once the namespaces are known.
    fn needs(kind: &Kind) -> bool {
        kind.is_flux() || kind.is_namespace()
    }

    /// The rows that `delta` affects, with their current content.
    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<Self::Status>> + 'a;

    /// Takes the row that the Gatehouse of a cluster has of that cluster, to show it with what is known here; `None`: it
    /// has none. Returns whether there is something to show.
    fn adopt(&mut self, _id: ClusterId, _row: Option<(Time, Self::Status)>) -> bool {
        false
    }

    /// Objects whose rows show something that has changed with the last projection, to be projected later.
    fn followers(&mut self) -> Vec<(ClusterId, ObjectKey)> {
        Vec::new()
    }
}

/// All views and the caches that they fill.
pub struct Views {
    all: [Box<dyn AnyView>; RESOURCES.len()],
    flux_series: Option<Arc<FluxSeries>>,
    questions: Option<Questions>,
    observed: Option<Arc<Observed>>,
}

/// How many rows of a resource changed, for the metrics.
pub type Updates = (&'static Resource, Published);

impl Views {
    /// All views, without rows.
    pub fn new(clock: &Arc<Clock>, interner: &Arc<Interner>) -> Self {
        let all = [
            Driver::<applied_tenant_quota::AppliedTenantQuotas>::boxed(clock, interner),
            Driver::<argo_application::ArgoApplications>::boxed(clock, interner),
            Driver::<argo_summary::ArgoSummaries>::boxed(clock, interner),
            Driver::<cluster_health::ClusterHealths>::boxed(clock, interner),
            Driver::<flux_dependency::FluxDependencies>::boxed(clock, interner),
            Driver::<flux_history::FluxHistories>::boxed(clock, interner),
            Driver::<flux_resource::FluxResources>::boxed(clock, interner),
            Driver::<flux_summary::FluxSummaries>::boxed(clock, interner),
            Driver::<game_fleet::GameFleets>::boxed(clock, interner),
            Driver::<game_instance::GameInstances>::boxed(clock, interner),
            Driver::<game_server_summary::GameServerSummaries>::boxed(clock, interner),
            Driver::<my_namespace::MyNamespaces>::boxed(clock, interner),
            Driver::<problem::Problems>::boxed(clock, interner),
            Driver::<tenant_usage::TenantUsages>::boxed(clock, interner),
        ];
        Self { all, flux_series: None, questions: None, observed: None }
    }

    /// Also keeps the series of Flux's objects up to date, if there are any.
    #[must_use]
    pub fn with_flux_series(self, series: Option<Arc<FluxSeries>>) -> Self {
        Self { flux_series: series, ..self }
    }

    /// Also receives these questions, for the task that owns the inventory to answer.
    #[must_use]
    pub(crate) fn with_trees(self, questions: Questions) -> Self {
        Self { questions: Some(questions), ..self }
    }

    /// The next question.
    pub(crate) async fn question(&mut self) -> Question {
        if let Some(questions) = &mut self.questions
            && let Some(question) = questions.recv().await
        {
            return question;
        }
        // Nobody asks any more.
        std::future::pending().await
    }

    /// Also keeps up to date what actions need, if there are any.
    #[must_use]
    pub fn with_observed(self, observed: Option<Arc<Observed>>) -> Self {
        Self { observed, ..self }
    }

    /// The cache of each resource.
    pub fn caches(&self) -> Vec<Arc<WatchCache>> {
        self.all.iter().map(|view| Arc::clone(view.cache())).collect()
    }

    /// Whether all views have synced.
    pub fn are_synced(&self) -> bool {
        self.all.iter().all(|view| view.cache().is_synced())
    }

    /// The objects whose rows show what the last updates changed. To be [queued](Inventory::queue).
    pub fn followers(&mut self) -> Vec<(ClusterId, ObjectKey)> {
        self.all.iter_mut().flat_map(|view| view.followers()).collect()
    }

    /// A cluster is observed in another way from now on.
    pub(crate) fn observe_by(&mut self, id: ClusterId, cluster: &Cluster, now: Seconds) {
        for view in &mut self.all {
            view.observe_by(id, &cluster.name, cluster.mode(), now);
        }
    }

    /// Deletes the rows of a cluster that is removed, as far as its objects do not.
    pub(crate) fn forget(&mut self, id: ClusterId) {
        for view in &mut self.all {
            view.forget(id);
        }
    }

    /// Takes in rows of a cluster that runs Gatehouse. Returns whether the row of that cluster shows them.
    pub(crate) fn take(
        &mut self,
        inventory: &Inventory,
        id: ClusterId,
        rows: RemoteRows,
        now: Seconds,
    ) -> bool {
        let RemoteRows { view, notice } = rows;
        self.all.get_mut(view).is_some_and(|view| view.take(inventory, id, notice, now))
    }

    /// Publishes rows that were [taken in](Self::take).
    pub(crate) fn flush(&mut self) {
        for view in &mut self.all {
            view.flush();
        }
    }

    /// Marks rows of clusters that run Gatehouse as stale or fresh.
    pub(crate) fn tick(&mut self, inventory: &Inventory, now: Seconds) {
        for view in &mut self.all {
            view.tick(inventory, now);
        }
    }

    /// Updates every view with what changed.
    pub fn update(&mut self, inventory: &Inventory, delta: &Delta) -> [Updates; RESOURCES.len()] {
        let updates = self.all.each_mut().map(|view| view.update(inventory, delta));
        // Series and actions are for objects of the local cluster.
        if let Some(observed) = &self.observed {
            observed.update(inventory, delta);
        }
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

/// A view of any status type.
trait AnyView: Send {
    fn cache(&self) -> &Arc<WatchCache>;
    fn update(&mut self, inventory: &Inventory, delta: &Delta) -> Updates;
    fn followers(&mut self) -> Vec<(ClusterId, ObjectKey)>;
    fn observe_by(&mut self, id: ClusterId, name: &Str, mode: Mode, now: Seconds);
    fn forget(&mut self, id: ClusterId);
    fn take(&mut self, inventory: &Inventory, id: ClusterId, notice: RowNotice, now: Seconds) -> bool;
    fn flush(&mut self);
    fn tick(&mut self, inventory: &Inventory, now: Seconds);
}

/// A projection and the cache that it fills.
struct Driver<P> {
    projection: P,
    renderer: Renderer,
    cache: Arc<WatchCache>,
    /// Clusters whose rows are another Gatehouse's.
    remotes: HashMap<ClusterId, Remote>,
    /// Rows of these that are not published yet.
    pending: Vec<Update>,
    /// What was published of these since the last update.
    published: Published,
}

/// Rows rendered before they are handed to the cache. Readers wait for the hand-over, but not for rendering.
const BATCH: usize = 256;

impl<P: Projection + Default + Send + 'static> Driver<P> {
    const RESOURCE: &'static Resource = &<P::Status as gatehouse_apiservice::View>::RESOURCE;

    fn boxed(clock: &Arc<Clock>, interner: &Arc<Interner>) -> Box<dyn AnyView> {
        Box::new(Self {
            projection: P::default(),
            renderer: Renderer::new(Self::RESOURCE, Arc::clone(interner)),
            cache: Arc::new(WatchCache::new(Self::RESOURCE, Arc::clone(clock))),
            remotes: HashMap::new(),
            pending: Vec::new(),
            published: Published::default(),
        })
    }

    /// Renders the rows of each cluster by itself, because those of remote clusters are published otherwise.
    fn publish(&mut self, inventory: &Inventory, delta: &Delta, published: &mut Published) {
        if inventory.has_remote() {
            for (id, part) in delta.by_cluster() {
                self.publish_of(id, inventory, &part, published);
            }
        } else {
            self.publish_of(LOCAL, inventory, delta, published);
        }
    }

    fn publish_of(&mut self, id: ClusterId, inventory: &Inventory, delta: &Delta, published: &mut Published) {
        let is_elsewhere = self.is_elsewhere(id);
        let mut rows = self.projection.project(inventory, delta);
        if is_elsewhere {
            // Only what the projection remembers is kept up to date.
            return rows.for_each(drop);
        }
        loop {
            let batch: Vec<Update> = rows.by_ref().take(BATCH).map(|row| self.renderer.render(row)).collect();
            if batch.is_empty() {
                return;
            }
            *published +=
                if id == LOCAL { self.cache.publish(batch) } else { self.cache.publish_remote(batch) };
        }
    }
}

impl<P: Projection + Default + Send + 'static> AnyView for Driver<P> {
    fn cache(&self) -> &Arc<WatchCache> {
        &self.cache
    }

    fn update(&mut self, inventory: &Inventory, delta: &Delta) -> Updates {
        let mut published = std::mem::take(&mut self.published);
        if self.cache.is_synced() {
            self.publish(inventory, delta, &mut published);
        } else if inventory.clusters().all(|(id, cluster)| settled::<P>(inventory, id, cluster)) {
            self.publish(inventory, &inventory.everything(), &mut published);
            self.cache.mark_synced();
        }
        (Self::RESOURCE, published)
    }

    fn followers(&mut self) -> Vec<(ClusterId, ObjectKey)> {
        self.projection.followers()
    }

    fn observe_by(&mut self, id: ClusterId, name: &Str, mode: Mode, now: Seconds) {
        self.observe_by(id, name, mode, now);
    }

    fn forget(&mut self, id: ClusterId) {
        self.forget(id);
    }

    fn take(&mut self, inventory: &Inventory, id: ClusterId, notice: RowNotice, now: Seconds) -> bool {
        self.take(inventory, id, notice, now)
    }

    fn flush(&mut self) {
        self.flush();
    }

    fn tick(&mut self, inventory: &Inventory, now: Seconds) {
        self.tick(inventory, now);
    }
}

/// Whether everything that the view needs of a cluster has been listed or is unreadable. Views wait for the
/// local cluster, and for folders: a remote cluster may answer slowly, or never.
fn settled<P: Projection>(inventory: &Inventory, id: ClusterId, cluster: &Cluster) -> bool {
    id != LOCAL && cluster.mode() != Mode::Snapshot || are_listed::<P>(inventory, id)
}

/// Whether every kind that the view needs of a cluster has been listed or is unreadable.
fn are_listed<P: Projection>(inventory: &Inventory, id: ClusterId) -> bool {
    let cluster = inventory.cluster(id);
    let mut kinds = inventory.catalogue().kinds();
    kinds.all(|(id, kind)| !P::needs(kind) || cluster.is_settled(id))
}

#[cfg(test)]
pub(crate) mod tests;
