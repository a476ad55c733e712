//! Flags that say which objects register remote clusters. `gatehouse apiserver` follows them, and `gatehouse manifests`
//! prints the rights for them.

use gatehouse_apiserver::clusters::Origins;
use gatehouse_apiservice::registration::clusters;
use serde_json::Value;

use super::object_name;

/// See the module.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Remote clusters")]
pub(crate) struct OriginArgs {
    /// Namespace with Secrets that register remote clusters, which are then shown, too, to users who may get
    /// clusterhealths/NAME. Each has the label gatehouse.dev/cluster with the cluster's NAME, and a kubeconfig with one
    /// context and a token or a client certificate under the key value. The account of this process needs the rights
    /// that `gatehouse manifests clusters` prints for these flags, and in each remote cluster those of
    /// `gatehouse manifests spoke-rights`.
    #[arg(long, value_name = "NAMESPACE", value_parser = object_name)]
    cluster_secrets_namespace: Option<String>,
    /// Namespaces in which every Cluster of Cluster API is registered, by its Secret <cluster>-kubeconfig. May be
    /// repeated.
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',', value_parser = object_name)]
    cluster_api_namespaces: Vec<String>,
    /// Namespaces in which every cluster Secret of Argo CD registers a cluster. May be repeated.
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',', value_parser = object_name)]
    argocd_cluster_namespaces: Vec<String>,
    /// Namespaces in which every ClusterProfile registers a cluster, if one of its access providers is secretreader or
    /// kubeconfig-secretreader. Nothing is run for these. May be repeated.
    #[arg(
        long,
        value_name = "NAMESPACE",
        value_delimiter = ',',
        value_parser = object_name,
        requires = "cluster_profile_secrets_namespace"
    )]
    cluster_profile_namespaces: Vec<String>,
    /// The only namespace of Secrets that ClusterProfiles may name.
    #[arg(long, value_name = "NAMESPACE", value_parser = object_name, requires = "cluster_profile_namespaces")]
    cluster_profile_secrets_namespace: Option<String>,
}

impl OriginArgs {
    /// What they say.
    pub(crate) fn origins(&self) -> Origins {
        Origins {
            labelled: self.cluster_secrets_namespace.clone(),
            cluster_api: distinct(&self.cluster_api_namespaces),
            argocd: distinct(&self.argocd_cluster_namespaces),
            profiles: distinct(&self.cluster_profile_namespaces),
            profile_secrets: self.cluster_profile_secrets_namespace.clone().unwrap_or_default(),
        }
    }

    /// The rights that they need, and the namespace of labelled Secrets.
    pub(crate) fn rights(&self) -> Vec<Value> {
        let Origins { labelled, cluster_api, argocd, profiles, profile_secrets } = self.origins();
        let mut rights: Vec<Value> =
            labelled.iter().flat_map(|namespace| clusters::rights_in(namespace)).collect();
        rights.extend(cluster_api.iter().flat_map(|namespace| clusters::cluster_api_rights(namespace)));
        rights.extend(argocd.iter().flat_map(|namespace| clusters::argocd_rights(namespace)));
        if !profiles.is_empty() {
            rights.extend(clusters::profile_rights(&profiles, &profile_secrets));
        }
        rights
    }

    /// Whether none is given.
    pub(crate) fn is_empty(&self) -> bool {
        self.origins().is_empty()
    }
}

/// Each once, in their order.
fn distinct(namespaces: &[String]) -> Vec<String> {
    let mut seen = Vec::new();
    for namespace in namespaces {
        if !seen.contains(namespace) {
            seen.push(namespace.clone());
        }
    }
    seen
}
