//! Measures `mynamespaces`, whose rows depend on who asks: many callers, each bound in some of many namespaces.
//!
//! The CPU time of a list is beside that of a list of `fluxsummaries` in one namespace, by the same caller in the same
//! run. Reviews are those that kube-apiserver counts, whoever sends them for Gatehouse: about the rows, and about the
//! requests themselves.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt, stream};
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::gatehouse::Gatehouse;
use gatehouse_conformance::process::Process;
use gatehouse_conformance::progress::during;
use gatehouse_conformance::{kubeconfig, load};
use http::{Method, Request, header};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::cpu::{self, Server};
use super::objects::{Layout, namespace_name};
use super::raw::{Get, SUMMARIES};
use super::report::{Report, mebibytes, seconds, times};
use super::start;
use super::stats::{Sample, float};

const MINE: &str = "/apis/view.gatehouse.dev/v1alpha1/mynamespaces";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
/// The ClusterRole of all callers.
const ROLE: &str = "bench-lists-fluxsummaries";

/// Requests at a time, while objects are created and while all callers list.
const AT_ONCE: usize = 16;
/// Memory that was only needed for a moment is released within this time.
const SETTLE: Duration = Duration::from_secs(3);
/// A list has every row, or an event has arrived, within this time, or never.
const PATIENCE: Duration = Duration::from_mins(2);
/// Rights that are granted under the open watches.
const GRANTS: usize = 20;
/// Bindings of a user who watches nothing, under the open watches.
const OTHERS: usize = 200;
/// The promised time from a change of rights to its event, in seconds.
const TARGET: f64 = 10.0;

/// How many callers, with how many RoleBindings each, and for how long they list and watch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) callers: usize,
    pub(super) bindings: usize,
    pub(super) time: Duration,
}

/// An event: the number of the caller, its type and the name of its row, and the time.
type Arrival = (usize, String, Instant);

struct Bench {
    admin: kube::Client,
    process: Process,
    layout: Layout,
    load: Load,
    callers: Vec<kube::Client>,
    /// Rows that are listed in one namespace for comparison.
    summaries: String,
}

pub(super) async fn measure(
    control_plane: &ControlPlane,
    gatehouse: &Gatehouse,
    layout: Layout,
    load: Load,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Load { callers, bindings, .. } = load;
    ensure!(bindings < layout.namespaces, "a caller is bound in fewer namespaces than there are");
    report.section(format!(
        "mynamespaces: {} namespaces, {callers} callers with {bindings} RoleBindings each",
        layout.namespaces
    ));
    let admin = control_plane.client().await?;
    let process = start::process(gatehouse)?;
    let memory = |what: &str, report: &mut Report| {
        let memory = process.memory()?;
        let [resident, anonymous] = [memory.resident, memory.anonymous].map(|bytes| mebibytes(float(bytes)));
        report.row(format!("resident {what} (RssAnon)"), format!("{resident} ({anonymous})"));
        anyhow::Ok(())
    };
    memory("without bindings", report)?;
    during("making bindings", bind_all(&admin, layout, load)).await?;
    let clients = (0..callers).map(async |caller| {
        let path = gatehouse.kubeconfig_for(control_plane, &name(caller), None)?;
        kubeconfig::client(&path).await
    });
    let clients = during("making callers", futures::future::try_join_all(clients)).await?;
    let summaries =
        SUMMARIES.replace("fluxsummaries", &format!("namespaces/{}/fluxsummaries", namespace(layout, 0, 0)));
    let bench = Bench { admin, process, layout, load, callers: clients, summaries };
    during("waiting for the last binding", bench.sees(callers - 1, bindings)).await?;
    tokio::time::sleep(SETTLE).await;
    memory("with bindings", report)?;
    during("the first list of each caller", bench.first_lists(report)).await?;
    during("lists of one caller", bench.cost(report)).await?;
    during("lists of all callers", bench.lists(report)).await?;
    memory("with all callers known", report)?;
    let (watches, arrivals) = during("opening watches", bench.open()).await?;
    during("waiting under open watches", bench.idle(report)).await?;
    memory("with a watch each", report)?;
    during("granting under open watches", bench.grants(arrivals, report)).await?;
    memory("after all of this", report)?;
    drop(watches);
    Ok(())
}

fn name(caller: usize) -> String {
    format!("bench-caller-{caller:04}")
}

/// The namespace of a caller's binding. Callers that follow each other share none, as far as there are enough.
fn namespace(layout: Layout, bindings: usize, number: usize) -> String {
    namespace_name((bindings + number) % layout.namespaces)
}

fn role(grants: bool) -> Value {
    let rule =
        json!({"apiGroups": ["view.gatehouse.dev"], "resources": ["fluxsummaries"], "verbs": ["list"]});
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": ROLE},
        "rules": if grants { json!([rule]) } else { json!([]) },
    })
}

