//! Lists and watches one resource while it is served, and passes notices to an [`Observer`].
//!
//! kube's `watcher` is not used, for three reasons. It does not report that a broken watch works again, so a kind
//! without changes would stay Failing. It does not drop a resourceVersion that the server refuses with 410 when a watch
//! is opened. And it does not report up to which resourceVersion all events were received.

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
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    items::Items,
    notice::{Content, Observer, Selection, WatchNotice},
    raw::Raw,
    settings::{Pace, Streaming},
    shared::{Assignment, Shared},
    watch_error::WatchError,
};
use crate::{Str, source::KindStatus};

/// The purpose of a request for a page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    First,
    Next,
    /// Only the resourceVersion of the list is used; its items are dropped.
    Newest,
}

/// An answer must begin within this time, and continue after pauses no longer than this. The client itself has no read
/// timeout.
const ANSWER: Duration = Duration::from_secs(30);
/// A page of a list must begin within this time. kube-apiserver reads the whole page first.
const PAGE: Duration = Duration::from_mins(1);
/// A streaming list that sends nothing for this long comes from a server that ignores `sendInitialEvents`, and will
/// never send the bookmark that ends the list.
const FIRST_BOOKMARK: Duration = Duration::from_secs(30);
/// The longest `timeoutSeconds` of a watch that kube accepts.
const LONGEST_WATCH: u64 = 294;
/// When a silent server answers again, followers retry after this time, or up to twice that.
const AT_ONCE: Duration = Duration::from_millis(200);
/// A watch that ended sooner after its start is retried with back-off.
const TOO_SHORT: Duration = Duration::from_secs(1);

