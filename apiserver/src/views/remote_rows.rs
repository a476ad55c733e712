//! Rows of remote clusters that run Gatehouse: they arrive judged, and are rendered and published like all others.
//!
//! While a cluster is observed so, what its objects would give is not published. When a cluster changes the way in which
//! it is observed, its rows stay as they are until those of the new way are complete, and are then compared with them:
//! a row that both ways have is at most modified.
//!
//! **Invariant:** rows of a cluster that were not in a complete list are deleted, whoever published them.

use std::{
    any::Any,
    collections::{HashMap, HashSet},
};

use gatehouse_apiservice::{Condition, ConditionStatus, Time, view::TENANT_LABEL};
use gatehouse_inventory::{ClusterId, Inventory, Mode, STALE_AFTER, Seconds, Str};
use serde::Deserialize;

use super::{
    BATCH, Driver, Projected, Projection, are_listed, common,
    remote_status::{Naming, RemoteStatus},
};
use crate::watchcache::{Row, RowKey, Update, WatchCache};

/// How long rows of another way to observe a cluster stay, at most, while its objects are listed.
const LISTING: Seconds = 60;

/// Something about the rows of one view of a cluster, in order.
#[derive(Debug)]
pub(crate) struct RemoteRows {
    /// The position of the view among the resources.
    pub(crate) view: usize,
    pub(crate) notice: RowNotice,
}

/// See [`RemoteRows`].
#[derive(Debug)]
pub(crate) enum RowNotice {
    /// All rows will be sent now.
    Restart,
    /// The current state of a row.
    Apply(RemoteRow),
    /// A row was deleted.
    Delete(RowKey),
    /// All rows have been sent since the last restart. Others no longer exist.
    Synced,
    /// Whether the rows may be stale, since they cannot be watched.
    Failing(bool),
}

/// A row, under the name that it has here.
#[derive(Debug)]
pub(crate) struct RemoteRow {
    pub(crate) key: RowKey,
    pub(crate) created: Time,
    pub(crate) tenant: Option<Str>,
    /// The type of the view's status.
    pub(crate) status: Box<dyn Any + Send>,
}

/// A cluster whose rows are not, or not yet, those of its objects here.
#[derive(Debug, Default)]
pub(super) struct Remote {
    name: Str,
    /// Until when the rows stay while objects are listed; `None` while another Gatehouse gives the rows.
    listing_until: Option<Seconds>,
    /// The rows that were sent since the last restart, until the list is complete.
    sent: Option<HashSet<RowKey>>,
    failing_since: Option<Seconds>,
    /// Why the rows may be stale, as the reason of the condition.
    stale: Option<&'static str>,
    /// Rows that said to be fresh when they became stale.
    overruled: HashSet<RowKey>,
}

/// A row as it was rendered.
#[derive(Deserialize)]
struct Rendered<S> {
    metadata: Metadata,
    status: S,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    creation_timestamp: Option<Time>,
    #[serde(default)]
    labels: HashMap<String, String>,
}

impl<P: Projection> Driver<P> {
    /// Whether what the objects of a cluster give is not to be published.
    pub(super) fn is_elsewhere(&self, id: ClusterId) -> bool {
        !P::ADOPTS && self.remotes.contains_key(&id)
    }

    /// A cluster is observed in another way from now on.
    pub(super) fn observe_by(&mut self, id: ClusterId, name: &Str, mode: Mode, now: Seconds) {
        let remote =
            self.remotes.entry(id).or_insert_with(|| Remote { name: name.clone(), ..Remote::default() });
        remote.listing_until = (mode != Mode::Views).then_some(now + LISTING);
        (remote.sent, remote.failing_since) = (None, None);
        if mode != Mode::Views {
            self.projection.adopt(id, None);
        }
    }

    /// Deletes all rows of a cluster that is removed, unless its objects do.
    pub(super) fn forget(&mut self, id: ClusterId) {
        self.flush();
        if let Some(remote) = self.remotes.remove(&id) {
            self.projection.adopt(id, None);
            if !P::ADOPTS {
                self.sweep(&remote.name, &HashSet::new());
            }
        }
    }

