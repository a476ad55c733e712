//! Generates the objects of a ResourceSet of the Flux operator: its `resources` and `resourcesTemplate`, and those of its
//! `steps`, once for each input of `inputs` and of the static providers that `inputsFrom` selects.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use gatehouse_apiservice::labels::Selector;
use gatehouse_inventory::{
    manifest,
    yaml::{self, At, Data, Node, Style},
};
use serde_json::{Value, json};

use crate::{
    build::{Built, Id, refilled},
    flux,
    rulesets::labels_of,
    template::{self, Rendered},
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
    let inputs = match inputs(object, spec, providers) {
        Ok(inputs) => inputs,
        Err((at, why)) => {
            unknown.push((at, why));
            vec![None]
        }
    };
    // The first of two objects with one name is applied.
    let mut known = HashSet::new();
    let steps = spec.get("steps").map(Node::items).unwrap_or_default();
    for part in std::iter::once(spec).chain(steps) {
        let mut nodes = Vec::new();
        for object in part.get("resources").map(Node::items).unwrap_or_default() {
            nodes.extend(inputs.iter().map(|input| {
                let mut node = object.clone();
                if let Some(input) = input {
                    fill(&mut node, input);
                }
                node
            }));
        }
        if let Some(text) = part.get("resourcesTemplate").filter(|text| text.as_str() != Some("")) {
            for input in &inputs {
                match of_text(text, input.as_ref()) {
                    Ok(more) => nodes.extend(more),
                    Err(why) => {
                        let message = format!("resourcesTemplate: what it makes is not judged: {why}");
                        unknown.push((text.at, message));
                    }
                }
            }
        }
        for node in nodes {
            let Some(object) = finished(node, spec) else { continue };
            let [group, _, kind, namespace, name] = object.id.key();
            let key = [group, kind, namespace, name];
            if key.into_iter().any(flux::is_open) || known.insert(key.map(str::to_owned)) {
                made.push(object);
            }
        }
    }
    (made, unknown)
}

/// A resource with its common metadata; `None` if it is not applied, or is no object.
fn finished(mut node: Node, spec: &Node) -> Option<Built> {
    let annotations = node.at_path(&["metadata", "annotations"]);
    if annotations.and_then(|all| all.str_of(RECONCILE)) == Some("disabled") {
        return None;
    }
    for (field, pairs) in flux::common_metadata(spec) {
        for pair in pairs.entries() {
            node.child("metadata", pair.at).child(field, pair.at).set(&pair.key, pair.at, pair.value.clone());
        }
    }
    let (id, at) = (Id::of(&node)?, node.at);
    Some(Built::new(id, Some(Arc::new(node)), at))
}

