//! What a Deployment, a kubelet and a Service do for replicas, on loopback: `maxUnavailable: 0`, `maxSurge: 1`, and
//! connections for those alone that answer /readyz.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::task::JoinHandle;

use crate::control_plane::ControlPlane;
use crate::gatehouse::{Gatehouse, Options};
use crate::spread::Spread;

/// How often a replica is asked whether it is ready. A kubelet asks less often; but of a pod that is asked to end
/// everybody hears at once, without asking.
const PROBE: Duration = Duration::from_millis(400);
/// As a probe's `timeoutSeconds`.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// From what a kubelet found out until every node goes by it.
const SPREADS: Duration = Duration::from_millis(300);
/// As the pods' `terminationGracePeriodSeconds`.
const GRACE: Duration = Duration::from_secs(45);
/// Far longer than probes and news take.
const LISTED: Duration = Duration::from_secs(30);

/// Replicas of one kind behind one port. Dropped, they stop.
pub struct Deployment {
    // Before what leads to them.
    replicas: Vec<Replica>,
    spread: Arc<Spread>,
    options: Options,
    made: usize,
}

struct Replica {
    // Before what it asks.
    probe: JoinHandle<()>,
    gatehouse: Gatehouse,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.probe.abort();
    }
}

impl Deployment {
    /// Starts so many of them, and waits until connections come to each. Their names are that of `options` and a
    /// number.
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

    /// What leads to the replicas.
    pub fn spread(&self) -> &Spread {
        &self.spread
    }

    /// Those that run.
    pub fn replicas(&self) -> impl Iterator<Item = &Gatehouse> {
        self.replicas.iter().map(|replica| &replica.gatehouse)
    }

    /// How many have been started.
    pub fn made(&self) -> usize {
        self.made
    }

    /// Replaces every replica, one after another: the next one is there before the last one is asked to end.
    pub async fn restart(&mut self, control_plane: &ControlPlane) -> anyhow::Result<()> {
        for _ in 0..self.replicas.len() {
            let next = self.another(control_plane).await?;
            let mut last = std::mem::replace(&mut self.replicas[0], next);
            self.replicas.rotate_left(1);
            end(&mut last).await?;
        }
        Ok(())
    }

    /// Ends all of them in good order.
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
        let replica = Replica { probe, gatehouse };
        let deadline = Instant::now() + LISTED;
        while !self.spread.has(port) {
            ensure!(Instant::now() < deadline, "{prefix} was ready, and is not any more");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(replica)
    }
}

/// Its probe goes on until it has ended.
async fn end(replica: &mut Replica) -> anyhow::Result<()> {
    let status = replica.gatehouse.terminate(GRACE).await?;
    ensure!(status.success(), "a replica that was asked to end: {status}");
    Ok(())
}

/// Lists a replica while it is ready.
async fn probe(client: kube::Client, spread: Arc<Spread>, port: u16) {
    loop {
        let request = http::Request::get("/readyz").body(Vec::new()).expect("a path makes a request");
        let asked = tokio::time::timeout(PROBE_TIMEOUT, client.request_text(request)).await;
        let is_ready = matches!(asked, Ok(Ok(_)));
        if is_ready != spread.has(port) {
            tokio::time::sleep(SPREADS).await;
            if is_ready { spread.add(port) } else { spread.remove(port) }
        }
        tokio::time::sleep(PROBE).await;
    }
}
