//! Runs the audit in the leader, and reports it in the status of policies and in metrics.
//!
//! Judging is pure computation and runs on a blocking thread. A status is written if it differs from the stored one,
//! and about once a second per policy at most.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use gatehouse_apiservice::client::explain;
use gatehouse_apiservice::policy::{ReconcilePolicy, ReconcilePolicyStatus};
use gatehouse_installation::lease::Leadership;
use gatehouse_inventory::Str;
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    audit::{Audit, Findings},
    leading::{LeaderTask, while_leading},
    status,
};
use crate::{
    metrics::Metrics,
    world::{Live, Snapshot, World},
};

/// The minimum interval between two writes of a policy's status.
const WRITE: Duration = Duration::from_secs(1);
/// The time limit of a write.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait after a failed write.
const RETRY: Duration = Duration::from_secs(5);
/// How long the observation may be incomplete before policies report that.
const BLIND: Duration = Duration::from_secs(30);
/// The longest wait between passes: a freeze may begin without any other change, and the wall clock may be corrected.
const LOOK: Duration = Duration::from_mins(1);

/// Audits existing objects while this replica leads.
pub(super) struct Auditor {
    world: World,
    api: Api<ReconcilePolicy>,
    live: Live,
    metrics: Arc<Metrics>,
    leadership: Leadership,
    audit: Audit,
    written: HashMap<Str, Written>,
    /// The policies that have metrics of violations.
    counted: BTreeSet<Str>,
    /// Since when the observation is incomplete.
    blind_since: Option<Instant>,
}

/// The last status that was written to a policy.
struct Written {
    /// The resourceVersion after the write. Older snapshots do not contain the status yet.
    version: u64,
    status: ReconcilePolicyStatus,
    /// The earliest time of the next write.
    not_before: Instant,
}

impl Auditor {
    /// An auditor of `world`.
    pub(super) fn new(world: World, client: Client, metrics: Arc<Metrics>, leadership: Leadership) -> Self {
        let live = Live::new(client.clone(), PATIENCE);
        let api = Api::all(client);
        Self {
            world,
            api,
            live,
            metrics,
            leadership,
            audit: Audit::default(),
            written: HashMap::new(),
            counted: BTreeSet::new(),
            blind_since: None,
        }
    }

