//! Decodes the notices of a followed resource, and sends them to the writer. There is one for each resource.

use std::sync::{Arc, LazyLock};

use gatehouse_inventory::{
    Interner, Str,
    source::{Observer, Raw, WatchNotice},
};
use gatehouse_object::Shape;
use serde::de::{DeserializeOwned, Error as _};
use tokio::sync::mpsc;

use super::{
    kinds::Role,
    object::{Document, MOST, ObjectKey},
    snapshot::NamespaceInfo,
    state::{Applied, Change},
};

/// The number of an observation. A resource that is followed again has a new number, so that the last events of the
/// previous observation are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Slot(pub(super) u64);

/// The observer of a resource.
pub(super) struct Reader {
    pub(super) slot: Slot,
    pub(super) role: Role,
    /// `plural.group`, for log lines.
    pub(super) name: String,
    pub(super) strings: Arc<Interner>,
    pub(super) changes: mpsc::Sender<(Slot, Change)>,
}

impl Observer for Reader {
    async fn observe(&mut self, notice: WatchNotice<'_>) {
        let change = match notice {
            WatchNotice::Status(status) => Change::Status(status),
            WatchNotice::Restart => Change::Restart,
            WatchNotice::Apply(raw) => match read(raw, self.role, &self.strings) {
                Ok(applied) => Change::Apply(Box::new(applied)),
                Err(error) => {
                    let (namespace, name) = (raw.namespace(), raw.name());
                    tracing::error!(resource = %self.name, namespace, name, %error, "skipping an object that cannot be decoded");
                    return;
                }
            },
            WatchNotice::Delete(raw) => Change::Delete(key(raw, &self.strings)),
            WatchNotice::Synced => Change::Synced,
            WatchNotice::Reached(revision) => Change::Reached(revision),
        };
        // A closed channel means that the process is shutting down.
        let _ = self.changes.send((self.slot, change)).await;
    }
}

fn key(raw: &Raw, strings: &Interner) -> ObjectKey {
    ObjectKey { namespace: strings.intern(raw.namespace()), name: Str::from(raw.name()) }
}

/// Decodes an object by the role of its kind.
pub(super) fn read(raw: &Raw, role: Role, strings: &Interner) -> Result<Applied, serde_json::Error> {
    Ok(match role {
        Role::Namespace => {
            let read = namespace(raw.json()).map_err(serde_json::Error::custom)?;
            Applied::Namespace(key(raw, strings), read)
        }
        Role::Quota => Applied::Quota(key(raw, strings), parse(raw)?),
        Role::Parameters => Applied::Parameters(key(raw, strings), parse(raw)?),
        Role::Policy => Applied::Policy(key(raw, strings), parse(raw)?),
        Role::Ledger => Applied::Ledger(key(raw, strings), parse(raw)?),
        Role::Governed(_)
        | Role::Templated
        | Role::Template
        | Role::RuntimeClass
        | Role::Measured
        | Role::Counted => Applied::Object(Box::new(Document::read(raw, role, strings)?)),
    })
}

fn parse<T: DeserializeOwned>(raw: &Raw) -> Result<Arc<T>, serde_json::Error> {
    serde_json::from_str(raw.json()).map(Arc::new)
}

/// The metadata of a namespace. One whose labels cannot be read is an error: it is not one without labels.
pub(super) fn namespace(json: &str) -> Result<NamespaceInfo, gatehouse_object::Fault> {
    let read = gatehouse_object::read(json, &NAMESPACE, MOST)?;
    let metadata = &read.value["metadata"];
    let texts = |field: &str| {
        let entries = metadata[field].as_object().into_iter().flatten();
        entries.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
    };
    let text = |field: &str| metadata[field].as_str().map(str::to_owned);
    Ok(NamespaceInfo {
        labels: texts("labels"),
        annotations: texts("annotations"),
        created: text("creationTimestamp"),
        deleted: text("deletionTimestamp"),
        since: text("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(u64::MAX),
    })
}

/// What is read of a namespace.
static NAMESPACE: LazyLock<Shape> = LazyLock::new(|| {
    Shape::new(&[
        "metadata.annotations.*",
        "metadata.creationTimestamp",
        "metadata.deletionTimestamp",
        "metadata.labels.*",
        "metadata.resourceVersion",
    ])
});
