//! A row: one object of a view, rendered to bytes when it changes, so that a response only copies them.

use std::{ops::RangeBounds, sync::Arc};

use gatehouse_apiservice::{
    Time,
    view::{API_VERSION, CLUSTER_LABEL},
};
use gatehouse_inventory::Str;
use serde_json::json;

use super::packed::{Packer, unpack};

/// The name of a row within its resource. Lists are in this order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// Empty for cluster-scoped resources.
    pub namespace: Str,
    /// Unique within the namespace.
    pub name: Str,
}

/// A label and its value.
pub type Label = (Str, Str);

/// What a view renders for an object, before it is compared with the current row.
#[derive(Debug)]
pub struct Draft {
    /// Namespace and name.
    pub key: RowKey,
    /// `metadata.uid`; the same on every replica and after a restart.
    pub uid: uuid::Uuid,
    /// `metadata.creationTimestamp`.
    pub created: Time,
    /// Its labels and selectable fields.
    pub selectable: Arc<Selectable>,
    /// `status` as JSON.
    pub status: Vec<u8>,
    /// The cells of its table row.
    pub cells: Cells,
}

/// The cells of a Table row as a JSON array without the ages, which depend on the time of the request.
#[derive(Debug, Default)]
pub struct Cells {
    /// `["local",12,` … `]`.
    pub json: Vec<u8>,
    /// The offsets in `json` at which an age belongs, ascending, each with the time that the age counts from.
    /// `None` renders an empty cell.
    pub ages: Vec<(usize, Option<Time>)>,
}

/// A rendered object at one version.
#[derive(Debug)]
pub struct Row {
    /// `metadata.resourceVersion`.
    pub version: u64,
    content: Content,
}

/// What rows are selected by. Rows with the same labels and fields share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selectable {
    /// `metadata.labels`, sorted by key.
    pub labels: Arc<[Label]>,
    /// The values of the resource's selectable fields, in the resource's order.
    pub fields: Box<[Str]>,
}

/// The content of a row without its version.
#[derive(Debug, Clone)]
pub(super) struct Content {
    key: RowKey,
    selectable: Arc<Selectable>,
    /// `"metadata":{…},"status":{…}}`, then the cells.
    packed: Box<[u8]>,
    metadata_end: u32,
    cells_start: u32,
}

impl Content {
    pub(super) fn new(draft: Draft) -> Self {
        let Draft { key, uid, created, selectable, status, cells } = draft;
        let mut packer = Packer::default();
        metadata(&mut packer, &key, uid, created, &selectable.labels);
        let metadata_end = offset(&packer);
        packer.text(&[b",\"status\":", status.as_slice(), b"}"].concat());
        let cells_start = offset(&packer);
        let mut written = 0;
        for (at, since) in cells.ages {
            packer.text(&cells.json[written..at]);
            packer.age(since);
            written = at;
        }
        packer.text(&cells.json[written..]);
        Self { key, selectable, packed: packer.finish(), metadata_end, cells_start }
    }
}

impl Row {
    /// A row of this content at `version`.
    pub(super) fn new(content: Content, version: u64) -> Self {
        Self { version, content }
    }

    /// The same content at another version, as a DELETED event carries it.
    pub(crate) fn at_version(&self, version: u64) -> Self {
        Self { version, content: self.content.clone() }
    }

    /// Whether the row has this content already.
    pub(super) fn has_content(&self, content: &Content) -> bool {
        self.content.packed == content.packed
    }

    /// Namespace and name.
    pub fn key(&self) -> &RowKey {
        &self.content.key
    }

    /// `metadata.labels`, sorted by key.
    pub fn labels(&self) -> &[Label] {
        &self.content.selectable.labels
    }

    /// The cluster that the row is about.
    pub fn cluster(&self) -> Option<&Str> {
        self.labels().iter().find(|(key, _)| **key == *CLUSTER_LABEL).map(|(_, cluster)| cluster)
    }

    /// The values of the resource's selectable fields, in the resource's order.
    pub fn fields(&self) -> &[Str] {
        &self.content.selectable.fields
    }

