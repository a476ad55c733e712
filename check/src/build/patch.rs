//! Patches: JSON 6902, and strategic merge as kustomize does it for kinds with an unknown schema.
//!
//! Every governed kind is a custom resource, so lists are replaced and not merged.
//!
//! **Invariant:** Values that a patch adds keep their position in the patch; fields that it removes are recorded with
//! the position of the patch.

use gatehouse_inventory::yaml::{At, Data, Entry, Node};

/// A field that a patch removed, and the position in the patch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Removed {
    /// The path, as findings write it.
    pub(crate) field: String,
    pub(crate) at: At,
}

impl Removed {
    /// Whether the field itself or an enclosing field was removed.
    pub(crate) fn is(&self, field: &str) -> bool {
        field
            .strip_prefix(self.field.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }
}

/// The result of a patch.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    Patched(Vec<Removed>),
    /// `$patch: delete`.
    Deleted,
}

/// The only directive that has a meaning for kinds with an unknown schema.
const DIRECTIVE: &str = "$patch";

/// Merges `patch` into `object`; the error says what is invalid.
pub(crate) fn merge(object: &mut Node, patch: &Node) -> Result<Outcome, String> {
    let mut removed = Vec::new();
    let stays = merge_map(object, patch, "", &mut removed)?;
    Ok(if stays { Outcome::Patched(removed) } else { Outcome::Deleted })
}

/// Returns false if the whole map is to be removed.
fn merge_map(
    into: &mut Node,
    patch: &Node,
    within: &str,
    removed: &mut Vec<Removed>,
) -> Result<bool, String> {
    match patch.get(DIRECTIVE).map(|value| value.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("delete") => return Ok(false),
        Some("replace") => {
            // kustomize replaces no whole object.
            if !within.is_empty() {
                *into = clean(patch);
            }
            return Ok(true);
        }
        Some(strategy) => return Err(format!("unknown patch strategy {strategy:?}")),
    }
    for Entry { key, at, value, .. } in patch.entries().iter().filter(|entry| &*entry.key != DIRECTIVE) {
        let field = if within.is_empty() { key.to_string() } else { format!("{within}.{key}") };
        match (&value.data, into.get_mut(key)) {
            (Data::Null, known) => {
                if known.is_some() {
                    into.remove(key);
                    removed.push(Removed { field, at: *at });
                }
            }
            (Data::Map(_), Some(known)) if matches!(known.data, Data::Map(_)) => {
                if !merge_map(known, value, &field, removed)? {
                    into.remove(key);
                    removed.push(Removed { field, at: *at });
                }
            }
            (Data::Map(_), _) if value.get(DIRECTIVE).and_then(Node::as_str) == Some("delete") => {
                if into.remove(key).is_some() {
                    removed.push(Removed { field, at: *at });
                }
            }
            (_, Some(known)) if !is_alike(known, value) => {
                return Err(format!(
                    "{field}: wrong node kind: a map, a list and a scalar do not take each other's place"
                ));
            }
            _ => into.set(key, *at, clean(value)),
        }
    }
    Ok(true)
}

/// Whether both are maps, lists or scalars; null matches all of them.
fn is_alike(one: &Node, other: &Node) -> bool {
    let kind = |node: &Node| match node.data {
        Data::Null => None,
        Data::Map(_) => Some(0),
        Data::List(_) => Some(1),
        _ => Some(2),
    };
    kind(one).zip(kind(other)).is_none_or(|(one, other)| one == other)
}

/// The values that a patch adds, without its directives. Lists stay as they are written.
fn clean(patch: &Node) -> Node {
    let data = match &patch.data {
        Data::Map(entries) => Data::Map(
            entries
                .iter()
                .filter(|entry| &*entry.key != DIRECTIVE && entry.value.data != Data::Null)
                .map(|entry| Entry { value: clean(&entry.value), ..entry.clone() })
                .collect(),
        ),
        data => data.clone(),
    };
    Node { at: patch.at, data }
}

/// How deep a patch may nest values. Objects of the API are shallower; deeper ones would overflow the stack.
const DEEPEST: usize = 100;
/// How many values a patch may copy altogether: each copy can double the object.
const MOST_COPIED: usize = 100_000;

