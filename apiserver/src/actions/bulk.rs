//! `reconcile` of a summary: the objects of a namespace, or those in some states.

use std::{collections::HashMap, sync::Arc};

use futures::{StreamExt, stream};
use gatehouse_apiservice::{
    action::{
        RECONCILE_REQUEST, ReconcileRequestSpec, ReconcileRequestStatus, RequestedObject, UnrequestedObject,
    },
    view::GROUP,
};
use gatehouse_inventory::{State, Str, catalogue::KindId};
use gatehouse_serving::{ApiError, authz, error::Subject};
use http::StatusCode;

use super::{
    Actions, Ask,
    body::{self, Body, Preconditions},
    reach::Reached,
    reconcile::{Manner, token},
    target::{ROWS, Target},
};
use crate::watchcache::RowKey;

/// The most objects of one request, which has a minute.
const MOST: usize = 1000;
/// How many are asked at a time.
const AT_ONCE: usize = 16;

/// An object of the namespace, as its row shows it.
struct Found {
    kind: KindId,
    name: String,
    state: Str,
    is_suspended: bool,
}

/// An object that was not asked, and what went wrong if anything did.
struct Unrequested(UnrequestedObject, Option<ApiError>);

impl Actions {
    /// Requests a reconciliation of the objects of a summary.
    pub(super) async fn reconcile_namespace(
        self: &Arc<Self>,
        ask: &Ask,
        cluster: &Reached,
        request: Body<ReconcileRequestSpec>,
    ) -> Result<ReconcileRequestStatus, ApiError> {
        let Body { preconditions, spec } = request;
        check(&spec, &preconditions)?;
        let reason = body::reason(&RECONCILE_REQUEST, spec.reason.as_deref())?;
        let missing =
            || ApiError::not_found(Subject { group: GROUP, resource: "fluxsummaries", name: &ask.name });
        let found =
            self.found(cluster, ask, spec.states.as_deref().unwrap_or_default())?.ok_or_else(missing)?;
        if found.len() > MOST {
            let problem =
                format!("Invalid value: {} objects; at most {MOST} at once: name some states", found.len());
            return Err(ApiError::invalid(RECONCILE_REQUEST.kind, "spec.states", &problem));
        }
        let allowed = self.allowed(cluster, ask, &found).await?;
        let manner = Manner { token: token(), reason, ..Manner::default() };
        let asked = found.into_iter().map(|object| {
            let is_allowed = allowed.get(&object.kind).copied().unwrap_or_default();
            self.request_found(cluster, ask, object, is_allowed, manner.clone())
        });
        let asked: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        let mut status =
            ReconcileRequestStatus { requested_at: manner.token, ..ReconcileRequestStatus::default() };
        let mut first_error = None;
        for outcome in asked {
            match outcome {
                Ok(object) => status.objects.push(object),
                Err(unrequested) => {
                    let Unrequested(object, error) = *unrequested;
                    first_error = first_error.or(error);
                    status.not_requested.push(object);
                }
            }
        }
        match first_error {
            Some(error) if status.objects.is_empty() => Err(error),
            _ => Ok(status),
        }
    }

    /// The objects in these states; `None` if the namespace has no Flux objects.
    fn found(&self, cluster: &Reached, ask: &Ask, states: &[String]) -> Result<Option<Vec<Found>>, ApiError> {
        if !self.rows.is_synced() {
            return Err(ApiError::unavailable(format!("{ROWS} are not synced with the cluster yet")));
        }
        let name = &cluster.name;
        let kinds = self.catalogue.kinds().filter(|(_, kind)| kind.is_flux());
        let kinds: HashMap<&str, KindId> = kinds.map(|(id, kind)| (kind.kind.as_str(), id)).collect();
        let snapshot = self.rows.snapshot();
        let start = RowKey { namespace: ask.namespace.as_str().into(), name: "".into() };
        let rows = snapshot.rows.range(start..).take_while(|row| *row.key().namespace == *ask.namespace);
        let (mut found, mut is_any) = (Vec::new(), false);
        for row in rows {
            // Cluster, kind, state and whether it is suspended: the fields by which rows can be selected.
            let [of, kind, state, suspended] = row.fields() else { continue };
            let Some(&kind_id) = kinds.get(&**kind).filter(|_| of == name) else { continue };
            is_any = true;
            if !states.is_empty() && !states.iter().any(|wanted| **wanted == **state) {
                continue;
            }
            let prefix = name.len() + kind.len() + 2;
            let object = row.key().name.get(prefix..).unwrap_or_default().to_owned();
            let is_suspended = **suspended == *"true";
            found.push(Found { kind: kind_id, name: object, state: Str::clone(state), is_suspended });
        }
        Ok(is_any.then_some(found))
    }

