//! Every change of `tls.mode`: what replicas serve with is trusted in the end, and nothing is admitted by accident.
//!
//! Requests may fail while replicas of two modes run. They are counted and told, and not judged.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::webhooks::NAME as CONFIGURATIONS;
use gatehouse_apiservice::registration::{NAME as VIEWS, api_service_name, webhook_account};
use gatehouse_certs::issue::{Authority, Leaf, Usage};
use gatehouse_conformance::helm::{self, NAMESPACE, RELEASE};
use gatehouse_conformance::install::{CertManager, Executables, Installation};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::traffic::{self, Traffic};
use gatehouse_conformance::{definitions, progress};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::Mode::{CertManager as Injected, Files, SelfManaged};
use super::{Cluster, traffic_objects};
use crate::world::settles;

/// From one to the next: each change there is, once.
const CHANGES: [Mode; 6] = [Injected, SelfManaged, Files, Injected, Files, SelfManaged];

/// A bundle is written within seconds of the roll-out.
const TRUSTED: Duration = Duration::from_secs(30);
/// How long no request may fail after a change.
const STEADY: Duration = Duration::from_secs(2);

/// `tls.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    SelfManaged,
    Files,
    CertManager,
}

impl Mode {
    fn value(self) -> &'static str {
        match self {
            SelfManaged => "self-managed",
            Files => "files",
            Injected => "cert-manager",
        }
    }

    /// The Secrets that are made in this mode, after the name of the component; `None` where they are the trial's.
    fn secret(self) -> Option<&'static str> {
        match self {
            SelfManaged => Some("tls"),
            Injected => Some("cert-manager"),
            Files => None,
        }
    }
}

/// The two components, by their names in the values, and the names of their Services and of the Secrets of `files`.
const COMPONENTS: [(&str, &str, &str); 2] =
    [("apiserver", VIEWS, "views-certificate"), ("webhooks", webhook_account::NAME, "admission-certificate")];

pub(super) async fn run() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let outcome = changed(&cluster).await;
    cluster.control_plane.stop().await?;
    outcome
}

async fn changed(cluster: &Cluster) -> anyhow::Result<()> {
    load::apply(&cluster.client, definitions::foreign().await?).await?;
    let trial =
        Changes { cluster, cert_manager: CertManager::start(cluster.client.clone())?, own: Own::new()? };
    let (objects, policies) = traffic_objects();
    load::apply(&cluster.client, objects).await?;

    let chart = chart()?;
    let mut install = vec!["install", RELEASE, &chart, "-n", NAMESPACE, "--create-namespace"];
    // What fails meanwhile is not judged, so that replicas need not wait for connections to move.
    let quick = COMPONENTS.map(|(component, ..)| {
        format!("{component}.replicas=1,{component}.extraArgs={{--shutdown-delay-duration=0s,--shutdown-grace=2s}}")
    });
    install.extend(quick.iter().flat_map(|set| ["--set", set]));
    cluster.helm(&install).await?;
    let executables = Executables::tested().await?;
    let mut installation = Installation::start(&cluster.control_plane, &cluster.egress, executables).await?;
    trial.own.secrets(cluster).await?;
    load::apply(&cluster.client, policies).await?;
    traffic::in_force(&cluster.client).await?;

    let mut before = SelfManaged;
    trial.settled(before).await?;
    for mode in CHANGES {
        trial
            .change(&mut installation, before, mode)
            .await
            .with_context(|| format!("{before:?} to {mode:?}"))?;
        before = mode;
    }
    // Revision 5 is with files alone: after install, cert-manager, self-managed, and files with the CA before.
    cluster.helm(&["rollback", RELEASE, "5", "-n", NAMESPACE, "--force-conflicts"]).await?;
    installation.follow(&cluster.control_plane).await?;
    trial.settled(Files).await.context("rolled back")?;
    cluster.helm(&["uninstall", RELEASE, "-n", NAMESPACE]).await?;
    installation.end().await
}

fn chart() -> anyhow::Result<String> {
    Ok(helm::chart().to_str().context("a path of ASCII")?.to_owned())
}

struct Changes<'a> {
    cluster: &'a Cluster,
    cert_manager: CertManager,
    own: Own,
}

