//! The files that are generated from the chart and committed: the manifests for installing without Helm, the
//! list of its values, and goldens of what it renders. `gatehouse-conformance chart` writes them; a test
//! compares them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::helm::{self, Helm, NAMESPACE, Values};

/// The sets of values that have a golden, besides the defaults: every file in the chart's `ci/`.
pub const GOLDENS: [&str; 4] = ["minimal", "files", "cert-manager", "full"];

/// The maximum length of a line in documents.
const COLUMNS: usize = 100;

/// The markers around the list of values in the README.
const LIST: [&str; 2] = ["<!-- values: ", "<!-- end -->\n"];

/// Labels that only apply to objects that Helm installs.
const OF_HELM: [&str; 2] = ["helm.sh/chart: ", "app.kubernetes.io/managed-by: "];

const HEADING: &str = "\
# Made from charts/gatehouse and its default values by `cargo run -p gatehouse-conformance -- chart`.
# The image is not published: kustomization.yaml says how to name yours.
";

/// A generated file.
#[derive(Debug)]
pub struct Made {
    /// Its path.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

impl Made {
    /// Writes the file, and creates its folder.
    pub fn write(&self) -> anyhow::Result<()> {
        let cannot_write = || format!("cannot write {}", self.path.display());
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).with_context(cannot_write)?;
        }
        std::fs::write(&self.path, &self.text).with_context(cannot_write)
    }

    /// Whether the file has this content.
    pub fn is_current(&self) -> bool {
        std::fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
    }
}

/// All files that are generated from the chart.
pub async fn made(helm: &Helm) -> anyhow::Result<Vec<Made>> {
    let workspace = helm::chart().join("../..");
    let default = documents(&helm.template(&Values::default()).await?.ok()?);
    let mut made = vec![
        Made { path: workspace.join("deploy/gatehouse.yaml"), text: deploy(&default) },
        readme(&helm::chart())?,
    ];
    let default = by_object(&default)?;
    for name in GOLDENS {
        let rendered = documents(&helm.template(&Values::of(name)).await?.ok()?);
        let path = workspace.join(format!("conformance/tests/goldens/chart/{name}.yaml"));
        made.push(Made { path, text: golden(name, &default, &rendered)? });
    }
    Ok(made)
}

/// The documents of a YAML stream that are not empty, without their separators.
fn documents(text: &str) -> Vec<String> {
    let text = text.strip_prefix("---\n").unwrap_or(text);
    let documents = text.split("\n---\n").map(str::trim);
    let printed =
        documents.filter(|text| text.lines().any(|line| !line.is_empty() && !line.starts_with('#')));
    printed.map(ToOwned::to_owned).collect()
}

