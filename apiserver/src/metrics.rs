//! Prometheus metrics of the inventory, the views and the watches. The metrics of requests are in
//! `gatehouse_serving`.
//!
//! **Invariant:** no label's value comes from a client.

use std::{sync::Arc, time::Duration};

use gatehouse_inventory::{ClusterId, Inventory};
use gatehouse_serving::metrics::RequestMetrics;
use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, core::Collector};

/// How a watch from a resourceVersion started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResumeOutcome {
    /// With the changes after it in this replica's log.
    Followed,
    /// With the rows that a client of another replica may lack.
    CaughtUp,
    /// Not at all: the client has to list again.
    Expired,
}

impl ResumeOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Followed => "followed",
            Self::CaughtUp => "caught_up",
            Self::Expired => "expired",
        }
    }
}

/// The metrics of the inventory, the views and the watches.
pub struct ViewMetrics {
    requests: Arc<RequestMetrics>,
    watch_events: IntCounterVec,
    watch_resumes: IntCounterVec,
    inventory_objects: IntGaugeVec,
    inventory_bytes: IntGaugeVec,
    inventory_lag: GaugeVec,
    inventory_undecodable: IntCounterVec,
    view_updates: IntCounterVec,
    view_rows: IntGaugeVec,
    view_bytes: IntGaugeVec,
    callers_left_out: IntCounter,
    actions: IntCounterVec,
    events: IntCounterVec,
}

