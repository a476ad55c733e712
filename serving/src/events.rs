//! Sends decisions as Kubernetes Events in the namespace of the object.
//!
//! **Invariants:** the caller never waits and never fails. A notice is counted but not sent if it repeats another one
//! of the last minutes, or exceeds the rate of its namespace. The queue and the memory of past notices are bounded.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::time::Duration;

use gatehouse_apiservice::client::explain;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use lru::LruCache;
use prometheus::IntCounterVec;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A notice that repeats within this time is not sent: controllers retry a denied request forever.
const REPEATED: Duration = Duration::from_mins(5);
/// How many notices and namespaces are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// The time limit of a request to create an Event.
const SEND: Duration = Duration::from_secs(30);
/// The maximum length of `note` by the API, in bytes (`NoteLengthLimit`).
const NOTE_BYTES: usize = 1024;
/// The namespace for Events about cluster-scoped objects.
const CLUSTER_SCOPED: &str = "default";

/// Who sends Events, and how many.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// The `reportingController`, which `kubectl describe` shows.
    pub controller: &'static str,
    /// The name of this replica.
    pub instance: String,
    /// The length of the queue. Beyond it, notices are dropped and counted.
    pub queue: usize,
    /// The number of Events that a namespace may have at once …
    pub burst: f64,
    /// … and the time after which it may have one more.
    pub refill: Duration,
}

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
pub struct EventRecorder {
    queue: mpsc::Sender<Notice>,
    outcomes: IntCounterVec,
}

/// The receiving end of the queue, which creates the Events.
pub struct EventBroadcaster {
    queue: mpsc::Receiver<Notice>,
    outcomes: IntCounterVec,
    reporter: Reporter,
}

impl EventRecorder {
    /// Both ends of a new queue. `outcomes` counts Events by `outcome`: `sent`, `failed`, `repeated`, `limited` or
    /// `dropped`.
    pub fn new(outcomes: IntCounterVec, reporter: Reporter) -> (Self, EventBroadcaster) {
        let (sender, queue) = mpsc::channel(reporter.queue);
        (Self { queue: sender, outcomes: outcomes.clone() }, EventBroadcaster { queue, outcomes, reporter })
    }

    /// Queues a notice. If the queue is full, drops and counts it.
    pub fn record(&self, notice: Notice) {
        if self.queue.try_send(notice).is_err() {
            self.outcomes.with_label_values(&["dropped"]).inc();
        }
    }
}

impl EventBroadcaster {
    /// Creates Events until `stop` is cancelled. `client` should not retry: a failed Event is sent again with the next
    /// denial.
    pub async fn run(mut self, client: kube::Client, stop: CancellationToken) {
        let mut limits = Limits::new(&self.reporter);
        loop {
            let notice = tokio::select! {
                () = stop.cancelled() => return,
                notice = self.queue.recv() => match notice {
                    Some(notice) => notice,
                    None => return,
                },
            };
            let outcome = match limits.judge(&notice, Instant::now()) {
                Err(outcome) => outcome,
                Ok(()) => self.send(&client, notice).await,
            };
            self.outcomes.with_label_values(&[outcome]).inc();
        }
    }

    /// The next notice in the queue, if any.
    pub fn next_now(&mut self) -> Option<Notice> {
        self.queue.try_recv().ok()
    }

    async fn send(&self, client: &kube::Client, notice: Notice) -> &'static str {
        match tokio::time::timeout(SEND, self.reporter.create(client, &notice)).await {
            Ok(Ok(())) => "sent",
            Ok(Err(error)) => {
                tracing::warn!(error = %explain(&error), reason = notice.reason, "cannot create an Event");
                "failed"
            }
            Err(_) => {
                tracing::warn!(
                    reason = notice.reason,
                    "cannot create an Event: kube-apiserver did not answer"
                );
                "failed"
            }
        }
    }
}

impl Reporter {
    /// Creates the Event of a notice, whatever was sent before.
    pub async fn create(&self, client: &kube::Client, notice: &Notice) -> kube::Result<()> {
        let namespace =
            if notice.regarding.namespace.is_empty() { CLUSTER_SCOPED } else { &notice.regarding.namespace };
        let api: Api<Event> = Api::namespaced(client.clone(), namespace);
        api.create(&PostParams::default(), &self.event(notice, namespace)).await.map(drop)
    }

