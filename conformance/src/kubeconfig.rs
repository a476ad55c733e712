//! Kubeconfig files, and clients made from them.

use std::path::Path;

use anyhow::Context;
use gatehouse_certs::issue::KeyPair;
use k8s_openapi::ByteString;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

/// Writes a self-contained kubeconfig that only its owner can read.
pub fn write(
    path: &Path,
    server: &str,
    server_ca: &str,
    user: &str,
    identity: &KeyPair,
) -> anyhow::Result<()> {
    let base64 = |pem: &str| ByteString(pem.as_bytes().to_vec());
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "gatehouse",
            "cluster": {"server": server, "certificate-authority-data": base64(server_ca)},
        }],
        "users": [{
            "name": user,
            "user": {
                "client-certificate-data": base64(&identity.certificate_pem),
                "client-key-data": base64(&identity.key_pem),
            },
        }],
        "contexts": [{"name": "gatehouse", "context": {"cluster": "gatehouse", "user": user}}],
        "current-context": "gatehouse",
    });
    write_private(path, &serde_saphyr::to_string(&config)?)
}

/// A client that is the user of a kubeconfig file, and takes a first error for an answer: tests are about those.
pub async fn client(path: &Path) -> anyhow::Result<kube::Client> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(kube::Client::try_from(config)?)
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = std::fs::OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}