async fn bind(client: &kube::Client, namespace: &str, caller: usize) -> anyhow::Result<()> {
    let (group, user) = ("rbac.authorization.k8s.io", name(caller));
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
        "metadata": {"name": user, "namespace": namespace},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": ROLE},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    });
    let path = format!("{RBAC}/namespaces/{namespace}/rolebindings");
    write(client, Method::POST, &path, &binding).await
}

async fn write(client: &kube::Client, method: Method, path: &str, object: &Value) -> anyhow::Result<()> {
    let request =
        Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    client
        .request_text(request.body(object.to_string().into_bytes())?)
        .await
        .with_context(|| path.to_owned())?;
    Ok(())
}

async fn bind_all(client: &kube::Client, layout: Layout, load: Load) -> anyhow::Result<()> {
    load::apply(client, vec![load::Manifest { origin: "(benchmark)".to_owned(), object: role(true) }])
        .await?;
    let all = (0..load.callers).flat_map(|caller| (0..load.bindings).map(move |number| (caller, number)));
    let all = stream::iter(all).map(|(caller, number)| async move {
        bind(client, &namespace(layout, caller * load.bindings, number), caller).await
    });
    all.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await.map(drop)
}

impl Bench {
    /// How many SubjectAccessReviews kube-apiserver has answered.
    async fn reviews(&self) -> anyhow::Result<f64> {
        let metrics = self.admin.request_text(Request::get("/metrics").body(Vec::new())?).await?;
        let of_reviews = |labels: &str| {
            labels.contains(r#"resource="subjectaccessreviews""#) && labels.contains(r#"verb="POST""#)
        };
        let counts =
            start::gauges(&metrics, "apiserver_request_total").filter(|(labels, _)| of_reviews(labels));
        Ok(counts.map(|(_, count)| count).sum())
    }

    /// Waits until a caller sees so many rows.
    async fn sees(&self, caller: usize, rows: usize) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let list = Get::json(MINE).value(&self.callers[caller]).await?;
            let seen = list["items"].as_array().map_or(0, Vec::len);
            if seen == rows {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "{} sees {seen} of {rows} rows", name(caller));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What somebody costs who was not here before.
    async fn first_lists(&self, report: &mut Report) -> anyhow::Result<()> {
        let (cpu, reviews) = (self.process.cpu()?, self.reviews().await?);
        let mut taken = Vec::new();
        // The last caller was here already.
        for client in &self.callers[..self.load.callers - 1] {
            let began = Instant::now();
            Get::json(MINE).size(client).await?;
            taken.push(began.elapsed());
        }
        let each = float(taken.len() as u64);
        let (cpu, reviews) = (self.process.cpu()? - cpu, self.reviews().await? - reviews);
        let sample = Sample::of_durations(taken).context("there are two callers at least")?;
        report.row(
            "first list of a caller, with its connection",
            format!(
                "{} CPU, {:.1} reviews; p50 {}, p99 {}",
                cpu::precise(cpu / each),
                reviews / each,
                seconds(sample.median()),
                seconds(sample.percentile(99))
            ),
        );
        Ok(())
    }

    /// The list of a caller beside what he lists of one namespace.
    async fn cost(&self, report: &mut Report) -> anyhow::Result<()> {
        let server = Server { process: self.process, client: &self.callers[0] };
        for (what, get) in [("JSON", Get::json as fn(_) -> _), ("Table", Get::table)] {
            let own = cpu::cost(server, get(MINE), self.load.time).await?;
            let one = cpu::cost(server, get(&self.summaries), self.load.time).await?;
            report.row(format!("list of mynamespaces, {} rows, {what}", self.load.bindings), own.describe());
            report.row(format!("list of fluxsummaries -n, {what}"), one.describe());
            report.row("  times as much", times(own.cpu / one.cpu));
        }
        Ok(())
    }

    /// All callers list in turns.
    async fn lists(&self, report: &mut Report) -> anyhow::Result<()> {
        for what in ["at first", "then"] {
            let (began, cpu, reviews) = (Instant::now(), self.process.cpu()?, self.reviews().await?);
            let turns = self.callers.iter().cycle().take_while(|_| began.elapsed() < self.load.time);
            let lists =
                stream::iter(turns).map(|client| Get::json(MINE).size(client)).buffer_unordered(AT_ONCE);
            let count = float(lists.try_fold(0_u64, async |count, _| Ok(count + 1)).await?);
            let wall = began.elapsed().as_secs_f64();
            let (cpu, reviews) = (self.process.cpu()? - cpu, self.reviews().await? - reviews);
            report.row(
                format!("all callers list, {AT_ONCE} at a time, {what}"),
                format!(
                    "{:.0} lists a second, {} CPU each, {:.1} reviews a second",
                    count / wall,
                    cpu::precise(cpu / count),
                    reviews / wall
                ),
            );
        }
        Ok(())
    }

    /// A watch of each caller, which has told of every row.
    async fn open(&self) -> anyhow::Result<(JoinSet<()>, mpsc::UnboundedReceiver<Arrival>)> {
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let path = format!("{MINE}?watch=true&timeoutSeconds=3600");
        for (caller, client) in self.callers.iter().enumerate() {
            let body = Box::pin(Get::json(&path).stream(client).await?);
            let arrived = arrived.clone();
            tasks.spawn(async move {
                let mut lines = body.lines();
                while let Some(Ok(line)) = lines.next().await {
                    // Fails only at the end, when the receiver is gone.
                    let _ = arrived.send((caller, told(&line), Instant::now()));
                }
            });
        }
        for _ in 0..self.load.callers * self.load.bindings {
            next(&mut arrivals, "ADDED").await?;
        }
        Ok((tasks, arrivals))
    }

    /// What open watches cost while nothing happens.
    async fn idle(&self, report: &mut Report) -> anyhow::Result<()> {
        for what in ["at first", "then"] {
            let (began, cpu, reviews) = (Instant::now(), self.process.cpu()?, self.reviews().await?);
            tokio::time::sleep(self.load.time).await;
            let (wall, cpu) = (began.elapsed().as_secs_f64(), self.process.cpu()? - cpu);
            let reviews = (self.reviews().await? - reviews) / wall;
            report.row(
                format!("{} open watches, {what}", self.load.callers),
                format!("{:.3} cores, {reviews:.1} reviews a second", cpu / wall),
            );
        }
        Ok(())
    }

    /// Rights that come and go under the open watches.
    async fn grants(
        &self,
        mut arrivals: mpsc::UnboundedReceiver<Arrival>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let mut taken = Vec::new();
        for caller in 0..GRANTS.min(self.load.callers) {
            let granted = namespace(self.layout, (caller + 1) * self.load.bindings, 0);
            bind(&self.admin, &granted, caller).await?;
            let began = Instant::now();
            let (_, told, at) = next(&mut arrivals, "ADDED").await?;
            ensure!(told.ends_with(&granted), "{told} instead of {granted}");
            taken.push(at - began.min(at));
        }
        let sample = Sample::of_durations(taken).context("there are callers")?;
        let (p50, p99) = (sample.median(), sample.percentile(99));
        let measured = format!("p50 {}, p99 {}", seconds(p50), seconds(p99));
        report.row_with_target("a binding is made → ADDED", measured, format!("≤ {TARGET} s"), p99 <= TARGET);
        let (cpu, others) = (self.process.cpu()?, OTHERS.min(self.layout.namespaces));
        for number in 0..others {
            bind(&self.admin, &namespace(self.layout, number, 0), self.load.callers).await?;
        }
        tokio::time::sleep(SETTLE).await;
        let each = (self.process.cpu()? - cpu) / float(others as u64);
        report.row("a binding of somebody else", format!("{} CPU", cpu::precise(each)));
        let events = self.load.callers * self.load.bindings + GRANTS.min(self.load.callers);
        for (what, grants, event) in [
            ("the role of all loses its rule → DELETED", false, "DELETED"),
            ("and has it again → ADDED", true, "ADDED"),
        ] {
            let reviews = self.reviews().await?;
            write(&self.admin, Method::PUT, &format!("{RBAC}/clusterroles/{ROLE}"), &role(grants)).await?;
            let began = Instant::now();
            let mut last = began;
            for _ in 0..events {
                last = last.max(next(&mut arrivals, event).await?.2);
            }
            let took = (last - began).as_secs_f64();
            let reviews = self.reviews().await? - reviews;
            let measured = format!("{events} events in {}, {reviews:.0} reviews", seconds(took));
            report.row_with_target(what, measured, format!("≤ {TARGET} s"), took <= TARGET);
        }
        Ok(())
    }
}

/// The next event of this type.
async fn next(arrivals: &mut mpsc::UnboundedReceiver<Arrival>, event: &str) -> anyhow::Result<Arrival> {
    loop {
        let arrival = tokio::time::timeout(PATIENCE, arrivals.recv()).await;
        let arrival =
            arrival.with_context(|| format!("no {event} has arrived"))?.context("no watch is open")?;
        ensure!(!arrival.1.starts_with("ERROR"), "the watch of {} ended: {}", name(arrival.0), arrival.1);
        if arrival.1.starts_with(event) {
            return Ok(arrival);
        }
    }
}

/// What an event tells: its type and the name of its row.
fn told(line: &str) -> String {
    let event: Value = serde_json::from_str(line).unwrap_or_default();
    let text = |pointer| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", text("/type"), text("/object/metadata/name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_tells_its_type_and_row() {
        let event = r#"{"type":"ADDED","object":{"metadata":{"name":"team-001"}}}"#;
        assert_eq!(told(event), "ADDED team-001");
        assert_eq!(told("{"), " ");
    }

    #[test]
    fn bindings_of_a_caller_are_in_different_namespaces() {
        let layout = Layout { objects: 50, namespaces: 50, entries: 0, history: 0, now: 0 };
        let all: std::collections::BTreeSet<_> =
            (0..20).map(|number| namespace(layout, 3 * 20, number)).collect();
        assert_eq!(all.len(), 20);
        assert!(!all.contains(&namespace(layout, 4 * 20, 0)), "the namespace of a grant is another");
    }
}
