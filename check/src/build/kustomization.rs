//! Decodes a kustomization file: the fields that are supported here, and the names of the others.

use gatehouse_inventory::yaml::{At, Data, Node};

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
        // Wherever they stand, these come after `labels`.
        let mut common_labels = None;
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
                "commonLabels" => common_labels = Some(value.clone()),
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
        all.labels.extend(common_labels);
        all
    }
}

/// The API group of kustomization files.
const GROUP: &str = "kustomize.config.k8s.io";

/// Why kustomize refuses a kustomization file: its kind or version, or a value of the wrong type. A text that is none
/// would otherwise be passed over, and what it says with it.
pub(crate) fn refused(node: &Node) -> Option<(At, String)> {
    let text = |field: &str| node.str_of(field).unwrap_or_default();
    let version = match text("kind") {
        "" | "Kustomization" => "v1beta1",
        "Component" => "v1alpha1",
        _ => return Some((node.at, "kind should be Kustomization or Component".to_owned())),
    };
    let api_version = format!("{GROUP}/{version}");
    if !["", &api_version].contains(&text("apiVersion")) {
        return Some((node.at, format!("apiVersion should be {api_version}")));
    }
    node.entries().iter().find_map(|entry| {
        let value = &entry.value;
        let (is_right, expected) = match &*entry.key {
            "namespace" | "namePrefix" | "nameSuffix" => (is_text(value), "a text"),
            "resources" | "bases" | "components" | "patchesStrategicMerge" | "configurations" => {
                (is_list(value, is_text), "a list of texts")
            }
            "patches" | "patchesJson6902" | "images" | "replacements" | "configMapGenerator" => {
                (is_list(value, |item| matches!(item.data, Data::Map(_))), "a list of maps")
            }
            "labels" => {
                let has_pairs = |item: &Node| item.get("pairs").is_none_or(are_pairs);
                (is_list(value, has_pairs), "a list of pairs of texts")
            }
            "commonLabels" | "commonAnnotations" => (are_pairs(value), "pairs of texts"),
            _ => (true, ""),
        };
        (!is_right).then(|| (entry.at, format!("{} should be {expected}", entry.key)))
    })
}

fn is_text(value: &Node) -> bool {
    matches!(value.data, Data::Text(..) | Data::Null)
}

fn is_list(value: &Node, is_item: impl Fn(&Node) -> bool) -> bool {
    value.data == Data::Null || matches!(&value.data, Data::List(items) if items.iter().all(is_item))
}

fn are_pairs(value: &Node) -> bool {
    let pairs = value.entries().iter().map(|entry| &entry.value);
    value.data == Data::Null || (matches!(value.data, Data::Map(_)) && pairs.into_iter().all(is_text))
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
    match &value.data {
        Data::Null => true,
        Data::Text(text, _) => text.is_empty(),
        Data::List(items) => items.is_empty(),
        Data::Map(entries) => entries.is_empty(),
        _ => false,
    }
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
fn patch(item: &Node) -> PatchSource {
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