    /// Whether the user may reconcile all objects of each kind in the namespace. Otherwise each is asked about.
    async fn allowed(
        &self,
        cluster: &Reached,
        ask: &Ask,
        found: &[Found],
    ) -> Result<HashMap<KindId, bool>, ApiError> {
        let mut allowed = HashMap::new();
        for object in found.iter().filter(|_| cluster.is_local()) {
            if allowed.contains_key(&object.kind) {
                continue;
            }
            let Ok(target) = self.target_of(cluster, object.kind, &ask.namespace, &object.name) else {
                continue;
            };
            let right = authz::Target { name: "", ..target.right() };
            let is_allowed = match ask.access.check(&ask.user, "reconcile", right).await {
                Ok(()) => true,
                Err(error) if error.code() == StatusCode::FORBIDDEN => false,
                Err(error) => return Err(error),
            };
            allowed.insert(object.kind, is_allowed);
        }
        Ok(allowed)
    }

    /// Asks one object. The error has the object, and what went wrong if anything did.
    async fn request_found(
        self: &Arc<Self>,
        cluster: &Reached,
        ask: &Ask,
        object: Found,
        is_allowed: bool,
        manner: Manner,
    ) -> Result<RequestedObject, Box<Unrequested>> {
        let kind = self.catalogue.kind(object.kind);
        let left_out = |api_version: String, reason: &str, message: String| UnrequestedObject {
            api_version,
            kind: kind.kind.clone(),
            namespace: ask.namespace.clone(),
            name: object.name.clone(),
            reason: reason.to_owned(),
            message,
        };
        let target = match self.target_of(cluster, object.kind, &ask.namespace, &object.name) {
            Ok(target) => target,
            Err(error) => {
                let object = left_out(kind.group.clone(), error.reason(), error.to_string());
                return Err(Box::new(Unrequested(object, Some(error))));
            }
        };
        let quiet = |target: &Target, reason: &str, why: &str| {
            Err(Box::new(Unrequested(left_out(target.api_version(), reason, why.to_owned()), None)))
        };
        if let Err(error) = target.ensure_reconciled() {
            return quiet(&target, "NotReconcilable", &error.to_string());
        }
        if object.is_suspended {
            return quiet(&target, "Suspended", "its controller ignores requests");
        }
        if *object.state == *State::Terminating.as_str() {
            return quiet(&target, "Terminating", "it is being deleted");
        }
        let asked = async {
            if !is_allowed {
                self.ensure_allowed(ask, "reconcile", &target).await?;
            }
            self.request(ask, target.clone(), manner, Preconditions::default()).await
        };
        match asked.await {
            Ok(requested) => Ok(requested),
            Err(error) if error.code() == StatusCode::METHOD_NOT_ALLOWED => {
                quiet(&target, "NotReconcilable", &error.to_string())
            }
            Err(error) => {
                let object = left_out(target.api_version(), error.reason(), error.to_string());
                Err(Box::new(Unrequested(object, Some(error))))
            }
        }
    }
}

/// Checks that the options fit many objects.
fn check(spec: &ReconcileRequestSpec, preconditions: &Preconditions) -> Result<(), ApiError> {
    let invalid =
        |field: &str, problem: String| Err(ApiError::invalid(RECONCILE_REQUEST.kind, field, &problem));
    for (field, is_set) in [
        ("metadata.uid", preconditions.uid.is_some()),
        ("metadata.resourceVersion", preconditions.resource_version.is_some()),
        ("spec.withSource", spec.with_source),
        ("spec.force", spec.force),
        ("spec.reset", spec.reset),
    ] {
        if is_set {
            return invalid(field, "Forbidden: is for one object only, on fluxresources".to_owned());
        }
    }
    // Not all objects because a list turned out empty.
    if spec.states.as_ref().is_some_and(Vec::is_empty) {
        return invalid("spec.states", "Required value: must name a state, or be left out".to_owned());
    }
    for (index, state) in spec.states.iter().flatten().enumerate() {
        if !State::ALL.iter().any(|known| known.as_str() == state) {
            let known: Vec<_> = State::ALL.iter().map(|known| format!("{:?}", known.as_str())).collect();
            let shown: String = state.chars().take(64).collect();
            let problem = format!("Unsupported value: {shown:?}: supported values: {}", known.join(", "));
            return invalid(&format!("spec.states[{index}]"), problem);
        }
    }
    Ok(())
}
