//! Reports actions: one Event on the Flux object, and the same to Flux's notification-controller, which delivers it
//! to the Providers of Alerts.

use std::time::Duration;

use bytes::Bytes;
use gatehouse_serving::events::{EventRecorder, Level, Notice, Object, Reporter};
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Ask, live::Live, remote_events::RemoteEvents, target::Target};

/// The `reportingController` of Events.
const CONTROLLER: &str = "gatehouse.dev/apiserver";
/// A bulk request makes up to a thousand Events, which are sent within seconds.
const QUEUE: usize = 2048;
/// How long notification-controller may take.
const SEND: Duration = Duration::from_secs(5);

/// How actions become Events: each is sent, up to a rate that no person reaches.
pub(super) fn reporter(instance: &str) -> Reporter {
    Reporter {
        controller: CONTROLLER,
        instance: instance.to_owned(),
        queue: QUEUE,
        burst: 2000.0,
        refill: Duration::from_millis(100),
    }
}

/// An action on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Reconcile,
    Suspend,
    Resume,
}

impl Action {
    /// The reason of its Event.
    fn reason(self) -> &'static str {
        match self {
            Self::Reconcile => "ReconcileRequested",
            Self::Suspend => "Suspended",
            Self::Resume => "Resumed",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Reconcile => "Reconcile",
            Self::Suspend => "Suspend",
            Self::Resume => "Resume",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Reconcile => "reconciliation requested",
            Self::Suspend => "suspended",
            Self::Resume => "resumed",
        }
    }
}

/// What was done, and why.
pub(super) struct Deed<'a> {
    pub(super) action: Action,
    pub(super) reason: Option<&'a str>,
    /// Goes on with what was done.
    pub(super) detail: &'a str,
}

/// Reports actions. Never waits and never fails.
pub(super) struct Reports {
    events: EventRecorder,
    remote: RemoteEvents,
    forward: Option<mpsc::Sender<Value>>,
    instance: String,
}

impl Reports {
    /// Also the queue of what is to be sent to notification-controller, if `forwards`.
    pub(super) fn new(
        events: EventRecorder,
        remote: RemoteEvents,
        instance: &str,
        forwards: bool,
    ) -> (Self, Option<mpsc::Receiver<Value>>) {
        let (forward, queue) = if forwards {
            let (forward, queue) = mpsc::channel(QUEUE);
            (Some(forward), Some(queue))
        } else {
            (None, None)
        };
        (Self { events, remote, forward, instance: instance.to_owned() }, queue)
    }

    /// Reports a write; a dry run wrote nothing. `--events-addr` is the notification-controller of the local cluster,
    /// whose Alerts are about its own objects.
    pub(super) fn report(&self, ask: &Ask, target: &Target, written: &Live, deed: &Deed<'_>) {
        if ask.call.dry_run {
            return;
        }
        let by = ask.call.requester.as_ref().map(|user| format!(" by {}", user.name)).unwrap_or_default();
        let why = deed.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let note = format!("{}{by}{}{why}", deed.action.done(), deed.detail);
        if target.cluster.is_local()
            && let Some(forward) = &self.forward
            && forward.try_send(self.event(target, written, deed.action, &note)).is_err()
        {
            tracing::warn!("the queue to --events-addr is full: an event is dropped");
        }
        let notice = Notice {
            regarding: Object {
                api_version: target.api_version(),
                kind: target.kind.clone(),
                namespace: target.namespace.clone(),
                name: target.name.clone(),
                uid: written.uid().to_owned(),
            },
            level: Level::Normal,
            reason: deed.action.reason(),
            action: deed.action.name(),
            note,
            // Each version of an object is another Event.
            cause: written.version().to_owned(),
        };
        match &target.cluster.events {
            None => self.events.record(notice),
            Some(client) => self.remote.record(&target.cluster.name, client.clone(), notice),
        }
    }

    /// As Flux's controllers send it (`Event` of github.com/fluxcd/pkg/apis/event/v1beta1). notification-controller drops
    /// an event with the object and message of another within five minutes, unless their tokens differ.
    fn event(&self, target: &Target, written: &Live, action: Action, note: &str) -> Value {
        json!({
            "involvedObject": {
                "apiVersion": target.api_version(), "kind": target.kind,
                "namespace": target.namespace, "name": target.name,
                "uid": written.uid(), "resourceVersion": written.version(),
            },
            "severity": "info",
            "timestamp": format!("{:.0}", Timestamp::now()),
            "message": note,
            "reason": action.reason(),
            "metadata": {format!("{}/token", target.group): written.version()},
            "reportingController": "gatehouse",
            "reportingInstance": self.instance,
        })
    }
}

/// Sends what is queued to notification-controller, until `stop` is cancelled. What cannot be sent is logged and lost,
/// as the Events of Flux's controllers are.
pub(super) async fn forward(address: Uri, mut queue: mpsc::Receiver<Value>, stop: CancellationToken) {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = queue.recv() => match event {
                Some(event) => event,
                // The sender is gone only when the process ends.
                None => return stop.cancelled().await,
            },
        };
        let request = Request::post(address.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(event.to_string()));
        let Ok(request) = request else { continue };
        let sent = async {
            let response = client.request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            // The connection is used again.
            let _ = response.into_body().collect().await;
            if status.is_success() { Ok(()) } else { Err(status.to_string()) }
        };
        let problem = match tokio::time::timeout(SEND, sent).await {
            Ok(Ok(())) => continue,
            Ok(Err(problem)) => problem,
            Err(_) => "no answer".to_owned(),
        };
        tracing::warn!(%address, problem, "an event could not be sent to --events-addr");
    }
}
