//! An API server: discovery, heartbeats, and the resources that are followed.
//!
//! Discovery runs periodically, and soon after the change of a CustomResourceDefinition that defines a wanted resource.
//! Followers are notified when their resource appears, changes its version, or disappears.

use std::{sync::Arc, time::Duration};

use gatehouse_apiservice::client::{explain, jittered};
use http::{HeaderMap, Request, StatusCode, Version, header::DATE};
use kube::{Client, client::Body, core::Status, runtime::watcher::DefaultBackoff};
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    crds,
    discovery::{self, Wanted},
    follow,
    notice::{Content, Observer, Selection},
    settings::WatchSettings,
    shared::{Assignment, Shared},
};
use crate::{Seconds, source::Liveness};

/// An API server whose resources are followed. Cheap to clone. Nothing happens until [`Upstream::run`] is polled.
#[derive(Clone)]
pub struct Upstream(Arc<Shared>);

/// The date of an answer is compared with our clock only if the answer took less than this.
const PROMPT: Duration = Duration::from_secs(1);
/// The time limit of discovery, which is three requests.
const DISCOVERY: Duration = Duration::from_secs(30);
/// The delays of the attempts after a CRD has changed. Several are needed, since discovery lags behind, most of all for
/// a new CRD. The first delay also collects simultaneous changes, such as the CRDs of one chart.
const AFTER_CHANGE: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];

impl Upstream {
    /// The API server behind `client`.
    pub fn new(client: Client, settings: WatchSettings) -> Self {
        let (_, clients) = watch::channel(Some(client));
        Self::with_clients(clients, settings)
    }

    /// An API server that is reached by the last of `clients`. While that is `None` nothing is requested, and what was
    /// open is closed. The next client must lead to the same cluster: it goes on from the versions that were reached.
    pub fn with_clients(clients: watch::Receiver<Option<Client>>, settings: WatchSettings) -> Self {
        Self(Arc::new(Shared::new(clients, settings)))
    }

    /// Whether `wanted` is served and as which resource, with updates. Dropping the receiver unsubscribes.
    pub fn served(&self, wanted: Wanted) -> watch::Receiver<Assignment> {
        self.0.want(wanted)
    }

    /// Lists and watches `wanted` whenever it is served, and never ends. Discovery looks for it from this call on, even
    /// if the future has not been polled.
    pub fn follow(
        &self,
        wanted: Wanted,
        content: Content,
        observer: impl Observer + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        follow::follow(Arc::clone(&self.0), self.served(wanted), Selection::default(), content, observer)
    }

    /// As [`follow`](Self::follow), in one namespace alone.
    pub fn follow_in(
        &self,
        namespace: String,
        wanted: Wanted,
        content: Content,
        observer: impl Observer + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let selection = Selection { namespace: Some(namespace), ..Selection::default() };
        follow::follow(Arc::clone(&self.0), self.served(wanted), selection, content, observer)
    }

    /// As [`follow`](Self::follow), but only objects that match a label selector.
    pub fn follow_labelled(
        &self,
        labels: String,
        wanted: Wanted,
        content: Content,
        observer: impl Observer + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let selection = Selection { labels: Some(labels), ..Selection::default() };
        follow::follow(Arc::clone(&self.0), self.served(wanted), selection, content, observer)
    }

    /// Runs discovery and heartbeats, and never ends. `heard` receives the result of each heartbeat.
    pub async fn run<F>(&self, report: impl FnMut(Liveness) -> F + Send)
    where
        F: Future<Output = ()> + Send,
    {
        let shared = &*self.0;
        let definitions = async {
            if shared.settings.definitions {
                crds::watch(shared).await;
            }
        };
        futures::future::join3(discover(shared), definitions, heartbeat(shared, report)).await;
    }
}