/// The resources of a template with an input; the error says what is not known.
fn of_text(template: &Node, input: Option<&Value>) -> Result<Vec<Node>, String> {
    let Data::Text(text, style) = &template.data else { return Err("it is no text".to_owned()) };
    let rendered = match input.map(|input| template::render(text, input)) {
        Some(Ok(rendered)) => rendered,
        // Without actions that steer, each object is there, with what is not known as it is written.
        Some(Err(_)) | None if !steers(text) => {
            Rendered { lines: (0..).take(text.matches('\n').count() + 1).collect(), text: text.to_string() }
        }
        Some(Err(why)) => return Err(why),
        None => return Err("its inputs are not known".to_owned()),
    };
    let mut nodes = Vec::new();
    for (line, range) in manifest::documents(&rendered.text) {
        let start = At { line: u32::try_from(line).unwrap_or(u32::MAX), column: 1, ..template.at };
        let loaded = yaml::load(&rendered.text[range], start);
        let Some(mut node) = loaded.map_err(|error| format!("it makes no YAML: {}", error.message))? else {
            continue;
        };
        match style {
            Style::Literal { indent } => relocate(&mut node, &rendered.lines, template.at, *indent),
            Style::Plain | Style::Quoted => node.place(template.at),
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// Whether actions decide what is made, rather than being replaced by values.
fn steers(text: &str) -> bool {
    let words = ["if", "range", "else", "end", "with", "define", "template", "block"];
    text.split("<<").skip(1).any(|action| {
        let action = action.split(">>").next().unwrap_or_default();
        let first = action.trim_matches(['-', ' ', '\t', '\n']).split_whitespace().next().unwrap_or_default();
        words.contains(&first) || first.starts_with('$')
    })
}

/// Turns lines of the rendered text into those of the file.
fn relocate(node: &mut Node, lines: &[u32], template: At, indent: u16) {
    let moved = |at: At| {
        let index = usize::try_from(at.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let line = lines.get(index).or(lines.last()).copied().unwrap_or_default();
        At { line: template.line + 1 + line, column: at.column + u32::from(indent), ..at }
    };
    node.at = moved(node.at);
    match &mut node.data {
        Data::List(items) => items.iter_mut().for_each(|item| relocate(item, lines, template, indent)),
        Data::Map(entries) => entries.iter_mut().for_each(|entry| {
            entry.at = moved(entry.at);
            relocate(&mut entry.value, lines, template, indent);
        }),
        Data::Text(_, Style::Literal { indent: own }) => *own += indent,
        _ => {}
    }
}

/// One set of inputs; `None` if it is unknown.
type Input = Option<Value>;

/// The inputs; `None` for unknown ones, of a provider that queries a remote API or is not among the files. The error
/// says why none is known.
fn inputs(object: &Built, spec: &Node, providers: &[Built]) -> Result<Vec<Input>, (At, String)> {
    let own = spec.get("inputs").map(Node::items).unwrap_or_default();
    let mut sources: Vec<(&str, Vec<Input>)> = Vec::new();
    sources.push((&object.id.name, own.iter().map(|own| Some(provided(own, object))).collect()));
    // In the order of names, and each once.
    let mut selected: BTreeMap<&str, Input> = BTreeMap::new();
    let mut is_unknown = false;
    for from in spec.get("inputsFrom").map(Node::items).unwrap_or_default() {
        let before = selected.len();
        for provider in providers {
            if provider.id.namespace == object.id.namespace && selects(from, provider) {
                selected.insert(&provider.id.name, of_provider(provider));
            }
        }
        is_unknown |= selected.len() == before;
    }
    sources.extend(selected.into_iter().map(|(name, input)| (name, vec![input])));
    if let Some(strategy) = spec.get("inputStrategy")
        && strategy.str_of("name") == Some("Permute")
    {
        let is_unknown = is_unknown || sources.iter().any(|(_, inputs)| inputs.contains(&None));
        let permuted = if is_unknown { None } else { permutations(&sources, strategy) };
        let why = "inputStrategy: the inputs are not known, so what depends on them is not judged";
        return permuted.ok_or_else(|| (strategy.at, why.to_owned()));
    }
    let mut inputs: Vec<Input> = sources.into_iter().flat_map(|(_, inputs)| inputs).collect();
    if is_unknown || inputs.is_empty() {
        inputs.push(None);
    }
    Ok(inputs)
}

/// What a provider of the files gives; `None` if it asks elsewhere.
fn of_provider(provider: &Built) -> Input {
    let spec = provider.node.as_deref()?.get("spec")?;
    let values = spec.get("defaultValues").filter(|_| spec.str_of("type") == Some("Static"))?;
    Some(provided(values, provider))
}

/// More are refused by the operator.
const MOST_PERMUTATIONS: usize = 10_000;

/// Each combination of one input of each source, under the name of the source.
fn permutations(sources: &[(&str, Vec<Input>)], strategy: &Node) -> Option<Vec<Input>> {
    let keeps_empty = strategy.get("includeEmptyProviders").is_some_and(|node| node.to_value() == true);
    let mut permuted: Vec<(Vec<String>, Value)> = vec![(Vec::new(), json!({}))];
    for (name, inputs) in sources.iter().filter(|(_, inputs)| keeps_empty || !inputs.is_empty()) {
        if permuted.len() * inputs.len() > MOST_PERMUTATIONS {
            return None;
        }
        let name = normalized(name);
        let with = |(names, input): &(Vec<String>, Value)| {
            let more = inputs.iter().flatten().enumerate().map(|(index, more)| {
                let (mut names, mut input) = (names.clone(), input.clone());
                names.push(format!("{name}={index}"));
                input[&name] = more.clone();
                (names, input)
            });
            more.collect::<Vec<_>>()
        };
        permuted = permuted.iter().flat_map(with).collect();
    }
    let finished = permuted.into_iter().map(|(names, mut input)| {
        input["id"] = adler32(names.join("/").as_bytes()).to_string().into();
        Some(input)
    });
    Some(finished.collect())
}

/// The name of a source as a key in templates.
fn normalized(name: &str) -> String {
    let lower = name.to_lowercase();
    let words = lower.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut sum, mut sums) = (1_u32, 0_u32);
    for byte in bytes {
        sum = (sum + u32::from(*byte)) % 65_521;
        sums = (sums + sum) % 65_521;
    }
    (sums << 16) | sum
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
fn provided(input: &Node, by: &Built) -> Value {
    let mut input = input.to_value();
    if let Some(fields) = input.as_object_mut() {
        let Id { group, version, kind, namespace, name } = &by.id;
        let provider = json!({
            "apiVersion": format!("{group}/{version}"), "kind": kind, "name": name,
            "namespace": namespace.as_deref().unwrap_or_default(),
        });
        fields.insert("provider".to_owned(), provider);
    }
    input
}

/// Fills an input into keys and values of an object, which the operator writes anew for that: without its quotes.
fn fill(node: &mut Node, input: &Value) {
    let at = node.at;
    let render = |text: &str| template::render(text, input).map(|rendered| rendered.text);
    match &mut node.data {
        Data::List(items) => items.iter_mut().for_each(|item| fill(item, input)),
        Data::Map(entries) => entries.iter_mut().for_each(|entry| {
            if entry.key.contains("<<")
                && let Ok(key) = render(&entry.key)
            {
                entry.key = key.into();
            }
            fill(&mut entry.value, input);
        }),
        // What is not known stays open.
        Data::Text(text, style) if text.contains("<<") => {
            if let Ok(data) = refilled(text, *style, at, render) {
                node.data = data;
            }
        }
        _ => {}
    }
}
