//! Where the fields of an object are in its file.
//!
//! Documents are read for their values first (`gatehouse_inventory::manifest`); places are looked up in those alone
//! that something is to be said about.

use std::{borrow::Cow, collections::HashMap};

use granit_parser::{Event, Marker, Parser};

/// A place in a file, as editors count: both from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// The nodes of one document.
#[derive(Debug, Default)]
pub(crate) struct Places<'a> {
    nodes: Vec<Node<'a>>,
    /// Nodes by the anchors they carry.
    anchors: HashMap<usize, usize>,
}

#[derive(Debug)]
struct Node<'a> {
    place: Place,
    content: Content<'a>,
}

#[derive(Debug)]
enum Content<'a> {
    Leaf(Cow<'a, str>),
    /// Keys, where they are, and values.
    Map(Vec<(Cow<'a, str>, Place, usize)>),
    List(Vec<usize>),
    Alias(usize),
}

/// More aliases in a row than any manifest has.
const MAX_ALIASES: usize = 32;

impl<'a> Places<'a> {
    /// Of a document that begins at `start`. Where it cannot be parsed, nothing in it has a place.
    pub(crate) fn of(document: &'a str, start: Place) -> Self {
        let mut places = Self::default();
        let options = granit_parser::options! { emit_comments: false };
        let mut open = Vec::new();
        for event in Parser::new_from_str_with_options(document, options) {
            let Ok((event, span)) = event else { return Self::default() };
            places.take(event, at(start, span.start), &mut open);
        }
        places
    }

    fn take(&mut self, event: Event<'a>, place: Place, open: &mut Vec<Open<'a>>) {
        let (content, anchor, opens) = match event {
            Event::Scalar(text, _, anchor, _) => (Content::Leaf(text), anchor, false),
            Event::Alias(anchor) => (Content::Alias(anchor), 0, false),
            Event::SequenceStart(_, anchor, _) => (Content::List(Vec::new()), anchor, true),
            Event::MappingStart(_, anchor, _) => (Content::Map(Vec::new()), anchor, true),
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
                return;
            }
            _ => return,
        };
        let index = self.nodes.len();
        self.nodes.push(Node { place, content });
        if anchor != 0 {
            self.anchors.insert(anchor, index);
        }
        if let Some(Open { parent, key }) = open.last_mut() {
            match (&mut self.nodes[*parent].content, key.take()) {
                (Content::List(items), _) => items.push(index),
                (Content::Map(entries), Some((name, at))) => entries.push((name, at, index)),
                (Content::Map(_), None) => {
                    // A key that is no scalar names no field.
                    let name = match &self.nodes[index].content {
                        Content::Leaf(text) => text.clone(),
                        _ => Cow::Borrowed(""),
                    };
                    if let Some(open) = open.last_mut() {
                        open.key = Some((name, place));
                    }
                }
                (Content::Leaf(_) | Content::Alias(_), _) => {}
            }
        }
        if opens {
            open.push(Open { parent: index, key: None });
        }
    }

    /// The item of the lists that the document consists of, which is the object.
    pub(crate) fn object(&self, items: &[usize]) -> Option<Place> {
        self.item(items).map(|node| self.nodes[node].place)
    }

    /// A field of that object, if it is there: `spec.interval`, `spec.dependsOn[0].name`,
    /// `metadata.annotations["example.com/reason"]`, with the key in brackets, with quotes or without, or with dots.
    pub(crate) fn field(&self, items: &[usize], path: &str) -> Option<Place> {
        self.found(items, path).map(|(place, _)| place)
    }

    /// What such a field says, if it is no collection.
    pub(crate) fn text(&self, items: &[usize], path: &str) -> Option<&str> {
        match &self.nodes[self.followed(self.found(items, path)?.1)?].content {
            Content::Leaf(text) => Some(text),
            _ => None,
        }
    }

    fn found(&self, items: &[usize], path: &str) -> Option<(Place, usize)> {
        let mut node = self.item(items)?;
        let mut place = None;
        let mut rest = path;
        while !rest.is_empty() {
            node = self.followed(node)?;
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let (at, next, left) = match &self.nodes[node].content {
                Content::List(items) => {
                    let (index, left) = rest.strip_prefix('[')?.split_once(']')?;
                    let next = *items.get(index.parse::<usize>().ok()?)?;
                    (self.nodes[next].place, next, left)
                }
                Content::Map(_) => match bracketed(rest) {
                    Some((key, left)) => self.entry(node, |name| (name == key).then_some(left))?,
                    None => self.entry(node, |name| {
                        rest.strip_prefix(name).filter(|left| {
                            !name.is_empty() && (left.is_empty() || left.starts_with(['.', '[']))
                        })
                    })?,
                },
                Content::Leaf(_) | Content::Alias(_) => return None,
            };
            (place, node, rest) = (Some(at), next, left);
        }
        place.map(|place| (place, node))
    }

    /// The entry that `fits`, which says what is left of the path: the longest key (annotations have dots), of equal
    /// ones the last, before those merged in.
    fn entry<'p>(
        &self,
        map: usize,
        fits: impl Fn(&str) -> Option<&'p str> + Copy,
    ) -> Option<(Place, usize, &'p str)> {
        self.entry_within(map, fits, MAX_ALIASES)
    }

    fn entry_within<'p>(
        &self,
        map: usize,
        fits: impl Fn(&str) -> Option<&'p str> + Copy,
        depth: usize,
    ) -> Option<(Place, usize, &'p str)> {
        let Content::Map(entries) = &self.nodes[self.followed(map)?].content else { return None };
        let own = entries.iter().filter_map(|(name, place, node)| Some((*place, *node, fits(name)?)));
        if let Some(entry) = own.min_by_key(|(place, _, left)| (left.len(), std::cmp::Reverse(*place))) {
            return Some(entry);
        }
        let depth = depth.checked_sub(1)?;
        let merged = entries.iter().filter(|(name, ..)| name == "<<").map(|(.., node)| *node);
        merged.filter_map(|node| self.followed(node)).find_map(|node| match &self.nodes[node].content {
            Content::List(maps) => maps.iter().find_map(|map| self.entry_within(*map, fits, depth)),
            _ => self.entry_within(node, fits, depth),
        })
    }

    fn item(&self, items: &[usize]) -> Option<usize> {
        let mut node = if self.nodes.is_empty() { return None } else { 0 };
        for index in items {
            let (_, list, _) = self.entry(node, |name| (name == "items").then_some(""))?;
            let Content::List(children) = &self.nodes[self.followed(list)?].content else { return None };
            node = *children.get(*index)?;
        }
        Some(node)
    }

    /// What an alias stands for: there a field is mended.
    fn followed(&self, mut node: usize) -> Option<usize> {
        for _ in 0..MAX_ALIASES {
            let Content::Alias(anchor) = self.nodes[node].content else { return Some(node) };
            node = *self.anchors.get(&anchor)?;
        }
        None
    }
}

