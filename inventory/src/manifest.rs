//! Reads manifest files: the Kubernetes objects of a file, the lines that do not parse, and which files of a folder are
//! manifests.
//!
//! A file is split into documents before they are parsed, so an error affects only its own document. Values are
//! converted as kubectl converts them ([`crate::yaml`]).

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{
    source::folder,
    yaml::{self, At},
};

/// The content of a file.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Objects in the order of the file. A list is replaced by its items.
    pub manifests: Vec<Manifest>,
    /// The parts that could not be read.
    pub faults: Vec<Fault>,
}

/// An object with `apiVersion` and `kind`.
#[derive(Debug)]
pub struct Manifest {
    /// Empty for the core group.
    pub group: String,
    /// For example `v1`.
    pub version: String,
    /// For example `Kustomization`.
    pub kind: String,
    /// The line on which its document begins, from 1.
    pub line: usize,
    /// The whole object.
    pub object: Map<String, Value>,
}

/// An error in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1; 0 stands for the whole file.
    pub line: usize,
    /// The error, in one line.
    pub message: String,
}

/// Reads a file: as YAML, or, if `json` is set, as a stream of JSON values, as `.json` files are.
pub fn parse(bytes: &[u8], json: bool) -> Parsed {
    let mut parsed = Parsed::default();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => without_mark(text),
        Err(error) => {
            let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
            parsed.faults.push(Fault { line, message: "not UTF-8".to_owned() });
            return parsed;
        }
    };
    if json {
        let (values, fault) = json_values(text, 1);
        parsed.take_values(values);
        parsed.faults.extend(fault);
        return parsed;
    }
    for (line, document) in documents(text) {
        // JSON is a subset of YAML, but the JSON parser reads a large dump many times faster.
        if text[document.clone()].trim_start().starts_with('{')
            && let (values, None) = json_values(&text[document.clone()], line)
        {
            parsed.take_values(values);
            continue;
        }
        match yaml_value(&text[document.clone()], line) {
            Ok(value) => parsed.take(value, line, None),
            Err(fault) => parsed.faults.push(fault),
        }
    }
    parsed
}

/// The text without its byte order mark. Lines and columns count from there.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The manifest files of a folder.
#[derive(Debug, Default)]
pub struct Files {
    /// The files `*.yaml`, `*.yml` and `*.json` at any depth, in path order. Hidden files and folders are left out.
    /// Symbolic links are followed, and each real folder is entered once.
    pub files: Vec<PathBuf>,
    /// Folders of Helm templates, whose files are left out.
    pub templates: Vec<PathBuf>,
    /// Folders that could not be listed, with the error.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Lists the manifest files under `folder`; their paths begin with `folder`.
pub fn files(folder: &Path) -> io::Result<Files> {
    let folder::Listing { files, templates, unreadable, .. } = folder::list(folder)?;
    Ok(Files {
        files: files.into_keys().map(|file| folder.join(file)).collect(),
        templates: templates.into_iter().map(|below| folder.join(below)).collect(),
        unreadable: unreadable.into_iter().map(|(below, why)| (folder.join(below), why)).collect(),
    })
}

/// Whether a file is read as JSON, by its extension.
pub fn is_json(path: &Path) -> bool {
    folder::is_json(path)
}

impl Parsed {
    fn take_values(&mut self, values: Vec<(Value, usize)>) {
        for (value, line) in values {
            self.take(value, line, None);
        }
    }

