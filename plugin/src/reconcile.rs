//! `reconcile`: requests reconciliations, and waits until the controllers have handled these requests.

use std::{io::Write, time::Duration};

use clap::ArgGroup;
use gatehouse_apiservice::{duration, view::API_VERSION};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    act::{ActArgs, Acted, Answer, all_or_errors},
    connection::{Connection, Location},
    error::PluginError,
    many::{self, ManyArgs},
    object::Target,
    output::Terminal,
    rows::{LOCAL_CLUSTER, ensure_observed},
    wait::{self, Request},
};

/// Request a reconciliation, and wait for it with --wait
///
/// Needs the right to create fluxresources/reconcile, and the verb reconcile on the Flux object; see docs/actions.md.
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(group(ArgGroup::new("objects").args(["targets", "all", "state"]).required(true).multiple(true)))]
pub struct ReconcileArgs {
    /// Objects, for example ks/shop hr/cart.
    #[arg(value_name = "KIND/NAME")]
    targets: Vec<Target>,
    #[command(flatten)]
    many: ManyArgs,
    /// Reconcile the source of the object first.
    #[arg(long, conflicts_with_all = ["all", "state"])]
    with_source: bool,
    /// Upgrade a HelmRelease even if nothing has changed.
    #[arg(long, conflicts_with_all = ["all", "state"])]
    force: bool,
    /// Forget the failures that were counted for a HelmRelease.
    #[arg(long, conflicts_with_all = ["all", "state"])]
    reset: bool,
    /// Why, for the Event on the object.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Wait until the controllers have handled this request. Exits with 3 if the object is not ready then.
    #[arg(long)]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = timeout, requires = "wait")]
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
        if self.many.is_meant() {
            for (namespace, cluster) in self.summaries(connection).await? {
                match self.request_all(connection, &namespace, &cluster).await {
                    Ok(Some(answer)) => {
                        errors.extend(self.print(&answer, out)?);
                        answers.push(answer);
                    }
                    Ok(None) => {}
                    Err(error @ PluginError::NoActions) => return Err(error),
                    Err(error) if self.many.all_namespaces => errors.push(error),
                    Err(error) => return Err(error),
                }
            }
            let is_empty = |answer: &Outcome| answer.requested.is_empty() && answer.not_requested.is_empty();
            if self.act.output.is_text() && errors.is_empty() && answers.iter().all(is_empty) {
                writeln!(out, "Nothing to reconcile")?;
                out.flush()?;
            }
        }
        for target in &self.targets {
            match self.request(connection, target).await {
                Ok(answer) => {
                    errors.extend(self.print(&answer, out)?);
                    answers.push(answer);
                }
                Err(error @ PluginError::NoActions) => return Err(error),
                Err(error) if self.targets.len() > 1 => errors.push(error.about(&target.row_of(connection))),
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

    /// The summaries whose objects are meant, by namespace and cluster.
    async fn summaries(&self, connection: &Connection) -> Result<Vec<(String, String)>, PluginError> {
        let cluster = self.act.cluster_name.as_deref();
        if let Some(namespace) = self.many.namespace(connection) {
            // Nothing is read, since that would need another right.
            return Ok(vec![(namespace.to_owned(), cluster.unwrap_or(LOCAL_CLUSTER).to_owned())]);
        }
        let items = many::items(connection, "fluxsummaries", None).await?;
        let text =
            |item: &Value, at: &str| item.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let found: Vec<_> = items
            .iter()
            .map(|item| (text(item, "/metadata/namespace"), text(item, "/metadata/name")))
            .collect();
        let cluster = match cluster {
            Some(cluster) => {
                if found.iter().all(|(_, of)| of != cluster) {
                    ensure_observed(connection, cluster).await?;
                }
                cluster.to_owned()
            }
            None => many::own_cluster(found.iter().map(|(_, cluster)| &**cluster))?,
        };
        Ok(found.into_iter().filter(|(_, of)| *of == cluster).collect())
    }

    async fn request_all(
        &self,
        connection: &Connection,
        namespace: &str,
        cluster: &str,
    ) -> Result<Option<Outcome>, PluginError> {
        let mut spec = Map::new();
        if !self.many.state.is_empty() {
            spec.insert("states".to_owned(), json!(self.many.state));
        }
        self.explain(&mut spec);
        let body = json!({"apiVersion": API_VERSION, "kind": "ReconcileRequest", "spec": spec});
        let location = Location {
            namespace: Some(namespace),
            resource: "fluxsummaries",
            name: Some(cluster),
            subresource: Some("reconcile"),
        };
        let object = match self.act.post_to(connection, location, &body).await {
            Ok(object) => object,
            // A namespace without Flux objects has no summary.
            Err(error) if error.is_object_missing() && self.act.cluster_name.is_none() => return Ok(None),
            Err(error) => return Err(error),
        };
        // The server's own cluster has a name of its own, and answers to `local` too.
        let named = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or(cluster).to_owned();
        Outcome::of(object, &named, true).map(Some)
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
                let (mark, place) = (self.act.dry_run_mark(), self.many.place(&object.namespace));
                writeln!(out, "{} reconciliation requested{place}{mark}", object.qualified())?;
            }
            for object in left_out {
                writeln!(out, "{}{}", object.not_requested(), self.many.place(&object.namespace))?;
            }
            out.flush()?;
        }
        let told = |object: &Acted| object.not_requested() + &self.many.place(&object.namespace);
        Ok(refused.into_iter().map(|object| PluginError::invalid(told(object))).collect())
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
