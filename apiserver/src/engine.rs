//! The one task that owns the inventory and the views: events in, rows out.

use std::{sync::Arc, time::Duration};

use gatehouse_apiservice::view::RESOURCES;
use gatehouse_inventory::{ClusterId, Event, Inventory, Seconds, catalogue::KindId};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::{Metrics, ServedResource},
    views::Views,
};

/// Events taken in before the views are brought up to date: a burst is rendered once.
const BATCH: usize = 1024;
/// Deadlines and staleness are told in seconds.
const TICK: Duration = Duration::from_secs(1);
/// Counting every object each second would be work for nobody.
const TICKS_PER_COUNT: u32 = 10;

/// Applies events and brings the views up to date until `stop` is cancelled or every source has ended.
pub async fn run(
    mut inventory: Inventory,
    mut views: Views,
    mut events: mpsc::Receiver<(ClusterId, Event)>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = (0..TICKS_PER_COUNT).cycle();
    loop {
        tokio::select! {
            received = events.recv_many(&mut batch, BATCH) => if received == 0 { return },
            _ = ticks.tick() => {
                inventory.tick(now());
                if count.next() == Some(0) {
                    observe(&inventory, &metrics);
                }
            }
            () = stop.cancelled() => return,
        }
        for (cluster, event) in batch.drain(..) {
            if let Event::Undecodable(kind, why) = &event {
                undecodable(&inventory, *kind, why);
            }
            inventory.apply(cluster, event, now());
        }
        let delta = inventory.take_delta();
        if delta.is_empty() {
            continue;
        }
        for (resource, published) in views.update(&inventory, &delta) {
            let count = |kind, by| metrics.view_updates(resource.plural, kind).inc_by(by);
            count("ADDED", published.added);
            count("MODIFIED", published.modified);
            count("DELETED", published.deleted);
        }
    }
}

/// The resources that become labels of the request metrics.
pub fn served_resources() -> Vec<ServedResource> {
    use gatehouse_apiservice::view::{GROUP, VERSION};
    let resources = RESOURCES.iter().map(|resource| ServedResource {
        group: GROUP.into(),
        version: VERSION.into(),
        resource: resource.plural.into(),
    });
    resources.collect()
}

fn now() -> Seconds {
    jiff::Timestamp::now().as_second()
}

fn undecodable(inventory: &Inventory, kind: Option<KindId>, why: &str) {
    let kind =
        kind.map_or_else(|| "unknown".to_owned(), |kind| inventory.catalogue().kind(kind).resource_name());
    tracing::warn!(kind, why, "an object was left out: it cannot be decoded");
}

fn observe(inventory: &Inventory, metrics: &Metrics) {
    for (_, cluster) in inventory.clusters() {
        let mut counts = vec![0_i64; inventory.catalogue().len()];
        let kinds: Vec<_> = inventory.catalogue().kinds().collect();
        for record in cluster.records() {
            if let Some(at) = kinds.iter().position(|(id, _)| *id == record.key.kind) {
                counts[at] += 1;
            }
        }
        for ((_, kind), count) in kinds.into_iter().zip(counts) {
            metrics.inventory_objects(&cluster.name, &kind.group, &kind.kind).set(count);
        }
        if let Some(heard) = cluster.contact().last_heard {
            let lag = Duration::from_secs(u64::try_from(now() - heard).unwrap_or_default());
            metrics.set_inventory_lag(&cluster.name, lag);
        }
    }
}
