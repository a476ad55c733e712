//! `clusters add`: the account and its rights on the remote cluster, a credential, and the Secret on the hub.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, bail};
use gatehouse_plugin::{ClusterCondition, ClusterRow, PluginError};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    DryRun, HubArgs, TooEarly, WriteArgs, cluster_name,
    hub::Hub,
    objects::{Outcome, Told, Writer},
    sharing::Hubs,
    spoke::{Address, Spoke},
};
use crate::flags;

/// The shortest token that Kubernetes makes.
const SHORTEST: Duration = Duration::from_mins(10);
/// The hub lists Secrets every five seconds, and a quarter of that later at the latest.
const TAKES_EFFECT: Duration = Duration::from_secs(7);
/// How often the hub is asked whether it shows the cluster.
const POLL: Duration = Duration::from_millis(500);
/// What has to be true of a new cluster.
const AWAITED: [&str; 3] = ["Registered", "Reachable", "Authenticated"];

/// Register a cluster: create the account that reads it, a token of that account, and the Secret on the hub
///
/// Both clusters are written with your own rights, by server-side apply: to run it again changes nothing, or brings the
/// rights up to date. Before anything is written it is checked that the cluster is not the hub, and that the name is free.
#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    /// Name of the cluster in the views: a DNS label.
    #[arg(value_name = "NAME", value_parser = cluster_name)]
    name: String,
    /// Context of the cluster to register.
    #[arg(long, value_name = "NAME")]
    context: String,
    /// URL at which the hub reaches the cluster. Default: that of the context.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// File with the CA of that server, as PEM. Default: that of the context.
    #[arg(long, value_name = "FILE")]
    certificate_authority: Option<PathBuf>,
    /// Use a token that expires after this time, at least 10m. Clusters may make it shorter. Nothing renews it: run this
    /// again. Default: the token of a Secret, which is good until that Secret is deleted.
    #[arg(long, value_name = "DURATION", value_parser = token_duration)]
    duration: Option<Duration>,
    /// Take over fields that another field manager owns.
    #[arg(long)]
    force_conflicts: bool,
    #[command(flatten)]
    write: WriteArgs,
    /// Print the Secret for the hub instead of writing it, for example to keep it in Git, encrypted. With
    /// --dry-run=client print the objects for the cluster as well. Steps are told on standard error.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// Wait until the hub has reached the cluster.
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = flags::duration)]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// YAML documents.
    Yaml,
}

fn token_duration(text: &str) -> Result<Duration, String> {
    let duration = flags::duration(text)?;
    if duration < SHORTEST {
        return Err(format!("must be at least {} m", SHORTEST.as_secs() / 60));
    }
    Ok(duration)
}

impl AddArgs {
    pub(super) async fn run(&self, hub_args: &HubArgs) -> anyhow::Result<()> {
        let ca = self.certificate_authority.as_ref().map(|file| {
            std::fs::read_to_string(file)
                .with_context(|| format!("--certificate-authority {}", file.display()))
        });
        let given = Address { server: self.server.clone(), ca: ca.transpose()? };
        let hub = Hub::connect(hub_args).await?;
        let spoke = Spoke::connect(hub_args, &self.context).await?;
        let address = spoke.reached_at(given)?;
        let uid = spoke.uid().await?;
        let own = hub.uid().await?;
        Hub::is_not(own.as_deref(), uid.as_deref(), &self.context)?;
        hub.is_free(&self.name, uid.as_deref()).await?;
        let dry_run = self.write.dry_run;
        let told = if self.output.is_some() { Told::Stderr } else { Told::Stdout };
        let on_hub = hub.writer(dry_run, self.force_conflicts, told);
        if self.output.is_none() {
            is_prepared(&on_hub, &hub.namespace).await?;
        }
        let on_spoke = Writer { client: spoke.client.clone(), dry_run, force: self.force_conflicts, told };
        let hubs = Hubs::of(&spoke.client).await.with_context(|| format!("--context {}", self.context))?;
        let hubs = match &own {
            Some(own) => hubs.with(own, &self.name),
            None => hubs,
        };
        let objects = Spoke::objects(self.duration.is_none(), &hubs, dry_run != DryRun::Client);
        for object in &objects {
            on_spoke.apply(object).await.with_context(|| format!("--context {}", self.context))?;
        }
        let is_dry = dry_run != DryRun::None;
        let kubeconfig = spoke.kubeconfig(&self.name, &address, self.duration, is_dry).await;
        let kubeconfig = kubeconfig.with_context(|| format!("--context {}", self.context))?;
        let secret = hub.secret(&self.name, &kubeconfig, uid.as_deref());
        if self.output.is_some() {
            let shown = if dry_run == DryRun::Client { objects.as_slice() } else { &[] };
            return print(shown, &secret);
        }
        let outcome = on_hub.apply(&secret).await.context("the hub")?;
        if self.wait && !is_dry { self.registered(&hub, outcome).await } else { Ok(()) }
    }

