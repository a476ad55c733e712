//! What the commands that act have in common: a request to a subresource, and what is printed of it.

use std::io::Write;

use serde::Deserialize;
use serde_json::{Value, json};

use gatehouse_apiservice::view::API_VERSION;

use crate::{
    connection::{Connection, Location},
    error::PluginError,
    object::Target,
    output::{Format, OutputArgs, visible},
    rows::{LOCAL_CLUSTER, Row, Rows},
};

/// Whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DryRun {
    /// The request is made.
    None,
    /// The server checks the request, admission included, and writes nothing.
    Server,
}

/// The arguments of the commands that act on objects.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ActArgs {
    /// Observed cluster that the objects are in. Default: the one that serves the API.
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster_name: Option<String>,
    /// With `server`, check the request, admission included, and write nothing.
    #[arg(long, value_name = "HOW", default_value = "none")]
    pub(crate) dry_run: DryRun,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// An object as an answer names it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Acted {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The token of the request.
    pub(crate) requested_at: String,
    /// Why nothing was requested.
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Acted {
    /// `kustomization.kustomize.toolkit.fluxcd.io/shop`, as kubectl names objects.
    pub(crate) fn qualified(&self) -> String {
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        visible(&format!("{}.{group}/{}", self.kind.to_lowercase(), self.name))
    }
}

impl Acted {
    /// Why nothing was requested of it.
    pub(crate) fn not_requested(&self) -> String {
        let Self { reason, message, .. } = self;
        visible(&format!("{} not requested: {reason}: {message}", self.qualified()))
    }
}

/// An answer, and the name of the row that was acted on.
pub(crate) struct Answer {
    pub(crate) row: String,
    pub(crate) object: Value,
}

impl Answer {
    /// The row, as kubectl names objects.
    pub(crate) fn named(&self) -> String {
        format!("fluxresource.view.gatehouse.dev/{}", self.row)
    }
}

impl ActArgs {
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run == DryRun::Server
    }

    /// ` (server dry run)`, as kubectl says it.
    pub(crate) fn dry_run_mark(&self) -> &'static str {
        if self.is_dry_run() { " (server dry run)" } else { "" }
    }

    /// Asks for an action on an object. Reads nothing before, since that would need another right.
    pub(crate) async fn create(
        &self,
        connection: &Connection,
        target: &Target,
        subresource: &str,
        kind: &str,
        spec: &Value,
    ) -> Result<Answer, PluginError> {
        let body = json!({"apiVersion": API_VERSION, "kind": kind, "spec": spec});
        let cluster = self.cluster_name.as_deref();
        let (namespace, row) = target.row(&connection.namespace, cluster.unwrap_or(LOCAL_CLUSTER));
        match self.post(connection, &namespace, &row, subresource, &body).await {
            Err(error) if error.is_object_missing() && cluster.is_none() => {
                // The observed cluster may have another name.
                let Ok(found) = Rows::new(connection).named(target, None).await else { return Err(error) };
                self.post(connection, &found.namespace, &found.name, subresource, &body).await
            }
            answer => answer,
        }
    }

    /// Asks for an action on the object of a row.
    pub(crate) async fn create_at(
        &self,
        connection: &Connection,
        row: &Row,
        subresource: &str,
        kind: &str,
        spec: &Value,
    ) -> Result<Answer, PluginError> {
        let body = json!({"apiVersion": API_VERSION, "kind": kind, "spec": spec});
        self.post(connection, &row.namespace, &row.name, subresource, &body).await
    }

    async fn post(
        &self,
        connection: &Connection,
        namespace: &str,
        row: &str,
        subresource: &str,
        body: &Value,
    ) -> Result<Answer, PluginError> {
        let (namespace, name, subresource) = (Some(namespace), Some(row), Some(subresource));
        let location = Location { namespace, resource: "fluxresources", name, subresource };
        let object = self.post_to(connection, location, body).await?;
        // The server's own cluster has a name of its own, and answers to `local` too.
        let named = object.pointer("/metadata/name").and_then(Value::as_str);
        Ok(Answer { row: named.unwrap_or(row).to_owned(), object })
    }

    pub(crate) async fn post_to(
        &self,
        connection: &Connection,
        location: Location<'_>,
        body: &Value,
    ) -> Result<Value, PluginError> {
        let dry_run: &[(&str, &str)] = if self.is_dry_run() { &[("dryRun", "All")] } else { &[] };
        match connection.create(location, dry_run, body).await {
            Err(error) if error.is_resource_missing() => Err(PluginError::NoActions),
            answer => answer,
        }
    }

    /// Prints all answers in a format for programs, if one was asked for; `names` are the objects for `-o name`.
    pub(crate) fn print_objects(
        &self,
        answers: &[&Value],
        names: &[String],
        out: &mut dyn Write,
    ) -> Result<(), PluginError> {
        if answers.is_empty() {
            return Ok(());
        }
        let text = match self.output.output {
            Some(Format::Name) => Some(names.iter().map(|name| name.clone() + "\n").collect()),
            _ => self.output.objects(answers)?,
        };
        out.write_all(text.unwrap_or_default().as_bytes())?;
        Ok(out.flush()?)
    }
}

/// Runs something for each target, and goes on after an error, as kubectl does.
pub(crate) fn all_or_errors(mut errors: Vec<PluginError>) -> Result<(), PluginError> {
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(PluginError::Several(errors)),
    }
}
