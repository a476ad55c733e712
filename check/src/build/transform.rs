//! The transformations that kustomize applies to every object of a layer: namespace, names, labels, annotations,
//! images; and the ConfigMaps that it generates.

use super::{
    Failure,
    object::{Built, Id, is_cluster_scoped},
};
use gatehouse_inventory::yaml::{At, Data, Node};

/// Sets the namespace of objects.
pub(crate) fn namespace(objects: &mut [Built], namespace: &str, at: At) {
    for object in objects {
        if object.id.group.is_empty() && object.id.kind == "Namespace" {
            object.rename(namespace.to_owned(), at);
        } else if !is_cluster_scoped(&object.id.group, &object.id.kind) {
            object.move_to(namespace, at);
        }
    }
}

/// Adds a prefix and a suffix to names.
pub(crate) fn names(objects: &mut [Built], prefix: Option<&str>, suffix: Option<&str>) {
    let (prefix, suffix) = (prefix.unwrap_or_default(), suffix.unwrap_or_default());
    if prefix.is_empty() && suffix.is_empty() {
        return;
    }
    for object in objects {
        let Id { group, kind, name, .. } = &object.id;
        let keeps = matches!(
            (group.as_str(), kind.as_str()),
            ("", "Namespace")
                | ("apiextensions.k8s.io", "CustomResourceDefinition")
                | ("apiregistration.k8s.io", "APIService")
        );
        if !keeps {
            let (name, at) = (format!("{prefix}{name}{suffix}"), object.at);
            object.rename(name, at);
        }
    }
}

/// Sets labels or annotations.
pub(crate) fn metadata(objects: &mut [Built], field: &str, pairs: &Node) {
    for object in objects {
        let at = object.at;
        let Some(node) = object.node_mut() else { continue };
        for pair in pairs.entries() {
            node.child("metadata", at).child(field, pair.at).set(&pair.key, pair.at, pair.value.clone());
        }
    }
}

/// Sets names, tags and digests of the images in `containers` and `initContainers`, at any depth.
pub(crate) fn images(objects: &mut [Built], images: &[Node]) {
    if images.is_empty() {
        return;
    }
    for object in objects.iter_mut().filter(|object| object.id.kind != "CustomResourceDefinition") {
        if let Some(node) = object.node_mut() {
            images_in(node, images);
        }
    }
}

fn images_in(node: &mut Node, images: &[Node]) {
    match &mut node.data {
        Data::List(items) => items.iter_mut().for_each(|item| images_in(item, images)),
        Data::Map(entries) => {
            for entry in entries {
                if matches!(&*entry.key, "containers" | "initContainers")
                    && let Data::List(containers) = &mut entry.value.data
                {
                    for container in containers {
                        image(container, images);
                    }
                }
                images_in(&mut entry.value, images);
            }
        }
        _ => {}
    }
}

fn image(container: &mut Node, images: &[Node]) {
    for change in images {
        let Some(current) = container.str_of("image") else { return };
        let Some(name) = change.str_of("name") else { continue };
        let (bare, _) = current.split_once('@').unwrap_or((current, ""));
        let (repository, tag) = match bare.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (bare, None),
        };
        if repository != name {
            continue;
        }
        let text = |field: &str| {
            change
                .get(field)
                .map(Node::to_value)
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        };
        let repository = text("newName").unwrap_or_else(|| repository.to_owned());
        let new = match (text("digest"), text("newTag").or_else(|| tag.map(str::to_owned))) {
            (Some(digest), _) => format!("{repository}@{digest}"),
            (None, Some(tag)) => format!("{repository}:{tag}"),
            (None, None) => repository,
        };
        container.set("image", change.at, Node::text(&new, change.at));
    }
}

