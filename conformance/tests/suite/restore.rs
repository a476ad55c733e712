//! etcd is restored from a backup, without a bump of its revision: changes since the backup are undone, and the
//! resourceVersions since then are used again.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::gatehouse::{self, Gatehouse};
use gatehouse_conformance::kubectl::Kubectl;
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::{crds, progress};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::caller::Caller;
use crate::site::{API, by_name, kustomization};
use crate::world::{World, settles};

const NAMESPACE: &str = "restored";
/// A watch that fails is retried after half a minute at most; the rest is a margin for a busy machine.
const SEEN: Duration = Duration::from_secs(75);
/// The number of undone changes: so many that the resourceVersions of later changes are still far below those seen
/// before.
const UNDONE: usize = 30;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.apart("restore::what_has_never_been_is_gone_for_lists_and_open_watches", restored)]
}

async fn restored() -> anyhow::Result<()> {
    let mut control_plane = ControlPlane::start(&Options::default()).await?;
    let client = control_plane.client().await?;
    load::apply(&client, crds::missing_from(&[])).await?;
    gatehouse::prepare(&control_plane).await?;
    let mut gatehouse = Gatehouse::start(&control_plane, &gatehouse::Options::default()).await?;
    // Directly, since the aggregator's connections end with kube-apiserver.
    let kubeconfig = gatehouse.kubeconfig_for(&control_plane, "root", Some("system:masters"))?;
    let (caller, kubectl) = (Caller::of_kubeconfig(&kubeconfig).await?, Kubectl::new(&kubeconfig)?);

    apply(
        &client,
        [kustomization(NAMESPACE, "changed", Ok(())), kustomization(NAMESPACE, "deleted", Ok(()))],
    )
    .await?;
    are(&caller, &[("changed", "Ready"), ("deleted", "Ready")]).await?;
    let backup = control_plane.back_up().await?;
    for number in 0..UNDONE {
        let verdict = if number % 2 == 0 { Ok(()) } else { Err("broken") };
        apply(&client, [kustomization(NAMESPACE, "changed", verdict)]).await?;
    }
    let admin = Kubectl::new(control_plane.kubeconfig())?;
    admin.run(["delete", "kustomization", "deleted", "-n", NAMESPACE]).await?.ok()?;
    apply(&client, [kustomization(NAMESPACE, "made", Ok(()))]).await?;
    are(&caller, &[("changed", "Failed"), ("made", "Ready")]).await?;

    let mut watch = kubectl.watch(["get", "fxr", "-n", NAMESPACE, "-w", "--output-watch-events"])?;
    watch.line_where(SEEN, |line| line.contains("ADDED") && line.contains(".made")).await?;
    control_plane.restore(&backup).await?;
    let whole = Instant::now();
    are(&caller, &[("changed", "Ready"), ("deleted", "Ready")]).await?;
    let listed = whole.elapsed();
    let mut missing = vec![("MODIFIED", ".changed"), ("ADDED", ".deleted"), ("DELETED", ".made")];
    while !missing.is_empty() {
        let line = watch.next_line(SEEN).await.with_context(|| format!("yet to come: {missing:?}"))?;
        missing.retain(|(event, name)| !(line.starts_with(event) && line.contains(name)));
    }
    // From here on changes are observed as usual, although their resourceVersions have been seen before.
    apply(&client, [kustomization(NAMESPACE, "made", Err("broken"))]).await?;
    watch.line_where(SEEN, |line| line.contains(".made") && line.contains("Failed")).await?;
    progress::say(format_args!("a cluster that had gone back was seen as it is after {listed:.1?}"));
    gatehouse.stop().await?;
    control_plane.stop().await
}

async fn apply(client: &kube::Client, objects: impl IntoIterator<Item = Value>) -> anyhow::Result<()> {
    let manifest = |object| Manifest { origin: "(trial)".to_owned(), object };
    load::apply(client, objects.into_iter().map(manifest).collect()).await
}

/// Waits until the list has exactly these rows in these states.
async fn are(caller: &Caller, wanted: &[(&str, &str)]) -> anyhow::Result<()> {
    let path = format!("{API}/namespaces/{NAMESPACE}/fluxresources");
    let list = async || {
        let list = caller.get(&path).await?.ok()?;
        let rows = by_name(&list).into_iter();
        let row = |((_, name), row): ((String, String), &Value)| (name, row["status"]["state"].clone());
        anyhow::Ok(rows.map(row).collect::<Vec<_>>())
    };
    let expected: Vec<_> = wanted
        .iter()
        .map(|(name, state)| (format!("local.kustomization.{name}"), Value::from(*state)))
        .collect();
    let rows = settles("the rows are those of the cluster", SEEN, list, |rows| *rows == expected).await?;
    ensure!(rows.len() == wanted.len());
    Ok(())
}
