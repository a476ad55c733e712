//! `clusterhealths`: a row for each cluster, with the health of its layers.

use std::collections::HashMap;

use gatehouse_apiservice::{
    Condition, ConditionStatus, Time,
    view::{ClusterHealthStatus, Health, KindHealth, LayerHealth},
};
use gatehouse_inventory::{
    Cluster, ClusterId, Counts, Delta, Inventory, KindStatus, Layer, Mode, State, Validity,
    catalogue::{Kind, KindId},
};

mod metrics;
mod remote;

pub(crate) use self::metrics::ClusterMetrics;
use super::{Projected, Projection, causes, common, last_statuses::LastStatuses};
use crate::watchcache::RowKey;

/// The most failures that a layer names.
const MAX_FAILURES: usize = 5;

#[derive(Debug, Default)]
pub(super) struct ClusterHealths {
    last: LastStatuses<ClusterHealthStatus>,
    /// What the Gatehouse of a cluster says of it, and when the cluster was created.
    adopted: HashMap<ClusterId, (Time, ClusterHealthStatus)>,
}

impl Projection for ClusterHealths {
    type Status = ClusterHealthStatus;

    const ADOPTS: bool = true;

    fn needs(kind: &Kind) -> bool {
        // Pods count towards no layer.
        !kind.is_pod()
    }

    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<ClusterHealthStatus>> + 'a {
        delta.clusters.iter().map(move |id| {
            let cluster = inventory.cluster(*id);
            let key = RowKey { namespace: "".into(), name: cluster.name.clone() };
            if cluster.is_removed() {
                self.last.forget(&key);
                return Projected::Deleted(key);
            }
            let adopted = self.adopted.get(id).filter(|_| cluster.mode() == Mode::Views);
            let found = match adopted {
                _ if cluster.mode() != Mode::Views => observed(inventory, cluster),
                Some((_, row)) => row.clone(),
                None => ClusterHealthStatus {
                    reason: "its Gatehouse was not asked yet".into(),
                    last_observed_time: Time(cluster.last_event()),
                    ..ClusterHealthStatus::default()
                },
            };
            let status = self.last.carry_over_times(&key, health(inventory, cluster, found));
            // The creation time of a cluster is that of its namespace kube-system.
            let first = inventory.namespace(cluster, &"kube-system".into());
            let created = Time(first.map_or(0, |namespace| namespace.created));
            Projected::Row {
                cluster: cluster.name.clone(),
                key,
                created: adopted.map_or(created, |(created, _)| *created),
                tenant: None,
                status: Box::new(status),
            }
        })
    }

    fn adopt(&mut self, id: ClusterId, row: Option<(Time, ClusterHealthStatus)>) -> bool {
        match row {
            Some(row) => self.adopted.insert(id, row),
            None => self.adopted.remove(&id),
        };
        true
    }
}

/// The health of a cluster, as its objects tell.
fn observed(inventory: &Inventory, cluster: &Cluster) -> ClusterHealthStatus {
    let layers: Vec<_> =
        Layer::ALL.into_iter().filter_map(|layer| layer_health(inventory, cluster, layer)).collect();
    let reasons: Vec<_> = layers.iter().filter_map(reason).collect();
    ClusterHealthStatus {
        health: layers.iter().map(|layer| layer.health).max().unwrap_or(Health::Healthy),
        reason: reasons.join(", "),
        problems: causes::in_short(inventory.catalogue(), cluster, Some(cluster.problems())),
        version: cluster.contact().version.as_deref().map(Into::into),
        warnings: warnings(inventory, cluster),
        last_observed_time: Time(cluster.last_event()),
        layers,
        ..ClusterHealthStatus::default()
    }
}

/// The health that was `found`, with what is known of the way to the cluster.
fn health(inventory: &Inventory, cluster: &Cluster, found: ClusterHealthStatus) -> ClusterHealthStatus {
    let contact = cluster.contact();
    let refusal = cluster.registration().and_then(|registration| registration.refused.as_ref());
    let is_known = contact.silent.is_none() && refusal.is_none();
    let health = if is_known { found.health } else { found.health.max(Health::Unknown) };
    let mut reasons: Vec<_> = Some(found.reason).filter(|reason| !reason.is_empty()).into_iter().collect();
    if let Some(refusal) = refusal {
        // Nothing else is known, and nothing else matters.
        reasons = vec![format!("refused: {}", refusal.message)];
    } else if let Some(silent) = &contact.silent {
        let why = match (contact.unauthenticated, cluster.validity()) {
            (true, Validity::Ended) => "credential expired",
            (true, _) => "credential refused",
            (false, _) => "unreachable",
        };
        reasons.insert(0, format!("{why}: {silent}"));
    }
    ClusterHealthStatus {
        cluster: cluster.name.to_string(),
        health,
        reason: reasons.join(", "),
        version: found.version.or_else(|| contact.version.as_deref().map(Into::into)),
        origin: cluster.registration().map(|registration| registration.origin.to_string()),
        mode: cluster
            .registration()
            .filter(|known| known.refused.is_none())
            .map(|_| cluster.mode().as_str().into()),
        last_heard_time: remote::last_heard(cluster),
        credential_expires_time: cluster.registration().and_then(|known| known.expires).map(Time),
        warnings: found.warnings.into_iter().chain(notes(cluster)).collect(),
        conditions: conditions(inventory, cluster, health, &reasons, &found.conditions),
        ..found
    }
}

