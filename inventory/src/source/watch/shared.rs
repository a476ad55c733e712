//! The state that the tasks of one API server share: the client, the wanted resources, and the state of the server.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use kube::{Client, core::ApiResource};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    discovery::{Finding, Served, Wanted},
    settings::WatchSettings,
};

/// Whether a resource is to be watched, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// Discovery has not answered yet.
    Undecided,
    /// The resource is not served.
    Absent,
    /// The resource is served.
    Served(ApiResource),
}

/// The state that the tasks of one cluster share.
pub(super) struct Shared {
    /// The client for all requests, with updates; `None` while none may be made.
    clients: watch::Receiver<Option<Client>>,
    pub(super) settings: WatchSettings,
    /// Whether the server's version has streaming lists enabled by default.
    pub(super) streams: AtomicBool,
    /// Wakes discovery, because a resource may have appeared or disappeared, or a new one is wanted.
    pub(super) rediscover: Notify,
    /// Wakes tasks in back-off, because a silent server answers again.
    pub(super) answers: Notify,
    /// Whether requests share connections whose silent end is noticed (HTTP/2 with pings), and when the server last
    /// answered over one.
    answered: watch::Sender<Option<Instant>>,
    /// How often there were signs that the server was restarted or replaced.
    pub(super) doubts: AtomicU64,
    wanted_resources: Mutex<WantedResources>,
}

/// Locked briefly, never across an await.
#[derive(Default)]
struct WantedResources {
    /// Whether discovery has answered. From then on, a newly wanted resource must wake discovery.
    is_answered: bool,
    wanted: Vec<(Wanted, watch::Sender<Assignment>)>,
}

impl Shared {
    pub(super) fn new(clients: watch::Receiver<Option<Client>>, settings: WatchSettings) -> Self {
        Self {
            clients,
            settings,
            streams: AtomicBool::default(),
            rediscover: Notify::new(),
            answers: Notify::new(),
            answered: watch::Sender::new(None),
            doubts: AtomicU64::default(),
            wanted_resources: Mutex::default(),
        }
    }

    /// The client for the next request, once there is one.
    pub(super) async fn client(&self) -> Client {
        let mut clients = self.clients.clone();
        match clients.wait_for(Option::is_some).await.map(|client| Option::clone(&client)) {
            Ok(Some(client)) => client,
            // Who gave the last one has ended, and with it what asks.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Waits until the client is replaced or taken away. What it has opened by then is to be opened anew.
    pub(super) fn replaced(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut clients = self.clients.clone();
        clients.mark_unchanged();
        async move {
            if clients.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether `wanted` is served and as which resource, with updates. Dropping the receiver unsubscribes.
    pub(super) fn want(&self, wanted: Wanted) -> watch::Receiver<Assignment> {
        let (assign, assigned) = watch::channel(Assignment::Undecided);
        let mut wanted_resources = self.wanted_resources();
        wanted_resources.wanted.push((wanted, assign));
        if wanted_resources.is_answered {
            self.rediscover.notify_one();
        }
        assigned
    }

    /// The server answered a heartbeat that was sent at `sent`.
    pub(super) fn answered(&self, sent: Instant, is_shared: bool) {
        self.answered.send_replace(is_shared.then_some(sent));
    }

    /// The answers to heartbeats, where they prove that open watches are alive; otherwise `None`.
    pub(super) fn answers_of_shared(&self) -> watch::Receiver<Option<Instant>> {
        self.answered.subscribe()
    }

    pub(super) fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the CustomResourceDefinition with this name (`plural.group`) defines a wanted resource.
    pub(super) fn is_wanted(&self, definition: &str) -> bool {
        let wanted_resources = self.wanted_resources();
        definition.split_once('.').is_some_and(|(plural, group)| {
            wanted_resources.wanted.iter().any(|(wanted, _)| wanted.group == group && wanted.plural == plural)
        })
    }

    /// Notifies the followers of resources whose assignment has changed.
    pub(super) fn assign(&self, served: &Served) {
        self.streams.store(served.streams, Ordering::Relaxed);
        let mut wanted_resources = self.wanted_resources();
        wanted_resources.is_answered = true;
        wanted_resources.wanted.retain(|(_, assign)| !assign.is_closed());
        for (wanted, assign) in &wanted_resources.wanted {
            let new = match served.find(wanted) {
                Finding::Served(resource) => Assignment::Served(resource),
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

    fn wanted_resources(&self) -> MutexGuard<'_, WantedResources> {
        self.wanted_resources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
