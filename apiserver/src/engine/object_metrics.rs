//! Metrics of what the views show: how objects of each kind are doing, problems, drift, and game servers.
//!
//! **Invariant:** what is no longer there has no series, those of a cluster that is no longer registered included.

use std::collections::{HashMap, HashSet};

use gatehouse_inventory::{
    Application, Cluster, Inventory, State,
    catalogue::{Catalogue, KindId},
};
use prometheus::{IntGaugeVec, Opts};

use crate::metrics::ViewMetrics;

/// The gauges of all clusters. The task that owns the inventory sets them.
pub(super) struct ObjectMetrics {
    states: Gauges,
    problems: Gauges,
    drifted: Gauges,
    players: Gauges,
}

impl ObjectMetrics {
    /// Registers the gauges beside those of `metrics`. Call it once for each.
    pub(super) fn new(metrics: &ViewMetrics) -> Self {
        let gauges = |name: &str, help: &str, labels: &[&str]| Gauges {
            vector: metrics.registered(IntGaugeVec::new(Opts::new(name, help), labels)),
            shown: HashSet::new(),
        };
        Self {
            states: gauges(
                "gatehouse_object_states",
                "Observed objects by state. One that is tried again after a failure counts as failed.",
                &["cluster", "group", "kind", "state"],
            ),
            problems: gauges("gatehouse_problems", "Objects that are not well, of any kind.", &["cluster"]),
            drifted: gauges(
                "gatehouse_argo_applications_drifted",
                "Applications of Argo CD that differ from their source, failed or not.",
                &["cluster"],
            ),
            players: gauges(
                "gatehouse_game_players",
                "Players on game servers, as far as an engine reports them.",
                &["cluster", "engine"],
            ),
        }
    }

    /// Sets the gauges of all clusters.
    pub(super) fn update(&mut self, inventory: &Inventory) {
        let mut all = Values::default();
        for (_, cluster) in inventory.clusters() {
            all.count(inventory.catalogue(), cluster);
        }
        self.states.replace(all.states);
        self.problems.replace(all.problems);
        self.drifted.replace(all.drifted);
        self.players.replace(all.players);
    }
}

/// The value of each series, by the values of its labels.
type Series<'a> = HashMap<Vec<&'a str>, i64>;

#[derive(Default)]
struct Values<'a> {
    states: Series<'a>,
    problems: Series<'a>,
    drifted: Series<'a>,
    players: Series<'a>,
}

impl<'a> Values<'a> {
    fn count(&mut self, catalogue: &'a Catalogue, cluster: &'a Cluster) {
        let name = &*cluster.name;
        let problems = i64::try_from(cluster.problems().len()).unwrap_or(i64::MAX);
        self.problems.insert(vec![name], problems);
        // Labels are made for each series, and not for each object.
        let mut states: HashMap<(KindId, State), i64> = HashMap::new();
        for record in cluster.records() {
            let kind = catalogue.kind(record.key.kind);
            *states.entry((record.key.kind, record.verdict.outcome())).or_default() += 1;
            if let Some(application) = record.application() {
                let drifted = i64::from(Application::has_drifted(application));
                *self.drifted.entry(vec![name]).or_default() += drifted;
            }
            if let (Some(game), Some(numbers)) = (kind.game, record.game())
                && let Some(players) = numbers.players.get()
            {
                *self.players.entry(vec![name, game.engine.as_str()]).or_default() += players;
            }
        }
        for ((kind, state), count) in states {
            let kind = catalogue.kind(kind);
            *self.states.entry(vec![name, &kind.group, &kind.kind, state.as_str()]).or_default() += count;
        }
    }
}

/// A gauge, and the labels of its series.
struct Gauges {
    vector: IntGaugeVec,
    shown: HashSet<Vec<String>>,
}

impl Gauges {
    fn replace(&mut self, values: Series<'_>) {
        let mut shown = HashSet::new();
        for (labels, value) in values {
            self.vector.with_label_values(&labels).set(value);
            shown.insert(labels.into_iter().map(str::to_owned).collect());
        }
        for labels in self.shown.difference(&shown) {
            let labels: Vec<_> = labels.iter().map(String::as_str).collect();
            // It is there, since it was set.
            let _ = self.vector.remove_label_values(&labels);
        }
        self.shown = shown;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gatehouse_inventory::{Detail, GameNumbers, PartialSum, Record};
    use gatehouse_serving::metrics::RequestMetrics;

    use super::*;
    use crate::views::tests::{
        World, kind,
        records::{game, key, kustomization, object},
    };

    fn application(sync: &str) -> Record {
        let detail = Application { sync: sync.into(), ..Application::default() };
        let builder = object(kind("Application.argoproj"), "argocd", "shop");
        builder.detail(Detail::Application(Box::new(detail))).build()
    }

    #[test]
    fn series_follow_the_objects_and_end_with_them() {
        let requests = Arc::new(RequestMetrics::new(&[]));
        let mut metrics = ObjectMetrics::new(&ViewMetrics::new(Arc::clone(&requests)));
        let numbers = GameNumbers { players: PartialSum::new(Some(7)), ..GameNumbers::default() };
        let other = kustomization("apps", "a").state(State::Failed, 5).build();
        let retried = kustomization("apps", "b").state(State::Progressing, 5).last_outcome(State::Failed);
        let fleet = game("Fleet.agones", "games", "arena", numbers).build();
        let mut world = World::with([other, retried.build(), fleet, application("OutOfSync")]);
        metrics.update(&world.inventory);
        let rendered = || String::from_utf8(requests.render()).expect("text");
        let text = rendered();
        let flux = r#"group="kustomize.toolkit.fluxcd.io",kind="Kustomization""#;
        let failed = format!(r#"gatehouse_object_states{{cluster="local",{flux},state="Failed"}} 2"#);
        for series in [
            failed.as_str(),
            r#"gatehouse_object_states{cluster="local",group="agones.dev",kind="Fleet",state="Ready"} 1"#,
            r#"gatehouse_problems{cluster="local"} 2"#,
            r#"gatehouse_argo_applications_drifted{cluster="local"} 1"#,
            r#"gatehouse_game_players{cluster="local",engine="agones"} 7"#,
        ] {
            assert!(text.contains(series), "{series} is not in\n{text}");
        }
        world.apply(application("Synced"));
        world.apply(kustomization("apps", "a").build());
        world.delete(&key(kind("Fleet.agones"), "games", "arena"));
        metrics.update(&world.inventory);
        let text = rendered();
        assert!(text.contains(r#"gatehouse_argo_applications_drifted{cluster="local"} 0"#), "{text}");
        assert!(text.contains(r#"kind="Kustomization",state="Ready"} 1"#), "{text}");
        for gone in ["gatehouse_game_players{", r#"kind="Fleet""#] {
            assert!(!text.contains(gone), "{text}");
        }
    }
}