    fn event(&self, notice: &Notice, namespace: &str) -> Event {
        let now = jiff::Timestamp::now();
        let Object { api_version, kind, namespace: own, name, uid } = notice.regarding.clone();
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
            action: Some(notice.action.to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(notice.note[..notice.note.floor_char_boundary(NOTE_BYTES)].to_owned()),
            reason: Some(notice.reason.to_owned()),
            regarding: Some(ObjectReference {
                api_version: some(api_version),
                kind: some(kind),
                namespace: some(own),
                name: some(name),
                uid: some(uid),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(self.controller.to_owned()),
            reporting_instance: Some(self.instance.chars().take(128).collect()),
            type_: Some(match notice.level {
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
    sent: LruCache<u64, Instant>,
    /// How many Events each namespace may have, and at which time that was computed.
    room: LruCache<String, (f64, Instant)>,
    burst: f64,
    refill: Duration,
}

impl Limits {
    fn new(reporter: &Reporter) -> Self {
        Self {
            sent: LruCache::new(REMEMBERED),
            room: LruCache::new(REMEMBERED),
            burst: reporter.burst,
            refill: reporter.refill,
        }
    }

    /// Accepts and remembers a notice, or returns the reason not to send it.
    fn judge(&mut self, notice: &Notice, now: Instant) -> Result<(), &'static str> {
        let mut hasher = DefaultHasher::new();
        (&notice.regarding, notice.reason, &notice.cause).hash(&mut hasher);
        let key = hasher.finish();
        if self.sent.get(&key).is_some_and(|last| now.duration_since(*last) < REPEATED) {
            return Err("repeated");
        }
        let namespace = &notice.regarding.namespace;
        let (left, since) = self.room.get(namespace).copied().unwrap_or((self.burst, now));
        let refilled = now.duration_since(since).as_secs_f64() / self.refill.as_secs_f64();
        let left = (left + refilled).min(self.burst);
        if left < 1.0 {
            return Err("limited");
        }
        self.room.put(namespace.clone(), (left - 1.0, now));
        self.sent.put(key, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;

    use super::*;

    fn reporter() -> Reporter {
        Reporter {
            controller: "gatehouse.dev/tests",
            instance: "me".to_owned(),
            queue: 8,
            burst: 25.0,
            refill: Duration::from_secs(10),
        }
    }

    fn notice(namespace: &str, name: &str, cause: &str) -> Notice {
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

    fn outcomes() -> IntCounterVec {
        IntCounterVec::new(Opts::new("events", "By outcome."), &["outcome"]).expect("valid")
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_told_once_in_some_minutes() {
        let (mut limits, start) = (Limits::new(&reporter()), Instant::now());
        assert_eq!(limits.judge(&notice("n", "a", "strict/interval"), start), Ok(()));
        assert_eq!(limits.judge(&notice("n", "a", "strict/interval"), start), Err("repeated"));
        for other in [
            notice("n", "b", "strict/interval"),
            notice("n", "a", "strict/prune"),
            notice("m", "a", "strict/interval"),
        ] {
            assert_eq!(limits.judge(&other, start), Ok(()));
        }
        assert_eq!(limits.judge(&notice("n", "a", "strict/interval"), start + REPEATED), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_tells_too_much_is_heard_now_and_then_and_others_as_before() {
        let (mut limits, start) = (Limits::new(&reporter()), Instant::now());
        let admitted =
            (0..100).filter(|n| limits.judge(&notice("n", &n.to_string(), ""), start).is_ok()).count();
        assert_eq!(admitted, 25);
        assert_eq!(limits.judge(&notice("m", "a", ""), start), Ok(()));
        let later = start + Duration::from_secs(20);
        let admitted =
            (100..200).filter(|n| limits.judge(&notice("n", &n.to_string(), ""), later).is_ok()).count();
        assert_eq!(admitted, 2);
    }

    #[tokio::test]
    async fn beyond_the_queue_things_are_dropped_and_counted() {
        let outcomes = outcomes();
        let (events, broadcaster) = EventRecorder::new(outcomes.clone(), reporter());
        for n in 0..reporter().queue + 3 {
            events.record(notice("n", &n.to_string(), ""));
        }
        assert_eq!(outcomes.with_label_values(&["dropped"]).get(), 3);
        drop(broadcaster);
    }

    #[test]
    fn an_event_names_the_object_and_fits() {
        let mut long = notice("n", &"a".repeat(253), "");
        long.note = "é".repeat(2000);
        let event = reporter().event(&long, "n");
        assert!(event.metadata.name.expect("named").len() <= 253);
        assert_eq!(event.note.expect("a note").len(), NOTE_BYTES);
        let regarding = event.regarding.expect("about something");
        assert_eq!((regarding.kind.as_deref(), regarding.uid), (Some("Thing"), None));
        assert!(event.event_time.is_some() && event.reporting_controller.is_some());
    }
}