/// The ConfigMap of an item of `configMapGenerator`, under its name in the generator: the hash suffix of kustomize does
/// not matter here.
pub(crate) fn config_map(
    generator: &Node,
    options: Option<&Node>,
    mut text: impl FnMut(&str) -> Option<String>,
) -> Result<Built, String> {
    let at = generator.at;
    let name = generator.str_of("name").ok_or("a generated ConfigMap must have a name")?;
    let mut node = Node::map(at);
    node.set("apiVersion", at, Node::text("v1", at));
    node.set("kind", at, Node::text("ConfigMap", at));
    let metadata = node.child("metadata", at);
    metadata.set("name", at, Node::text(name, at));
    if let Some(namespace) = generator.str_of("namespace") {
        metadata.set("namespace", at, Node::text(namespace, at));
    }
    for options in options.into_iter().chain(generator.get("options")) {
        for field in ["labels", "annotations"] {
            for pair in options.get(field).map(Node::entries).unwrap_or_default() {
                metadata.child(field, pair.at).set(&pair.key, pair.at, pair.value.clone());
            }
        }
    }
    let data = node.child("data", at);
    let texts = |field: &str| generator.get(field).map(Node::items).unwrap_or_default();
    let mut put = |key: &str, value: &str, at: At| {
        if data.get(key).is_some() {
            return Err(format!("the ConfigMap {name} repeats the key {key}"));
        }
        data.set(key, at, Node::text(value, at));
        Ok(())
    };
    for literal in texts("literals") {
        let Some(literal_text) = literal.as_str() else { continue };
        let (key, value) =
            literal_text.split_once('=').ok_or_else(|| format!("{literal_text} is not KEY=VALUE"))?;
        put(key, unquoted(value), literal.at)?;
    }
    for file in texts("files") {
        let Some(file_text) = file.as_str() else { continue };
        let (key, path) = file_text
            .split_once('=')
            .unwrap_or((file_text.rsplit('/').next().unwrap_or(file_text), file_text));
        if let Some(content) = text(path) {
            put(key, &content, file.at)?;
        }
    }
    let single = generator.get("env").into_iter();
    for file in texts("envs").iter().chain(single) {
        let Some(path) = file.as_str().filter(|path| !path.is_empty()) else { continue };
        for line in text(path).unwrap_or_default().lines() {
            let line = line.trim_start();
            if !line.is_empty() && !line.starts_with('#') {
                // kustomize takes the value of a bare name from its own environment.
                let (key, value) = line.split_once('=').unwrap_or((line, ""));
                put(key, value, file.at)?;
            }
        }
    }
    let node = std::sync::Arc::new(node);
    let id = Id::of(&node).ok_or("a generated ConfigMap must have a name")?;
    Ok(Built::new(id, Some(node), at))
}

/// Adds a generated object, or merges it with an existing one. `is_whole`: no resource is elsewhere.
pub(super) fn generate(
    objects: &mut Vec<Built>,
    made: Built,
    generator: &Node,
    is_whole: bool,
) -> Result<(), Failure> {
    let behavior = generator.str_of("behavior").unwrap_or("create");
    let known = objects.iter().position(|object| object.is(&made.id));
    match (known, behavior) {
        // It may be one of those that are elsewhere.
        (None, "merge" | "replace") if !is_whole => Ok(()),
        (None, "merge" | "replace") | (Some(_), "create") => {
            let name = &made.id.name;
            let message = format!("ConfigMap {name} cannot be generated: behavior is {behavior}");
            Err(Failure { at: generator.at, message })
        }
        (None, _) => {
            objects.push(made);
            Ok(())
        }
        (Some(known), behavior) => {
            let (object, at) = (&mut objects[known], generator.at);
            let data = made.node.as_deref().and_then(|node| node.get("data"));
            if let (Some(node), Some(data)) = (object.node_mut(), data) {
                if behavior == "replace" {
                    node.remove("data");
                }
                let into = node.child("data", at);
                for entry in data.entries() {
                    into.set(&entry.key, entry.at, entry.value.clone());
                }
            }
            Ok(())
        }
    }
}

/// The value of a literal, without the quotes around it.
fn unquoted(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}