    /// Waits until the hub has reached the cluster, if it says so at all.
    async fn registered(&self, hub: &Hub, outcome: Outcome) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.timeout;
        if outcome == Outcome::Configured {
            // What the hub says before is about what was there before.
            sleep(TAKES_EFFECT.min(self.timeout)).await;
        }
        loop {
            let row = match ClusterRow::find(&hub.connection, &self.name).await {
                Ok(row) => row.filter(|row| row.origin.as_deref() == Some(&hub.origin(&self.name))),
                Err(PluginError::NotInstalled) => {
                    eprintln!("The hub does not serve Gatehouse's views: not waited for.");
                    return Ok(());
                }
                Err(PluginError::Refused(status)) if status.code == 403 => {
                    eprintln!("You may not get clusterhealths/{} on the hub: not waited for.", self.name);
                    return Ok(());
                }
                // A replica that starts, or a connection that broke.
                Err(_) => None,
            };
            let missing = row.as_ref().map(missing);
            if missing.as_ref().is_some_and(Option::is_none) {
                let mut out = io::stdout().lock();
                let _ = writeln!(out, "clusterhealth.view.gatehouse.dev/{} condition met", self.name);
                return Ok(());
            }
            let said = missing.flatten();
            let is_refused =
                row.as_ref().is_some_and(|row| row.condition("Registered").is_some_and(is_false));
            if is_refused && outcome == Outcome::Created || Instant::now() >= deadline {
                return self.unregistered(hub, is_refused, said);
            }
            sleep(POLL).await;
        }
    }

    fn unregistered(&self, hub: &Hub, is_refused: bool, said: Option<String>) -> anyhow::Result<()> {
        let name = &self.name;
        if is_refused {
            bail!("the hub refuses {name}: {}", said.unwrap_or_default());
        }
        let said = said.unwrap_or_else(|| {
            format!(
                "it shows no such cluster: are Secrets of namespace {} followed (chart value clusters.enabled, flag \
                 --cluster-secrets-namespace)?",
                hub.namespace
            )
        });
        let waited = self.timeout.as_secs();
        Err(TooEarly(format!("timed out after {waited} s waiting for the hub to reach {name}: {said}"))
            .into())
    }
}

fn is_false(condition: &ClusterCondition) -> bool {
    condition.status == "False"
}

/// What is not true yet of a row.
fn missing(row: &ClusterRow) -> Option<String> {
    AWAITED.iter().find_map(|kind| match row.condition(kind) {
        Some(condition) if condition.status == "True" => None,
        Some(condition) => {
            Some(format!("{kind}={}: {}: {}", condition.status, condition.reason, condition.message))
        }
        None => Some(format!("{kind} is not known yet")),
    })
}

/// An error if the hub has no namespace for the Secret.
async fn is_prepared(hub: &Writer, namespace: &str) -> anyhow::Result<()> {
    match hub.has_namespace(namespace).await {
        Ok(false) => bail!(
            "the hub has no namespace {namespace}: set the chart value clusters.enabled, or apply what \
             `gatehouse manifests clusters` prints"
        ),
        // Who may write Secrets there need not see namespaces.
        Ok(true) | Err(_) => Ok(()),
    }
}

/// Documents for the remote cluster, and the one for the hub.
fn print(objects: &[Value], secret: &Value) -> anyhow::Result<()> {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n# For the remote cluster.\n");
        text.push_str(&serde_saphyr::to_string(object)?);
    }
    if !objects.is_empty() {
        text.push_str("---\n# For the hub. Without --dry-run it has a token.\n");
    }
    text.push_str(&serde_saphyr::to_string(secret)?);
    io::stdout().lock().write_all(text.as_bytes()).context("cannot print")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lasts_as_long_as_kubernetes_allows_at_least() {
        assert_eq!(token_duration("1h"), Ok(Duration::from_hours(1)));
        assert!(token_duration("5m").is_err_and(|error| error.contains("10 m")));
    }
}
