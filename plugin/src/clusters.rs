//! `clusters`: the observed clusters, as `kubectl get` prints them.

use std::io::Write;

use serde_json::Value;

use crate::{
    connection::{Connection, Location},
    error::PluginError,
    output::OutputArgs,
};

const RESOURCE: &str = "clusterhealths";

/// List the observed clusters and their health
///
/// The same as kubectl get clusterhealths.
#[derive(Debug, Clone, clap::Args)]
pub struct ClustersArgs {
    #[command(flatten)]
    output: OutputArgs,
}

impl ClustersArgs {
    /// Prints them.
    pub(crate) async fn run(&self, connection: &Connection, out: &mut dyn Write) -> Result<(), PluginError> {
        let text = if self.output.is_text() {
            connection.table(RESOURCE).await?.render(self.output.is_wide())
        } else {
            let list = connection.get(Location { resource: RESOURCE, ..Location::default() }, &[]).await?;
            let none = Vec::new();
            let items: Vec<&Value> = list["items"].as_array().unwrap_or(&none).iter().collect();
            self.output.objects(&items)?.unwrap_or_default()
        };
        Ok(out.write_all(text.as_bytes())?)
    }
}
