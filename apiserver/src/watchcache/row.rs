//! One object of a view, rendered: everything a response needs of it is bytes to be copied.

use std::{ops::Range, sync::Arc};

use gatehouse_apiservice::{Time, view::API_VERSION};
use gatehouse_inventory::Str;
use serde_json::json;

/// Names a row within its resource; rows are listed in this order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// Empty for cluster-scoped resources.
    pub namespace: Str,
    /// Unique within the namespace.
    pub name: Str,
}

/// A label and its value.
pub type Label = (Str, Str);

/// What a view makes of an object, before it is known whether that is anything new.
#[derive(Debug)]
pub struct Draft {
    /// Namespace and name.
    pub key: RowKey,
    /// The same on every replica and after a restart.
    pub uid: uuid::Uuid,
    /// `metadata.creationTimestamp`.
    pub created: Time,
    /// `metadata.labels`, sorted by key.
    pub labels: Arc<[Label]>,
    /// The values of the resource's selectable fields, in its order.
    pub fields: Box<[Str]>,
    /// `status`, as JSON.
    pub status: Vec<u8>,
    /// The cells of its table row.
    pub cells: Cells,
}

/// The cells of a table row as a JSON array, with the ages left out: those are of the moment of reading.
#[derive(Debug, Default)]
pub struct Cells {
    /// `["local",12,` … `]`.
    pub json: Vec<u8>,
    /// Where in `json` the age since a time is to be put in, in order.
    pub ages: Vec<(usize, Option<Time>)>,
}

/// A rendered object at one version.
#[derive(Debug)]
pub struct Row {
    /// Namespace and name.
    pub key: RowKey,
    /// `metadata.resourceVersion`.
    pub version: u64,
    /// Sorted by key.
    pub labels: Arc<[Label]>,
    /// The values of the resource's selectable fields, in its order.
    pub fields: Box<[Str]>,
    created: Time,
    /// `"metadata":{…},"status":{…}}`, then the cells.
    bytes: Box<[u8]>,
    version_digits: Range<u32>,
    metadata_end: u32,
    cells_start: u32,
    ages: Box<[(u32, Option<Time>)]>,
}

impl Row {
    /// The row that `draft` becomes at `version`.
    pub(super) fn new(draft: Draft, version: u64) -> Self {
        let Draft { key, uid, created, labels, fields, status, cells } = draft;
        let mut bytes = Vec::with_capacity(320 + status.len() + cells.json.len());
        let (head, tail) = metadata(&key, uid, created, &labels);
        bytes.extend_from_slice(head.as_bytes());
        let digits = offset(bytes.len());
        bytes.extend_from_slice(version.to_string().as_bytes());
        let version_digits = digits..offset(bytes.len());
        bytes.extend_from_slice(tail.as_bytes());
        let metadata_end = offset(bytes.len());
        bytes.extend_from_slice(STATUS_KEY);
        bytes.extend_from_slice(&status);
        bytes.push(b'}');
        let cells_start = offset(bytes.len());
        bytes.extend_from_slice(&cells.json);
        let ages = cells.ages.into_iter().map(|(at, time)| (offset(at), time)).collect();
        Self {
            key,
            version,
            labels,
            fields,
            created,
            bytes: bytes.into(),
            version_digits,
            metadata_end,
            cells_start,
            ages,
        }
    }

    /// The same content at another version: what a DELETED event carries.
    pub(crate) fn at_version(&self, version: u64) -> Self {
        let digits = version.to_string();
        let Range { start, end } = self.version_digits.clone();
        let grown = |at: u32| at - (end - start) + offset(digits.len());
        let bytes = [&self.bytes[..start as usize], digits.as_bytes(), &self.bytes[end as usize..]].concat();
        Self {
            key: self.key.clone(),
            version,
            labels: Arc::clone(&self.labels),
            fields: self.fields.clone(),
            created: self.created,
            bytes: bytes.into(),
            version_digits: start..start + offset(digits.len()),
            metadata_end: grown(self.metadata_end),
            cells_start: grown(self.cells_start),
            ages: self.ages.clone(),
        }
    }

