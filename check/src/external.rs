//! What is not built here, built by `kubectl kustomize` where that is installed.
//!
//! Its result says what, and not where from. What it has like the build here keeps its place; what it has otherwise was
//! brought by the field that is not built here, and gets the place of that.

use std::{path::Path, process::Command, sync::Arc};

use gatehouse_inventory::yaml::{At, Data, Entry, Node};

use crate::{
    build::{Built, Id},
    read,
};

/// The objects of a kustomization: none if kubectl cannot be run, or refuses. `at`: the field that is not built here.
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
            // Neither policies nor quotas look into it.
            Some(None) => None,
            None => Some(node),
        };
        let mut object = Built::new(id, node.map(Arc::new), place);
        object.removed = known.map(|known| known.removed.clone()).unwrap_or_default();
        Some(object)
    });
    Some(objects.collect())
}

/// `other`, with the places of `known` for what is the same.
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
