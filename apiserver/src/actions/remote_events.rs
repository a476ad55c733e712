//! Events on the objects of remote clusters that Gatehouse has patched there for a user.
//!
//! A Gatehouse of that cluster sends its own. Otherwise the hub creates the Event by the account that the cluster is
//! registered with, since the user need not be allowed to. That account may lack the right: nothing depends on it.
//!
//! **Invariant:** the caller never waits and never fails, and a cluster that does not answer holds up no other for long.

use std::{collections::HashMap, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use gatehouse_apiservice::client::explain;
use gatehouse_inventory::Str;
use gatehouse_serving::events::{Notice, Reporter};
use prometheus::IntCounterVec;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long a cluster may take. It has just answered a write.
const SEND: Duration = Duration::from_secs(5);
/// How long nothing is sent to a cluster that did not answer.
const SILENT: Duration = Duration::from_secs(30);
/// How many are sent at a time.
const AT_ONCE: usize = 16;

/// An Event for a cluster.
struct RemoteEvent {
    cluster: Str,
    client: kube::Client,
    notice: Notice,
}

/// The sending end of the queue.
pub(super) struct RemoteEvents {
    queue: mpsc::Sender<RemoteEvent>,
    outcomes: IntCounterVec,
}

/// Creates the Events.
pub(super) struct RemoteBroadcaster {
    queue: mpsc::Receiver<RemoteEvent>,
    outcomes: IntCounterVec,
    reporter: Reporter,
    /// The clusters that did not answer, and when.
    silent: HashMap<Str, Instant>,
    /// What was logged last of each cluster.
    problems: HashMap<Str, String>,
}

/// What became of an Event.
enum Sent {
    Done,
    Forbidden(String),
    Failed(String),
    Silent(String),
}

impl RemoteEvents {
    /// Both ends of a new queue. `outcomes` counts Events by `outcome`: `sent`, `failed`, `forbidden` or `dropped`.
    pub(super) fn new(outcomes: IntCounterVec, reporter: Reporter) -> (Self, RemoteBroadcaster) {
        let (sender, queue) = mpsc::channel(reporter.queue);
        let (silent, problems) = (HashMap::new(), HashMap::new());
        let broadcaster = RemoteBroadcaster { queue, outcomes: outcomes.clone(), reporter, silent, problems };
        (Self { queue: sender, outcomes }, broadcaster)
    }

    /// Queues an Event. If the queue is full, drops and counts it.
    pub(super) fn record(&self, cluster: &Str, client: kube::Client, notice: Notice) {
        let event = RemoteEvent { cluster: cluster.clone(), client, notice };
        if self.queue.try_send(event).is_err() {
            self.outcomes.with_label_values(&["dropped"]).inc();
        }
    }
}

impl RemoteBroadcaster {
    /// Creates Events until `stop` is cancelled.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut sending = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some((cluster, sent)) = sending.next(), if !sending.is_empty() => self.note(cluster, sent),
                event = self.queue.recv(), if sending.len() < AT_ONCE => match event {
                    Some(event) if self.is_silent(&event.cluster) => self.count("failed"),
                    Some(event) => sending.push(send(self.reporter.clone(), event)),
                    // The sender is gone only when the process ends.
                    None => return stop.cancelled().await,
                },
            }
        }
    }

    fn is_silent(&self, cluster: &Str) -> bool {
        self.silent.get(cluster).is_some_and(|at| at.elapsed() < SILENT)
    }

    fn count(&self, outcome: &str) {
        self.outcomes.with_label_values(&[outcome]).inc();
    }

    fn note(&mut self, cluster: Str, sent: Sent) {
        if matches!(sent, Sent::Silent(_)) {
            self.silent.insert(cluster.clone(), Instant::now());
        }
        let (outcome, error) = match sent {
            Sent::Done => {
                self.problems.remove(&cluster);
                return self.count("sent");
            }
            Sent::Forbidden(error) => ("forbidden", error),
            Sent::Failed(error) | Sent::Silent(error) => ("failed", error),
        };
        self.count(outcome);
        if self.problems.get(&cluster) != Some(&error) {
            tracing::warn!(cluster = &*cluster, error, "cannot create an Event of an action in a cluster");
            self.problems.insert(cluster, error);
        }
    }
}

async fn send(reporter: Reporter, event: RemoteEvent) -> (Str, Sent) {
    let RemoteEvent { cluster, client, notice } = event;
    let sent = match timeout(SEND, reporter.create(&client, &notice)).await {
        Ok(Ok(())) => Sent::Done,
        Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => Sent::Forbidden(status.message),
        Ok(Err(error @ kube::Error::Api(_))) => Sent::Failed(explain(&error)),
        Ok(Err(error)) => Sent::Silent(explain(&error)),
        Err(_) => Sent::Silent("it did not answer in time".to_owned()),
    };
    (cluster, sent)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use gatehouse_serving::events::{Level, Object};
    use http::{Request, Response};
    use kube::client::Body;
    use prometheus::Opts;
    use serde_json::json;

    use super::*;
    use crate::actions::report;

    fn notice(name: &str) -> Notice {
        Notice {
            regarding: Object { namespace: "n".to_owned(), name: name.to_owned(), ..Object::default() },
            level: Level::Normal,
            reason: "Suspended",
            action: "Suspend",
            note: "suspended by jane".to_owned(),
            cause: "1".to_owned(),
        }
    }

    /// A cluster that answers each Event so; with 0, never.
    fn cluster(code: u16) -> kube::Client {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            if code == 0 {
                std::future::pending::<()>().await;
            }
            let answer = if code < 300 {
                json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {}, "eventTime": null})
            } else {
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no",
                       "reason": if code == 403 { "Forbidden" } else { "NotFound" }})
            };
            let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, Infallible>(answer.expect("an answer"))
        });
        kube::Client::new(service, "default")
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_that_refuses_or_is_silent_is_counted_and_holds_up_no_other() {
        let outcomes = IntCounterVec::new(Opts::new("events", "By outcome."), &["outcome"]).expect("valid");
        let reporter = Reporter { queue: 64, ..report::reporter("me") };
        let (events, broadcaster) = RemoteEvents::new(outcomes.clone(), reporter);
        let stop = CancellationToken::new();
        let task = tokio::spawn(broadcaster.run(stop.clone()));
        let (silent, good) = (cluster(0), cluster(201));
        for n in 0..50 {
            events.record(&"silent".into(), silent.clone(), notice(&n.to_string()));
        }
        events.record(&"refuses".into(), cluster(403), notice("a"));
        events.record(&"gone".into(), cluster(404), notice("a"));
        events.record(&"good".into(), good.clone(), notice("a"));
        tokio::time::sleep(SEND + Duration::from_secs(1)).await;
        let count = |outcome: &str| outcomes.with_label_values(&[outcome]).get();
        assert_eq!((count("sent"), count("forbidden"), count("failed")), (1, 1, 51));
        for _ in 0..100 {
            events.record(&"good".into(), good.clone(), notice("b"));
        }
        assert_eq!(count("dropped"), 36, "the queue is bounded");
        stop.cancel();
        task.await.expect("it ends");
    }
}
