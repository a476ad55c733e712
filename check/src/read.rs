//! Parses the text of a file into objects with the positions of their fields.
//!
//! Only objects that policies and quotas read are kept as trees. Of others, only the name is kept, and a large document
//! of such a kind (a CustomResourceDefinition, a dashboard) is not parsed at all: its lines are scanned for the name.

use std::{fmt, ops::Range, sync::Arc};

use gatehouse_apiservice::policy::GROUP;
use gatehouse_inventory::{
    manifest,
    yaml::{self, At, Data, Node},
};
use gatehouse_policy::Kind;
use serde::Deserialize;

use crate::build::{Built, Id};

/// Documents of other kinds are parsed up to this size, to find errors in them.
const LARGE: usize = 32 << 10;

/// ConfigMaps are kept up to this size, because Flux substitutes variables from them.
const LARGE_CONFIG_MAP: usize = 64 << 10;

/// The content of a file.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) objects: Vec<Built>,
    pub(crate) faults: Vec<Fault>,
    /// Whether it contains no document.
    pub(crate) blank: bool,
    /// The line of a document that is no object: kustomize refuses the file.
    pub(crate) stray: Option<u32>,
    /// Whether every object is kept completely.
    whole: bool,
}

/// An error in a file and its position.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) line: u32,
    pub(crate) message: String,
    /// Whether the document looks like a manifest, and like a template of one.
    pub(crate) manifest: bool,
    pub(crate) template: bool,
}

/// Why bytes are not a text that kubectl can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotText {
    GitCrypt,
    Utf16,
    Binary,
    /// With the line.
    NotUtf8(usize),
}

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GitCrypt => "encrypted by git-crypt",
            Self::Utf16 => "UTF-16, which is not read",
            Self::Binary => "no text",
            Self::NotUtf8(_) => "not UTF-8",
        })
    }
}

/// Decodes the text of a file, without its byte order mark.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, NotText> {
    if bytes.starts_with(b"\0GITCRYPT\0") {
        return Err(NotText::GitCrypt);
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(NotText::Utf16);
    }
    if bytes.iter().take(8 << 10).any(|byte| *byte == 0) {
        return Err(NotText::Binary);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        NotText::NotUtf8(bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count())
    })?;
    Ok(manifest::without_mark(text))
}

/// Parses a text. `json`: as a stream of JSON values, as in a `.json` file. `whole`: keep every object.
pub(crate) fn parse(text: &str, file: u32, json: bool, whole: bool) -> Parsed {
    let mut parsed = Parsed { whole, ..Parsed::default() };
    if json {
        parsed.json(text, 0..text.len(), file);
    } else {
        parsed.yaml(text, file);
    }
    // The objects of every file are kept.
    parsed.objects.shrink_to_fit();
    parsed
}

/// All documents of a text, of any kind.
pub(crate) fn documents(text: &str, file: u32) -> Result<Vec<Node>, yaml::LoadError> {
    let documents = manifest::documents(text).into_iter();
    let loaded =
        documents.map(|(line, range)| yaml::load(&text[range], At { file, line: number(line), column: 1 }));
    loaded.filter_map(Result::transpose).collect()
}

/// The fields that decide whether a JSON value is kept.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow, rename = "apiVersion")]
    api_version: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    kind: Option<std::borrow::Cow<'a, str>>,
}

impl Parsed {
    fn yaml(&mut self, text: &str, file: u32) {
        let documents = manifest::documents(text);
        self.blank = documents.is_empty();
        for (line, range) in documents {
            let document = &text[range.clone()];
            // JSON is read faster as JSON; a map in braces is YAML as well.
            let known = self.faults.len();
            if document.trim_start().starts_with('{') && self.json(text, range.clone(), file) {
                continue;
            }
            self.faults.truncate(known);
            let start = At { file, line: number(line), column: 1 };
            self.document(document, start);
        }
    }

