//! Webhooks that require a certificate of their callers, and a kube-apiserver whose AdmissionConfiguration has one.

use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;
use gatehouse_certs::issue::Authority;
use gatehouse_conformance::control_plane::{ControlPlane, Options, client_identity};
use gatehouse_conformance::webhooks::{self, Settings, Webhooks};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::gate::{Gate, Side, apply, creation, kustomization};
use crate::site::{Endpoint, Site};

const NAMESPACE: &str = "certificate";

pub(super) async fn required() -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("gatehouse-admission-").tempdir()?;
    let authority = Authority::new("webhooks' callers")?;
    let configuration = configure(folder.path(), &authority)?;
    let flags = vec![format!("--admission-control-config-file={configuration}")];
    let control_plane =
        Arc::new(ControlPlane::start(&Options { api_server_flags: flags, ..Options::default() }).await?);
    let (site, gatehouse) = Site::new(Arc::clone(&control_plane)).await?;
    let site = Arc::new(site);
    webhooks::prepare(&control_plane).await?;

    // Who reads metrics and health has a certificate of the cluster's CA.
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, [authority.certificate_pem(), control_plane.client_ca().certificate_pem()].concat())?;
    let settings = Settings {
        executable: site.options.executable.clone(),
        flags: vec![format!("--client-ca-file={}", ca.display())],
        ..Settings::default()
    };
    let webhooks = Webhooks::start(&control_plane, 1, &settings).await?;
    webhooks.register(&control_plane).await?;
    let replica = webhooks.replica(0);
    let kubeconfig = replica.kubeconfig_for(&control_plane, "gate", Some("system:masters"))?;
    let gate = Gate {
        caller: site.caller().await?,
        replicas: vec![Caller::of_kubeconfig(&kubeconfig).await?],
        site,
    };
    gate.namespace(NAMESPACE).await?;
    let unpruned = kustomization(NAMESPACE, "a", json!({"prune": false}));
    gate.policy(NAMESPACE, json!({"rules": {"prune": "Required"}}), &unpruned).await?;

    let kubectl = gate.kubectl()?;
    let refused = apply(&kubectl, Side::Server, std::slice::from_ref(&unpruned), &[]).await?.failed()?;
    ensure!(refused.contains("spec.prune"), "{refused}");
    apply(&kubectl, Side::Server, &[kustomization(NAMESPACE, "b", json!({}))], &[]).await?.ok()?;
    let endpoint = Endpoint::of(replica);
    let stranger = client_identity(&Authority::new("somebody else")?, "system:apiserver", None)?;
    for caller in [Caller::anonymous(&endpoint).await?, Caller::with_certificate(&endpoint, &stranger).await?]
    {
        for path in ["/validate", "/quota", "/mutate"] {
            let answer = caller.post(path, &creation(NAMESPACE, &unpruned)).await?;
            answer.refused(401, "Unauthorized")?;
        }
    }
    drop((gate, gatehouse));
    webhooks.end().await?;
    drop(control_plane);
    Ok(())
}

/// Writes what kube-apiserver presents to webhooks, and returns the file that names it.
fn configure(folder: &Path, authority: &Authority) -> anyhow::Result<String> {
    let identity = client_identity(authority, "kube-apiserver", None)?;
    let user = json!({
        "client-certificate-data": ByteString(identity.certificate_pem.into_bytes()),
        "client-key-data": ByteString(identity.key_pem.into_bytes()),
    });
    // A URL, not a Service, leads to webhooks here, so the name is not the Service's.
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "users": [{"name": "*", "user": user}]});
    let kubeconfig_file = folder.join("webhooks.kubeconfig");
    std::fs::write(&kubeconfig_file, kubeconfig.to_string())?;
    let plugin = |name: &str| -> Value {
        let configuration = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration",
            "kubeConfigFile": kubeconfig_file,
        });
        json!({"name": name, "configuration": configuration})
    };
    let admission = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
        "plugins": [plugin("ValidatingAdmissionWebhook"), plugin("MutatingAdmissionWebhook")],
    });
    let file = folder.join("admission.json");
    std::fs::write(&file, admission.to_string())?;
    Ok(file.display().to_string())
}
