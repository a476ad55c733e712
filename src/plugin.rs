//! The kubectl plugin: `gatehouse plugin`, and what the executable is where it is installed as `kubectl-gatehouse` or
//! `flux-gatehouse`.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::{Args as _, FromArgMatches as _, Subcommand};
use gatehouse_apiservice::client::explain;
use gatehouse_plugin::{Connection, ConnectionArgs, Line, PluginError, Terminal};

use crate::{check, flags};

/// Names under which the executable is the plugin; under the last, kubectl asks it to complete a command line.
pub(crate) const NAMES: [&str; 3] = ["kubectl-gatehouse", "flux-gatehouse", COMPLETES];
const COMPLETES: &str = "kubectl_complete-gatehouse";
/// Nobody waits longer for a completion.
const COMPLETION_TIMEOUT: Duration = Duration::from_secs(3);

/// Ask the Gatehouse of a cluster what is broken and why, and act on it
///
/// Installed as kubectl-gatehouse on the PATH, this is `kubectl gatehouse`. docs/plugin.md has examples.
///
/// Exit codes: 0 if the command did what it says; 1 if the server refused or did not answer, or there is no such
/// object; 2 for a wrong command line; 3 if the object is not ready (--wait, --exit-code); 4 if --wait ended too early.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    #[command(flatten)]
    Cluster(gatehouse_plugin::Command),
    Check(check::Args),
    /// Complete a command line, as kubectl asks for it
    #[command(name = "__complete", hide = true)]
    Complete {
        /// The words of the command line.
        #[arg(value_name = "WORD", trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// The command line, if the executable was started under a name of the plugin.
pub(crate) fn parse_if_named() -> Option<Args> {
    let mut words = std::env::args_os();
    let name = named(&words.next()?)?;
    if name == COMPLETES {
        let words = words.map(|word| word.to_string_lossy().into_owned()).collect();
        return Some(Args { connection: ConnectionArgs::default(), command: Commands::Complete { words } });
    }
    let parsed = Args::from_arg_matches(&standalone(name).get_matches());
    Some(parsed.unwrap_or_else(|error| error.exit()))
}

/// What is typed has a blank in place of the first `-`.
fn standalone(name: &'static str) -> clap::Command {
    let command = clap::Command::new(name).bin_name(name.replacen('-', " ", 1));
    Args::augment_args(command).version(env!("CARGO_PKG_VERSION")).propagate_version(true).max_term_width(100)
}

fn named(program: &OsStr) -> Option<&'static str> {
    let file = Path::new(program).file_name()?;
    NAMES.into_iter().find(|name| file == *name)
}

/// Runs the command, and prints errors as kubectl does.
pub(crate) async fn run(args: Args) -> ExitCode {
    let command = match args.command {
        Commands::Check(args) => return check::run(args).await,
        Commands::Complete { words } => {
            // A shell that has closed the pipe wants no answer.
            let _ = io::stdout().write_all(complete(&words).await.as_bytes());
            return ExitCode::SUCCESS;
        }
        Commands::Cluster(command) => command,
    };
    match ask(command, &args.connection).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Its reader may be gone, which changes nothing of the outcome.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn complete(words: &[String]) -> String {
    let line = Line::parse(standalone(NAMES[0]), words);
    let answer = async {
        // A cluster that cannot be asked leaves nothing to choose from, and no error on the command line.
        let connection = if line.asks_the_cluster() { connect(&line.connection).await.ok() } else { None };
        line.answer(connection.as_ref()).await
    };
    tokio::time::timeout(COMPLETION_TIMEOUT, answer).await.unwrap_or_default()
}

async fn connect(args: &ConnectionArgs) -> Result<Connection, PluginError> {
    let config = flags::kubeconfig(args.kubeconfig(), args.context().map(ToOwned::to_owned)).await;
    args.connect(config.map_err(|error| PluginError::Invalid(explain(error.as_ref())))?)
}

async fn ask(command: gatehouse_plugin::Command, args: &ConnectionArgs) -> Result<u8, PluginError> {
    let connection = connect(args).await?;
    let terminal = Terminal { colour: check::colour(), live: io::stderr().is_terminal() };
    gatehouse_plugin::run(command, &connection, terminal, &mut io::stdout().lock()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_executable_makes_it_the_plugin() {
        let named = |program: &str| named(OsStr::new(program));
        assert_eq!(named("/usr/local/bin/kubectl-gatehouse"), Some("kubectl-gatehouse"));
        assert_eq!(named("flux-gatehouse"), Some("flux-gatehouse"));
        assert_eq!(named("/usr/local/bin/gatehouse"), None);
    }

    #[test]
    fn the_connection_can_be_given_before_and_after_the_command() {
        let parse = |line: &str| {
            let matches = standalone(NAMES[0]).try_get_matches_from(line.split(' ')).expect(line);
            Args::from_arg_matches(&matches).expect(line)
        };
        let before = parse("kubectl-gatehouse --context a check --cluster -f x");
        assert!(matches!(before.command, Commands::Check(_)));
        let after = parse("kubectl-gatehouse why ks/shop -n team-a --context a --as jane --as-group g");
        assert_eq!(after.connection.context(), Some("a"));
        standalone(NAMES[0]).debug_assert();
    }
}
