//! A YAML reader with kubectl's rules that keeps the place of every value.
//!
//! kubectl, kustomize and Flux read YAML with descendants of libyaml and convert it to JSON by the rules of YAML 1.1
//! (sigs.k8s.io/yaml): `yes` and `off` are booleans, `0644` is octal, a quoted text may continue at the indentation of
//! its key, and the last of duplicate keys wins. This reader uses a port of libyaml with the same rules, so that checks
//! see the object that kubectl would send.

mod node;
mod scalar;

use std::{collections::HashMap, sync::Arc};

use libyaml_safer::{EventData, Mark, Parser, ScalarStyle};

pub use self::node::{At, Data, Entry, Node, Style};
use crate::manifest;

/// The deepest nesting that is accepted. Manifests have less, and recursive functions use a bounded stack.
const MAX_DEPTH: usize = 200;

/// How many nodes aliases may copy in a document. A few lines of aliases to aliases could otherwise expand to
/// gigabytes.
const MAX_COPIES: usize = 500_000;

/// A document that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// The line in the file, from 1.
    pub line: u32,
    /// The error, in one line.
    pub message: String,
}

/// A document as kubectl reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The value.
    pub node: Node,
    /// Why kustomize refuses it, with the place.
    pub refused: Option<(At, String)>,
}

/// Reads the first document of `text`, which begins at `start` in a file. `None` if there is no document.
pub fn load(text: &str, start: At) -> Result<Option<Node>, LoadError> {
    Ok(document(text, start)?.map(|document| document.node))
}

/// Reads the first document of `text`, and learns whether kustomize reads it too.
pub fn document(text: &str, start: At) -> Result<Option<Document>, LoadError> {
    load_indented(text, start, 0)
}

/// Reads a text that contains YAML, such as an inline patch in a kustomization: all of its documents. None if `value` is
/// not a text. If the text is a literal block, its parts have their own places in the file; otherwise all have the place
/// of `value`.
pub fn load_inner(value: &Node) -> Result<Vec<Node>, LoadError> {
    let Data::Text(text, style) = &value.data else { return Ok(Vec::new()) };
    let mut nodes = Vec::new();
    for (line, range) in manifest::documents(text) {
        let document = &text[range];
        match style {
            Style::Literal { indent } => {
                let line = value.at.line.saturating_add(u32::try_from(line).unwrap_or(u32::MAX));
                let start = At { line, column: u32::from(*indent) + 1, ..value.at };
                let loaded = load_indented(document, start, u32::from(*indent))?;
                nodes.extend(loaded.map(|document| document.node));
            }
            Style::Plain | Style::Quoted => {
                let loaded =
                    load(document, value.at).map_err(|error| LoadError { line: value.at.line, ..error })?;
                nodes.extend(loaded.map(|mut node| {
                    node.place(value.at);
                    node
                }));
            }
        }
    }
    Ok(nodes)
}

/// The value of a scalar without quotes: a number, a boolean, null, or a text.
pub fn plain(text: &str) -> Data {
    scalar::resolve(text, None, true).ok().flatten().unwrap_or_else(|| Data::Text(text.into(), Style::Plain))
}

/// Whether a text is YAML of a map or a list.
pub fn holds_structure(text: &str) -> bool {
    matches!(load(text, At::default()), Ok(Some(Node { data: Data::Map(_) | Data::List(_), .. })))
}

fn load_indented(text: &str, start: At, indent: u32) -> Result<Option<Document>, LoadError> {
    // The parser panics at an end where it expects the end of a line, or a text after a tag.
    let ended = (!text.ends_with('\n')).then(|| format!("{text}\n"));
    let padded = ended.as_deref().unwrap_or(text);
    let loaded = std::panic::catch_unwind(|| load_padded(padded, ended.is_some(), start, indent));
    loaded.unwrap_or_else(|_| {
        Err(LoadError { line: start.line, message: "the parser failed on this document".to_owned() })
    })
}

