//! The `gatehouse` command: a file per subcommand.

mod apiserver;
mod check;
mod clusters;
mod crds;
mod demo;
mod flags;
mod logging;
mod manifests;
mod observing;
mod plugin;
mod remote;
mod replica;
mod signals;
mod test;
mod webhooks;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Show what is broken in a GitOps cluster, since when and because of what, and enforce quotas and policies for its
/// tenants, through the Kubernetes API
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Command {
    #[command(flatten)]
    logging: logging::LogArgs,
    #[command(subcommand)]
    subcommand: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    Apiserver(Box<apiserver::Args>),
    Check(check::Args),
    Clusters(clusters::Args),
    Crds(crds::Args),
    Demo(demo::Args),
    Manifests(manifests::Args),
    Plugin(plugin::Args),
    Test(test::Args),
    Webhooks(Box<webhooks::Args>),
}

fn main() -> ExitCode {
    let command = plugin::parse_if_named().map_or_else(Command::parse, |args| Command {
        logging: logging::LogArgs::default(),
        subcommand: Subcommands::Plugin(args),
    });
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        unreachable!("nothing installs a provider before main does");
    }
    let quiet = matches!(
        command.subcommand,
        Subcommands::Demo(_)
            | Subcommands::Check(_)
            | Subcommands::Clusters(_)
            | Subcommands::Plugin(_)
            | Subcommands::Test(_)
    );
    if let Err(error) = command.logging.install(quiet) {
        eprintln!("gatehouse: {error:#}");
        return ExitCode::from(2);
    }
    // Rendering a large cluster's first rows keeps a thread busy for a while; another one goes on answering.
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("gatehouse: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        match command.subcommand {
            Subcommands::Apiserver(args) => apiserver::run(*args).await.map(|()| ExitCode::SUCCESS),
            Subcommands::Check(args) => Ok(check::run(args).await),
            Subcommands::Clusters(args) => Ok(clusters::run(args).await),
            Subcommands::Crds(args) => crds::run(&args).map(|()| ExitCode::SUCCESS),
            Subcommands::Demo(args) => demo::run(args).await,
            Subcommands::Manifests(args) => manifests::run(&args).map(|()| ExitCode::SUCCESS),
            Subcommands::Plugin(args) => Ok(plugin::run(args).await),
            Subcommands::Test(args) => Ok(test::run(args).await),
            Subcommands::Webhooks(args) => webhooks::run(*args).await.map(|()| ExitCode::SUCCESS),
        }
    });
    // What still blocks a thread (a file being read) is not worth waiting for.
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| {
        eprintln!("gatehouse: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_flag_is_explained() {
        fn check(command: &clap::Command) {
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}: no help", command.get_name(), arg.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        let command = Command::command();
        command.clone().debug_assert();
        check(&command);
    }
}
