//! Compares Gatehouse with k8s.io/sample-apiserver that serves the same rows: the CPU time of lists and gets,
//! and the memory. The servers are measured in turns.
//!
//! A Flunder stands for each FluxResource. It has the same name and labels, an annotation for each value in
//! the row's status, and the same size in bytes. Apart from that, the servers differ by design: the sample
//! server decodes its objects from etcd and encodes them for each response, as every server built with
//! k8s.io/apiserver does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::progress::{during, say};
use gatehouse_conformance::sample_apiserver::{self, SampleApiServer};
use serde_json::{Value, json};

use super::cpu::{self, Cost, Server};
use super::raw::{Get, RESOURCES};
use super::report::{Report, bytes, mebibytes, times};
use super::stats::{Sample, float};
use gatehouse_conformance::process::{Memory, Process};

const FLUNDERS: &str = "/apis/wardle.example.com/v1alpha1/flunders";

/// The targets: how many times less CPU time Gatehouse needs.
const LIST_FACTOR: f64 = 20.0;
const GET_FACTOR: f64 = 5.0;
/// The tolerance within which sizes count as equal.
const TOLERANCE: f64 = 0.05;

/// Concurrent requests while objects are created.
const PARALLEL: usize = 16;
const REPORTS: usize = 10;
/// Far longer than the sample server needs to read the objects.
const CACHED: Duration = Duration::from_mins(1);

/// A request that both servers get in each round.
struct Question {
    what: &'static str,
    ours: String,
    theirs: String,
    is_table: bool,
    factor: Option<f64>,
}

pub(super) async fn measure(
    control_plane: &ControlPlane,
    gatehouse: Server<'_>,
    (rounds, time): (usize, Duration),
    report: &mut Report,
) -> anyhow::Result<()> {
    let executable = match sample_apiserver::executable().await {
        Ok(executable) => executable,
        Err(error) => {
            say(format_args!("{:#}; nothing is compared with it", anyhow::Error::from(error)));
            return Ok(());
        }
    };
    let mut sample = SampleApiServer::start(executable, control_plane).await?;
    let client = sample.client().await?;
    let empty = Process(sample.pid()?).memory()?;
    let rows = Get::json(RESOURCES).value(gatehouse.client).await?;
    let rows = rows["items"].as_array().context("a list has items")?;
    fill(&client, rows).await?;
    // A new process, because creating the objects took memory that serving them does not need.
    sample.kill().await?;
    sample.launch().await?;
    during("waiting for the cache of sample-apiserver", cached(&client, rows.len())).await?;
    let theirs = Server { process: Process(sample.pid()?), client: &client };
    let first = &rows.first().context("there are rows")?["metadata"];
    let row = object(RESOURCES, first);
    let flunder = object(FLUNDERS, first);
    let questions = [
        Question {
            what: "list, JSON",
            ours: RESOURCES.to_owned(),
            theirs: FLUNDERS.to_owned(),
            is_table: false,
            factor: Some(LIST_FACTOR),
        },
        Question {
            what: "list, Table",
            ours: RESOURCES.to_owned(),
            theirs: FLUNDERS.to_owned(),
            is_table: true,
            factor: None,
        },
        Question {
            what: "get, JSON",
            ours: row.clone(),
            theirs: flunder.clone(),
            is_table: false,
            factor: Some(GET_FACTOR),
        },
        Question {
            what: "get from its cache, JSON",
            ours: format!("{row}?resourceVersion=0"),
            theirs: format!("{flunder}?resourceVersion=0"),
            is_table: false,
            factor: None,
        },
    ];
    report.section(format!(
        "k8s.io/sample-apiserver {} beside Gatehouse, {} rows, CPU per answer, medians of {} rounds in turns",
        sample_apiserver::version(),
        rows.len(),
        rounds
    ));
    let before = [gatehouse.process.memory()?, theirs.process.memory()?];
    for question in &questions {
        during(question.what, question.ask([gatehouse, theirs], (rounds, time), report)).await?;
    }
    memory([before, [gatehouse.process.memory()?, theirs.process.memory()?]], empty, report);
    sample.kill().await
}

