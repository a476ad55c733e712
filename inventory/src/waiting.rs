//! Objects that wait for a dependency which has not failed.
//!
//! Controllers write Ready=False, DependencyNotReady, whenever a dependency is not ready at the moment at which they look:
//! also while it is installed, is upgraded, or is merely reconciled again. Nothing has failed then.

use crate::{Deadline, Dependency, End, Record, Seconds, State, Verdict, cluster::Cluster, flux};

/// From when an object began to wait for a dependency that has not failed. It is Blocked afterwards.
const LIMIT: Seconds = 300;

impl Record {
    /// Turns Blocked into Progressing while the dependency that the controller names has not failed. To be called
    /// before [`Verdict::remember`], which knows how the last attempt ended.
    pub(crate) fn wait_for_dependency(&mut self, cluster: &Cluster, now: Seconds) {
        let Some(since) = self.verdict.since else { return };
        let at = since.saturating_add(LIMIT);
        if at <= now || !self.waits_for_progress(cluster) {
            return;
        }
        let Verdict { reason, message, .. } = self.verdict.clone();
        let deadline = Deadline {
            at,
            since: at,
            observed: false,
            end: End::State(State::Blocked),
            reason: reason.clone(),
            message: message.clone(),
            passed: false,
            next: None,
        };
        self.verdict = Verdict {
            state: State::Progressing,
            last_outcome: None,
            reason,
            message,
            since: Some(since),
            outcome_since: None,
            denied_by: None,
            deadline: Some(Box::new(deadline)),
        };
    }

    /// Whether the object is Blocked by a dependency that is on its way, or arrived a moment ago.
    fn waits_for_progress(&self, cluster: &Cluster) -> bool {
        let Verdict { state: State::Blocked, reason, message, .. } = &self.verdict else { return false };
        if **reason != *flux::reason::DEPENDENCY_NOT_READY || cluster.place(&self.key).is_in_cycle() {
            return false;
        }
        let named = self.flux().and_then(|flux| flux.depends_on.get(usize::from(flux.waits_for?)));
        let Some(Dependency::Is(dependency)) = named.map(|named| cluster.dependency(named)) else {
            return false;
        };
        match dependency.verdict.state {
            State::Pending => true,
            State::Progressing => !dependency.verdict.outcome().is_failure(),
            // Nothing but a change of the dependency satisfies an expression.
            State::Ready => !flux::asks_by_expression(message),
            _ => false,
        }
    }
}
