//! A cluster as a source: what of the catalogue it serves, listed and watched.
//!
//! One task for each kind, served or not, told by discovery what to do; so a kind whose CRD is missing
//! sleeps until it appears, and trouble with one kind is trouble with that kind alone.

mod crds;
mod discovery;
mod follow;
mod raw;
mod settings;
#[cfg(test)]
mod tests;
mod trouble;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kube::{Client, runtime::watcher::DefaultBackoff};
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::settings::{Streaming, WatchSettings};
use self::{
    discovery::Finding,
    follow::{Assignment, Shared},
    trouble::{explain, jittered},
};
use super::{Event, Heard, KindStatus, Sink, Source};
use crate::{Str, catalogue::KindId};

/// A cluster, watched through its API server.
#[derive(Clone)]
pub struct Watch {
    client: Client,
    settings: WatchSettings,
}

/// Discovery in all; it is three requests.
const DISCOVERY: Duration = Duration::from_secs(30);
/// What discovery serves lags behind what it is asked about, a new CRD above all. After a change it is asked
/// this often, with these delays; the first also gathers what comes at once, such as the CRDs of one chart.
const AFTER_CHANGE: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];

impl Watch {
    /// Watches with the default settings.
    pub fn new(client: Client) -> Self {
        Self::with_settings(client, WatchSettings::default())
    }

    /// Watches as `settings` say.
    pub fn with_settings(client: Client, settings: WatchSettings) -> Self {
        Self { client, settings }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Source for Watch {
    async fn run(self, sink: Sink, stop: CancellationToken) {
        let shared = Shared {
            client: self.client,
            sink,
            settings: Arc::new(self.settings),
            streams: Arc::default(),
            rediscover: Arc::default(),
            answers: Arc::default(),
        };
        let mut tasks = JoinSet::new();
        let mut kinds = HashMap::new();
        let mut assignments = Vec::new();
        for (kind, _) in shared.sink.catalogue.kinds() {
            let (assign, assigned) = watch::channel(Assignment::Undecided);
            let task = spawn(&mut tasks, &stop, follow::follow(shared.clone(), kind, assigned));
            kinds.insert(task, kind);
            assignments.push((kind, assign));
        }
        spawn(&mut tasks, &stop, heartbeat(shared.clone()));
        spawn(&mut tasks, &stop, crds::watch(shared.clone()));
        spawn(&mut tasks, &stop, discover(shared.clone(), assignments));
        while let Some(ended) = tasks.join_next_with_id().await {
            let Err(error) = ended else { continue };
            // A defect. Stopping one kind's observation must at least not look like a quiet kind.
            tracing::error!(%error, "a watch task failed");
            let message = Str::from("its observation failed; the log says why");
            let event = match kinds.get(&error.id()) {
                Some(kind) => Event::Kind(*kind, KindStatus::Failing { message }),
                None => Event::Heard(Heard::Silent { message }),
            };
            stop.run_until_cancelled(shared.sink.send(event)).await;
        }
    }
}

/// Runs a part until it or the source is over. No part has anything to finish: it may end at any await.
fn spawn(
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
    part: impl Future<Output = ()> + Send + 'static,
) -> Id {
    let stop = stop.clone();
    let part = async move {
        stop.run_until_cancelled(part).await;
    };
    tasks.spawn(part).id()
}

/// Tells the kinds' tasks what is served, regularly and whenever something changed.
async fn discover(shared: Shared, assignments: Vec<(KindId, watch::Sender<Assignment>)>) {
    let mut backoff = DefaultBackoff::default();
    let mut soon = [].iter();
    loop {
        let found = timeout(DISCOVERY, discovery::discover(&shared.client, &shared.sink.catalogue)).await;
        let found = found.unwrap_or_else(|_| Err(format!("no answer within {} s", DISCOVERY.as_secs())));
        let failed = match found {
            Ok((kinds, streams)) => {
                shared.streams.store(streams.0, Ordering::Relaxed);
                assign(&kinds, &assignments);
                backoff = DefaultBackoff::default();
                None
            }
            Err(reason) => {
                tracing::warn!(%reason, "discovery failed; what was known to be served stays so");
                backoff.next()
            }
        };
        let regular = shared.settings.discovery_interval;
        let wait =
            failed.or_else(|| soon.next().copied()).unwrap_or_else(|| jittered(regular.mul_f64(2.0 / 3.0)));
        if timeout(wait, shared.rediscover.notified()).await.is_ok() {
            soon = AFTER_CHANGE.iter();
            tokio::time::sleep(soon.next().copied().unwrap_or_default()).await;
        }
    }
}

fn assign(found: &[(KindId, Finding)], assignments: &[(KindId, watch::Sender<Assignment>)]) {
    for ((kind, finding), (assigned, assign)) in found.iter().zip(assignments) {
        debug_assert_eq!(kind, assigned, "both are in the catalogue's order");
        let new = match finding {
            Finding::Served(resource) => Assignment::Served(resource.clone()),
            Finding::Absent => Assignment::Absent,
            Finding::Unknown => continue,
        };
        assign.send_if_modified(|current| {
            let differs = *current != new;
            if differs {
                *current = new;
            }
            differs
        });
    }
}

/// Asks for the server's version: small, open to every account, and answered by the API server itself.
async fn heartbeat(shared: Shared) {
    let period = shared.settings.heartbeat;
    let mut beats = interval(period);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_silent = false;
    loop {
        beats.tick().await;
        let heard = match timeout(period, shared.client.apiserver_version()).await {
            Ok(Ok(version)) => {
                let version = version.git_version;
                Heard::Alive { version: (!version.is_empty()).then(|| shared.sink.interner.intern(&version)) }
            }
            // It answered, if only to say that this account may not ask.
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Heard::Alive { version: None },
            Ok(Err(error)) => Heard::Silent { message: explain(&error).into() },
            Err(_) => {
                let message = format!("no answer within {} s", period.as_secs_f64());
                Heard::Silent { message: message.into() }
            }
        };
        let is_silent = matches!(heard, Heard::Silent { .. });
        if was_silent && !is_silent {
            // After a long silence the kinds would otherwise wait out their back-off, half a minute each.
            shared.answers.notify_waiters();
            shared.rediscover.notify_one();
        }
        was_silent = is_silent;
        shared.sink.send(Event::Heard(heard)).await;
    }
}
