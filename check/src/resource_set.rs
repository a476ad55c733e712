//! What a ResourceSet of the Flux operator makes: its `resources` and `resourcesTemplate`, once for each of its
//! `inputs`. Simple references to an input are filled in; what else a template does is not known here.

use std::sync::Arc;

use gatehouse_inventory::yaml::{self, At, Data, Node, Style};

use crate::build::{Built, Id};

/// Whether an object is one.
pub(crate) fn is_resource_set(object: &Built) -> bool {
    object.id.group == "fluxcd.controlplane.io" && object.id.kind == "ResourceSet"
}

/// The objects it makes, and what could not be made out.
pub(crate) fn made(object: &Built) -> (Vec<Built>, Vec<(At, String)>) {
    let (mut made, mut unknown) = (Vec::new(), Vec::new());
    let Some(spec) = object.node.as_deref().and_then(|node| node.get("spec")) else { return (made, unknown) };
    let inputs: Vec<Option<&Node>> = match spec.get("inputs").map(Node::items) {
        Some(inputs) if !inputs.is_empty() => inputs.iter().map(Some).collect(),
        _ => vec![None],
    };
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

/// The documents of a template that has no more than references in it.
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

/// Fills in `<< inputs.NAME >>`, in keys and values.
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

/// Of `inputs.NAME`, in quotes where it is piped to `quote`.
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