/// A collection whose end is yet to come, and the key that waits for its value.
struct Open<'a> {
    parent: usize,
    key: Option<(Cow<'a, str>, Place)>,
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

fn at(start: Place, mark: Marker) -> Place {
    // Only what is on the document's first line has something of another document to its left.
    let column = if mark.line() == 1 { start.column } else { 1 };
    Place { line: start.line + mark.line() - 1, column: column + mark.col() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(document: &str, path: &str, expected: &str) {
        let places = Places::of(document, Place { line: 11, column: 1 });
        let found = places.field(&[], path).map(|place| format!("{}:{}", place.line, place.column));
        assert_eq!(found.as_deref().unwrap_or("none"), expected, "{path} in\n{document}");
    }

    const OBJECT: &str = "\
---
# a comment
metadata:
  annotations: {plain: a, example.com/reason.of: b}
spec:
  dependsOn:
    - name: one
    - {namespace: x, name: two}
  interval: 10s
  text: |
    interval: no
  interval: 20s
";

    #[test]
    fn fields_have_the_place_of_their_key() {
        check(OBJECT, "spec", "15:1");
        check(OBJECT, "spec.dependsOn", "16:3");
        check(OBJECT, "spec.dependsOn[0]", "17:7");
        check(OBJECT, "spec.dependsOn[1].name", "18:22");
        check(OBJECT, "metadata.annotations.plain", "14:17");
    }

    #[test]
    fn keys_with_dots_are_found_in_each_way_of_writing_them() {
        for path in [
            "metadata.annotations.example.com/reason.of",
            "metadata.annotations[example.com/reason.of]",
            "metadata.annotations[\"example.com/reason.of\"]",
            "metadata.annotations['example.com/reason.of']",
        ] {
            check(OBJECT, path, "14:27");
        }
    }

    #[test]
    fn of_duplicate_keys_the_last_counts() {
        check(OBJECT, "spec.interval", "22:3");
    }

    #[test]
    fn what_is_not_there_has_no_place() {
        for path in [
            "status",
            "spec.inter",
            "spec.dependsOn[2]",
            "spec.dependsOn.name",
            "spec.interval.x",
            "spec.dependsOn[x",
            "spec[",
            "..",
        ] {
            check(OBJECT, path, "none");
        }
    }

    #[test]
    fn aliases_and_merges_lead_to_where_the_field_is_written() {
        let document = "common: &c\n  interval: 1m\nmore: &m {timeout: 2m}\nspec:\n  <<: [*c, *m]\n  other: 1\nalso: *c\n";
        check(document, "spec.interval", "12:3");
        check(document, "spec.timeout", "13:11");
        check(document, "spec.other", "16:3");
        check(document, "also", "17:1");
        check(document, "also.interval", "12:3");
        check("a: &a {<<: *a, b: 1}\n", "a.b", "11:16");
        check("a: &a {<<: *a, b: 1}\n", "a.c", "none");
    }

    #[test]
    fn json_is_read_as_well() {
        check("{\n\t\"spec\": {\"a\":1,\n\t\t\"interval\": \"10s\"}}", "spec.interval", "13:3");
    }

    #[test]
    fn items_of_lists_are_found_by_their_way() {
        let document = "kind: List\nitems:\n- spec: {a: 1}\n- kind: List\n  items:\n  - spec:\n      b: 2\n";
        let places = Places::of(document, Place { line: 1, column: 1 });
        assert_eq!(places.object(&[0]), Some(Place { line: 3, column: 3 }));
        assert_eq!(places.field(&[1, 0], "spec.b"), Some(Place { line: 7, column: 7 }));
        assert_eq!(places.object(&[2]), None);
    }

    #[test]
    fn the_first_line_begins_where_the_document_does() {
        let places = Places::of("{\"a\":\n1}", Place { line: 3, column: 20 });
        assert_eq!(places.field(&[], "a"), Some(Place { line: 3, column: 21 }));
    }

    #[test]
    fn broken_and_deep_documents_have_no_places_and_do_no_harm() {
        for document in
            ["a: [", "a: *unknown", "", &format!("a: {}", "[".repeat(100_000)), "[1]: 2\n? {a: b}\n: c"]
        {
            assert_eq!(Places::of(document, Place { line: 1, column: 1 }).field(&[], "a"), None);
        }
    }
}
