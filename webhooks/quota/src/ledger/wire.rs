//! Reads a ledger from a QuotaLedger object, and writes it.
//!
//! **Invariant:** a ledger is written with the seal of the object's next generation; a broken seal stays broken.

use std::{collections::BTreeMap, fmt, sync::Arc};

use gatehouse_apiservice::{policy::QuotaLedgerSpec, quantity::Quantity};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeStruct},
};

use super::{
    Block, Ledger, Place, Seal,
    block::{SEAL, Text},
};
use crate::{Amounts, Dimension, GroupResource};

/// Written in the place of the seal's generation: somebody else has written the ledger (`BROKEN`), or the ledger is
/// wrong although Gatehouse wrote it (`DOUBTED`).
const BROKEN: i64 = 0;
const DOUBTED: i64 = -1;

/// A QuotaLedger that cannot be read, so somebody else must have written it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: Invalid value: {value:?}")]
pub struct LedgerError {
    /// The field with the invalid value.
    pub field: String,
    /// The value.
    pub value: String,
}

/// A ledger to be written to an object.
pub(super) struct Written<'a> {
    ledger: &'a Ledger,
    /// `None` if the object is to be created, and has no uid yet.
    place: Option<Place<'a>>,
}

impl Ledger {
    /// Reads the ledger that an object holds.
    pub fn read(spec: &QuotaLedgerSpec, place: Place<'_>) -> Result<Self, LedgerError> {
        let mut ledger = Self {
            quota_uid: spec.quota_uid.clone(),
            used: quantities("spec.used", &spec.used)?,
            tickets: spec.tickets,
            ..Self::default()
        };
        for (dimension, quantity) in &ledger.used {
            if quantity.is_negative() {
                return Err(LedgerError {
                    field: format!("spec.used[{dimension}]"),
                    value: quantity.to_string(),
                });
            }
        }
        for (key, value) in &spec.revisions {
            let field = || format!("spec.revisions[{key}]");
            ledger.revisions.insert(parse(&field, key)?, parse(&field, value)?);
        }
        for (name, text) in &spec.entries {
            let parsed: Text = serde_json::from_str(text)
                .map_err(|_| LedgerError { field: format!("spec.entries[{name}]"), value: text.clone() })?;
            if name == SEAL {
                ledger.recall = parsed.recall;
                ledger.counts = parsed.counts;
                ledger.is_doubted = parsed.ticket == DOUBTED || parsed.is_of_future();
                ledger.seal = match parsed.is_ours() {
                    true if parsed.name == place.uid && parsed.ticket == place.generation => Seal::Whole,
                    true => Seal::Broken,
                    false if parsed.is_of_future() => Seal::Broken,
                    false => Seal::None,
                };
            } else {
                ledger.put(&Arc::from(name.as_str()), Some(block(name, text, &parsed)?));
            }
        }
        Ok(ledger)
    }

    /// The ledger as the next state of an existing object, or as a new object.
    pub fn written<'a>(&'a self, place: Option<Place<'a>>) -> impl Serialize + 'a {
        Written { ledger: self, place }
    }
}

/// A block; or an entry of a version without blocks, as a block of its possible usage beyond the counted usage.
fn block(name: &str, text: &str, parsed: &Text) -> Result<Block, LedgerError> {
    let amounts = |field: &str, texts: &BTreeMap<String, String>| -> Result<Amounts, LedgerError> {
        let field = format!("spec.entries[{name}].{field}");
        let quantities = quantities(&field, texts)?;
        if let Some((dimension, quantity)) = quantities.iter().find(|(_, quantity)| quantity.is_negative()) {
            return Err(LedgerError { field: format!("{field}[{dimension}]"), value: quantity.to_string() });
        }
        Ok(quantities.into_iter().collect())
    };
    let grown = amounts("peak", &parsed.peak)?.saturating_sub(&amounts("floor", &parsed.floor)?);
    let amount = grown.only(|dimension| !grown.get(dimension).is_negative());
    let is_ours = parsed.is_ours();
    let reserved = if is_ours { amounts("reserved", &parsed.reserved)? } else { amount.clone() };
    Ok(Block {
        amount,
        ticket: parsed.ticket,
        reserved,
        answered: parsed.recall,
        counts: parsed.counts,
        is_ours,
        text: text.into(),
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

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Ledger { quota_uid, used, revisions, tickets, .. } = self.ledger;
        let mut spec = serializer.serialize_struct("QuotaLedgerSpec", 5)?;
        spec.serialize_field("quotaUid", quota_uid)?;
        spec.serialize_field("used", &Quantities(used))?;
        spec.serialize_field("revisions", &Revisions(revisions))?;
        spec.serialize_field("tickets", tickets)?;
        spec.serialize_field("entries", &Entries(self))?;
        spec.end()
    }
}

struct Quantities<'a>(&'a BTreeMap<Dimension, Quantity>);

impl Serialize for Quantities<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let texts = self.0.iter();
        serializer.collect_map(
            texts.map(|(dimension, quantity)| (Display(dimension), Display(dimension.written(*quantity)))),
        )
    }
}

struct Revisions<'a>(&'a BTreeMap<GroupResource, u64>);

impl Serialize for Revisions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_map(self.0.iter().map(|(resource, revision)| (Display(resource), Display(revision))))
    }
}

struct Entries<'a>(&'a Written<'a>);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Written { ledger, place } = *self.0;
        let mut entries = serializer.serialize_map(None)?;
        // A broken seal stays broken: no object has generation 0 or -1.
        let broken = if ledger.is_doubted { DOUBTED } else { BROKEN };
        let seal = match place {
            Some(place) if ledger.seal == Seal::Broken => Some((place.uid, broken)),
            Some(place) => Some((place.uid, place.generation.saturating_add(1))),
            None if ledger.seal == Seal::Broken => Some(("", broken)),
            None => None,
        };
        if let Some((uid, generation)) = seal {
            let seal = Text::seal(uid, generation, ledger.recall, ledger.counts);
            entries.serialize_entry(SEAL, &seal.written())?;
        }
        for (name, block) in &ledger.blocks {
            entries.serialize_entry(&**name, &*block.text)?;
        }
        entries.end()
    }
}

struct Display<T>(T);

impl<T: fmt::Display> Serialize for Display<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
