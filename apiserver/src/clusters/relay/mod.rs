//! Observes a remote cluster through its own Gatehouse: each of its views is listed and watched, and its rows are sent on
//! under the names that they have here.
//!
//! **Invariant:** only rows about that Gatehouse's own cluster are taken, by a label selector and by the row itself. So
//! rows that it has of others, of this cluster for example, come from nowhere else than directly.
//!
//! **Invariant:** no row, whatever it says, affects another. One that is too long or cannot be read is left out, and the
//! row of the cluster says so.

mod notes;
mod probe;
mod row;
#[cfg(test)]
mod tests;
mod tree;

use std::{sync::Arc, time::Duration};

use futures::future::{join_all, join3};
use gatehouse_apiservice::{
    Resource, View,
    view::{CLUSTER_LABEL, ClusterHealthStatus, GROUP},
};
use gatehouse_inventory::{
    Event, Sink, Source, Str,
    source::{Assignment, Content, Observer, Raw, Upstream, Wanted, WatchNotice, WatchSettings},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub(super) use self::probe::{Found, Gatehouse, probe};
pub(crate) use self::tree::tree;
use self::{notes::Notes, row::VIEWS};
use crate::views::{RemoteRows, RowNotice};

/// What a Gatehouse serves changes with its version only. Its views are looked for again when one of them is not served
/// any longer.
const DISCOVERY: Duration = Duration::from_mins(5);
/// How long a view may be missing before its rows are deleted. If all are, there may be no Gatehouse any more: then the
/// cluster is observed directly much sooner, and its rows stay until that is complete.
const ABSENCE: Duration = Duration::from_mins(3);
/// The view whose end means that there may be no Gatehouse any more.
const OWN: &Resource = &<ClusterHealthStatus as View>::RESOURCE;

/// The source of the rows of a cluster that runs Gatehouse.
pub(super) struct Relay {
    upstream: Upstream,
    gatehouse: Gatehouse,
    /// The name of the cluster here.
    name: Str,
    /// Notified when that Gatehouse may be gone, or be another.
    doubt: Arc<Notify>,
}

impl Relay {
    /// A relay of the rows of `gatehouse` by the last of `clients`, as those of the cluster `name`.
    pub(super) fn new(
        clients: watch::Receiver<Option<kube::Client>>,
        settings: &WatchSettings,
        (gatehouse, name): (Gatehouse, Str),
        doubt: Arc<Notify>,
    ) -> Self {
        let settings = WatchSettings {
            discovery_interval: DISCOVERY,
            definitions: false,
            absence: ABSENCE,
            ..settings.clone()
        };
        Self { upstream: Upstream::with_clients(clients, settings), gatehouse, name, doubt }
    }
}

impl Source for Relay {
    async fn run(self, sink: Sink, stop: CancellationToken) {
        let Self { upstream, gatehouse, name, doubt } = self;
        let labels = format!("{CLUSTER_LABEL}={}", gatehouse.name);
        let notes = Arc::new(Notes::new(&gatehouse));
        let follow = |(number, view): (usize, &row::RelayedView)| {
            let resource = view.resource;
            let observer = RowObserver {
                number,
                own: gatehouse.name.clone(),
                name: name.clone(),
                sink: sink.clone(),
                notes: Arc::clone(&notes),
                doubt: (resource.plural == OWN.plural).then(|| Arc::clone(&doubt)),
            };
            upstream.follow_labelled(labels.clone(), wanted(resource), Content::Whole, observer)
        };
        let views = join_all(VIEWS.iter().enumerate().map(follow));
        let mut served = upstream.served(wanted(OWN));
        let end = async {
            while served.changed().await.is_ok() {
                if *served.borrow_and_update() == Assignment::Absent {
                    doubt.notify_one();
                }
            }
        };
        let liveness = Box::pin(upstream.run(|sign| sink.send(Event::Liveness(sign))));
        stop.run_until_cancelled(join3(views, end, liveness)).await;
    }
}

fn wanted(resource: &Resource) -> Wanted {
    Wanted {
        group: GROUP.to_owned(),
        plural: resource.plural.to_owned(),
        kind: Some(resource.kind.to_owned()),
    }
}

/// Follows the rows of one view.
struct RowObserver {
    /// The position of the view.
    number: usize,
    /// What the Gatehouse there calls its cluster.
    own: Str,
    name: Str,
    sink: Sink,
    notes: Arc<Notes>,
    doubt: Option<Arc<Notify>>,
}

impl Observer for RowObserver {
    async fn observe(&mut self, notice: WatchNotice<'_>) {
        match notice {
            WatchNotice::Status(status) => {
                let is_watched = self.notes.status(self.number, &status);
                self.tell().await;
                self.send(RowNotice::Failing(!is_watched)).await;
                if !is_watched {
                    self.doubt();
                }
            }
            WatchNotice::Restart => {
                self.notes.restart(self.number);
                self.send(RowNotice::Restart).await;
            }
            WatchNotice::Apply(raw) => self.apply(raw).await,
            WatchNotice::Delete(raw) => {
                if let Some(key) = VIEWS[self.number].key(raw, &self.own, &self.name) {
                    self.send(RowNotice::Delete(key)).await;
                    self.doubt();
                }
            }
            WatchNotice::Synced => {
                self.send(RowNotice::Synced).await;
                self.tell().await;
            }
            WatchNotice::Reached(_) => {}
        }
    }
}

impl RowObserver {
    async fn apply(&self, raw: &Raw) {
        let view = &VIEWS[self.number];
        let Some(key) = view.key(raw, &self.own, &self.name) else {
            return self.notes.unreadable(self.number, "it has no name that a row of its cluster can have");
        };
        match view.row(raw.json(), key.clone(), &self.own, &self.name, &self.sink.interner) {
            Ok(Some(row)) => self.send(RowNotice::Apply(row)).await,
            // Another cluster's, although only its own were asked for.
            Ok(None) => {}
            Err(why) => {
                self.notes.unreadable(self.number, &why);
                // What it said before is no longer so.
                self.send(RowNotice::Delete(key)).await;
                self.tell().await;
            }
        }
    }

    async fn send(&self, notice: RowNotice) {
        self.sink.send(Event::Aside(Box::new(RemoteRows { view: self.number, notice }))).await;
    }

    /// Says what is not shown, if that has changed.
    async fn tell(&self) {
        if let Some(lacks) = self.notes.changed() {
            self.sink.send(Event::Lacks(lacks)).await;
        }
    }

    fn doubt(&self) {
        if let Some(doubt) = &self.doubt {
            doubt.notify_one();
        }
    }
}
