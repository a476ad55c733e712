//! Where observations come from: a cluster's watches, or a folder of manifests.
//!
//! A source decodes each object once, into a [`Record`], and sends [`Event`]s to the one task that owns
//! the inventory. It never sees the inventory itself.

mod snapshot;
mod watch;

pub(crate) use snapshot::folder;
pub use snapshot::{Snapshot, SnapshotError};
pub use watch::{
    Assignment, Content, Observer, Raw, Streaming, Upstream, Wanted, Watch, WatchNotice, WatchSettings,
};

use std::{future::Future, sync::Arc};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    ObjectKey, Record, Seconds, Str,
    catalogue::{Catalogue, KindId},
    intern::Interner,
};

/// Produces the observations of one cluster.
pub trait Source: Send + 'static {
    /// Observes until `stop` is cancelled. A source that meets trouble says so by events and goes on.
    fn run(self, sink: Sink, stop: CancellationToken) -> impl Future<Output = ()> + Send;
}

/// What a source says, about one cluster.
#[derive(Debug)]
pub enum Event {
    /// Whether a kind can be observed, and how that stands. Sent before the kind's first object.
    Kind(KindId, KindStatus),
    /// All objects of a kind are about to be sent. Until [`Event::Synced`], the known ones stay.
    Restart(KindId),
    /// An object as it is now.
    Apply(Box<Record>),
    /// An object is gone.
    Delete(ObjectKey),
    /// Since the last [`Event::Restart`] every object of the kind was sent: what was not is gone.
    Synced(KindId),
    /// All that has happened to a kind until now was told.
    Current(KindId),
    /// Something was left out, and why: an object that could not even be named, or, without a kind, a
    /// document that does not parse.
    Undecodable(Option<KindId>, String),
    /// The cluster answered, or did not.
    Liveness(Liveness),
}

/// How a kind's observation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KindStatus {
    /// Its CRD is not installed: there is nothing to see, which is not a failure.
    Absent,
    /// Served at this version; objects follow.
    Served {
        /// For example `v1`.
        version: Str,
    },
    /// Served, but this account may not list or watch it: its objects are unknown, not zero.
    Forbidden {
        /// The API server's words.
        message: Str,
    },
    /// The last attempt to list or watch failed. What is known may be stale.
    Failing {
        /// Why.
        message: Str,
    },
}

/// A sign of life of the cluster, or its absence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Liveness {
    /// The cluster answered just now.
    Alive {
        /// `gitVersion` of its API server, where it has one.
        version: Option<Str>,
        /// How many seconds our clock is ahead of the cluster's, give or take one; negative if it is behind.
        ahead: Option<Seconds>,
    },
    /// The cluster did not answer.
    Silent {
        /// Why.
        message: Str,
    },
}

/// A source's way to the inventory. Cheap to clone; one cluster's events stay in order per clone.
#[derive(Debug, Clone)]
pub struct Sink {
    /// What kinds there are.
    pub catalogue: Arc<Catalogue>,
    /// Shared strings.
    pub interner: Arc<Interner>,
    cluster: ClusterId,
    events: mpsc::Sender<(ClusterId, Event)>,
}

/// A cluster's position among those of an inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u16);

impl Sink {
    /// A sink for `cluster`.
    pub fn new(
        catalogue: Arc<Catalogue>,
        interner: Arc<Interner>,
        cluster: ClusterId,
        events: mpsc::Sender<(ClusterId, Event)>,
    ) -> Self {
        Self { catalogue, interner, cluster, events }
    }

    /// Hands an event over, waiting while the inventory is behind. Events after its end are dropped.
    pub async fn send(&self, event: Event) {
        // A closed channel means that the process is ending; the source is about to be stopped too.
        let _ = self.events.send((self.cluster, event)).await;
    }
}
