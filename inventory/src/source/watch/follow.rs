//! Lists and watches one resource for as long as it is served, and tells an [`Observer`] what it sees.
//!
//! kube's `watcher` is not used: it does not tell when a broken watch stands again (a quiet kind would be
//! told as failing until its next change), nor does it give up a resourceVersion that is refused with HTTP
//! 410 when the watch is opened, nor does it say up to which resourceVersion everything was told.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{AsyncBufReadExt, Stream, TryStreamExt};
use gatehouse_apiservice::client::{explain, jittered};
use kube::{
    Resource,
    api::{DynamicObject, ListParams, WatchParams},
    core::{ApiResource, ListMeta, Request, WatchEvent},
    runtime::watcher::DefaultBackoff,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    items::Items,
    raw::Raw,
    settings::Streaming,
    shared::{Assignment, Shared},
    trouble::Trouble,
};
use crate::{Str, source::KindStatus};

/// What is done with what a resource's list and watch say.
pub trait Observer: Send {
    /// Takes the next thing that is said. Nothing further is read until this returns.
    fn observe(&mut self, notice: WatchNotice<'_>) -> impl Future<Output = ()> + Send;
}

/// What is said of a resource and its objects, in order.
#[derive(Debug)]
pub enum WatchNotice<'a> {
    /// Whether it can be observed, and how that stands. Given before the first object.
    Status(KindStatus),
    /// All objects are about to be told. Until [`WatchNotice::Synced`], the known ones stay.
    Restart,
    /// An object as it is now.
    Apply(&'a Raw),
    /// An object, as it was last, is gone.
    Delete(&'a Raw),
    /// Since the last [`WatchNotice::Restart`] every object was told: what was not is gone.
    Synced,
    /// Every change up to this resourceVersion was told. Not said of versions that are no numbers.
    Reached(u64),
}

/// How much of each object is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// All of it.
    Whole,
    /// `metadata` alone: the rest never leaves the API server.
    Metadata,
}

/// What a page of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    First,
    Next,
    /// For the list's version alone: nothing is said of its items.
    Newest,
}

/// An answer must begin within this; the client itself has no read timeout.
const ANSWER: Duration = Duration::from_secs(30);
/// A page of a list, until it begins: kube-apiserver reads all of it before.
const PAGE: Duration = Duration::from_mins(1);
/// A streaming list that says nothing for this long comes from a server that ignores the parameter: it sends
/// no bookmark to end the list with.
const FIRST_BOOKMARK: Duration = Duration::from_secs(30);
/// The longest that kube lets a watch be.
const LONGEST_WATCH: u64 = 294;
/// How soon a server that answers again is asked, or up to twice that.
const AT_ONCE: Duration = Duration::from_millis(200);
/// A watch that ends sooner after it began is not taken up again at once.
const TOO_SHORT: Duration = Duration::from_secs(1);

