//! The task that owns the inventory and the views: it takes in events and publishes rows. It also tracks how
//! far this replica is behind the upstream.
//!
//! **Invariant:** versions are vouched for only while the replica has observed everything that happened in the
//! local cluster until half a resume window ago, and only once its rows no longer show that it had not. Rows that report this
//! replica's own troubles are therefore published under versions from which no other replica resumes a
//! client.

mod lag;
mod object_metrics;

use std::{collections::HashMap, sync::Arc, time::Duration};

use gatehouse_apiservice::view::RESOURCES;
use gatehouse_inventory::{ClusterId, Delta, Event, Inventory, LOCAL, Liveness, Seconds, catalogue::KindId};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

pub use self::lag::LagReporter;
use self::object_metrics::ObjectMetrics;
use crate::{
    clock::Clock,
    metrics::ViewMetrics,
    views::{ClusterMetrics, RemoteRows, Views},
};
use gatehouse_serving::metrics::ServedResource;

/// Events taken in before the views are updated, so that a burst is rendered once.
const BATCH: usize = 1024;
/// How much of the consequences of changes is worked out and rendered in one round: some milliseconds of
/// work, so that a change with many consequences does not delay the changes of others.
const FOLLOW_STEPS: usize = 20_000;
const FOLLOW_ROWS: usize = 256;
/// Deadlines and staleness are reported in seconds.
const TICK: Duration = Duration::from_secs(1);
/// Objects are counted for the metrics only every tenth tick: counting them each second would be wasted work.
const TICKS_PER_COUNT: u32 = 10;
/// The versions of a quiet resource are advanced every 30 ticks. Otherwise its bookmarks would become too old
/// for other replicas to resume from.
const TICKS_PER_ADVANCE: u32 = 30;

/// Applies events and updates the views. Returns when `stop` is cancelled, when every source has ended, or
/// when the clock's versions are [too far ahead](Clock::is_too_far_ahead).
pub async fn run(
    inventory: Inventory,
    mut views: Views,
    clock: Arc<Clock>,
    mut events: mpsc::Receiver<(ClusterId, Event)>,
    metrics: Arc<ViewMetrics>,
    lag: LagReporter,
    stop: CancellationToken,
) {
    // Without a replica number there are no versions to publish rows under.
    if stop.run_until_cancelled(clock.granted()).await.is_none() {
        return;
    }
    let caches = views.caches();
    let mut inventory = inventory.with_lag(lag::max_lag(clock.window()));
    let mut cluster_metrics = ClusterMetrics::new(&metrics);
    let mut object_metrics = ObjectMetrics::new(&metrics);
    let mut vouched = false;
    let mut batch = Vec::with_capacity(BATCH);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = (0..TICKS_PER_COUNT).cycle();
    let mut advance = (1..=TICKS_PER_ADVANCE).cycle();
    loop {
        let mut is_due = false;
        tokio::select! {
            _ = ticks.tick() => {
                inventory.tick(now());
                views.tick(&inventory, now());
                observe_lag(&inventory, &metrics);
                cluster_metrics.update(&inventory);
                lag.observe(&inventory, clock.window(), now());
                if count.next() == Some(0) {
                    update_size_metrics(&inventory, &views, &metrics);
                    object_metrics.update(&inventory);
                }
                is_due = advance.next() == Some(TICKS_PER_ADVANCE);
            }
            question = views.question() => {
                question.answer(&inventory);
                continue;
            }
            received = events.recv_many(&mut batch, BATCH) => if received == 0 { return },
            () = std::future::ready(()), if inventory.is_behind() => {}
            () = stop.cancelled() => return,
        }
        let (mut gap, mut has_cluster_time) = (false, false);
        for (cluster, event) in batch.drain(..) {
            // An object that a list contains may have changed any number of times since the last event.
            // Rows of remote clusters are not among what other replicas' clients resume with.
            gap |= cluster == LOCAL && matches!(event, Event::Restart(_) | Event::Synced(_));
            if let (LOCAL, Event::Liveness(Liveness::Alive { ahead: Some(_), .. })) = (cluster, &event) {
                has_cluster_time = true;
            }
            if let Event::Removed = &event {
                metrics.forget_cluster(&inventory, cluster);
            }
            if let Event::Undecodable(kind, why) = &event {
                report_undecodable(&inventory, *kind, why, &metrics);
            }
            apply(&mut inventory, &mut views, (cluster, event), now());
        }
        views.flush();
        if has_cluster_time {
            clock.confirm(lag::clock_agrees(&inventory));
            if clock.is_too_far_ahead() {
                tracing::error!(
                    "versions were made by a clock that was far ahead, and no other replica would take them: ending, to \
                     begin anew"
                );
                return;
            }
        }
        let is_current = lag.is_current(&inventory, clock.window(), now());
        if !is_current {
            clock.vouch(false);
        }
        update_views(&mut inventory, &mut views, &metrics);
        if gap {
            for cache in &caches {
                cache.record_gap();
            }
        }
        clock.vouch(is_current);
        let was_vouched = std::mem::replace(&mut vouched, clock.vouches());
        if vouched && (is_due || !was_vouched) {
            for cache in &caches {
                cache.advance();
            }
        }
        if inventory.is_behind() {
            tokio::task::yield_now().await;
        }
    }
}

