//! Client libraries keep a correct copy of the views: by streaming lists and by plain lists, of objects and of
//! metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{Stream, StreamExt};
use gatehouse_apiservice::view::{GROUP, VERSION};
use gatehouse_conformance::progress;
use kube::api::{Api, DeleteParams, DynamicObject, PartialObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Resource, ResourceExt};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::site::{API, Site, by_name, kustomization};
use crate::world::{World, settles};

/// The seed of the random changes.
const SEED: u64 = 20_261_121;
const NAMESPACES: u64 = 4;
const CHANGES: u64 = 250;

/// The time after the last change, on a busy machine.
const SETTLED: Duration = Duration::from_secs(30);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.shared("informers::every_kind_of_watcher_converges_while_a_thousand_changes_run", converge)]
}

/// The resourceVersion of each row, by namespace and name.
type Rows = BTreeMap<(String, String), String>;

/// The copy that a watcher keeps of a view.
#[derive(Debug, Default)]
struct Copied {
    rows: Rows,
    /// The objects of a list that has not ended yet.
    listing: Option<Rows>,
    events: usize,
    lists: usize,
    last: u64,
    problems: Vec<String>,
}

impl Copied {
    fn take<K: Resource>(&mut self, event: watcher::Result<Event<K>>) {
        self.events += 1;
        match event {
            Ok(Event::Init) => self.listing = Some(Rows::new()),
            Ok(Event::InitApply(object)) => {
                let (key, version) = row(&object);
                self.listing.get_or_insert_default().insert(key, version);
            }
            Ok(Event::InitDone) => {
                self.rows = self.listing.take().unwrap_or_default();
                self.lists += 1;
                self.last = 0;
            }
            Ok(Event::Apply(object)) => {
                let (key, version) = row(&object);
                self.is_later(&key, &version);
                self.rows.insert(key, version);
            }
            Ok(Event::Delete(object)) => {
                let (key, version) = row(&object);
                self.is_later(&key, &version);
                self.rows.remove(&key);
            }
            Err(error) => self.problems.push(error.to_string()),
        }
    }

    /// A client that resumes from the last resourceVersion must have received all earlier changes, so versions must
    /// increase.
    fn is_later(&mut self, key: &(String, String), version: &str) {
        let version = version.parse().unwrap_or_default();
        if version <= self.last {
            self.problems.push(format!("{key:?} came at {version}, after {}", self.last));
        }
        self.last = version;
    }

    /// The rows in this trial's namespaces.
    fn own(&self) -> Rows {
        self.rows
            .iter()
            .filter(|((namespace, _), _)| is_own(namespace))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }
}

fn row<K: Resource>(object: &K) -> ((String, String), String) {
    (
        (object.namespace().unwrap_or_default(), object.name_any()),
        object.resource_version().unwrap_or_default(),
    )
}

fn namespace(number: u64) -> String {
    format!("informers-{number}")
}

fn is_own(namespace: &str) -> bool {
    namespace.starts_with("informers-")
}

/// The watchers and their copies.
#[derive(Default)]
struct Watchers {
    tasks: JoinSet<()>,
    copies: Vec<(String, &'static str, Arc<Mutex<Copied>>)>,
}

impl Watchers {
    fn start<K>(
        &mut self,
        name: &str,
        plural: &'static str,
        events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    ) where
        K: Resource + Send + 'static,
    {
        let copied = Arc::new(Mutex::new(Copied::default()));
        self.copies.push((format!("{plural}, {name}"), plural, Arc::clone(&copied)));
        self.tasks.spawn(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                copied.lock().unwrap_or_else(PoisonError::into_inner).take(event);
            }
        });
    }
}

fn view<K>(client: &kube::Client, plural: &str, kind: &str) -> Api<K>
where
    K: Resource<DynamicType = ApiResource>,
{
    let gvk = GroupVersionKind::gvk(GROUP, VERSION, kind);
    Api::all_with(client.clone(), &ApiResource::from_gvk_with_plural(&gvk, plural))
}