    /// Keeps `value` if it is an object, or its items if it is a list. Other YAML (Helm values, configuration) is
    /// ignored. `of`: the apiVersion and kind of the items, if the value is an item of a typed list.
    fn take(&mut self, value: Value, line: usize, of: Option<(&str, &str)>) {
        let Value::Object(mut object) = value else { return };
        if let Some((api_version, kind)) = of {
            // The API server omits both fields in the items of a typed list.
            object.entry("apiVersion").or_insert_with(|| api_version.into());
            object.entry("kind").or_insert_with(|| kind.into());
        }
        let (Some(api_version), Some(kind)) = (text(&object, "apiVersion"), text(&object, "kind")) else {
            return;
        };
        let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
        if let Some(item_kind) = kind.strip_suffix("List")
            && matches!(object.get("items"), Some(Value::Array(_)))
        {
            let of = (!item_kind.is_empty()).then_some((api_version.as_str(), item_kind));
            if let Some(Value::Array(items)) = object.remove("items") {
                for item in items {
                    self.take(item, line, of);
                }
            }
            return;
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let (group, version) = (group.to_owned(), version.to_owned());
        self.manifests.push(Manifest { group, version, kind, line, object });
    }
}

fn text<'a>(object: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    object.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The documents of a YAML stream, each with the line on which it begins. A line that begins with `---` ends a document
/// everywhere, even in a block scalar, so splitting needs no parser. What follows `...` up to the next such line is not
/// read by kubectl, and not by the parser.
pub fn documents(text: &str) -> Vec<(usize, Range<usize>)> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line, "---") {
            documents.push((start_line, start..offset));
            // The marker belongs to the document that it opens, since content may follow on the same line.
            (start, start_line) = (offset, index + 1);
        }
        offset += line.len();
    }
    documents.push((start_line, start..text.len()));
    documents.retain(|(_, document)| !is_blank(&text[document.clone()]));
    documents
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether a document has no content: only comments, directives and a marker.
fn is_blank(document: &str) -> bool {
    document.lines().all(|line| {
        let line = line.strip_prefix("---").unwrap_or(line).trim_start();
        line.is_empty() || line.starts_with(['#', '%']) || line == "..."
    })
}

/// Consecutive JSON values, each with the line on which it begins, up to the first error. `line` is the line on which
/// the text begins.
fn json_values(text: &str, line: usize) -> (Vec<(Value, usize)>, Option<Fault>) {
    let mut values = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter();
    let (mut end, mut end_line) = (0, line);
    while let Some(value) = stream.next() {
        // Whitespace before a value is not part of it.
        let start = end + (text[end..].len() - text[end..].trim_start().len());
        let start_line = end_line + lines(&text[end..start]);
        match value {
            Ok(value) => {
                end = stream.byte_offset();
                end_line = start_line + lines(&text[start..end]);
                values.push((value, start_line));
            }
            Err(error) => {
                return (values, Some(Fault { line: error.line(), message: error.to_string() }));
            }
        }
    }
    (values, None)
}

fn lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

