//! Writes kubeconfig files and creates clients from them.

use std::path::Path;

use anyhow::Context;
use gatehouse_apiservice::kubeconfig::{Access, document};
use gatehouse_certs::issue::KeyPair;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Writes a self-contained kubeconfig that only its owner can read.
pub fn write(
    path: &Path,
    server: &str,
    server_ca: &str,
    user: &str,
    identity: &KeyPair,
) -> anyhow::Result<()> {
    let access =
        Access { server, server_ca, user, certificate: &identity.certificate_pem, key: &identity.key_pem };
    write_private(path, &document(access).to_string())
}

/// A client with the user of a kubeconfig file. It does not retry requests, because tests are about single
/// responses.
pub async fn client(path: &Path) -> anyhow::Result<kube::Client> {
    Ok(kube::Client::try_from(config(path).await?)?)
}

/// The configuration of such a client.
pub async fn config(path: &Path) -> anyhow::Result<kube::Config> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(config)
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
