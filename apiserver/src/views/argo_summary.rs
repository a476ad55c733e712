//! `argosummaries`: a row for each namespace that holds Applications of Argo CD.

use gatehouse_apiservice::{
    Condition, ConditionStatus, Time,
    view::{ArgoSummaryStatus, HealthCounts, SyncCounts},
};
use gatehouse_inventory::{
    ArgoHealth, ArgoSync, ArgoTally, Cluster, Delta, Inventory, State, catalogue::Kind,
};

use super::{Projected, Projection, common, last_statuses::LastStatuses, namespaces};

#[derive(Debug, Default)]
pub(super) struct ArgoSummaries {
    last: LastStatuses<ArgoSummaryStatus>,
}

impl Projection for ArgoSummaries {
    type Status = ArgoSummaryStatus;

    fn needs(kind: &Kind) -> bool {
        // The project of an Application may say why it is not synced.
        kind.is_application() || kind.is_argo_project() || kind.is_namespace()
    }

    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<ArgoSummaryStatus>> + 'a {
        delta.applications.iter().map(move |(id, name)| {
            let cluster = inventory.cluster(*id);
            let status = cluster.applications(name).map(|tally| summary(inventory, cluster, tally));
            namespaces::row(inventory, cluster, name, status, &mut self.last)
        })
    }
}

fn summary(inventory: &Inventory, cluster: &Cluster, tally: &ArgoTally) -> ArgoSummaryStatus {
    let (objects, [ready, fresh]) =
        namespaces::objects_status(inventory, cluster, &tally.objects, Kind::is_application);
    let sync = |sync| tally.in_sync(sync);
    let health = |health| tally.in_health(health);
    let sync = SyncCounts {
        synced: sync(ArgoSync::Synced),
        out_of_sync: sync(ArgoSync::OutOfSync),
        unknown: sync(ArgoSync::Unknown),
    };
    ArgoSummaryStatus {
        cluster: cluster.name.to_string(),
        state: tally.objects.worst().unwrap_or(State::Ready).as_str().into(),
        counts: common::state_counts(&tally.objects.counts()),
        sync,
        health: HealthCounts {
            healthy: health(ArgoHealth::Healthy),
            progressing: health(ArgoHealth::Progressing),
            degraded: health(ArgoHealth::Degraded),
            suspended: health(ArgoHealth::Suspended),
            missing: health(ArgoHealth::Missing),
            unknown: health(ArgoHealth::Unknown),
        },
        drifted: tally.drifted(),
        objects,
        last_observed_time: Time(cluster.last_event()),
        conditions: vec![ready, synced(cluster, sync), fresh],
    }
}

/// The condition `Synced`: False if an Application differs from its source, even if others could not be compared.
fn synced(cluster: &Cluster, sync: SyncCounts) -> Condition {
    let (status, reason, message) = match sync {
        SyncCounts { out_of_sync: 1.., .. } => {
            let message = format!("{} differ from their source", sync.out_of_sync);
            (ConditionStatus::False, "OutOfSync", message)
        }
        SyncCounts { unknown: 1.., .. } => {
            (ConditionStatus::Unknown, "NotCompared", format!("{} could not be compared", sync.unknown))
        }
        SyncCounts { .. } => (ConditionStatus::True, "Synced", String::new()),
    };
    Condition {
        kind: "Synced".into(),
        status,
        last_transition_time: Time(cluster.last_event()),
        reason: reason.into(),
        message,
    }
}
