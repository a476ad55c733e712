//! Does what cert-manager and its CA injector do for the chart's objects in the mode cert-manager.
//!
//! Each Certificate gets its Secret from one CA, once. The CA is injected into what has the annotation, as cert-manager
//! 1.21 does: appended to the bundle that is there, by server-side apply with force, and again after every change.

use std::time::Duration;

use anyhow::Context;
use gatehouse_apiservice::registration::webhooks::NAME as CONFIGURATIONS;
use gatehouse_apiservice::registration::{NAMESPACE, api_service_name};
use gatehouse_certs::issue::{Authority, Leaf, Usage};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::load::{self, Manifest};
use crate::progress;

const ANNOTATION: &str = "/metadata/annotations/cert-manager.io~1inject-ca-from";
const FIELD_MANAGER: &str = "cert-manager-cainjector";

/// How often it looks; cert-manager watches.
const PERIOD: Duration = Duration::from_millis(250);
/// Longer than any run.
const LIFETIME: Duration = Duration::from_hours(90 * 24);

/// Dropped, it stops.
pub struct CertManager {
    ca: String,
    task: JoinHandle<()>,
}

impl CertManager {
    /// Starts it; the definitions of its kinds must exist.
    pub fn start(client: kube::Client) -> anyhow::Result<Self> {
        let authority = Authority::new("gatehouse-ca")?;
        let ca = authority.certificate_pem().to_owned();
        let task = tokio::spawn(async move {
            let mut last = String::new();
            loop {
                // Like a controller's, a failed round is repeated.
                if let Err(error) = reconcile(&client, &authority).await {
                    let error = error.to_string();
                    if error != last {
                        progress::say(format_args!("cert-manager: {error}"));
                        last = error;
                    }
                }
                tokio::time::sleep(PERIOD).await;
            }
        });
        Ok(Self { ca, task })
    }

    /// The CA that it issues with, as PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }
}

impl Drop for CertManager {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn reconcile(client: &kube::Client, authority: &Authority) -> anyhow::Result<()> {
    let path = format!("/apis/cert-manager.io/v1/namespaces/{NAMESPACE}/certificates");
    let certificates = get(client, &path).await?.context("its kinds are not served")?;
    for certificate in certificates["items"].as_array().into_iter().flatten() {
        let name = certificate["spec"]["secretName"].as_str().context("a Secret's name")?;
        let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/{name}");
        if get(client, &path).await?.is_none() {
            let object = secret(certificate, name, authority)?;
            load::apply(client, vec![Manifest { origin: "(cert-manager)".to_owned(), object }]).await?;
        }
    }
    let registrations = [
        format!("/apis/apiregistration.k8s.io/v1/apiservices/{}", api_service_name()),
        format!("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{CONFIGURATIONS}"),
        format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{CONFIGURATIONS}"),
    ];
    for path in registrations {
        if let Some(live) = get(client, &path).await?
            && live.pointer(ANNOTATION).is_some()
            && let Some(wanted) = injected(&live, authority.certificate_pem())?
        {
            let uri = format!("{path}?fieldManager={FIELD_MANAGER}&force=true");
            let request = http::Request::patch(uri)
                .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
                .body(wanted.to_string().into_bytes())?;
            client.request::<Value>(request).await?;
        }
    }
    Ok(())
}

async fn get(client: &kube::Client, path: &str) -> anyhow::Result<Option<Value>> {
    match client.request(http::Request::get(path).body(Vec::new())?).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        answer => Ok(Some(answer?)),
    }
}

/// The Secret of a Certificate: a leaf, or the CA itself.
fn secret(certificate: &Value, name: &str, authority: &Authority) -> anyhow::Result<Value> {
    let spec = &certificate["spec"];
    let (certificate, key) = if spec["isCA"] == true {
        (authority.certificate_pem().to_owned(), authority.key_pem())
    } else {
        let dns_names: Vec<String> = serde_json::from_value(spec["dnsNames"].clone())?;
        let issued = authority.issue(&Leaf {
            common_name: String::new(),
            organization: None,
            dns_names,
            ips: Vec::new(),
            usage: Usage::ServerAuth,
            lifetime: LIFETIME,
        })?;
        (issued.certificate_pem, issued.key_pem)
    };
    Ok(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": {"tls.crt": certificate, "tls.key": key, "ca.crt": authority.certificate_pem()},
    }))
}

/// What the injector applies; `None` if each caBundle has the CA already.
fn injected(live: &Value, ca: &str) -> anyhow::Result<Option<Value>> {
    let mut wanted = json!({
        "apiVersion": live["apiVersion"], "kind": live["kind"],
        "metadata": {"name": live["metadata"]["name"]},
    });
    let mut changes = false;
    let mut with_ca = |bundle: &Value| {
        let bundle = bundle_text(bundle)?;
        let has_it = bundle.contains(ca.trim());
        changes |= !has_it;
        let bundle = if has_it { bundle } else { bundle + ca };
        anyhow::Ok(json!(ByteString(bundle.into_bytes())))
    };
    if let Some(webhooks) = live["webhooks"].as_array() {
        let ours = webhooks.iter().map(|webhook| {
            let bundle = with_ca(&webhook["clientConfig"]["caBundle"])?;
            Ok(json!({"name": webhook["name"], "clientConfig": {"caBundle": bundle}}))
        });
        wanted["webhooks"] = ours.collect::<anyhow::Result<_>>()?;
    } else {
        wanted["spec"] = json!({"caBundle": with_ca(&live["spec"]["caBundle"])?});
    }
    Ok(changes.then_some(wanted))
}

/// A caBundle as PEM; empty if there is none.
fn bundle_text(bundle: &Value) -> anyhow::Result<String> {
    if bundle.is_null() {
        return Ok(String::new());
    }
    let ByteString(bytes) = serde_json::from_value(bundle.clone())?;
    Ok(String::from_utf8(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ca_is_appended_once_to_each_bundle() {
        let encoded = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
        let webhook = |bundle: Value| json!({"name": "a", "clientConfig": {"caBundle": bundle}});
        let live = json!({"webhooks": [webhook(Value::Null), webhook(encoded("old\n"))]});
        let wanted = injected(&live, "ca\n").expect("bundles").expect("a change");
        assert_eq!(wanted["webhooks"], json!([webhook(encoded("ca\n")), webhook(encoded("old\nca\n"))]));
        assert_eq!(injected(&wanted, "ca\n").expect("bundles"), None);
    }
}