fn conditions(
    inventory: &Inventory,
    cluster: &Cluster,
    health: Health,
    reasons: &[String],
    found: &[Condition],
) -> Vec<Condition> {
    let contact = cluster.contact();
    let status = match health {
        Health::Healthy | Health::Progressing => ConditionStatus::True,
        Health::Unknown => ConditionStatus::Unknown,
        Health::Degraded => ConditionStatus::False,
    };
    let mut fresh = common::fresh(cluster, inventory.catalogue().kinds().map(|(kind, _)| kind));
    if fresh.status == ConditionStatus::True
        && let Some(stale) =
            found.iter().find(|found| found.kind == "Fresh" && found.status != ConditionStatus::True)
    {
        fresh = stale.clone();
    }
    let healthy = Condition {
        kind: "Healthy".into(),
        status,
        last_transition_time: Time(cluster.last_event().max(contact.since)),
        reason: health.as_str().into(),
        message: reasons.join(", "),
    };
    let mut conditions = vec![healthy, remote::reachable(cluster), fresh];
    if let Some(registration) = cluster.registration() {
        conditions.push(remote::registered(cluster, registration));
        conditions.push(remote::authenticated(cluster));
    }
    conditions
}

/// The health of a layer; `None` if the cluster serves none of its kinds.
fn layer_health(inventory: &Inventory, cluster: &Cluster, layer: Layer) -> Option<LayerHealth> {
    let catalogue = inventory.catalogue();
    let tally = cluster.layer(layer);
    let kinds: Vec<_> = catalogue
        .kinds()
        .filter(|(id, kind)| kind.counts_towards(layer) && is_present(cluster, *id))
        .map(|(id, kind)| kind_health(cluster, id, kind, tally.kind(id)))
        .collect();
    if kinds.is_empty() {
        return None;
    }
    let counts = tally.counts();
    let failed = tally.failures().len();
    let progressing = progressing_count(counts);
    let unseen = kinds.iter().any(|kind| kind.observed == "Forbidden")
        || catalogue.kinds().any(|(id, kind)| kind.counts_towards(layer) && !cluster.is_settled(id));
    let health = if failed > 0 {
        Health::Degraded
    } else if unseen || counts.of(State::Unknown) > 0 {
        Health::Unknown
    } else if progressing > 0 {
        Health::Progressing
    } else {
        Health::Healthy
    };
    let (failures, failures_omitted) =
        common::worst_failures(catalogue, cluster, tally.failures(), MAX_FAILURES);
    Some(LayerHealth {
        name: layer.as_str().into(),
        health,
        total: counts.total(),
        current: counts.of(State::Ready),
        failed: u32::try_from(failed).unwrap_or(u32::MAX),
        progressing,
        suspended: counts.of(State::Suspended),
        unknown: counts.of(State::Unknown),
        kinds,
        failures,
        failures_omitted,
    })
}

/// Whether the cluster serves the kind, as far as is known.
fn is_present(cluster: &Cluster, kind: KindId) -> bool {
    !matches!(cluster.kind_status(kind), Some(KindStatus::Absent))
}

fn kind_health(cluster: &Cluster, id: KindId, kind: &Kind, counts: Counts) -> KindHealth {
    let (observed, message) = common::unreadable_reason(cluster, id).unwrap_or(("Watched", ""));
    let failures = State::ALL.into_iter().filter(|state| state.is_failure());
    KindHealth {
        kind: kind.kind.clone(),
        group: kind.group.clone(),
        observed: observed.into(),
        message: message.into(),
        total: counts.total(),
        failed: failures.map(|state| counts.of(state)).sum(),
    }
}

/// The number of objects that are progressing, pending or terminating.
fn progressing_count(counts: Counts) -> u32 {
    [State::Progressing, State::Pending, State::Terminating].map(|state| counts.of(state)).into_iter().sum()
}

/// The part of the row's reason that a layer adds, if it is not healthy.
fn reason(layer: &LayerHealth) -> Option<String> {
    let name = &layer.name;
    match layer.health {
        Health::Healthy => None,
        Health::Degraded => Some(format!("{name}: {} failed", layer.failed)),
        Health::Progressing => Some(format!("{name}: {} progressing", layer.progressing)),
        Health::Unknown => Some(match layer.kinds.iter().find(|kind| kind.observed != "Watched") {
            Some(kind) => format!("{name}: {} {}", kind.kind, kind.observed.to_lowercase()),
            None => format!("{name}: {} unknown", layer.unknown),
        }),
    }
}

fn warnings(inventory: &Inventory, cluster: &Cluster) -> Vec<String> {
    let versions: Vec<_> =
        cluster.kubelet_versions().map(|(version, nodes)| format!("{version} on {nodes}")).collect();
    let mixed = versions.len() > 1;
    let mixed =
        mixed.then(|| format!("nodes run different kubelet versions: {}", versions.join(", "))).into_iter();
    // TenantQuotas belong to no layer. Without this warning, missing `tenantusages` would look as if there
    // were no TenantQuotas.
    let unseen = inventory.catalogue().kinds().filter(|(id, kind)| {
        kind.is_tenant_quota()
            && common::unreadable_reason(cluster, *id).is_some_and(|(why, _)| why == "Forbidden")
    });
    let unseen = unseen.map(|(_, kind)| format!("{} may not be read: their usage is unknown", kind.plural));
    mixed.chain(unseen).collect()
}

/// What is known of the observation of a cluster rather than of the cluster.
fn notes(cluster: &Cluster) -> impl Iterator<Item = String> {
    let ignored = cluster.ignored().iter().map(|ignored| format!("ignored: {ignored}"));
    ignored.chain(cluster.lacks().iter().map(ToString::to_string))
}
