//! A YAML reader with kubectl's rules that keeps the place of every value.
//!
//! kubectl, kustomize and Flux read YAML with descendants of libyaml and convert it to JSON by the rules of YAML 1.1
//! (sigs.k8s.io/yaml): `yes` and `off` are booleans, `0644` is octal, a quoted text may continue at the indentation of
//! its key, and the last of duplicate keys wins. This reader uses a port of libyaml with the same rules, so that checks
//! see the object that kubectl would send.

mod node;
mod scalar;

use std::collections::HashMap;

use libyaml_safer::{EventData, Mark, Parser, ScalarStyle};

pub use self::node::{At, Data, Entry, Node, Style};

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

/// Reads the first document of `text`, which begins at `start` in a file. `None` if there is no document.
pub fn load(text: &str, start: At) -> Result<Option<Node>, LoadError> {
    load_indented(text, start, 0)
}

/// Reads a text that contains YAML, such as an inline patch in a kustomization. `None` if `value` is not a text. If the
/// text is a literal block, its parts have their own places in the file; otherwise all have the place of `value`.
pub fn load_inner(value: &Node) -> Result<Option<Node>, LoadError> {
    let Data::Text(text, style) = &value.data else { return Ok(None) };
    match style {
        Style::Literal { indent } => {
            let column = u32::from(*indent) + 1;
            let start = At { line: value.at.line + 1, column, ..value.at };
            load_indented(text, start, u32::from(*indent))
        }
        Style::Plain | Style::Quoted => {
            let mut node =
                load(text, value.at).map_err(|error| LoadError { line: value.at.line, ..error })?;
            if let Some(node) = &mut node {
                node.place(value.at);
            }
            Ok(node)
        }
    }
}

/// The value of a scalar without quotes: a number, a boolean, null, or a text.
pub fn plain(text: &str) -> Data {
    scalar::resolve(text, None, true).unwrap_or_else(|| Data::Text(text.into(), Style::Plain))
}

fn load_indented(text: &str, start: At, indent: u32) -> Result<Option<Node>, LoadError> {
    let mut bytes = text.as_bytes();
    let mut parser = Parser::new();
    parser.set_encoding(libyaml_safer::Encoding::Utf8);
    parser.set_input_string(&mut bytes);
    let mut loader = Loader {
        text,
        start,
        indent,
        lines: None,
        anchors: HashMap::new(),
        open: Vec::new(),
        copies: 0,
        root: None,
    };
    loop {
        let event = parser.parse().map_err(|error| loader.error(&error))?;
        let at = loader.at(event.start_mark);
        match event.data {
            EventData::StreamEnd | EventData::DocumentEnd { .. } => return Ok(loader.root),
            data => loader
                .take(data, event.start_mark)
                .map_err(|message| LoadError { line: at.line, message: message.to_owned() })?,
        }
    }
}

/// A collection that has not ended yet.
enum Open {
    Map { at: At, anchor: Option<String>, entries: Vec<Entry>, key: Option<(Box<str>, bool, At)> },
    List { at: At, anchor: Option<String>, items: Vec<Node> },
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
                    Some(data) => data,
                    None => Data::Text(value.into_boxed_str(), self.style(style, mark)),
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
                self.enter(Open::Map { at, anchor, entries: Vec::new(), key: None })
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
            Some(Open::Map { entries, key, .. }) => match key.take() {
                None => {
                    let name = match &node.data {
                        Data::Map(_) | Data::List(_) => return Err("a key must be a scalar"),
                        Data::Null => return Err("a key must not be null"),
                        data => scalar::key(data),
                    };
                    *key = Some((name, matches!(node.data, Data::Word(..)), node.at));
                }
                Some((name, ..)) if &*name == "<<" => merge(entries, node)?,
                Some((name, is_word, at)) => {
                    let new = Entry { key: name, is_word, at, value: node };
                    match entries.iter_mut().find(|entry| entry.key == new.key) {
                        Some(entry) => *entry = new,
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

/// Merges the value of `<<`. Keys of the map itself take precedence, whatever the order.
fn merge(entries: &mut Vec<Entry>, node: Node) -> Result<(), &'static str> {
    match node.data {
        Data::Map(merged) => {
            for entry in merged {
                if !entries.iter().any(|known| known.key == entry.key) {
                    entries.push(entry);
                }
            }
            Ok(())
        }
        Data::List(items) => items.into_iter().try_for_each(|item| match item.data {
            Data::Map(_) => merge(entries, item),
            _ => Err("<< merges maps only"),
        }),
        Data::Null => Ok(()),
        _ => Err("<< merges maps only"),
    }
}

#[cfg(test)]
mod tests;
