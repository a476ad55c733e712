//! The views as tables on standard output, for those who have no kubectl at hand.

use std::path::Path;

use anyhow::Context;
use gatehouse_apiservice::view::API_VERSION;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize;

/// What is shown: the README's command, and what only some clusters have.
const SHOWN: [&str; 4] = ["fluxsummaries", "clusterhealths", "gameserversummaries", "tenantusages"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    column_definitions: Vec<Column>,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    priority: i32,
}

#[derive(Deserialize)]
struct Row {
    cells: Vec<serde_json::Value>,
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

/// Asks the server that the kubeconfig leads to, as any client would.
pub(super) async fn print(kubeconfig: &Path) -> anyhow::Result<()> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = kube::Client::try_from(config)?;
    for resource in SHOWN {
        let request = http::Request::get(format!("/apis/{API_VERSION}/{resource}"))
            .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Vec::new())?;
        let table: Table =
            client.request(request).await.with_context(|| format!("cannot list {resource}"))?;
        // A folder of manifests need not hold game servers or quotas.
        if !table.rows.is_empty() {
            println!("{}", render(&table));
        }
    }
    Ok(())
}

/// Columns as wide as they need be, as kubectl prints them.
fn render(table: &Table) -> String {
    let shown: Vec<_> = (0..table.column_definitions.len())
        .filter(|column| table.column_definitions[*column].priority == 0)
        .collect();
    let namespaced = table.rows.iter().any(|row| !row.object.metadata.namespace.is_empty());
    let headings = shown.iter().map(|column| table.column_definitions[*column].name.to_uppercase());
    let mut lines = vec![namespaced.then(|| "NAMESPACE".to_owned()).into_iter().chain(headings).collect()];
    lines.extend(table.rows.iter().map(|row| {
        let namespace = namespaced.then(|| row.object.metadata.namespace.clone());
        let cells = shown.iter().map(|column| match &row.cells[*column] {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => String::new(),
            other => other.to_string(),
        });
        namespace.into_iter().chain(cells).collect::<Vec<_>>()
    }));
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0))
        .collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}
