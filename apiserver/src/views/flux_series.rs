//! `gotk_resource_info`: one series for each Flux object, as Flux's configuration of kube-state-metrics
//! defines it, so that Flux's own dashboards and alerts work with Gatehouse.
//!
//! The series have their own path, `/metrics/flux`, for two reasons: each replica has all objects, so counts
//! are right only if a single replica is scraped; and RBAC must be able to grant them separately.
//!
//! The labels are those of the configuration in fluxcd/flux2-monitoring-example. As there, a label is omitted
//! if its field is absent. A series is updated like a row of a view. A scrape takes a snapshot, and the lines
//! are written while the client reads them.
//!
//! **Invariant:** no line contains a password from a URL.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use gatehouse_inventory::{
    ClusterId, Delta, FluxDetail, Inventory, LOCAL, ObjectKey, Readiness, Record, Reference, Str,
    catalogue::{Catalogue, KindId},
};
use gatehouse_serving::ApiError;
use imbl::OrdMap;

const HEAD: &str = "# HELP gotk_resource_info The current state of a Flux resource.\n\
                    # TYPE gotk_resource_info gauge\n";

/// Lines written at a time: some 150 KiB.
const CHUNK: usize = 512;

/// The labels that Flux's configuration defines for a kind.
struct Layout {
    group: &'static str,
    kind: &'static str,
    /// The version in Flux's configuration, regardless of the version in which an object was read.
    version: &'static str,
    labels: &'static [(&'static str, Field)],
}

/// The source of a label's value.
#[derive(Debug, Clone, Copy)]
enum Field {
    Ready,
    Suspended,
    Revision,
    Source,
    /// The source of a HelmRelease's chart template; `ChartRef` is its `chartRef`.
    ChartSource,
    ChartRef,
    ReleasedChart,
    ReleasedVersion,
    /// The first of `FluxDetail::texts`.
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

/// The series of all Flux objects.
pub struct FluxSeries {
    layouts: HashMap<KindId, &'static Layout>,
    /// `None` until all objects have been listed.
    rows: Mutex<Option<Rows>>,
}

/// Snapshots share structure.
type Rows = OrdMap<(ClusterId, ObjectKey), Arc<Row>>;

/// What the line of an object is written from.
struct Row {
    layout: &'static Layout,
    namespace: Str,
    name: Str,
    detail: LabelValues,
}

/// The fields of a [`FluxDetail`] that a line can show.
struct LabelValues {
    ready: Option<Readiness>,
    suspend: Option<bool>,
    revision: Option<Str>,
    /// The name of the source, and whether it is a `chartRef`.
    source: Option<(Str, bool)>,
    texts: [Option<Str>; 2],
}

impl FluxSeries {
    /// No series yet, for the kinds in `catalogue`.
    pub fn new(catalogue: &Catalogue) -> Self {
        let layouts =
            LAYOUTS.iter().filter_map(|layout| Some((catalogue.find(layout.group, layout.kind)?, layout)));
        Self { layouts: layouts.collect(), rows: Mutex::default() }
    }

    /// Whether all objects have been listed.
    pub(super) fn is_synced(&self) -> bool {
        self.rows().is_some()
    }

    /// Updates the series of the objects in `delta`. The first call must have all objects.
    pub(super) fn update(&self, inventory: &Inventory, delta: &Delta) {
        let mut rows = self.rows().clone().unwrap_or_default();
        // A series has no label for its cluster: those of a remote one would be mistaken for local ones, and
        // shown to all who may read the path.
        let shown =
            |(id, key): &&(ClusterId, ObjectKey)| *id == LOCAL && self.layouts.contains_key(&key.kind);
        for (id, key) in delta.objects.iter().filter(shown) {
            match inventory
                .cluster(*id)
                .record(key)
                .and_then(|record| self.row(record, inventory.catalogue()))
            {
                Some(row) => drop(rows.insert((*id, key.clone()), Arc::new(row))),
                None => drop(rows.remove(&(*id, key.clone()))),
            }
        }
        *self.rows() = Some(rows);
    }

    /// The exposition text; 503 until all objects have been listed, because a missing line would mean that
    /// its object was deleted.
    pub(crate) fn text(&self) -> Result<impl Stream<Item = Bytes> + Send + use<>, ApiError> {
        let rows = self.rows().clone();
        let rows =
            rows.ok_or_else(|| ApiError::unavailable("fluxresources is not synced with the cluster yet"))?;
        Ok(lines(rows.into_iter().map(|(_, row)| row).collect()))
    }

    fn row(&self, record: &Record, catalogue: &Catalogue) -> Option<Row> {
        Some(Row::new(self.layouts.get(&record.key.kind)?, record, record.flux()?, catalogue))
    }

    fn rows(&self) -> MutexGuard<'_, Option<Rows>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lines(rows: Vec<Arc<Row>>) -> impl Stream<Item = Bytes> + Send {
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
                Reference::Foreign(foreign) => (&*foreign.kind, &foreign.name),
            };
            // These kinds can be named by a HelmRelease's `chartRef`, but not by the `sourceRef` of its chart
            // template.
            (Str::clone(name), matches!(kind, "OCIRepository" | "HelmChart" | "ExternalArtifact"))
        });
        let detail = LabelValues {
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

impl LabelValues {
    fn value(&self, field: Field) -> Option<Cow<'_, str>> {
        let source = |wanted: Option<bool>| {
            let (name, is_chart) = self.source.as_ref()?;
            (wanted.is_none_or(|wanted| *is_chart == wanted)).then_some(&**name)
        };
        // A release is recorded as `CHART@VERSION`. An older API left a version only.
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

/// Writes `name="value",`, or nothing if the value is empty.
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

/// A URL may contain credentials, `https://user:password@host/`, although this is discouraged.
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
