//! `gatehouse test`: tests of policies, without a cluster.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use gatehouse_check::{Filter, Tested, Tests};

const EXAMPLE: &str = "\
Example:
  apiVersion: test.gatehouse.dev/v1alpha1
  kind: PolicyTest
  metadata: {name: intervals}
  policies: [../policies/strict.yaml]
  cases:
  - name: an interval of a second is denied
    object: app.yaml
    patch: {spec: {interval: 1s}}
    expect:
      decision: Denied
      violations: [{policy: strict, rule: interval, message: shorter than 1m}]";

/// Test policies and quotas: requests in files, each with the expected decision
///
/// In the given files and folders, documents of apiVersion test.gatehouse.dev/v1alpha1 and kind PolicyTest are run. Each
/// names policies (files, folders, URLs or OCI artifacts, as `gatehouse check --policies` takes them) and has cases: an
/// object to create, to change or to delete, by whom, and the expected decision. The requests are decided by the code of
/// the admission webhooks, with defaults, freezes and quotas.
///
/// docs/policies.md has every field.
///
/// Exit codes: 0 if every case passes; 1 if one fails; 2 if one cannot be run: a file that is missing or does not parse, a
/// field, rule or policy that does not exist, or no case at all.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLE)]
pub(crate) struct Args {
    /// Files with PolicyTests, and folders that are searched for them.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Run only cases whose TEST/CASE matches this regular expression.
    #[arg(long, value_name = "REGEX")]
    run: Option<Filter>,
    /// Output format. With all but `json`, errors and the summary are written to standard error.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A line for each case; below a failed one, what differs.
    Table,
    /// One object with results and problems.
    Json,
    /// JUnit's XML, which CI servers show as test results.
    Junit,
    /// GitHub's workflow commands: annotations of a pull request.
    Github,
}

/// Runs the tests and prints what came of them.
pub(crate) async fn run(args: Args) -> ExitCode {
    let tests = Tests::find(&args.paths, args.run);
    let fetched = crate::remote::each(tests.addresses()).await;
    let tested = tests.run(&fetched, jiff::Timestamp::now());
    match print(&tested, args.output) {
        Ok(()) => ExitCode::from(tested.exit_code()),
        Err(error) => {
            eprintln!("gatehouse: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn print(tested: &Tested, format: Format) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match format {
        Format::Table => gatehouse_check::tested_table(tested, crate::check::colour(), &mut out),
        Format::Json => gatehouse_check::tested_json(tested, &mut out),
        Format::Junit => gatehouse_check::tested_junit(tested, &mut out),
        Format::Github => gatehouse_check::tested_github(tested, &mut out),
    };
    match written.and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("cannot write")?,
    }
    drop(out);
    if format != Format::Json {
        gatehouse_check::tested_remarks(tested, &mut io::stderr().lock()).context("cannot write")?;
    }
    Ok(())
}
