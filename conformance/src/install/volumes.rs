//! The volumes of a pod: Secrets and ConfigMaps as files in a folder, which a kubelet would mount.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use k8s_openapi::ByteString;
use serde_json::Value;

use crate::kubeconfig::write_private;
use crate::pace::patience;

/// Others may have to make a Secret first, which takes them seconds.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Writes the volumes of a pod as they are now, and returns its arguments with the paths of the files.
///
/// Waits, as a kubelet does, until each Secret and ConfigMap exists.
pub(super) async fn mount(
    client: &kube::Client,
    namespace: &str,
    pod: &Value,
    folder: &Path,
) -> anyhow::Result<Vec<String>> {
    let container = &pod["containers"][0];
    let mut args: Vec<String> = serde_json::from_value(container["args"].clone())?;
    for mounted in container["volumeMounts"].as_array().into_iter().flatten() {
        let path = mounted["mountPath"].as_str().context("a path to mount at")?;
        let mut volumes = pod["volumes"].as_array().into_iter().flatten();
        let volume = volumes.find(|volume| volume["name"] == mounted["name"]);
        let volume = volume.with_context(|| format!("no volume for {path}"))?;
        let here = folder.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(&here)?;
        write(client, namespace, volume, &here).await?;
        let here = here.to_str().context("a path of ASCII")?;
        for arg in &mut args {
            *arg = arg.replace(&format!("={path}/"), &format!("={here}/"));
        }
    }
    Ok(args)
}

async fn write(client: &kube::Client, namespace: &str, volume: &Value, here: &Path) -> anyhow::Result<()> {
    let name = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let secret = name(&volume["secret"]["secretName"]);
    let config = name(&volume["configMap"]["name"]);
    let path = match (&secret, &config) {
        (Some(name), None) => format!("/api/v1/namespaces/{namespace}/secrets/{name}"),
        (None, Some(name)) => format!("/api/v1/namespaces/{namespace}/configmaps/{name}"),
        _ => bail!("a volume that is neither a Secret nor a ConfigMap: {volume}"),
    };
    let object = wait(client, &path).await?;
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        let text = if secret.is_some() {
            let ByteString(bytes) = serde_json::from_value(value.clone())?;
            String::from_utf8(bytes)?
        } else {
            value.as_str().context("text")?.to_owned()
        };
        write_private(&here.join(key), &text)?;
    }
    Ok(())
}

async fn wait(client: &kube::Client, path: &str) -> anyhow::Result<Value> {
    let deadline = Instant::now() + patience(TIMEOUT);
    loop {
        match client.request(http::Request::get(path).body(Vec::new())?).await {
            Err(kube::Error::Api(status)) if status.code == 404 && Instant::now() < deadline => {}
            answer => return answer.with_context(|| path.to_owned()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
