//! A value, with the place of each of its parts.

use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::scalar;

/// A place in a file, as editors count: line and column from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct At {
    /// The number of the file, assigned by the caller.
    pub file: u32,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where the value begins.
    pub at: At,
    /// The value.
    pub data: Data,
}

/// The value of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A word that only YAML 1.1 reads as a boolean, and that boolean. kubectl reads `yes` as a boolean, kustomize as a
    /// text.
    Word(Arc<str>, bool),
    /// A number that JSON can represent.
    Number(Number),
    /// A text and its style. Equal short texts of many objects are kept once.
    Text(Arc<str>, Style),
    /// A map, in the order of the file.
    Map(Vec<Entry>),
    /// A list.
    List(Vec<Node>),
}

/// The style of a text, which decides how places within the text are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A literal block (`|`). Its lines are those of the file without the indentation.
    Literal {
        /// The number of spaces before each line.
        indent: u16,
    },
    /// Without quotes. A replacement for it is parsed as YAML.
    Plain,
    /// Quoted or folded.
    Quoted,
}

/// A key of a map and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key, as it is written. Equal keys of many objects are kept once.
    pub key: Arc<str>,
    /// Whether the key is a boolean of YAML 1.1 only: kubectl reads `on` as `true`, kustomize as a string.
    pub is_word: bool,
    /// The place of the key.
    pub at: At,
    /// The value.
    pub value: Node,
}

impl Entry {
    /// The key, as kubectl has it.
    pub fn name(&self) -> &str {
        match scalar::boolean(&self.key).filter(|_| self.is_word) {
            Some(true) => "true",
            Some(false) => "false",
            None => &self.key,
        }
    }
}

impl Node {
    /// A plain text at `at`.
    pub fn text(text: &str, at: At) -> Self {
        Self { at, data: Data::Text(text.into(), Style::Plain) }
    }

    /// An empty map.
    pub fn map(at: At) -> Self {
        Self { at, data: Data::Map(Vec::new()) }
    }

    /// Converts a JSON value; all parts get the same place.
    pub fn of(value: &Value, at: At) -> Self {
        let data = match value {
            Value::Null => Data::Null,
            Value::Bool(value) => Data::Bool(*value),
            Value::Number(number) => Data::Number(number.clone()),
            Value::String(text) => Data::Text(text.as_str().into(), Style::Plain),
            Value::Array(items) => Data::List(items.iter().map(|item| Self::of(item, at)).collect()),
            Value::Object(fields) => Data::Map(
                fields
                    .iter()
                    .map(|(key, value)| Entry {
                        key: key.as_str().into(),
                        is_word: false,
                        at,
                        value: Self::of(value, at),
                    })
                    .collect(),
            ),
        };
        Self { at, data }
    }

