//! Builds kustomizations with unsupported fields by `kubectl kustomize`, if it is installed.
//!
//! Its output has no positions. Values that are equal to those of the native build keep their positions; other values
//! get the position of the unsupported field, which must have caused them.

use std::{path::Path, process::Command, sync::Arc};

use gatehouse_inventory::yaml::{At, Data, Entry, Node};

use crate::{
    build::{Built, Id},
    read,
};

/// The objects of a kustomization; `None` if kubectl cannot be run or fails. `at`: the position of the unsupported
/// field.
pub(crate) fn built(folder: &Path, native: &[Built], at: At) -> Option<Vec<Built>> {
    let output = Command::new("kubectl").arg("kustomize").arg(folder).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let documents = read::documents(read::text(&output.stdout).ok()?, at.file).ok()?;
    let objects = documents.into_iter().filter_map(|mut node| {
        node.place(at);
        let id = Id::of(&node)?;
        let known = native.iter().find(|object| object.id == id);
        let place = known.map_or(at, |known| known.at);
        let node = match known.map(|known| known.node.as_deref()) {
            Some(Some(known)) => Some(blended(known, node)),
            // Neither policies nor quotas read it.
            Some(None) => None,
            None => Some(node),
        };
        let mut object = Built::new(id, node.map(Arc::new), place);
        object.removed = known.map(|known| known.removed.clone()).unwrap_or_default();
        Some(object)
    });
    Some(objects.collect())
}

/// `other`, with the positions of `known` where the values are equal.
fn blended(known: &Node, other: Node) -> Node {
    if known.to_value() == other.to_value() {
        return known.clone();
    }
    let Node { at, data } = other;
    let data = match data {
        Data::Map(entries) => Data::Map(
            entries
                .into_iter()
                .map(|Entry { key, is_word, at, value }| match known.entry(&key) {
                    Some(before) => {
                        let same =
                            before.value.to_value() == value.to_value() || !before.value.entries().is_empty();
                        Entry {
                            at: if same { before.at } else { at },
                            value: blended(&before.value, value),
                            key,
                            is_word,
                        }
                    }
                    None => Entry { key, is_word, at, value },
                })
                .collect(),
        ),
        Data::List(items) if items.len() == known.items().len() => Data::List(
            items.into_iter().zip(known.items()).map(|(item, known)| blended(known, item)).collect(),
        ),
        data => data,
    };
    Node { at, data }
}
