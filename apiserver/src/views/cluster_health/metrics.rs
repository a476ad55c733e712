//! Metrics of each cluster: what its row says, for alerts and dashboards.
//!
//! **Invariant:** a series that says something else than before is replaced, and the series of a cluster that is no
//! longer registered are removed.

use std::collections::HashMap;

use gatehouse_apiservice::{Condition, ConditionStatus};
use gatehouse_inventory::{Cluster, Inventory, Mode, Str};
use prometheus::{IntGaugeVec, Opts};

use super::remote;
use crate::{metrics::ViewMetrics, views::common};

/// The gauges of all clusters. The task that owns the inventory sets them.
pub(crate) struct ClusterMetrics {
    info: IntGaugeVec,
    registered: IntGaugeVec,
    reachable: IntGaugeVec,
    authenticated: IntGaugeVec,
    fresh: IntGaugeVec,
    last_heard: IntGaugeVec,
    expiry: IntGaugeVec,
    objects: IntGaugeVec,
    /// The labels of `info` by cluster.
    told: HashMap<Str, (Str, Mode)>,
}

impl ClusterMetrics {
    /// Registers the gauges beside those of `metrics`. Call it once for each.
    pub(crate) fn new(metrics: &ViewMetrics) -> Self {
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            metrics.registered(IntGaugeVec::new(Opts::new(format!("gatehouse_cluster_{name}"), help), labels))
        };
        let of_cluster = |name: &str, help: &str| gauges(name, help, &["cluster"]);
        Self {
            info: gauges(
                "info",
                "1 for each cluster, with the object that registers it and how it is observed. The origin of the \
                 cluster that Gatehouse serves is empty.",
                &["cluster", "origin", "mode"],
            ),
            registered: of_cluster("registered", "1 if the registration is accepted, 0 if it is refused."),
            reachable: of_cluster("reachable", "1 if the cluster answers, 0 if it does not."),
            authenticated: of_cluster(
                "authenticated",
                "1 if the cluster takes the credential, 0 if it refuses it.",
            ),
            fresh: of_cluster(
                "fresh",
                "1 if the rows of the cluster are up to date, 0 if they may be stale.",
            ),
            last_heard: of_cluster(
                "last_heard_timestamp_seconds",
                "When the cluster last answered, in seconds since 1970.",
            ),
            expiry: of_cluster(
                "credential_expiry_timestamp_seconds",
                "When the credential expires, in seconds since 1970, if it says so.",
            ),
            objects: of_cluster("objects", "Observed objects."),
            told: HashMap::new(),
        }
    }

    /// Sets the gauges of all clusters.
    pub(crate) fn update(&mut self, inventory: &Inventory) {
        let mut told = std::mem::take(&mut self.told);
        for (_, cluster) in inventory.clusters() {
            let before = told.remove(&cluster.name);
            self.set(inventory, cluster, before);
        }
        for (name, (origin, mode)) in told {
            // What was never set cannot be removed, which is well.
            let _ = self.info.remove_label_values(&[&name, &origin, mode.as_str()]);
            let of_cluster = [
                &self.registered,
                &self.reachable,
                &self.authenticated,
                &self.fresh,
                &self.last_heard,
                &self.expiry,
                &self.objects,
            ];
            for gauges in of_cluster {
                set(gauges, &name, None);
            }
        }
    }

    fn set(&mut self, inventory: &Inventory, cluster: &Cluster, before: Option<(Str, Mode)>) {
        let name = &cluster.name;
        let registration = cluster.registration();
        let (origin, mode) =
            registration.map_or_else(Default::default, |known| (known.origin.clone(), cluster.mode()));
        if let Some((old_origin, old_mode)) = before
            && (&old_origin, old_mode) != (&origin, mode)
        {
            let _ = self.info.remove_label_values(&[name, &old_origin, old_mode.as_str()]);
        }
        self.info.with_label_values(&[&**name, &origin, mode.as_str()]).set(1);
        let kinds = inventory.catalogue().kinds().map(|(kind, _)| kind);
        let registered = registration.map(|known| remote::registered(cluster, known));
        let authenticated = registration.map(|_| remote::authenticated(cluster));
        set(&self.registered, name, registered.as_ref().and_then(truth));
        set(&self.reachable, name, truth(&remote::reachable(cluster)));
        set(&self.authenticated, name, authenticated.as_ref().and_then(truth));
        set(&self.fresh, name, truth(&common::fresh(cluster, kinds)));
        set(&self.last_heard, name, cluster.contact().last_heard);
        set(&self.expiry, name, registration.and_then(|known| known.expires));
        set(&self.objects, name, i64::try_from(cluster.records().len()).ok());
        self.told.insert(name.clone(), (origin, mode));
    }
}

