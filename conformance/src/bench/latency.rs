//! Measures the time from a change upstream to the event on an open watch.
//!
//! Changes are sent at a steady rate, whether or not the events of earlier ones have arrived. Each changes
//! the status of a Kustomization that no other depends on. Watches of its row and of its namespace's summary
//! are open directly at Gatehouse and through kube-apiserver. A watch of the Kustomizations themselves shows
//! kube-apiserver's part of the delay.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{AsyncBufReadExt, StreamExt};
use gatehouse_conformance::progress::during;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::fill::patch_status;
use super::objects::{Id, Layout};
use super::raw::{Get, KUSTOMIZATIONS, RESOURCES, SUMMARIES};
use super::report::{Report, seconds};
use super::stats::Sample;

/// The design's target of the 99th percentile, in seconds. The design's is for 1,000 watches and 100 changes
/// a second, more than in this measurement.
const TARGET: f64 = 0.050;
/// An event that has not arrived after this time is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// The number and the rate of changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) changes: usize,
    pub(super) rate: u32,
    /// The number of the first change. No two changes of an object may be equal.
    pub(super) first: usize,
}

/// The resource that is watched, which decides which change an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Kustomizations,
    Resources,
    Summaries,
}

struct Watched<'a> {
    what: &'static str,
    subject: Subject,
    client: &'a kube::Client,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) number: usize,
    pub(super) id: Id,
    pub(super) sent: Instant,
    pub(super) answered: Instant,
}

/// Namespace and name; only the namespace for a summary.
type Key = (String, String);

/// The times at which the events of each object arrived, in order.
type Arrivals = HashMap<Key, Vec<Instant>>;

pub(super) async fn measure(
    direct: &kube::Client,
    through: &kube::Client,
    layout: Layout,
    load: Load,
    report: &mut Report,
) -> anyhow::Result<()> {
    let watches = [
        ("kustomizations, kube-apiserver's own", Subject::Kustomizations, through),
        ("fluxresources, direct", Subject::Resources, direct),
        ("fluxresources, through kube-apiserver", Subject::Resources, through),
        ("fluxsummaries, direct", Subject::Summaries, direct),
        ("fluxsummaries, through kube-apiserver", Subject::Summaries, through),
    ]
    .map(|(what, subject, client)| Watched { what, subject, client });

    let mut tasks = JoinSet::new();
    let mut followed = Vec::new();
    for watched in &watches {
        let (sender, arrivals) = mpsc::unbounded_channel();
        follow(watched, sender, &mut tasks).await?;
        followed.push(arrivals);
    }
    let what = format!("changing {} Kustomizations, {} a second", load.changes, load.rate);
    let changes = during(what, change(through, layout, load)).await?;
    tokio::time::sleep(PATIENCE).await;
    tasks.shutdown().await;

    report.section(format!(
        "Answer to a change of a status upstream → watch event, {} changes, {} a second",
        load.changes, load.rate
    ));
    for (watched, mut arrived) in watches.iter().zip(followed) {
        let mut arrivals = Arrivals::new();
        while let Ok((key, at)) = arrived.try_recv() {
            arrivals.entry(key).or_default().push(at);
        }
        watched.report(&changes, &arrivals, report)?;
    }
    Ok(())
}

/// Opens a watch from the current version, and sends the arrival of each of its events to `arrivals`.
async fn follow(
    watched: &Watched<'_>,
    arrivals: mpsc::UnboundedSender<(Key, Instant)>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let path = watched.subject.path();
    let list = Get::json(&format!("{path}?limit=1")).value(watched.client).await?;
    let version = list["metadata"]["resourceVersion"].as_str().context("a list without a resourceVersion")?;
    let path = format!("{path}?watch=true&resourceVersion={version}&timeoutSeconds=3600");
    let lines = Box::pin(Get::json(&path).stream(watched.client).await?).lines();
    let subject = watched.subject;
    tasks.spawn(async move {
        let mut lines = std::pin::pin!(lines);
        while let Some(Ok(line)) = lines.next().await {
            let at = Instant::now();
            if let Some(key) = subject.key_of_event(&line) {
                // Fails only at the end, when the receiver is gone.
                let _ = arrivals.send((key, at));
            }
        }
    });
    Ok(())
}

