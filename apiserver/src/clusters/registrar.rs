//! Follows the objects that register clusters, and starts, changes and stops what observes these.
//!
//! The objects are listed every few seconds: a list also tells that what is known is current, and a watch would have
//! to be taken up anew as often. A cluster keeps its id in the inventory, also when it is removed and registered
//! again, so that its rows have one writer.
//!
//! **Invariant:** what observed a cluster has ended before that is removed or refused. With another credential it goes
//! on: a new token serves its next request, anything else is a new client (see the [observer](super::observer)).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use gatehouse_apiservice::client::{explain, jittered};
use gatehouse_inventory::{
    ClusterId, Event, Interner, LOCAL, Mode, Registration, Seconds, Sink, Str, catalogue::Catalogue,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    ClusterParts, Connected, Registry,
    connection::Connection,
    identities::{Age, Identities},
    observer::{self, Observer, Target},
    origins::{Followed, Origin},
    registrations::{self, Accepted},
    starts::Starts,
};

/// How often the objects are listed, before a quarter of jitter. A short window needs it more often.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long the local cluster may take to say who it is.
const ANSWER: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Registrar {
    parts: ClusterParts,
    origins: Vec<Origin>,
    registry: Arc<Registry>,
    catalogue: Arc<Catalogue>,
    interner: Arc<Interner>,
    events: mpsc::Sender<(ClusterId, Event)>,
    interval: Duration,
    identities: Arc<Identities>,
    starts: Starts,
    /// Whether the identity of the local cluster is known.
    is_identified: bool,
    /// Every name that was ever registered.
    ids: BTreeMap<Str, ClusterId>,
    clusters: BTreeMap<Str, Registered>,
    /// Whether what was read has not been taken yet.
    has_changed: bool,
    ignored: Vec<Str>,
}

/// A cluster that is registered.
struct Registered {
    registration: Registration,
    digest: [u8; 32],
    allows_actions: bool,
    ignored: Vec<Str>,
    observed: Option<Observed>,
}

/// What observes a cluster.
struct Observed {
    connection: Connection,
    target: watch::Sender<Target>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Registrar {
    /// Registers clusters with the inventory behind `events`, in time for `lag`.
    pub(crate) fn new(
        parts: ClusterParts,
        registry: Arc<Registry>,
        (catalogue, interner): (Arc<Catalogue>, Arc<Interner>),
        events: mpsc::Sender<(ClusterId, Event)>,
        lag: Duration,
    ) -> Self {
        Self {
            origins: parts.origins.each(),
            parts,
            registry,
            catalogue,
            interner,
            events,
            interval: INTERVAL.min(lag / 4),
            identities: Arc::default(),
            starts: Starts::default(),
            is_identified: false,
            ids: BTreeMap::new(),
            clusters: BTreeMap::new(),
            has_changed: false,
            ignored: Vec::new(),
        }
    }

    /// Follows the objects until `stop` is cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut last_error = String::new();
        while !stop.is_cancelled() {
            let began = now();
            match stop.run_until_cancelled(self.identify()).await {
                Some(Ok(())) => {
                    last_error.clear();
                    let is_current = stop.run_until_cancelled(self.read()).await.unwrap_or_default();
                    self.take().await;
                    if is_current {
                        self.registry.confirm(began);
                    }
                }
                Some(Err(error)) if error != last_error => {
                    tracing::warn!(%error, "the local cluster does not say who it is");
                    last_error = error;
                }
                Some(Err(_)) | None => {}
            }
            stop.run_until_cancelled(sleep(jittered(self.interval, self.interval / 4))).await;
        }
        for registered in self.clusters.values_mut() {
            registered.end().await;
        }
    }

