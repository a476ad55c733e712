//! Flags for Leases and the identity of a replica.

use gatehouse_apiservice::{client::random, registration::NAMESPACE};

/// The pod's namespace, beside the token of its service account.
const POD_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Flags for Leases and the identity of a replica.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Replicas")]
pub(crate) struct Replicas {
    /// Namespace of the Leases, of the Secret of --tls-secret and of the Service of this process. Default: the pod's
    /// namespace, then gatehouse-system.
    #[arg(long, value_name = "NAMESPACE", value_parser = super::object_name)]
    lease_namespace: Option<String>,
    /// Name of the Lease for leader election. Default: gatehouse-apiserver or gatehouse-webhooks; for webhooks without
    /// --tls-secret gatehouse-webhooks-controllers.
    #[arg(long, value_name = "NAME", value_parser = super::object_name)]
    lease_name: Option<String>,
    /// Identity of this replica in Leases; must be unique. Default: the host name and a random suffix.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    identity: Option<String>,
}

impl Replicas {
    /// The namespace of Leases, if a flag or the pod determines it.
    pub(crate) fn known_namespace(&self) -> Option<String> {
        let of_pod = || std::fs::read_to_string(POD_NAMESPACE).ok().map(|text| text.trim().to_owned());
        self.lease_namespace.clone().or_else(of_pod).filter(|namespace| !namespace.is_empty())
    }

    /// The namespace of Leases.
    pub(crate) fn namespace(&self) -> String {
        self.known_namespace().unwrap_or_else(|| NAMESPACE.to_owned())
    }

    /// The name of the leader's Lease, by default `usual`.
    pub(crate) fn lease(&self, usual: &str) -> String {
        self.lease_name.clone().unwrap_or_else(|| usual.to_owned())
    }

    /// A restarted process has another identity: it must not take its predecessor's Lease for its own.
    pub(crate) fn identity(&self) -> String {
        self.identity.clone().unwrap_or_else(|| {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            format!("{host}-{:08x}", random() >> 32)
        })
    }
}
