//! A complete cluster, judged by the catalogue, with a simulated clock.

use std::sync::{Arc, LazyLock};

use gatehouse_inventory::{
    Cluster, ClusterId, Event, Interner, Inventory, KindStatus, Layer, ObjectKey, Record, Root, State,
    Verdict,
    catalogue::{Catalogue, Kind},
};
use serde_json::Value;

/// 2026-11-28T22:30:00Z.
pub(crate) const NOW: i64 = 1_795_905_000;

const LOCAL: ClusterId = ClusterId(0);

static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| Arc::new(Catalogue::builtin()));

pub(crate) struct World {
    inventory: Inventory,
    interner: Interner,
    pub(crate) now: i64,
}

impl World {
    /// A cluster that serves every kind, with these objects.
    pub(crate) fn with<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        let inventory = Inventory::new(Arc::clone(&CATALOGUE), ["local".into()], NOW);
        let mut world = Self { inventory, interner: Interner::default(), now: NOW };
        for (kind, _) in CATALOGUE.kinds() {
            world.event(Event::Kind(kind, KindStatus::Served { version: "v1".into() }));
            world.event(Event::Restart(kind));
        }
        for object in objects {
            world.apply(object);
        }
        for (kind, _) in CATALOGUE.kinds() {
            world.event(Event::Synced(kind));
        }
        world
    }

    fn event(&mut self, event: Event) {
        self.inventory.apply(LOCAL, event, self.now);
        self.inventory.take_delta();
    }

    fn observe(&self, object: &Value) -> Option<Record> {
        let api_version = object["apiVersion"].as_str().expect("apiVersion");
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let id = CATALOGUE.find(group, object["kind"].as_str().expect("kind"))?;
        let record = CATALOGUE.observe(id, &object.to_string(), &self.interner, self.now);
        Some(record.unwrap_or_else(|error| panic!("{object}: {error}")))
    }

    /// Applies an object; ignores it if its kind is not observed.
    pub(crate) fn apply(&mut self, object: &Value) {
        if let Some(record) = self.observe(object) {
            self.event(Event::Apply(Box::new(record)));
        }
    }

    pub(crate) fn delete(&mut self, object: &Value) {
        let key = self.observe(object).expect("a kind of the catalogue").key;
        self.event(Event::Delete(key));
    }

    pub(crate) fn kind(&self, key: &ObjectKey) -> &Kind {
        self.inventory.catalogue().kind(key.kind)
    }

    /// Advances the clock, without any change.
    pub(crate) fn wait(&mut self, seconds: i64) {
        self.now += seconds;
        self.inventory.tick(self.now);
        self.inventory.take_delta();
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        self.inventory.cluster(LOCAL)
    }

    /// The record of `Kind namespace/name`, or `Kind name`; with a group, `Kind.group …`.
    pub(crate) fn record(&self, of: &str) -> &Record {
        let (kind, name) = of.split_once(' ').expect("a kind and a name");
        let (kind, group) = kind.split_once('.').map_or((kind, None), |(kind, group)| (kind, Some(group)));
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        let mut found = self.cluster().records().filter(|record| {
            let row = CATALOGUE.kind(record.key.kind);
            row.kind == kind
                && group.is_none_or(|group| row.group == group)
                && (&*record.key.namespace, &*record.key.name) == (namespace, name)
        });
        found.next().unwrap_or_else(|| panic!("there is no {of}"))
    }

    pub(crate) fn verdict(&self, of: &str) -> &Verdict {
        &self.record(of).verdict
    }

    /// `Kind namespace/name` of an object's root cause; `missing …` for one that does not exist, `not enough …` for one
    /// that is Ready; empty for none.
    pub(crate) fn cause(&self, of: &str) -> String {
        match self.cluster().root_cause(self.record(of)).map(|cause| cause.root) {
            None => String::new(),
            Some(Root::Source(of) | Root::Dependency(of)) => shown(&of.key),
            Some(Root::Missing(key) | Root::MissingSource(key)) => format!("missing {}", shown(key)),
            Some(Root::Unseen(_)) => "unseen".into(),
            Some(Root::NotEnough { dependency, .. }) => format!("not enough {}", shown(&dependency.key)),
            Some(Root::Cycle(_)) => "a cycle".into(),
        }
    }

    /// `Kind namespace/name` of the end of the walk to what explains an object; `missing …` if that does not exist;
    /// empty if the object explains itself.
    pub(crate) fn explained(&self, of: &str) -> String {
        let cause = self.cluster().cause(self.record(of));
        match cause.lacks {
            Some(Root::Missing(key) | Root::MissingSource(key)) => format!("missing {}", shown(key)),
            Some(_) => "of Flux's kinds".into(),
            None => cause.path.last().map_or_else(String::new, |last| shown(&last.key)),
        }
    }

    /// The health of a layer, as clusterhealths has it where all kinds are seen.
    pub(crate) fn health(&self, layer: Layer) -> &'static str {
        let tally = self.cluster().layer(layer);
        let counts = tally.counts();
        let under_way = [State::Progressing, State::Pending, State::Terminating];
        if tally.failures().len() > 0 {
            "Degraded"
        } else if counts.of(State::Unknown) > 0 {
            "Unknown"
        } else if under_way.into_iter().any(|state| counts.of(state) > 0) {
            "Progressing"
        } else {
            "Healthy"
        }
    }

    /// The worst of all layers.
    pub(crate) fn overall(&self) -> &'static str {
        let order = ["Healthy", "Progressing", "Unknown", "Degraded"];
        let of = |layer| order.iter().position(|one| *one == self.health(layer)).unwrap_or_default();
        order[Layer::ALL.into_iter().map(of).max().unwrap_or_default()]
    }
}

fn shown(key: &ObjectKey) -> String {
    let kind = &CATALOGUE.kind(key.kind).kind;
    if key.namespace.is_empty() {
        format!("{kind} {}", key.name)
    } else {
        format!("{kind} {}/{}", key.namespace, key.name)
    }
}

/// The documents of a YAML text.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}
