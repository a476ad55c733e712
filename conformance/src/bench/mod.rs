//! The subcommand `bench`: measures the real Gatehouse beside a real control plane with many Kustomizations,
//! in one run.
//!
//! The figures go to stdout as one table, with the design's targets beside them; progress goes to stderr. The
//! targets are for 10,000 objects on two cores. A missed target is reported but is no failure, because a busy
//! machine proves little.

mod actions;
pub(crate) mod admission;
mod check;
mod clusters;
mod cpu;
mod fill;
mod latency;
mod lists;
mod my_namespaces;
mod objects;
mod problems;
mod raw;
mod report;
mod sample;
mod start;
mod stats;
mod watchers;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gatehouse_conformance::control_plane::{self, ControlPlane};
use gatehouse_conformance::gatehouse::{self, Gatehouse};
use gatehouse_conformance::progress::{during, say};
use gatehouse_conformance::webhooks::Settings;
use gatehouse_conformance::{crds, kubeconfig, load, spokes};

use self::admission::Effort;
use self::cpu::Server;
use self::latency::Load;
use self::objects::Layout;
use self::report::Report;
use gatehouse_conformance::process::Process;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Number of Kustomizations to create
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = positive)]
    objects: usize,
    /// Over how many namespaces to spread them
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = positive)]
    namespaces: usize,
    /// Entries of the inventory of each Kustomization [default: 25; 0 with `--only memory`, whose targets
    /// are without inventories]
    #[arg(long, value_name = "NUMBER")]
    entries: Option<usize>,
    /// Entries of the history of each Kustomization
    #[arg(long, value_name = "NUMBER", default_value_t = objects::HISTORY)]
    history: u32,
    /// How long to ask for each kind of answer
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How often to run each kubectl command
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = positive)]
    runs: usize,
    /// Number of changes for the latency of events
    #[arg(long, value_name = "NUMBER", default_value_t = 300, value_parser = positive)]
    changes: usize,
    /// Changes per second for the latency of events
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Measure a part, and nothing else
    #[arg(long, value_name = "PART", value_enum)]
    only: Option<Part>,
    /// Number of users who ask for mynamespaces
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = positive)]
    callers: usize,
    /// RoleBindings of each of them
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = positive)]
    bindings: usize,
    /// Number of watchers
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = positive)]
    watchers: usize,
    /// Changes per second that the watchers receive
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    watch_rate: u32,
    /// For how long
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    watch_seconds: u64,
    /// Objects created in each round through the webhooks
    #[arg(long, value_name = "NUMBER", default_value_t = 2000, value_parser = positive)]
    creates: usize,
    /// Rounds of creations for each kind
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = positive)]
    rounds: usize,
    /// Pods beside the Kustomizations, for problems; one in a hundred is not well
    #[arg(long, value_name = "NUMBER", default_value_t = 5000, value_parser = positive)]
    pods: usize,
    /// Number of remote clusters; a third of them ends on the way
    #[arg(long, value_name = "NUMBER", default_value_t = 200, value_parser = clap::value_parser!(u16).range(3..=1000))]
    clusters: u16,
    /// Kustomizations of each of them
    #[arg(long, value_name = "NUMBER", default_value_t = 500, value_parser = positive)]
    rows: usize,
    /// Pass a flag on to Gatehouse
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    gatehouse_flag: Vec<String>,
}

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Cold starts and memory
    Memory,
    /// Many watchers of many changes
    Watchers,
    /// k8s.io/sample-apiserver beside Gatehouse
    Sample,
    /// The webhooks
    Admission,
    /// `gatehouse check` on large repositories
    Check,
    /// Requests to reconcile, beside plain patches
    Actions,
    /// Rows that depend on who asks, for many callers
    #[value(name = "mynamespaces")]
    MyNamespaces,
    /// Many remote clusters, of which a third ends
    Clusters,
    /// Pods that change, their problems, and what users do without these
    Problems,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        parsed => parsed.map_err(|error| format!("{error}")),
    }
}

/// Ctrl-C needs no handling: child processes end with their owner.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    ensure!(arguments.namespaces <= arguments.objects, "there are more namespaces than objects");
    if cfg!(debug_assertions) {
        say("this build is not optimized, so its figures mean little: use `cargo run --profile dist`");
    }
    let executable = gatehouse::executable().await?;
    if arguments.only == Some(Part::Check) {
        let mut report = Report::default();
        check::measure(&executable, &mut report)?;
        print!("{report}");
        return Ok(ExitCode::SUCCESS);
    }
    let control_plane = ControlPlane::start(&control_plane::Options::default()).await?;
    let client = control_plane.client().await?;
    during("loading CRDs", load::apply(&client, definitions()?)).await?;
    let effort = Effort {
        time: Duration::from_secs(arguments.seconds),
        creates: arguments.creates,
        rounds: arguments.rounds,
    };
    let settings = Settings { executable: Some(executable.clone()), ..Settings::default() };
    if arguments.only == Some(Part::Admission) {
        let mut report = Report::default();
        admission::measure(&control_plane, &settings, effort, &mut report).await?;
        during("stopping", control_plane.stop()).await?;
        print!("{report}");
        return Ok(ExitCode::SUCCESS);
    }
    gatehouse::prepare(&control_plane).await?;
    if arguments.only == Some(Part::Clusters) {
        // Their namespace, before it is read.
        let objects = spokes::prerequisites().into_iter();
        let manifest = |object| load::Manifest { origin: "(benchmark)".to_owned(), object };
        load::apply(&client, objects.map(manifest).collect()).await?;
    }
    let options = gatehouse::Options {
        executable: Some(executable),
        flags: flags(&arguments),
        ..gatehouse::Options::default()
    };
    let mut gatehouse = Gatehouse::start(&control_plane, &options).await?;
    let mut report = measure(&arguments, &control_plane, &mut gatehouse, &settings).await?;
    gatehouse.kill().await?;
    if arguments.only.is_none() {
        admission::measure(&control_plane, &settings, effort, &mut report).await?;
    }
    if arguments.only.is_none() {
        check::measure(settings.executable.as_deref().context("no executable")?, &mut report)?;
    }
    during("stopping", async { control_plane.stop().await }).await?;
    print!("{report}");
    Ok(ExitCode::SUCCESS)
}

