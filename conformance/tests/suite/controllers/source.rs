//! What is to be deployed: files in an artifact of a registry, which an OCIRepository fetches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use gatehouse_conformance::registry::Registry;
use serde_json::{Value, json};
use tar::{Builder, Header};

use super::Scene;
use crate::relay::Relay;

/// How often source-controller asks for a new revision.
const INTERVAL: &str = "2s";

/// A repository, which can be cut off.
pub(super) struct Source {
    registry: Arc<Registry>,
    relay: Relay,
    repository: String,
    revision: AtomicU32,
}

impl Source {
    /// An empty one.
    pub(super) async fn new(scene: &Scene, repository: &str) -> anyhow::Result<Self> {
        let relay = Relay::to(scene.registry.port()).await?;
        relay.mend();
        let (repository, revision) = (repository.to_owned(), AtomicU32::default());
        Ok(Self { registry: Arc::clone(&scene.registry), relay, repository, revision })
    }

    /// The object that fetches it.
    pub(super) fn object(&self, namespace: &str) -> Value {
        json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "OCIRepository",
            "metadata": {"namespace": namespace, "name": "source"},
            "spec": {
                "interval": INTERVAL, "timeout": "5s", "insecure": true, "ref": {"tag": "latest"},
                "url": format!("oci://{}/{}", self.relay.authority(), self.repository),
            },
        })
    }

    /// Replaces its content, as a revision that was never there before.
    pub(super) async fn push(&self, files: &[(&str, Value)]) -> anyhow::Result<()> {
        let number = self.revision.fetch_add(1, Ordering::Relaxed);
        let file = tempfile::Builder::new().prefix("gatehouse-").suffix(".tar.gz").tempfile()?;
        let mut archive = Builder::new(GzEncoder::new(file.as_file(), Compression::fast()));
        let number = ("revision", Value::from(number));
        for (path, content) in files.iter().chain([&number]) {
            // YAML includes JSON.
            let content = content.to_string();
            let mut header = Header::new_gnu();
            header.set_size(content.len().try_into()?);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, content.as_bytes())?;
        }
        archive.into_inner()?.finish()?;
        let tag = self.registry.reference(&format!("{}:latest", self.repository));
        let path = file.path().as_os_str();
        self.registry
            .crane(["append".as_ref(), "--new_layer".as_ref(), path, "--new_tag".as_ref(), tag.as_ref()])
            .await?;
        Ok(())
    }

    /// Refuses connections.
    pub(super) fn cut(&self) {
        self.relay.cut();
    }

    /// Accepts connections again.
    pub(super) fn mend(&self) {
        self.relay.mend();
    }
}

/// The `kustomization.yaml` of a folder.
pub(super) fn listed(files: &[&str]) -> Value {
    json!({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": files})
}

/// A Kustomization of a folder of the source, which is tried again at once, with these fields besides.
pub(super) fn deploys(namespace: &str, name: &str, fields: Value) -> Value {
    let mut object = json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "interval": "3s", "retryInterval": "1s", "timeout": "5s", "prune": true, "path": format!("./{name}"),
            "sourceRef": {"kind": "OCIRepository", "name": "source"},
        },
    });
    crate::gate::merge(&mut object["spec"], fields);
    object
}
