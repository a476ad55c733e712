//! `mynamespaces`: a row for each namespace. Who sees which row is decided for each request, by [`crate::callers`].

use std::collections::{BTreeSet, HashMap};

use gatehouse_apiservice::{
    Condition, ConditionStatus, Time,
    view::{MyGames, MyNamespaceStatus, MyQuota, StateCounts},
};
use gatehouse_inventory::{
    Cluster, ClusterId, Delta, GameNumbers, Inventory, LOCAL, ObjectKey, Problems, Record, State, Str,
    catalogue::Kind,
};

use super::{Projected, Projection, common, last_statuses::LastStatuses, limits::Measured, namespaces};
use crate::watchcache::RowKey;

#[derive(Debug, Default)]
pub(super) struct MyNamespaces {
    last: LastStatuses<MyNamespaceStatus>,
    quotas: QuotasOver,
}

impl Projection for MyNamespaces {
    type Status = MyNamespaceStatus;

    fn needs(_: &Kind) -> bool {
        true
    }

    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<MyNamespaceStatus>> + 'a {
        let mut rows: BTreeSet<(ClusterId, Str)> =
            delta.namespaces.iter().chain(&delta.games).chain(&delta.problems).cloned().collect();
        for (id, key) in &delta.objects {
            let kind = inventory.catalogue().kind(key.kind);
            if kind.is_namespace() {
                rows.insert((*id, key.name.clone()));
            } else if kind.is_tenant_quota() && *id == LOCAL {
                let changed = self.quotas.update(key, inventory.cluster(LOCAL).record(key));
                rows.extend(changed.into_iter().map(|namespace| (LOCAL, namespace)));
            }
        }
        rows.into_iter().map(move |(id, name)| self.row(inventory, id, &name))
    }
}

impl MyNamespaces {
    fn row(&mut self, inventory: &Inventory, id: ClusterId, name: &Str) -> Projected<MyNamespaceStatus> {
        let cluster = inventory.cluster(id);
        let key = row_key(cluster, id, name);
        let namespace = inventory.namespace(cluster, name);
        // Namespaces may be unknown, where only their objects may be read.
        let exists =
            namespace.is_some() || cluster.namespace(name).is_some() || cluster.games(name).is_some();
        if !exists {
            self.last.forget(&key);
            return Projected::Deleted(key);
        }
        let status = self.last.carry_over_times(&key, self.status(inventory, id, name));
        Projected::Row {
            cluster: cluster.name.clone(),
            key,
            created: Time(namespace.map_or(0, |namespace| namespace.created)),
            tenant: common::tenant(namespace),
            status: Box::new(status),
        }
    }

    fn status(&self, inventory: &Inventory, id: ClusterId, name: &Str) -> MyNamespaceStatus {
        let (catalogue, cluster) = (inventory.catalogue(), inventory.cluster(id));
        let tally = cluster.namespace(name);
        let worst = tally.and_then(|tally| cluster.record(tally.failures().next()?));
        let conditions = match tally {
            Some(tally) => namespaces::objects_status(inventory, cluster, tally, Kind::is_flux).1,
            None => without_flux(cluster),
        };
        let games = cluster.games(name).map(|tally| {
            let all: GameNumbers = tally.engines().map(|(_, own)| *own).sum();
            MyGames {
                desired: all.desired,
                // Negative while the set of allocated servers cannot be read.
                ready: all.ready.max(0),
                allocated: all.allocated,
                players: all.players.get(),
            }
        });
        let problems = cluster.problems_in(name).map_or(0, Problems::len);
        MyNamespaceStatus {
            cluster: cluster.name.to_string(),
            namespace: name.to_string(),
            tenant: common::tenant(inventory.namespace(cluster, name)).map(|tenant| tenant.to_string()),
            state: tally.and_then(gatehouse_inventory::Tally::worst).unwrap_or(State::Ready).as_str().into(),
            flux: tally.map_or_else(StateCounts::default, |tally| common::state_counts(&tally.counts())),
            worst: worst.map(|record| common::failure(catalogue, cluster, record)),
            games,
            quota: Some(cluster).filter(|_| id == LOCAL).and_then(|local| self.quotas.tightest(local, name)),
            problems: u32::try_from(problems).unwrap_or(u32::MAX),
            last_observed_time: Time(cluster.last_event()),
            conditions: conditions.into(),
        }
    }
}

/// `NAMESPACE`, or `NAMESPACE.CLUSTER` for another cluster than the one that serves this API.
fn row_key(cluster: &Cluster, id: ClusterId, namespace: &Str) -> RowKey {
    let name = if id == LOCAL { namespace.clone() } else { format!("{namespace}.{}", cluster.name).into() };
    RowKey { namespace: "".into(), name }
}

/// The conditions `Ready` and `Fresh` of a namespace without Flux objects.
fn without_flux(cluster: &Cluster) -> [Condition; 2] {
    let ready = Condition {
        kind: "Ready".into(),
        status: ConditionStatus::True,
        last_transition_time: Time(cluster.last_event()),
        reason: "NoObjects".into(),
        message: String::new(),
    };
    [ready, common::fresh(cluster, [])]
}

/// Which TenantQuotas are over each namespace, by what their status says.
#[derive(Debug, Default)]
struct QuotasOver {
    namespaces: HashMap<ObjectKey, Vec<Str>>,
    quotas: HashMap<Str, BTreeSet<ObjectKey>>,
}

impl QuotasOver {
    /// Takes in a quota; `None` if it was deleted. Returns the namespaces that it is or was over.
    fn update(&mut self, key: &ObjectKey, quota: Option<&Record>) -> BTreeSet<Str> {
        let shares = quota.and_then(Record::tenant_quota).map_or(&[][..], |quota| &quota.by_namespace);
        let now: Vec<Str> = shares.iter().map(|share| share.namespace.clone()).collect();
        let before = self.namespaces.remove(key).unwrap_or_default();
        for namespace in &before {
            if let Some(quotas) = self.quotas.get_mut(namespace) {
                quotas.remove(key);
                if quotas.is_empty() {
                    self.quotas.remove(namespace);
                }
            }
        }
        for namespace in &now {
            self.quotas.entry(namespace.clone()).or_default().insert(key.clone());
        }
        let changed = before.into_iter().chain(now.iter().cloned()).collect();
        if !now.is_empty() {
            self.namespaces.insert(key.clone(), now);
        }
        changed
    }

    /// The tightest limit over a namespace, of those whose usage is known.
    fn tightest(&self, cluster: &Cluster, namespace: &Str) -> Option<MyQuota> {
        let quotas = self.quotas.get(namespace)?.iter().filter_map(|key| cluster.record(key));
        let limits = quotas.flat_map(|record| {
            let limits = record.tenant_quota().map_or(&[][..], |quota| &quota.limits);
            limits.iter().map(move |limit| (&record.key.name, Measured::of(limit)))
        });
        let known = limits.filter(|(_, limit)| limit.fill.is_some());
        let (quota, limit) = known.min_by(|(_, one), (_, other)| one.tighter(other))?;
        Some(MyQuota { quota: quota.to_string(), limit: limit.to_usage() })
    }
}
