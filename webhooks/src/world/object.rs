//! The representation of an object in the world: its usage, and for governed kinds the part that policies use.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use gatehouse_apiservice::agones;
use gatehouse_apiservice::denial::{self, DenierKind};
use gatehouse_inventory::{Interner, Str, source::Raw};
use gatehouse_policy::{Kind, ObjectName, Subject};
use gatehouse_quota::{GroupResource, Usage};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{applied::Applied, kinds::Role};
use crate::looks;

/// The key of an object within its resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub namespace: Str,
    /// `metadata.name`.
    pub name: Str,
}

/// An object that exists, or existed by the last event of its watch.
#[derive(Debug)]
pub struct Held {
    /// The resource.
    pub resource: GroupResource,
    /// The namespace and name.
    pub key: ObjectKey,
    /// `metadata.uid`.
    pub uid: Str,
    /// `metadata.resourceVersion`; 0 if it is not a number.
    pub resource_version: u64,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// The usage that is charged. Neighbours with equal usage share an allocation.
    pub usage: Arc<Usage>,
    /// The usage without regard to owners: it is more than `usage` if Agones created the object for an owner that is
    /// charged.
    pub alone: Arc<Usage>,
    /// Whether it is being deleted and its dependents will be orphaned.
    pub orphans: bool,
    /// Why its usage could not be computed. Then only the object itself is counted.
    pub usage_error: Option<Str>,
    /// The fields that rules and quotas use; `None` for kinds that are only counted.
    pub text: Option<Text>,
    /// The objects in its `spec.dependsOn`.
    pub depends_on: Box<[ObjectName]>,
    /// The kind, if policies judge it.
    pub kind: Option<Kind>,
    /// The fields that Gatehouse owns by server-side apply; `None` if it owns none.
    pub applied: Option<Box<Applied>>,
    /// The policies that hold it back according to its own status; `None` while an attempt is in progress.
    pub held_back: Option<Box<[Str]>>,
}

/// The text of an object: `apiVersion`, `kind`, `metadata` without managedFields, and `spec`. A large object has only
/// the fields that rules use. Agones kinds also have the part of `status` that determines their usage.
#[derive(Debug, Clone)]
pub struct Text {
    json: Arc<RawValue>,
    is_whole: bool,
}

impl Held {
    /// The object as policies see it; `None` if policies do not judge its kind. If the object is not [kept
    /// whole](Self::is_whole), conditions cannot be evaluated on it.
    pub fn subject(&self) -> Option<Subject> {
        let subject = Subject::new(self.kind?, &self.key.namespace, &self.key.name, self.value()?);
        Some(if self.is_whole() {
            subject
        } else {
            subject.not_whole("the object is too large to be kept".to_owned())
        })
    }

    /// The same object with another usage.
    pub(super) fn counted_as(&self, usage: Arc<Usage>) -> Self {
        Self {
            resource: self.resource.clone(),
            key: self.key.clone(),
            uid: Str::clone(&self.uid),
            resource_version: self.resource_version,
            created: self.created,
            usage,
            alone: Arc::clone(&self.alone),
            orphans: self.orphans,
            usage_error: self.usage_error.clone(),
            text: self.text.clone(),
            depends_on: self.depends_on.clone(),
            kind: self.kind,
            applied: self.applied.clone(),
            held_back: self.held_back.clone(),
        }
    }

    /// The fields that rules and quotas use; `None` for kinds that are only counted.
    pub fn value(&self) -> Option<Value> {
        serde_json::from_str(self.text.as_ref()?.json.get()).ok()
    }

    /// Whether all fields that policies can use are kept.
    pub fn is_whole(&self) -> bool {
        self.text.as_ref().is_some_and(|text| text.is_whole)
    }
}

/// The largest text that is kept whole, in bytes, so that conditions need not read the object again.
const LONGEST: usize = 8 << 10;
/// The memory budget for reading an object, in bytes.
pub(super) const MOST: usize = 32 << 20;

/// Whether both are the same object in the same version with the same usage.
impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.uid == other.uid
            && self.resource_version == other.resource_version
            && Arc::ptr_eq(&self.usage, &other.usage)
    }
}

/// An object that was read, before its usage is computed.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) key: ObjectKey,
    pub(super) uid: Str,
    pub(super) resource_version: u64,
    pub(super) created: Option<Timestamp>,
    pub(super) orphans: bool,
    pub(super) text: Option<Text>,
    pub(super) depends_on: Box<[ObjectName]>,
    pub(super) kind: Option<Kind>,
    pub(super) applied: Option<Box<Applied>>,
    pub(super) held_back: Option<Box<[Str]>>,
    /// The fields that its usage is computed from.
    pub(super) value: Value,
}