    /// Converts the value to JSON.
    pub fn to_value(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(value) | Data::Word(_, value) => Value::Bool(*value),
            Data::Number(number) => Value::Number(number.clone()),
            Data::Text(text, _) => Value::String(text.to_string()),
            Data::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Data::Map(entries) => Value::Object(Self::fields(entries)),
        }
    }

    fn fields(entries: &[Entry]) -> Map<String, Value> {
        entries.iter().map(|entry| (entry.name().to_owned(), entry.value.to_value())).collect()
    }

    /// Sets the place of the value and all of its parts.
    pub fn place(&mut self, at: At) {
        self.at = at;
        match &mut self.data {
            Data::List(items) => items.iter_mut().for_each(|item| item.place(at)),
            Data::Map(entries) => entries.iter_mut().for_each(|entry| {
                entry.at = at;
                entry.value.place(at);
            }),
            _ => {}
        }
    }

    /// Converts booleans of YAML 1.1 to texts, as kustomize reads them.
    pub fn without_words(&mut self) {
        match &mut self.data {
            Data::Word(word, _) => self.data = Data::Text(Arc::clone(word), Style::Quoted),
            Data::List(items) => items.iter_mut().for_each(Self::without_words),
            Data::Map(entries) => entries.iter_mut().for_each(|entry| {
                entry.is_word = false;
                entry.value.without_words();
            }),
            _ => {}
        }
    }

    /// Whether the value contains booleans of YAML 1.1.
    pub fn has_words(&self) -> bool {
        match &self.data {
            Data::Word(..) => true,
            Data::List(items) => items.iter().any(Self::has_words),
            Data::Map(entries) => entries.iter().any(|entry| entry.is_word || entry.value.has_words()),
            _ => false,
        }
    }

    /// The number of nodes.
    pub fn count(&self) -> usize {
        match &self.data {
            Data::List(items) => 1 + items.iter().map(Self::count).sum::<usize>(),
            Data::Map(entries) => 1 + entries.iter().map(|entry| entry.value.count()).sum::<usize>(),
            _ => 1,
        }
    }

    /// The entries of a map; empty for other values.
    pub fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; empty for other values.
    pub fn items(&self) -> &[Node] {
        match &self.data {
            Data::List(items) => items,
            _ => &[],
        }
    }

    /// The entry of a map with this key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| &*entry.key == key)
    }

    /// The value of a field.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The value of a nested field.
    pub fn at_path(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The value of a field, mutable.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.data {
            Data::Map(entries) => {
                entries.iter_mut().find(|entry| &*entry.key == key).map(|entry| &mut entry.value)
            }
            _ => None,
        }
    }

    /// The text, if the value is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text, _) => Some(text),
            _ => None,
        }
    }

    /// The text of a field, if it is a text and not empty.
    pub fn str_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str().filter(|text| !text.is_empty())
    }

    /// Sets a field, whose key then is at `at`. Replaces the value by a map if it is none.
    pub fn set(&mut self, key: &str, at: At, value: Node) {
        if !matches!(self.data, Data::Map(_)) {
            self.data = Data::Map(Vec::new());
        }
        let Data::Map(entries) = &mut self.data else { return };
        if let Some(entry) = entries.iter_mut().find(|entry| &*entry.key == key) {
            (entry.at, entry.value) = (at, value);
        } else {
            // Many trees are kept, and few of their maps grow twice.
            entries.reserve_exact(1);
            entries.push(Entry { key: key.into(), is_word: false, at, value });
        }
    }

    /// Removes a field.
    pub fn remove(&mut self, key: &str) -> Option<Entry> {
        match &mut self.data {
            Data::Map(entries) => {
                let index = entries.iter().position(|entry| &*entry.key == key)?;
                Some(entries.remove(index))
            }
            _ => None,
        }
    }

    /// The map in a field. Creates it at `at` if the field is missing or not a map.
    pub fn child(&mut self, key: &str, at: At) -> &mut Node {
        if !matches!(self.get(key).map(|node| &node.data), Some(Data::Map(_))) {
            self.set(key, at, Node::map(at));
        }
        let Data::Map(entries) = &mut self.data else { unreachable!("set made it a map") };
        let index = entries.iter().position(|entry| &*entry.key == key).unwrap_or_default();
        &mut entries[index].value
    }

    /// Finds a field by its path: `spec.interval`, `spec.dependsOn[0].name` or
    /// `metadata.annotations["example.com/reason"]`. The quotes are optional, and so are the brackets. Returns the
    /// place of the key or item, and the value.
    pub fn field(&self, path: &str) -> Option<(At, &Node)> {
        let (mut node, mut place, mut rest) = (self, None, path);
        while !rest.is_empty() {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let (at, next, left) = match &node.data {
                Data::List(items) => {
                    let (index, left) = rest.strip_prefix('[')?.split_once(']')?;
                    let next = items.get(index.parse::<usize>().ok()?)?;
                    (next.at, next, left)
                }
                Data::Map(entries) => {
                    let fits = |key: &str| match bracketed(rest) {
                        Some((name, left)) => (key == name).then_some(left),
                        None => rest.strip_prefix(key).filter(|left| {
                            !key.is_empty() && (left.is_empty() || left.starts_with(['.', '[']))
                        }),
                    };
                    // Annotations contain dots, so the longest matching key counts.
                    let fitting = entries.iter().filter_map(|entry| Some((entry, fits(&entry.key)?)));
                    let (entry, left) = fitting.min_by_key(|(_, left)| left.len())?;
                    (entry.at, &entry.value, left)
                }
                _ => return None,
            };
            (place, node, rest) = (Some(at), next, left);
        }
        place.map(|place| (place, node))
    }
}

/// Splits `[key]` or `["key"]` from the rest of a path.
fn bracketed(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('[')?;
    for quote in ['"', '\''] {
        if let Some(quoted) = path.strip_prefix(quote) {
            let (key, left) = quoted.split_once(quote)?;
            return Some((key, left.strip_prefix(']')?));
        }
    }
    path.split_once(']')
}
