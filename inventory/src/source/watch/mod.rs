//! A cluster as a source: what of the catalogue it serves, listed and watched.
//!
//! One task for each kind, served or not, told by discovery what to do; so a kind whose CRD is missing
//! sleeps until it appears, and trouble with one kind is trouble with that kind alone. [`Upstream`] does the
//! same for any resource and any [`Observer`].

mod crds;
mod discovery;
mod follow;
mod items;
mod raw;
mod record;
mod settings;
mod shared;
#[cfg(test)]
mod tests;
mod trouble;
mod upstream;

use std::collections::HashMap;

use kube::Client;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use self::record::Recorder;
pub use self::{
    discovery::Wanted,
    follow::{Content, Observer, WatchNotice},
    raw::Raw,
    settings::{Streaming, WatchSettings},
    shared::Assignment,
    upstream::Upstream,
};
use super::{Event, KindStatus, Liveness, Sink, Source};
use crate::Str;

/// A cluster, watched through its API server.
#[derive(Clone)]
pub struct Watch {
    client: Client,
    settings: WatchSettings,
}

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

impl Source for Watch {
    async fn run(self, sink: Sink, stop: CancellationToken) {
        let upstream = Upstream::new(self.client, self.settings);
        let mut tasks = JoinSet::new();
        let mut kinds = HashMap::new();
        for (id, kind) in sink.catalogue.kinds() {
            let recorder = Recorder { kind: id, sink: sink.clone(), current: None };
            let task = upstream.follow(Wanted::from(kind), Content::Whole, recorder);
            kinds.insert(spawn(&mut tasks, &stop, task), id);
        }
        let heard = sink.clone();
        spawn(&mut tasks, &stop, async move {
            upstream.run(|sign| heard.send(Event::Liveness(sign))).await;
        });
        while let Some(ended) = tasks.join_next_with_id().await {
            let Err(error) = ended else { continue };
            // A defect. Stopping one kind's observation must at least not look like a quiet kind.
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
