//! Generates the objects of a ResourceSet of the Flux operator: its `resources` and `resourcesTemplate`, once for each
//! input of `inputs` and of the static providers that `inputsFrom` selects. Simple references to an input are replaced;
//! other template actions are not supported.

use std::sync::Arc;

use gatehouse_apiservice::policy::Selector;
use gatehouse_inventory::yaml::{self, At, Data, Node, Style};

use crate::{
    build::{Built, Id},
    rulesets::labels_of,
};

/// The annotation by which a resource is excluded.
const RECONCILE: &str = "fluxcd.controlplane.io/reconcile";

/// Whether an object is a ResourceSet.
pub(crate) fn is_resource_set(object: &Built) -> bool {
    object.id.group == "fluxcd.controlplane.io" && object.id.kind == "ResourceSet"
}

/// Whether an object provides inputs.
pub(crate) fn is_provider(object: &Built) -> bool {
    object.id.group == "fluxcd.controlplane.io" && object.id.kind == "ResourceSetInputProvider"
}

/// The generated objects, and the parts that could not be evaluated.
pub(crate) fn made(object: &Built, providers: &[Built]) -> (Vec<Built>, Vec<(At, String)>) {
    let (mut made, mut unknown) = (Vec::new(), Vec::new());
    let Some(spec) = object.node.as_deref().and_then(|node| node.get("spec")) else { return (made, unknown) };
    let inputs = inputs(object, spec, providers);
    let mut templates: Vec<Node> = spec.get("resources").map(Node::items).unwrap_or_default().to_vec();
    if let Some(template) = spec
        .get("resourcesTemplate")
        .filter(|template| template.as_str().is_some_and(|text| !text.is_empty()))
    {
        match documents(template) {
            Some(documents) => templates.extend(documents),
            None => unknown.push((template.at, "resourcesTemplate: what it makes is not judged".to_owned())),
        }
    }
    for template in &templates {
        for input in &inputs {
            let mut node = template.clone();
            if let Some(input) = input {
                fill(&mut node, input);
            }
            let annotations = node.at_path(&["metadata", "annotations"]);
            if annotations.and_then(|all| all.str_of(RECONCILE)) == Some("disabled") {
                continue;
            }
            for (field, pairs) in ["labels", "annotations"]
                .into_iter()
                .filter_map(|field| Some((field, spec.at_path(&["commonMetadata", field])?)))
            {
                for pair in pairs.entries() {
                    node.child("metadata", pair.at).child(field, pair.at).set(
                        &pair.key,
                        pair.at,
                        pair.value.clone(),
                    );
                }
            }
            let at = node.at;
            if let Some(id) = Id::of(&node) {
                made.push(Built::new(id, Some(Arc::new(node)), at));
            }
        }
    }
    (made, unknown)
}

/// The inputs; `None` for unknown ones, of a provider that queries a remote API or is not among the files.
fn inputs(object: &Built, spec: &Node, providers: &[Built]) -> Vec<Option<Node>> {
    let mut inputs: Vec<Option<Node>> = Vec::new();
    for own in spec.get("inputs").map(Node::items).unwrap_or_default() {
        inputs.push(Some(provided(own.clone(), object)));
    }
    let from = spec.get("inputsFrom").map(Node::items).unwrap_or_default();
    for from in from {
        let selected: Vec<&Built> = providers
            .iter()
            .filter(|provider| provider.id.namespace == object.id.namespace && selects(from, provider))
            .collect();
        if selected.is_empty() {
            inputs.push(None);
        }
        inputs.extend(selected.into_iter().map(|provider| {
            let spec = provider.node.as_deref()?.get("spec")?;
            let values = spec.get("defaultValues").filter(|_| spec.str_of("type") == Some("Static"))?;
            Some(provided(values.clone(), provider))
        }));
    }
    // Each input then has its own name.
    let is_permuted =
        spec.at_path(&["inputStrategy"]).and_then(|strategy| strategy.str_of("name")) == Some("Permute");
    if is_permuted || inputs.is_empty() { vec![None] } else { inputs }
}

