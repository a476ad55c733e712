//! Lists and watches one kind for as long as it is served.
//!
//! kube's `watcher` is not used: it does not tell when a broken watch stands again (a quiet kind would be
//! told as failing until its next change), nor does it give up a resourceVersion that is refused with HTTP
//! 410 when the watch is opened.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{Stream, TryStreamExt};
use kube::{
    Api, Client,
    api::{ListParams, WatchParams},
    core::{ApiResource, WatchEvent},
    runtime::watcher::DefaultBackoff,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    raw::Raw,
    settings::{Streaming, WatchSettings},
    trouble::{Trouble, jittered},
};
use crate::{
    ObjectKey, Str,
    catalogue::KindId,
    source::{Event, KindStatus, Sink},
};

/// Whether and as what a kind is to be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Assignment {
    /// Discovery has not answered yet.
    Undecided,
    /// Not served.
    Absent,
    /// Served like this.
    Served(ApiResource),
}

/// What the tasks of one cluster share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) sink: Sink,
    pub(super) settings: Arc<WatchSettings>,
    /// Whether the server's version promises streaming lists.
    pub(super) streams: Arc<AtomicBool>,
    /// Wakes discovery: something is no longer, or newly, served.
    pub(super) rediscover: Arc<Notify>,
    /// Wakes whoever waits to try again: the server, which was silent, answers.
    pub(super) answers: Arc<Notify>,
}

/// An answer must begin within this; the client itself has no read timeout.
const ANSWER: Duration = Duration::from_secs(30);
/// A page of a list, whole.
const PAGE: Duration = Duration::from_mins(1);
/// A streaming list that says nothing for this long comes from a server that ignores the parameter: it sends
/// no bookmark to end the list with.
const FIRST_BOOKMARK: Duration = Duration::from_secs(30);
/// The server ends a watch after this; kube accepts no more than 295 s.
const WATCH_SECONDS: u32 = 240;
/// A watch that the server should have ended this long ago is dead.
const GRACE: Duration = Duration::from_secs(5);
/// Rights are granted by people; one attempt in this time, or up to twice it, finds out.
const FORBIDDEN: Duration = Duration::from_secs(30);
/// How soon a server that answers again is asked, or up to twice that.
const AT_ONCE: Duration = Duration::from_millis(200);
/// A watch that ends sooner after it began is not taken up again at once.
const TOO_SHORT: Duration = Duration::from_secs(1);

/// Observes `kind` as assigned, for ever.
pub(super) async fn follow(shared: Shared, kind: KindId, mut assigned: watch::Receiver<Assignment>) {
    loop {
        let assignment = assigned.borrow_and_update().clone();
        match assignment {
            Assignment::Undecided => {}
            Assignment::Absent => {
                // An empty list takes the rows away.
                for event in
                    [Event::Restart(kind), Event::Synced(kind), Event::Kind(kind, KindStatus::Absent)]
                {
                    shared.sink.send(event).await;
                }
            }
            Assignment::Served(resource) => {
                let mut follower = Follower::new(shared.clone(), kind, &resource);
                tokio::select! {
                    never = follower.run() => match never {},
                    changed = assigned.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                }
            }
        }
        if assigned.changed().await.is_err() {
            return;
        }
    }
}

struct Follower {
    shared: Shared,
    kind: KindId,
    version: Str,
    api: Api<Raw>,
    streaming: bool,
    /// The resourceVersion to go on from; none before everything was listed.
    resume: Option<String>,
    /// What was last told.
    status: Option<KindStatus>,
    /// 404 in a row. The first may be discovery lagging behind a CRD's removal.
    not_served: u32,
    backoff: DefaultBackoff,
}

impl Follower {
    fn new(shared: Shared, kind: KindId, resource: &ApiResource) -> Self {
        let streaming = match shared.settings.streaming {
            Streaming::Auto => shared.streams.load(Ordering::Relaxed),
            Streaming::Always => true,
            Streaming::Never => false,
        };
        Self {
            version: shared.sink.interner.intern(&resource.version),
            api: Api::all_with(shared.client.clone(), resource),
            shared,
            kind,
            streaming,
            resume: None,
            status: None,
            not_served: 0,
            backoff: DefaultBackoff::default(),
        }
    }