    /// Whether the row already says what `draft` says.
    pub(super) fn says(&self, draft: &Draft) -> bool {
        self.status() == draft.status && self.labels == draft.labels && self.created == draft.created
    }

    /// `"metadata":{…},"status":{…}}`: the object without its opening brace, apiVersion and kind, which are
    /// the same for all of a resource.
    pub fn object_tail(&self) -> &[u8] {
        &self.bytes[..self.cells_start as usize]
    }

    /// `"metadata":{…}`.
    pub fn metadata(&self) -> &[u8] {
        &self.bytes[..self.metadata_end as usize]
    }

    /// The `status` object.
    fn status(&self) -> &[u8] {
        &self.bytes[self.metadata_end as usize + STATUS_KEY.len()..self.cells_start as usize - 1]
    }

    /// The cells, as they are kept.
    pub fn cells(&self) -> &[u8] {
        &self.bytes[self.cells_start as usize..]
    }

    /// Where in [`Row::cells`] the age since a time is to be put in.
    pub fn ages(&self) -> impl Iterator<Item = (usize, Option<Time>)> {
        self.ages.iter().map(|(at, time)| (*at as usize, *time))
    }

    /// Bytes this row occupies, without the shared text of its strings.
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + self.bytes.len()
            + self.fields.len() * size_of::<Str>()
            + self.ages.len() * size_of::<(u32, Option<Time>)>()
    }
}

const STATUS_KEY: &[u8] = b",\"status\":";

/// Rows are bounded: messages, failures and paths are, so none comes near four gigabytes.
fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("a row is far smaller than 4 GiB")
}

/// `"metadata":{…}` in two halves, to go before and after the digits of the version.
fn metadata(key: &RowKey, uid: uuid::Uuid, created: Time, labels: &[Label]) -> (String, String) {
    use std::fmt::Write as _;
    let mut head = format!("\"metadata\":{{\"name\":{}", json!(&*key.name));
    if !key.namespace.is_empty() {
        let _ = write!(head, ",\"namespace\":{}", json!(&*key.namespace));
    }
    let _ = write!(head, ",\"uid\":\"{uid}\",\"resourceVersion\":\"");
    // A manifest that was never applied has none, which Kubernetes writes as null.
    let mut tail = match created {
        Time(0) => String::from("\",\"creationTimestamp\":null"),
        created => format!("\",\"creationTimestamp\":\"{created}\""),
    };
    if !labels.is_empty() {
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(key, value)| (key.to_string(), json!(&**value))).collect();
        let _ = write!(tail, ",\"labels\":{}", serde_json::Value::Object(labels));
    }
    tail.push('}');
    (head, tail)
}

/// `{"apiVersion":…,"kind":…,`: what goes before [`Row::object_tail`].
pub(crate) fn object_head(kind: &str) -> String {
    format!("{{\"apiVersion\":\"{API_VERSION}\",\"kind\":\"{kind}\",")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::watchcache::testing::draft;

    fn object(row: &Row) -> Value {
        serde_json::from_str(&(object_head("Test") + std::str::from_utf8(row.object_tail()).unwrap()))
            .unwrap()
    }

    #[test]
    fn a_row_is_a_whole_object() {
        let row = Row::new(draft("team-a", "local", "Ready"), 42);
        let object = object(&row);
        assert_eq!(object["kind"], "Test");
        assert_eq!(object["metadata"]["resourceVersion"], "42");
        assert_eq!(object["metadata"]["creationTimestamp"], "1970-01-01T00:00:07Z");
        assert_eq!(object["metadata"]["labels"]["gatehouse.dev/cluster"], "local");
        assert_eq!(object["status"]["state"], "Ready");
        assert!(row.says(&draft("team-a", "local", "Ready")));
        assert!(!row.says(&draft("team-a", "local", "Failed")));
    }

    #[test]
    fn another_version_changes_the_version_and_nothing_else() {
        let row = Row::new(draft("team-a", "local", "Ready"), 9);
        let later = row.at_version(10_000);
        assert_eq!(object(&later)["metadata"]["resourceVersion"], "10000");
        assert_eq!(object(&later)["status"], object(&row)["status"]);
        assert_eq!(later.cells(), row.cells());
        assert!(later.says(&draft("team-a", "local", "Ready")));
    }
}