async fn converge(site: Arc<Site>) -> anyhow::Result<()> {
    let aggregated = &site.client;
    let direct = &site.direct_as("informer", Some("system:masters")).await?.client;
    let resources = |client| view::<DynamicObject>(client, "fluxresources", "FluxResource");
    let metadata = |client| view::<PartialObjectMeta<DynamicObject>>(client, "fluxresources", "FluxResource");
    let dependencies = |client| view::<DynamicObject>(client, "fluxdependencies", "FluxDependency");
    let summaries = |client| view::<DynamicObject>(client, "fluxsummaries", "FluxSummary");
    let (streaming, plain) = (|| Config::default().streaming_lists(), || Config::default().page_size(7));

    let mut watchers = Watchers::default();
    for (way, client) in [("aggregated", aggregated), ("direct", direct)] {
        let name = |how: &str| format!("{how}, {way}");
        watchers.start(&name("streaming"), "fluxresources", watcher(resources(client), streaming()));
        watchers.start(&name("plain"), "fluxresources", watcher(resources(client), plain()));
        watchers.start(&name("metadata"), "fluxresources", watcher(metadata(client), streaming()));
        watchers.start(&name("streaming"), "fluxdependencies", watcher(dependencies(client), streaming()));
        watchers.start(&name("plain"), "fluxsummaries", watcher(summaries(client), plain()));
    }

    let started = Instant::now();
    let mut expected = change_at_random(&site, 0).await?;
    // These begin while changes are made.
    watchers.start("plain, late", "fluxresources", watcher(resources(aggregated), plain()));
    watchers.start("streaming, late", "fluxresources", watcher(resources(aggregated), streaming()));
    watchers.start("metadata, late, plain", "fluxresources", watcher(metadata(direct), plain()));
    expected.extend(change_at_random(&site, NAMESPACES / 2).await?);
    let took = started.elapsed();

    let caller = site.caller().await?;
    let look = async || {
        let mut lists = BTreeMap::new();
        for plural in ["fluxresources", "fluxdependencies", "fluxsummaries"] {
            lists.insert(plural, listed(&caller.get(&format!("{API}/{plural}")).await?.ok()?));
        }
        let mut different = Vec::new();
        let shown: BTreeSet<_> = lists["fluxresources"].keys().cloned().collect();
        if shown != expected {
            different.push(format!("the list: {} rows of {}", shown.len(), expected.len()));
        }
        for (name, plural, copied) in &watchers.copies {
            let own = copied.lock().unwrap_or_else(PoisonError::into_inner).own();
            if own != lists[plural] {
                different.push(format!("{name}: {} rows, the list {}", own.len(), lists[plural].len()));
            }
        }
        anyhow::Ok(different)
    };
    settles("every copy is the list", SETTLED, look, Vec::is_empty).await?;

    let mut events = 0;
    for (name, _, copied) in &watchers.copies {
        let copied = copied.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(copied.problems.is_empty(), "{name}: {:#?}", copied.problems);
        ensure!(copied.lists == 1, "{name} listed {} times", copied.lists);
        events += copied.events;
    }
    progress::say(format_args!(
        "informers: {} changes in {took:.1?}, {} rows in the end, {events} events at {} watchers",
        CHANGES * NAMESPACES,
        expected.len(),
        watchers.copies.len(),
    ));
    Ok(())
}

fn listed(list: &Value) -> Rows {
    let version = |item: &Value| item["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let own = by_name(list).into_iter().filter(|((namespace, _), _)| is_own(namespace));
    own.map(|(key, item)| (key, version(item))).collect()
}

/// Makes half of the changes, concurrently in two namespaces. Returns the remaining rows.
async fn change_at_random(site: &Site, first: u64) -> anyhow::Result<BTreeSet<(String, String)>> {
    let changes = (first..first + NAMESPACES / 2).map(|number| Changes::run(site, number));
    let left = futures::future::try_join_all(changes).await?;
    Ok(left.into_iter().flatten().collect())
}

/// Random changes in one namespace, reproducible by the seed.
struct Changes {
    random: u64,
    api: Api<DynamicObject>,
    namespace: String,
    alive: Vec<String>,
    made: u64,
}

impl Changes {
    async fn run(site: &Site, number: u64) -> anyhow::Result<BTreeSet<(String, String)>> {
        let namespace = namespace(number);
        let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        site.apply([made]).await?;
        let gvk = GroupVersionKind::gvk("kustomize.toolkit.fluxcd.io", "v1", "Kustomization");
        let resource = ApiResource::from_gvk_with_plural(&gvk, "kustomizations");
        let api = Api::namespaced_with(site.client.clone(), &namespace, &resource);
        let mut changes = Self { random: SEED + number, api, namespace, alive: Vec::new(), made: 0 };
        for change in 0..CHANGES {
            changes.one().await.with_context(|| format!("change {change} of {number}, seed {SEED}"))?;
        }
        let Self { alive, namespace, .. } = changes;
        Ok(alive.into_iter().map(|name| (namespace.clone(), format!("local.kustomization.{name}"))).collect())
    }

    async fn one(&mut self) -> anyhow::Result<()> {
        if self.alive.len() < 5 || self.below(100) < 25 {
            return self.create().await;
        }
        let at = self.index();
        match self.below(100) {
            0..20 => {
                let name = self.alive.swap_remove(at);
                self.api.delete(&name, &DeleteParams::default()).await?;
            }
            20..35 => {
                let suspend = self.below(2) == 0;
                let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
                self.api.patch(&self.alive[at], &PatchParams::default(), &patch).await?;
            }
            _ => {
                let patch = Patch::Merge(json!({"status": self.status()}));
                self.api.patch_status(&self.alive[at], &PatchParams::default(), &patch).await?;
            }
        }
        Ok(())
    }

    async fn create(&mut self) -> anyhow::Result<()> {
        let name = format!("app-{}", self.made);
        self.made += 1;
        let mut object = kustomization(&self.namespace, &name, Ok(()));
        // A create ignores the status, so the object begins as Pending.
        object["spec"]["dependsOn"] = match self.below(4) {
            0 => json!([]),
            1 => json!([{"name": "app-never-made"}]),
            // It may not exist yet, may be deleted, or may close a cycle.
            _ => json!([{"name": format!("app-{}", self.below(self.made + 2))}]),
        };
        self.api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        self.alive.push(name);
        Ok(())
    }

    fn status(&mut self) -> Value {
        let (kind, status, reason) = match self.below(5) {
            0 | 1 => ("Ready", "True", "ReconciliationSucceeded"),
            2 => ("Ready", "False", "DependencyNotReady"),
            3 => ("Ready", "False", "BuildFailed"),
            _ => ("Reconciling", "True", "Progressing"),
        };
        let message = format!("message {}", self.below(1000));
        json!({"observedGeneration": 1, "conditions": [{
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-11-21T08:40:40Z",
        }]})
    }

    fn index(&mut self) -> usize {
        let length = u64::try_from(self.alive.len()).unwrap_or(u64::MAX);
        usize::try_from(self.below(length)).unwrap_or_default()
    }

    /// SplitMix64, which is uniform enough.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
