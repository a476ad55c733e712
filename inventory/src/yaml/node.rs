//! A value with the place of each of its parts.

use serde_json::{Map, Number, Value};

/// A place in a file, as editors count: line and column from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct At {
    /// Which file, as the caller numbers them.
    pub file: u32,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

/// A value and where it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub at: At,
    /// What it says.
    pub data: Data,
}

/// What a node says.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A boolean of YAML 1.1 alone, as it is written: kubectl takes `yes` for one, kustomize for a text.
    Word(Box<str>, bool),
    /// A number that JSON can hold.
    Number(Number),
    /// A text, and how it is written.
    Text(Box<str>, Style),
    /// A map, in the order of the file.
    Map(Vec<Entry>),
    /// A list.
    List(Vec<Node>),
}

/// How a text is written: what the places within it follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A literal block (`|`): its lines are the file's, after so many spaces.
    Literal {
        /// Spaces before each line.
        indent: u16,
    },
    /// Without quotes: what stands in its place is read anew.
    Plain,
    /// Quoted or folded.
    Quoted,
}

/// A key of a map, with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: Box<str>,
    /// Where the key is.
    pub at: At,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// A text that stands at `at`.
    pub fn text(text: &str, at: At) -> Self {
        Self { at, data: Data::Text(text.into(), Style::Plain) }
    }

    /// An empty map.
    pub fn map(at: At) -> Self {
        Self { at, data: Data::Map(Vec::new()) }
    }

    /// A value all of whose parts stand at one place.
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
                    .map(|(key, value)| Entry { key: key.as_str().into(), at, value: Self::of(value, at) })
                    .collect(),
            ),
        };
        Self { at, data }
    }

    /// The value, as JSON.
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
        entries.iter().map(|entry| (entry.key.to_string(), entry.value.to_value())).collect()
    }

    /// Moves it, with all of its parts, to one place.
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

    /// As kustomize reads it: words that only YAML 1.1 takes for booleans are texts.
    pub fn without_words(&mut self) {
        match &mut self.data {
            Data::Word(word, _) => self.data = Data::Text(std::mem::take(word), Style::Quoted),
            Data::List(items) => items.iter_mut().for_each(Self::without_words),
            Data::Map(entries) => entries.iter_mut().for_each(|entry| entry.value.without_words()),
            _ => {}
        }
    }

    /// Whether there are such words in it.
    pub fn has_words(&self) -> bool {
        match &self.data {
            Data::Word(..) => true,
            Data::List(items) => items.iter().any(Self::has_words),
            Data::Map(entries) => entries.iter().any(|entry| entry.value.has_words()),
            _ => false,
        }
    }

    /// How many nodes it consists of.
    pub fn count(&self) -> usize {
        match &self.data {
            Data::List(items) => 1 + items.iter().map(Self::count).sum::<usize>(),
            Data::Map(entries) => 1 + entries.iter().map(|entry| entry.value.count()).sum::<usize>(),
            _ => 1,
        }
    }

    /// The entries of a map; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[Node] {
        match &self.data {
            Data::List(items) => items,
            _ => &[],
        }
    }

    /// The entry of a map.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| &*entry.key == key)
    }

    /// A field of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A field of a map in a map, and so on.
    pub fn at_path(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// A field, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.data {
            Data::Map(entries) => {
                entries.iter_mut().find(|entry| &*entry.key == key).map(|entry| &mut entry.value)
            }
            _ => None,
        }
    }

    /// What it says, if it is a text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text, _) => Some(text),
            _ => None,
        }
    }

    /// The text of a field, if it is one and not empty.
    pub fn str_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str().filter(|text| !text.is_empty())
    }

    /// Sets a field, whose key then stands at `at`.
    pub fn set(&mut self, key: &str, at: At, value: Node) {
        if !matches!(self.data, Data::Map(_)) {
            self.data = Data::Map(Vec::new());
        }
        let Data::Map(entries) = &mut self.data else { return };
        match entries.iter_mut().find(|entry| &*entry.key == key) {
            Some(entry) => (entry.at, entry.value) = (at, value),
            None => entries.push(Entry { key: key.into(), at, value }),
        }
    }

    /// Takes a field away.
    pub fn remove(&mut self, key: &str) -> Option<Entry> {
        match &mut self.data {
            Data::Map(entries) => {
                let index = entries.iter().position(|entry| &*entry.key == key)?;
                Some(entries.remove(index))
            }
            _ => None,
        }
    }

    /// A map below this one, made at `at` if it is not there.
    pub fn child(&mut self, key: &str, at: At) -> &mut Node {
        if !matches!(self.get(key).map(|node| &node.data), Some(Data::Map(_))) {
            self.set(key, at, Node::map(at));
        }
        let Data::Map(entries) = &mut self.data else { unreachable!("set made it a map") };
        let index = entries.iter().position(|entry| &*entry.key == key).unwrap_or_default();
        &mut entries[index].value
    }

    /// A field by its path, and where its key or item is: `spec.interval`, `spec.dependsOn[0].name`,
    /// `metadata.annotations["example.com/reason"]`, with the key in brackets, with quotes or without, or with dots.
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
                    // Annotations have dots: the longest key that fits.
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

/// `[key]` or `["key"]`.
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
