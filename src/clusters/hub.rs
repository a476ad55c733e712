//! The hub: the Secrets that register clusters, and what it shows of these.

use anyhow::{Context, bail, ensure};
use gatehouse_apiserver::clusters::{LABEL, identity};
use gatehouse_plugin::{ClusterRow, Connection, PluginError};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Client, ResourceExt,
    api::{Api, ListParams},
};
use serde_json::{Value, json};

use super::{
    DryRun, HubArgs,
    objects::{Told, Writer, refused},
};

/// The annotation with the uid of the cluster that a Secret leads to.
const UID: &str = "gatehouse.dev/cluster-uid";

/// The cluster that shows others.
pub(super) struct Hub {
    pub(super) client: Client,
    pub(super) namespace: String,
    /// Its views.
    pub(super) connection: Connection,
}

impl Hub {
    pub(super) async fn connect(args: &HubArgs) -> anyhow::Result<Self> {
        let client = Client::try_from(args.config().await?).context("the hub")?;
        Ok(Self { client, namespace: args.namespace.clone(), connection: args.connection().await? })
    }

    pub(super) fn writer(&self, dry_run: DryRun, force: bool, told: Told) -> Writer {
        Writer { client: self.client.clone(), dry_run, force, told }
    }

    /// The uid of the hub itself; none, if the user may not read it.
    pub(super) async fn uid(&self) -> anyhow::Result<Option<String>> {
        refused(identity(&self.client).await).context("the hub")
    }

    /// An error if a cluster of the second uid is the hub itself, which has the first.
    pub(super) fn is_not(own: Option<&str>, uid: Option<&str>, context: &str) -> anyhow::Result<()> {
        match (own, uid) {
            (Some(own), Some(uid)) => ensure!(
                own != uid,
                "context {context} is the hub itself (its namespace kube-system has the same uid): name another \
                 --context, or the hub by --hub-context"
            ),
            _ => eprintln!(
                "Warning: you may not list namespaces: whether both clusters are one was not checked."
            ),
        }
        Ok(())
    }

    /// The Secrets that register clusters.
    pub(super) async fn secrets(&self) -> anyhow::Result<Vec<Secret>> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let listed = refused(secrets.list(&ListParams::default().labels(LABEL)).await);
        Ok(listed.context("the Secrets of the hub")?.items)
    }

    /// An error if a name is not free for a cluster of this uid.
    pub(super) async fn is_free(&self, name: &str, uid: Option<&str>) -> anyhow::Result<()> {
        let namespace = &self.namespace;
        is_free(&self.secrets().await?, namespace, name, uid)?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        if let Some(secret) = refused(secrets.get_opt(name).await)? {
            ensure!(
                secret.labels().contains_key(LABEL),
                "Secret {namespace}/{name} exists, and registers no cluster: choose another name"
            );
        }
        let Some(row) = self.row(name).await? else { return Ok(()) };
        let own = self.origin(name);
        match row.origin {
            Some(origin) => ensure!(
                origin == own,
                "{name} is registered by {origin}: choose another name, or delete that object"
            ),
            None => bail!("{name} is the name of the hub itself: choose another one"),
        }
        Ok(())
    }

    /// The row of a cluster; none, if there is none or the hub does not say.
    async fn row(&self, name: &str) -> anyhow::Result<Option<ClusterRow>> {
        match ClusterRow::find(&self.connection, name).await {
            Ok(row) => Ok(row),
            Err(PluginError::NotInstalled | PluginError::Refused(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The object of another origin that registers a cluster, if the hub shows one.
    pub(super) async fn other_origin(&self, name: &str) -> anyhow::Result<Option<String>> {
        let origin = self.row(name).await?.and_then(|row| row.origin);
        Ok(origin.filter(|origin| *origin != self.origin(name)))
    }

    /// What the row of a cluster calls the Secret that this command makes.
    pub(super) fn origin(&self, name: &str) -> String {
        format!("Secret {}/{name}", self.namespace)
    }

    /// The Secret that registers a cluster.
    pub(super) fn secret(&self, name: &str, kubeconfig: &Value, uid: Option<&str>) -> Value {
        let mut metadata = json!({"name": name, "namespace": self.namespace, "labels": {LABEL: name}});
        if let Some(uid) = uid {
            metadata["annotations"] = json!({UID: uid});
        }
        let text = serde_saphyr::to_string(kubeconfig).unwrap_or_else(|_| kubeconfig.to_string());
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata,
            "data": {"value": ByteString(text.into_bytes())},
        })
    }
}

/// The uid of the cluster that a Secret leads to, if it says so.
pub(super) fn uid_of(secret: &Secret) -> Option<&str> {
    secret.annotations().get(UID).map(String::as_str)
}

/// Whether a Secret registers the cluster of this name.
pub(super) fn registers(secret: &Secret, name: &str) -> bool {
    secret.labels().get(LABEL).is_some_and(|label| label == name)
}

fn is_free(secrets: &[Secret], namespace: &str, name: &str, uid: Option<&str>) -> anyhow::Result<()> {
    for secret in secrets {
        let (other, label) = (secret.name_any(), secret.labels().get(LABEL).cloned().unwrap_or_default());
        if label == name && other != name {
            bail!(
                "{name} is registered by Secret {namespace}/{other}: choose another name, or delete that Secret"
            );
        }
        if label != name && other == name {
            bail!("Secret {namespace}/{name} registers {label}: choose another name, or delete that Secret");
        }
        let is_same = uid.is_some() && uid_of(secret) == uid;
        if label != name && is_same {
            bail!("this cluster is registered as {label}: run `gatehouse clusters remove {label}` first");
        }
        if label == name && !is_same && uid_of(secret).is_some() && uid.is_some() {
            bail!(
                "{name} is registered, and is another cluster: choose another name, or run \
                 `gatehouse clusters remove {name}` first"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, label: &str, uid: &str) -> Secret {
        let metadata = json!({"name": name, "labels": {LABEL: label}, "annotations": {UID: uid}});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn a_name_is_free_for_a_new_cluster_and_for_the_one_that_has_it() {
        let check = |secrets: &[Secret], uid: &str| {
            is_free(secrets, "ns", "eu", Some(uid)).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[], "a"), Ok(()));
        assert_eq!(check(&[secret("eu", "eu", "a"), secret("us", "us", "b")], "a"), Ok(()));
        let refused = |secrets: &[Secret], words: &str| {
            let error = check(secrets, "a").unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        refused(&[secret("x", "eu", "a")], "registered by Secret ns/x");
        refused(&[secret("eu", "us", "b")], "Secret ns/eu registers us");
        refused(&[secret("us", "us", "a")], "gatehouse clusters remove us");
        refused(&[secret("eu", "eu", "b")], "is another cluster");
    }
}
