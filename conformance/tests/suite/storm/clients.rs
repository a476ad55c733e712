//! The clients, each with its own library: programs in other languages, kube's reflector, `kubectl get --watch`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use gatehouse_apiservice::view::{GROUP, VERSION};
use gatehouse_conformance::cache::Unavailable;
use gatehouse_conformance::foreign::{Client, Informers, Language, Scope};
use gatehouse_conformance::kubeconfig;
use gatehouse_conformance::kubectl::Kubectl;
use kube::Api;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Store, reflector};
use kube::runtime::watcher::{Config, watcher};
use serde_json::Value;
use tokio::task::JoinSet;

use super::rows::{Rows, rows, summaries};

/// The kind and plural of the views of objects and of namespaces.
const ROWS: (&str, &str) = ("FluxResource", "fluxresources");
const SUMMARIES: (&str, &str) = ("FluxSummary", "fluxsummaries");

/// Longer than any trial: `kubectl get --watch` goes on without events.
const SILENCE: Duration = Duration::from_hours(1);
/// When `kubectl get --watch` is restarted; it ends with its connection.
const AGAIN: Duration = Duration::from_millis(500);

/// All clients. They end when this is dropped.
pub(super) struct Clients {
    informers: Vec<(Informers, Vec<Scope>)>,
    reflectors: Vec<(String, Scope, Store<DynamicObject>)>,
    tables: Vec<(String, Scope, Arc<Mutex<Rows>>)>,
    /// The reflectors of summaries, whose rows depend on many objects.
    summaries: Vec<(String, Store<DynamicObject>)>,
    tasks: JoinSet<()>,
}

