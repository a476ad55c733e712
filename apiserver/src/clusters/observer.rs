//! Observes one remote cluster: first who it is, then the rows of its Gatehouse, or its objects where it has none.
//!
//! With another server, CA or client certificate it asks again who that is. For the same cluster the watches go on by
//! the new client from the versions that they have reached; another one is listed anew.
//!
//! **Invariant:** it never gives up. What fails is tried again, at the latest after two minutes.

use std::{sync::Arc, time::Duration};

use gatehouse_apiservice::client::{explain, jittered};
use gatehouse_inventory::{
    Event, Liveness, Mode, Refusal, Registration, Sink, Source, Str,
    source::{Watch, WatchSettings},
};
use http::StatusCode;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, error::Elapsed, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Registry,
    identities::{Age, Held, Identities},
    mode::{Decider, Decision, Way},
    relay::{self, Found, Relay},
    starts::{Starts, Turn},
};

/// The Namespace whose uid is a cluster's identity.
const IDENTITY: &str = "kube-system";
/// How long a cluster may take to say who it is.
const ANSWER: Duration = Duration::from_secs(10);
/// The first and the longest wait between two attempts, each before up to as much jitter.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// How long after a doubt it is looked again, so that many of them cost little.
const DOUBT: Duration = Duration::from_secs(1);

/// How a cluster is reached, as its registration says now.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) client: kube::Client,
    /// Increases with each other client. A new token is no other client.
    pub(super) generation: u64,
    pub(super) registration: Registration,
    /// Of the object that registers it.
    pub(super) age: Age,
    pub(super) ignored: Vec<Str>,
}

/// One remote cluster.
pub(super) struct Observer {
    pub(super) target: watch::Receiver<Target>,
    pub(super) settings: WatchSettings,
    /// Whether it is looked for a Gatehouse.
    pub(super) views: bool,
    pub(super) identities: Arc<Identities>,
    pub(super) starts: Starts,
    pub(super) registry: Arc<Registry>,
    pub(super) sink: Sink,
}

/// The watches of a cluster that is known.
struct Watches {
    /// The identity of the cluster, if it tells.
    uid: Option<String>,
    held: Option<Held>,
    way: Way,
    clients: watch::Sender<Option<kube::Client>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Observer {
    /// Observes until `stop` is cancelled.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut watches = None;
        stop.run_until_cancelled(self.observe(&mut watches)).await;
        if let Some(mut watches) = watches {
            watches.end().await;
        }
        let name = self.name();
        self.registry.relay(&name, None);
        self.identities.release(&name);
    }

