//! Writes rows into response bodies, in the negotiated representation.
//!
//! Rows are rendered once, when they change. The encoder puts their bytes between the constant parts of the
//! representation, and the ages into Table cells.

use std::{collections::HashMap, io::Write as _, sync::LazyLock};

use gatehouse_apiservice::{
    ColumnType, Resource,
    view::{API_VERSION, RESOURCES},
};
use serde_json::{Value, json};

use super::select::EventType;
use crate::{
    options::IncludeObject,
    watchcache::{Row, RowKey, object_head},
};
use gatehouse_serving::{
    error::ApiError,
    negotiate::{LIST_TAIL, MetaVersion, Representation},
};

/// The `metadata` of a list or Table.
#[derive(Debug, Clone, Default)]
pub(super) struct ListMeta {
    pub(super) version: u64,
    pub(super) continue_token: Option<String>,
    pub(super) remaining: Option<usize>,
}

/// Writes rows of one resource in one representation.
#[derive(Debug)]
pub(super) struct Encoder {
    resource: &'static Resource,
    representation: Representation,
    include_object: IncludeObject,
    /// `{"apiVersion":…,"kind":…,` of a whole object.
    object_head: String,
}

impl Encoder {
    pub(super) fn new(
        resource: &'static Resource,
        representation: Representation,
        include_object: IncludeObject,
    ) -> Self {
        Self { resource, representation, include_object, object_head: object_head(resource.kind) }
    }

    /// The response to a get of one object; in a Table, with ages as of `now`.
    pub(super) fn single(&self, row: &Row, now: i64) -> Vec<u8> {
        let mut out = Vec::with_capacity(row.size() + 256);
        match self.representation {
            Representation::Table(version) => {
                self.table(&mut out, version, &meta(row), true, |out| {
                    self.table_row(out, version, row, now);
                });
            }
            _ => self.plain(&mut out, row),
        }
        out
    }

    /// The list up to its first item.
    pub(super) fn list_head(&self, meta: &ListMeta) -> Vec<u8> {
        let meta = list_meta(meta);
        let head = match self.representation {
            Representation::Object => {
                format!(
                    "{{\"kind\":\"{}List\",\"apiVersion\":\"{API_VERSION}\",\"metadata\":{meta},\"items\":[",
                    self.resource.kind
                )
            }
            Representation::Metadata(version) => format!(
                "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"{}\",\"metadata\":{meta},\"items\":[",
                version.api_version()
            ),
            Representation::Table(version) => self.table_head(version, &meta, true),
        };
        head.into_bytes()
    }

    /// One item of a list, or one row of a Table with ages as of `now`.
    pub(super) fn item(&self, out: &mut Vec<u8>, row: &Row, now: i64) {
        match self.representation {
            Representation::Table(version) => self.table_row(out, version, row, now),
            _ => self.plain(out, row),
        }
    }

    /// A watch event with the row; in a Table, with ages as of `now`. Only the first event of a watch has the
    /// columns of a Table.
    pub(super) fn event(&self, out: &mut Vec<u8>, kind: &str, row: &Row, now: i64, with_columns: bool) {
        wrap(out, kind, |out| match self.representation {
            Representation::Table(version) => {
                self.table(out, version, &meta(row), with_columns, |out| {
                    self.table_row(out, version, row, now);
                });
            }
            _ => self.plain(out, row),
        });
    }

    /// A bookmark: nothing more happened up to `version`. With `initial_events_end` it carries the annotation
    /// that marks the end of the initial events (KEP-3157).
    pub(super) fn bookmark(
        &self,
        out: &mut Vec<u8>,
        version: u64,
        initial_events_end: bool,
        with_columns: bool,
    ) {
        let mut metadata = json!({ "resourceVersion": version.to_string(), "creationTimestamp": null });
        if initial_events_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        self.metadata_only(out, "BOOKMARK", &metadata, version, with_columns);
    }

    /// A DELETED event that shows only the object's name: no more is known of it, or the client may not see
    /// more.
    pub(super) fn deleted_name_only(
        &self,
        out: &mut Vec<u8>,
        key: &RowKey,
        version: u64,
        with_columns: bool,
    ) {
        let mut metadata = json!({ "name": *key.name, "resourceVersion": version.to_string() });
        if !key.namespace.is_empty() {
            metadata["namespace"] = json!(*key.namespace);
        }
        metadata["creationTimestamp"] = Value::Null;
        self.metadata_only(out, EventType::Deleted.as_str(), &metadata, version, with_columns);
    }