/// The manifests for installing without Helm.
fn deploy(documents: &[String]) -> String {
    let mut text = HEADING.to_owned();
    let namespace = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n  labels:\n    \
         pod-security.kubernetes.io/enforce: restricted\n"
    );
    let _ = write!(text, "---\n{namespace}");
    for document in documents {
        text.push_str("---\n");
        for line in document.lines() {
            let of_helm = OF_HELM.iter().any(|label| line.trim_start().starts_with(label));
            if !of_helm && !line.starts_with("# Source: ") {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    text
}

/// The text of each object, by kind, namespace and name.
type ByObject = BTreeMap<(String, String, String), String>;

fn by_object(documents: &[String]) -> anyhow::Result<ByObject> {
    let mut objects = ByObject::new();
    for document in documents {
        let object: Value = serde_saphyr::from_str(document).context("the chart renders no YAML")?;
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = (text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
        ensure!(!key.2.is_empty(), "an object without a name:\n{document}");
        ensure!(objects.insert(key.clone(), document.clone()).is_none(), "rendered twice: {key:?}");
    }
    Ok(objects)
}

/// The difference from the default: first the objects that are missing, then those that differ or are new.
fn golden(name: &str, default: &ByObject, rendered: &[String]) -> anyhow::Result<String> {
    let rendered = by_object(rendered)?;
    let mut text = format!("# What ci/{name}-values.yaml makes different from deploy/gatehouse.yaml.\n");
    for (kind, namespace, name) in default.keys().filter(|&key| !rendered.contains_key(key)) {
        let _ = writeln!(
            text,
            "# Not there: {kind} {name}{}{namespace}",
            if namespace.is_empty() { "" } else { " in " }
        );
    }
    for (_, document) in rendered.iter().filter(|(key, document)| default.get(key) != Some(document)) {
        let _ = write!(text, "---\n{document}\n");
    }
    Ok(text)
}

/// The chart's README with the current list of values.
fn readme(chart: &Path) -> anyhow::Result<Made> {
    let read = |name: &str| {
        let path = chart.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let schema: Value = serde_json::from_str(&read("values.schema.json")?).context("values.schema.json")?;
    let values: Value = serde_saphyr::from_str(&read("values.yaml")?).context("values.yaml")?;
    let text = read("README.md")?;
    let start = text.find(LIST[0]).context("README.md has no place for the values")?;
    let start = start + text[start..].find('\n').context("README.md ends before the values")? + 1;
    let end = text.rfind(LIST[1]).context("README.md has no end of the values")?;
    let mut list = String::new();
    items(&mut list, "", &schema, &values)?;
    let text = format!("{}{list}{}", &text[..start], &text[end..]);
    Ok(Made { path: chart.join("README.md"), text })
}

/// An item for each value, followed by the items of its properties. Every property must have a description
/// and a default, and every default must be a property.
fn items(list: &mut String, prefix: &str, schema: &Value, values: &Value) -> anyhow::Result<()> {
    let properties = schema["properties"].as_object().context("an object without properties")?;
    for (name, _) in values.as_object().into_iter().flatten() {
        ensure!(properties.contains_key(name), "{prefix}{name} is not in values.schema.json");
    }
    for (name, property) in properties {
        let path = format!("{prefix}{name}");
        let description =
            property["description"].as_str().with_context(|| format!("{path} is not described"))?;
        if path == "global" {
            continue;
        }
        let value = values.get(name).with_context(|| format!("{path} is not in values.yaml"))?;
        let is_group =
            property["properties"].is_object() && value.as_object().is_some_and(|value| !value.is_empty());
        let default = if is_group { String::new() } else { format!(" (default `{value}`)") };
        item(list, &format!("`{path}`{default}: {description}"));
        if is_group {
            items(list, &format!("{path}."), property, value)?;
        }
    }
    Ok(())
}

/// Writes an item of a Markdown list, wrapped.
fn item(list: &mut String, text: &str) {
    let mut line = "-".to_owned();
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            let _ = writeln!(list, "{line}");
            " ".clone_into(&mut line);
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(list, "{line}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_has_an_item_with_its_default() {
        let schema = json!({"properties": {
            "a": {"description": "One.", "properties": {"b": {"description": "Two | three."}}},
            "c": {"description": "Map."},
        }});
        let mut list = String::new();
        items(&mut list, "", &schema, &json!({"a": {"b": "x"}, "c": {"k": 1}})).expect("documented");
        assert_eq!(
            list,
            "- `a`: One.\n- `a.b` (default `\"x\"`): Two | three.\n- `c` (default `{\"k\":1}`): Map.\n"
        );
    }

    #[test]
    fn a_long_item_is_wrapped() {
        let mut list = String::new();
        item(&mut list, &"word ".repeat(30));
        let lines: Vec<_> = list.lines().collect();
        assert_eq!(lines.len(), 2, "{list}");
        assert!(lines[0].len() <= COLUMNS && lines[1].starts_with("  word"), "{list}");
    }

    #[test]
    fn what_is_not_described_or_not_in_the_schema_is_an_error() {
        let described = json!({"properties": {"a": {"description": "One."}}});
        for (schema, values) in [
            (json!({"properties": {"a": {}}}), json!({"a": 1})),
            (described.clone(), json!({"a": 1, "b": 2})),
            (described, json!({})),
        ] {
            assert!(items(&mut String::new(), "", &schema, &values).is_err(), "{schema} {values}");
        }
    }

    #[test]
    fn only_what_differs_is_kept() {
        let object = |name: &str, data: &str| format!("kind: K\nmetadata:\n  name: {name}\ndata: {data}");
        let default = by_object(&[object("a", "1"), object("b", "1"), object("c", "1")]).expect("objects");
        let text = golden("x", &default, &[object("a", "1"), object("b", "2")]).expect("objects");
        assert!(text.contains("# Not there: K c\n"), "{text}");
        assert!(!text.contains("name: a") && text.ends_with("name: b\ndata: 2\n"), "{text}");
    }

    #[test]
    fn helm_is_not_named_where_it_has_no_part() {
        let text = deploy(&["# Source: x\nmetadata:\n  labels:\n    helm.sh/chart: g\n    a: b".to_owned()]);
        assert!(text.ends_with("---\nmetadata:\n  labels:\n    a: b\n"), "{text}");
    }
}