/// Whether an item of `inputsFrom` selects a provider.
fn selects(from: &Node, provider: &Built) -> bool {
    if let Some(name) = from.str_of("name") {
        return provider.id.name == name;
    }
    let Some(selector) = from.get("selector") else { return false };
    let selector = serde_json::from_value(selector.to_value()).ok();
    let selector = selector.and_then(|selector| Selector::compile("selector", &selector).ok());
    selector.is_some_and(|selector| selector.matches(&labels_of(provider)))
}

/// An input, with the metadata of its provider.
fn provided(mut input: Node, by: &Built) -> Node {
    let at = input.at;
    let api_version = [by.id.group.as_str(), by.id.version.as_str()].join("/");
    let namespace = by.id.namespace.as_deref().unwrap_or_default();
    let provider = input.child("provider", at);
    for (field, text) in [
        ("apiVersion", &*api_version),
        ("kind", &by.id.kind),
        ("name", &by.id.name),
        ("namespace", namespace),
    ] {
        provider.set(field, at, Node::text(text, at));
    }
    input
}

/// The documents of a template that contains only references.
fn documents(template: &Node) -> Option<Vec<Node>> {
    let Data::Text(text, style) = &template.data else { return None };
    let steers = ["if", "range", "else", "end", "with", "define", "template", "block"];
    let mut rest: &str = text;
    while let Some((_, tail)) = rest.split_once("<<") {
        let (action, after) = tail.split_once(">>")?;
        let first = action.trim_matches(['-', ' ', '\t', '\n']).split_whitespace().next().unwrap_or_default();
        if steers.contains(&first) || first.starts_with('$') {
            return None;
        }
        rest = after;
    }
    let mut documents = Vec::new();
    for (line, range) in gatehouse_inventory::manifest::documents(text) {
        let before = u32::try_from(line - 1).unwrap_or(u32::MAX);
        let at = match style {
            Style::Literal { .. } => At { line: template.at.line + before, ..template.at },
            Style::Plain | Style::Quoted => template.at,
        };
        let document = Node { at, data: Data::Text(text[range].into(), *style) };
        documents.extend(yaml::load_inner(&document).ok()?);
    }
    Some(documents)
}

/// Replaces `<< inputs.NAME >>` in keys and values.
fn fill(node: &mut Node, input: &Node) {
    match &mut node.data {
        Data::List(items) => items.iter_mut().for_each(|item| fill(item, input)),
        Data::Map(entries) => entries.iter_mut().for_each(|entry| {
            if entry.key.contains("<<") {
                entry.key = filled(&entry.key, input).into();
            }
            fill(&mut entry.value, input);
        }),
        Data::Text(text, style) if text.contains("<<") => {
            let filled = filled(text, input);
            node.data = match style {
                Style::Plain if !filled.contains("<<") => yaml::plain(&filled),
                style => Data::Text(filled.into(), *style),
            };
        }
        _ => {}
    }
}

fn filled(text: &str, input: &Node) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once("<<") {
        let Some((action, after)) = tail.split_once(">>") else { break };
        filled.push_str(before);
        if let Some(value) = value(action, input) {
            filled.push_str(&value);
        } else {
            filled.push_str("<<");
            filled.push_str(action);
            filled.push_str(">>");
        }
        rest = after;
    }
    filled.push_str(rest);
    filled
}

/// The value of `inputs.NAME`, quoted if it is piped to `quote`.
fn value(action: &str, input: &Node) -> Option<String> {
    let (reference, pipe) = action.split_once('|').unwrap_or((action, ""));
    let path: Vec<&str> =
        reference.trim().trim_matches('-').trim().strip_prefix("inputs.")?.split('.').collect();
    let found = input.at_path(&path)?;
    let text = match &found.data {
        Data::Text(text, _) => text.to_string(),
        Data::Map(_) | Data::List(_) => return None,
        _ => found.to_value().to_string(),
    };
    match pipe.trim() {
        "" | "quote" => Some(text),
        "lower" => Some(text.to_lowercase()),
        "upper" => Some(text.to_uppercase()),
        _ => None,
    }
}