/// Sends the changes, each at its time. Returns when all have been answered.
pub(super) async fn change(client: &kube::Client, layout: Layout, load: Load) -> anyhow::Result<Vec<Change>> {
    let leaves: Vec<Id> = layout.leaves().collect();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / load.rate);
    let mut sending = JoinSet::new();
    for (place, id) in leaves.iter().copied().cycle().enumerate().take(load.changes) {
        ticks.tick().await;
        let client = client.clone();
        // A second change of the same object has the opposite outcome, so that every change also changes the
        // summary.
        let succeeded = (place / leaves.len()) % 2 == 1;
        let number = load.first + place;
        let status = serde_json::json!({"conditions": layout.changed_conditions(succeeded, number)});
        sending.spawn(async move {
            let path = KUSTOMIZATIONS
                .replace("kustomizations", &format!("namespaces/{}/kustomizations", id.namespace_name()));
            let sent = Instant::now();
            patch_status(&client, &format!("{path}/{}", id.name()), &status).await?;
            anyhow::Ok(Change { number, id, sent, answered: Instant::now() })
        });
    }
    let mut changes = Vec::new();
    while let Some(change) = sending.join_next().await {
        changes.push(change??);
    }
    changes.sort_by_key(|change| change.sent);
    Ok(changes)
}

impl Watched<'_> {
    fn report(&self, changes: &[Change], arrivals: &Arrivals, report: &mut Report) -> anyhow::Result<()> {
        let (mut from_sending, mut from_answer) = (Vec::new(), Vec::new());
        for (index, change) in changes.iter().enumerate() {
            if let Some(at) = self.subject.arrival(index, changes, arrivals) {
                from_sending.push(at - change.sent);
                // An event may arrive before the response to the change.
                from_answer.push(at.saturating_duration_since(change.answered));
            }
        }
        let lost = changes.len() - from_sending.len();
        let samples = Sample::of_durations(from_sending).zip(Sample::of_durations(from_answer));
        let (sending, answer) = samples.with_context(|| format!("no event of {} arrived", self.what))?;
        let mut measured = percentiles(&answer);
        if lost > 0 {
            write!(measured, "; {lost} LOST")?;
        }
        if self.subject == Subject::Kustomizations {
            report.row(self.what, measured);
        } else {
            let met = lost == 0 && answer.percentile(99) <= TARGET;
            report.row_with_target(self.what, measured, format!("p99 ≤ {}", seconds(TARGET)), met);
        }
        report.row("  counted from sending the change", percentiles(&sending));
        Ok(())
    }
}

pub(super) fn percentiles(sample: &Sample) -> String {
    let [p50, p99, most] = [sample.median(), sample.percentile(99), sample.greatest()].map(seconds);
    format!("p50 {p50}, p99 {p99}, max {most}")
}

#[derive(Deserialize)]
struct Event {
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
}

impl Subject {
    fn path(self) -> &'static str {
        match self {
            Self::Kustomizations => KUSTOMIZATIONS,
            Self::Resources => RESOURCES,
            Self::Summaries => SUMMARIES,
        }
    }

    fn key(self, id: Id) -> Key {
        let name = match self {
            Self::Kustomizations => id.name(),
            Self::Resources => format!("local.kustomization.{}", id.name()),
            Self::Summaries => String::new(),
        };
        (id.namespace_name(), name)
    }

    fn key_of_event(self, line: &str) -> Option<Key> {
        let Metadata { namespace, name } = serde_json::from_str::<Event>(line).ok()?.object.metadata;
        let name = if self == Self::Summaries { String::new() } else { name };
        Some((namespace, name))
    }

    /// The first event after a change and before the next change of the same object.
    fn arrival(self, index: usize, changes: &[Change], arrivals: &Arrivals) -> Option<Instant> {
        let change = &changes[index];
        let key = self.key(change.id);
        let next = changes[index + 1..].iter().find(|next| self.key(next.id) == key);
        let mut own = arrivals.get(&key)?.iter().filter(|at| **at >= change.sent);
        own.find(|at| next.is_none_or(|next| **at < next.sent)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_belongs_to_the_change_before_it() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let change = |place, sent| Change {
            number: 0,
            id: Id { namespace: 1, place },
            sent: at(sent),
            answered: at(sent + 5),
        };
        let changes = [change(9, 0), change(19, 100), change(9, 200)];
        let of = |subject: Subject, times: &[u64]| {
            let arrivals =
                Arrivals::from([(subject.key(changes[0].id), times.iter().copied().map(at).collect())]);
            [0, 1, 2].map(|index| subject.arrival(index, &changes, &arrivals))
        };
        assert_eq!(of(Subject::Resources, &[50, 250]), [Some(at(50)), None, Some(at(250))]);
        assert_eq!(of(Subject::Resources, &[250]), [None, None, Some(at(250))]);
        assert_eq!(of(Subject::Summaries, &[50, 150, 151, 250]), [at(50), at(150), at(250)].map(Some));
    }

    #[test]
    fn bookmarks_belong_to_nothing() {
        let line = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}"#;
        assert_eq!(Subject::Summaries.key_of_event(line), Some((String::new(), String::new())));
        let line = r#"{"type":"MODIFIED","object":{"metadata":{"name":"local","namespace":"team-001"}}}"#;
        let key = Subject::Summaries.key_of_event(line);
        assert_eq!(key, Some(Subject::Summaries.key(Id { namespace: 1, place: 0 })));
    }
}
