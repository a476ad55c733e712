//! kustomize's `replacements`: copy a value of one object, or of the replacement itself, into fields of others.
//!
//! **Invariant:** The copied value has the position of the target's field path.

use gatehouse_inventory::yaml::{self, At, Data, Entry, Node, Style};
use regex::Regex;

use super::object::{Built, Id, Target};

/// Why a replacement is not applied.
#[derive(Debug, PartialEq)]
pub(super) enum Problem {
    /// kustomize would reject it.
    Wrong(String),
    /// The result is unknown here.
    Unknown(String),
}

use Problem::{Unknown, Wrong};

/// Applies one replacement.
pub(super) fn replace(objects: &mut [Built], replacement: &Node) -> Result<(), Problem> {
    let targets = replacement.get("targets").map(Node::items).unwrap_or_default();
    let value = match (replacement.get("source"), replacement.get("sourceValue")) {
        (Some(source), None) if !targets.is_empty() => value_of(objects, source)?,
        (None, Some(value)) if !targets.is_empty() => Node::text(&scalar(value)?, value.at),
        _ => return Err(Wrong("a replacement needs a source and targets".to_owned())),
    };
    for target in targets {
        let select = target.get("select").ok_or_else(|| Wrong("a target needs select".to_owned()))?;
        let reject = target.get("reject").map(Node::items).unwrap_or_default();
        let options = Options::of(target);
        let selectors = selectors(select)?;
        for object in objects.iter_mut() {
            let is_meant = |by: &Node| names(object).any(|id| fits(by, id));
            if !is_plain(select) || !reject.iter().all(is_plain) {
                return Err(Unknown(
                    "a target is selected by an expression, which versions take differently".to_owned(),
                ));
            }
            if is_meant(select) && selectors.selects(object) && !reject.iter().any(is_meant) {
                put(object, target, &options, &value)?;
            }
        }
    }
    Ok(())
}

/// How a value is written into a field, or read from one.
#[derive(Debug, Default)]
struct Options {
    delimiter: String,
    index: i64,
    create: bool,
}

impl Options {
    fn of(node: &Node) -> Self {
        let Some(options) = node.get("options") else { return Self::default() };
        // kustomize has a field `encoding`, and ignores it.
        let value = |field: &str| options.get(field).map(Node::to_value).unwrap_or_default();
        Self {
            delimiter: options.str_of("delimiter").unwrap_or_default().to_owned(),
            index: value("index").as_i64().unwrap_or_default(),
            create: value("create") == true,
        }
    }
}

/// The current and former IDs of an object.
fn names(object: &Built) -> impl Iterator<Item = &Id> {
    object.former.iter().chain([&object.id])
}

/// Whether a selector matches an ID: each part that is not empty must be equal.
fn fits(selector: &Node, id: &Id) -> bool {
    let fits = |field: &str, text: &str| selector.str_of(field).is_none_or(|wanted| wanted == text);
    fits("group", &id.group)
        && fits("version", &id.version)
        && fits("kind", &id.kind)
        && fits("name", &id.name)
        && fits("namespace", id.namespace.as_deref().unwrap_or("default"))
}

/// Newer versions of kustomize treat the names in targets as regular expressions, older ones do not.
fn is_plain(selector: &Node) -> bool {
    let is_plain = |field: &str| {
        selector.str_of(field).is_none_or(|text| !text.contains(|letter| "*+?|()[]{}^$\\".contains(letter)))
    };
    ["group", "version", "kind", "name", "namespace"].into_iter().all(is_plain)
}

/// Only the label and annotation selectors.
fn selectors(select: &Node) -> Result<Target, Problem> {
    let mut only = Node::map(select.at);
    for field in ["labelSelector", "annotationSelector"] {
        if let Some(entry) = select.entry(field) {
            only.set(field, entry.at, entry.value.clone());
        }
    }
    Target::of(&only).map_err(Wrong)
}

