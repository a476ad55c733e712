//! `gatehouse-conformance`: a real control plane with Gatehouse registered, for a person or a script.

mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gatehouse_conformance::supervise;

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a control plane with Gatehouse registered; run a command against it, or keep it until Ctrl-C
    Up(up::Arguments),
}

fn main() -> ExitCode {
    supervise::intercept();
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let outcome = runtime.block_on(async {
        match arguments.command {
            Command::Up(arguments) => up::run(arguments).await,
        }
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("gatehouse: {error:#}");
        ExitCode::FAILURE
    })
}
