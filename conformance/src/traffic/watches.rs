//! Watches through the aggregator, and the writer whose changes they must show.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::objects::{MARKER, VIEWS, change, status};
use super::score::Score;
use super::views::rows;
use super::{Pace, send};

const WRITER: &str = "changes";
const PLAIN: &str = "plain watches";
const KUBE: &str = "kube's watcher";

/// The time from the last change until every watch must show it: the watcher of kube-rs waits up to half a
/// minute before it retries.
const SHOWN: Duration = Duration::from_secs(45);
/// The pause before a watch that has ended starts again.
const PAUSE: Duration = Duration::from_millis(100);

/// The latest change that a watch has shown.
type Seen = Arc<AtomicU64>;

/// Watches of one row.
pub(super) struct Watches {
    // Aborted when dropped.
    _tasks: JoinSet<()>,
    written: Seen,
    seen: Vec<(&'static str, Seen)>,
}

impl Watches {
    /// Starts two plain watches and one of kube-rs.
    pub(super) fn start(clients: [kube::Client; 3], score: &Score) -> Self {
        let [one, two, three] = clients;
        let mut tasks = JoinSet::new();
        let mut seen = Vec::new();
        for client in [one, two] {
            let plain = Plain { client, seen: Seen::default(), score: score.clone() };
            seen.push((PLAIN, Arc::clone(&plain.seen)));
            tasks.spawn(plain.run());
        }
        let own = Seen::default();
        seen.push((KUBE, Arc::clone(&own)));
        tasks.spawn(of_kube(three, own, score.clone()));
        Self { _tasks: tasks, written: Seen::default(), seen }
    }

    /// Changes the row again and again.
    pub(super) fn write(
        &self,
        client: kube::Client,
        mut pace: Pace,
        score: Score,
    ) -> impl Future<Output = ()> + use<> {
        let written = Arc::clone(&self.written);
        async move {
            let path = format!(
                "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{VIEWS}/kustomizations/{MARKER}/status"
            );
            while pace.next().await {
                let next = written.load(Ordering::SeqCst) + 1;
                let changed = send(&client, "PATCH", &path, Some(&json!({"status": status(next)}))).await;
                if score.note(WRITER, &path, changed.map(drop)) {
                    written.store(next, Ordering::SeqCst);
                }
            }
        }
    }

    /// Waits until all watches show the latest change.
    pub(super) async fn end(self, score: &Score) {
        let written = self.written.load(Ordering::SeqCst);
        let deadline = Instant::now() + SHOWN;
        for (client, seen) in &self.seen {
            loop {
                let shown = seen.load(Ordering::SeqCst);
                if shown >= written {
                    break;
                }
                if Instant::now() > deadline {
                    score.failed(client, format_args!("shows change {shown} of {written}"));
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// A watch by the watcher of kube-rs, which lists and watches on its own and reports its errors.
async fn of_kube(client: kube::Client, seen: Seen, score: Score) {
    let kind = GroupVersionKind::gvk("view.gatehouse.dev", "v1alpha1", "FluxResource");
    let resource = ApiResource::from_gvk_with_plural(&kind, "fluxresources");
    let api: Api<DynamicObject> = Api::namespaced_with(client, VIEWS, &resource);
    let mut events = watcher(api, Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::InitDone) => score.succeeded(KUBE),
            Ok(Event::Apply(object) | Event::InitApply(object)) => saw(&seen, &object.data),
            Ok(Event::Init | Event::Delete(_)) => {}
            Err(watcher::Error::WatchError(status)) if status.code == 410 => {}
            Err(error) => score.failed(KUBE, error),
        }
    }
}

fn saw(seen: &Seen, row: &Value) {
    if let Some(change) = change(row) {
        seen.fetch_max(change, Ordering::SeqCst);
    }
}

/// A watch without a client library, which reads the events as they are sent.
struct Plain {
    client: kube::Client,
    seen: Seen,
    score: Score,
}

/// How a watch ended.
enum End {
    /// In order; it resumes from the last version.
    Clean,
    /// With 410: the version has expired, which is not a failure.
    Expired,
}

impl Plain {
    async fn run(self) {
        let mut version = None;
        loop {
            let from = match version.take() {
                Some(version) => version,
                None => match self.list().await {
                    Ok(version) => version,
                    Err(error) => {
                        self.score.failed(PLAIN, format_args!("list: {error}"));
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            let mut last = from;
            match self.follow(&mut last).await {
                Ok(End::Clean) => version = Some(last),
                Ok(End::Expired) => {}
                Err(error) => {
                    self.score.failed(PLAIN, format_args!("watch from {last}: {error}"));
                    version = Some(last);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn list(&self) -> Result<String, kube::Error> {
        let list = send(&self.client, "GET", &rows(), None).await?;
        for row in list["items"].as_array().into_iter().flatten() {
            saw(&self.seen, row);
        }
        Ok(list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned())
    }

    async fn follow(&self, last: &mut String) -> anyhow::Result<End> {
        let path = format!("{}?watch=true&allowWatchBookmarks=true&resourceVersion={last}", rows());
        let request = http::Request::get(path).body(Vec::new())?;
        let stream = match self.client.request_stream(request).await {
            Err(kube::Error::Api(status)) if status.code == 410 => return Ok(End::Expired),
            stream => stream?,
        };
        self.score.succeeded(PLAIN);
        let mut lines = Box::pin(stream.lines());
        while let Some(line) = lines.try_next().await? {
            let event: Value = serde_json::from_str(&line)?;
            let object = &event["object"];
            if event["type"] == "ERROR" {
                anyhow::ensure!(object["code"] == 410, "{object}");
                return Ok(End::Expired);
            }
            saw(&self.seen, object);
            if let Some(version) = object["metadata"]["resourceVersion"].as_str() {
                version.clone_into(last);
            }
        }
        Ok(End::Clean)
    }
}