    fn document(&mut self, document: &str, start: At) {
        if document.len() > LARGE
            && !self.whole
            && let Some(object) = skimmed(document, start)
        {
            self.objects.push(object);
            return;
        }
        match yaml::document(document, start) {
            Ok(Some(yaml::Document { node, refused })) => {
                let known = self.objects.len();
                let is_stray = match &node.data {
                    Data::Map(entries) => !entries.is_empty() && Id::of(&node).is_none(),
                    Data::List(items) => !items.is_empty(),
                    Data::Null => false,
                    _ => true,
                };
                if is_stray {
                    self.stray.get_or_insert(node.at.line);
                }
                self.take(node, None, document.len());
                if let Some(refused) = refused {
                    for object in &mut self.objects[known..] {
                        object.refused = Some(Arc::new(refused.clone()));
                    }
                }
            }
            Ok(None) => {}
            Err(error) => self.fault(document, error.line, error.message),
        }
    }

    /// Parses consecutive JSON values. Returns false if the text is not JSON: in a YAML file it may still be YAML.
    fn json(&mut self, text: &str, range: Range<usize>, file: u32) -> bool {
        let whole = &text[range.clone()];
        let mut stream =
            serde_json::Deserializer::from_str(whole).into_iter::<&serde_json::value::RawValue>();
        let (mut values, mut end) = (Vec::new(), 0);
        while let Some(value) = stream.next() {
            let start = end + (whole[end..].len() - whole[end..].trim_start().len());
            match value {
                Ok(_) => {
                    end = stream.byte_offset();
                    values.push(range.start + start..range.start + end);
                }
                Err(error) => {
                    let line = lines(&text[..range.start]) + error.line();
                    self.fault(whole, number(line), error.to_string());
                    return false;
                }
            }
        }
        self.blank = values.is_empty();
        let (mut line, mut counted) = (1 + lines(&text[..range.start]), range.start);
        for value in values {
            line += lines(&text[counted..value.start]);
            counted = value.start;
            let before = text[..value.start].rsplit('\n').next().unwrap_or_default().chars().count();
            let start = At { file, line: number(line), column: number(before + 1) };
            let document = &text[value];
            let header = serde_json::from_str::<Header<'_>>(document).ok();
            if !header.is_some_and(|header| header.api_version.is_some() && header.kind.is_some()) {
                self.stray.get_or_insert(start.line);
                continue;
            }
            match yaml::load(document, start) {
                Ok(Some(node)) => self.take(node, None, document.len()),
                Ok(None) => {}
                // JSON has escapes that YAML lacks; the whole object then has one position.
                Err(_) => {
                    if let Ok(value) = serde_json::from_str::<serde_json::Value>(document) {
                        self.take(Node::of(&value, start), None, document.len());
                    }
                }
            }
        }
        true
    }

    fn fault(&mut self, document: &str, line: u32, message: String) {
        let template = ["{{", "{%", "<%"].iter().any(|mark| document.contains(mark));
        let manifest = document.contains("apiVersion") && document.contains("kind");
        self.faults.push(Fault { line, message, manifest, template });
    }

    /// Keeps an object, or the objects of a list. Other YAML is ignored.
    fn take(&mut self, mut node: Node, of: Option<(&str, &str)>, size: usize) {
        if !matches!(node.data, Data::Map(_)) {
            return;
        }
        let at = node.at;
        if let Some((api_version, kind)) = of {
            // Items of a typed list, as the API server returns it, inherit these two fields from the list.
            for (field, text) in [("apiVersion", api_version), ("kind", kind)] {
                if node.get(field).is_none() {
                    node.set(field, at, Node::text(text, at));
                }
            }
        }
        let Some(mut id) = Id::of(&node) else { return };
        if let Some(item) = id.kind.strip_suffix("List")
            && let Some(entry) = node.remove("items")
        {
            let api_version = node.str_of("apiVersion").unwrap_or_default().to_owned();
            let of = (!item.is_empty()).then_some((api_version.as_str(), item));
            if let Data::List(items) = entry.value.data {
                for item in items {
                    self.take(item, of, 0);
                }
            }
            return;
        }
        // Encrypted by SOPS: the fields do not have their final values.
        if id.group == "kustomize.config.k8s.io"
            || matches!(node.get("sops"), Some(Node { data: Data::Map(_), .. }))
        {
            return;
        }
        if id.name.is_empty()
            && let Some(prefix) = node.at_path(&["metadata", "generateName"]).and_then(Node::as_str)
        {
            id.name = format!("{prefix}*");
        }
        let kept = self.whole
            || wanted(&id.group, &id.kind)
            || (id.group.is_empty() && id.kind == "ConfigMap" && size <= LARGE_CONFIG_MAP);
        let node = if kept {
            Some(node)
        } else if id.kind == "CustomResourceDefinition" {
            definition(&node)
        } else {
            None
        };
        self.objects.push(Built::new(id, node.map(Arc::new), at));
    }
}

