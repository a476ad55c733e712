//! The fields of an object that Gatehouse owns by server-side apply, from `metadata.managedFields`.
//!
//! Annotations say what Gatehouse did, but everybody who may update the object can write them, so they are no proof.
//! Ownership is: if Gatehouse suspended an object, its field manager `gatehouse` owns the suspending field, and
//! admission denies changes of that manager's entries by others.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use gatehouse_installation::FIELD_MANAGER;
use gatehouse_inventory::Suspension;
use gatehouse_policy::{Kind, annotation};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::{Value, json, value::RawValue};

/// The annotations that Gatehouse may own, beside one that suspends an object.
const ANNOTATIONS: [&str; 6] = [
    annotation::FROZEN_BY,
    annotation::EXEMPT_FROM,
    annotation::SUSPENDED_AT,
    annotation::SUSPENDED_BY,
    annotation::SUSPEND_REASON,
    annotation::SUSPENDED_UNTIL,
];

/// The fields of an object that Gatehouse owns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Whether it owns the field or annotation that suspends an object of this kind.
    pub suspension: bool,
    /// The annotations about suspensions that it owns, in the order of their declaration.
    pub annotations: Vec<&'static str>,
}

/// An entry of `managedFields`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(borrow, default)]
    manager: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    operation: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    subresource: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    fields_v1: Option<&'a RawValue>,
}

/// The entries of Gatehouse's manager, whatever their operation. Others are skipped while parsing.
struct Own<'a>(Vec<Entry<'a>>);

/// The most entries of Gatehouse's manager that are accepted. There is one for each operation, subresource and version.
const MOST_ENTRIES: usize = 16;
/// The largest `fieldsV1` of an entry, in bytes. Those that Gatehouse writes have some hundred.
const LONGEST_FIELDS: usize = 4 << 10;

impl<'de> Deserialize<'de> for Own<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Own<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of entries")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Own<'de>, A::Error> {
                let mut own = Vec::new();
                while let Some(entry) = entries.next_element::<Entry<'_>>()? {
                    if entry.manager.as_deref() != Some(FIELD_MANAGER) {
                        continue;
                    }
                    let length = entry.fields_v1.map_or(0, |fields| fields.get().len());
                    if own.len() == MOST_ENTRIES || length > LONGEST_FIELDS {
                        return Err(A::Error::custom("more than Gatehouse writes"));
                    }
                    own.push(entry);
                }
                Ok(Own(own))
            }
        }
        deserializer.deserialize_seq(Entries)
    }
}

type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// The part of `fieldsV1` that is needed.
#[derive(Deserialize, Default)]
struct Tree<'a> {
    #[serde(borrow, default, rename = "f:metadata")]
    metadata: Metadata<'a>,
    #[serde(borrow, default, rename = "f:spec")]
    spec: Fields<'a>,
}

#[derive(Deserialize, Default)]
struct Metadata<'a> {
    #[serde(borrow, default, rename = "f:annotations")]
    annotations: Fields<'a>,
}