/// Runs discovery periodically and after changes, and notifies followers.
async fn discover(shared: &Shared) {
    let mut backoff = DefaultBackoff::default();
    let mut soon = [].iter();
    loop {
        let client = shared.client().await;
        let found = timeout(DISCOVERY, discovery::discover(&client)).await;
        let found = found.unwrap_or_else(|_| Err(format!("timed out after {} s", DISCOVERY.as_secs())));
        let failed = match found {
            Ok(served) => {
                shared.assign(&served);
                backoff = DefaultBackoff::default();
                None
            }
            Err(reason) => {
                tracing::warn!(%reason, "discovery failed, keeping the known kinds");
                backoff.next()
            }
        };
        let regular = shared.settings.discovery_interval.mul_f64(2.0 / 3.0);
        let wait = failed.or_else(|| soon.next().copied()).unwrap_or_else(|| jittered(regular, regular));
        let woken = async {
            tokio::select! {
                () = shared.rediscover.notified() => {}
                () = shared.replaced() => {}
            }
        };
        if timeout(wait, woken).await.is_ok() {
            soon = AFTER_CHANGE.iter();
            tokio::time::sleep(soon.next().copied().unwrap_or_default()).await;
        }
    }
}

/// Requests the server's version periodically: the answer is small, every account may read it, and the API server itself
/// gives it.
async fn heartbeat<F>(shared: &Shared, mut report: impl FnMut(Liveness) -> F + Send)
where
    F: Future<Output = ()> + Send,
{
    let period = shared.settings.heartbeat;
    let mut beats = interval(period);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_silent = false;
    loop {
        beats.tick().await;
        let (client, sent) = (shared.client().await, Instant::now());
        let sign = match timeout(period, sign_of_life(&client)).await {
            Ok(Ok((sign, version))) => {
                shared.answered(sent, version == Version::HTTP_2);
                sign
            }
            Ok(Err(kube::Error::Api(status))) if status.code == StatusCode::UNAUTHORIZED.as_u16() => {
                Liveness::Unauthenticated { message: status.message.as_str().into() }
            }
            Ok(Err(error)) => Liveness::Silent { message: explain(&error).into() },
            Err(_) => {
                let message = format!("timed out after {} s", period.as_secs_f64());
                Liveness::Silent { message: message.into() }
            }
        };
        let is_silent = !matches!(sign, Liveness::Alive { .. });
        if is_silent {
            shared.doubt();
        }
        if was_silent && !is_silent {
            // Kinds that are in back-off would otherwise wait up to half a minute more.
            shared.answers.notify_waiters();
            shared.rediscover.notify_one();
        }
        was_silent = is_silent;
        report(sign).await;
    }
}

/// Requests the server's version. 403 counts as an answer, too. Also the version of HTTP.
async fn sign_of_life(client: &Client) -> kube::Result<(Liveness, Version)> {
    let began = Instant::now();
    let request = Request::get("/version").body(Body::empty()).map_err(kube::Error::HttpError)?;
    let (head, body) = client.send(request).await?.into_parts();
    // The date of a slow answer is inaccurate by the time that the answer took.
    let ahead = (began.elapsed() < PROMPT).then(|| ahead_of(&head.headers)).flatten();
    let body = body.collect_bytes().await?;
    if head.status == StatusCode::FORBIDDEN {
        return Ok((Liveness::Alive { version: None, ahead }, head.version));
    }
    if !head.status.is_success() {
        let message = String::from_utf8_lossy(&body);
        let status = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Status::failure(&message, "").with_code(head.status.as_u16()));
        return Err(kube::Error::Api(Box::new(status)));
    }
    let info: Info = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
    let version = info.git_version;
    let version = (!version.is_empty()).then(|| version.into());
    Ok((Liveness::Alive { version, ahead }, head.version))
}

/// The part of a server's version that is used.
#[derive(Deserialize)]
struct Info {
    #[serde(rename = "gitVersion", default)]
    git_version: String,
}

/// How many seconds our clock is ahead of the `Date` of an answer (RFC 9110, section 6.6.1).
fn ahead_of(headers: &HeaderMap) -> Option<Seconds> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::parse(date).ok()?;
    Some(jiff::Timestamp::now().as_second() - date.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_time_it_is_elsewhere_is_read_from_the_date_of_an_answer() {
        let ahead = |date: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, date.parse().unwrap());
            ahead_of(&headers)
        };
        let since = jiff::Timestamp::now().as_second() - 1_798_761_600;
        let found = ahead("Fri, 01 Jan 2027 00:00:00 GMT").unwrap();
        assert!((since..since + 10).contains(&found), "{found}");
        assert_eq!((ahead("soon"), ahead_of(&HeaderMap::new())), (None, None));
    }
}
