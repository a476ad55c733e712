//! Flags for what replicas agree on through the cluster.

use gatehouse_apiservice::{client::random, registration::NAMESPACE};

/// As `NAMESPACE` of a pod, where the account's token is mounted.
const POD_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// This replica among others.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Replicas")]
pub(crate) struct Replicas {
    /// The namespace of leases, of the Secret of --tls-secret and of the Service that leads here. Without it: that of the
    /// pod, else gatehouse-system.
    #[arg(long, value_name = "NAMESPACE", value_parser = super::object_name)]
    lease_namespace: Option<String>,
    /// The name of the lease that one of several replicas holds. Without it: gatehouse-apiserver or gatehouse-webhooks.
    #[arg(long, value_name = "NAME", value_parser = super::object_name)]
    lease_name: Option<String>,
    /// What this replica is called in leases, different for each. Without it: the host's name, which is the pod's, and a
    /// number drawn by chance.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    identity: Option<String>,
}

impl Replicas {
    /// Where leases are, if anything says so.
    pub(crate) fn known_namespace(&self) -> Option<String> {
        let of_pod = || std::fs::read_to_string(POD_NAMESPACE).ok().map(|text| text.trim().to_owned());
        self.lease_namespace.clone().or_else(of_pod).filter(|namespace| !namespace.is_empty())
    }

    /// Where leases are.
    pub(crate) fn namespace(&self) -> String {
        self.known_namespace().unwrap_or_else(|| NAMESPACE.to_owned())
    }

    /// The lease of the one that leads; called `usual` if nothing says otherwise.
    pub(crate) fn lease(&self, usual: &str) -> String {
        self.lease_name.clone().unwrap_or_else(|| usual.to_owned())
    }

    /// A process that is started anew has another: it must not take the lease of the one before for its own.
    pub(crate) fn identity(&self) -> String {
        self.identity.clone().unwrap_or_else(|| {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            format!("{host}-{:08x}", random() >> 32)
        })
    }
}