    /// Takes in something about the rows of a cluster. Returns whether the row of that cluster shows it.
    pub(super) fn take(
        &mut self,
        inventory: &Inventory,
        id: ClusterId,
        notice: RowNotice,
        now: Seconds,
    ) -> bool {
        let Some(remote) = self.remotes.get_mut(&id).filter(|remote| remote.listing_until.is_none()) else {
            return false;
        };
        match notice {
            RowNotice::Restart => remote.sent = Some(HashSet::new()),
            RowNotice::Failing(false) => remote.failing_since = None,
            RowNotice::Failing(true) => remote.failing_since = remote.failing_since.or(Some(now)),
            RowNotice::Apply(row) => {
                let RemoteRow { key, created, tenant, status } = row;
                let Ok(mut status) = status.downcast::<P::Status>() else { return false };
                if let Some(sent) = &mut remote.sent {
                    sent.insert(key.clone());
                }
                if P::ADOPTS {
                    return self.projection.adopt(id, Some((created, *status)));
                }
                if <P::Status as RemoteStatus>::NAMING == Naming::Quota
                    && is_of_another(&self.cache, &key, &remote.name)
                {
                    return false;
                }
                remote.overruled.remove(&key);
                if let Some(reason) = remote.stale
                    && overrule(&mut *status, &stale(inventory, id, reason, now))
                {
                    remote.overruled.insert(key.clone());
                }
                let cluster = remote.name.clone();
                self.later(Projected::Row { cluster, key, created, tenant, status });
            }
            RowNotice::Delete(key) => {
                if P::ADOPTS {
                    return self.projection.adopt(id, None);
                }
                remote.overruled.remove(&key);
                if !is_of_another(&self.cache, &key, &remote.name) {
                    self.later(Projected::Deleted(key));
                }
            }
            RowNotice::Synced => {
                let name = remote.name.clone();
                if let Some(sent) = remote.sent.take()
                    && !P::ADOPTS
                {
                    self.flush();
                    self.sweep(&name, &sent);
                }
            }
        }
        false
    }