    /// Learns who the local cluster is.
    async fn identify(&mut self) -> Result<(), String> {
        if self.is_identified {
            return Ok(());
        }
        match timeout(ANSWER, observer::identity(&self.parts.client)).await {
            Ok(Ok(uid)) => {
                if let Some(uid) = uid {
                    self.identities.is_local(uid);
                }
                self.is_identified = true;
                Ok(())
            }
            Ok(Err(error)) => Err(explain(&error)),
            Err(_) => Err(format!("timed out after {} s", ANSWER.as_secs())),
        }
    }

    /// Reads every origin. Returns whether each of them is known to be current, or refused, as it is to other replicas.
    async fn read(&mut self) -> bool {
        let client = &self.parts.client;
        let mut reads: FuturesUnordered<_> =
            self.origins.iter_mut().map(|origin| origin.follow(client)).collect();
        let mut is_current = true;
        while let Some(Followed { has_changed, is_current: is_this_current }) = reads.next().await {
            self.has_changed |= has_changed;
            is_current &= is_this_current;
        }
        is_current
    }

    /// Makes what is observed that which the objects ask for.
    async fn take(&mut self) {
        let is_lost = self.clusters.values().any(Registered::has_ended);
        // The oldest of two registrations must be known.
        let is_complete = self.origins.iter().all(Origin::is_answered);
        if !is_complete || !self.has_changed && !is_lost {
            return;
        }
        let asked = self.origins.iter().flat_map(Origin::wanted).collect();
        let server = Url::parse(&self.parts.server.to_string()).ok();
        let mut found = registrations::decide(asked, &self.registry.local, server.as_ref());
        found.ignored.extend(self.origins.iter().filter_map(Origin::refused));
        let names = found.clusters.keys().cloned().collect();
        let gone: Vec<_> =
            self.clusters.keys().filter(|name| !found.clusters.contains_key(*name)).cloned().collect();
        for name in gone {
            self.remove(&name).await;
        }
        // Before the first row of a new cluster, and after the last of one that is gone.
        self.registry.set(names);
        for (name, accepted) in found.clusters {
            self.register(name, accepted).await;
        }
        if self.ignored != found.ignored {
            self.ignored = found.ignored;
            for ignored in &self.ignored {
                tracing::warn!(%ignored, "a registration is ignored, or an origin cannot be read");
            }
            self.send(LOCAL, Event::Ignored(self.ignored.clone())).await;
        }
        self.has_changed = false;
    }

    async fn remove(&mut self, name: &Str) {
        let Some(mut registered) = self.clusters.remove(name) else { return };
        self.registry.connect(name, None);
        registered.end().await;
        tracing::info!(cluster = &**name, "a cluster is no longer registered");
        if let Some(id) = self.ids.get(name) {
            self.send(*id, Event::Removed).await;
        }
    }

