//! Objects that are meant together: all of a namespace, or of every namespace that the user may see.

use std::collections::BTreeSet;

use clap::builder::PossibleValuesParser;
use gatehouse_apiservice::view::STATES;
use serde_json::Value;

use crate::{
    connection::{Connection, Location},
    error::PluginError,
    rows::{LOCAL_CLUSTER, RESOURCE, Row, ensure_observed},
};

/// Which objects, if not by name.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ManyArgs {
    /// Every Flux object of the namespace; with -A, of every namespace that you may see.
    #[arg(long, conflicts_with = "targets")]
    pub(crate) all: bool,
    /// Every object in this state, for example Failed. May be repeated.
    #[arg(
        long, value_name = "STATE", value_delimiter = ',', value_parser = PossibleValuesParser::new(STATES),
        hide_possible_values = true, conflicts_with = "targets"
    )]
    pub(crate) state: Vec<String>,
    /// In every namespace that you may see. Needs --all or --state.
    #[arg(short = 'A', long, conflicts_with = "targets")]
    pub(crate) all_namespaces: bool,
}

impl ManyArgs {
    /// Whether objects are meant that are not named.
    pub(crate) fn is_meant(&self) -> bool {
        self.all || !self.state.is_empty()
    }

    pub(crate) fn includes(&self, state: &str) -> bool {
        self.state.is_empty() || self.state.iter().any(|wanted| wanted == state)
    }

    /// The namespace; none for all.
    pub(crate) fn namespace<'a>(&self, connection: &'a Connection) -> Option<&'a str> {
        (!self.all_namespaces).then_some(connection.namespace.as_str())
    }

    /// ` (namespace team-a)`, if the namespace of an object does not follow from the command.
    pub(crate) fn place(&self, namespace: &str) -> String {
        if self.all_namespaces { format!(" (namespace {namespace})") } else { String::new() }
    }
}

/// The items of a resource in a namespace, or in every namespace that the user may see: those of `mynamespaces`, where
/// the user may not list the resource over all.
pub(crate) async fn items(
    connection: &Connection,
    resource: &str,
    namespace: Option<&str>,
) -> Result<Vec<Value>, PluginError> {
    let refused = match list(connection, resource, namespace).await {
        Err(error) if error.is_forbidden() && namespace.is_none() => error,
        answer => return answer,
    };
    let Ok(mine) = list(connection, "mynamespaces", None).await else { return Err(refused) };
    let names = mine.iter().filter_map(|row| row.pointer("/status/namespace")?.as_str());
    let names: BTreeSet<&str> = names.collect();
    let (mut all, mut is_any) = (Vec::new(), false);
    for name in names {
        match list(connection, resource, Some(name)).await {
            Ok(items) => {
                is_any = true;
                all.extend(items);
            }
            // The namespace may be seen, and this resource not.
            Err(error) if error.is_forbidden() => {}
            Err(error) => return Err(error),
        }
    }
    if is_any { Ok(all) } else { Err(refused) }
}

async fn list(
    connection: &Connection,
    resource: &str,
    namespace: Option<&str>,
) -> Result<Vec<Value>, PluginError> {
    let mut list = connection.get(Location { namespace, resource, ..Location::default() }, &[]).await?;
    let items = list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take);
    Ok(items.unwrap_or_default())
}

/// The rows that are meant, of one cluster.
pub(crate) async fn rows(
    connection: &Connection,
    many: &ManyArgs,
    cluster: Option<&str>,
) -> Result<Vec<Row>, PluginError> {
    let rows = items(connection, RESOURCE, many.namespace(connection)).await?;
    let rows = rows.into_iter().map(Row::of).collect::<Result<Vec<_>, _>>()?;
    let cluster = match cluster {
        Some(cluster) => {
            if rows.iter().all(|row| row.status.cluster != cluster) {
                ensure_observed(connection, cluster).await?;
            }
            cluster.to_owned()
        }
        None => own_cluster(rows.iter().map(|row| &*row.status.cluster))?,
    };
    let is_meant = |row: &Row| row.status.cluster == cluster && many.includes(&row.status.state);
    Ok(rows.into_iter().filter(is_meant).collect())
}

/// The cluster that serves the API, of those that rows name.
pub(crate) fn own_cluster<'a>(names: impl Iterator<Item = &'a str>) -> Result<String, PluginError> {
    let names: BTreeSet<&str> = names.collect();
    let mut others = names.iter().filter(|name| **name != LOCAL_CLUSTER);
    match (names.contains(LOCAL_CLUSTER), others.next(), others.next()) {
        (true, ..) | (false, None, _) => Ok(LOCAL_CLUSTER.to_owned()),
        (false, Some(only), None) => Ok((*only).to_owned()),
        _ => {
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            Err(PluginError::invalid(format!(
                "there are several clusters, name one with --cluster-name: {names}"
            )))
        }
    }
}