/// The fields that are kept, each as JSON.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Kept<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    api_version: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: BTreeMap<Cow<'a, str>, &'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    spec: Option<&'a RawValue>,
    /// Of a RuntimeClass, which has no `spec`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    overhead: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    status: Option<&'a RawValue>,
}

/// The part of `status` that determines the usage of Agones kinds.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct KeptStatus<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    allocated_replicas: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    reserved_replicas: Option<&'a RawValue>,
}

/// What the status of a governed kind says of an attempt.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Reported<'a> {
    #[serde(borrow)]
    conditions: Vec<Condition<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Condition<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

/// The policies whose refusals a status repeats in the conditions that say what went wrong.
fn held_back(status: Option<&RawValue>, strings: &Interner) -> Option<Box<[Str]>> {
    let reported = status.and_then(|status| serde_json::from_str::<Reported<'_>>(status.get()).ok());
    let Reported { conditions } = reported.unwrap_or_default();
    let failed = conditions.iter().filter(|condition| condition.status == "False");
    let deniers = failed.flat_map(|condition| denial::deniers(&condition.message));
    let policies = deniers.filter(|denier| denier.kind == DenierKind::ReconcilePolicy);
    let mut names: Vec<_> = policies.map(|denier| strings.intern(denier.name)).collect();
    names.sort();
    names.dedup();
    let is_under_way = conditions.iter().any(|ready| ready.r#type == "Ready" && ready.status == "Unknown");
    (!names.is_empty() || !is_under_way).then(|| names.into())
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    creation_timestamp: Option<Timestamp>,
}

/// The fields that rules and quotas use. If they cannot be read, the metadata alone.
fn fields(raw: &Raw) -> Value {
    let read = |shape| gatehouse_object::read(raw.json(), shape, MOST).map(|read| read.value);
    read(&looks::FIELDS).or_else(|_| read(&looks::METADATA)).unwrap_or_default()
}

impl Text {
    fn of(kept: &Kept<'_>, fields: &Value) -> Result<Self, serde_json::Error> {
        let spec = kept.spec.map_or(0, |spec| spec.get().len());
        let length = kept.metadata.values().fold(spec, |length, field| length + field.get().len());
        let is_whole = length <= LONGEST;
        let json = if is_whole {
            serde_json::value::to_raw_value(kept)?
        } else {
            serde_json::value::to_raw_value(fields)?
        };
        Ok(Self { json: json.into(), is_whole })
    }
}

impl Document {
    /// Reads an object leniently: whatever is wrong with it, it must be known to exist.
    pub(super) fn read(raw: &Raw, role: Role, strings: &Interner) -> Result<Self, serde_json::Error> {
        let mut kept: Kept<'_> = serde_json::from_str(raw.json())?;
        let managed_fields = kept.metadata.remove("managedFields");
        let held_back = match role {
            Role::Governed(_) => held_back(kept.status, strings),
            _ => None,
        };
        let status = kept.status.take().filter(|_| role.is_of_agones());
        // A status that is not an object is ignored.
        let status = status.and_then(|status| serde_json::from_str::<KeptStatus<'_>>(status.get()).ok());
        let status = status.map(|status| serde_json::value::to_raw_value(&status)).transpose()?;
        kept.status = status.as_deref();
        let value = fields(raw);
        let text = role.keeps_text().then(|| Text::of(&kept, &value)).transpose()?;
        let metadata = value.get("metadata");
        let orphans = metadata.is_some_and(agones::orphans_dependents);
        let metadata = metadata.map(Metadata::deserialize).and_then(Result::ok).unwrap_or_default();
        let key = ObjectKey { namespace: strings.intern(raw.namespace()), name: Str::from(raw.name()) };
        let kind = match role {
            Role::Governed(kind) => Some(kind),
            _ => None,
        };
        let applied = kind.filter(|kind| kind.is_flux()).zip(managed_fields);
        let applied = applied.map(|(kind, fields)| Applied::of(kind, fields));
        let (value, depends_on) = match kind {
            // Agones kinds have no dependencies, and their status is needed.
            Some(_) if role.is_of_agones() => (value, Vec::new()),
            Some(kind) => {
                let subject = Subject::new(kind, &key.namespace, &key.name, value);
                let depends_on = gatehouse_policy::depends_on(&subject);
                (subject.object, depends_on)
            }
            None => (value, Vec::new()),
        };
        Ok(Self {
            key,
            uid: raw.uid().into(),
            resource_version: raw
                .resource_version()
                .and_then(|version| version.parse().ok())
                .unwrap_or_default(),
            created: metadata.creation_timestamp,
            orphans,
            text,
            depends_on: depends_on.into(),
            kind,
            applied: applied.filter(|applied| !applied.is_empty()).map(Box::new),
            held_back,
            value,
        })
    }
}
