//! Fields whose values are not known yet, because Flux or a ResourceSet fills them in.
//!
//! **Invariant:** A rule that depends on such a field is not judged.

use gatehouse_inventory::yaml::{Data, Node};

use crate::flux;

/// The open fields of an object.
#[derive(Debug, Default)]
pub(crate) struct Open(Vec<(Vec<Part>, String)>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Key(String),
    Index(usize),
}

impl Open {
    pub(crate) fn of(node: Option<&Node>) -> Self {
        let mut open = Self::default();
        if let Some(node) = node {
            open.walk(node, &mut Vec::new());
        }
        open
    }

    fn walk(&mut self, node: &Node, path: &mut Vec<Part>) {
        match &node.data {
            Data::Text(text, _) if flux::is_open(text) => self.0.push((path.clone(), text.to_string())),
            Data::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(Part::Index(index));
                    self.walk(item, path);
                    path.pop();
                }
            }
            Data::Map(entries) => {
                for entry in entries {
                    path.push(Part::Key(entry.key.to_string()));
                    self.walk(&entry.value, path);
                    path.pop();
                }
            }
            _ => {}
        }
    }

    /// The open field that a verdict depends on, and its text.
    pub(crate) fn concerns(
        &self,
        rule: &str,
        field: &str,
        expression: Option<&str>,
    ) -> Option<(String, &str)> {
        let found = self.0.iter().find(|(path, _)| {
            let name = shown(path);
            touches(&name, field) || also(rule, &name) || expression.is_some_and(|text| reads(text, path))
        });
        found.map(|(path, text)| (shown(path), text.as_str()))
    }
}

/// Whether one field equals or contains the other.
fn touches(one: &str, other: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        !outer.is_empty()
            && inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    within(one, other) || within(other, one)
}

/// Whether a rule also reads this field, in addition to the field that it names.
fn also(rule: &str, path: &str) -> bool {
    match rule {
        "sources" => matches!(path, "spec.url" | "spec.endpoint" | "spec.bucketName" | "spec.provider"),
        "crossNamespaceRefs" | "targetNamespaces" => path == "metadata.namespace",
        _ => false,
    }
}

/// Whether an expression may read a field: it contains the name of the field, or of an enclosing one that a macro may
/// iterate over. If in doubt, the answer is yes, and a note reports it.
fn reads(expression: &str, path: &[Part]) -> bool {
    if expression.contains("variables.") {
        return true;
    }
    let words: Vec<&str> = expression
        .split(|character: char| !character.is_alphanumeric() && !matches!(character, '_' | '-' | '/'))
        .collect();
    let keys: Vec<&str> = path
        .iter()
        .filter_map(|part| match part {
            Part::Key(key) => Some(key.as_str()),
            Part::Index(_) => None,
        })
        .collect();
    let Some((last, around)) = keys.split_last() else { return false };
    words.contains(last) || around.iter().skip(1).any(|key| words.contains(key))
}

fn shown(path: &[Part]) -> String {
    let mut text = String::new();
    for part in path {
        match part {
            Part::Key(key) if text.is_empty() => text.clone_from(key),
            Part::Key(key) => text = format!("{text}.{key}"),
            Part::Index(index) => text = format!("{text}[{index}]"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use gatehouse_inventory::yaml::{self, At};

    use super::*;

    fn concerned(rule: &str, field: &str, expression: Option<&str>) -> Option<String> {
        let text = "metadata: {namespace: \"${NS}\"}\nspec:\n  timeout: ${T}\n  images: [{newTag: x}, {newTag: \"<< inputs.tag >>\"}]\n";
        let node = yaml::load(text, At::default()).unwrap();
        Open::of(node.as_ref()).concerns(rule, field, expression).map(|(path, _)| path)
    }

    #[test]
    fn a_verdict_depends_on_the_field_what_is_in_it_and_what_it_is_in() {
        assert_eq!(concerned("interval", "spec.timeout", None).as_deref(), Some("spec.timeout"));
        assert_eq!(concerned("x", "spec.images[1]", None).as_deref(), Some("spec.images[1].newTag"));
        assert_eq!(concerned("x", "spec.images[0]", None), None);
        assert_eq!(concerned("interval", "spec.interval", None), None);
        assert_eq!(concerned("interval", "", None), None);
        assert_eq!(
            concerned("targetNamespaces", "spec.targetNamespace", None).as_deref(),
            Some("metadata.namespace")
        );
    }

    #[test]
    fn an_expression_depends_on_what_it_names_and_goes_through() {
        let of = |expression: &str| concerned("cel[0]", "", Some(expression));
        assert_eq!(of("object.spec.timeout <= '5m'").as_deref(), Some("spec.timeout"));
        assert_eq!(
            of("object.spec.images.exists(i, i.newTag == 'a')").as_deref(),
            Some("spec.images[1].newTag")
        );
        assert_eq!(of("object.spec.images.size() > 1").as_deref(), Some("spec.images[1].newTag"));
        assert_eq!(of("object.spec.interval == '1m'"), None);
    }
}
