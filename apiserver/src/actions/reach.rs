//! The cluster that a request is about: the local one, or a registered one that the user may see and that answers.

use std::sync::Arc;

use gatehouse_apiservice::{dns, view::GROUP};
use gatehouse_inventory::{ClusterId, LOCAL, Str};
use gatehouse_serving::{ApiError, authz::Authorizer, error::Subject};

use super::{
    Actions, Ask,
    cluster::Cluster,
    remote::{Discovered, RemoteCluster, unavailable},
    target::{ROWS, malformed, malformed_namespace},
};
use crate::clusters::{ALLOW_ACTIONS, Connected, Registry, access::ClusterAccess};

/// What every Gatehouse takes for its own cluster, whatever that is called. No other cluster can have the name.
pub(super) const OWN: &str = "local";

/// A cluster that may be acted on.
#[derive(Clone)]
pub(super) struct Reached {
    pub(super) id: ClusterId,
    pub(super) name: Str,
    pub(super) requests: Arc<dyn Cluster>,
    /// By which Events are created in another cluster: its registered account.
    pub(super) events: Option<kube::Client>,
}

impl Reached {
    /// Whether Gatehouse writes there by its own account, so that it has to ask for the requester's rights.
    pub(super) fn is_local(&self) -> bool {
        self.id == LOCAL
    }
}

/// Other clusters, and who may see them.
pub(super) struct Remotes {
    registry: Arc<Registry>,
    access: ClusterAccess,
    authorizer: Arc<Authorizer>,
    discovered: Arc<Discovered>,
}

impl Remotes {
    pub(super) fn new(registry: Arc<Registry>, authorizer: Arc<Authorizer>) -> Self {
        let access = ClusterAccess::new(Arc::clone(&registry));
        Self { registry, access, authorizer, discovered: Arc::default() }
    }
}

/// What a row is of: its cluster, and `KIND.NAME`; empty for that of a summary.
pub(super) struct Place<'a> {
    pub(super) cluster: Reached,
    pub(super) object: &'a str,
}

impl Place<'_> {
    /// The name of the row where the cluster is called so.
    pub(super) fn row(&self, cluster: &str) -> String {
        if self.object.is_empty() { cluster.to_owned() } else { format!("{cluster}.{}", self.object) }
    }
}

/// Actions in a cluster take more than that some tool has a credential of it.
fn not_allowed(cluster: &str, origin: &str) -> ApiError {
    ApiError::denied(format!(
        "cluster {cluster}: actions in it are not allowed: {origin} registers it with the credential of another tool, \
         and needs the annotation {ALLOW_ACTIONS}: \"true\""
    ))
}

impl Actions {
    /// The cluster of a row of `resource`. 404 unless the user may see it; 503 if it does not answer.
    pub(super) async fn reach<'a>(&self, ask: &'a Ask, resource: &str) -> Result<Place<'a>, ApiError> {
        let Ask { namespace, name: row, user, .. } = ask;
        let missing = || ApiError::not_found(Subject { group: GROUP, resource, name: row });
        let (name, object) = if resource == ROWS {
            self.split(row).ok_or_else(|| malformed(row))?
        } else {
            (row.as_str(), "")
        };
        if !dns::is_label(namespace) {
            return Err(if resource == ROWS { malformed_namespace(namespace) } else { missing() });
        }
        if *name == *self.local.name || name == OWN {
            return Ok(Place { cluster: self.local.clone(), object });
        }
        let remotes = self.remotes.as_ref().ok_or_else(missing)?;
        if !remotes.access.may_see(&remotes.authorizer, user, name).await? {
            return Err(missing());
        }
        let standing = self.observed.remote(name);
        let standing = standing.ok_or_else(|| unavailable(name, "it was not asked yet"))?;
        if let Some(why) = standing.unheard {
            return Err(unavailable(name, &why));
        }
        let connected = remotes.registry.connected(name);
        let Connected { client, origin, allows_actions } =
            connected.ok_or_else(|| unavailable(name, "there is no way to it"))?;
        if !allows_actions {
            return Err(not_allowed(name, &origin));
        }
        let name = Str::from(name);
        let events = Some(client.clone());
        let requests = RemoteCluster::new(name.clone(), client, Arc::clone(&remotes.discovered));
        Ok(Place { cluster: Reached { id: standing.id, name, requests: Arc::new(requests), events }, object })
    }

    /// Whether the rows of a cluster are those of its own Gatehouse, so that nothing is known here of its kinds.
    pub(super) fn is_relayed(&self, cluster: &str) -> bool {
        self.remotes.as_ref().is_some_and(|remotes| remotes.registry.relayed(cluster).is_some())
    }

    /// The name of the cluster of a row, and `KIND.NAME`. The local cluster's may have dots.
    fn split<'a>(&self, row: &'a str) -> Option<(&'a str, &'a str)> {
        let local = row.strip_prefix(&*self.local.name).and_then(|rest| rest.strip_prefix('.'));
        let (cluster, object) = match local {
            Some(object) => (&row[..self.local.name.len()], object),
            None => row.split_once('.')?,
        };
        (dns::is_subdomain(object) && object.contains('.')).then_some((cluster, object))
    }
}
