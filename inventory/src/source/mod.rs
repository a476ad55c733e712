//! Sources of observations: the watches of a cluster, or a folder of manifests.
//!
//! A source decodes each object once, into a [`Record`], and sends [`Event`]s to the task that owns the inventory. It
//! has no access to the inventory itself.

mod snapshot;
mod watch;

pub(crate) use snapshot::folder;
pub use snapshot::{Snapshot, SnapshotError};
pub use watch::{
    Assignment, Content, Observer, Raw, Streaming, Upstream, Wanted, Watch, WatchNotice, WatchSettings,
};

use std::{any::Any, future::Future, sync::Arc};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Mode, ObjectKey, Record, Registration, Seconds, Str,
    catalogue::{Catalogue, KindId},
    intern::Interner,
};

/// Observes one cluster.
pub trait Source: Send + 'static {
    /// Observes until `stop` is cancelled. Errors are sent as events and do not end the source.
    fn run(self, sink: Sink, stop: CancellationToken) -> impl Future<Output = ()> + Send;
}

/// An event of a source, about one cluster.
#[derive(Debug)]
pub enum Event {
    /// The status of a kind. Sent before the kind's first object.
    Kind(KindId, KindStatus),
    /// All objects of a kind will be sent now. The known ones are kept until [`Event::Synced`].
    Restart(KindId),
    /// The current state of an object.
    Apply(Box<Record>),
    /// An object was deleted.
    Delete(ObjectKey),
    /// All objects of the kind have been sent since the last [`Event::Restart`]. Others no longer exist.
    Synced(KindId),
    /// All changes of a kind up to now have been sent.
    Current(KindId),
    /// Something was skipped, with the reason: an object that has no readable name, or, without a kind, a document that
    /// does not parse.
    Undecodable(Option<KindId>, String),
    /// The cluster answered, or failed to.
    Liveness(Liveness),
    /// The cluster was registered, or its registration changed. Sent before all other events of a remote cluster.
    Registered(Box<Registration>),
    /// Registrations that are ignored, each with the reason: those that ask for the name of this cluster, too; of the
    /// local cluster, those without a name of their own.
    Ignored(Vec<Str>),
    /// How the cluster is observed from now on. If that is another way than before, its objects are forgotten; what its
    /// rows show until then is for the task that owns the inventory.
    Mode(Mode),
    /// What is not known of the cluster because of how it is observed, for people.
    Lacks(Vec<Str>),
    /// Something for the task that owns the inventory, in order with the other events. The inventory ignores it.
    Aside(Box<dyn Any + Send>),
    /// The cluster is no longer registered: its objects are forgotten. Sent after all other events.
    Removed,
}

/// The status of the observation of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KindStatus {
    /// The kind is not served, since its CRD is not installed. This is not a failure; there are no objects.
    Absent,
    /// The kind is served at this version. Its objects follow.
    Served {
        /// For example `v1`.
        version: Str,
    },
    /// The kind is served, but this account may not list or watch it. Its objects are unknown, not absent.
    Forbidden {
        /// The message of the API server.
        message: Str,
    },
    /// The last attempt to list or watch failed. The known objects may be stale.
    Failing {
        /// The error.
        message: Str,
    },
}

/// Whether a cluster answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Liveness {
    /// The cluster has just answered.
    Alive {
        /// `gitVersion` of its API server, if it has one.
        version: Option<Str>,
        /// How many seconds our clock is ahead of the cluster's, plus or minus one; negative if it is behind.
        ahead: Option<Seconds>,
    },
    /// The cluster did not answer.
    Silent {
        /// The error.
        message: Str,
    },
    /// The cluster has not answered for some time, as who observed it before knows.
    Lost {
        /// When it last answered.
        since: Seconds,
        /// The error.
        message: Str,
    },
    /// The cluster answered that it does not know who asks (401).
    Unauthenticated {
        /// What it said.
        message: Str,
    },
}

/// Sends the events of a source to the inventory. Cheap to clone; the events of a clone stay in order.
#[derive(Debug, Clone)]
pub struct Sink {
    /// The kinds that can be observed.
    pub catalogue: Arc<Catalogue>,
    /// Shared strings.
    pub interner: Arc<Interner>,
    cluster: ClusterId,
    events: mpsc::Sender<(ClusterId, Event)>,
}

/// The index of a cluster in the inventory.
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

    /// Sends an event, and waits while the queue of the inventory is full. Events after the inventory's end are
    /// dropped.
    pub async fn send(&self, event: Event) {
        // A closed channel means that the process is shutting down; the source will be stopped too.
        let _ = self.events.send((self.cluster, event)).await;
    }
}
