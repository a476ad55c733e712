//! The ledger as the QuotaLedger object holds it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use gatehouse_apiservice::{
    policy::{LedgerEntry, QuotaLedgerSpec},
    quantity::Quantity,
};
use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeMap, SerializeStruct},
};

use super::{Entry, Ledger};
use crate::{Amounts, Dimension, GroupResource};

/// A QuotaLedger that somebody else must have written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: Invalid value: {value:?}")]
pub struct LedgerError {
    /// What makes no sense.
    pub field: String,
    /// What it says.
    pub value: String,
}

impl TryFrom<&QuotaLedgerSpec> for Ledger {
    type Error = LedgerError;

    fn try_from(spec: &QuotaLedgerSpec) -> Result<Self, LedgerError> {
        let used = quantities("spec.used", &spec.used)?;
        let mut revisions = BTreeMap::new();
        for (key, value) in &spec.revisions {
            let field = || format!("spec.revisions[{key}]");
            revisions.insert(parse(&field, key)?, parse(&field, value)?);
        }
        let mut entries = BTreeMap::new();
        for (uid, text) in &spec.entries {
            let entry = parsed(uid, text)?;
            entries.insert(Arc::from(uid.as_str()), read(uid, &entry)?);
        }
        let charge = Self::sum(&entries);
        Ok(Self {
            quota_uid: spec.quota_uid.clone(),
            used,
            revisions,
            tickets: spec.tickets,
            entries,
            charge,
        })
    }
}

fn parsed(uid: &str, text: &str) -> Result<LedgerEntry, LedgerError> {
    serde_json::from_str(text)
        .map_err(|_| LedgerError { field: format!("spec.entries[{uid}]"), value: text.to_owned() })
}

fn read(uid: &str, entry: &LedgerEntry) -> Result<Entry, LedgerError> {
    let field = |name: &str| format!("spec.entries[{uid}].{name}");
    let amounts = |name: &str, amounts: &BTreeMap<String, String>| -> Result<Amounts, LedgerError> {
        Ok(quantities(&field(name), amounts)?.into_iter().collect())
    };
    let at = entry.resource_version.as_deref();
    Ok(Entry {
        resource: parse(&|| field("resource"), &entry.resource)?,
        namespace: entry.namespace.as_str().into(),
        name: entry.name.as_str().into(),
        ticket: entry.ticket,
        at: at.map(|at| parse(&|| field("resourceVersion"), at)).transpose()?,
        floor: amounts("floor", &entry.floor)?,
        peak: amounts("peak", &entry.peak)?,
    })
}

fn quantities(
    field: &str,
    texts: &BTreeMap<String, String>,
) -> Result<BTreeMap<Dimension, Quantity>, LedgerError> {
    let mut quantities = BTreeMap::new();
    for (key, value) in texts {
        let field = || format!("{field}[{key}]");
        quantities.insert(parse(&field, key)?, parse(&field, value)?);
    }
    Ok(quantities)
}

fn parse<T: std::str::FromStr>(field: &dyn Fn() -> String, value: &str) -> Result<T, LedgerError> {
    value.parse().map_err(|_| LedgerError { field: field(), value: value.to_owned() })
}

/// As [`QuotaLedgerSpec`] is written, without making one: this is done for each write, with all entries.
impl Serialize for Ledger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut spec = serializer.serialize_struct("QuotaLedgerSpec", 5)?;
        spec.serialize_field("quotaUid", &self.quota_uid)?;
        spec.serialize_field("used", &Quantities(self.used.iter()))?;
        spec.serialize_field("revisions", &Revisions(&self.revisions))?;
        spec.serialize_field("tickets", &self.tickets)?;
        spec.serialize_field("entries", &Entries(&self.entries))?;
        spec.end()
    }
}

struct Quantities<I>(I);

impl<'a, I: Iterator<Item = (&'a Dimension, &'a Quantity)> + Clone> Serialize for Quantities<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let texts =
            self.0.clone().map(|(dimension, quantity)| (Text(dimension), Text(dimension.written(*quantity))));
        serializer.collect_map(texts)
    }
}

struct Revisions<'a>(&'a BTreeMap<GroupResource, u64>);

impl Serialize for Revisions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(resource, revision)| (Text(resource), Text(revision))))
    }
}

struct Entries<'a>(&'a BTreeMap<Arc<str>, Entry>);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries = serializer.serialize_map(Some(self.0.len()))?;
        for (uid, entry) in self.0 {
            let text = serde_json::to_string(&Written(entry)).map_err(S::Error::custom)?;
            entries.serialize_entry(&**uid, &text)?;
        }
        entries.end()
    }
}

struct Written<'a>(&'a Entry);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Entry { resource, namespace, name, ticket, at, floor, peak } = self.0;
        let mut entry = serializer.serialize_map(None)?;
        entry.serialize_entry("resource", &Text(resource))?;
        entry.serialize_entry("namespace", &**namespace)?;
        entry.serialize_entry("name", &**name)?;
        entry.serialize_entry("ticket", ticket)?;
        if let Some(at) = at {
            entry.serialize_entry("resourceVersion", &Text(at))?;
        }
        for (field, amounts) in [("floor", floor), ("peak", peak)] {
            if !amounts.is_empty() {
                entry.serialize_entry(field, &Quantities(amounts.iter()))?;
            }
        }
        entry.end()
    }
}

struct Text<T>(T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
