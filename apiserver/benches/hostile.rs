//! Measures graphs that a tenant could write to stall the views: `cargo bench -p gatehouse-apiserver --bench
//! hostile`. Each graph has its own process, because memory is measured as the process's maximum.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_apiserver::clock::Clock;
use gatehouse_apiserver::views::Views;
use gatehouse_inventory::catalogue::{Catalogue, KindId};
use gatehouse_inventory::{ClusterId, Event, Interner, Inventory, KindStatus, Liveness};
use serde_json::json;

/// The values of the engine.
const STEPS: usize = 20_000;
const ROWS: usize = 256;
const BATCH: usize = 1024;

/// Name, number of objects, and what each object depends on.
type Shape = (&'static str, usize, fn(usize, usize) -> Vec<usize>);

const SHAPES: [Shape; 8] = [
    ("ring", 500, ring),
    ("ring", 1_000, ring),
    ("ring", 2_000, ring),
    ("ring", 4_000, ring),
    ("dense", 300, |n, count| (1..=150).map(|m| (n * 31 + m * 7) % count).collect()),
    ("chain", 20_000, |n, _| n.checked_sub(1).into_iter().collect()),
    ("star", 10_000, |n, _| if n == 0 { Vec::new() } else { vec![0] }),
    ("missing, 20,000 each", 100, |n, _| (0..20_000).map(|m| 1_000_000 + n * 20_000 + m).collect()),
];

fn ring(n: usize, count: usize) -> Vec<usize> {
    vec![(n + 1) % count]
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    if let Some(shape) = arguments.next().and_then(|number| SHAPES.get(number.parse::<usize>().ok()?)) {
        measure(*shape);
        return;
    }
    let own = std::env::current_exe().expect("a program has a path");
    for number in 0..SHAPES.len() {
        let status = std::process::Command::new(&own).arg(number.to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "shape {number} failed");
    }
}

struct World {
    inventory: Inventory,
    views: Views,
    interner: Arc<Interner>,
    kind: KindId,
    /// The longest round, which is how long a change of another tenant would have waited.
    longest: Duration,
}

impl World {
    fn new() -> Self {
        let catalogue = Arc::new(Catalogue::builtin());
        let kind = catalogue.find("kustomize.toolkit.fluxcd.io", "Kustomization").expect("a built-in kind");
        let interner = Arc::new(Interner::default());
        let inventory = Inventory::new(Arc::clone(&catalogue), ["local".into()], 0);
        let views = Views::new(&Arc::new(Clock::new(0)), &interner);
        let mut world = Self { inventory, views, interner, kind, longest: Duration::ZERO };
        for (kind, _) in catalogue.kinds() {
            let status = KindStatus::Served { version: "v1".into() };
            for event in [Event::Kind(kind, status), Event::Restart(kind), Event::Synced(kind)] {
                world.inventory.apply(ClusterId(0), event, 0);
            }
        }
        let alive = Liveness::Alive { version: None, ahead: None };
        world.inventory.apply(ClusterId(0), Event::Liveness(alive), 0);
        world.round();
        world
    }

    fn apply(&mut self, n: usize, on: &[usize]) {
        let depends_on: Vec<_> = on.iter().map(|n| json!({"name": name(*n)})).collect();
        let message = format!(
            "dependency 'default/{}' is not ready",
            on.first().map_or_else(String::new, |n| name(*n))
        );
        let object = json!({
            "metadata": {"name": name(n), "namespace": "default", "generation": 1},
            "spec": {"dependsOn": depends_on},
            "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "False",
                "reason": "DependencyNotReady", "message": message}]},
        });
        let record = self.inventory.catalogue().observe(self.kind, &object.to_string(), &self.interner, 0);
        self.inventory.apply(ClusterId(0), Event::Apply(Box::new(record.expect("it is well-formed"))), 0);
    }

    /// One round of the engine.
    fn round(&mut self) {
        let start = Instant::now();
        let changed = self.inventory.take_changed();
        self.views.update(&self.inventory, &changed);
        let follows = self.inventory.follow(STEPS, ROWS);
        self.views.update(&self.inventory, &follows);
        self.longest = self.longest.max(start.elapsed());
    }

    fn settle(&mut self) -> Duration {
        let start = Instant::now();
        self.round();
        while self.inventory.is_behind() {
            self.round();
        }
        start.elapsed()
    }
}

fn name(n: usize) -> String {
    format!("app-{n:07}")
}

fn measure((shape, count, on): Shape) {
    let mut world = World::new();
    let before = held();
    let start = Instant::now();
    for n in 0..count {
        world.apply(n, &on(n, count));
        if n % BATCH == BATCH - 1 {
            world.round();
        }
    }
    world.settle();
    let arrival = start.elapsed();
    // One object that changes its dependency and changes it back, again and again.
    let mut change = Duration::ZERO;
    for turn in 0..10 {
        world.apply(0, &if turn % 2 == 0 { vec![count + 5] } else { on(0, count) });
        change += world.settle();
    }
    println!(
        "{shape} of {count}: {arrival:?} until all is shown, {:?} for each change, {:?} the longest round, {} MiB, {} steps",
        change / 10,
        world.longest,
        held().saturating_sub(before) >> 10,
        world.inventory.steps(),
    );
}

/// The process's maximum of resident memory, in KiB.
fn held() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}
