//! Decodes a kustomization file: the fields that are supported here, and the names of the others.

use gatehouse_inventory::yaml::{At, Node};

/// The file names that kustomize looks for, in its order.
pub(crate) const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// A kustomization, or the additions of a Flux Kustomization to one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kustomization {
    /// Files, folders and URLs, including `bases`.
    pub(crate) resources: Vec<Reference>,
    pub(crate) components: Vec<Reference>,
    /// `patchesStrategicMerge`, which are applied before the others.
    pub(crate) merges: Vec<PatchSource>,
    pub(crate) patches: Vec<PatchSource>,
    /// `patchesJson6902`, which are applied after names and labels.
    pub(crate) operations: Vec<PatchSource>,
    pub(crate) namespace: Option<(String, At)>,
    pub(crate) prefix: Option<String>,
    pub(crate) suffix: Option<String>,
    pub(crate) labels: Vec<Node>,
    pub(crate) annotations: Vec<Node>,
    pub(crate) images: Vec<Node>,
    pub(crate) config_maps: Vec<Node>,
    pub(crate) generator_options: Option<Node>,
    pub(crate) replacements: Vec<Node>,
    /// Files with further fields for names, labels and namespaces.
    pub(crate) configurations: Vec<Reference>,
    /// Unsupported fields.
    pub(crate) unsupported: Vec<(String, At)>,
}

/// A reference and its position.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) at: At,
}

/// A patch, in its own file or inline.
#[derive(Debug, Clone)]
pub(crate) struct PatchSource {
    pub(crate) path: Option<Reference>,
    pub(crate) inline: Option<Node>,
    pub(crate) target: Option<Node>,
    /// `allowNameChange` and `allowKindChange`.
    pub(crate) changes_name: bool,
    pub(crate) changes_kind: bool,
    pub(crate) at: At,
}

/// Fields that do not affect what is judged, because they write to no field of a governed kind.
const HARMLESS: [&str; 9] = [
    "apiVersion",
    "kind",
    "metadata",
    "replicas",
    "secretGenerator",
    "sortOptions",
    "buildMetadata",
    "validators",
    "helmGlobals",
];

impl Kustomization {
    pub(crate) fn of(node: &Node) -> Self {
        let mut all = Self::default();
        for entry in node.entries() {
            let (value, at) = (&entry.value, entry.at);
            let references = || value.items().iter().filter_map(reference);
            match &*entry.key {
                "resources" | "bases" => all.resources.extend(references()),
                "components" => all.components.extend(references()),
                "patchesStrategicMerge" => all.merges.extend(value.items().iter().map(merge)),
                "patches" => all.patches.extend(value.items().iter().map(patch)),
                "patchesJson6902" => all.operations.extend(value.items().iter().map(patch)),
                "namespace" => all.namespace = text(value).map(|text| (text, at)),
                "namePrefix" => all.prefix = text(value),
                "nameSuffix" => all.suffix = text(value),
                "labels" => {
                    all.labels.extend(value.items().iter().filter_map(|item| item.get("pairs").cloned()));
                    let own = value.items().iter().find_map(|item| item.entry("fields"));
                    all.unsupported.extend(own.map(|own| ("labels with fields".to_owned(), own.at)));
                }
                "commonLabels" => all.labels.push(value.clone()),
                "commonAnnotations" => all.annotations.push(value.clone()),
                "images" => all.images.extend(value.items().iter().cloned()),
                "replacements" => all.replacements.extend(value.items().iter().cloned()),
                "configurations" => all.configurations.extend(references()),
                "generatorOptions" => all.generator_options = Some(value.clone()),
                "configMapGenerator" => all.config_maps.extend(value.items().iter().cloned()),
                key if HARMLESS.contains(&key) || is_empty(value) => {}
                key => all.unsupported.push((key.to_owned(), at)),
            }
        }
        all
    }
}

impl Kustomization {
    /// Whether a Flux Kustomization changes nothing in the build.
    pub(crate) fn adds_nothing(&self) -> bool {
        self.components.is_empty()
            && self.patches.is_empty()
            && self.images.is_empty()
            && self.namespace.is_none()
            && self.prefix.is_none()
            && self.suffix.is_none()
    }
}

fn is_empty(value: &Node) -> bool {
    value.items().is_empty() && value.entries().is_empty() && value.as_str().is_none_or(str::is_empty)
}

fn text(value: &Node) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn reference(item: &Node) -> Option<Reference> {
    Some(Reference { name: text(item)?, at: item.at })
}

/// An item of `patchesStrategicMerge`: a path, or an inline patch.
fn merge(item: &Node) -> PatchSource {
    let inline = item.as_str().is_some_and(|text| text.contains('\n') || text.trim_start().starts_with('{'));
    PatchSource {
        path: if inline { None } else { reference(item) },
        inline: inline.then(|| item.clone()),
        target: None,
        changes_name: false,
        changes_kind: false,
        at: item.at,
    }
}

/// An item of `patches` or `patchesJson6902`.
pub(crate) fn patch(item: &Node) -> PatchSource {
    let option = |name: &str| {
        let value = item.at_path(&["options", name]).map(Node::to_value);
        value.is_some_and(|value| value == true || value == "true")
    };
    PatchSource {
        path: item.get("path").and_then(reference),
        inline: item.get("patch").cloned(),
        target: item.get("target").cloned(),
        changes_name: option("allowNameChange"),
        changes_kind: option("allowKindChange"),
        at: item.at,
    }
}
