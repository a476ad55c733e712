//! `why`: the chain of causes of an object, to its end.

use std::io::Write;

use serde_json::Value;

use crate::{
    causes::{list, root_causes},
    chain::Chain,
    connection::Connection,
    error::{PluginError, exit},
    known,
    object::{Target, is_flux, is_known},
    output::{OutputArgs, Terminal},
    problems::Problem,
    rows::{LOCAL_CLUSTER, Reference, Rows, ensure_observed},
};

/// Show why an object is not ready: the chain of causes to its end
///
/// Without KIND/NAME, lists the root causes in a namespace, or with -A in all, and how many objects wait for each.
#[derive(Debug, Clone, clap::Args)]
pub struct WhyArgs {
    /// Object, for example ks/shop, hr/shop or deployment/shop.
    #[arg(value_name = "KIND/NAME")]
    target: Option<Target>,
    /// List the root causes in all namespaces.
    #[arg(short = 'A', long, conflicts_with = "target")]
    all_namespaces: bool,
    /// Observed cluster that the object is in. Default: the one that serves the API.
    #[arg(long, value_name = "NAME")]
    cluster_name: Option<String>,
    /// Exit with 3 if the object is not ready, or if there is any root cause.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl WhyArgs {
    /// Prints the chain, or the list of root causes.
    pub(crate) async fn run(
        &self,
        connection: &Connection,
        terminal: Terminal,
        out: &mut dyn Write,
    ) -> Result<u8, PluginError> {
        let mut rows = Rows::new(connection);
        let (text, is_well) = if let Some(target) = &self.target {
            let (chain, is_well) = self.chain(target, connection, &mut rows).await?;
            let text = self.output.objects(&chain.objects())?;
            (text.unwrap_or_else(|| chain.text(terminal, self.output.is_wide())), is_well)
        } else {
            let namespace = (!self.all_namespaces).then_some(connection.namespace.as_str());
            let mut listed = rows.list(namespace).await?;
            if let Some(name) = &self.cluster_name {
                listed.retain(|row| row.status.cluster == *name);
                if listed.is_empty() {
                    ensure_observed(connection, name).await?;
                }
            }
            let roots = root_causes(&listed);
            let objects: Vec<&Value> = roots.iter().filter_map(|root| Some(&root.row?.object)).collect();
            let text = self.output.objects(&objects)?;
            (text.unwrap_or_else(|| list(&roots, namespace)), roots.is_empty())
        };
        out.write_all(text.as_bytes())?;
        Ok(if self.exit_code && !is_well { exit::NOT_READY } else { exit::OK })
    }

    /// The chain of an object, and whether that is well.
    async fn chain(
        &self,
        target: &Target,
        connection: &Connection,
        rows: &mut Rows<'_>,
    ) -> Result<(Chain, bool), PluginError> {
        let error = match rows.named(target, self.cluster_name.as_deref()).await {
            Ok(first) => {
                let is_well = first.is_ready();
                return Ok((Chain::of_row(first, connection, rows).await?, is_well));
            }
            Err(error) => error,
        };
        // Other objects have rows while they are not well.
        if let (Target::Object { kind, namespace, name }, true) = (target, error.is_object_missing()) {
            let cluster = self.cluster_name.as_deref().unwrap_or(LOCAL_CLUSTER);
            let namespace = namespace.as_ref().unwrap_or(&connection.namespace).clone();
            let object = Reference { kind: kind.clone(), namespace, name: name.clone() };
            if let Some(problem) = Problem::of(connection, cluster, &object).await? {
                return Ok((Chain::of_problem(problem, cluster, connection).await?, false));
            }
            if !is_known(kind) && known::is_unknown(connection, kind).await {
                return Err(PluginError::invalid(format!(
                    "the server doesn't have a resource type {kind:?}"
                )));
            }
            if !is_flux(kind) {
                return Err(PluginError::invalid(format!(
                    "{kind}/{name} has no problem: it is well, does not exist or is not observed"
                )));
            }
        }
        Err(error)
    }
}