    async fn run(&mut self) -> Infallible {
        loop {
            let began = Instant::now();
            let wait = match self.round().await {
                Ok(()) if began.elapsed() < TOO_SHORT => self.back_off(),
                Ok(()) => Duration::ZERO,
                Err(trouble) => self.take_trouble(trouble).await,
            };
            let answers = Arc::clone(&self.shared.answers);
            tokio::select! {
                () = sleep(wait) => {}
                // Not all at once: there are some forty kinds.
                () = answers.notified() => sleep(jittered(AT_ONCE)).await,
            }
        }
    }

    /// One watch, with the list before it where one is needed. Ends well when the server ends the watch.
    async fn round(&mut self) -> Result<(), Trouble> {
        let streaming = self.streaming && self.resume.is_none();
        if self.resume.is_none() && !streaming {
            self.list().await?;
        }
        let mut events = Box::pin(self.open(streaming).await?);
        self.told_served().await;
        if streaming {
            self.send(Event::Restart(self.kind)).await;
        }
        let mut listing = streaming;
        loop {
            let patience = if listing { FIRST_BOOKMARK } else { idle(self.kind) };
            match timeout(patience, events.try_next()).await {
                Ok(Ok(Some(event))) => self.take(event, &mut listing).await?,
                Ok(Err(error)) => return Err(Trouble::of(&error, false)),
                Err(_) if listing => return Err(Trouble::NoStreaming),
                // Ended by the server, or dead: the next round goes on from where this one came.
                Ok(Ok(None)) | Err(_) => return Ok(()),
            }
        }
    }

    async fn open(
        &self,
        streaming: bool,
    ) -> Result<impl Stream<Item = kube::Result<WatchEvent<Raw>>> + use<>, Trouble> {
        let parameters = WatchParams {
            timeout: Some(watch_seconds(self.kind)),
            bookmarks: true,
            send_initial_events: streaming,
            ..WatchParams::default()
        };
        // An empty version asks a streaming list for the newest state, as a paged one does.
        let from = self.resume.as_deref().unwrap_or_default();
        match timeout(ANSWER, self.api.watch(&parameters, from)).await {
            Ok(Ok(events)) => Ok(events),
            Ok(Err(error)) => Err(Trouble::of(&error, streaming)),
            Err(_) => Err(late("watch", ANSWER)),
        }
    }

    async fn list(&mut self) -> Result<(), Trouble> {
        let mut parameters = ListParams::default().limit(self.shared.settings.page_size);
        let mut first = true;
        loop {
            let page = match timeout(PAGE, self.api.list(&parameters)).await {
                Ok(Ok(page)) => page,
                Ok(Err(error)) => return Err(Trouble::of(&error, false)),
                Err(_) => return Err(late("list", PAGE)),
            };
            if std::mem::take(&mut first) {
                self.told_served().await;
                self.send(Event::Restart(self.kind)).await;
            }
            for raw in page.items {
                self.apply(&raw).await;
            }
            let given = |text: Option<String>| text.filter(|text| !text.is_empty());
            parameters.continue_token = given(page.metadata.continue_);
            if parameters.continue_token.is_none() {
                let Some(version) = given(page.metadata.resource_version) else {
                    return Err(Trouble::Failed("the list has no resourceVersion to watch from".to_owned()));
                };
                self.resume = Some(version);
                self.send(Event::Synced(self.kind)).await;
                return Ok(());
            }
        }
    }

    /// `listing`: these are the initial events of a streaming list, whose versions are in no order.
    async fn take(&mut self, event: WatchEvent<Raw>, listing: &mut bool) -> Result<(), Trouble> {
        match event {
            WatchEvent::Added(raw) | WatchEvent::Modified(raw) => {
                self.apply(&raw).await;
                self.reached(raw.resource_version(), *listing);
            }
            WatchEvent::Deleted(raw) => {
                let intern = |text| self.shared.sink.interner.intern(text);
                let (namespace, name) = (intern(raw.namespace()), intern(raw.name()));
                self.send(Event::Delete(ObjectKey { kind: self.kind, namespace, name })).await;
                self.reached(raw.resource_version(), *listing);
            }
            WatchEvent::Bookmark(bookmark) => {
                if *listing && bookmark.metadata.annotations.contains_key("k8s.io/initial-events-end") {
                    *listing = false;
                    self.send(Event::Synced(self.kind)).await;
                }
                self.reached(Some(&bookmark.metadata.resource_version), *listing);
            }
            WatchEvent::Error(status) => return Err(Trouble::of_status(&status, false)),
        }
        Ok(())
    }