/// The name of a path to the replicas, and its kubeconfig.
pub(super) type Way = (&'static str, PathBuf);

/// How a kube watcher is configured.
type How = fn(Config) -> Config;

/// The environment variables of a program.
type Env = &'static [(&'static str, &'static str)];

/// How each program is run. client-go runs both with streaming lists, which it verifies, and without.
const PROGRAMS: [(&str, Language, Env); 4] = [
    ("go", Language::Go, &[("KUBE_WATCHLIST_INCONSISTENCY_DETECTOR", "true")]),
    ("go, plain lists", Language::Go, &[("KUBE_FEATURE_WatchListClient", "false")]),
    ("python", Language::Python, &[]),
    ("javascript", Language::JavaScript, &[]),
];

/// The programs, built or installed if necessary.
pub(super) async fn programs() -> Result<Vec<Client>, Unavailable> {
    let mut programs = Vec::new();
    for (_, language, _) in PROGRAMS {
        programs.push(language.client().await?);
    }
    Ok(programs)
}

impl Clients {
    /// Starts all clients, on each path and for each scope.
    pub(super) async fn start(
        programs: &[Client],
        ways: &[Way],
        scopes: &[Scope],
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let (informers, reflectors, tables, summaries) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut clients = Self { informers, reflectors, tables, summaries, tasks: JoinSet::new() };
        for (way, kubeconfig) in ways {
            for ((name, _, env), program) in PROGRAMS.iter().zip(programs) {
                let name = format!("{name}, {way}");
                let informers = program.start(&name, (kubeconfig, folder), scopes, env)?;
                clients.informers.push((informers, scopes.to_vec()));
            }
            let client = kubeconfig::client(kubeconfig).await?;
            let hows: [(String, How); 2] = [
                (format!("kube, streaming, {way}"), Config::streaming_lists),
                (format!("kube, {way}"), |config| config.page_size(7)),
            ];
            for (name, how) in hows {
                for scope in scopes {
                    let store = clients.reflect(ROWS, &client, scope, how);
                    clients.reflectors.push((name.clone(), scope.clone(), store));
                }
                let store = clients.reflect(SUMMARIES, &client, &Scope::default(), how);
                clients.summaries.push((name, store));
            }
            for scope in scopes {
                clients.tabulate(format!("kubectl, {way}"), Kubectl::new(kubeconfig)?, scope);
            }
        }
        Ok(clients)
    }

    fn reflect(
        &mut self,
        (kind, plural): (&str, &str),
        client: &kube::Client,
        scope: &Scope,
        how: How,
    ) -> Store<DynamicObject> {
        let gvk = GroupVersionKind::gvk(GROUP, VERSION, kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
        let api: Api<DynamicObject> = match &scope.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let mut config = Config::default();
        config.label_selector.clone_from(&scope.label_selector);
        config.field_selector.clone_from(&scope.field_selector);
        let writer = Writer::new(resource);
        let store = writer.as_reader();
        let events = reflector(writer, watcher(api, how(config)).default_backoff());
        self.tasks.spawn(events.for_each(|_| std::future::ready(())));
        store
    }

    fn tabulate(&mut self, name: String, kubectl: Kubectl, scope: &Scope) {
        let shared: Arc<Mutex<Rows>> = Arc::default();
        self.tables.push((name, scope.clone(), Arc::clone(&shared)));
        let scope = scope.clone();
        self.tasks.spawn(async move {
            loop {
                // It ends with its connection, successfully or not; its output is then outdated.
                let _ = print(&kubectl, &scope, &shared).await;
                shared.lock().unwrap_or_else(PoisonError::into_inner).clear();
                tokio::time::sleep(AGAIN).await;
            }
        });
    }

    /// The cache of each client and its scope. A program that has ended is an error.
    pub(super) async fn caches(&mut self) -> anyhow::Result<Vec<(String, Scope, Rows)>> {
        let mut all = Vec::new();
        for (informers, scopes) in &mut self.informers {
            let caches = informers.caches().await?.caches;
            for (scope, objects) in scopes.iter().zip(&caches) {
                all.push((informers.name().to_owned(), scope.clone(), rows(objects)));
            }
        }
        for (name, scope, store) in &self.reflectors {
            all.push((name.clone(), scope.clone(), rows(&objects(store)?)));
        }
        for (name, scope, shared) in &self.tables {
            let rows = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
            all.push((name.clone(), scope.clone(), rows));
        }
        Ok(all)
    }

    /// The summaries in each cache.
    pub(super) fn summaries(&self) -> anyhow::Result<Vec<(String, Rows)>> {
        let all = self.summaries.iter();
        all.map(|(name, store)| Ok((format!("{name}, summaries"), summaries(&objects(store)?)))).collect()
    }

    /// How many streaming lists client-go could not verify.
    pub(super) async fn unverified(&mut self) -> anyhow::Result<usize> {
        let mut unverified = 0;
        for (informers, _) in &mut self.informers {
            unverified += informers.caches().await?.unverified;
        }
        Ok(unverified)
    }
}

fn objects(store: &Store<DynamicObject>) -> anyhow::Result<Vec<Value>> {
    Ok(store.state().iter().map(|object| serde_json::to_value(&**object)).collect::<Result<_, _>>()?)
}

/// Reads the output of one `kubectl get --watch` until it ends.
async fn print(kubectl: &Kubectl, scope: &Scope, shared: &Mutex<Rows>) -> anyhow::Result<()> {
    let mut args = vec!["get", "fluxresources", "--watch", "--output-watch-events", "--output=json"];
    match &scope.namespace {
        Some(namespace) => args.extend(["--namespace", namespace]),
        None => args.push("--all-namespaces"),
    }
    for (flag, selector) in
        [("--selector", &scope.label_selector), ("--field-selector", &scope.field_selector)]
    {
        args.extend(selector.iter().flat_map(|selector| [flag, selector]));
    }
    let mut watch = kubectl.watch(args)?;
    loop {
        let event: Value = serde_json::from_str(&watch.next_line(SILENCE).await?)?;
        let named = rows([&event["object"]]);
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => shared.extend(named),
            Some("DELETED") => shared.retain(|key, _| !named.contains_key(key)),
            // An ERROR event; kubectl ends after it.
            _ => {}
        }
    }
}