/// `is_padded`: the line break at the end is not part of the text.
fn load_padded(text: &str, is_padded: bool, start: At, indent: u32) -> Result<Option<Document>, LoadError> {
    let mut bytes = text.as_bytes();
    let mut parser = Parser::new();
    parser.set_encoding(libyaml_safer::Encoding::Utf8);
    parser.set_input_string(&mut bytes);
    let last_line = is_padded.then(|| text[..text.len() - 1].matches('\n').count() as u64);
    let mut loader = Loader {
        text,
        start,
        indent,
        lines: None,
        anchors: HashMap::new(),
        open: Vec::new(),
        copies: 0,
        root: None,
        refused: None,
    };
    loop {
        let mut event = parser.parse().map_err(|error| loader.error(&error))?;
        let at = loader.at(event.start_mark);
        // A block that goes on up to the end has no line break there.
        if let EventData::Scalar { value, style: ScalarStyle::Literal | ScalarStyle::Folded, .. } =
            &mut event.data
            && last_line.is_some_and(|last| event.start_mark.line < last && event.end_mark.line > last)
            && text.lines().next_back().is_some_and(|line| !line.trim().is_empty())
            && value.ends_with('\n')
        {
            value.pop();
        }
        match event.data {
            EventData::StreamEnd | EventData::DocumentEnd { .. } => {
                let refused = loader.refused;
                return Ok(loader.root.map(|node| Document { node, refused }));
            }
            data => loader
                .take(data, event.start_mark)
                .map_err(|message| LoadError { line: at.line, message: message.to_owned() })?,
        }
    }
}

/// A collection that has not ended yet.
enum Open {
    Map { at: At, anchor: Option<String>, entries: Vec<Entry>, key: Option<Key>, merged: Vec<Arc<str>> },
    List { at: At, anchor: Option<String>, items: Vec<Node> },
}

/// A key whose value has not come yet.
struct Key {
    name: Arc<str>,
    is_word: bool,
    /// Whether it is `<<`, without quotes.
    merges: bool,
    at: At,
}

struct Loader<'a> {
    text: &'a str,
    start: At,
    /// How many columns are left of each line but the first.
    indent: u32,
    /// The offsets of all lines, computed for the first block scalar.
    lines: Option<Vec<usize>>,
    anchors: HashMap<String, Node>,
    open: Vec<Open>,
    copies: usize,
    root: Option<Node>,
    refused: Option<(At, String)>,
}