/// Whether the content of an object is needed: by policies, by quotas, or because it describes other objects.
fn wanted(group: &str, kind: &str) -> bool {
    Kind::of_kind(group, kind).is_some()
        || matches!(
            group,
            GROUP | "agones.dev" | "autoscaling.agones.dev" | "game.kruise.io" | "pteronimbus.io"
        )
        || (group.is_empty() && kind == "Namespace")
}

/// The names in a CustomResourceDefinition.
fn definition(node: &Node) -> Option<Node> {
    let mut spec = Node::map(node.at);
    for field in ["group", "names"] {
        let entry = node.get("spec")?.entry(field)?;
        spec.set(field, entry.at, entry.value.clone());
    }
    let mut short = Node::map(node.at);
    short.set("spec", node.at, spec);
    Some(short)
}

/// Scans the lines of a large document in block style. `None` if it has to be parsed, because its content is needed or
/// because it has another style.
fn skimmed(document: &str, start: At) -> Option<Built> {
    let (mut section, mut inner) = ("", "");
    let (mut api_version, mut kind, mut name, mut namespace) = (None, None, None, None);
    let (mut group, mut defined, mut plural) = (None, None, None);
    for line in document.lines() {
        let text = line.trim_start_matches(' ');
        let Some((key, value)) = text.split_once(':') else { continue };
        let value = scalar(value);
        match (line.len() - text.len(), section, inner) {
            (0, ..) => {
                if !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !key.starts_with(['#', '-']) {
                    return None;
                }
                (section, inner) = (key, "");
                match key {
                    "apiVersion" => api_version = Some(value?),
                    "kind" => kind = Some(value?),
                    _ => {}
                }
            }
            (2, "metadata", _) if key == "name" => name = Some(value?),
            (2, "metadata", _) if key == "namespace" => namespace = Some(value?),
            (2, "spec", _) => {
                inner = key;
                if key == "group" {
                    group = value;
                }
            }
            (4, "spec", "names") if key == "kind" => defined = value,
            (4, "spec", "names") if key == "plural" => plural = value,
            _ => {}
        }
        if section != "metadata" && name.is_some() && api_version.is_some() {
            match kind {
                Some("CustomResourceDefinition")
                    if defined.is_none() || plural.is_none() || group.is_none() => {}
                Some(_) => break,
                None => {}
            }
        }
    }
    let (api_version, kind) = (api_version?, kind?);
    let (of_group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if wanted(of_group, kind) || kind.ends_with("List") || of_group == "kustomize.config.k8s.io" {
        return None;
    }
    let node = if kind == "CustomResourceDefinition" {
        let mut node = Node::map(start);
        let spec = node.child("spec", start);
        spec.set("group", start, Node::text(group?, start));
        let names = spec.child("names", start);
        names.set("kind", start, Node::text(defined?, start));
        names.set("plural", start, Node::text(plural?, start));
        Some(Arc::new(node))
    } else {
        None
    };
    let id = Id {
        group: of_group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.map(str::to_owned),
        name: name?.to_owned(),
    };
    Some(Built::new(id, node, start))
}

/// The value on the line of its key, if it is a plain or simply quoted string.
fn scalar(text: &str) -> Option<&str> {
    let text = text.split(" #").next().unwrap_or_default().trim();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let plain =
        bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'/' | b'_'));
    (plain && !bare.is_empty()).then_some(bare)
}

fn lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
