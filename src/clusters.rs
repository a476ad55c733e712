//! `gatehouse clusters`: registers remote clusters with a hub, lists them and removes them. It works with the rights of
//! the person who runs it, on both clusters.

mod add;
mod hub;
mod objects;
mod remove;
mod sharing;
mod spoke;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, ensure};
use clap::Subcommand;
use gatehouse_apiservice::{dns, registration::clusters::NAMESPACE};
use gatehouse_plugin::{Connection, ConnectionArgs, PluginError, RegistrationsArgs, exit};

use crate::flags;

/// Register remote clusters with the cluster that shows them, the hub; list and remove them
///
/// The hub is the current context of the kubeconfig, or --hub-context. Kubeconfigs are found as kubectl finds them.
///
/// Exit codes: 0 if the command did what it says; 1 if a cluster refused or did not answer, or a check failed; 2 for a
/// wrong command line; 4 if the wait for a new cluster ended too early.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    hub: HubArgs,
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    Add(add::AddArgs),
    List(RegistrationsArgs),
    Remove(remove::RemoveArgs),
}

/// Flags about the hub.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Hub")]
struct HubArgs {
    /// Kubeconfig with the contexts of all clusters. Default: $KUBECONFIG, then ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the hub. Default: the current context.
    #[arg(long, global = true, value_name = "NAME")]
    hub_context: Option<String>,
    /// Namespace on the hub of the Secrets that register clusters: --cluster-secrets-namespace of gatehouse apiserver.
    #[arg(short, long, global = true, value_name = "NAME", default_value = NAMESPACE, value_parser = flags::object_name)]
    namespace: String,
}

/// Flags about what is written.
#[derive(Debug, Clone, Copy, clap::Args)]
struct WriteArgs {
    /// Change nothing: client prints what would be sent, server has it checked by the API servers as well.
    #[arg(long, value_enum, value_name = "STRATEGY", default_value_t, default_missing_value = "client", num_args = 0..=1, require_equals = true)]
    dry_run: DryRun,
}

/// What `--dry-run` says, as kubectl has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum DryRun {
    /// Write.
    #[default]
    None,
    /// Send nothing that would write.
    Client,
    /// Send it as a dry run.
    Server,
}

impl DryRun {
    /// What is printed behind a step.
    fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}

/// The wait for a cluster ended before the hub had reached it.
#[derive(Debug)]
struct TooEarly(String);

impl fmt::Display for TooEarly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TooEarly {}

/// Runs the command, and prints errors as kubectl does.
pub(crate) async fn run(args: Args) -> ExitCode {
    let Err(error) = dispatch(args).await else { return ExitCode::SUCCESS };
    match error.downcast_ref::<PluginError>() {
        // These say `error:` themselves, if nothing was put before them.
        Some(refused) if error.chain().count() == 1 => eprintln!("{refused}"),
        _ => eprintln!("error: {error:#}"),
    }
    if error.is::<TooEarly>() { ExitCode::from(exit::TIMEOUT) } else { ExitCode::from(exit::ERROR) }
}

async fn dispatch(args: Args) -> anyhow::Result<()> {
    let Args { hub, command } = args;
    match command {
        Commands::Add(add) => add.run(&hub).await,
        Commands::Remove(remove) => remove.run(&hub).await,
        Commands::List(list) => {
            let connection = hub.connection().await?;
            match list.run(&connection, &mut io::stdout().lock()).await {
                // The reader, such as `head`, has closed the pipe.
                Err(PluginError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                listed => Ok(listed?),
            }
        }
    }
}

impl HubArgs {
    fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    async fn config(&self) -> anyhow::Result<kube::Config> {
        let config = flags::kubeconfig(self.kubeconfig(), self.hub_context.clone()).await;
        config.context("the hub")
    }

    /// The views of the hub.
    async fn connection(&self) -> anyhow::Result<Connection> {
        Ok(ConnectionArgs::default().connect(self.config().await?)?)
    }
}

/// Parses the name of a cluster.
fn cluster_name(name: &str) -> Result<String, String> {
    let check = || {
        ensure!(dns::is_label(name), "must be lower-case letters, digits and `-`, at most 63");
        ensure!(name != "local", "is the name that a cluster has for itself");
        Ok(name.to_owned())
    };
    check().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_the_name_of_a_namespace_and_not_that_of_the_hub() {
        assert_eq!(cluster_name("eu-1").as_deref(), Ok("eu-1"));
        for name in ["", "EU", "eu.west", "-eu", "local", &"a".repeat(64)] {
            assert!(cluster_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_dry_run_is_asked_for_as_in_kubectl() {
        use clap::Parser;

        #[derive(Debug, Parser)]
        struct Command {
            #[command(flatten)]
            args: WriteArgs,
        }
        let parse = |flags: &[&str]| {
            let line = ["gatehouse"].into_iter().chain(flags.iter().copied());
            Command::try_parse_from(line).map(|command| command.args.dry_run).ok()
        };
        assert_eq!(parse(&[]), Some(DryRun::None));
        assert_eq!(parse(&["--dry-run"]), Some(DryRun::Client));
        assert_eq!(parse(&["--dry-run=server"]), Some(DryRun::Server));
        assert_eq!(parse(&["--dry-run=maybe"]), None);
    }
}
