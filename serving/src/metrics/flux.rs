//! `gotk_resource_info`: one series for each of Flux's objects, as Flux has kube-state-metrics make it, so that Flux's
//! own dashboards and alerts read Gatehouse. They have a path of their own, `/metrics/flux`: each replica knows all
//! objects, so that counts come out right only where one of them is scraped; and what they tell is a right of its own.
//!
//! The labels are those of the configuration in fluxcd/flux2-monitoring-example; as there, a label whose field is absent
//! is left out. Nothing is kept for it: whoever scrapes asks the one task that owns the inventory, which hands out
//! shared text, and the lines are made while the client reads them. Invariant: no line holds a password of a URL.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use gatehouse_inventory::{
    FluxDetail, Inventory, Readiness, Record, Reference, Str,
    catalogue::{Catalogue, KindId},
};
use tokio::sync::{Notify, oneshot};

use crate::error::ApiError;

const HEAD: &str = "# HELP gotk_resource_info The current state of a Flux resource.\n\
                    # TYPE gotk_resource_info gauge\n";

/// The inventory is busy for a second at most, when a large cluster is first rendered.
const PATIENCE: Duration = Duration::from_secs(3);

/// Lines made at a time: some 150 KiB.
const CHUNK: usize = 512;

/// What Flux's configuration says of a kind.
struct Layout {
    group: &'static str,
    kind: &'static str,
    /// That of the configuration, whatever version an object was read in.
    version: &'static str,
    labels: &'static [(&'static str, Field)],
}

/// Where a label's value is.
#[derive(Debug, Clone, Copy)]
enum Field {
    Ready,
    Suspended,
    Revision,
    Source,
    /// Of a HelmRelease, whose chart is of a template or referred to.
    ChartSource,
    ChartRef,
    ReleasedChart,
    ReleasedVersion,
    /// Of `FluxDetail::texts`.
    First,
    Second,
    FirstUrl,
}

use Field::{
    ChartRef, ChartSource, First, FirstUrl, Ready, ReleasedChart, ReleasedVersion, Revision, Second, Source,
    Suspended,
};

const READY: (&str, Field) = ("ready", Ready);
const SUSPENDED: (&str, Field) = ("suspended", Suspended);
const REVISION: (&str, Field) = ("revision", Revision);
const SOURCE: (&str, Field) = ("source_name", Source);
const URL: (&str, Field) = ("url", FirstUrl);

const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
const HELM: &str = "helm.toolkit.fluxcd.io";
const SOURCES: &str = "source.toolkit.fluxcd.io";
const NOTIFICATION: &str = "notification.toolkit.fluxcd.io";
const IMAGE: &str = "image.toolkit.fluxcd.io";

#[rustfmt::skip]
const LAYOUTS: [Layout; 13] = [
    Layout { group: KUSTOMIZE, kind: "Kustomization", version: "v1", labels: &[READY, SUSPENDED, REVISION, SOURCE] },
    Layout { group: HELM, kind: "HelmRelease", version: "v2", labels: &[
        READY, SUSPENDED, ("revision", ReleasedVersion), ("chart_name", ReleasedChart), ("chart_app_version", First),
        ("chart_ref_name", ChartRef), ("chart_source_name", ChartSource),
    ] },
    Layout { group: SOURCES, kind: "GitRepository", version: "v1", labels: &[READY, SUSPENDED, REVISION, URL] },
    Layout { group: SOURCES, kind: "Bucket", version: "v1", labels: &[
        READY, SUSPENDED, REVISION, ("endpoint", First), ("bucket_name", Second),
    ] },
    Layout { group: SOURCES, kind: "HelmRepository", version: "v1", labels: &[READY, SUSPENDED, REVISION, URL] },
    Layout { group: SOURCES, kind: "HelmChart", version: "v1", labels: &[
        READY, SUSPENDED, REVISION, ("chart_name", First), ("chart_version", Second),
    ] },
    Layout { group: SOURCES, kind: "OCIRepository", version: "v1", labels: &[READY, SUSPENDED, REVISION, URL] },
    Layout { group: NOTIFICATION, kind: "Alert", version: "v1beta3", labels: &[SUSPENDED] },
    Layout { group: NOTIFICATION, kind: "Provider", version: "v1beta3", labels: &[SUSPENDED] },
    Layout { group: NOTIFICATION, kind: "Receiver", version: "v1", labels: &[READY, SUSPENDED, ("webhook_path", First)] },
    Layout { group: IMAGE, kind: "ImageRepository", version: "v1", labels: &[READY, SUSPENDED, ("image", First)] },
    Layout { group: IMAGE, kind: "ImagePolicy", version: "v1", labels: &[READY, SUSPENDED, SOURCE] },
    Layout { group: IMAGE, kind: "ImageUpdateAutomation", version: "v1", labels: &[READY, SUSPENDED, SOURCE] },
];

/// Asked by who scrapes, answered by who knows.
#[derive(Default)]
pub(crate) struct FluxResources {
    questions: Mutex<Vec<oneshot::Sender<Rows>>>,
    asked: Notify,
}

/// Shared by all who ask at once.
type Rows = Arc<[Row]>;

/// What the line of an object is made of.
struct Row {
    layout: &'static Layout,
    namespace: Str,
    name: Str,
    detail: Told,
}

/// What is told of a [`FluxDetail`].
struct Told {
    ready: Option<Readiness>,
    suspend: Option<bool>,
    revision: Option<Str>,
    /// Its name, and whether it is a chart that is referred to.
    source: Option<(Str, bool)>,
    texts: [Option<Str>; 2],
}