    /// An event whose object has nothing but metadata.
    fn metadata_only(
        &self,
        out: &mut Vec<u8>,
        event: &str,
        metadata: &Value,
        version: u64,
        with_columns: bool,
    ) {
        let name = metadata.get("name").cloned();
        let metadata = format!("\"metadata\":{metadata}");
        wrap(out, event, |out| match self.representation {
            Representation::Object => {
                out.extend_from_slice(self.object_head.as_bytes());
                out.extend_from_slice(metadata.as_bytes());
                out.push(b'}');
            }
            Representation::Metadata(meta) => {
                partial(out, meta, |out| out.extend_from_slice(metadata.as_bytes()));
            }
            Representation::Table(meta) => {
                // As kube-apiserver does: a Table with one row without content, whose object carries the
                // metadata.
                let list = ListMeta { version, ..ListMeta::default() };
                self.table(out, meta, &list, with_columns, |out| {
                    let _ = write!(out, "{{\"cells\":{},\"object\":", self.empty_cells(name));
                    partial(out, meta, |out| out.extend_from_slice(metadata.as_bytes()));
                    out.push(b'}');
                });
            }
        });
    }

    fn plain(&self, out: &mut Vec<u8>, row: &Row) {
        match self.representation {
            Representation::Metadata(version) => partial(out, version, |out| row.write_metadata(out)),
            _ => self.object(out, row),
        }
    }

    fn object(&self, out: &mut Vec<u8>, row: &Row) {
        out.extend_from_slice(self.object_head.as_bytes());
        row.write_object(out);
    }

    fn table(
        &self,
        out: &mut Vec<u8>,
        version: MetaVersion,
        meta: &ListMeta,
        with_columns: bool,
        row: impl FnOnce(&mut Vec<u8>),
    ) {
        out.extend_from_slice(self.table_head(version, &list_meta(meta), with_columns).as_bytes());
        row(out);
        out.extend_from_slice(LIST_TAIL);
    }

    fn table_head(&self, version: MetaVersion, meta: &Value, with_columns: bool) -> String {
        let columns = if with_columns { columns(self.resource) } else { "null" };
        format!(
            "{{\"kind\":\"Table\",\"apiVersion\":\"{}\",\"metadata\":{meta},\"columnDefinitions\":{columns},\"rows\":[",
            version.api_version()
        )
    }

    fn table_row(&self, out: &mut Vec<u8>, version: MetaVersion, row: &Row, now: i64) {
        out.extend_from_slice(b"{\"cells\":");
        row.write_cells(now, out);
        out.extend_from_slice(b",\"object\":");
        match self.include_object {
            IncludeObject::None => out.extend_from_slice(b"null"),
            IncludeObject::Metadata => partial(out, version, |out| row.write_metadata(out)),
            IncludeObject::Object => self.object(out, row),
        }
        out.push(b'}');
    }

    fn empty_cells(&self, mut name: Option<Value>) -> Value {
        let cells = self.resource.columns.iter().map(|column| match column.kind {
            ColumnType::Name => name.take().unwrap_or_else(|| json!("")),
            ColumnType::Integer => json!(0),
            ColumnType::Text | ColumnType::Age => json!(""),
        });
        cells.collect()
    }
}

/// The time in seconds since 1970, for ages.
pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// An ERROR event: the last event of a watch that cannot continue.
pub(super) fn error(out: &mut Vec<u8>, error: &ApiError) {
    let status = error.status().to_string();
    wrap(out, "ERROR", |out| out.extend_from_slice(status.as_bytes()));
}

fn wrap(out: &mut Vec<u8>, kind: &str, object: impl FnOnce(&mut Vec<u8>)) {
    let _ = write!(out, "{{\"type\":\"{kind}\",\"object\":");
    object(out);
    out.extend_from_slice(b"}\n");
}

fn meta(row: &Row) -> ListMeta {
    ListMeta { version: row.version, ..ListMeta::default() }
}

fn list_meta(meta: &ListMeta) -> Value {
    let mut json = json!({ "resourceVersion": meta.version.to_string() });
    if let Some(token) = &meta.continue_token {
        json["continue"] = json!(token);
    }
    if let Some(remaining) = meta.remaining {
        json["remainingItemCount"] = json!(remaining);
    }
    json
}

/// A PartialObjectMetadata around the `"metadata":{…}` that `metadata` writes.
fn partial(out: &mut Vec<u8>, version: MetaVersion, metadata: impl FnOnce(&mut Vec<u8>)) {
    let _ = write!(out, "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{}\",", version.api_version());
    metadata(out);
    out.push(b'}');
}

/// The `columnDefinitions` of each resource, by plural; they never change.
static COLUMNS: LazyLock<HashMap<&str, String>> = LazyLock::new(|| {
    RESOURCES.iter().map(|resource| (resource.plural, column_definitions(resource).to_string())).collect()
});

fn columns(resource: &Resource) -> &'static str {
    COLUMNS.get(resource.plural).expect("what is served is listed in RESOURCES")
}

fn column_definitions(resource: &Resource) -> Value {
    let columns = resource.columns.iter().map(|column| {
        let (kind, format) = match column.kind {
            ColumnType::Name => ("string", "name"),
            ColumnType::Text | ColumnType::Age => ("string", ""),
            ColumnType::Integer => ("integer", ""),
        };
        json!({
            "name": column.name,
            "type": kind,
            "format": format,
            "description": column.description,
            "priority": i32::from(column.wide),
        })
    });
    columns.collect()
}