/// The value of a source.
fn value_of(objects: &[Built], source: &Node) -> Result<Node, Problem> {
    let mut found = objects.iter().filter(|object| names(object).any(|id| fits(source, id)));
    let object =
        found.next().ok_or_else(|| Wrong("the source of a replacement selects nothing".to_owned()))?;
    if found.next().is_some() {
        return Err(Wrong("the source of a replacement selects several objects".to_owned()));
    }
    let Some(node) = object.node.as_deref() else {
        return Err(Unknown(format!("its source is a {}, which is not read", object.id.kind)));
    };
    let path = source.str_of("fieldPath").unwrap_or("metadata.name");
    let value = look_up(node, &parts(path)).filter(|value| {
        let is_empty = matches!(&value.data, Data::Map(entries) if entries.is_empty())
            || matches!(&value.data, Data::List(items) if items.is_empty());
        value.data != Data::Null && !is_empty
    });
    let value =
        value.ok_or_else(|| Wrong(format!("fieldPath {path} is missing for the source of a replacement")))?;
    let options = Options::of(source);
    if options.delimiter.is_empty() && options.index == 0 {
        return Ok(value.clone());
    }
    let text = scalar(value)?;
    let pieces: Vec<&str> = text.split(options.delimiter.as_str()).collect();
    let piece = usize::try_from(options.index).ok().and_then(|index| pieces.get(index));
    let piece = piece
        .ok_or_else(|| Wrong(format!("options.index {} is out of bounds for value {text}", options.index)))?;
    let data = match value.data {
        Data::Text(..) => Data::Text((*piece).into(), Style::Quoted),
        _ => yaml::plain(piece),
    };
    Ok(Node { at: value.at, data })
}

/// The text of a scalar.
fn scalar(node: &Node) -> Result<String, Problem> {
    match &node.data {
        Data::Text(text, _) | Data::Word(text, _) => Ok(text.to_string()),
        Data::Map(_) | Data::List(_) => Err(Wrong("delimiter is for scalars".to_owned())),
        Data::Null => Ok("null".to_owned()),
        Data::Bool(_) | Data::Number(_) => Ok(node.to_value().to_string()),
    }
}

/// The parts of a path: it is split at dots, except those after a backslash and within brackets.
fn parts(path: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut is_escaped, mut is_bracketed) = (false, false);
    for letter in path.chars() {
        let is_start = parts.last().is_some_and(String::is_empty);
        match letter {
            '\\' if !is_escaped => {
                is_escaped = true;
                continue;
            }
            '.' if !is_escaped && !is_bracketed => {
                parts.push(String::new());
                continue;
            }
            '[' if is_start => is_bracketed = true,
            ']' => is_bracketed = false,
            _ => {}
        }
        is_escaped = false;
        if let Some(last) = parts.last_mut() {
            last.push(letter);
        }
    }
    parts
}

/// The meaning of one part of a path.
enum Part<'a> {
    Key(&'a str),
    Index(usize),
    /// `-`
    End,
    /// `*`
    Every,
    /// `[key=value]`, `[=value]`
    Where(&'a str, &'a str),
}

impl<'a> Part<'a> {
    fn of(text: &'a str, of_list: bool) -> Self {
        if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            return inner.split_once('=').map_or(Self::Key(inner), |(key, value)| Self::Where(key, value));
        }
        match text {
            "*" => Self::Every,
            "-" if of_list => Self::End,
            _ => text.parse().map_or(Self::Key(text), Self::Index),
        }
    }
}

/// A field of a source; in a list, the one element that matches.
fn look_up<'a>(node: &'a Node, path: &[String]) -> Option<&'a Node> {
    path.iter().try_fold(node, |node, part| {
        match (Part::of(part, matches!(node.data, Data::List(_))), &node.data) {
            (Part::Key(key), Data::Map(_)) => node.get(key),
            (Part::Index(index), Data::List(items)) => items.get(index),
            (Part::End, Data::List(items)) => items.last(),
            (Part::Where(key, value), Data::List(items)) => {
                items.iter().find(|item| element(item, key).is_some_and(|text| text == value))
            }
            _ => None,
        }
    })
}

/// The key of a list element: the element itself, or one of its fields.
fn element(item: &Node, key: &str) -> Option<String> {
    scalar(if key.is_empty() { item } else { item.get(key)? }).ok()
}

/// Writes a value into the fields of an object that a target names.
fn put(object: &mut Built, target: &Node, options: &Options, value: &Node) -> Result<(), Problem> {
    if object.node.is_none() {
        return Ok(());
    }
    object.remember();
    let own = Node::text("metadata.name", target.at);
    let paths = target.get("fieldPaths").map(Node::items).unwrap_or_default();
    for path in if paths.is_empty() { std::slice::from_ref(&own) } else { paths } {
        let Some(node) = object.node_mut() else { continue };
        let text = path.as_str().unwrap_or_default();
        let mut writing = Writing { options, value, at: path.at, count: 0 };
        writing.go(node, &parts(text), None)?;
        if writing.count == 0 {
            return Err(Wrong(format!("unable to find field {text:?} in replacement target")));
        }
    }
    object.reread();
    Ok(())
}

/// A value that is being written into fields.
struct Writing<'a> {
    options: &'a Options,
    value: &'a Node,
    /// The position of the written value.
    at: At,
    count: usize,
}