impl ViewMetrics {
    /// Registers the metrics in the registry of `requests`. Call it once per registry, since names must be distinct.
    pub fn new(requests: Arc<RequestMetrics>) -> Self {
        let counters = |name, help, labels: &[&str]| {
            registered(&requests, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name, help, labels: &[&str]| {
            registered(&requests, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let lag = Opts::new("gatehouse_inventory_lag_seconds", "Seconds since the cluster last answered.");
        Self {
            watch_events: counters(
                "apiserver_watch_events_total",
                "Events sent to watchers.",
                &["group", "version", "resource"],
            ),
            watch_resumes: counters(
                "gatehouse_watch_resumes_total",
                "Watches that went on from a version: followed in this replica's log, caught up with what a client \
                 of another replica may lack, or expired.",
                &["resource", "outcome"],
            ),
            inventory_objects: gauges(
                "gatehouse_inventory_objects",
                "Observed objects, by kind.",
                &["cluster", "group", "kind"],
            ),
            inventory_bytes: gauges(
                "gatehouse_inventory_bytes",
                "Bytes of the observed objects, without the text that they share.",
                &["cluster"],
            ),
            inventory_lag: registered(&requests, GaugeVec::new(lag, &["cluster"])),
            inventory_undecodable: counters(
                "gatehouse_inventory_undecodable_total",
                "Objects that were skipped because their names cannot be decoded.",
                &["group", "kind"],
            ),
            view_updates: counters(
                "gatehouse_view_updates_total",
                "Rows added, modified and deleted, by view.",
                &["resource", "type"],
            ),
            view_rows: gauges("gatehouse_view_rows", "Current rows, by view.", &["resource"]),
            view_bytes: gauges(
                "gatehouse_view_bytes",
                "Bytes of the current rows, and of those kept for watches to resume.",
                &["resource", "part"],
            ),
            callers_left_out: registered(
                &requests,
                IntCounter::with_opts(Opts::new(
                    "gatehouse_my_namespaces_left_out_total",
                    "Users about whom the authorizer could not be asked for every namespace, because there are too many.",
                )),
            ),
            actions: counters(
                "gatehouse_actions_total",
                "Requests to act on Flux objects, by action, dry run and outcome.",
                &["action", "dry_run", "outcome"],
            ),
            events: counters("gatehouse_events_total", "Events about actions, by result.", &["outcome"]),
            requests,
        }
    }

    /// The metrics of requests.
    pub(crate) fn requests(&self) -> &RequestMetrics {
        &self.requests
    }

    /// Registers a metric whose names and labels are constants.
    pub(crate) fn registered<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        registered(&self.requests, made)
    }

    /// The counter of events that the watches of a resource have sent.
    pub(crate) fn watch_events(&self, group: &str, version: &str, resource: &str) -> IntCounter {
        self.watch_events.with_label_values(&[group, version, resource])
    }

    /// The counter of users for whom not every namespace is asked about.
    pub(crate) fn callers_left_out(&self) -> IntCounter {
        self.callers_left_out.clone()
    }

    /// The counters of requests to act.
    pub(crate) fn actions(&self) -> IntCounterVec {
        self.actions.clone()
    }

    /// The counters of Events about actions.
    pub(crate) fn events(&self) -> IntCounterVec {
        self.events.clone()
    }

    /// Counts a watch that started from a resourceVersion.
    pub(crate) fn watch_resumed(&self, resource: &str, outcome: ResumeOutcome) {
        self.watch_resumes.with_label_values(&[resource, outcome.as_str()]).inc();
    }

    /// The gauge of observed objects of a kind.
    pub(crate) fn inventory_objects(&self, cluster: &str, group: &str, kind: &str) -> IntGauge {
        self.inventory_objects.with_label_values(&[cluster, group, kind])
    }

    /// Sets the bytes that the objects of a cluster occupy.
    pub(crate) fn set_inventory_bytes(&self, cluster: &str, bytes: usize) {
        self.inventory_bytes.with_label_values(&[cluster]).set(gauge(bytes));
    }

    /// Counts an object that could not be decoded. Both labels are empty if not even its kind could be read.
    pub(crate) fn count_undecodable(&self, group: &str, kind: &str) {
        self.inventory_undecodable.with_label_values(&[group, kind]).inc();
    }

    /// Sets how many rows a view has, the bytes they occupy, and the bytes of its log.
    pub(crate) fn set_view_size(&self, resource: &str, (rows, bytes, log): (usize, usize, usize)) {
        self.view_rows.with_label_values(&[resource]).set(gauge(rows));
        self.view_bytes.with_label_values(&[resource, "rows"]).set(gauge(bytes));
        self.view_bytes.with_label_values(&[resource, "log"]).set(gauge(log));
    }

    /// Sets the seconds since a cluster last answered.
    pub(crate) fn set_inventory_lag(&self, cluster: &str, lag: Duration) {
        self.inventory_lag.with_label_values(&[cluster]).set(lag.as_secs_f64());
    }

    /// Forgets the series of a remote cluster that is no longer registered.
    pub(crate) fn forget_cluster(&self, inventory: &Inventory, id: ClusterId) {
        let cluster = &*inventory.cluster(id).name;
        // What was never set cannot be removed, which is well.
        let _ = self.inventory_lag.remove_label_values(&[cluster]);
        let _ = self.inventory_bytes.remove_label_values(&[cluster]);
        for (_, kind) in inventory.catalogue().kinds() {
            let _ = self.inventory_objects.remove_label_values(&[cluster, &kind.group, &kind.kind]);
        }
    }

    /// The counter of changed rows of a view; `kind` is ADDED, MODIFIED or DELETED.
    pub(crate) fn view_updates(&self, resource: &str, kind: &str) -> IntCounter {
        self.view_updates.with_label_values(&[resource, kind])
    }
}

fn gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn registered<C: Collector + Clone + 'static>(requests: &RequestMetrics, made: prometheus::Result<C>) -> C {
    let registered =
        made.and_then(|made| requests.registry().register(Box::new(made.clone())).map(|()| made));
    registered.expect("names and labels are constants, valid and distinct; the tests create every metric")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_every_metric_of_the_dashboards() {
        let requests = Arc::new(RequestMetrics::new(&[]));
        let metrics = ViewMetrics::new(Arc::clone(&requests));
        metrics.watch_events("g", "v1", "things").inc();
        metrics.inventory_objects("local", "g", "Thing").set(1);
        metrics.set_inventory_lag("local", Duration::from_secs(1));
        metrics.view_updates("things", "ADDED").inc();
        let text = String::from_utf8(requests.render()).expect("text");
        for expected in [
            r#"apiserver_watch_events_total{group="g",resource="things",version="v1"} 1"#,
            r#"gatehouse_inventory_objects{cluster="local",group="g",kind="Thing"} 1"#,
            r#"gatehouse_inventory_lag_seconds{cluster="local"} 1"#,
            r#"gatehouse_view_updates_total{resource="things",type="ADDED"} 1"#,
        ] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
    }
}