impl Loader<'_> {
    /// The parser's message, and the line of the problem. For a flow collection or quoted text that does not end, it is
    /// the line on which that begins.
    fn error(&self, error: &libyaml_safer::Error) -> LoadError {
        let context = error.context().unwrap_or_default();
        let unended = ["while parsing a flow", "while scanning a quoted"]
            .iter()
            .any(|start| context.starts_with(start));
        let mark = if unended { error.context_mark() } else { error.problem_mark() };
        let message = format!("{} {context}", error.problem()).trim_end().to_owned();
        LoadError { line: mark.map_or(self.start.line, |mark| self.at(mark).line), message }
    }

    fn at(&self, mark: Mark) -> At {
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        // Only the first line of a document can have text of another document to its left.
        let left = if mark.line == 0 { self.start.column } else { self.indent + 1 };
        At {
            file: self.start.file,
            line: self.start.line.saturating_add(number(mark.line)),
            column: left.saturating_add(number(mark.column)),
        }
    }

    fn take(&mut self, event: EventData, mark: Mark) -> Result<(), &'static str> {
        let at = self.at(mark);
        match event {
            EventData::Scalar { anchor, tag, value, style, plain_implicit, .. } => {
                let plain = style == ScalarStyle::Plain && plain_implicit;
                let data = match scalar::resolve(&value, tag.as_deref(), plain) {
                    Ok(Some(data)) => data,
                    Err(why) if !self.expects_key() => return Err(why),
                    Ok(None) | Err(_) => Data::Text(scalar::text(value), self.style(style, mark)),
                };
                self.put(Node { at, data }, anchor)
            }
            EventData::Alias { anchor } => {
                let node =
                    self.anchors.get(&anchor).ok_or("an alias names an anchor that does not exist")?.clone();
                self.copies += node.count();
                if self.copies > MAX_COPIES {
                    return Err("its aliases would copy too much");
                }
                self.put(node, None)
            }
            EventData::SequenceStart { anchor, .. } => {
                self.enter(Open::List { at, anchor, items: Vec::new() })
            }
            EventData::MappingStart { anchor, .. } => {
                self.enter(Open::Map { at, anchor, entries: Vec::new(), key: None, merged: Vec::new() })
            }
            EventData::SequenceEnd | EventData::MappingEnd => match self.open.pop() {
                Some(Open::List { at, anchor, mut items }) => {
                    items.shrink_to_fit();
                    self.put(Node { at, data: Data::List(items) }, anchor)
                }
                Some(Open::Map { at, anchor, mut entries, .. }) => {
                    entries.shrink_to_fit();
                    self.put(Node { at, data: Data::Map(entries) }, anchor)
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map { key: None, .. }))
    }

    fn enter(&mut self, open: Open) -> Result<(), &'static str> {
        if self.open.len() >= MAX_DEPTH {
            return Err("it is nested too deeply");
        }
        self.open.push(open);
        Ok(())
    }

    fn put(&mut self, node: Node, anchor: Option<String>) -> Result<(), &'static str> {
        if let Some(anchor) = anchor {
            self.copies += node.count();
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, merged, .. }) => match key.take() {
                None => {
                    let name = match &node.data {
                        Data::Map(_) | Data::List(_) => return Err("a key must be a scalar"),
                        Data::Null => return Err("a key must not be null"),
                        data => scalar::key(data),
                    };
                    if matches!(node.data, Data::Number(_)) {
                        self.refused.get_or_insert_with(|| (node.at, format!("the key {name} is no text")));
                    }
                    let merges = matches!(&node.data, Data::Text(text, Style::Plain) if &**text == "<<");
                    *key =
                        Some(Key { name, is_word: matches!(node.data, Data::Word(..)), merges, at: node.at });
                }
                Some(Key { merges: true, .. }) => merged.extend(merge(entries, node)?),
                Some(Key { name, is_word, at, .. }) => {
                    let new = Entry { key: name, is_word, at, value: node };
                    match entries.iter_mut().find(|entry| entry.key == new.key) {
                        Some(entry) => {
                            if let Some(index) = merged.iter().position(|merged| *merged == new.key) {
                                merged.swap_remove(index);
                            } else {
                                let why = || (at, format!("the key {} is there already", new.key));
                                self.refused.get_or_insert_with(why);
                            }
                            *entry = new;
                        }
                        None => entries.push(new),
                    }
                }
            },
        }
        Ok(())
    }

    /// The style of a text, and the indentation of a literal block.
    fn style(&mut self, style: ScalarStyle, mark: Mark) -> Style {
        match style {
            ScalarStyle::Literal => {}
            ScalarStyle::Plain => return Style::Plain,
            _ => return Style::Quoted,
        }
        let lines = self.lines.get_or_insert_with(|| {
            std::iter::once(0).chain(self.text.match_indices('\n').map(|(at, _)| at + 1)).collect()
        });
        let next = usize::try_from(mark.line).unwrap_or(usize::MAX).saturating_add(1);
        let body = lines.get(next).map_or("", |start| &self.text[*start..]);
        let first = body.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let indent = first.len() - first.trim_start_matches(' ').len();
        Style::Literal { indent: u16::try_from(indent).unwrap_or(u16::MAX) }
    }
}

/// Merges the value of `<<`; returns the merged keys. Of several maps the first takes precedence. Keys that follow take
/// the place of merged ones; about keys that stand before, kubectl and kustomize disagree.
fn merge(entries: &mut Vec<Entry>, node: Node) -> Result<Vec<Arc<str>>, &'static str> {
    let maps = match node.data {
        Data::Map(_) => vec![node],
        Data::List(items) => items,
        _ => return Err("<< merges maps only"),
    };
    let before = entries.len();
    for map in maps {
        let Data::Map(merged) = map.data else { return Err("<< merges maps only") };
        for entry in merged {
            match entries.iter().position(|known| known.key == entry.key) {
                None => entries.push(entry),
                Some(index)
                    if index < before && entries[index].value.to_value() != entry.value.to_value() =>
                {
                    return Err(
                        "<< has a key that stands before it: kubectl takes one of them, kustomize the other",
                    );
                }
                Some(_) => {}
            }
        }
    }
    Ok(entries[before..].iter().map(|entry| entry.key.clone()).collect())
}

#[cfg(test)]
mod tests;