impl Question {
    fn get(&self, ours: bool) -> Get<'_> {
        let path = if ours { &self.ours } else { &self.theirs };
        if self.is_table { Get::table(path) } else { Get::json(path) }
    }

    async fn ask(
        &self,
        [ours, theirs]: [Server<'_>; 2],
        (rounds, time): (usize, Duration),
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let (mut own, mut other) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            other.push(cpu::cost(theirs, self.get(false), time).await?);
            own.push(cpu::cost(ours, self.get(true), time).await?);
        }
        let cpu =
            |costs: &[Cost]| Sample::new(costs.iter().map(|cost| cost.cpu).collect()).context("no round");
        let (own_cpu, other_cpu) = (cpu(&own)?, cpu(&other)?);
        let what = self.what;
        report.row(format!("{what}: sample-apiserver"), described(&other_cpu, &other));
        report.row(format!("{what}: Gatehouse"), described(&own_cpu, &own));
        let factor = other_cpu.median() / own_cpu.median();
        match self.factor {
            None => report.row("  times less", times(factor)),
            Some(target) => {
                report.row_with_target(
                    "  times less",
                    times(factor),
                    format!("≥ {target}×"),
                    factor >= target,
                );
            }
        }
        if !self.is_table && self.ours == RESOURCES {
            let apart = own[0].size / other[0].size - 1.0;
            report.row_with_target(
                "  bytes apart",
                format!("{:+.1} %", apart * 100.0),
                format!("± {:.0} %", TOLERANCE * 100.0),
                apart.abs() <= TOLERANCE,
            );
        }
        Ok(())
    }
}

fn described(cpu: &Sample, costs: &[Cost]) -> String {
    let [median, least, most] = [cpu.median(), cpu.least(), cpu.greatest()].map(cpu::precise);
    let asked: u32 = costs.iter().map(|cost| cost.requests).sum();
    let size = bytes(costs.first().map_or(0.0, |cost| cost.size));
    format!("{median} ({least} – {most}; {size}; {asked} asked)")
}

fn memory([before, after]: [[Memory; 2]; 2], empty: Memory, report: &mut Report) {
    let resident = |memory: Memory| mebibytes(float(memory.resident));
    for (when, [ours, theirs]) in [("with the rows", before), ("after these answers", after)] {
        report.row(format!("resident {when}: sample-apiserver"), resident(theirs));
        let factor = float(theirs.resident) / float(ours.resident);
        report.row(
            format!("resident {when}: Gatehouse, all views"),
            format!("{} ({} less)", resident(ours), times(factor)),
        );
    }
    report.row("resident without rows: sample-apiserver", resident(empty));
}

/// The path of the object with this metadata.
fn object(collection: &str, metadata: &Value) -> String {
    let text = |name: &str| metadata[name].as_str().unwrap_or_default();
    let (root, plural) = collection.rsplit_once('/').unwrap_or_default();
    format!("{root}/namespaces/{}/{plural}/{}", text("namespace"), text("name"))
}

/// Creates a Flunder for each row.
async fn fill(client: &kube::Client, rows: &[Value]) -> anyhow::Result<()> {
    let overhead = overhead(client, &rows[0]).await?;
    let made = &AtomicUsize::new(0);
    let all = stream::iter(rows)
        .map(|row| async move {
            create(client, &flunder(row, overhead)).await?;
            let made = made.fetch_add(1, Ordering::Relaxed) + 1;
            if made.is_multiple_of(rows.len().div_ceil(REPORTS)) {
                say(format_args!("{made} of {} Flunders are made", rows.len()));
            }
            anyhow::Ok(())
        })
        .buffer_unordered(PARALLEL)
        .try_collect::<Vec<()>>();
    during("making Flunders", all).await.map(drop)
}