    fn reached(&mut self, version: Option<&str>, listing: bool) {
        if let Some(version) = version.filter(|version| !listing && !version.is_empty()) {
            self.resume = Some(version.to_owned());
        }
    }

    async fn apply(&self, raw: &Raw) {
        let sink = &self.shared.sink;
        let now = jiff::Timestamp::now().as_second();
        let event = match sink.catalogue.observe(self.kind, raw.json(), &sink.interner, now) {
            Ok(record) => Event::Apply(Box::new(record)),
            Err(error) => {
                let what = format!("{}/{}: {error}", raw.namespace(), raw.name());
                tracing::warn!(kind = %self.name(), object = %what, "left out");
                Event::Undecodable(Some(self.kind), what)
            }
        };
        self.send(event).await;
    }

    /// Says what is wrong, and returns how long to wait before the next attempt.
    async fn take_trouble(&mut self, trouble: Trouble) -> Duration {
        match trouble {
            Trouble::Forbidden(message) => {
                // What was missed meanwhile may be more than a watch can catch up with.
                self.resume = None;
                let message = message.into();
                self.tell(KindStatus::Forbidden { message }).await;
                jittered(FORBIDDEN)
            }
            Trouble::NotServed(message) => {
                self.resume = None;
                self.not_served += 1;
                self.shared.rediscover.notify_one();
                if self.not_served > 1 {
                    self.tell(KindStatus::Failing { message: message.into() }).await;
                }
                self.back_off()
            }
            Trouble::Expired => {
                self.resume = None;
                self.back_off()
            }
            Trouble::NoStreaming => {
                tracing::debug!(kind = %self.name(), "no streaming lists here; listing by pages");
                self.streaming = false;
                Duration::ZERO
            }
            Trouble::Garbled(message) => {
                self.resume = None;
                self.tell(KindStatus::Failing { message: message.into() }).await;
                self.back_off()
            }
            Trouble::Failed(message) => {
                self.tell(KindStatus::Failing { message: message.into() }).await;
                self.back_off()
            }
        }
    }

    fn back_off(&mut self) -> Duration {
        // Endless, says its documentation; its own longest delay, in case that changes.
        self.backoff.next().unwrap_or(Duration::from_secs(30))
    }

    async fn told_served(&mut self) {
        self.not_served = 0;
        let version = Str::clone(&self.version);
        self.tell(KindStatus::Served { version }).await;
    }

    async fn tell(&mut self, status: KindStatus) {
        if self.status.as_ref() == Some(&status) {
            return;
        }
        match &status {
            KindStatus::Forbidden { message } | KindStatus::Failing { message } => {
                tracing::warn!(kind = %self.name(), reason = %message, "cannot be watched");
            }
            _ => tracing::debug!(kind = %self.name(), version = %self.version, "watched"),
        }
        self.status = Some(status.clone());
        self.send(Event::Kind(self.kind, status)).await;
    }

    fn name(&self) -> String {
        let kind = self.shared.sink.catalogue.kind(self.kind);
        format!("{}.{}", kind.plural, kind.group)
    }

    async fn send(&self, event: Event) {
        self.shared.sink.send(event).await;
    }
}

fn late(what: &str, limit: Duration) -> Trouble {
    Trouble::Failed(format!("no answer to the {what} within {} s", limit.as_secs()))
}

/// Kinds end their watches at different times, or a cluster's whole set would be renewed at once.
fn watch_seconds(kind: KindId) -> u32 {
    WATCH_SECONDS + u32::from(kind.0) * 7 % 50
}

fn idle(kind: KindId) -> Duration {
    Duration::from_secs(watch_seconds(kind).into()) + GRACE
}
