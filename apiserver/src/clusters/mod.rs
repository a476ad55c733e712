//! Remote clusters: who registers them, how they are reached, and who may see their rows.
//!
//! Objects of the local cluster register others: each kind of them is one of the [`origins`], and [`registrations`]
//! decides who of them gets a name. The [`registrar`] follows them, observes each cluster by itself, and tells the
//! inventory; [`access`] decides whose rows a request may show.
//!
//! **Invariant:** a cluster harms no other. One that does not answer, or that is refused, has a row of its own that
//! says so; nothing waits for it.
//!
//! **Invariant:** a row of a remote cluster is shown only to users who may `get clusterhealths/NAME`.

pub(crate) mod access;
mod connection;
mod identities;
mod kubeconfig;
mod mode;
mod observer;
mod origins;
mod registrar;
mod registrations;
mod registry;
mod relay;
mod starts;

use gatehouse_inventory::source::WatchSettings;

pub use self::{observer::identity, origins::Origins};
pub(crate) use self::{
    registrar::Registrar,
    registry::{Connected, Registry},
};

/// The label whose value is the name of a cluster.
pub const LABEL: &str = "gatehouse.dev/cluster";
/// The annotation `true`, by which an object of another tool allows actions with its credential.
pub const ALLOW_ACTIONS: &str = "gatehouse.dev/allow-actions";

/// What remote clusters need.
pub struct ClusterParts {
    /// A client of the local cluster, which may read the objects of the origins.
    pub client: kube::Client,
    /// The address of the local cluster, which must not be registered.
    pub server: http::Uri,
    /// What registers clusters.
    pub origins: Origins,
    /// Whether clusters that run Gatehouse are observed through its views.
    pub views: bool,
    /// How objects of remote clusters are watched.
    pub settings: WatchSettings,
}
