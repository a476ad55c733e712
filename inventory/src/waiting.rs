//! Objects that wait for a dependency which has not failed.
//!
//! Controllers write Ready=False, DependencyNotReady, whenever a dependency is not ready at the moment at which they look:
//! also while it is installed, is upgraded, or is merely reconciled again. Nothing has failed then.

use crate::{Deadline, Dependency, End, Record, Reference, Seconds, State, Verdict, cluster::Cluster, flux};

/// From when an object began to wait for a dependency that has not failed. It is Blocked afterwards.
const LIMIT: Seconds = 300;

impl Record {
    /// Turns Blocked into Progressing while the dependency that the controller names has not failed. To be called
    /// before [`Verdict::remember`], which knows how the last attempt ended.
    pub(crate) fn wait_for_dependency(&mut self, cluster: &Cluster, now: Seconds) {
        let Verdict { state: State::Blocked, since: Some(since), reason, message, .. } = &self.verdict else {
            return;
        };
        let (since, reason, message) = (*since, reason.clone(), message.clone());
        let at = since.saturating_add(LIMIT);
        if at <= now || !self.waits_for_progress(&reason, &message, cluster) {
            return;
        }
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

    /// Blocked, if the dependency that the object waits for has failed since. Its controller has said that it is not
    /// ready, and does not say so again.
    pub(crate) fn no_longer_waits(&self, cluster: &Cluster) -> Option<Verdict> {
        // Others wait for a source until such a deadline.
        self.flux()?.waits_for?;
        let deadline = self.verdict.deadline.as_ref().filter(|_| self.verdict.state == State::Progressing)?;
        let Deadline { reason, message, end: End::State(State::Blocked), .. } = &**deadline else {
            return None;
        };
        if self.waits_for_progress(reason, message, cluster) {
            return None;
        }
        Some(Verdict {
            state: State::Blocked,
            last_outcome: None,
            reason: reason.clone(),
            message: message.clone(),
            outcome_since: self.verdict.since,
            denied_by: None,
            deadline: None,
            ..self.verdict.clone()
        })
    }

    /// Whether an object of which this is said waits for a dependency that is on its way, or arrived a moment ago.
    fn waits_for_progress(&self, reason: &str, message: &str, cluster: &Cluster) -> bool {
        if reason != flux::reason::DEPENDENCY_NOT_READY || cluster.place(&self.key).is_in_cycle() {
            return false;
        }
        let named = self.flux().and_then(|flux| flux.depends_on.get(usize::from(flux.waits_for?)));
        // Whether it has failed is not known before its kind has been listed. The order of the lists decides nothing.
        if let Some(Reference::Known(key)) = named
            && cluster.record(key).is_none()
            && !cluster.is_settled(key.kind)
        {
            return true;
        }
        let Some(Dependency::Is(dependency)) = named.map(|named| cluster.dependency(named)) else {
            return false;
        };
        match dependency.verdict.state {
            State::Pending => true,
            State::Progressing => !dependency.verdict.outcome().is_failure(),
            // Nothing but a change of the dependency satisfies an expression.
            State::Ready => !flux::asks_by_expression(message),
            // It satisfies a dependency as it did before, once its controller has recorded the new generation.
            State::Suspended => dependency.verdict.last_outcome == Some(State::Ready),
            _ => false,
        }
    }
}
