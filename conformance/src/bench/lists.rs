//! Compares `kubectl get kustomizations -A` with `kubectl get fluxsummaries -A`. The commands run in turns,
//! so that other load on the machine affects both.

use std::time::{Duration, Instant};

use anyhow::Context;
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::kubectl::Kubectl;
use gatehouse_conformance::progress::during;

use super::raw::{Get, KUSTOMIZATIONS, SUMMARIES};
use super::report::{Report, bytes, spread, times};
use super::stats::{Sample, float};

/// The targets for `kubectl get fluxsummaries -A` against `kubectl get kustomizations -A`.
const FASTER: f64 = 40.0;
const FEWER_BYTES: f64 = 500.0;

pub(super) async fn measure(
    control_plane: &ControlPlane,
    runs: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.section(format!("kubectl get -A through kube-apiserver, {runs} runs each, in turns"));
    during("kubectl get kustomizations and fluxsummaries", wall_time(control_plane, runs, report)).await?;
    during("counting bytes", sizes(&control_plane.client().await?, report)).await
}

async fn wall_time(control_plane: &ControlPlane, runs: usize, report: &mut Report) -> anyhow::Result<()> {
    let kubectl = Kubectl::new(control_plane.kubeconfig())?;
    let [upstream, ours, nothing] = [
        &["get", "kustomizations", "-A"][..],
        &["get", "fluxsummaries", "-A"],
        // What kubectl itself costs, without a request.
        &["version", "--client"],
    ];
    let mut measured = [Vec::new(), Vec::new(), Vec::new()];
    // The first run of each fills kubectl's discovery cache, which a user's kubectl has filled before.
    for run in 0..=runs {
        for (args, measured) in [upstream, ours, nothing].into_iter().zip(&mut measured) {
            let took = time(&kubectl, args).await?;
            if run > 0 {
                measured.push(took);
            }
        }
    }
    let [upstream, ours, nothing] = measured.map(Sample::of_durations);
    let (upstream, ours) = upstream.zip(ours).context("at least one run is needed")?;
    let factor = upstream.median() / ours.median();
    report.row("wall time, kustomizations", spread(&upstream));
    report.row("wall time, fluxsummaries", spread(&ours));
    report.row_with_target("times faster", times(factor), format!("≥ {FASTER}×"), factor >= FASTER);
    if let Some(nothing) = nothing {
        report.row("wall time, kubectl version --client", spread(&nothing));
    }
    Ok(())
}

async fn time(kubectl: &Kubectl, args: &[&str]) -> anyhow::Result<Duration> {
    let start = Instant::now();
    kubectl.run(args).await?.ok()?;
    Ok(start.elapsed())
}

async fn sizes(client: &kube::Client, report: &mut Report) -> anyhow::Result<()> {
    for (what, get) in [("Table", Get::table as fn(_) -> _), ("JSON list", Get::json)] {
        let factor = compare(what, [get(KUSTOMIZATIONS), get(SUMMARIES)], client, report).await?;
        let target = format!("≥ {FEWER_BYTES}×");
        report.row_with_target("times fewer", times(factor), target, factor >= FEWER_BYTES);
    }
    // Compressed, as kubectl and kube-apiserver send them over a network.
    let gets = [Get::table(KUSTOMIZATIONS).gzip(), Get::table(SUMMARIES).gzip()];
    let factor = compare("Table, gzip accepted", gets, client, report).await?;
    report.row("times fewer", times(factor));
    Ok(())
}

/// How many times fewer bytes the second response has.
async fn compare(
    what: &str,
    [upstream, ours]: [Get<'_>; 2],
    client: &kube::Client,
    report: &mut Report,
) -> anyhow::Result<f64> {
    let (upstream, ours) = (float(upstream.size(client).await?), float(ours.size(client).await?));
    report.row(format!("bytes, {what}: kustomizations"), bytes(upstream));
    report.row(format!("bytes, {what}: fluxsummaries"), bytes(ours));
    Ok(upstream / ours)
}
