//! Replicas of `gatehouse webhooks` behind one address, and their registration.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use gatehouse_apiservice::registration::webhooks::{
    self as registration, Address, FailurePolicy, TIMEOUT_SECONDS,
};
use gatehouse_webhooks::intercepted;
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::crds;
use crate::gatehouse::{Awaited, Gatehouse, Options, Serves, apply};
use crate::load;
use crate::pace::patience;
use crate::progress::during;
use crate::spread::Spread;

/// kube-apiserver reads a changed webhook configuration within a second; a busy machine takes longer.
const REGISTERED_TIMEOUT: Duration = Duration::from_mins(1);

/// The options of a set of replicas.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The executable. `None`: it is found or built.
    pub executable: Option<PathBuf>,
    /// The prefix of the replicas' names; `webhooks` by default.
    pub name: Option<String>,
    /// Flags that are appended to those of each replica.
    pub flags: Vec<String>,
    /// The kubeconfig of the replicas. `None`: they connect directly, with their own account.
    pub kubeconfig: Option<PathBuf>,
}

/// Replicas by number. Dropping them stops them.
pub struct Webhooks {
    // Dropped before the address that leads to them.
    replicas: Vec<Gatehouse>,
    spread: Spread,
}

impl Webhooks {
    /// Starts `replicas` replicas and waits until each is ready. [`prepare`] must have run.
    pub async fn start(
        control_plane: &ControlPlane,
        replicas: usize,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let executable = match &settings.executable {
            Some(executable) => executable.clone(),
            None => crate::gatehouse::executable().await?,
        };
        let prefix = settings.name.as_deref().unwrap_or("webhooks");
        let spread = Spread::start().await?;
        let options = |number: usize| Options {
            serves: Serves::Webhooks,
            executable: Some(executable.clone()),
            name: Some(format!("{prefix}-{number}")),
            flags: settings.flags.clone(),
            kubeconfig: settings.kubeconfig.clone(),
            awaited: Awaited::Ready,
            ..Options::default()
        };
        let options: Vec<_> = (0..replicas).map(options).collect();
        let started = options.iter().map(|options| Gatehouse::start(control_plane, options));
        let replicas = futures::future::try_join_all(started).await?;
        for replica in &replicas {
            spread.add(replica.port());
        }
        Ok(Self { replicas, spread })
    }

    /// The number of replicas, running or not.
    pub fn len(&self) -> usize {
        self.replicas.len()
    }

    /// Whether there are no replicas.
    pub fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    /// A replica, running or not.
    pub fn replica(&self, number: usize) -> &Gatehouse {
        &self.replicas[number]
    }

    /// The URL of the shared address.
    pub fn url(&self) -> String {
        self.spread.url()
    }

    /// The CAs of the replicas' serving certificates, as PEM.
    pub fn ca_bundle(&self) -> String {
        self.replicas.iter().map(Gatehouse::serving_ca).collect()
    }

    /// The webhook configurations that name the shared address.
    pub fn configurations(&self) -> [Value; 2] {
        configurations(Address::Url(self.url()), self.ca_bundle())
    }

    /// Creates the webhook configurations, and waits until the webhooks review requests.
    pub async fn register(&self, control_plane: &ControlPlane) -> anyhow::Result<()> {
        let client = control_plane.client().await?;
        apply(&client, self.configurations().into()).await?;
        during("registering the webhooks", wait_until_registered(&client)).await
    }

    /// Kills a replica as a crash would: it gets connections until it is dead, and loses those that are open.
    pub async fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        let replica = &mut self.replicas[number];
        replica.kill().await?;
        self.spread.remove(replica.port());
        Ok(())
    }

    /// Stops a replica in order: it gets no new connections from now on.
    pub async fn stop(&mut self, number: usize) -> anyhow::Result<()> {
        let replica = &mut self.replicas[number];
        self.spread.remove(replica.port());
        replica.stop().await?;
        Ok(())
    }

    /// Starts a replica that was killed or stopped, and waits until it is ready.
    pub async fn launch(&mut self, number: usize) -> anyhow::Result<()> {
        let replica = &mut self.replicas[number];
        replica.launch().await?;
        self.spread.add(replica.port());
        Ok(())
    }

    /// Stops all replicas in order.
    pub async fn end(mut self) -> anyhow::Result<()> {
        for number in 0..self.replicas.len() {
            self.stop(number).await?;
        }
        Ok(())
    }
}

/// The webhook configurations for an address.
pub fn configurations(address: Address, ca_bundle: String) -> [Value; 2] {
    let webhooks = registration::Webhooks {
        address,
        ca_bundle,
        governed: intercepted::governed(),
        charged: intercepted::charged(),
        counted: intercepted::counted(),
        policies: FailurePolicy::Fail,
        excluded: Vec::new(),
        timeout_seconds: TIMEOUT_SECONDS,
    };
    webhooks.configurations()
}

/// Installs the CRDs of `policy.gatehouse.dev` and the rights of the webhooks' account.
pub async fn prepare(control_plane: &ControlPlane) -> anyhow::Result<()> {
    let client = control_plane.client().await?;
    load::apply(&client, crds::policy()).await?;
    wait_until_served(&client).await?;
    apply(&client, crate::registration::webhooks()).await
}

/// kube-apiserver serves a CRD a moment after it has accepted it.
async fn wait_until_served(client: &kube::Client) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience(REGISTERED_TIMEOUT);
    loop {
        let request = http::Request::get("/apis/policy.gatehouse.dev/v1alpha1").body(Vec::new())?;
        let text = client.request_text(request).await.unwrap_or_default();
        if ["tenantquotas", "reconcilepolicies", "quotaledgers"].iter().all(|plural| text.contains(plural)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "policy.gatehouse.dev is not served: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Creates a TenantQuota with a negative limit, as a dry run, until Gatehouse refuses it.
pub(crate) async fn wait_until_registered(client: &kube::Client) -> anyhow::Result<()> {
    let probe = json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1",
        "kind": "TenantQuota",
        "metadata": {"name": "are-webhooks-registered"},
        "spec": {"namespaceSelector": {}, "hard": {"players": "-1"}},
    });
    let path = "/apis/policy.gatehouse.dev/v1alpha1/tenantquotas?dryRun=All";
    let deadline = Instant::now() + patience(REGISTERED_TIMEOUT);
    loop {
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(&probe)?)?;
        let answer = match client.request_text(request).await {
            Ok(_) => "it was admitted".to_owned(),
            Err(kube::Error::Api(status)) if status.message.contains("hard[players]") => return Ok(()),
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            bail!("the webhooks do not refuse a negative quota: {answer}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The metrics of a replica, in Prometheus' text format.
pub async fn metrics(control_plane: &ControlPlane, replica: &Gatehouse) -> anyhow::Result<String> {
    let kubeconfig = replica.kubeconfig_for(control_plane, "metrics", Some("system:masters"))?;
    let client = crate::kubeconfig::client(&kubeconfig).await?;
    let request = http::Request::get("/metrics").body(Vec::new())?;
    client.request_text(request).await.context("/metrics")
}
