//! Counts the bytes that each Flux object takes, by part: its record, what the inventory derives from it, and the rows
//! of all views. `cargo bench -p gatehouse-apiserver --bench memory -- [OBJECTS]`.
//!
//! An allocator counts what is requested of it; the system adds some bytes to each block. `bench --only memory` of
//! gatehouse-conformance measures the whole process.

use std::alloc::System;
use std::sync::Arc;

use gatehouse_apiserver::{clock::Clock, views::Views};
use gatehouse_inventory::{
    Event, Interner, Inventory, KindStatus, LOCAL, Liveness, Record,
    catalogue::{Catalogue, KindId},
};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// 2026-03-01T00:00:00Z.
const NOW: i64 = 1_772_323_200;
const NAMESPACES: usize = 100;
/// Each object of a chain depends on the one before it.
const CHAIN: usize = 10;

/// What the statuses of the objects contain.
struct Scenario {
    name: &'static str,
    depends: bool,
    history: usize,
    inventory: usize,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario { name: "alone", depends: false, history: 0, inventory: 0 },
    Scenario { name: "with dependencies", depends: true, history: 0, inventory: 0 },
    Scenario {
        name: "with dependencies and three entries of history",
        depends: true,
        history: 3,
        inventory: 0,
    },
    Scenario { name: "with dependencies and 25 applied objects", depends: true, history: 0, inventory: 25 },
];

fn main() {
    let objects = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(10_000);
    let catalogue = Arc::new(Catalogue::builtin());
    for scenario in &SCENARIOS {
        println!("{objects} Kustomizations {}", scenario.name);
        measure(&catalogue, objects, scenario);
    }
}

fn measure(catalogue: &Arc<Catalogue>, objects: usize, scenario: &Scenario) {
    let interner = Arc::new(Interner::default());
    let kustomization =
        catalogue.find("kustomize.toolkit.fluxcd.io", "Kustomization").expect("a built-in kind");
    let mut inventory = Inventory::new(Arc::clone(catalogue), ["local".into()], NOW);
    let mut views = Views::new(&Arc::new(Clock::new(0)), &interner);
    let served = |kind| Event::Kind(kind, KindStatus::Served { version: "v1".into() });
    inventory.apply(LOCAL, Event::Liveness(Liveness::Alive { version: None, ahead: None }), NOW);
    for (kind, _) in catalogue.kinds() {
        inventory.apply(LOCAL, served(kind), NOW);
        inventory.apply(LOCAL, Event::Restart(kind), NOW);
    }

    let start = Allocated::now();
    let records: Vec<_> = (0..objects)
        .map(|n| Box::new(record(catalogue, kustomization, &object(n, scenario), &interner)))
        .collect();
    let records_end = Allocated::now();
    records_end.since(&start).print("records and their texts", objects);
    println!("  of these, as the records count themselves: {} B", records[objects / 2].size());
    for record in records {
        inventory.apply(LOCAL, Event::Apply(record), NOW);
    }
    for (kind, _) in catalogue.kinds() {
        inventory.apply(LOCAL, Event::Synced(kind), NOW);
    }
    let changed = inventory.take_delta();
    drop(changed);
    let index_end = Allocated::now();
    index_end.since(&records_end).print("index of the inventory", objects);
    let everything = inventory.everything();
    let delta = Allocated::now().since(&index_end);
    views.update(&inventory, &everything);
    drop(everything);
    let views_end = Allocated::now();
    views_end.since(&index_end).print("all views", objects);
    delta.print("  while they were rendered, a delta", objects);
    for cache in views.caches() {
        let (rows, bytes, log) = cache.size();
        if rows > 0 {
            println!("  {} {}: {} B for each row, {log} B of log", rows, cache.resource.plural, bytes / rows);
        }
    }
    views_end.since(&start).print("all together", objects);
}

fn record(catalogue: &Catalogue, kind: KindId, object: &Value, interner: &Interner) -> Record {
    catalogue.observe(kind, &object.to_string(), interner, NOW).expect("it is well-formed")
}

/// What is allocated at a moment.
struct Allocated {
    bytes: usize,
    blocks: usize,
}

impl Allocated {
    fn now() -> Self {
        let stats = ALLOCATOR.stats();
        Self {
            bytes: stats.bytes_allocated - stats.bytes_deallocated,
            blocks: stats.allocations - stats.deallocations,
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(before.bytes),
            blocks: self.blocks.saturating_sub(before.blocks),
        }
    }

    fn print(&self, part: &str, objects: usize) {
        let tenths = self.blocks * 10 / objects;
        println!("  {part}: {} B in {}.{} blocks", self.bytes / objects, tenths / 10, tenths % 10);
    }
}

/// A Kustomization as kustomize-controller leaves it. Those of a namespace share a source and a revision.
fn object(n: usize, scenario: &Scenario) -> Value {
    let (namespace, place) = (n % NAMESPACES, n / NAMESPACES);
    let name = |place: usize| format!("checkout-{place:04}");
    let revision = |age: usize| {
        // Digits that look like those of a commit.
        let digits = (namespace as u128 + 1) * 0x9e37_79b9_7f4a_7c15_f39c_0605_cede_u128 + age as u128;
        format!("main@sha1:{digits:040x}")
    };
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": "True", "reason": reason, "message": message, "observedGeneration": 1,
            "lastTransitionTime": "2026-02-28T22:00:00Z"})
    };
    let entry = |e: usize| {
        const KINDS: [&str; 5] =
            ["apps_Deployment", "_Service", "_ConfigMap", "_ServiceAccount", "batch_CronJob"];
        json!({"id": format!("team-{namespace:03}_{}-{e:02}_{}", name(place), KINDS[e % 5]), "v": "v1"})
    };
    let history = |age: usize| {
        json!({"digest": format!("sha256:{:016x}{:048x}", (3 * n + age + 1) * 0x9e37_79b9_7f4a, n),
            "firstReconciled": format!("2026-02-{:02}T22:{:02}:00Z", 27 - age, n % 60),
            "lastReconciled": format!("2026-02-{:02}T23:{:02}:00Z", 27 - age, n % 60),
            "lastReconciledDuration": format!("{}.{:03}s", 1 + place % 7, place * 37 % 1000),
            "lastReconciledStatus": "ReconciliationSucceeded", "totalReconciliations": 144 + place,
            "metadata": {"revision": revision(age)}})
    };
    let depends_on = scenario.depends && !place.is_multiple_of(CHAIN);
    json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": name(place), "namespace": format!("team-{namespace:03}"),
            "creationTimestamp": format!("2026-01-{:02}T10:{:02}:00Z", 1 + n % 28, n % 60)},
        "spec": {"interval": "10m", "prune": true, "sourceRef": {"kind": "GitRepository", "name": "fleet"},
            "dependsOn": if depends_on { json!([{"name": name(place - 1)}]) } else { json!([]) }},
        "status": {"observedGeneration": 1, "lastAppliedRevision": revision(0),
            "lastAttemptedRevision": revision(0),
            "conditions": [
                condition("Ready", "ReconciliationSucceeded", &format!("Applied revision: {}", revision(0))),
                condition("Healthy", "Succeeded", "Health check passed in 1.204s"),
            ],
            "history": (0..scenario.history).map(history).collect::<Vec<_>>(),
            "inventory": {"entries": (0..scenario.inventory).map(entry).collect::<Vec<_>>()}},
    })
}
