//! Sends decisions as Kubernetes Events in the namespace of the object.
//!
//! **Invariants:** the caller never waits and never fails. A notice is counted but not sent if it repeats another one
//! of the last minutes, or exceeds the rate of its namespace. The queue and the memory of past notices are bounded.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_apiservice::client::explain;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use lru::LruCache;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// The `reportingController`, which `kubectl describe` shows.
const CONTROLLER: &str = "gatehouse.dev/webhooks";
/// The queue holds some seconds of denials at full speed. More could not be read by anybody.
const QUEUE: usize = 512;
/// A notice that repeats within this time is not sent: controllers retry a denied request forever.
const REPEATED: Duration = Duration::from_mins(5);
/// How many notices and namespaces are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// The number of Events that a namespace may have at once, as in client-go's spam filter …
const BURST: f64 = 25.0;
/// … and the time after which it may have one more.
const REFILL: Duration = Duration::from_secs(10);
/// The time limit of a request to create an Event.
const SEND: Duration = Duration::from_secs(5);
/// The maximum length of `note` by the API, in characters.
const NOTE_CHARACTERS: usize = 1024;
/// The namespace for Events about cluster-scoped objects.
const CLUSTER_SCOPED: &str = "default";

/// A decision to send as an Event.
#[derive(Debug, Clone)]
pub struct Notice {
    /// The object. The Event is created in its namespace.
    pub regarding: Object,
    /// The type of the Event.
    pub level: Level,
    /// The reason in CamelCase: `PolicyDenied`, `QuotaExceeded`, `PolicyViolated`, …
    pub reason: &'static str,
    /// The action that was taken, in CamelCase.
    pub action: &'static str,
    /// The text for people.
    pub note: String,
    /// Together with object and reason, this identifies repeated notices: policy and rule, or quota. The note is not
    /// part of the identity, since it may differ, as between a request for ten and one for eleven.
    pub cause: String,
}

/// The object that an Event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Object {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`; empty if the object does not exist.
    pub uid: String,
}

/// The type of an Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

/// The sending end of the queue. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<Notice>,
    metrics: Arc<Metrics>,
}

/// The receiving end of the queue, which creates the Events.
pub struct Outbox {
    queue: mpsc::Receiver<Notice>,
    metrics: Arc<Metrics>,
    /// The name of this replica.
    instance: String,
}

impl Events {
    /// Both ends of a new queue. `instance` is the name of this replica.
    pub fn new(metrics: Arc<Metrics>, instance: String) -> (Self, Outbox) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (Self { queue: sender, metrics: Arc::clone(&metrics) }, Outbox { queue, metrics, instance })
    }

    /// Queues a notice. If the queue is full, drops and counts it.
    pub fn tell(&self, told: Notice) {
        if self.queue.try_send(told).is_err() {
            self.metrics.events("dropped").inc();
        }
    }
}

impl Outbox {
    /// Creates Events until `stop` is cancelled. `client` should not retry: a failed Event is sent again with the next
    /// denial.
    pub async fn run(mut self, client: kube::Client, stop: CancellationToken) {
        let mut limits = Limits::new();
        loop {
            let told = tokio::select! {
                () = stop.cancelled() => return,
                told = self.queue.recv() => match told {
                    Some(told) => told,
                    None => return,
                },
            };
            let outcome = match limits.judge(&told, Instant::now()) {
                Err(outcome) => outcome,
                Ok(()) => self.send(&client, told).await,
            };
            self.metrics.events(outcome).inc();
        }
    }

    /// The next notice in the queue, if any.
    #[cfg(test)]
    pub(crate) fn next_now(&mut self) -> Option<Notice> {
        self.queue.try_recv().ok()
    }

    async fn send(&self, client: &kube::Client, told: Notice) -> &'static str {
        let namespace =
            if told.regarding.namespace.is_empty() { CLUSTER_SCOPED } else { &told.regarding.namespace };
        let api: Api<Event> = Api::namespaced(client.clone(), namespace);
        let event = self.event(&told, namespace);
        let sent = tokio::time::timeout(SEND, api.create(&PostParams::default(), &event)).await;
        match sent {
            Ok(Ok(_)) => "sent",
            Ok(Err(error)) => {
                tracing::debug!(error = %explain(&error), reason = told.reason, "cannot create an Event");
                "failed"
            }
            Err(_) => "failed",
        }
    }

    fn event(&self, told: &Notice, namespace: &str) -> Event {
        let now = jiff::Timestamp::now();
        let Object { api_version, kind, namespace: own, name, uid } = told.regarding.clone();
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        // The name as in client-go, which is unique by its nanoseconds. It must fit into 253 characters.
        let base: String = name.chars().take(230).collect();
        let base = if base.is_empty() { "unnamed".to_owned() } else { base };
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{base}.{:x}", now.as_nanosecond())),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            action: Some(told.action.to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(told.note.chars().take(NOTE_CHARACTERS).collect()),
            reason: Some(told.reason.to_owned()),
            regarding: Some(ObjectReference {
                api_version: some(api_version),
                kind: some(kind),
                namespace: some(own),
                name: some(name),
                uid: some(uid),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.chars().take(128).collect()),
            type_: Some(match told.level {
                Level::Normal => "Normal".to_owned(),
                Level::Warning => "Warning".to_owned(),
            }),
            ..Event::default()
        }
    }
}