impl Changes<'_> {
    /// Changes the mode as the chart's README says, under load.
    async fn change(&self, installation: &mut Installation, before: Mode, mode: Mode) -> anyhow::Result<()> {
        let traffic = Traffic::start(&self.cluster.control_plane, Vec::new()).await?;
        let mut values = vec!["--set".to_owned(), format!("tls.mode={}", mode.value())];
        if mode == Files {
            values.extend(self.own.values(Some(&self.bundles().await?))?);
        }
        self.upgrade(&values).await?;
        installation.roll_out(&self.cluster.control_plane).await?;
        if mode == Files {
            // Once more, since a replica that held the Lease may have written its own bundle; and without the CA of the
            // mode before. Until then kube-apiserver may trust nothing that runs.
            values.truncate(2);
            values.extend(self.own.values(None)?);
            self.upgrade(&values).await?;
        }
        installation.follow(&self.cluster.control_plane).await?;
        self.settled(mode).await?;
        let outcome = traffic.stop().await;
        progress::say(format_args!(
            "helm: {before:?} to {mode:?}: {} of {} requests failed",
            outcome.failed,
            outcome.failed + outcome.total(),
        ));
        ensure!(outcome.unadmitted.is_empty(), "admitted by accident: {:#?}", outcome.unadmitted);

        // They may be deleted now, and whoever comes to need them must not depend on what was there.
        if let Some(suffix) = before.secret() {
            let secrets = COMPONENTS.map(|(_, service, _)| format!("{service}-{suffix}"));
            let [one, other] = &secrets;
            self.cluster.kubectl.run(["delete", "secret", one, other, "-n", NAMESPACE]).await?.ok()?;
        }
        let traffic = Traffic::start(&self.cluster.control_plane, Vec::new()).await?;
        tokio::time::sleep(STEADY).await;
        traffic.stop().await.without_failure()
    }

    async fn upgrade(&self, values: &[String]) -> anyhow::Result<()> {
        let chart = chart()?;
        let mut args = vec!["upgrade", RELEASE, &chart, "-n", NAMESPACE];
        args.extend(["--reset-then-reuse-values", "--force-conflicts"]);
        args.extend(values.iter().map(String::as_str));
        self.cluster.helm(&args).await.map(drop)
    }

    /// Waits until every bundle has the CA that replicas serve with in this mode, and nothing else where one party
    /// alone writes it.
    async fn settled(&self, mode: Mode) -> anyhow::Result<()> {
        let is_right = |bundles: &[String; 2], authorities: &[String; 2]| {
            bundles.iter().zip(authorities).all(|(bundle, authority)| match mode {
                SelfManaged | Files => bundle == authority,
                // It appends to what it finds.
                Injected => bundle.contains(authority.trim()),
            })
        };
        let read = async || Ok((self.bundles().await?, self.authorities(mode).await?));
        settles(format!("{mode:?} is trusted"), TRUSTED, read, |(bundles, authorities)| {
            is_right(bundles, authorities)
        })
        .await?;
        Ok(())
    }

    /// The bundles by which kube-apiserver trusts the components, as PEM.
    async fn bundles(&self) -> anyhow::Result<[String; 2]> {
        let service = format!("/apis/apiregistration.k8s.io/v1/apiservices/{}", api_service_name());
        let webhooks =
            format!("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{CONFIGURATIONS}");
        let views = decoded(&self.get(&service).await?["spec"]["caBundle"])?;
        let configuration = self.get(&webhooks).await?;
        let mut of_webhooks = configuration["webhooks"].as_array().into_iter().flatten();
        let first = decoded(&of_webhooks.next().context("webhooks")?["clientConfig"]["caBundle"])?;
        for webhook in of_webhooks {
            if decoded(&webhook["clientConfig"]["caBundle"])? != first {
                // It is being written.
                return Ok([views, String::new()]);
            }
        }
        Ok([views, first])
    }

    /// The CA of each component's certificate in a mode.
    async fn authorities(&self, mode: Mode) -> anyhow::Result<[String; 2]> {
        match mode {
            Files => Ok([self.own.ca().to_owned(), self.own.ca().to_owned()]),
            Injected => Ok([self.cert_manager.ca().to_owned(), self.cert_manager.ca().to_owned()]),
            SelfManaged => {
                let mut authorities = [String::new(), String::new()];
                for (authority, (_, service, _)) in authorities.iter_mut().zip(COMPONENTS) {
                    let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/{service}-tls");
                    *authority = decoded(&self.get(&path).await?["data"]["ca.crt"])?;
                }
                Ok(authorities)
            }
        }
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = http::Request::get(path).body(Vec::new())?;
        self.cluster.client.request(request).await.with_context(|| path.to_owned())
    }
}

fn decoded(bundle: &Value) -> anyhow::Result<String> {
    if bundle.is_null() {
        return Ok(String::new());
    }
    let ByteString(bytes) = serde_json::from_value(bundle.clone())?;
    Ok(String::from_utf8(bytes)?)
}

/// The certificates of the mode `files`, and a folder with files for Helm.
struct Own {
    authority: Authority,
    folder: TempDir,
}

impl Own {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { authority: Authority::new("corporate-ca")?, folder: tempfile::tempdir()? })
    }

    fn ca(&self) -> &str {
        self.authority.certificate_pem()
    }

    /// Writes the Secrets that the values name.
    async fn secrets(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let mut secrets = Vec::new();
        for (_, service, name) in COMPONENTS {
            let issued = self.authority.issue(&Leaf {
                common_name: service.to_owned(),
                organization: None,
                dns_names: vec![format!("{service}.{NAMESPACE}.svc")],
                ips: Vec::new(),
                usage: Usage::ServerAuth,
                lifetime: Duration::from_hours(1),
            })?;
            let object = json!({
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "stringData": {"tls.crt": issued.certificate_pem, "tls.key": issued.key_pem, "ca.crt": self.ca()},
            });
            secrets.push(Manifest { origin: "(files)".to_owned(), object });
        }
        load::apply(&cluster.client, secrets).await
    }

    /// The values of the mode, with other CAs that are trusted too, if any.
    fn values(&self, others: Option<&[String; 2]>) -> anyhow::Result<Vec<String>> {
        let mut values = Vec::new();
        for (number, (component, _, secret)) in COMPONENTS.iter().enumerate() {
            let other = others.map_or("", |others| &others[number]);
            let path = self.write(component, &format!("{}{other}", self.ca()))?;
            values.extend(["--set".to_owned(), format!("tls.files.{component}.secretName={secret}")]);
            let set = format!("tls.files.{component}.caBundle={}", path.display());
            values.extend(["--set-file".to_owned(), set]);
        }
        Ok(values)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = Path::join(self.folder.path(), name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}