fn flags(arguments: &Arguments) -> Vec<String> {
    let own = match arguments.only {
        Some(Part::Clusters) => spokes::flag(),
        _ => "--enable-actions".to_owned(),
    };
    [vec![own], arguments.gatehouse_flag.clone()].concat()
}

/// Real CRDs if available: validation against their schemas is part of what a Kustomization costs
/// kube-apiserver.
fn definitions() -> anyhow::Result<Vec<load::Manifest>> {
    let mut definitions = crds::shared()?;
    definitions.extend(crds::missing_from(&definitions));
    Ok(definitions)
}

async fn measure(
    arguments: &Arguments,
    control_plane: &ControlPlane,
    gatehouse: &mut Gatehouse,
    settings: &Settings,
) -> anyhow::Result<Report> {
    let client = control_plane.client().await?;
    let kubeconfig = gatehouse.kubeconfig_for(control_plane, "bench", Some("system:masters"))?;
    let direct = kubeconfig::client(&kubeconfig).await?;
    let mut report = Report::default();
    let time = Duration::from_secs(arguments.seconds);

    if arguments.only == Some(Part::Clusters) {
        let load = clusters::Load {
            clusters: usize::from(arguments.clusters),
            rows: arguments.rows,
            changes: arguments.changes,
            time,
        };
        clusters::measure(control_plane, gatehouse, direct, load, &mut report).await?;
        return Ok(report);
    }
    let empty = start::empty(gatehouse).await?;
    gatehouse.kill().await?;
    let layout = Layout {
        objects: arguments.objects,
        namespaces: arguments.namespaces,
        entries: arguments.entries.unwrap_or(match arguments.only {
            Some(Part::Memory) => 0,
            _ => objects::INVENTORY,
        }),
        history: arguments.history,
        now: jiff::Timestamp::now().as_second(),
    };
    fill::fill(&client, layout).await?;
    let objects = layout.flux_objects();
    match arguments.only {
        None | Some(Part::Memory) => {
            start::measure(gatehouse, &direct, layout, empty, &mut report).await?;
            start::webhooks(control_plane, settings, &mut report).await?;
        }
        Some(_) => gatehouse.launch().await?,
    }
    if arguments.only == Some(Part::Memory) {
        return Ok(report);
    }

    let server = Server { process: start::process(gatehouse)?, client: &direct };
    if arguments.only == Some(Part::Sample) {
        sample::measure(control_plane, server, (arguments.rounds, time), &mut report).await?;
        return Ok(report);
    }
    if arguments.only == Some(Part::MyNamespaces) {
        let time = Duration::from_secs(arguments.watch_seconds);
        let load = my_namespaces::Load { callers: arguments.callers, bindings: arguments.bindings, time };
        my_namespaces::measure(control_plane, gatehouse, layout, load, &mut report).await?;
        return Ok(report);
    }
    gatehouse.register(control_plane).await?;
    if arguments.only == Some(Part::Actions) {
        actions::measure(&client, layout, arguments.creates, &mut report).await?;
        return Ok(report);
    }
    if arguments.only == Some(Part::Problems) {
        let load = problems::Load {
            pods: arguments.pods,
            rate: arguments.watch_rate,
            time: Duration::from_secs(arguments.watch_seconds),
            runs: arguments.runs,
        };
        problems::measure(control_plane, server, layout, load, &mut report).await?;
        return Ok(report);
    }
    if arguments.only.is_none() {
        lists::measure(control_plane, arguments.runs, &mut report).await?;
        let upstream = Server { process: Process(control_plane.api_server().pid()?), client: &client };
        cpu::measure(server, upstream, objects, time, &mut report).await?;
        let load = Load { changes: arguments.changes, rate: arguments.rate, first: 0 };
        latency::measure(&direct, &client, layout, load, &mut report).await?;
    }
    let load = watchers::Load {
        watchers: arguments.watchers,
        rate: arguments.watch_rate,
        time: Duration::from_secs(arguments.watch_seconds),
    };
    watchers::measure(control_plane, server.process, &kubeconfig, layout, load, &mut report).await?;
    if arguments.only.is_none() {
        start::afterwards(gatehouse, &direct, &mut report).await?;
        sample::measure(control_plane, server, (arguments.rounds, time), &mut report).await?;
    }
    Ok(report)
}