/// The notices of the last minutes, and how many more Events each namespace may have.
struct Limits {
    /// When each notice was last sent, by its hash.
    told: LruCache<u64, Instant>,
    /// How many Events each namespace may have, and at which time that was computed.
    room: LruCache<String, (f64, Instant)>,
}

impl Limits {
    fn new() -> Self {
        Self { told: LruCache::new(REMEMBERED), room: LruCache::new(REMEMBERED) }
    }

    /// Accepts and remembers a notice, or returns the reason not to send it.
    fn judge(&mut self, told: &Notice, now: Instant) -> Result<(), &'static str> {
        let mut hasher = DefaultHasher::new();
        (&told.regarding, told.reason, &told.cause).hash(&mut hasher);
        let key = hasher.finish();
        if self.told.get(&key).is_some_and(|last| now.duration_since(*last) < REPEATED) {
            return Err("repeated");
        }
        let namespace = &told.regarding.namespace;
        let (left, since) = self.room.get(namespace).copied().unwrap_or((BURST, now));
        let refilled = now.duration_since(since).as_secs_f64() / REFILL.as_secs_f64();
        let left = (left + refilled).min(BURST);
        if left < 1.0 {
            return Err("limited");
        }
        self.room.put(namespace.clone(), (left - 1.0, now));
        self.told.put(key, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    fn told(namespace: &str, name: &str, cause: &str) -> Notice {
        Notice {
            regarding: Object {
                api_version: "g/v1".to_owned(),
                kind: "Thing".to_owned(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: String::new(),
            },
            level: Level::Warning,
            reason: "PolicyDenied",
            action: "Admission",
            note: "because".to_owned(),
            cause: cause.to_owned(),
        }
    }

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::new(&Registry::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_told_once_in_some_minutes() {
        let (mut limits, start) = (Limits::new(), Instant::now());
        assert_eq!(limits.judge(&told("n", "a", "strict/interval"), start), Ok(()));
        assert_eq!(limits.judge(&told("n", "a", "strict/interval"), start), Err("repeated"));
        for other in [
            told("n", "b", "strict/interval"),
            told("n", "a", "strict/prune"),
            told("m", "a", "strict/interval"),
        ] {
            assert_eq!(limits.judge(&other, start), Ok(()));
        }
        assert_eq!(limits.judge(&told("n", "a", "strict/interval"), start + REPEATED), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_tells_too_much_is_heard_now_and_then_and_others_as_before() {
        let (mut limits, start) = (Limits::new(), Instant::now());
        let heard = (0..100).filter(|n| limits.judge(&told("n", &n.to_string(), ""), start).is_ok()).count();
        assert_eq!(heard, 25);
        assert_eq!(limits.judge(&told("m", "a", ""), start), Ok(()));
        let later = start + 2 * REFILL;
        let heard =
            (100..200).filter(|n| limits.judge(&told("n", &n.to_string(), ""), later).is_ok()).count();
        assert_eq!(heard, 2);
    }

    #[tokio::test]
    async fn beyond_the_queue_things_are_dropped_and_counted() {
        let metrics = metrics();
        let (events, outbox) = Events::new(Arc::clone(&metrics), "me".to_owned());
        for n in 0..QUEUE + 3 {
            events.tell(told("n", &n.to_string(), ""));
        }
        assert_eq!(metrics.events("dropped").get(), 3);
        drop(outbox);
    }

    #[test]
    fn an_event_names_the_object_and_fits() {
        let (_, outbox) = Events::new(metrics(), "me".to_owned());
        let mut long = told("n", &"a".repeat(253), "");
        long.note = "é".repeat(2000);
        let event = outbox.event(&long, "n");
        assert!(event.metadata.name.expect("named").len() <= 253);
        assert_eq!(event.note.expect("told").chars().count(), NOTE_CHARACTERS);
        let regarding = event.regarding.expect("about something");
        assert_eq!((regarding.kind.as_deref(), regarding.uid), (Some("Thing"), None));
        assert!(event.event_time.is_some() && event.reporting_controller.is_some());
    }
}