/// Follows a resource as assigned, until nobody assigns any more.
pub(super) async fn follow(
    shared: Arc<Shared>,
    mut assigned: watch::Receiver<Assignment>,
    content: Content,
    mut observer: impl Observer,
) {
    let mut was_served = false;
    loop {
        let assignment = assigned.borrow_and_update().clone();
        match assignment {
            Assignment::Undecided => {}
            Assignment::Absent => {
                if was_served {
                    match timeout(shared.settings.absence, assigned.changed()).await {
                        Ok(Ok(())) => continue,
                        Ok(Err(_)) => return,
                        Err(_) => was_served = false,
                    }
                }
                // An empty list takes away what there was.
                for said in
                    [WatchNotice::Restart, WatchNotice::Synced, WatchNotice::Status(KindStatus::Absent)]
                {
                    observer.observe(said).await;
                }
            }
            Assignment::Served(resource) => {
                was_served = true;
                let mut follower = Follower::new(&shared, &resource, content, &mut observer);
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

struct Follower<'a, O> {
    shared: &'a Shared,
    observer: &'a mut O,
    content: Content,
    /// `plural.group`.
    name: String,
    version: Str,
    request: Request,
    watch_seconds: u32,
    streaming: bool,
    /// The resourceVersion to go on from; none before everything was listed.
    resume: Option<String>,
    /// [`Shared::doubts`], when the cluster was last seen to be where it had been, or further.
    trusted: u64,
    /// What was last told.
    status: Option<KindStatus>,
    /// 404 in a row. The first may be discovery lagging behind a CRD's removal.
    not_served: u32,
    backoff: DefaultBackoff,
}

impl<'a, O: Observer> Follower<'a, O> {
    fn new(shared: &'a Shared, resource: &ApiResource, content: Content, observer: &'a mut O) -> Self {
        let streaming = match shared.settings.streaming {
            Streaming::Auto => shared.streams.load(Ordering::Relaxed),
            Streaming::Always => true,
            Streaming::Never => false,
        };
        let name = match resource.group.as_str() {
            "" => resource.plural.clone(),
            group => format!("{}.{group}", resource.plural),
        };
        Self {
            shared,
            observer,
            content,
            version: resource.version.as_str().into(),
            request: Request::new(DynamicObject::url_path(resource, None)),
            watch_seconds: watch_seconds(shared.settings.round, &name),
            name,
            streaming,
            resume: None,
            trusted: 0,
            status: None,
            not_served: 0,
            backoff: DefaultBackoff::default(),
        }
    }

    async fn run(&mut self) -> Infallible {
        loop {
            let began = Instant::now();
            let ended = self.round().await;
            let asked = Duration::from_secs(self.watch_seconds.into());
            let is_early = began.elapsed() + TOO_SHORT < asked.min(self.shared.settings.silence);
            let is_doubtful = match &ended {
                Ok(()) => is_early,
                Err(Trouble::Failed(_) | Trouble::Garbled(_)) => true,
                // An answer in good order.
                Err(_) => false,
            };
            if is_doubtful {
                self.shared.doubt();
            }
            let wait = match ended {
                Ok(()) if began.elapsed() < TOO_SHORT => self.back_off(),
                Ok(()) => Duration::ZERO,
                Err(trouble) => self.take_trouble(trouble).await,
            };
            tokio::select! {
                () = sleep(wait) => {}
                // Not all at once: there are some forty kinds.
                () = self.shared.answers.notified() => sleep(jittered(AT_ONCE, AT_ONCE)).await,
            }
        }
    }

    /// One watch, with the list before it where one is needed. Ends well when the server ends the watch.
    async fn round(&mut self) -> Result<(), Trouble> {
        self.trust().await?;
        let streaming = self.streaming && self.resume.is_none();
        let resumed = self.resume.clone();
        if self.resume.is_none() && !streaming {
            self.list().await?;
        }
        let mut events = Box::pin(self.open(streaming).await?);
        self.told_served().await;
        if streaming {
            self.observer.observe(WatchNotice::Restart).await;
        }
        // That the watch stands again is a sign of life, where little happens the only one.
        self.reached(resumed.as_deref(), false).await;
        let mut listing = streaming;
        loop {
            let patience = if listing { FIRST_BOOKMARK } else { self.shared.settings.silence };
            match timeout(patience, events.try_next()).await {
                Ok(Ok(Some(event))) => self.take(event, &mut listing).await?,
                Ok(Err(error)) => return Err(Trouble::of(&error, false)),
                Err(_) if listing => return Err(Trouble::NoStreaming),
                // Ended by the server, or dead: the next round goes on from where this one came.
                Ok(Ok(None)) | Err(_) => return Ok(()),
            }
        }
    }

    /// Where the server may have been another one meanwhile, looks that it is not behind what was seen of it. An etcd that
    /// was restored from a backup is; a watch from a version that has yet to come would be silent until then, and pass
    /// over all that happened on the way.
    async fn trust(&mut self) -> Result<(), Trouble> {
        let doubts = self.shared.doubts.load(Ordering::Relaxed);
        if self.trusted != doubts
            && let Some(seen) = self.resume.as_deref().and_then(|version| version.parse::<u64>().ok())
        {
            let newest = self.page(&ListParams::default().limit(1), Page::Newest).await?.resource_version;
            let newest = newest.and_then(|version| version.parse::<u64>().ok());
            if newest.is_some_and(|newest| newest < seen) {
                tracing::warn!(kind = %self.name, seen, newest, "the cluster went back to an older state, listing all objects again");
                self.resume = None;
            }
        }
        self.trusted = doubts;
        Ok(())
    }

    async fn open(
        &mut self,
        streaming: bool,
    ) -> Result<impl Stream<Item = kube::Result<WatchEvent<Raw>>> + use<O>, Trouble> {
        let parameters = WatchParams {
            timeout: Some(self.watch_seconds),
            bookmarks: true,
            send_initial_events: streaming,
            ..WatchParams::default()
        };
        // An empty version asks a streaming list for the newest state, as a paged one does.
        let from = self.resume.as_deref().unwrap_or_default();
        let request = match self.content {
            Content::Whole => self.request.watch(&parameters, from),
            Content::Metadata => self.request.watch_metadata(&parameters, from),
        };
        let mut request = request.map_err(|error| Trouble::Failed(error.to_string()))?;
        request.extensions_mut().insert("watch");
        match timeout(ANSWER, self.shared.client.request_events(request)).await {
            Ok(Ok(events)) => Ok(events),
            Ok(Err(error)) => Err(Trouble::of(&error, streaming)),
            Err(_) => Err(late("watch", ANSWER)),
        }
    }

    /// Says what a page of a list holds, item by item as it arrives, and returns the list's own metadata.
    async fn page(&mut self, parameters: &ListParams, page: Page) -> Result<ListMeta, Trouble> {
        let request = match self.content {
            Content::Whole => self.request.list(parameters),
            Content::Metadata => self.request.list_metadata(parameters),
        };
        let mut request = request.map_err(|error| Trouble::Failed(error.to_string()))?;
        request.extensions_mut().insert("list");
        let mut answer = match timeout(PAGE, self.shared.client.request_stream(request)).await {
            Ok(Ok(answer)) => Box::pin(answer),
            Ok(Err(error)) => return Err(Trouble::of(&error, false)),
            Err(_) => return Err(late("list", PAGE)),
        };
        if page == Page::First {
            self.told_served().await;
            self.observer.observe(WatchNotice::Restart).await;
        }
        let (mut items, mut whole) = (Items::default(), Vec::new());
        loop {
            let length = match timeout(ANSWER, answer.fill_buf()).await {
                Ok(Ok([])) => break,
                Ok(Ok(bytes)) => {
                    items.feed(bytes, &mut whole).map_err(Trouble::Garbled)?;
                    bytes.len()
                }
                Ok(Err(error)) => return Err(Trouble::Failed(explain(&error))),
                Err(_) => return Err(late("list", ANSWER)),
            };
            answer.consume_unpin(length);
            if page == Page::Newest {
                whole.clear();
            }
            for item in whole.drain(..) {
                let raw = String::from_utf8(item).map_err(|error| error.to_string());
                let raw = raw.and_then(|json| Raw::of(json).map_err(|error| error.to_string()));
                self.observer.observe(WatchNotice::Apply(&raw.map_err(Trouble::Garbled)?)).await;
            }
        }
        items.finish().map_err(Trouble::Garbled)
    }

    async fn list(&mut self) -> Result<(), Trouble> {
        let mut parameters = ListParams::default().limit(self.shared.settings.page_size);
        let mut page = Page::First;
        loop {
            let metadata = self.page(&parameters, page).await?;
            page = Page::Next;
            let given = |text: Option<String>| text.filter(|text| !text.is_empty());
            parameters.continue_token = given(metadata.continue_);
            if parameters.continue_token.is_none() {
                let Some(version) = given(metadata.resource_version) else {
                    return Err(Trouble::Failed("the list has no resourceVersion to watch from".to_owned()));
                };
                self.observer.observe(WatchNotice::Synced).await;
                self.reached(Some(&version), false).await;
                return Ok(());
            }
        }
    }

    /// `listing`: these are the initial events of a streaming list, whose versions are in no order.
    async fn take(&mut self, event: WatchEvent<Raw>, listing: &mut bool) -> Result<(), Trouble> {
        match event {
            WatchEvent::Added(raw) | WatchEvent::Modified(raw) => {
                self.observer.observe(WatchNotice::Apply(&raw)).await;
                self.reached(raw.resource_version(), *listing).await;
            }
            WatchEvent::Deleted(raw) => {
                self.observer.observe(WatchNotice::Delete(&raw)).await;
                self.reached(raw.resource_version(), *listing).await;
            }
            WatchEvent::Bookmark(bookmark) => {
                if *listing && bookmark.metadata.annotations.contains_key("k8s.io/initial-events-end") {
                    *listing = false;
                    self.observer.observe(WatchNotice::Synced).await;
                }
                self.reached(Some(&bookmark.metadata.resource_version), *listing).await;
            }
            WatchEvent::Error(status) => return Err(Trouble::of_status(&status, false)),
        }
        Ok(())
    }

    async fn reached(&mut self, version: Option<&str>, listing: bool) {
        if let Some(version) = version.filter(|version| !listing && !version.is_empty()) {
            self.resume = Some(version.to_owned());
            if let Ok(version) = version.parse() {
                self.observer.observe(WatchNotice::Reached(version)).await;
            }
        }
    }

    /// Says what is wrong, and returns how long to wait before the next attempt.
    async fn take_trouble(&mut self, trouble: Trouble) -> Duration {
        match trouble {
            Trouble::Forbidden(message) => {
                // What was missed meanwhile may be more than a watch can catch up with.
                self.resume = None;
                let message = message.into();
                self.tell(KindStatus::Forbidden { message }).await;
                let forbidden = self.shared.settings.forbidden;
                jittered(forbidden, forbidden)
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
                tracing::debug!(kind = %self.name, "streaming lists are not supported, listing in pages");
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
                tracing::warn!(kind = %self.name, reason = %message, "cannot be watched");
            }
            _ => tracing::debug!(kind = %self.name, version = %self.version, "watched"),
        }
        self.status = Some(status.clone());
        self.observer.observe(WatchNotice::Status(status)).await;
    }
}

fn late(what: &str, limit: Duration) -> Trouble {
    Trouble::Failed(format!("no answer to the {what} within {} s", limit.as_secs()))
}

/// Kinds end their watches at different times, or a cluster's whole set would be renewed at once.
fn watch_seconds(round: Duration, name: &str) -> u32 {
    let round = round.as_secs().min(LONGEST_WATCH);
    let spread = name.bytes().map(u64::from).sum::<u64>() * 7 % 50;
    // Up to a fifth sooner.
    u32::try_from(round - round * spread / 250).unwrap_or_default().max(1)
}