/// Applies the operations of a JSON 6902 patch in order; the error says which one is invalid. Kustomize's library is more
/// lenient than the standard: `replace` adds a field of a map, `copy` copies null for an absent one, an index may count
/// from the end, and whatever stands before the first slash of a path is ignored.
pub(crate) fn apply(object: &mut Node, operations: &Node) -> Result<Vec<Removed>, String> {
    let mut removed = Vec::new();
    let mut copied = 0;
    for operation in operations.items() {
        let text = |field: &str| operation.get(field).and_then(Node::as_str);
        let (Some(op), Some(path)) = (text("op"), text("path")) else {
            return Err("an operation without op or path".to_owned());
        };
        let wrong = |why: &str| format!("{op} {path}: {why}");
        let pointer = pointer(path).ok_or_else(|| wrong("not a JSON pointer"))?;
        let at = operation.at;
        let null = || Node { at, data: Data::Null };
        let value = || operation.get("value").cloned().unwrap_or_else(null);
        let from = || {
            let from = text("from").and_then(self::pointer).ok_or_else(|| wrong("no from"))?;
            Ok::<_, String>(from)
        };
        let place = operation.entry("value").map_or(at, |entry| entry.value.at);
        let placed = match op {
            "add" | "replace" => operation.get("value"),
            "move" | "copy" => find(object, &from()?),
            _ => None,
        };
        let (values, depth) = placed.map_or((0, 0), size);
        if op == "copy" {
            copied += values;
        }
        if pointer.len() + depth > DEEPEST || copied > MOST_COPIED {
            return Err(wrong("the object becomes too large"));
        }
        let done = match op {
            "add" => add(object, &pointer, value(), place),
            "replace" => put(object, &pointer, value(), place),
            "remove" => take(object, &pointer).map(|_| removed.push(Removed { field: field(&pointer), at })),
            "move" => take(object, &from()?).and_then(|node| add(object, &pointer, node, at)),
            "copy" => {
                let from = from()?;
                let absent = || is_in_map(object, &from).then(null);
                let copied = find(object, &from).cloned().or_else(absent);
                copied.and_then(|node| add(object, &pointer, node, at))
            }
            "test" => {
                let expected = operation.get("value").ok_or_else(|| wrong("no value"))?.to_value();
                let found = find(object, &pointer).map(Node::to_value);
                let absent = || is_in_map(object, &pointer).then_some(serde_json::Value::Null);
                if found.or_else(absent).as_ref() == Some(&expected) {
                    Some(())
                } else {
                    return Err(wrong("the test fails"));
                }
            }
            _ => return Err(wrong("no such operation")),
        };
        done.ok_or_else(|| wrong("the object has no such field"))?;
    }
    Ok(removed)
}

/// How many values a node has, and how deep they are nested.
fn size(node: &Node) -> (usize, usize) {
    let (mut values, mut deepest) = (0, 0);
    let mut left = vec![(node, 1)];
    while let Some((node, depth)) = left.pop() {
        values += 1;
        deepest = deepest.max(depth);
        match &node.data {
            Data::List(items) => left.extend(items.iter().map(|item| (item, depth + 1))),
            Data::Map(entries) => left.extend(entries.iter().map(|entry| (&entry.value, depth + 1))),
            _ => {}
        }
    }
    (values, deepest)
}

/// The parts of a JSON pointer; empty for the whole object.
fn pointer(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let (_, path) = text.split_once('/')?;
    Some(path.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect())
}

/// Converts a JSON pointer to a path, as findings write it.
fn field(pointer: &[String]) -> String {
    let mut field = String::new();
    for part in pointer {
        if part.parse::<usize>().is_ok() {
            field = format!("{field}[{part}]");
        } else if field.is_empty() {
            field.clone_from(part);
        } else {
            field = format!("{field}.{part}");
        }
    }
    field
}

/// The index that a part of a pointer means in a list of `count` items; a negative one counts from the end.
fn index(part: &str, count: usize) -> Option<usize> {
    let index: i64 = part.parse().ok()?;
    if index < 0 {
        count.checked_sub(usize::try_from(index.unsigned_abs()).ok()?)
    } else {
        usize::try_from(index).ok()
    }
}

fn find<'a>(node: &'a Node, pointer: &[String]) -> Option<&'a Node> {
    pointer.iter().try_fold(node, |node, part| match &node.data {
        Data::List(items) => items.get(index(part, items.len())?),
        _ => node.get(part),
    })
}

/// Whether a pointer leads to a field of a map, be it there or not.
fn is_in_map(node: &Node, pointer: &[String]) -> bool {
    let parent = pointer.split_last().and_then(|(_, path)| find(node, path));
    parent.is_some_and(|parent| matches!(parent.data, Data::Map(_)))
}

fn parent<'a>(node: &'a mut Node, pointer: &'a [String]) -> Option<(&'a mut Node, &'a str)> {
    let (last, path) = pointer.split_last()?;
    let node = path.iter().try_fold(node, |node, part| match &mut node.data {
        Data::List(items) => {
            let index = index(part, items.len())?;
            items.get_mut(index)
        }
        Data::Map(entries) => {
            entries.iter_mut().find(|entry| *entry.key == **part).map(|entry| &mut entry.value)
        }
        _ => None,
    })?;
    Some((node, last))
}

fn add(node: &mut Node, pointer: &[String], value: Node, at: At) -> Option<()> {
    let (node, last) = parent(node, pointer)?;
    match &mut node.data {
        Data::List(items) => {
            let index = if last == "-" { items.len() } else { index(last, items.len() + 1)? };
            (index <= items.len()).then(|| items.insert(index, value))
        }
        Data::Map(_) => {
            node.set(last, at, value);
            Some(())
        }
        _ => None,
    }
}

fn put(node: &mut Node, pointer: &[String], value: Node, at: At) -> Option<()> {
    if pointer.is_empty() {
        *node = value;
        return Some(());
    }
    let (node, last) = parent(node, pointer)?;
    match &mut node.data {
        Data::List(items) => {
            let index = index(last, items.len())?;
            *items.get_mut(index)? = value;
            Some(())
        }
        Data::Map(_) => {
            node.set(last, at, value);
            Some(())
        }
        _ => None,
    }
}

fn take(node: &mut Node, pointer: &[String]) -> Option<Node> {
    let (node, last) = parent(node, pointer)?;
    match &mut node.data {
        Data::List(items) => {
            let index = index(last, items.len())?;
            (index < items.len()).then(|| items.remove(index))
        }
        _ => node.remove(last).map(|entry| entry.value),
    }
}
