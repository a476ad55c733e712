//! `clusters remove`: the Secret on the hub and, if its context is named, the account on the remote cluster.

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::json;

use super::{
    HubArgs, WriteArgs, cluster_name,
    hub::{Hub, registers, uid_of},
    objects::{Told, Writer},
    sharing::{Hubs, Leaving},
    spoke::Spoke,
};

/// Remove a cluster: delete its Secret on the hub and, with --context, the account and rights on the cluster
///
/// Its rows are gone some seconds later. The account stays as long as other hubs use it, as `clusters add` has recorded.
/// Clusters that other objects register are removed by deleting these objects.
#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// Name of the cluster in the views.
    #[arg(value_name = "NAME", value_parser = cluster_name)]
    name: String,
    /// Context of the cluster, to delete there what `clusters add` has created, unless another hub uses it.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Delete it even if other hubs use it, or if that is not known.
    #[arg(long, requires = "context")]
    force: bool,
    #[command(flatten)]
    write: WriteArgs,
}

impl RemoveArgs {
    pub(super) async fn run(&self, hub_args: &HubArgs) -> anyhow::Result<()> {
        let hub = Hub::connect(hub_args).await?;
        let found = hub.secrets().await?.into_iter().find(|secret| registers(secret, &self.name));
        if found.is_none()
            && let Some(origin) = hub.other_origin(&self.name).await?
        {
            bail!("{} is registered by {origin}: delete that object{}", self.name, by_kubectl(&origin));
        }
        let spoke = match &self.context {
            Some(context) => Some(self.spoke(hub_args, &hub, context, found.as_ref()).await?),
            None => None,
        };
        let on_hub = hub.writer(self.write.dry_run, false, Told::Stdout);
        let is_deleted = match &found {
            Some(secret) => {
                let metadata = json!({"name": secret.name_any(), "namespace": hub.namespace});
                let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata});
                on_hub.delete(&object, secret.uid()).await.context("the hub")?
            }
            None => false,
        };
        if !is_deleted {
            let missing =
                format!("no Secret of namespace {} on the hub registers {}", hub.namespace, self.name);
            // What a run before has not come to is done nevertheless.
            ensure!(spoke.is_some(), "{missing}");
            eprintln!("{missing}");
        }
        if let Some((spoke, leaving)) = spoke {
            let client = spoke.client.clone();
            let writer = Writer { client, dry_run: self.write.dry_run, force: false, told: Told::Stdout };
            match leaving {
                Leaving::Delete => spoke.forget(&writer).await.context("the remote cluster")?,
                Leaving::Keep(hubs) => {
                    spoke.record(&writer, &hubs).await.context("the remote cluster")?;
                    eprintln!("The account stays, and so does its token: {}.", hubs.describe());
                }
            }
        }
        Ok(())
    }

    /// The remote cluster, if it is the one that is registered, and what becomes of the account there.
    async fn spoke(
        &self,
        hub_args: &HubArgs,
        hub: &Hub,
        context: &str,
        secret: Option<&Secret>,
    ) -> anyhow::Result<(Spoke, Leaving)> {
        let spoke = Spoke::connect(hub_args, context).await?;
        let uid = spoke.uid().await?;
        let own = hub.uid().await?;
        Hub::is_not(own.as_deref(), uid.as_deref(), context)?;
        if let (Some(registered), Some(uid)) = (secret.and_then(uid_of), uid.as_deref()) {
            ensure!(
                registered == uid,
                "context {context} is not the cluster that is registered as {}: name that one, or leave --context out",
                self.name
            );
        }
        let leaving = if self.force {
            Leaving::Delete
        } else {
            Hubs::of(&spoke.client).await.context("the remote cluster")?.without(own.as_deref())?
        };
        Ok((spoke, leaving))
    }
}

/// The command that deletes an object by its name in the column ORIGIN.
fn by_kubectl(origin: &str) -> String {
    let parts = origin.split_once(' ').and_then(|(kind, place)| Some((kind, place.split_once('/')?)));
    parts.map_or_else(String::new, |(kind, (namespace, name))| {
        format!(", for example by `kubectl delete {} {name} -n {namespace}`", kind.to_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_another_origin_is_named_with_the_command_that_deletes_it() {
        let text = by_kubectl("ClusterProfile fleet/eu");
        assert_eq!(text, ", for example by `kubectl delete clusterprofile eu -n fleet`");
        assert_eq!(by_kubectl("a folder"), "");
    }
}