/// Applies an event: to the inventory, and to the views what is about rows of another Gatehouse.
pub(crate) fn apply(
    inventory: &mut Inventory,
    views: &mut Views,
    (id, event): (ClusterId, Event),
    now: Seconds,
) {
    match event {
        Event::Aside(aside) => {
            if let Ok(rows) = aside.downcast::<RemoteRows>()
                && views.take(inventory, id, *rows, now)
            {
                inventory.touch_cluster(id);
            }
        }
        Event::Mode(mode) => {
            let is_new = inventory.mode(id).is_some_and(|before| before != mode);
            inventory.apply(id, event, now);
            if is_new {
                views.observe_by(id, inventory.cluster(id), now);
            }
        }
        Event::Removed => {
            inventory.apply(id, event, now);
            views.forget(id);
        }
        event => inventory.apply(id, event, now),
    }
}

/// Publishes the rows that changed, and some of those that depend on them.
fn update_views(inventory: &mut Inventory, views: &mut Views, metrics: &ViewMetrics) {
    if views.are_synced() {
        let changed = inventory.take_changed();
        publish(inventory, views, &changed, metrics);
        inventory.queue(views.followers(), now());
        let follows = inventory.follow(FOLLOW_STEPS, FOLLOW_ROWS);
        publish(inventory, views, &follows, metrics);
    } else {
        // Until all views are synced, all consequences are worked out at once, so that a view's first rows
        // are complete.
        let changed = inventory.take_delta();
        publish(inventory, views, &changed, metrics);
    }
    inventory.queue(views.followers(), now());
}

fn publish(inventory: &Inventory, views: &mut Views, delta: &Delta, metrics: &ViewMetrics) {
    if delta.is_empty() {
        return;
    }
    for (resource, published) in views.update(inventory, delta) {
        let count = |kind, by| metrics.view_updates(resource.plural, kind).inc_by(by);
        count("ADDED", published.added);
        count("MODIFIED", published.modified);
        count("DELETED", published.deleted);
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

fn report_undecodable(inventory: &Inventory, kind: Option<KindId>, why: &str, metrics: &ViewMetrics) {
    let kind = kind.map(|kind| inventory.catalogue().kind(kind));
    let (group, name) = kind.map_or(("", ""), |kind| (&kind.group, &kind.kind));
    tracing::warn!(group, kind = name, why, "skipping an object that cannot be decoded");
    metrics.count_undecodable(group, name);
}

fn observe_lag(inventory: &Inventory, metrics: &ViewMetrics) {
    for (_, cluster) in inventory.clusters() {
        if let Some(heard) = cluster.contact().last_heard {
            let lag = Duration::from_secs(u64::try_from(now() - heard).unwrap_or_default());
            metrics.set_inventory_lag(&cluster.name, lag);
        }
    }
}

/// Counts the objects and rows and their bytes, for the metrics.
fn update_size_metrics(inventory: &Inventory, views: &Views, metrics: &ViewMetrics) {
    for (_, cluster) in inventory.clusters() {
        let mut counts: HashMap<KindId, i64> = HashMap::new();
        let mut bytes = 0;
        for record in cluster.records() {
            *counts.entry(record.key.kind).or_default() += 1;
            bytes += record.size();
        }
        for (id, kind) in inventory.catalogue().kinds() {
            let count = counts.get(&id).copied().unwrap_or_default();
            metrics.inventory_objects(&cluster.name, &kind.group, &kind.kind).set(count);
        }
        metrics.set_inventory_bytes(&cluster.name, bytes);
    }
    for cache in views.caches() {
        metrics.set_view_size(cache.resource.plural, cache.size());
    }
}

#[cfg(test)]
mod tests;