fn yaml_value(document: &str, first_line: usize) -> Result<Value, Fault> {
    let start = At { file: 0, line: u32::try_from(first_line).unwrap_or(u32::MAX), column: 1 };
    match yaml::load(document, start) {
        Ok(node) => Ok(node.map_or(Value::Null, |node| node.to_value())),
        Err(error) => {
            Err(Fault { line: usize::try_from(error.line).unwrap_or(usize::MAX), message: error.message })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(parsed: &Parsed) -> Vec<String> {
        parsed
            .manifests
            .iter()
            .map(|m| {
                let name = m.object.get("metadata").and_then(|metadata| metadata["name"].as_str());
                format!("{}/{}:{}", m.kind, name.unwrap_or("?"), m.line)
            })
            .collect()
    }

    fn value(yaml: &str) -> Value {
        yaml_value(yaml, 1).expect("the sample parses")
    }

    #[test]
    fn documents_begin_and_end_where_yaml_says() {
        let text = "%YAML 1.2\n---\n# only a comment\n---\na: 1\n--- # two\nb: |\n  text\n  --- not one\n...\nc: 3\n--- {d: 4}\n---\n";
        let found: Vec<_> = documents(text).into_iter().map(|(line, at)| (line, value(&text[at]))).collect();
        assert_eq!(
            found,
            [(4, json!({"a": 1})), (6, json!({"b": "text\n--- not one\n"})), (12, json!({"d": 4})),]
        );
    }

    #[test]
    fn windows_line_ends_and_a_byte_order_mark_change_nothing() {
        let parsed = parse(
            "\u{feff}apiVersion: v1\r\nkind: Node\r\nmetadata: {name: a}\r\n---\r\napiVersion: v1\r\nkind: Node\r\nmetadata: {name: b}\r\n".as_bytes(),
            false,
        );
        assert_eq!((names(&parsed), parsed.faults), (vec!["Node/a:1".into(), "Node/b:4".into()], vec![]));
    }

    #[test]
    fn lists_are_their_items_and_typed_lists_lend_them_their_type() {
        let parsed = parse(
            b"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}\n- null\n---\napiVersion: apps/v1\nkind: DeploymentList\nitems:\n- metadata: {name: b}\n",
            false,
        );
        assert_eq!(names(&parsed), ["Deployment/a:1", "Deployment/b:6"]);
        assert_eq!(
            (parsed.manifests[1].group.as_str(), parsed.manifests[1].version.as_str()),
            ("apps", "v1")
        );
        assert_eq!(parsed.manifests[1].object["apiVersion"], "apps/v1");
    }

    #[test]
    fn what_is_no_kubernetes_object_is_passed_over() {
        for text in
            ["replicas: 3\n", "- a\n- b\n", "just text\n", "kind: 3\napiVersion: v1\n", "{}", "", "# hi\n"]
        {
            let parsed = parse(text.as_bytes(), false);
            assert!(parsed.manifests.is_empty() && parsed.faults.is_empty(), "{text}: {parsed:?}");
        }
    }

    #[test]
    fn a_broken_document_is_told_by_the_files_line_and_hides_no_other() {
        let parsed = parse(
            b"apiVersion: v1\nkind: Node\nmetadata: {name: a}\n---\nkind: Node\nmetadata:\n  name: {{ .Values.name }}\n  {{- if .x }}\n---\napiVersion: v1\nkind: Node\nmetadata: {name: c}\n",
            false,
        );
        assert_eq!(names(&parsed), ["Node/a:1", "Node/c:9"]);
        assert_eq!(parsed.faults.len(), 1, "{:?}", parsed.faults);
        assert!((7..=8).contains(&parsed.faults[0].line), "{:?}", parsed.faults);
        assert!(!parsed.faults[0].message.contains('\n'));
    }

    #[test]
    fn json_files_hold_one_object_or_several() {
        let parsed = parse(
            br#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"a"}} {"apiVersion":"v1","kind":"Node","metadata":{"name":"b"}}"#,
            true,
        );
        assert_eq!(names(&parsed), ["Node/a:1", "Node/b:1"]);
        let several = parse(
            b"\n{\"kind\":\"A\",\n\"apiVersion\":\"v1\"}\n\n {\"kind\":\"B\",\"apiVersion\":\"v1\"}",
            true,
        );
        assert_eq!(names(&several), ["A/?:2", "B/?:5"]);
        let broken = parse(b"{\"apiVersion\":\"v1\",\n \"kind\": }", true);
        assert_eq!(broken.faults[0].line, 2);
    }

    #[test]
    fn bytes_that_are_no_text_are_told_by_their_line() {
        let parsed = parse(b"a: 1\nb: \xff\n", false);
        assert_eq!(parsed.faults, [Fault { line: 2, message: "not UTF-8".into() }]);
    }

    #[test]
    fn deep_nesting_is_a_fault_not_a_crash() {
        let deep = format!("a: {}", "[".repeat(100_000));
        assert_eq!(parse(deep.as_bytes(), false).faults.len(), 1);
        let json = format!("{{\"a\": {}", "[".repeat(100_000));
        assert_eq!(parse(json.as_bytes(), true).faults.len(), 1);
    }
}
