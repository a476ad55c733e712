//! The Flux object that a request is about: found by the name of its row.

use gatehouse_apiservice::{dns, view::GROUP};
use gatehouse_inventory::{
    Str, Suspension,
    catalogue::{Kind, KindId},
};
use gatehouse_serving::{ApiError, authz, error::Subject};
use serde_json::Value;

use super::{
    Actions, Ask,
    cluster::Call,
    live::Live,
    observed::Served,
    reach::{Place, Reached},
};

/// The view whose rows name objects.
pub(super) const ROWS: &str = "fluxresources";
/// Kinds that no controller reconciles on request.
const NEVER_RECONCILED: [&str; 3] = ["Alert", "Provider", "ExternalArtifact"];

/// How much of a name that no object can have is repeated, in characters.
const LONGEST_SHOWN: usize = 300;

/// A Flux object of a cluster.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) cluster: Reached,
    pub(super) group: String,
    pub(super) version: Str,
    pub(super) plural: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// The name of the row of an object.
fn row(cluster: &str, kind: &str, name: &str) -> String {
    format!("{cluster}.{}.{name}", kind.to_lowercase())
}

/// No object can have a row of this name.
pub(super) fn malformed(row: &str) -> ApiError {
    let shown: String = row.chars().take(LONGEST_SHOWN).collect();
    let problem =
        format!("Invalid value: {shown:?}: must be CLUSTER.KIND.NAME in lower case, in a namespace");
    ApiError::invalid("FluxResource", "metadata.name", &problem)
}

/// No namespace can have this name.
pub(super) fn malformed_namespace(namespace: &str) -> ApiError {
    let shown: String = namespace.chars().take(LONGEST_SHOWN).collect();
    let problem = format!("Invalid value: {shown:?}: must be the name of a namespace");
    ApiError::invalid("FluxResource", "metadata.namespace", &problem)
}

impl Actions {
    /// The object of a row.
    pub(super) fn target(&self, ask: &Ask, place: &Place<'_>) -> Result<Target, ApiError> {
        let unknown = || ApiError::not_found(Subject { group: GROUP, resource: ROWS, name: &ask.name });
        let (kind, name) = place.object.split_once('.').ok_or_else(unknown)?;
        let is_named = |(_, row): &(KindId, &Kind)| row.is_flux() && row.kind.to_lowercase() == kind;
        let (kind, _) = self.catalogue.kinds().find(is_named).ok_or_else(unknown)?;
        self.target_of(&place.cluster, kind, &ask.namespace, name)
    }

    /// The object of a kind. Specs name objects by any text, which must not become part of a path.
    pub(super) fn target_of(
        &self,
        cluster: &Reached,
        kind: KindId,
        namespace: &str,
        name: &str,
    ) -> Result<Target, ApiError> {
        let Kind { group, kind: kind_name, plural, .. } = self.catalogue.kind(kind);
        if !dns::is_subdomain(name) {
            return Err(malformed(&row(&cluster.name, kind_name, name)));
        }
        if !dns::is_label(namespace) {
            return Err(malformed_namespace(namespace));
        }
        let version = match self.observed.served(cluster.id, kind) {
            Some(Served::At(version)) => version,
            Some(Served::No) => return Err(ApiError::not_found(Subject { group, resource: plural, name })),
            None if self.is_relayed(&cluster.name) => {
                let why = format!(
                    "cluster {}: it is shown by its own Gatehouse, which does not act: enable actions there",
                    cluster.name
                );
                return Err(ApiError::not_supported(why));
            }
            None => {
                let why = format!("{plural}.{group} were not observed yet: try again");
                return Err(ApiError::unavailable(why));
            }
        };
        Ok(Target {
            cluster: cluster.clone(),
            group: group.clone(),
            version,
            plural: plural.clone(),
            kind: kind_name.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Checks that the user has the verb of the Flux operator on an object. In another cluster, where the user writes
    /// and not Gatehouse, that cluster decides by what it grants of the object itself.
    pub(super) async fn ensure_allowed(
        &self,
        ask: &Ask,
        verb: &'static str,
        target: &Target,
    ) -> Result<(), ApiError> {
        if target.cluster.is_local() {
            ask.access.check(&ask.user, verb, target.right()).await?;
        }
        Ok(())
    }
}

impl Target {
    /// The name of its row in fluxresources.
    pub(super) fn row(&self) -> String {
        row(&self.cluster.name, &self.kind, &self.name)
    }

    pub(super) fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        Subject { group: &self.group, resource: &self.plural, name: &self.name }
    }

    /// The object, as the target of a right.
    pub(super) fn right(&self) -> authz::Target<'_> {
        authz::Target {
            group: &self.group,
            version: &self.version,
            resource: &self.plural,
            subresource: "",
            namespace: &self.namespace,
            name: &self.name,
        }
    }

    pub(super) fn suspension(&self) -> Suspension {
        Suspension::of(&self.group, &self.kind)
    }

    /// 405 if no controller reconciles objects of its kind.
    pub(super) fn ensure_reconciled(&self) -> Result<(), ApiError> {
        if NEVER_RECONCILED.contains(&self.kind.as_str()) {
            let why = format!("no controller reconciles objects of kind {}", self.kind);
            return Err(ApiError::not_supported(why));
        }
        Ok(())
    }

    /// 405 if objects of its kind cannot be suspended.
    pub(super) fn ensure_suspendable(&self) -> Result<(), ApiError> {
        if self.suspension() == Suspension::Never {
            let why =
                format!("objects of kind {} cannot be suspended: no controller reconciles them", self.kind);
            return Err(ApiError::not_supported(why));
        }
        Ok(())
    }

    pub(super) async fn get(&self, call: &Call) -> Result<Live, ApiError> {
        self.cluster.requests.get(&self.path(), call).await.map(Live)
    }

    /// Patches the object if it is still at the version of `live`; otherwise 409.
    pub(super) async fn patch(&self, live: &Live, mut patch: Value, call: &Call) -> Result<Live, ApiError> {
        patch["metadata"]["uid"] = live.uid().into();
        patch["metadata"]["resourceVersion"] = live.version().into();
        self.cluster.requests.patch(&self.path(), &patch, call).await.map(Live)
    }

    fn path(&self) -> String {
        let Self { group, version, plural, namespace, name, .. } = self;
        format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}")
    }
}