    async fn register(&mut self, name: Str, accepted: Accepted) {
        let Accepted { wanted, refused, ignored } = accepted;
        let (origin, digest) = (Str::clone(&wanted.origin), wanted.digest);
        let age = (wanted.created, Str::clone(&origin));
        let allows_actions = wanted.allows_actions;
        let credential = match refused {
            Some(refusal) => Err(refusal),
            None => wanted.credential.as_ref().map_err(Clone::clone),
        };
        let Some(id) = self.id(&name) else {
            tracing::error!(cluster = &*name, "too many clusters were registered by this process");
            return;
        };
        let expires = credential.as_ref().ok().and_then(|credential| credential.expires);
        let refused = credential.as_ref().err().cloned();
        let mut registration =
            Registration { name: name.clone(), origin, refused, expires, mode: Mode::Direct };
        let is_same = |before: &Registered| {
            before.registration == registration
                && before.digest == digest
                && before.allows_actions == allows_actions
                && before.ignored == ignored
                && !before.has_ended()
        };
        if self.clusters.get(&name).is_some_and(is_same) {
            return;
        }
        let mut observed = self.clusters.remove(&name).and_then(|before| before.observed);
        let connection = match (&observed, &credential) {
            (_, Err(_)) => None,
            (Some(observed), Ok(credential))
                if !observed.has_ended() && observed.connection.renew(credential) =>
            {
                None
            }
            (_, Ok(credential)) => Connection::with(credential)
                .await
                .map_err(|refusal| registration.refused = Some(refusal))
                .ok(),
        };
        if let Some(before) =
            observed.take_if(|observed| observed.has_ended() || registration.refused.is_some())
        {
            before.end(&name).await;
        }
        match &registration.refused {
            None => {
                tracing::info!(cluster = &*name, origin = &*registration.origin, "a cluster is registered");
            }
            Some(refusal) => {
                let (origin, why) = (&*registration.origin, &*refusal.message);
                tracing::warn!(cluster = &*name, origin, why, "a cluster is refused");
            }
        }
        self.send(id, Event::Registered(Box::new(registration.clone()))).await;
        self.send(id, Event::Ignored(ignored.clone())).await;
        if let Some(observed) = &mut observed {
            observed.change(connection, &registration, age, &ignored);
        } else {
            observed =
                connection.map(|connection| self.observe(id, connection, &registration, age, &ignored));
        }
        let connected = observed.as_ref().map(|observed| Connected {
            client: observed.connection.client.clone(),
            origin: registration.origin.clone(),
            allows_actions,
        });
        self.registry.connect(&name, connected);
        self.clusters.insert(name, Registered { registration, digest, allows_actions, ignored, observed });
    }

    fn observe(
        &self,
        id: ClusterId,
        connection: Connection,
        registration: &Registration,
        age: Age,
        ignored: &[Str],
    ) -> Observed {
        let (target, receiver) = watch::channel(Target {
            client: connection.client.clone(),
            generation: 0,
            registration: registration.clone(),
            age,
            ignored: ignored.to_vec(),
        });
        let observer = Observer {
            target: receiver,
            settings: self.parts.settings.clone(),
            views: self.parts.views,
            identities: Arc::clone(&self.identities),
            starts: self.starts.clone(),
            registry: Arc::clone(&self.registry),
            sink: Sink::new(Arc::clone(&self.catalogue), Arc::clone(&self.interner), id, self.events.clone()),
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(observer.run(stop.clone()));
        Observed { connection, target, stop, task }
    }

    /// The id of a cluster, which it keeps for ever.
    fn id(&mut self, name: &Str) -> Option<ClusterId> {
        if let Some(id) = self.ids.get(name) {
            return Some(*id);
        }
        let id = ClusterId(u16::try_from(self.ids.len() + 1).ok()?);
        self.ids.insert(name.clone(), id);
        Some(id)
    }

    async fn send(&self, id: ClusterId, event: Event) {
        // The inventory ends with the process.
        let _ = self.events.send((id, event)).await;
    }
}

impl Registered {
    /// Whether what observed the cluster has ended by itself, which is a bug.
    fn has_ended(&self) -> bool {
        self.observed.as_ref().is_some_and(Observed::has_ended)
    }

    /// Ends what observes the cluster.
    async fn end(&mut self) {
        if let Some(observed) = self.observed.take() {
            observed.end(&self.registration.name).await;
        }
    }
}

impl Observed {
    fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Tells of a changed registration, and of another connection if there is one.
    fn change(
        &mut self,
        connection: Option<Connection>,
        registration: &Registration,
        age: Age,
        ignored: &[Str],
    ) {
        self.target.send_modify(|target| {
            target.age = age;
            (target.registration, target.ignored) = (registration.clone(), ignored.to_vec());
            if let Some(connection) = &connection {
                target.client = connection.client.clone();
                target.generation += 1;
            }
        });
        if let Some(connection) = connection {
            self.connection = connection;
        }
    }

    async fn end(self, cluster: &str) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, cluster, "the observation of a cluster failed");
        }
    }
}

fn now() -> Seconds {
    jiff::Timestamp::now().as_second()
}