/// Sets the gauge of a cluster, or removes it.
fn set(gauges: &IntGaugeVec, cluster: &str, value: Option<i64>) {
    match value {
        Some(value) => gauges.with_label_values(&[cluster]).set(value),
        None => {
            let _ = gauges.remove_label_values(&[cluster]);
        }
    }
}

/// 1 or 0; `None` if the condition is unknown.
fn truth(condition: &Condition) -> Option<i64> {
    match condition.status {
        ConditionStatus::True => Some(1),
        ConditionStatus::False => Some(0),
        ConditionStatus::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gatehouse_inventory::{ClusterId, Event, Liveness, Registration};
    use gatehouse_serving::metrics::RequestMetrics;

    use super::*;
    use crate::views::tests::World;

    const EU: ClusterId = ClusterId(1);

    fn registration(mode: Mode) -> Event {
        Event::Registered(Box::new(Registration {
            name: "eu".into(),
            origin: "Secret a/eu".into(),
            refused: None,
            expires: Some(5_000),
            mode,
        }))
    }

    /// The series of `eu` after an update, without their common prefix.
    fn series(requests: &RequestMetrics, metrics: &mut ClusterMetrics, world: &World) -> Vec<String> {
        metrics.update(&world.inventory);
        let text = String::from_utf8(requests.render()).unwrap();
        let of_eu = text.lines().filter(|line| line.contains(r#"cluster="eu""#));
        of_eu.map(|line| line.trim_start_matches("gatehouse_cluster_").to_owned()).collect()
    }

    #[test]
    fn a_remote_cluster_has_series_while_it_is_registered() {
        let requests = Arc::new(RequestMetrics::new(&[]));
        let mut metrics = ClusterMetrics::new(&ViewMetrics::new(Arc::clone(&requests)));
        let mut world = World::with([]);
        world.inventory.apply(EU, registration(Mode::Direct), 1_000);
        let told = series(&requests, &mut metrics, &world);
        let info = r#"info{cluster="eu",mode="direct",origin="Secret a/eu"} 1"#.to_owned();
        assert!(told.contains(&info), "{told:#?}");
        assert!(!told.iter().any(|line| line.starts_with("reachable")), "it was not asked yet: {told:#?}");

        let alive = Event::Liveness(Liveness::Alive { version: None, ahead: None });
        world.inventory.apply(EU, alive, 1_001);
        world.inventory.apply(EU, Event::Mode(Mode::Views), 1_001);
        let told = series(&requests, &mut metrics, &world);
        let expected = [
            r#"authenticated{cluster="eu"} 1"#,
            r#"credential_expiry_timestamp_seconds{cluster="eu"} 5000"#,
            r#"fresh{cluster="eu"} 1"#,
            r#"info{cluster="eu",mode="views",origin="Secret a/eu"} 1"#,
            r#"last_heard_timestamp_seconds{cluster="eu"} 1001"#,
            r#"objects{cluster="eu"} 0"#,
            r#"reachable{cluster="eu"} 1"#,
            r#"registered{cluster="eu"} 1"#,
        ];
        assert_eq!(told, expected);

        let refused = Event::Liveness(Liveness::Unauthenticated { message: "no".into() });
        world.inventory.apply(EU, refused, 1_002);
        let told = series(&requests, &mut metrics, &world);
        for expected in [r#"authenticated{cluster="eu"} 0"#, r#"reachable{cluster="eu"} 1"#] {
            assert!(told.contains(&expected.to_owned()), "{told:#?}");
        }

        world.inventory.apply(EU, Event::Removed, 1_003);
        assert_eq!(series(&requests, &mut metrics, &world), [] as [&str; 0]);
    }
}
