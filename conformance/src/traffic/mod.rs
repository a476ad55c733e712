//! Steady load from several clients that know the right response to each request. They record time and text
//! of any other response.
//!
//! Clients do not retry requests, so that every error that a user would have seen is counted. Only watches
//! resume where they ended, as all clients do; a watch that ends in order or with 410 has not failed.
//!
//! - *views*: lists and gets through the aggregator, on kept and on new connections;
//! - *watches*: plain watches and those of kube-rs, which must show the latest change in the end;
//! - *admission*: allowed writes must be admitted, and forbidden ones refused with Gatehouse's message;
//! - *doors*: connections that bypass kube-apiserver. A client that trusts the published CA must be served; a
//!   client that trusts another CA must notice that the server is not trusted.

mod admission;
mod doors;
mod objects;
mod score;
mod tls;
mod views;
mod watches;

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::control_plane::ControlPlane;
use crate::kubeconfig;
pub use doors::Door;
pub use objects::{beyond_quota, in_force, objects};
use score::Score;
pub use score::{Incident, Outcome};

/// Far longer than any response takes; a later response counts as none.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How often client-go repeats a request (`maxRetries` in rest/request.go).
const RETRIES: u32 = 10;

/// Load that runs until it is stopped.
pub struct Traffic {
    requests: JoinSet<()>,
    watches: watches::Watches,
    stop: watch::Sender<bool>,
    score: Score,
}

impl Traffic {
    /// Starts the load, as an administrator. [`objects`] must exist and be [`in_force`].
    pub async fn start(control_plane: &ControlPlane, doors: Vec<Door>) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let score = Score::new();
        let kubeconfig = control_plane.kubeconfig();
        let mut requests = JoinSet::new();

        let pace = |milliseconds| Pace::new(Duration::from_millis(milliseconds), stopped.clone());
        for _ in 0..2 {
            let client = kubeconfig::client(kubeconfig).await?;
            requests.spawn(views::kept(client, pace(200), score.clone()));
        }
        let config = kubeconfig::config(kubeconfig).await?;
        requests.spawn(views::reconnecting(config, pace(500), score.clone()));

        for _ in 0..2 {
            let client = kubeconfig::client(kubeconfig).await?;
            requests.spawn(admission::allowed_fleets(client, pace(400), score.clone()));
            let client = kubeconfig::client(kubeconfig).await?;
            requests.spawn(admission::allowed_kustomizations(client, pace(400), score.clone()));
        }
        let client = kubeconfig::client(kubeconfig).await?;
        requests.spawn(admission::forbidden(client, pace(250), score.clone()));

        let admin = kubeconfig::client(kubeconfig).await?;
        let identity = doors::Identity::new(control_plane)?;
        for door in doors {
            let visitor = doors::Visitor::new(door, admin.clone(), identity.clone(), score.clone())?;
            let (trusting, stranger) = visitor.pair();
            requests.spawn(trusting.visit(pace(300)));
            requests.spawn(stranger.stay_away(pace(600)));
        }

        let clients = [
            kubeconfig::client(kubeconfig).await?,
            kubeconfig::client(kubeconfig).await?,
            kubeconfig::client(kubeconfig).await?,
        ];
        let watches = watches::Watches::start(clients, &score);
        requests.spawn(watches.write(admin, pace(500), score.clone()));
        Ok(Self { requests, watches, stop, score })
    }

    /// Stops the requests, and waits for those in flight and until every watch shows the latest change.
    pub async fn stop(mut self) -> Outcome {
        self.stop.send_replace(true);
        while let Some(ended) = self.requests.join_next().await {
            if let Err(error) = ended {
                self.score.failed("traffic", format!("a client panicked: {error}"));
            }
        }
        self.watches.end(&self.score).await;
        self.score.outcome()
    }
}

/// The interval of a client's requests.
struct Pace {
    ticks: Interval,
    stopped: watch::Receiver<bool>,
}

impl Pace {
    fn new(period: Duration, stopped: watch::Receiver<bool>) -> Self {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, stopped }
    }

    /// Waits for the next tick. False once the traffic is stopped.
    async fn next(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = self.stopped.wait_for(|stopped| *stopped) => false,
            _ = self.ticks.tick() => true,
        }
    }
}

/// Sends one request, with a JSON body if there is one. Like client-go and so kubectl, it repeats a request that is
/// answered with 429 and a time to wait, up to ten times.
async fn send(
    client: &kube::Client,
    method: &str,
    path: &str,
    body: Option<&serde_json::Value>,
) -> Result<serde_json::Value, kube::Error> {
    let mut retries = RETRIES;
    loop {
        let answer = send_once(client, method, path, body).await;
        let Err(kube::Error::Api(status)) = &answer else { return answer };
        let wait = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        if status.code != 429 || wait == 0 || retries == 0 {
            return answer;
        }
        retries -= 1;
        tokio::time::sleep(Duration::from_secs(wait.into())).await;
    }
}

async fn send_once(
    client: &kube::Client,
    method: &str,
    path: &str,
    body: Option<&serde_json::Value>,
) -> Result<serde_json::Value, kube::Error> {
    let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, content_type)
        .body(body.map(|body| body.to_string().into_bytes()).unwrap_or_default())
        .map_err(kube::Error::HttpError)?;
    let answer = tokio::time::timeout(TIMEOUT, client.request(request)).await;
    answer.unwrap_or_else(|late| Err(kube::Error::Service(late.into())))
}
