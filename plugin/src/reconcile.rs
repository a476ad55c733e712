//! `reconcile`: requests reconciliations, and waits until the controllers have handled these requests.

use std::{io::Write, time::Duration};

use gatehouse_apiservice::{duration, view::API_VERSION};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    act::{ActArgs, Acted, Answer, all_or_errors},
    connection::{Connection, Location},
    error::PluginError,
    object::Target,
    output::Terminal,
    rows::LOCAL_CLUSTER,
    wait::{self, Request},
};

/// Request a reconciliation, and wait for it with --wait
///
/// Needs the right to create fluxresources/reconcile, and the verb reconcile on the Flux object; see docs/actions.md.
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct ReconcileArgs {
    /// Objects, for example ks/shop hr/cart.
    #[arg(value_name = "KIND/NAME", required_unless_present = "all")]
    targets: Vec<Target>,
    /// Reconcile every Flux object of the namespace.
    #[arg(long, conflicts_with_all = ["targets", "with_source", "force", "reset"])]
    all: bool,
    /// With --all, only objects in this state, for example Failed. May be repeated.
    #[arg(long, value_name = "STATE", value_delimiter = ',', requires = "all")]
    state: Vec<String>,
    /// Reconcile the source of the object first.
    #[arg(long)]
    with_source: bool,
    /// Upgrade a HelmRelease even if nothing has changed.
    #[arg(long)]
    force: bool,
    /// Forget the failures that were counted for a HelmRelease.
    #[arg(long)]
    reset: bool,
    /// Why, for the Event on the object.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Wait until the controllers have handled this request. Exits with 3 if the object is not ready then.
    #[arg(long)]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = timeout)]
    timeout: Duration,
    #[command(flatten)]
    act: ActArgs,
}

/// Why an object of many is passed over without an error.
const LEFT_OUT: [&str; 3] = ["NotReconcilable", "Suspended", "Terminating"];

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    objects: Vec<Acted>,
    not_requested: Vec<Acted>,
}

impl ReconcileArgs {
    pub(crate) async fn run(
        &self,
        connection: &Connection,
        terminal: Terminal,
        out: &mut dyn Write,
    ) -> Result<(), PluginError> {
        let mut errors = Vec::new();
        let mut answers = Vec::new();
        if self.all {
            let answer = self.request_all(connection).await?;
            errors.extend(self.print(&answer, out)?);
            answers.push(answer);
        }
        for target in &self.targets {
            match self.request(connection, target).await {
                Ok(answer) => {
                    errors.extend(self.print(&answer, out)?);
                    answers.push(answer);
                }
                Err(error) => errors.push(error),
            }
        }
        let objects: Vec<&Value> = answers.iter().map(|answer| &answer.object).collect();
        let requested = || answers.iter().flat_map(|answer| &answer.requested);
        let names: Vec<String> = requested().map(Acted::qualified).collect();
        self.act.print_objects(&objects, &names, out)?;
        if self.wait && !self.act.is_dry_run() {
            let requests: Vec<Request> = answers.iter().flat_map(Outcome::requests).collect();
            // What programs read is complete.
            let out = self.act.output.is_text().then_some(out);
            errors.extend(wait::until_handled(connection, terminal, &requests, self.timeout, out).await?);
        }
        all_or_errors(errors)
    }

    async fn request(&self, connection: &Connection, target: &Target) -> Result<Outcome, PluginError> {
        let mut spec = Map::new();
        for (name, is_set) in [("withSource", self.with_source), ("force", self.force), ("reset", self.reset)]
        {
            if is_set {
                spec.insert(name.to_owned(), true.into());
            }
        }
        self.explain(&mut spec);
        let Answer { row, object } =
            self.act.create(connection, target, "reconcile", "ReconcileRequest", &spec.into()).await?;
        let mut answer = Outcome::of(object, LOCAL_CLUSTER, false)?;
        // The name of the row begins with that of the cluster, and ends with what the object is called.
        let last = answer.requested.last();
        let end = last.map(|object| format!(".{}.{}", object.kind.to_lowercase(), object.name));
        if let Some(cluster) = end.and_then(|end| row.strip_suffix(&*end)) {
            cluster.clone_into(&mut answer.cluster);
        }
        Ok(answer)
    }

    async fn request_all(&self, connection: &Connection) -> Result<Outcome, PluginError> {
        let mut spec = Map::new();
        if !self.state.is_empty() {
            spec.insert("states".to_owned(), json!(self.state));
        }
        self.explain(&mut spec);
        let body = json!({"apiVersion": API_VERSION, "kind": "ReconcileRequest", "spec": spec});
        let cluster = self.act.cluster_name.as_deref().unwrap_or(LOCAL_CLUSTER);
        let location = Location {
            namespace: Some(&connection.namespace),
            resource: "fluxsummaries",
            name: Some(cluster),
            subresource: Some("reconcile"),
        };
        Outcome::of(self.act.post_to(connection, location, &body).await?, cluster, true)
    }

    fn explain(&self, spec: &mut Map<String, Value>) {
        if let Some(reason) = &self.reason {
            spec.insert("reason".to_owned(), reason.clone().into());
        }
    }

    /// Prints what was requested as text, if text is wanted. Returns what the server refused.
    fn print(&self, answer: &Outcome, out: &mut dyn Write) -> Result<Vec<PluginError>, PluginError> {
        let (refused, left_out): (Vec<_>, Vec<_>) =
            answer.not_requested.iter().partition(|object| !LEFT_OUT.contains(&&*object.reason));
        if self.act.output.is_text() {
            for object in &answer.requested {
                let mark = self.act.dry_run_mark();
                writeln!(out, "{} reconciliation requested{mark}", object.qualified())?;
            }
            for object in left_out {
                writeln!(out, "{}", object.not_requested())?;
            }
            if answer.requested.is_empty() && answer.not_requested.is_empty() {
                writeln!(out, "Nothing to reconcile")?;
            }
            out.flush()?;
        }
        Ok(refused.into_iter().map(|object| PluginError::invalid(object.not_requested())).collect())
    }
}

/// What the server made of a request: sources first, the object itself last.
struct Outcome {
    object: Value,
    cluster: String,
    requested: Vec<Acted>,
    not_requested: Vec<Acted>,
    /// Whether the outcome of each object is that of the command, and not of the last alone.
    is_bulk: bool,
}

impl Outcome {
    fn of(object: Value, cluster: &str, is_bulk: bool) -> Result<Self, PluginError> {
        let Status { objects: requested, not_requested } = Status::deserialize(&object["status"])
            .map_err(|error| PluginError::Unreachable(format!("its answer cannot be read: {error}")))?;
        Ok(Self { object, cluster: cluster.to_owned(), requested, not_requested, is_bulk })
    }

    fn requests(&self) -> impl Iterator<Item = Request> {
        let last = self.requested.len().saturating_sub(1);
        let all = self.requested.iter().enumerate();
        all.map(move |(at, object)| Request::new(&self.cluster, object.clone(), self.is_bulk || at == last))
    }
}

/// A duration that may pass.
fn timeout(text: &str) -> Result<Duration, String> {
    let parsed = duration::parse(text)?;
    Duration::try_from(parsed).map_err(|_| "must not be negative".to_owned())
}