impl Writing<'_> {
    /// `entry`: the position of the node's key, which changes with the value.
    fn go(&mut self, node: &mut Node, path: &[String], entry: Option<&mut At>) -> Result<(), Problem> {
        let Some((part, rest)) = path.split_first() else {
            self.set(node)?;
            if let Some(entry) = entry {
                *entry = self.at;
            }
            self.count += 1;
            return Ok(());
        };
        let create = self.options.create;
        if create && node.data == Data::Null {
            let is_list = part.starts_with('[') && part.contains('=') || part == "-";
            node.data = if is_list { Data::List(Vec::new()) } else { Data::Map(Vec::new()) };
        }
        let part = Part::of(part, matches!(node.data, Data::List(_)));
        let at = self.at;
        match (part, &mut node.data) {
            (Part::Key(key), Data::Map(entries)) => {
                if create && !entries.iter().any(|entry| &*entry.key == key) {
                    let value = Node { at, data: Data::Null };
                    entries.push(Entry { key: key.into(), is_word: false, at, value });
                }
                match entries.iter_mut().find(|entry| &*entry.key == key) {
                    Some(entry) => self.go(&mut entry.value, rest, Some(&mut entry.at)),
                    None => Ok(()),
                }
            }
            (Part::Every, Data::List(items)) => {
                items.iter_mut().try_for_each(|item| self.go(item, rest, None))
            }
            (Part::Index(index), Data::List(items)) => {
                let count = items.len();
                if create && index == count {
                    items.push(Node { at, data: Data::Null });
                }
                let item = items.get_mut(index).ok_or_else(|| {
                    Wrong(format!("index {index} specified but only {count} elements found"))
                })?;
                self.go(item, rest, None)
            }
            (Part::Where(key, wanted), Data::List(items)) => {
                let regex =
                    Regex::new(wanted).map_err(|_| Wrong(format!("{wanted} is no regular expression")))?;
                let is_meant =
                    |item: &Node| element(item, key).is_some_and(|text| regex.is_match(text.trim()));
                if create && !items.iter().any(is_meant) {
                    let mut item = Node { at, data: yaml::plain(wanted) };
                    if !key.is_empty() {
                        let value = std::mem::replace(&mut item, Node::map(at));
                        item.set(key, at, value);
                    }
                    items.push(item);
                }
                items.iter_mut().filter(|item| is_meant(item)).try_for_each(|item| self.go(item, rest, None))
            }
            (_, Data::Null) => Err(Unknown("a path of it leads through null".to_owned())),
            // Newer versions of kustomize look into texts that are YAML themselves.
            (_, Data::Text(text, _)) if yaml::holds_structure(text) => {
                Err(Unknown("a path of it leads into a text".to_owned()))
            }
            _ => Err(Wrong("wrong node kind on the path of a replacement".to_owned())),
        }
    }

    fn set(&self, node: &mut Node) -> Result<(), Problem> {
        if matches!(node.data, Data::Map(_) | Data::List(_)) && self.options.delimiter.is_empty() {
            *node = self.value.clone();
            node.place(self.at);
            return Ok(());
        }
        if matches!(self.value.data, Data::Map(_) | Data::List(_)) {
            return match node.data {
                // A node that was created for the value.
                Data::Null if self.options.create => {
                    *node = self.value.clone();
                    node.place(self.at);
                    Ok(())
                }
                _ => Err(Unknown("a map or a list is put in the place of a scalar".to_owned())),
            };
        }
        let text = self.joined(&scalar(self.value)?, node)?;
        // A scalar keeps its type.
        let is_typed = |data: &Data| std::mem::discriminant(data) == std::mem::discriminant(&node.data);
        let data = match &node.data {
            Data::Text(..) | Data::Word(..) => Data::Text(text.into(), Style::Quoted),
            // A node that was created for the value has no type.
            Data::Null if self.options.create => yaml::plain(&text),
            _ => {
                let data = yaml::plain(&text);
                if !is_typed(&data) {
                    return Err(Wrong(format!("{text} is of another type than what it replaces")));
                }
                data
            }
        };
        *node = Node { at: self.at, data };
        Ok(())
    }

    /// Puts the value in its place among the parts of the existing text.
    fn joined(&self, value: &str, node: &Node) -> Result<String, Problem> {
        let Options { delimiter, index, .. } = self.options;
        if delimiter.is_empty() {
            return Ok(value.to_owned());
        }
        let current = if node.data == Data::Null { String::new() } else { scalar(node)? };
        let mut pieces: Vec<&str> = current.split(delimiter.as_str()).collect();
        match usize::try_from(*index) {
            Err(_) => pieces.insert(0, value),
            Ok(index) => match pieces.get_mut(index) {
                Some(piece) => *piece = value,
                None => pieces.push(value),
            },
        }
        Ok(pieces.join(delimiter))
    }
}
