//! Runs the Deployments of a release on a control plane, with processes instead of pods.
//!
//! There are no controllers, so this module does their work: it starts the processes of a Deployment with its
//! container's arguments, its volumes and its service account's name, replaces them when its pod template has
//! changed, and writes the EndpointSlices of Services.

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::{NAME as VIEWS, NAMESPACE};
use serde_json::{Value, json};

use super::{Deployment, Egress, Executables, volumes};
use crate::control_plane::ControlPlane;
use crate::gatehouse::{self, Certificate, Options, Serves};
use crate::load::{self, Manifest};
use crate::webhooks;

/// The name of the webhooks' Deployment and Service in the chart.
const WEBHOOKS: &str = "gatehouse-webhooks";

/// The flag of the port. All pods may use the same port, but processes need different ones.
const PORT: &str = "--secure-port=";

/// A release. Dropping it stops its processes.
pub struct Installation {
    /// `gatehouse apiserver`.
    pub views: Deployment,
    /// `gatehouse webhooks`.
    pub webhooks: Deployment,
    /// The Deployments as they were when their processes were started.
    rolled_out: [Value; 2],
    executables: Executables,
}

impl Installation {
    /// Applies rendered manifests, starts the Deployments among them, and waits until both are registered.
    pub async fn install(
        control_plane: &ControlPlane,
        egress: &Egress,
        manifests: Vec<Manifest>,
    ) -> anyhow::Result<Self> {
        load::apply(&control_plane.client().await?, manifests).await?;
        Self::start(control_plane, egress, Executables::tested().await?).await
    }

    /// Starts the Deployments that are in the cluster, and waits until both are registered.
    pub async fn start(
        control_plane: &ControlPlane,
        egress: &Egress,
        executables: Executables,
    ) -> anyhow::Result<Self> {
        let client = control_plane.client().await?;
        let start = async |name: &str, serves: Serves| {
            let rendered = read(&client, name).await?;
            let options = options(control_plane, &client, &rendered, serves, &executables).await?;
            let deployment = Deployment::start(control_plane, replicas(&rendered)?, options).await?;
            serve(&client, egress, &rendered, deployment.spread().port()).await?;
            anyhow::Ok((deployment, rendered))
        };
        let ((views, of_views), (webhooks, of_webhooks)) =
            tokio::try_join!(start(VIEWS, Serves::Views), start(WEBHOOKS, Serves::Webhooks))?;
        let installation = Self { views, webhooks, rolled_out: [of_views, of_webhooks], executables };
        registered(&client).await?;
        Ok(installation)
    }

    /// Replaces the replicas of each Deployment whose pod template has changed in the cluster, and waits until both are
    /// registered.
    pub async fn follow(&mut self, control_plane: &ControlPlane) -> anyhow::Result<()> {
        self.roll_out(control_plane).await?;
        registered(&control_plane.client().await?).await
    }

    /// Replaces the replicas of each Deployment whose pod template has changed in the cluster.
    pub async fn roll_out(&mut self, control_plane: &ControlPlane) -> anyhow::Result<()> {
        let client = control_plane.client().await?;
        let executables = &self.executables;
        let follow = async |name: &str, serves: Serves, runs: &mut Deployment, before: &mut Value| {
            let rendered = read(&client, name).await?;
            ensure!(replicas(&rendered)? == replicas(before)?, "{name}: another number of replicas");
            let template = |deployment: &Value| deployment["spec"]["template"].clone();
            if template(&rendered) != template(before) {
                let options = options(control_plane, &client, &rendered, serves, executables).await?;
                runs.roll(control_plane, options).await?;
            }
            *before = rendered;
            anyhow::Ok(())
        };
        let [of_views, of_webhooks] = &mut self.rolled_out;
        tokio::try_join!(
            follow(VIEWS, Serves::Views, &mut self.views, of_views),
            follow(WEBHOOKS, Serves::Webhooks, &mut self.webhooks, of_webhooks),
        )?;
        Ok(())
    }

    /// Stops all processes in order.
    pub async fn end(self) -> anyhow::Result<()> {
        tokio::try_join!(self.views.end(), self.webhooks.end()).map(drop)
    }
}

async fn registered(client: &kube::Client) -> anyhow::Result<()> {
    gatehouse::wait_until_available(client).await?;
    webhooks::wait_until_registered(client).await
}

async fn read(client: &kube::Client, name: &str) -> anyhow::Result<Value> {
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}");
    let request = http::Request::get(path).body(Vec::new())?;
    client.request(request).await.with_context(|| format!("Deployment {name}"))
}

fn replicas(deployment: &Value) -> anyhow::Result<usize> {
    Ok(usize::try_from(deployment["spec"]["replicas"].as_u64().context("a number of replicas")?)?)
}

/// The options of a Deployment's processes.
async fn options(
    control_plane: &ControlPlane,
    client: &kube::Client,
    deployment: &Value,
    serves: Serves,
    executables: &Executables,
) -> anyhow::Result<Options> {
    let pod = &deployment["spec"]["template"]["spec"];
    let name = deployment["metadata"]["name"].as_str().context("a name")?;
    ensure!(pod["serviceAccountName"] == name, "{name}: an account of another name");
    let folder = tempfile::Builder::new().prefix("volumes-").tempdir_in(control_plane.folder())?;
    // Removed with the control plane.
    let args = volumes::mount(client, NAMESPACE, pod, &folder.keep()).await?;
    let (subcommand, flags) = args.split_first().context("arguments")?;
    ensure!(subcommand == serves.subcommand(), "{name} runs {subcommand}");
    let flags = flags.iter().filter(|flag| !flag.starts_with(PORT));
    let image = pod["containers"][0]["image"].as_str().context("an image")?;
    Ok(Options {
        serves,
        executable: Some(executables.of(image)?),
        name: Some(name.to_owned()),
        flags: flags.cloned().collect(),
        certificate: Certificate::OfFlags,
        takes_its_time: true,
        ..Options::default()
    })
}

/// Does what the endpoint controllers and kube-proxy do for a Deployment's Service.
async fn serve(client: &kube::Client, egress: &Egress, deployment: &Value, port: u16) -> anyhow::Result<()> {
    let name = deployment["metadata"]["name"].as_str().context("a name")?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/services/{name}");
    let service: Value = client.request(http::Request::get(path).body(Vec::new())?).await?;
    let address = service["spec"]["clusterIP"].as_str().context("a Service with an address")?;
    let served = &service["spec"]["ports"][0];
    egress.route(format!("{address}:{}", served["port"]), port);
    // The aggregator only checks that there is a ready endpoint, whatever its address.
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": name},
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": name, "uid": service["metadata"]["uid"],
            }],
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": true}}],
        "ports": [{"name": served["name"], "port": 6443, "protocol": "TCP"}],
    });
    load::apply(client, vec![Manifest { origin: "(endpoints)".to_owned(), object: slice }]).await
}