/// Waits until the sample server lists all objects. It reports that it is ready before its cache is filled,
/// and refuses lists until then.
async fn cached(client: &kube::Client, rows: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + CACHED;
    loop {
        match Get::json(FLUNDERS).value(client).await {
            Ok(list) if list["items"].as_array().map(Vec::len) == Some(rows) => return Ok(()),
            Ok(list) => ensure!(Instant::now() < deadline, "{:#}", list["metadata"]),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Creates a Flunder and removes its managedFields, which Gatehouse's rows do not have either.
async fn create(client: &kube::Client, object: &Value) -> anyhow::Result<()> {
    let metadata = &object["metadata"];
    let path = self::object(FLUNDERS, metadata);
    let (collection, _) = path.rsplit_once('/').unwrap_or_default();
    let request = http::Request::post(collection)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(object)?)?;
    client.request_text(request).await.with_context(|| path.clone())?;
    let request = http::Request::patch(&path)
        .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
        .body(serde_json::to_vec(&json!({"metadata": {"managedFields": [{}]}}))?)?;
    client.request_text(request).await.with_context(|| path.clone())?;
    Ok(())
}

/// How many bytes the server adds to an object in a list.
async fn overhead(client: &kube::Client, row: &Value) -> anyhow::Result<usize> {
    let mut probe = flunder(row, 0);
    probe["metadata"]["name"] =
        json!(format!("probe.{}", row["metadata"]["name"].as_str().unwrap_or_default()));
    let given = probe.to_string().len();
    create(client, &probe).await?;
    let path = object(FLUNDERS, &probe["metadata"]);
    let list = Get::json(FLUNDERS).value(client).await?;
    let served = list["items"][0].to_string().len();
    client.request_text(http::Request::delete(path).body(Vec::new())?).await?;
    ensure!(served > given / 2, "{served} bytes of {given}: {list:#}");
    served.checked_sub(given).context("the server adds a uid and more")
}

/// A Flunder with the content of a row. It has the size of the row once the server has added `overhead`
/// bytes.
fn flunder(row: &Value, overhead: usize) -> Value {
    let metadata = &row["metadata"];
    let mut annotations = serde_json::Map::new();
    leaves("", &row["status"], &mut annotations);
    let mut flunder = json!({
        "apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "labels": metadata["labels"],
            "annotations": annotations,
        },
        "spec": {"reference": "", "referenceType": "Flunder"},
    });
    let missing = row.to_string().len().saturating_sub(flunder.to_string().len() + overhead);
    flunder["spec"]["reference"] = json!("x".repeat(missing.max(1)));
    flunder
}

/// Adds each value under the name of its field; names that are taken get a suffix.
fn leaves(name: &str, value: &Value, into: &mut serde_json::Map<String, Value>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| leaves(name, value, into)),
        Value::Array(items) => items.iter().for_each(|item| leaves(name, item, into)),
        _ => {
            let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            let mut key = name.to_owned();
            while into.contains_key(&key) {
                key.push('x');
            }
            into.insert(key, json!(text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flunder_holds_every_value_of_the_row_and_as_many_bytes() {
        let row = json!({
            "apiVersion": "view.gatehouse.dev/v1alpha1", "kind": "FluxResource",
            "metadata": {
                "name": "local.kustomization.a", "namespace": "team-001", "labels": {"a": "b"},
                // Stands for what the sample server adds itself, and accounts for the difference.
                "uid": "7".repeat(200),
            },
            "status": {"state": "Ready", "suspended": false, "message": "m".repeat(600), "conditions": [
                {"type": "Ready", "status": "True"}, {"type": "Fresh", "status": "True"},
            ]},
        });
        let flunder = flunder(&row, 100);
        assert_eq!(flunder.to_string().len() + 100, row.to_string().len());
        let annotations = flunder["metadata"]["annotations"].as_object().expect("an object");
        assert_eq!(annotations.len(), 7);
        assert_eq!(annotations["typex"], "Fresh");
        assert_eq!(annotations["suspended"], "false");
    }
}