    /// Returns if the watches end by themselves, which is a bug.
    async fn observe(&mut self, watches: &mut Option<Watches>) {
        let mut turn = self.starts.turn().await;
        let mut decider = Decider::default();
        // Notified when the Gatehouse of the cluster may be gone.
        let doubt = Arc::new(Notify::new());
        loop {
            let target = self.target.borrow_and_update().clone();
            let Some((uid, held)) = self.identify(&target, &mut turn, watches).await else { continue };
            let is_same = watches.as_ref().is_some_and(|known| uid.is_some() && known.uid == uid);
            if !is_same {
                decider.restart();
                if let Some(before) = watches {
                    let is_another = uid.is_some() && before.uid.is_some();
                    before.end().await;
                    *watches = None;
                    if is_another {
                        self.forget(&target).await;
                    }
                }
                if let Some(held) = &held {
                    held.is_free().await;
                }
            }
            let uid = uid.as_deref();
            let mut next = self.choose(&mut decider, &target, (uid, held), watches, &doubt).await;
            let listed = sleep(Starts::LISTING);
            tokio::pin!(listed);
            let lost = loss(watches.as_ref());
            let is_lost = loop {
                let Some(known) = watches else { return };
                tokio::select! {
                    () = &mut listed, if turn.is_some() => turn = None,
                    () = lost_by(lost.as_ref()) => break true,
                    _ = &mut known.task => return,
                    changed = self.target.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        if self.target.borrow().generation != target.generation {
                            known.clients.send_replace(None);
                            break false;
                        }
                    }
                    () = look_again(next, &doubt) => {
                        next = self.choose(&mut decider, &target, (uid, None), watches, &doubt).await;
                    }
                }
            };
            if is_lost {
                self.lose(&target, watches).await;
            }
        }
    }

    /// What was observed belongs to another registration, which is older.
    async fn lose(&self, target: &Target, watches: &mut Option<Watches>) {
        if let Some(known) = watches {
            known.end().await;
            *watches = None;
            self.forget(target).await;
        }
    }

    /// Looks for a Gatehouse in the cluster, and observes that in the way which follows. Returns when to look again.
    async fn choose(
        &self,
        decider: &mut Decider,
        target: &Target,
        (uid, held): (Option<&str>, Option<Held>),
        watches: &mut Option<Watches>,
        doubt: &Arc<Notify>,
    ) -> Duration {
        let found = if self.views { relay::probe(&target.client).await } else { Found::Absent };
        let Decision { way, next, lacks } = decider.decide(found, Instant::now());
        match watches {
            Some(known) if known.way == way => {
                if held.is_some() {
                    known.held = held;
                }
                let is_paused = known.clients.borrow().is_none();
                if is_paused {
                    // By another way to the same cluster: they go on from the versions that they have reached.
                    known.clients.send_replace(Some(target.client.clone()));
                }
            }
            _ => {
                let mut kept = None;
                if let Some(before) = watches {
                    // It stays known until it has ended.
                    before.end().await;
                    kept = before.held.take();
                }
                let name = self.name();
                let (mode, own) = match &way {
                    Way::Direct => (Mode::Direct, None),
                    Way::Views(gatehouse) => (Mode::Views, Some(gatehouse.name.clone())),
                };
                tracing::info!(cluster = &*name, mode = mode.as_str(), "a cluster is observed");
                self.registry.relay(&name, own);
                self.sink.send(Event::Mode(mode)).await;
                *watches = Some(self.start((uid, held.or(kept)), way.clone(), target, doubt));
            }
        }
        if way == Way::Direct {
            self.sink.send(Event::Lacks(lacks.map(Str::from).into_iter().collect())).await;
        }
        next
    }

    fn start(
        &self,
        (uid, held): (Option<&str>, Option<Held>),
        way: Way,
        target: &Target,
        doubt: &Arc<Notify>,
    ) -> Watches {
        let (clients, receiver) = watch::channel(Some(target.client.clone()));
        let stop = CancellationToken::new();
        let (sink, settings) = (self.sink.clone(), &self.settings);
        let task = match &way {
            Way::Direct => {
                let watch = Watch::with_clients(receiver, settings.clone());
                tokio::spawn(watch.run(sink, stop.clone()))
            }
            Way::Views(gatehouse) => {
                let of = (gatehouse.clone(), self.name());
                let relay = Relay::new(receiver, settings, of, Arc::clone(doubt));
                tokio::spawn(relay.run(sink, stop.clone()))
            }
        };
        Watches { uid: uid.map(str::to_owned), held, way, clients, stop, task }
    }

    fn name(&self) -> Str {
        Str::clone(&self.target.borrow().registration.name)
    }

    /// Another cluster has the name of one that was observed.
    async fn forget(&self, target: &Target) {
        self.sink.send(Event::Removed).await;
        self.sink.send(registered(target, None)).await;
        self.sink.send(Event::Ignored(target.ignored.clone())).await;
    }

    /// The identity of the cluster, if it tells, once it is known that it belongs to no older registration. `None` if
    /// the target has changed meanwhile.
    async fn identify(
        &mut self,
        target: &Target,
        turn: &mut Turn,
        watches: &mut Option<Watches>,
    ) -> Option<(Option<String>, Option<Held>)> {
        let mut wait = FIRST_WAIT;
        let mut was_refused = false;
        let found = loop {
            let event = match self.attempt(target, turn).await {
                Ok(Ok(Some(uid))) => {
                    let name = &target.registration.name;
                    match self.identities.claim(uid.clone(), name, target.age.clone()) {
                        Ok(held) => break (Some(uid), Some(held)),
                        Err(refusal) => {
                            was_refused = true;
                            self.lose(target, watches).await;
                            registered(target, Some(refusal))
                        }
                    }
                }
                Ok(Ok(None)) => break (None, None),
                Ok(Err(error)) => Event::Liveness(unanswered(&error)),
                Err(_) => {
                    let message = format!("timed out after {} s", ANSWER.as_secs());
                    Event::Liveness(Liveness::Silent { message: message.into() })
                }
            };
            *turn = None;
            self.sink.send(event).await;
            let lost = loss(watches.as_ref());
            tokio::select! {
                changed = timeout(jittered(wait, wait), self.target.changed()) => match changed {
                    // A new credential is tried at once.
                    Ok(Ok(())) => return None,
                    // The registrar ends, and this with it.
                    Ok(Err(_)) => std::future::pending().await,
                    Err(_) => {}
                },
                () = lost_by(lost.as_ref()) => self.lose(target, watches).await,
            }
            wait = (2 * wait).min(LONGEST_WAIT);
        };
        if was_refused {
            self.sink.send(registered(target, None)).await;
        }
        Some(found)
    }

    async fn attempt(
        &self,
        target: &Target,
        turn: &mut Turn,
    ) -> Result<kube::Result<Option<String>>, Elapsed> {
        let attempt = timeout(ANSWER, identity(&target.client));
        tokio::pin!(attempt);
        if turn.is_some()
            && let Ok(answer) = timeout(Starts::PATIENCE, &mut attempt).await
        {
            return answer;
        }
        *turn = None;
        attempt.await
    }
}