impl Applied {
    /// The fields that Gatehouse owns in an object of `kind`. If `managedFields` cannot be read, it owns none.
    pub fn of(kind: Kind, managed_fields: &RawValue) -> Self {
        let entries = serde_json::from_str(managed_fields.get()).map_or_else(|_| Vec::new(), |Own(own)| own);
        let own = entries.iter().find(|entry| {
            entry.operation.as_deref() == Some("Apply")
                && entry.subresource.as_deref().unwrap_or_default().is_empty()
        });
        let fields = own.and_then(|own| own.fields_v1);
        let tree = fields.and_then(|fields| serde_json::from_str::<Tree<'_>>(fields.get()).ok());
        let Tree { metadata: Metadata { annotations }, spec } = tree.unwrap_or_default();
        let holds = |name: &str| annotations.contains_key(format!("f:{name}").as_str());
        Self {
            suspension: match kind.suspension() {
                Suspension::Field => spec.contains_key("f:suspend"),
                Suspension::Annotation(name) => holds(name),
                Suspension::Never => false,
            },
            annotations: ANNOTATIONS.into_iter().filter(|name| holds(name)).collect(),
        }
    }

    /// Whether Gatehouse owns none of these fields.
    pub fn is_empty(&self) -> bool {
        !self.suspension && self.annotations.is_empty()
    }

    /// The entry of `managedFields` with this ownership, for an object in this version.
    pub fn entry(&self, kind: Kind, api_version: &str, now: jiff::Timestamp) -> Value {
        let mut annotations = serde_json::Map::new();
        let mut fields = json!({});
        match kind.suspension() {
            Suspension::Field if self.suspension => fields["f:spec"] = json!({"f:suspend": {}}),
            Suspension::Annotation(name) if self.suspension => {
                annotations.insert(format!("f:{name}"), json!({}));
            }
            _ => {}
        }
        annotations.extend(self.annotations.iter().map(|name| (format!("f:{name}"), json!({}))));
        fields["f:metadata"] = json!({"f:annotations": annotations});
        json!({
            "manager": FIELD_MANAGER,
            "operation": "Apply",
            "apiVersion": api_version,
            "time": jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string(),
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        })
    }
}

/// The fields in all entries of Gatehouse's manager, as paths after the operation and subresource. `None` if
/// `managedFields` cannot be read.
pub fn own_paths(managed_fields: &RawValue) -> Option<Vec<String>> {
    let Own(entries) = serde_json::from_str(managed_fields.get()).ok()?;
    let mut paths = Vec::new();
    for entry in &entries {
        let text = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
        let place = format!("{} {}", text(&entry.operation), text(&entry.subresource));
        let fields =
            entry.fields_v1.map_or(Ok(Value::Null), |fields| serde_json::from_str(fields.get())).ok()?;
        collect(&place, &fields, &mut paths);
    }
    Some(paths)
}

fn collect(path: &str, fields: &Value, paths: &mut Vec<String>) {
    paths.push(path.to_owned());
    for (name, below) in fields.as_object().into_iter().flatten() {
        collect(&format!("{path}/{name}"), below, paths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(value: &Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(value).unwrap()
    }

    fn of(kind: Kind, entries: &Value) -> Applied {
        Applied::of(kind, &raw(entries))
    }

    #[test]
    fn what_is_written_as_an_entry_is_read_again() {
        let applied =
            Applied { suspension: true, annotations: vec![annotation::FROZEN_BY, annotation::SUSPENDED_BY] };
        for kind in [Kind::Kustomization, Kind::ResourceSet, Kind::ArtifactGenerator] {
            let entry = applied.entry(kind, "x/v1", jiff::Timestamp::UNIX_EPOCH);
            assert_eq!(of(kind, &json!([{"manager": "flux"}, entry])), applied, "{kind:?}");
        }
    }

    #[test]
    fn only_an_apply_of_gatehouse_to_the_object_itself_counts() {
        let fields = json!({"f:spec": {"f:suspend": {}}});
        let entry = |manager: &str, operation: &str, subresource: &str| json!([{"manager": manager, "operation": operation, "subresource": subresource, "fieldsV1": fields}]);
        assert!(of(Kind::Kustomization, &entry("gatehouse", "Apply", "")).suspension);
        for other in [
            entry("gatehouse", "Update", ""),
            entry("gatehouse-not", "Apply", ""),
            entry("gatehouse", "Apply", "status"),
            json!([]),
            json!(null),
            json!("text"),
            json!([{"manager": 1}]),
        ] {
            assert!(of(Kind::Kustomization, &other).is_empty(), "{other}");
        }
        assert!(
            of(Kind::ResourceSet, &entry("gatehouse", "Apply", "")).is_empty(),
            "an annotation suspends it"
        );
    }

    #[test]
    fn paths_are_those_of_gatehouses_entries_alone() {
        let entries = json!([
            {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:path": {}}}},
            {"manager": "gatehouse", "operation": "Apply", "fieldsV1": {"f:spec": {"f:suspend": {}}}},
        ]);
        assert_eq!(
            own_paths(&raw(&entries)).unwrap(),
            ["Apply ", "Apply /f:spec", "Apply /f:spec/f:suspend"]
        );
        assert_eq!(own_paths(&raw(&json!([{"manager": []}]))), None);
        let long = json!({"manager": "gatehouse", "fieldsV1": {"f:x".repeat(2000): {}}});
        assert_eq!(own_paths(&raw(&json!([long]))), None, "of more than Gatehouse writes nothing is built");
        let many = vec![json!({"manager": "gatehouse"}); MOST_ENTRIES + 1];
        assert_eq!(own_paths(&raw(&json!(many))), None);
        let others = vec![json!({}); 100_000];
        assert_eq!(own_paths(&raw(&json!(others))), Some(Vec::new()));
    }
}