    /// Audits while this replica leads, until `stop` is cancelled.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (world, leadership) = (self.world.clone(), self.leadership.clone());
        while_leading(&mut self, world, leadership, stop).await;
    }

    /// Judges and reports. Returns after which time there is more to do if nothing changes.
    async fn judge(&mut self, snapshot: Arc<Snapshot>) -> Duration {
        let mut audit = std::mem::take(&mut self.audit);
        let seen = Arc::clone(&snapshot);
        let (live, runtime) = (self.live.clone(), tokio::runtime::Handle::current());
        let judged = tokio::task::spawn_blocking(move || {
            audit.update(seen, &|snapshot, held| runtime.block_on(live.whole(snapshot, held)));
            audit
        });
        match judged.await {
            Ok(audit) => self.audit = audit,
            Err(error) => {
                // This is a bug. The next pass starts from nothing and judges all objects.
                tracing::error!(%error, "audit of existing objects failed");
                return RETRY;
            }
        }
        self.count(&snapshot);
        let wait = self.report(&snapshot, None).await;
        if self.audit.has_unread() { wait.min(RETRY) } else { wait }
    }

    /// The observation is incomplete. At the start this is soon over. If it lasts, the policies report it, since
    /// unknown must not look like compliant.
    async fn look_blindly(&mut self, snapshot: &Snapshot, reason: &str) -> Duration {
        let since = *self.blind_since.get_or_insert_with(Instant::now);
        let left = BLIND.saturating_sub(since.elapsed());
        if !left.is_zero() {
            return left;
        }
        self.forget();
        self.report(snapshot, Some(reason)).await
    }

    /// Writes the statuses that have changed. `blind`: why the observation is incomplete.
    async fn report(&mut self, snapshot: &Snapshot, blind: Option<&str>) -> Duration {
        let now = Timestamp::now();
        self.written.retain(|name, _| snapshot.reconcile_policies.contains_key(name));
        let errors: BTreeMap<&str, _> =
            snapshot.broken_policies.iter().map(|broken| (&*broken.name, &broken.errors)).collect();
        let mut wait = LOOK;
        for (name, policy) in &snapshot.reconcile_policies {
            let current = self.current(name, policy);
            let compiled = snapshot.policies.iter().find(|policy| *policy.name == **name);
            let findings = self.audit.findings().get(&**name);
            let next = match (errors.get(&**name), blind, compiled, findings) {
                (Some(errors), ..) => status::of_errors(&current, errors, now),
                (None, Some(reason), Some(policy), _) => status::of_nothing(&current, policy, reason, now),
                (None, None, _, Some(findings)) => {
                    status::of_findings(&current, findings, self.audit.held_back_by(name), now)
                }
                _ => continue,
            };
            if let Some(change) = &next.next_change {
                wait = wait.min(until(change.0, now));
            }
            if current.status.as_ref() == Some(&next) {
                continue;
            }
            let pause = self.written.get(name).map(|written| written.not_before - Instant::now());
            if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
                wait = wait.min(pause);
                continue;
            }
            // A replica that lost leadership must not overwrite the status of the new leader.
            if !self.leadership.is_leading() {
                return RETRY;
            }
            wait = wait.min(self.write(name, policy, next).await);
        }
        wait
    }

    /// The policy with its latest known status.
    fn current(&self, name: &Str, policy: &Arc<ReconcilePolicy>) -> Arc<ReconcilePolicy> {
        match self.written.get(name) {
            Some(written) if version(policy) < written.version => {
                let mut policy = ReconcilePolicy::clone(policy);
                policy.status = Some(written.status.clone());
                Arc::new(policy)
            }
            _ => Arc::clone(policy),
        }
    }

    /// Writes a status. Returns after which time the next pass is due at the latest.
    async fn write(&mut self, name: &Str, policy: &ReconcilePolicy, next: ReconcilePolicyStatus) -> Duration {
        let patch = Patch::Merge(status::patch(policy, &next));
        let parameters = PatchParams::default();
        let (written, pause) = match timeout(PATIENCE, self.api.patch_status(name, &parameters, &patch)).await
        {
            Ok(Ok(written)) => (Some(written), WRITE),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                tracing::debug!(policy = %name, reason = %status.message, "policy was replaced, dropping its status");
                (None, RETRY)
            }
            Ok(Err(error)) => {
                tracing::warn!(policy = %name, error = %explain(&error), "cannot write the status of a policy");
                (None, RETRY)
            }
            Err(_) => {
                tracing::warn!(policy = %name, "cannot write the status of a policy in time");
                (None, RETRY)
            }
        };
        let version = written.as_ref().map_or(0, version);
        // The status as it was stored. Otherwise, a field that an older CRD drops would differ forever.
        let status = written.and_then(|written| written.status).unwrap_or(next);
        self.written
            .insert(Str::clone(name), Written { version, status, not_before: Instant::now() + pause });
        pause
    }

    fn count(&mut self, snapshot: &Snapshot) {
        let known: BTreeSet<Str> = snapshot.reconcile_policies.keys().cloned().collect();
        for gone in self.counted.difference(&known) {
            self.metrics.forget_policy(gone);
        }
        for policy in &known {
            let rules = self.audit.findings().get(&**policy).map(Findings::by_rule).unwrap_or_default();
            for (rule, objects) in &rules {
                self.metrics.set_violations(policy, rule, *objects);
            }
            self.metrics.forget_violations(policy, &rules.into_keys().collect::<Vec<_>>());
        }
        self.counted = known;
    }

    fn forget(&mut self) {
        for policy in std::mem::take(&mut self.counted) {
            self.metrics.forget_violations(&policy, &[]);
        }
        self.audit = Audit::default();
    }
}

impl LeaderTask for Auditor {
    const GATHER: Duration = Duration::from_millis(100);

    async fn pass(&mut self, snapshot: Arc<Snapshot>) -> Duration {
        // Objects that have not been listed are neither compliant nor violating, so nothing is reported before all
        // kinds are known.
        match snapshot.readiness() {
            Ok(()) if snapshot.awaits_parameters_of(&snapshot.policies) => {
                let reason = "waiting for the ConfigMaps that policies take parameters from";
                self.look_blindly(&snapshot, reason).await
            }
            Ok(()) => {
                self.blind_since = None;
                self.judge(snapshot).await
            }
            Err(reason) => self.look_blindly(&snapshot, &reason).await,
        }
    }

    fn rest(&mut self) {
        self.forget();
        self.written.clear();
        self.blind_since = None;
    }
}

fn version(policy: &ReconcilePolicy) -> u64 {
    let version = policy.metadata.resource_version.as_deref();
    version.and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// The time from `now` until just after `at`.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    (left + Duration::from_millis(50)).max(WRITE)
}
