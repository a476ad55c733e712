//! Remote clusters: who registers them, how they are reached, and who may see their rows.
//!
//! A Secret with the label [`LABEL`] in one namespace of the local cluster registers a cluster. The [`registrar`]
//! lists these Secrets, observes each cluster by itself, and tells the inventory; [`access`] decides whose rows a
//! request may show.
//!
//! **Invariant:** a cluster harms no other. One that does not answer, or that is refused, has a row of its own that
//! says so; nothing waits for it.
//!
//! **Invariant:** a row of a remote cluster is shown only to users who may `get clusterhealths/NAME`.

pub(crate) mod access;
mod connection;
mod kubeconfig;
mod observer;
mod registrar;
mod registry;
mod secrets;
mod starts;

use gatehouse_inventory::source::WatchSettings;

pub(crate) use self::{registrar::Registrar, registry::Registry};

/// The label whose value is the name of a cluster.
pub const LABEL: &str = "gatehouse.dev/cluster";

/// What remote clusters need.
pub struct ClusterParts {
    /// A client of the local cluster, which may list Secrets in `namespace`.
    pub client: kube::Client,
    /// The address of the local cluster, which must not be registered.
    pub server: http::Uri,
    /// The namespace of the Secrets.
    pub namespace: String,
    /// How objects of remote clusters are watched.
    pub settings: WatchSettings,
}