impl FluxResources {
    /// The lines, as text; 503 if nobody answers, since no lines would say that no object is left.
    pub(crate) async fn ask(&self) -> Result<impl Stream<Item = Bytes> + Send + use<>, ApiError> {
        let (answer, rows) = oneshot::channel();
        self.questions().push(answer);
        self.asked.notify_one();
        let rows = tokio::time::timeout(PATIENCE, rows).await;
        let rows = rows.ok().and_then(Result::ok);
        rows.map(lines).ok_or_else(|| ApiError::unavailable("the inventory is busy"))
    }

    fn questions(&self) -> MutexGuard<'_, Vec<oneshot::Sender<Rows>>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when there is a question.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Answers every question, all with the same.
    pub(super) fn answer(&self, inventory: &Inventory) {
        let mut questions = std::mem::take(&mut *self.questions());
        questions.retain(|answer| !answer.is_closed());
        if questions.is_empty() {
            return;
        }
        let rows = rows(inventory);
        for answer in questions {
            // Who asked may have gone.
            let _ = answer.send(Arc::clone(&rows));
        }
    }
}

fn rows(inventory: &Inventory) -> Rows {
    let catalogue = inventory.catalogue();
    let layouts: HashMap<KindId, &Layout> = LAYOUTS
        .iter()
        .filter_map(|layout| Some((catalogue.find(layout.group, layout.kind)?, layout)))
        .collect();
    let records = inventory.clusters().flat_map(|(_, cluster)| cluster.records());
    records
        .filter_map(|record| {
            let layout = layouts.get(&record.key.kind)?;
            Some(Row::new(layout, record, record.flux()?, catalogue))
        })
        .collect()
}

fn lines(rows: Rows) -> impl Stream<Item = Bytes> + Send {
    let chunks = (0..rows.len()).step_by(CHUNK).map(move |first| {
        let mut text = String::new();
        for row in rows.iter().skip(first).take(CHUNK) {
            row.write(&mut text);
        }
        Bytes::from(text)
    });
    stream::once(std::future::ready(Bytes::from_static(HEAD.as_bytes()))).chain(stream::iter(chunks))
}

impl Row {
    fn new(layout: &'static Layout, record: &Record, flux: &FluxDetail, catalogue: &Catalogue) -> Self {
        let source = flux.source.as_ref().map(|source| {
            let (kind, name) = match source {
                Reference::Known(key) => (catalogue.kind(key.kind).kind.as_str(), &key.name),
                Reference::Foreign { kind, name, .. } => (&**kind, name),
            };
            // What a HelmRelease's chartRef may name, and its chart template's sourceRef may not.
            (Str::clone(name), matches!(kind, "OCIRepository" | "HelmChart" | "ExternalArtifact"))
        });
        let detail = Told {
            ready: flux.ready,
            suspend: flux.suspend,
            revision: flux.revision.clone(),
            source,
            texts: flux.texts.as_deref().cloned().unwrap_or_default(),
        };
        Self { layout, namespace: record.key.namespace.clone(), name: record.key.name.clone(), detail }
    }

    fn write(&self, text: &mut String) {
        let Layout { group, kind, version, labels } = self.layout;
        text.push_str("gotk_resource_info{");
        label(text, "customresource_group", group);
        label(text, "customresource_kind", kind);
        label(text, "customresource_version", version);
        label(text, "exported_namespace", &self.namespace);
        label(text, "name", &self.name);
        for (name, field) in *labels {
            if let Some(value) = self.detail.value(*field) {
                label(text, name, &value);
            }
        }
        text.pop();
        text.push_str("} 1\n");
    }
}

impl Told {
    fn value(&self, field: Field) -> Option<Cow<'_, str>> {
        let source = |wanted: Option<bool>| {
            let (name, is_chart) = self.source.as_ref()?;
            (wanted.is_none_or(|wanted| *is_chart == wanted)).then_some(&**name)
        };
        // A release is told as `CHART@VERSION`; a version alone is what an older API left behind.
        let released = || self.revision.as_deref()?.rsplit_once('@');
        let first = self.texts[0].as_deref();
        let value = match field {
            Ready => match self.ready? {
                Readiness::True => "True",
                Readiness::False => "False",
                Readiness::Unknown => "Unknown",
            },
            Suspended => {
                if self.suspend? {
                    "true"
                } else {
                    "false"
                }
            }
            Revision => self.revision.as_deref()?,
            Source => source(None)?,
            ChartSource => source(Some(false))?,
            ChartRef => source(Some(true))?,
            ReleasedChart => released()?.0,
            ReleasedVersion => released()?.1,
            First => first?,
            Second => self.texts[1].as_deref()?,
            FirstUrl => return first.map(without_password),
        };
        Some(value.into())
    }
}

/// `name="value",`, or nothing where there is no value.
fn label(text: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    let _ = write!(text, "{name}=\"");
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push_str("\",");
}

/// `https://user:password@host/` may stand in a URL, against all advice.
fn without_password(url: &str) -> Cow<'_, str> {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let end = url[authority..].find('/').map_or(url.len(), |at| authority + at);
    match url[authority..end].rfind('@').map(|at| authority + at) {
        Some(at) => match url[authority..at].find(':') {
            Some(colon) => format!("{}{}", &url[..authority + colon], &url[at..]).into(),
            None => url.into(),
        },
        None => url.into(),
    }
}

#[cfg(test)]
mod tests;
