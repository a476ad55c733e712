//! Replicas as a Deployment, a kubelet and a Service would run them: rolling updates with `maxUnavailable: 0`
//! and `maxSurge: 1`, and connections only to replicas whose /readyz succeeds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::task::JoinHandle;

use crate::control_plane::ControlPlane;
use crate::gatehouse::{Gatehouse, Options};
use crate::spread::Spread;

/// The interval of readiness probes. A kubelet probes less often, but a cluster learns of a terminating pod
/// at once, without a probe.
const PROBE: Duration = Duration::from_millis(400);
/// The probe's `timeoutSeconds` and `failureThreshold` in the chart. The threshold counts probes that are not answered in
/// time; other failures have an effect at once.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const PROBE_FAILURES: u32 = 2;
/// The delay from a kubelet's result until all nodes act on it.
const SPREADS: Duration = Duration::from_millis(300);
/// The pods' `terminationGracePeriodSeconds`.
const GRACE: Duration = Duration::from_secs(45);
/// Far longer than a probe and its delay take.
const LISTED: Duration = Duration::from_secs(30);

/// Replicas of one subcommand behind one port. Dropping them stops them.
pub struct Deployment {
    // Dropped before the port that leads to them.
    replicas: Vec<Replica>,
    spread: Arc<Spread>,
    options: Options,
    made: usize,
}

struct Replica {
    // Aborted before the replica that it probes.
    probe: JoinHandle<()>,
    spread: Arc<Spread>,
    gatehouse: Gatehouse,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.probe.abort();
        // The probe may not have seen that it has ended.
        self.spread.remove(self.gatehouse.port());
    }
}

impl Deployment {
    /// Starts `replicas` replicas and waits until each gets connections. Their names are the name in
    /// `options` and a number.
    pub async fn start(
        control_plane: &ControlPlane,
        replicas: usize,
        options: Options,
    ) -> anyhow::Result<Self> {
        let spread = Arc::new(Spread::strict().await?);
        let mut deployment = Self { replicas: Vec::new(), spread, options, made: 0 };
        for _ in 0..replicas {
            let replica = deployment.another(control_plane).await?;
            deployment.replicas.push(replica);
        }
        Ok(deployment)
    }

    /// The load balancer in front of the replicas.
    pub fn spread(&self) -> &Spread {
        &self.spread
    }

    /// The running replicas.
    pub fn replicas(&self) -> impl Iterator<Item = &Gatehouse> {
        self.replicas.iter().map(|replica| &replica.gatehouse)
    }

    /// How many replicas have been started so far.
    pub fn made(&self) -> usize {
        self.made
    }

    /// Replaces all replicas one after another: a new replica is ready before an old one is stopped.
    pub async fn restart(&mut self, control_plane: &ControlPlane) -> anyhow::Result<()> {
        for _ in 0..self.replicas.len() {
            let next = self.another(control_plane).await?;
            let mut last = std::mem::replace(&mut self.replicas[0], next);
            self.replicas.rotate_left(1);
            end(&mut last).await?;
        }
        Ok(())
    }

    /// The same with other options, as after a change of the pod template.
    pub async fn roll(&mut self, control_plane: &ControlPlane, options: Options) -> anyhow::Result<()> {
        self.options = options;
        self.restart(control_plane).await
    }

    /// Stops all replicas in order.
    pub async fn end(mut self) -> anyhow::Result<()> {
        futures::future::try_join_all(self.replicas.iter_mut().map(end)).await.map(drop)
    }

    async fn another(&mut self, control_plane: &ControlPlane) -> anyhow::Result<Replica> {
        self.made += 1;
        let prefix = self.options.name.as_deref().unwrap_or("gatehouse");
        let options = Options { name: Some(format!("{prefix}-{}", self.made)), ..self.options.clone() };
        let gatehouse = Gatehouse::start(control_plane, &options).await?;
        let port = gatehouse.port();
        let probe = tokio::spawn(probe(gatehouse.prober().await?, Arc::clone(&self.spread), port));
        let replica = Replica { probe, spread: Arc::clone(&self.spread), gatehouse };
        let deadline = Instant::now() + LISTED;
        while !self.spread.has(port) {
            ensure!(Instant::now() < deadline, "{prefix} was ready, and is not any more");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(replica)
    }
}

/// Stops a replica. Its probe continues until it has ended.
async fn end(replica: &mut Replica) -> anyhow::Result<()> {
    let status = replica.gatehouse.terminate(GRACE).await?;
    ensure!(status.success(), "a replica that was asked to end: {status}");
    Ok(())
}

/// Adds the replica to the load balancer while it is ready, and removes it while it is not.
async fn probe(client: kube::Client, spread: Arc<Spread>, port: u16) {
    let mut unanswered = 0;
    loop {
        let request = http::Request::get("/readyz").body(Vec::new()).expect("a path makes a request");
        let asked = tokio::time::timeout(PROBE_TIMEOUT, client.request_text(request)).await;
        unanswered = if asked.is_err() { unanswered + 1 } else { 0 };
        let is_ready = match asked {
            Ok(answer) => answer.is_ok(),
            // One probe that a busy machine answers too late does not remove a replica.
            Err(_) => spread.has(port) && unanswered < PROBE_FAILURES,
        };
        if is_ready != spread.has(port) {
            tokio::time::sleep(SPREADS).await;
            if is_ready { spread.add(port) } else { spread.remove(port) }
        }
        tokio::time::sleep(PROBE).await;
    }
}