/// Follows the selected objects of a resource by its assignments, until the sender of these is dropped.
pub(super) async fn follow(
    shared: Arc<Shared>,
    mut assigned: watch::Receiver<Assignment>,
    selection: Selection,
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
                // An empty list removes the known objects.
                for notice in
                    [WatchNotice::Restart, WatchNotice::Synced, WatchNotice::Status(KindStatus::Absent)]
                {
                    observer.observe(notice).await;
                }
            }
            Assignment::Served(resource) => {
                was_served = true;
                // Boxed, since it takes kilobytes, which each kind that is not served would hold for nothing.
                let run = Box::pin(async {
                    Follower::new(&shared, &resource, &selection, content, &mut observer).run().await
                });
                tokio::select! {
                    never = run => match never {},
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
    /// The label selector of all requests.
    labels: Option<String>,
    /// `plural.group`, or `plural` in the core group.
    name: String,
    version: Str,
    request: Request,
    /// How long the open watch lasts at most, and how long it may be silent.
    pace: Pace,
    streaming: bool,
    /// The resourceVersion to continue from; `None` before a complete list.
    resume: Option<String>,
    /// The value of [`Shared::doubts`] at the last check that the cluster's resourceVersion has not decreased.
    trusted: u64,
    /// The status in the last notice.
    status: Option<KindStatus>,
    /// The number of consecutive 404 answers. The first one may only mean that discovery lags behind the removal of a
    /// CRD.
    not_served: u32,
    backoff: DefaultBackoff,
}

impl<'a, O: Observer> Follower<'a, O> {
    fn new(
        shared: &'a Shared,
        resource: &ApiResource,
        selection: &Selection,
        content: Content,
        observer: &'a mut O,
    ) -> Self {
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
            labels: selection.labels.clone(),
            version: resource.version.as_str().into(),
            request: Request::new(DynamicObject::url_path(resource, selection.namespace.as_deref())),
            pace: shared.settings.pace(false),
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
            let replaced = self.shared.replaced();
            let ended = tokio::select! {
                ended = self.round() => ended,
                () = replaced => {
                    // By another client, from the version that was reached. The server may be another one.
                    self.shared.doubt();
                    sleep(jittered(Duration::ZERO, AT_ONCE)).await;
                    continue;
                }
            };
            let asked = Duration::from_secs(self.watch_seconds().into());
            let is_early = began.elapsed() + TOO_SHORT < asked.min(self.pace.silence);
            let is_doubtful = match &ended {
                Ok(()) => is_early,
                Err(WatchError::Failed(_) | WatchError::Garbled(_)) => true,
                // The server answered properly.
                Err(_) => false,
            };
            if is_doubtful {
                self.shared.doubt();
            }
            let wait = match ended {
                Ok(()) if began.elapsed() < TOO_SHORT => self.back_off(),
                Ok(()) => Duration::ZERO,
                Err(error) => self.handle_error(error).await,
            };
            tokio::select! {
                () = sleep(wait) => {}
                // Jitter, since there are about forty kinds.
                () = self.shared.answers.notified() => sleep(jittered(AT_ONCE, AT_ONCE)).await,
                () = self.shared.replaced() => sleep(jittered(Duration::ZERO, AT_ONCE)).await,
            }
        }
    }

    /// Lists if necessary, then watches. Returns `Ok` when the server ends the watch, or the watch goes silent.
    async fn round(&mut self) -> Result<(), WatchError> {
        self.trust().await?;
        let streaming = self.streaming && self.resume.is_none();
        let resumed = self.resume.clone();
        if self.resume.is_none() && !streaming {
            self.list().await?;
        }
        let mut answers = self.shared.answers_of_shared();
        let is_shared = answers.borrow_and_update().is_some();
        self.pace = self.shared.settings.pace(is_shared);
        let follows_answers = is_shared && self.shared.settings.lag.is_some();
        let mut events = Box::pin(self.open(streaming).await?);
        self.told_served().await;
        if streaming {
            self.observer.observe(WatchNotice::Restart).await;
        }
        // An open watch shows that the server answers. If the resource rarely changes, this may be the only notice of
        // that.
        self.reached(resumed.as_deref(), false).await;
        let mut listing = streaming;
        let mut heard = Instant::now();
        loop {
            let patience = if listing { FIRST_BOOKMARK } else { self.pace.silence };
            let next = tokio::select! {
                biased;
                next = timeout_at(heard + patience, events.try_next()) => next,
                Ok(()) = answers.changed(), if follows_answers => {
                    // What the watch had to say before the answer was read above, or is on its way.
                    if answers.borrow_and_update().is_some() && !listing {
                        self.current().await;
                    }
                    continue;
                }
            };
            heard = Instant::now();
            match next {
                Ok(Ok(Some(event))) => self.take(event, &mut listing).await?,
                Ok(Err(error)) => return Err(WatchError::of(&error, false)),
                Err(_) if listing => return Err(WatchError::NoStreaming),
                // The server ended the watch, or the connection is dead. The next round continues from the last
                // resourceVersion.
                Ok(Ok(None)) | Err(_) => return Ok(()),
            }
        }
    }

    /// If the server may have been replaced, checks that its resourceVersion has not decreased, as after a restore of
    /// etcd from a backup. A watch from a future resourceVersion would be silent until the cluster reaches it, and miss
    /// all changes until then.
    async fn trust(&mut self) -> Result<(), WatchError> {
        let doubts = self.shared.doubts.load(Ordering::Relaxed);
        if self.trusted != doubts
            && let Some(seen) = self.resume.as_deref().and_then(|version| version.parse::<u64>().ok())
        {
            let newest = self.page(&self.list_parameters(1), Page::Newest).await?.resource_version;
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
    ) -> Result<impl Stream<Item = kube::Result<WatchEvent<Raw>>> + use<O>, WatchError> {
        let parameters = WatchParams {
            timeout: Some(self.watch_seconds()),
            bookmarks: true,
            send_initial_events: streaming,
            label_selector: self.labels.clone(),
            ..WatchParams::default()
        };
        // For a streaming list, an empty resourceVersion requests the most recent state, as for a list in pages.
        let from = self.resume.as_deref().unwrap_or_default();
        let request = match self.content {
            Content::Whole => self.request.watch(&parameters, from),
            Content::Metadata => self.request.watch_metadata(&parameters, from),
        };
        let mut request = request.map_err(|error| WatchError::Failed(error.to_string()))?;
        request.extensions_mut().insert("watch");
        let client = self.shared.client().await;
        match timeout(ANSWER, client.request_events(request)).await {
            Ok(Ok(events)) => Ok(events),
            Ok(Err(error)) => Err(WatchError::of(&error, streaming)),
            Err(_) => Err(late("watch", ANSWER)),
        }
    }

    /// Requests a page of a list, sends its items as they arrive, and returns the metadata of the list.
    async fn page(&mut self, parameters: &ListParams, page: Page) -> Result<ListMeta, WatchError> {
        let request = match self.content {
            Content::Whole => self.request.list(parameters),
            Content::Metadata => self.request.list_metadata(parameters),
        };
        let mut request = request.map_err(|error| WatchError::Failed(error.to_string()))?;
        request.extensions_mut().insert("list");
        let client = self.shared.client().await;
        let mut answer = match timeout(PAGE, client.request_stream(request)).await {
            Ok(Ok(answer)) => Box::pin(answer),
            Ok(Err(error)) => return Err(WatchError::of(&error, false)),
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
                    items.feed(bytes, &mut whole).map_err(WatchError::Garbled)?;
                    bytes.len()
                }
                Ok(Err(error)) => return Err(WatchError::Failed(explain(&error))),
                Err(_) => return Err(late("list", ANSWER)),
            };
            answer.consume_unpin(length);
            if page == Page::Newest {
                whole.clear();
            }
            for item in whole.drain(..) {
                let raw = String::from_utf8(item).map_err(|error| error.to_string());
                let raw = raw.and_then(|json| Raw::of(json).map_err(|error| error.to_string()));
                self.observer.observe(WatchNotice::Apply(&raw.map_err(WatchError::Garbled)?)).await;
            }
        }
        items.finish().map_err(WatchError::Garbled)
    }

    fn list_parameters(&self, limit: u32) -> ListParams {
        ListParams { label_selector: self.labels.clone(), limit: Some(limit), ..ListParams::default() }
    }

    async fn list(&mut self) -> Result<(), WatchError> {
        let mut parameters = self.list_parameters(self.shared.settings.page_size);
        let mut page = Page::First;
        loop {
            let metadata = self.page(&parameters, page).await?;
            page = Page::Next;
            let given = |text: Option<String>| text.filter(|text| !text.is_empty());
            parameters.continue_token = given(metadata.continue_);
            if parameters.continue_token.is_none() {
                let Some(version) = given(metadata.resource_version) else {
                    return Err(WatchError::Failed(
                        "the list has no resourceVersion to watch from".to_owned(),
                    ));
                };
                self.observer.observe(WatchNotice::Synced).await;
                self.reached(Some(&version), false).await;
                return Ok(());
            }
        }
    }

    /// `listing`: the event belongs to the initial events of a streaming list, whose resourceVersions are not in order.
    async fn take(&mut self, event: WatchEvent<Raw>, listing: &mut bool) -> Result<(), WatchError> {
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
            WatchEvent::Error(status) => return Err(WatchError::of_status(&status, false)),
        }
        Ok(())
    }

    async fn reached(&mut self, version: Option<&str>, listing: bool) {
        if let Some(version) = version.filter(|version| !listing && !version.is_empty()) {
            self.resume = Some(version.to_owned());
            self.current().await;
        }
    }

    /// The objects are those of the version that was reached last.
    async fn current(&mut self) {
        if let Some(version) = self.resume.as_deref().and_then(|version| version.parse().ok()) {
            self.observer.observe(WatchNotice::Reached(version)).await;
        }
    }

    fn watch_seconds(&self) -> u32 {
        watch_seconds(self.pace.round, &self.name)
    }

    /// Reports an error if necessary, and returns how long to wait before the next attempt.
    async fn handle_error(&mut self, error: WatchError) -> Duration {
        match error {
            WatchError::Forbidden(message) => {
                // The resourceVersion may be too old by the time that access is granted.
                self.resume = None;
                let message = message.into();
                self.report(KindStatus::Forbidden { message }).await;
                let forbidden = self.shared.settings.forbidden;
                jittered(forbidden, forbidden)
            }
            WatchError::NotServed(message) => {
                self.resume = None;
                self.not_served += 1;
                self.shared.rediscover.notify_one();
                if self.not_served > 1 {
                    self.report(KindStatus::Failing { message: message.into() }).await;
                }
                self.back_off()
            }
            WatchError::Expired => {
                self.resume = None;
                self.back_off()
            }
            WatchError::NoStreaming => {
                tracing::debug!(kind = %self.name, "streaming lists are not supported, listing in pages");
                self.streaming = false;
                Duration::ZERO
            }
            WatchError::Garbled(message) => {
                self.resume = None;
                self.report(KindStatus::Failing { message: message.into() }).await;
                self.back_off()
            }
            WatchError::Failed(message) => {
                self.report(KindStatus::Failing { message: message.into() }).await;
                self.back_off()
            }
        }
    }

    fn back_off(&mut self) -> Duration {
        // By its documentation this back-off never ends. If that changes, use its longest delay.
        self.backoff.next().unwrap_or(Duration::from_secs(30))
    }

    async fn told_served(&mut self) {
        self.not_served = 0;
        let version = Str::clone(&self.version);
        self.report(KindStatus::Served { version }).await;
    }

    async fn report(&mut self, status: KindStatus) {
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

fn late(what: &str, limit: Duration) -> WatchError {
    WatchError::Failed(format!("no answer to the {what} within {} s", limit.as_secs()))
}

/// The `timeoutSeconds` of a watch, different for each resource, so that not all watches are renewed at once.
fn watch_seconds(round: Duration, name: &str) -> u32 {
    let round = round.as_secs().min(LONGEST_WATCH);
    let spread = name.bytes().map(u64::from).sum::<u64>() * 7 % 50;
    // Up to a tenth less than `round`.
    u32::try_from(round - round * spread / 500).unwrap_or_default().max(1)
}
