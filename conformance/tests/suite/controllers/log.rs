//! Watches the Flux objects of a namespace and their rows, and writes down how each was shown from one event to the next.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::StreamExt;
use kube::Api;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::world::eventually;

/// For what a controller does within seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// The objects that are watched besides their rows.
const OBJECTS: [(&str, &str, &str, &str); 2] = [
    ("source.toolkit.fluxcd.io", "v1", "OCIRepository", "ocirepositories"),
    ("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations"),
];
const ROWS: (&str, &str, &str, &str) = ("view.gatehouse.dev", "v1alpha1", "FluxResource", "fluxresources");

/// The watches of a namespace, which end when this is dropped.
pub(super) struct Log {
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

/// What has been seen. Objects and rows are named `Kind name`.
#[derive(Default)]
pub(super) struct Seen {
    steps: Vec<Step>,
    /// The status of each row.
    rows: BTreeMap<String, Value>,
    objects: BTreeMap<String, Value>,
}

/// From one event to the next.
struct Step {
    happens: String,
    /// How each row was shown, without repetitions.
    shown: BTreeMap<String, String>,
    /// The status of the condition Ready of each row, without repetitions.
    ready: BTreeMap<String, String>,
    /// How many attempts of its controller have ended, by object.
    attempts: BTreeMap<String, u32>,
}

impl Log {
    /// Begins to watch. Nothing must be there yet.
    pub(super) fn of(client: &kube::Client, namespace: &str) -> Self {
        let (seen, mut tasks) = (Arc::new(Mutex::new(Seen::default())), JoinSet::new());
        for (group, version, kind, plural) in OBJECTS.into_iter().chain([ROWS]) {
            let resource =
                ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
            let seen = Arc::clone(&seen);
            tasks.spawn(async move {
                let mut events = std::pin::pin!(watcher(api, Config::default()).default_backoff());
                while let Some(event) = events.next().await {
                    // An error is followed by another attempt.
                    let Ok(event) = event else { continue };
                    seen.lock().unwrap_or_else(PoisonError::into_inner).take(event);
                }
            });
        }
        Self { seen, _tasks: tasks }
    }

    /// Something happens from now on.
    pub(super) fn happens(&self, what: &str) {
        self.seen().begin(what);
    }

    /// Waits until what is seen is as wanted.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> anyhow::Result<()> {
        self.until_within(what, SOON, wanted).await
    }

