//! `gatehouse-conformance`: starts a real control plane with Gatehouse registered, for a person or a script.

mod bench;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gatehouse_conformance::controllers::Controller;
use gatehouse_conformance::{chart, helm::Helm, image, krew, supervise};

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
    /// Load many Kustomizations, and print what Gatehouse costs and gains beside the design's targets
    Bench(Box<bench::Arguments>),
    /// Write what is made from the chart: manifests for those without Helm, the table of its values, goldens
    Chart,
    /// Build an OCI image without a container engine, as an image layout and as an archive
    Image(image::Arguments),
    /// Print the manifest by which krew installs a release of the kubectl plugin
    Krew(krew::Arguments),
    /// Build the controllers of a cluster, which takes about an hour in all, and print where they are
    Controllers {
        /// Which ones; all where none is named
        controllers: Vec<Controller>,
    },
    /// Serve a webhook that admits everything: a part of the benchmark
    #[command(hide = true)]
    EmptyWebhook(bench::admission::empty::Arguments),
}

fn main() -> ExitCode {
    supervise::intercept();
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let outcome = runtime.block_on(async {
        match arguments.command {
            Command::Up(arguments) => up::run(arguments).await,
            Command::Bench(arguments) => bench::run(*arguments).await,
            Command::Chart => write_chart().await,
            Command::Image(arguments) => image::run(arguments).await,
            Command::Krew(arguments) => krew::run(&arguments).map(|()| ExitCode::SUCCESS),
            Command::Controllers { controllers } => build(&controllers).await,
            Command::EmptyWebhook(arguments) => bench::admission::empty::run(arguments).await,
        }
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("gatehouse: {error:#}");
        ExitCode::FAILURE
    })
}

async fn write_chart() -> anyhow::Result<ExitCode> {
    for made in chart::made(&Helm::find().await?).await? {
        made.write()?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn build(controllers: &[Controller]) -> anyhow::Result<ExitCode> {
    for controller in if controllers.is_empty() { &Controller::ALL } else { controllers } {
        println!("{}", controller.find().await?.display());
    }
    Ok(ExitCode::SUCCESS)
}
