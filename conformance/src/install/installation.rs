//! Installs what the chart renders on a control plane, with processes instead of pods.
//!
//! Every object is applied as rendered. There are no controllers, so this module does their work: it starts
//! the processes of a Deployment with its container's arguments and its service account's name, and writes
//! the EndpointSlices of Services.

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::NAME as VIEWS;
use serde_json::{Value, json};

use super::{Deployment, Egress};
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
}

impl Installation {
    /// Applies the rendered manifests, starts the Deployments, and waits until both are registered.
    pub async fn install(
        control_plane: &ControlPlane,
        egress: &Egress,
        manifests: Vec<Manifest>,
    ) -> anyhow::Result<Self> {
        let client = control_plane.client().await?;
        let (deployments, others): (Vec<_>, Vec<_>) =
            manifests.into_iter().partition(|manifest| manifest.object["kind"] == "Deployment");
        load::apply(&client, others).await?;

        let executable = gatehouse::executable().await?;
        let start = async |name: &str, serves: Serves| {
            let named = |manifest: &&Manifest| manifest.object["metadata"]["name"] == name;
            let rendered = deployments.iter().find(named).with_context(|| format!("no Deployment {name}"))?;
            let replicas = rendered.object["spec"]["replicas"].as_u64().context("a number of replicas")?;
            let options =
                Options { executable: Some(executable.clone()), ..options(&rendered.object, serves)? };
            let replicas = usize::try_from(replicas)?;
            let deployment = Deployment::start(control_plane, replicas, options).await?;
            serve(&client, egress, &rendered.object, deployment.spread().port()).await?;
            anyhow::Ok(deployment)
        };
        let (views, webhooks) =
            tokio::try_join!(start(VIEWS, Serves::Views), start(WEBHOOKS, Serves::Webhooks))?;
        gatehouse::wait_until_available(&client).await?;
        webhooks::wait_until_registered(&client).await?;
        Ok(Self { views, webhooks })
    }

    /// Stops all processes in order.
    pub async fn end(self) -> anyhow::Result<()> {
        tokio::try_join!(self.views.end(), self.webhooks.end()).map(drop)
    }
}

/// The options of a Deployment's processes.
fn options(deployment: &Value, serves: Serves) -> anyhow::Result<Options> {
    let pod = &deployment["spec"]["template"]["spec"];
    let name = deployment["metadata"]["name"].as_str().context("a name")?;
    ensure!(pod["serviceAccountName"] == name, "{name}: an account of another name");
    let args: Vec<String> = serde_json::from_value(pod["containers"][0]["args"].clone())?;
    let (subcommand, flags) = args.split_first().context("arguments")?;
    ensure!(subcommand == serves.subcommand(), "{name} runs {subcommand}");
    let flags = flags.iter().filter(|flag| !flag.starts_with(PORT));
    Ok(Options {
        serves,
        name: Some(name.to_owned()),
        flags: flags.cloned().collect(),
        certificate: Certificate::SelfManaged,
        takes_its_time: true,
        ..Options::default()
    })
}

/// Does what the endpoint controllers and kube-proxy do for a Deployment's Service.
async fn serve(client: &kube::Client, egress: &Egress, deployment: &Value, port: u16) -> anyhow::Result<()> {
    let metadata = &deployment["metadata"];
    let (name, namespace) = (metadata["name"].as_str().unwrap_or_default(), metadata["namespace"].as_str());
    let namespace = namespace.context("a namespace")?;
    let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
    let service: Value = client.request(http::Request::get(path).body(Vec::new())?).await?;
    let address = service["spec"]["clusterIP"].as_str().context("a Service with an address")?;
    let served = &service["spec"]["ports"][0];
    egress.route(format!("{address}:{}", served["port"]), port);
    // The aggregator only checks that there is a ready endpoint, whatever its address.
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": true}}],
        "ports": [{"name": served["name"], "port": 6443, "protocol": "TCP"}],
    });
    load::apply(client, vec![Manifest { origin: "(endpoints)".to_owned(), object: slice }]).await
}
