//! Remembers the last status of each row, for the times that a row reports about itself: the last transition
//! of a condition and the last observed change.

use std::collections::HashMap;

use gatehouse_apiservice::{
    Time,
    view::{
        AppliedTenantQuotaStatus, ArgoSummaryStatus, ClusterHealthStatus, FluxSummaryStatus,
        GameServerSummaryStatus, MyNamespaceStatus, TenantUsageStatus,
    },
};

use super::RemoteStatus;
use crate::watchcache::RowKey;

/// A status with a last observed time.
pub(super) trait TimedStatus: RemoteStatus {
    fn last_observed_time(&mut self) -> &mut Time;
}

macro_rules! timed_status {
    ($($status:ty),+) => {
        $(impl TimedStatus for $status {
            fn last_observed_time(&mut self) -> &mut Time {
                &mut self.last_observed_time
            }
        })+
    };
}

timed_status!(
    AppliedTenantQuotaStatus,
    ArgoSummaryStatus,
    ClusterHealthStatus,
    FluxSummaryStatus,
    GameServerSummaryStatus,
    MyNamespaceStatus,
    TenantUsageStatus
);

/// The last status of each row. Only for views with few rows, since it holds them all.
#[derive(Debug)]
pub(super) struct LastStatuses<S>(HashMap<RowKey, S>);

impl<S> Default for LastStatuses<S> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<S: TimedStatus> LastStatuses<S> {
    /// Sets the times in `status` to the previous ones as far as the content is unchanged, and remembers the
    /// result.
    pub(super) fn carry_over_times(&mut self, key: &RowKey, mut status: S) -> S {
        if let Some(last) = self.0.get_mut(key) {
            for condition in status.conditions_mut() {
                // A condition with the same status keeps its lastTransitionTime.
                let before = last.conditions_mut().iter().find(|before| before.kind == condition.kind);
                if let Some(before) = before.filter(|before| before.status == condition.status) {
                    condition.last_transition_time = before.last_transition_time;
                }
            }
            let observed = std::mem::replace(status.last_observed_time(), *last.last_observed_time());
            if status != *last {
                *status.last_observed_time() = observed;
            }
        }
        self.0.insert(key.clone(), status.clone());
        status
    }

    /// Forgets a row that was deleted.
    pub(super) fn forget(&mut self, key: &RowKey) {
        self.0.remove(key);
    }
}
