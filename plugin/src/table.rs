//! Tables as kubectl prints them.

use serde::Deserialize;
use serde_json::Value;

use crate::{error::PluginError, output::visible};

/// A `meta.k8s.io/v1` Table of an API server.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    column_definitions: Vec<Column>,
    #[serde(default)]
    rows: Vec<TableRow>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    #[serde(default)]
    priority: i32,
}

#[derive(Deserialize)]
struct TableRow {
    cells: Vec<Value>,
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    namespace: String,
}

impl Table {
    /// Reads the answer of a server.
    pub(crate) fn of(answer: &Value) -> Result<Self, PluginError> {
        Self::deserialize(answer)
            .map_err(|error| PluginError::Unreachable(format!("its answer is no Table: {error}")))
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text: the columns of `-o wide` only if asked for, namespaces where a row has one.
    pub fn render(&self, wide: bool) -> String {
        let shown: Vec<_> = (0..self.column_definitions.len())
            .filter(|column| wide || self.column_definitions[*column].priority == 0)
            .collect();
        let namespaced = self.rows.iter().any(|row| !row.object.metadata.namespace.is_empty());
        let headings = shown.iter().map(|column| self.column_definitions[*column].name.to_uppercase());
        let mut lines: Vec<Vec<String>> =
            vec![namespaced.then(|| "NAMESPACE".to_owned()).into_iter().chain(headings).collect()];
        lines.extend(self.rows.iter().map(|row| {
            let namespace = namespaced.then(|| row.object.metadata.namespace.clone());
            let cells = shown.iter().map(|column| match row.cells.get(*column) {
                Some(Value::String(text)) => text.clone(),
                None | Some(Value::Null) => String::new(),
                Some(other) => other.to_string(),
            });
            namespace.into_iter().chain(cells).collect()
        }));
        align(&lines)
    }
}

/// Columns as wide as they need be, three blanks apart. The first line has the headings.
pub(crate) fn align(lines: &[Vec<String>]) -> String {
    let lines: Vec<Vec<String>> =
        lines.iter().map(|line| line.iter().map(|cell| visible(cell)).collect()).collect();
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|at| lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}