impl Watches {
    async fn end(&mut self) {
        self.stop.cancel();
        // One that has ended by itself was awaited then.
        if !self.task.is_finished()
            && let Err(error) = (&mut self.task).await
        {
            tracing::error!(%error, "the watches of a cluster failed");
        }
    }
}

/// Waits until it is time to look for a Gatehouse: in `next`, with up to as much jitter, or soon after a doubt.
async fn look_again(next: Duration, doubt: &Notify) {
    if timeout(jittered(next, next), doubt.notified()).await.is_ok() {
        sleep(DOUBT).await;
    }
}

/// Cancelled when what is observed belongs to another registration.
fn loss(watches: Option<&Watches>) -> Option<CancellationToken> {
    watches.and_then(|watches| watches.held.as_ref()).map(Held::loss)
}

/// Returns when the cluster belongs to another registration. Cancel safe.
async fn lost_by(loss: Option<&CancellationToken>) {
    match loss {
        Some(loss) => loss.cancelled().await,
        None => std::future::pending().await,
    }
}

fn registered(target: &Target, refused: Option<Refusal>) -> Event {
    Event::Registered(Box::new(Registration { refused, ..target.registration.clone() }))
}

fn unanswered(error: &kube::Error) -> Liveness {
    match error {
        kube::Error::Api(status) if status.code == StatusCode::UNAUTHORIZED.as_u16() => {
            Liveness::Unauthenticated { message: status.message.as_str().into() }
        }
        _ => Liveness::Silent { message: explain(error).into() },
    }
}

/// The uid of a cluster; `None` if it does not tell. It is listed, since that is the right that there is.
pub async fn identity(client: &kube::Client) -> kube::Result<Option<String>> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let only = ListParams::default().fields(&format!("metadata.name={IDENTITY}"));
    match namespaces.list_metadata(&only).await {
        Ok(found) => Ok(found.items.into_iter().next().and_then(|namespace| namespace.metadata.uid)),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
        Err(error) => Err(error),
    }
}