    /// Writes `"metadata":{…},"status":{…}}`: the object after its apiVersion and kind, see `object_head`.
    pub fn write_object(&self, out: &mut Vec<u8>) {
        self.write(..self.content.cells_start, 0, out);
    }

    /// Writes `"metadata":{…}`.
    pub fn write_metadata(&self, out: &mut Vec<u8>) {
        self.write(..self.content.metadata_end, 0, out);
    }

    /// Writes the cells of the Table row, a JSON array, with ages as of `now` in seconds since 1970.
    pub fn write_cells(&self, now: i64, out: &mut Vec<u8>) {
        self.write(self.content.cells_start.., now, out);
    }

    fn write(&self, part: impl RangeBounds<u32>, now: i64, out: &mut Vec<u8>) {
        let part = (part.start_bound().map(|at| *at as usize), part.end_bound().map(|at| *at as usize));
        unpack(&self.content.packed, part, self.version, now, out);
    }

    /// The bytes that this row occupies, without what it shares with other rows.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.content.packed.len()
    }
}

fn offset(packer: &Packer) -> u32 {
    u32::try_from(packer.len()).expect("messages, failures and paths are bounded, and so are rows")
}

/// Packs `"metadata":{…}`.
fn metadata(packer: &mut Packer, key: &RowKey, uid: uuid::Uuid, created: Time, labels: &[Label]) {
    use std::fmt::Write as _;
    let mut text = format!("\"metadata\":{{\"name\":{}", json!(&*key.name));
    // Writing to a string cannot fail.
    if !key.namespace.is_empty() {
        let _ = write!(text, ",\"namespace\":{}", json!(&*key.namespace));
    }
    text.push_str(",\"uid\":\"");
    packer.text(text.as_bytes());
    packer.uid(uid);
    packer.text(b"\",\"resourceVersion\":\"");
    packer.version();
    // A manifest that was never applied has no creation time, which Kubernetes writes as null.
    let mut text = match created {
        Time(0) => String::from("\",\"creationTimestamp\":null"),
        created => format!("\",\"creationTimestamp\":\"{created}\""),
    };
    if !labels.is_empty() {
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(key, value)| (key.to_string(), json!(&**value))).collect();
        let _ = write!(text, ",\"labels\":{}", serde_json::Value::Object(labels));
    }
    text.push('}');
    packer.text(text.as_bytes());
}

/// `{"apiVersion":…,"kind":…,`: what precedes [`Row::write_object`].
pub(crate) fn object_head(kind: &str) -> String {
    format!("{{\"apiVersion\":\"{API_VERSION}\",\"kind\":\"{kind}\",")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::watchcache::testing::draft;

    fn row(state: &str, version: u64) -> Row {
        Row::new(Content::new(draft("team-a", "local", state)), version)
    }

    fn object(row: &Row) -> Value {
        let mut text = object_head("Test").into_bytes();
        row.write_object(&mut text);
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn a_row_is_a_whole_object() {
        let row = row("Ready", 42);
        let object = object(&row);
        assert_eq!(object["kind"], "Test");
        assert_eq!(object["metadata"]["resourceVersion"], "42");
        assert_eq!(object["metadata"]["creationTimestamp"], "1970-01-01T00:00:07Z");
        assert_eq!(object["metadata"]["labels"]["gatehouse.dev/cluster"], "local");
        assert_eq!(object["status"]["state"], "Ready");
        assert!(row.has_content(&Content::new(draft("team-a", "local", "Ready"))));
        assert!(!row.has_content(&Content::new(draft("team-a", "local", "Failed"))));
    }

    #[test]
    fn another_version_changes_the_version_and_nothing_else() {
        let row = row("Ready", 9);
        let later = row.at_version(10_000);
        assert_eq!(object(&later)["metadata"]["resourceVersion"], "10000");
        assert_eq!(object(&later)["status"], object(&row)["status"]);
        assert!(later.has_content(&row.content));
    }

    #[test]
    fn ages_are_those_of_the_moment_of_reading() {
        let mut cells = Vec::new();
        row("Ready", 9).write_cells(67, &mut cells);
        assert_eq!(cells, b"[\"local\",\"60s\"]");
    }
}