    async fn until_within(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Seen) -> bool,
    ) -> anyhow::Result<()> {
        let outcome = eventually(what, within, || wanted(&self.seen())).await;
        outcome.with_context(|| self.words())
    }

    /// Waits until a row counts as well (`+`) or as broken (`-`), and says this.
    pub(super) async fn shows(&self, place: &str, sign: char, says: &str) -> anyhow::Result<()> {
        let is_shown = |row: &Value| shown(row) == sign && row["message"].to_string().contains(says);
        let wanted = |seen: &Seen| seen.row(place).is_some_and(is_shown);
        self.until(&format!("{place} is shown as {sign}, and says {says:?}"), wanted).await
    }

    /// Waits until a row has this state.
    pub(super) async fn is(&self, place: &str, state: &str) -> anyhow::Result<()> {
        let wanted = |seen: &Seen| seen.row(place).is_some_and(|row| row["state"] == state);
        self.until(&format!("{place} is {state}"), wanted).await
    }

    /// Waits until a controller has ended this many more attempts.
    pub(super) async fn attempts(&self, place: &str, number: u32) -> anyhow::Result<()> {
        self.attempts_within(place, number, SOON).await
    }

    /// The same, for attempts that take longer.
    pub(super) async fn attempts_within(
        &self,
        place: &str,
        number: u32,
        within: Duration,
    ) -> anyhow::Result<()> {
        let count =
            |seen: &Seen| seen.last().and_then(|step| step.attempts.get(place)).copied().unwrap_or_default();
        let before = count(&self.seen());
        let what = format!("{number} more attempts of {place}");
        self.until_within(&what, within, |seen| count(seen) >= before + number).await
    }

    /// How many attempts of each object have ended since the last event.
    pub(super) fn counts(&self) -> String {
        let seen = self.seen();
        let attempts = seen.last().into_iter().flat_map(|step| &step.attempts);
        attempts.map(|(place, number)| format!("{place} {number}")).collect::<Vec<_>>().join(", ")
    }

    /// Compares what was shown with what is expected of each event: by place, as `+` for well, `-` for broken and `?` for
    /// neither.
    pub(super) fn compare(&self, expected: &[(&str, &[(&str, &str)])]) -> anyhow::Result<()> {
        let seen = self.seen();
        let happened: Vec<_> = seen.steps.iter().map(|step| step.happens.as_str()).collect();
        let expected_to: Vec<_> = expected.iter().map(|(happens, _)| *happens).collect();
        ensure!(happened == expected_to, "{happened:?} happened, not {expected_to:?}");
        let mut wrong = String::new();
        for (step, (happens, places)) in seen.steps.iter().zip(expected) {
            for (place, right) in *places {
                let of = |told: &BTreeMap<String, String>| told.get(*place).cloned().unwrap_or_default();
                for (what, told) in [("shown", of(&step.shown)), ("Ready", of(&step.ready))] {
                    if told != *right {
                        writeln!(wrong, "{happens}: {place}: {what} {told:?} instead of {right:?}")?;
                    }
                }
            }
        }
        ensure!(wrong.is_empty(), "{wrong}");
        Ok(())
    }

    /// What each row says, beside what its controller does.
    pub(super) fn words(&self) -> String {
        let seen = self.seen();
        let mut words = seen.last().map_or_else(String::new, |step| format!("{}:\n", step.happens));
        for (place, row) in &seen.rows {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let outcome =
                row["lastOutcome"].as_str().map(|outcome| format!(" ({outcome})")).unwrap_or_default();
            let state = format!("{}{outcome}", text(&row["state"]));
            let by = &row["blockedBy"];
            let by = if by.is_null() {
                String::new()
            } else {
                format!(" <- {} {}", text(&by["kind"]), text(&by["name"]))
            };
            let controller = seen.objects.get(place).map(ready).unwrap_or_default();
            let _ = writeln!(words, "  {place}: {state}{by}: {}\n    {controller}", text(&row["message"]));
        }
        words
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// The status of a row.
    pub(super) fn row(&self, place: &str) -> Option<&Value> {
        self.rows.get(place)
    }

    fn last(&self) -> Option<&Step> {
        self.steps.last()
    }

    fn begin(&mut self, happens: &str) {
        let step = Step {
            happens: happens.to_owned(),
            shown: self.rows.iter().map(|(place, row)| (place.clone(), shown(row).to_string())).collect(),
            ready: self.rows.iter().map(|(place, row)| (place.clone(), sign(row).to_string())).collect(),
            attempts: BTreeMap::new(),
        };
        self.steps.push(step);
    }

    fn take(&mut self, event: Event<DynamicObject>) {
        let (object, is_there) = match event {
            Event::Apply(object) | Event::InitApply(object) => (object, true),
            Event::Delete(object) => (object, false),
            Event::Init | Event::InitDone => return,
        };
        let kind = object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
        let Ok(mut object) = serde_json::to_value(object) else { return };
        if kind == "FluxResource" {
            let status = object["status"].take();
            self.take_row(status, is_there);
        } else {
            let place = format!("{kind} {}", object["metadata"]["name"].as_str().unwrap_or_default());
            self.take_object(place, object, is_there);
        }
    }

    fn take_row(&mut self, row: Value, is_there: bool) {
        let text = |field: &str| row[field].as_str().unwrap_or_default();
        let place = format!("{} {}", text("kind"), text("name"));
        if !is_there {
            self.rows.remove(&place);
            return;
        }
        if let Some(step) = self.steps.last_mut() {
            for (told, now) in [(&mut step.shown, shown(&row)), (&mut step.ready, sign(&row))] {
                let told = told.entry(place.clone()).or_default();
                if !told.ends_with(now) {
                    told.push(now);
                }
            }
        }
        self.rows.insert(place, row);
    }

    fn take_object(&mut self, place: String, object: Value, is_there: bool) {
        let status = |object: &Value| condition(object, "Ready")["status"].as_str().map(ToOwned::to_owned);
        if let (Some(before), Some(step)) = (self.objects.get(&place), self.steps.last_mut()) {
            let (before, now) = (status(before), status(&object));
            if before.as_deref() == Some("Unknown") && now.is_some_and(|now| now != "Unknown") {
                *step.attempts.entry(place.clone()).or_default() += 1;
            }
        }
        if is_there {
            self.objects.insert(place, object);
        } else {
            self.objects.remove(&place);
        }
    }
}

/// Whether a row counts as well, as broken or as neither.
fn shown(row: &Value) -> char {
    match row["lastOutcome"].as_str().or(row["state"].as_str()).unwrap_or_default() {
        "Ready" => '+',
        "Failing" | "Failed" | "Stalled" | "Blocked" => '-',
        _ => '?',
    }
}

/// The status of a row's condition Ready.
fn sign(row: &Value) -> char {
    let conditions = row["conditions"].as_array().into_iter().flatten();
    let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
    match ready.and_then(|ready| ready["status"].as_str()) {
        Some("True") => '+',
        Some("False") => '-',
        _ => '?',
    }
}

/// A condition of an object of Flux's; null if it has none.
pub(super) fn condition<'a>(object: &'a Value, type_: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
}

/// What a controller says of an object.
fn ready(object: &Value) -> String {
    let ready = condition(object, "Ready");
    let text = |field: &str| ready[field].as_str().unwrap_or_default();
    format!("Ready={} {}: {}", text("status"), text("reason"), text("message"))
}
