//! A source that lists and watches a cluster through its API server.
//!
//! Each kind of the catalogue has its own task, whether or not it is served, and discovery tells the task whether it
//! is. So a kind whose CRD is missing is watched once the CRD is created, and an error of one kind does not affect
//! others. [`Upstream`] does the same for any resource and any [`Observer`].

mod crds;
mod discovery;
mod follow;
mod items;
mod notice;
mod raw;
mod record;
mod settings;
mod shared;
#[cfg(test)]
mod tests;
mod upstream;
mod watch_error;

use std::collections::HashMap;

use kube::Client;
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
};
use tokio_util::sync::CancellationToken;

use self::record::Recorder;
pub use self::{
    discovery::Wanted,
    notice::{Content, Observer, WatchNotice},
    raw::Raw,
    settings::{Streaming, WatchSettings},
    shared::Assignment,
    upstream::Upstream,
};
use super::{Event, KindStatus, Liveness, Sink, Source};
use crate::Str;

/// A cluster that is watched through its API server.
#[derive(Clone)]
pub struct Watch {
    upstream: Upstream,
}

impl Watch {
    /// A watch with the default settings.
    pub fn new(client: Client) -> Self {
        Self::with_settings(client, WatchSettings::default())
    }

    /// A watch with `settings`.
    pub fn with_settings(client: Client, settings: WatchSettings) -> Self {
        Self { upstream: Upstream::new(client, settings) }
    }

    /// A watch by the last of `clients`: see [`Upstream::with_clients`].
    pub fn with_clients(clients: watch::Receiver<Option<Client>>, settings: WatchSettings) -> Self {
        Self { upstream: Upstream::with_clients(clients, settings) }
    }

    /// The cluster, for observers of other resources. They are followed once the source runs.
    pub fn upstream(&self) -> Upstream {
        self.upstream.clone()
    }
}

impl Source for Watch {
    async fn run(self, sink: Sink, stop: CancellationToken) {
        let upstream = self.upstream;
        let mut tasks = JoinSet::new();
        let mut kinds = HashMap::new();
        for (id, kind) in sink.catalogue.kinds() {
            let recorder = Recorder { kind: id, sink: sink.clone(), current: None };
            let task = upstream.follow(Wanted::from(kind), Content::Whole, recorder);
            kinds.insert(spawn(&mut tasks, &stop, task), id);
        }
        let liveness = sink.clone();
        spawn(&mut tasks, &stop, async move {
            upstream.run(|sign| liveness.send(Event::Liveness(sign))).await;
        });
        while let Some(ended) = tasks.join_next_with_id().await {
            let Err(error) = ended else { continue };
            // This is a bug. The kind must not look as if it merely had no changes.
            tracing::error!(%error, "watch task failed");
            let message = Str::from("its observation failed; the log says why");
            let event = match kinds.get(&error.id()) {
                Some(kind) => Event::Kind(*kind, KindStatus::Failing { message }),
                None => Event::Liveness(Liveness::Silent { message }),
            };
            stop.run_until_cancelled(sink.send(event)).await;
        }
    }
}

/// Runs a future until it ends or the source is stopped. It may be cancelled at any await.
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