    /// Publishes what waits for that.
    pub(super) fn flush(&mut self) {
        if !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            self.published += self.cache.publish_remote(pending);
        }
    }

    /// Marks rows that have become stale, or are so no longer, and shows the objects of clusters that are listed.
    pub(super) fn tick(&mut self, inventory: &Inventory, now: Seconds) {
        self.flush();
        let listed = |(id, remote): (&ClusterId, &Remote)| {
            let until = remote.listing_until?;
            (until <= now || are_listed::<P>(inventory, *id)).then_some(*id)
        };
        let listed: Vec<_> = self.remotes.iter().filter_map(listed).collect();
        for id in listed {
            self.show_objects(inventory, id);
        }
        if P::ADOPTS {
            return;
        }
        let mut turned = Vec::new();
        for (id, remote) in &self.remotes {
            let is_failing = remote.failing_since.is_some_and(|since| now - since >= STALE_AFTER);
            let stale = match inventory.cluster(*id).freshness() {
                (false, _) => Some("ClusterSilent"),
                (true, _) => is_failing.then_some("WatchFailing"),
            };
            if stale != remote.stale {
                turned.push((*id, stale));
            }
        }
        for (id, reason) in turned {
            let fresh = match reason {
                Some(reason) => stale(inventory, id, reason, now),
                None => condition(ConditionStatus::True, "Observed", "", now),
            };
            self.turn(id, reason, &fresh);
        }
    }

    /// The objects of a cluster that another Gatehouse showed are listed: from now on they give its rows.
    fn show_objects(&mut self, inventory: &Inventory, id: ClusterId) {
        let Some(remote) = self.remotes.remove(&id) else { return };
        if P::ADOPTS {
            return;
        }
        let everything = inventory.everything_of(id);
        let (renderer, mut shown, mut updates) = (&mut self.renderer, HashSet::new(), Vec::new());
        for row in self.projection.project(inventory, &everything) {
            if let Projected::Row { key, .. } = &row {
                shown.insert(key.clone());
            }
            updates.push(renderer.render(row));
        }
        self.published += self.cache.publish_remote(updates);
        self.sweep(&remote.name, &shown);
    }

    /// Deletes the rows of a cluster that are not among `kept`.
    fn sweep(&mut self, cluster: &Str, kept: &HashSet<RowKey>) {
        let rows = self.cache.snapshot().rows;
        let of_it = rows.iter().filter(|row| row.cluster() == Some(cluster) && !kept.contains(row.key()));
        let gone: Vec<_> = of_it.map(|row| Update::Delete(row.key().clone())).collect();
        self.published += self.cache.publish_remote(gone);
    }

    /// Writes the condition `Fresh` into the rows of a cluster: those that said to be fresh, or those that were overruled.
    fn turn(&mut self, id: ClusterId, reason: Option<&'static str>, fresh: &Condition) {
        let Some(remote) = self.remotes.get_mut(&id) else { return };
        let before = std::mem::take(&mut remote.overruled);
        remote.stale = reason;
        let mut updates = Vec::new();
        for row in self.cache.snapshot().rows.iter().filter(|row| row.cluster() == Some(&remote.name)) {
            let Some(Rendered::<P::Status> { metadata, mut status }) = read(row) else { continue };
            let is_overruled = before.contains(row.key());
            let found = status.conditions_mut().iter_mut().find(|condition| condition.kind == "Fresh");
            let Some(found) = found.filter(|found| is_overruled || found.status == ConditionStatus::True)
            else {
                continue;
            };
            *found = fresh.clone();
            if reason.is_some() {
                remote.overruled.insert(row.key().clone());
            }
            updates.push(self.renderer.render(Projected::Row {
                cluster: remote.name.clone(),
                key: row.key().clone(),
                created: metadata.creation_timestamp.unwrap_or_default(),
                tenant: metadata.labels.get(TENANT_LABEL).map(|tenant| tenant.as_str().into()),
                status: Box::new(status),
            }));
        }
        self.published += self.cache.publish_remote(updates);
    }

    /// Renders a row, to be published with others.
    fn later(&mut self, row: Projected<P::Status>) {
        self.pending.push(self.renderer.render(row));
        if self.pending.len() >= BATCH {
            self.flush();
        }
    }
}

/// Whether a row is another cluster's. A TenantQuota here may be called as that of a remote cluster is shown.
fn is_of_another(cache: &WatchCache, key: &RowKey, cluster: &Str) -> bool {
    cache.snapshot().rows.get(key).is_some_and(|row| row.cluster() != Some(cluster))
}

fn read<S: RemoteStatus>(row: &Row) -> Option<Rendered<S>> {
    let mut json = vec![b'{'];
    row.write_object(&mut json);
    serde_json::from_slice(&json).ok()
}

/// Replaces the condition `Fresh` if it is true. Returns whether it was.
fn overrule(status: &mut impl RemoteStatus, fresh: &Condition) -> bool {
    let mut conditions = status.conditions_mut().iter_mut();
    let found = conditions.find(|found| found.kind == "Fresh" && found.status == ConditionStatus::True);
    found.map(|found| *found = fresh.clone()).is_some()
}

fn stale(inventory: &Inventory, id: ClusterId, reason: &'static str, now: Seconds) -> Condition {
    if reason == "ClusterSilent" {
        return common::fresh(inventory.cluster(id), []);
    }
    condition(ConditionStatus::False, reason, "a watch fails; rows may be stale", now)
}

fn condition(status: ConditionStatus, reason: &'static str, message: &str, now: Seconds) -> Condition {
    Condition {
        kind: "Fresh".into(),
        status,
        last_transition_time: Time(now),
        reason: reason.into(),
        message: message.to_owned(),
    }
}
