//! Follows the Secrets that register clusters, and starts, changes and stops what observes these.
//!
//! The Secrets are listed every few seconds: a list also tells that what is known is current, and a watch would have
//! to be taken up anew as often. A cluster keeps its id in the inventory, also when it is removed and registered
//! again, so that its rows have one writer.
//!
//! **Invariant:** what observed a cluster has ended before that is removed or refused. With another credential it goes
//! on: a new token serves its next request, anything else is a new client (see the [observer](super::observer)).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gatehouse_apiservice::client::{explain, jittered};
use gatehouse_inventory::{
    ClusterId, Event, Interner, LOCAL, Mode, Registration, Seconds, Sink, Str, catalogue::Catalogue,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    ClusterParts, LABEL, Registry,
    connection::Connection,
    observer::{self, Identities, Observer, Target},
    secrets::{self, Wanted},
    starts::Starts,
};

/// How often the Secrets are listed, before a quarter of jitter. A short window needs it more often.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a list may take.
const ANSWER: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Registrar {
    parts: ClusterParts,
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
    /// The versions of the Secrets that were read last.
    seen: Option<Vec<(Option<String>, Option<String>)>>,
    ignored: Vec<Str>,
}

/// A cluster that is registered.
struct Registered {
    registration: Registration,
    digest: [u8; 32],
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

/// Why the Secrets are not known.
struct Unlisted {
    error: String,
    /// Whether the right is missing.
    is_refused: bool,
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
            seen: None,
            ignored: Vec::new(),
        }
    }

    /// Follows the Secrets until `stop` is cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut last_error = String::new();
        while !stop.is_cancelled() {
            let began = now();
            match stop.run_until_cancelled(self.list()).await {
                Some(Ok(secrets)) => {
                    last_error.clear();
                    self.take(secrets).await;
                    self.registry.confirm(began);
                }
                Some(Err(Unlisted { error, is_refused })) => {
                    if is_refused {
                        // As other replicas are; what is known stays.
                        self.registry.confirm(began);
                    }
                    if error != last_error {
                        tracing::warn!(%error, namespace = self.parts.namespace, "cannot list the Secrets of clusters");
                        last_error = error;
                    }
                }
                None => {}
            }
            stop.run_until_cancelled(sleep(jittered(self.interval, self.interval / 4))).await;
        }
        for registered in self.clusters.values_mut() {
            registered.end().await;
        }
    }

    /// The Secrets, once it is known who the local cluster is.
    async fn list(&mut self) -> Result<Vec<Secret>, Unlisted> {
        let asked = async {
            if !self.is_identified {
                if let Some(uid) = observer::identity(&self.parts.client).await? {
                    self.identities.is_local(uid);
                }
                self.is_identified = true;
            }
            let secrets: Api<Secret> = Api::namespaced(self.parts.client.clone(), &self.parts.namespace);
            Ok(secrets.list(&ListParams::default().labels(LABEL)).await?.items)
        };
        match timeout(ANSWER, asked).await {
            Ok(listed) => listed.map_err(|error: kube::Error| {
                let is_refused = matches!(&error, kube::Error::Api(status) if status.is_forbidden());
                Unlisted { error: explain(&error), is_refused }
            }),
            Err(_) => {
                Err(Unlisted { error: format!("timed out after {} s", ANSWER.as_secs()), is_refused: false })
            }
        }
    }

    /// Makes what is observed that which the Secrets ask for.
    async fn take(&mut self, secrets: Vec<Secret>) {
        let is_lost = self.clusters.values().any(Registered::has_ended);
        let versions =
            |secret: &Secret| (secret.metadata.uid.clone(), secret.metadata.resource_version.clone());
        let seen: Vec<_> = secrets.iter().map(versions).collect();
        if self.seen.as_ref() == Some(&seen) && !is_lost {
            return;
        }
        let server = Url::parse(&self.parts.server.to_string()).ok();
        let found = secrets::read(secrets, &self.registry.local, server.as_ref());
        let names = found.clusters.keys().cloned().collect();
        let gone: Vec<_> =
            self.clusters.keys().filter(|name| !found.clusters.contains_key(*name)).cloned().collect();
        for name in gone {
            self.remove(&name).await;
        }
        // Before the first row of a new cluster, and after the last of one that is gone.
        self.registry.set(names);
        for (name, wanted) in found.clusters {
            self.register(name, wanted).await;
        }
        if self.ignored != found.ignored {
            self.ignored = found.ignored;
            for ignored in &self.ignored {
                tracing::warn!(%ignored, "a registration is ignored");
            }
            self.send(LOCAL, Event::Ignored(self.ignored.clone())).await;
        }
        self.seen = Some(seen);
    }

    async fn remove(&mut self, name: &Str) {
        let Some(mut registered) = self.clusters.remove(name) else { return };
        registered.end().await;
        tracing::info!(cluster = &**name, "a cluster is no longer registered");
        if let Some(id) = self.ids.get(name) {
            self.send(*id, Event::Removed).await;
        }
    }

    async fn register(&mut self, name: Str, wanted: Wanted) {
        let Wanted { origin, credential, digest, ignored } = wanted;
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
            observed.change(connection, &registration, &ignored);
        } else {
            observed = connection.map(|connection| self.observe(id, connection, &registration, &ignored));
        }
        self.clusters.insert(name, Registered { registration, digest, ignored, observed });
    }

    fn observe(
        &self,
        id: ClusterId,
        connection: Connection,
        registration: &Registration,
        ignored: &[Str],
    ) -> Observed {
        let (target, receiver) = watch::channel(Target {
            client: connection.client.clone(),
            generation: 0,
            registration: registration.clone(),
            ignored: ignored.to_vec(),
        });
        let observer = Observer {
            target: receiver,
            settings: self.parts.settings.clone(),
            identities: Arc::clone(&self.identities),
            starts: self.starts.clone(),
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
    fn change(&mut self, connection: Option<Connection>, registration: &Registration, ignored: &[Str]) {
        self.target.send_modify(|target| {
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
