//! The state rule of Flux's kinds: a pure function of what an object says about itself.
//!
//! The first line that applies decides. Their order is the point: a controller advances
//! `observedGeneration` only when it succeeds, so a failure is looked for before the generation; and every
//! reconciliation sets Ready=Unknown, so what that hides is told apart, as the last outcome.

use crate::{
    Seconds, State,
    catalogue::Draft,
    flux::object::{Condition, Snapshot},
};

/// Condition types.
mod condition {
    pub(super) const READY: &str = "Ready";
    pub(super) const RECONCILING: &str = "Reconciling";
    pub(super) const STALLED: &str = "Stalled";
    /// HelmRelease: whether the last install or upgrade succeeded.
    pub(super) const RELEASED: &str = "Released";
    /// HelmRelease: a failed release was rolled back or uninstalled.
    pub(super) const REMEDIATED: &str = "Remediated";
    /// Sources: an artifact can be had.
    pub(super) const ARTIFACT_IN_STORAGE: &str = "ArtifactInStorage";
    /// Sources: present, and True, only while what they name goes wrong.
    pub(super) const SOURCE_FAILURES: [&str; 3] = ["FetchFailed", "BuildFailed", "StorageOperationFailed"];
}

/// Condition reasons.
mod reason {
    pub(super) const DEPENDENCY_NOT_READY: &str = "DependencyNotReady";
    pub(super) const PROGRESSING_WITH_RETRY: &str = "ProgressingWithRetry";
    pub(super) const RECONCILIATION_SUCCEEDED: &str = "ReconciliationSucceeded";
    /// kstatus' name for a generation the controller has not come to.
    pub(super) const GENERATION_NOT_OBSERVED: &str = "LatestGenerationNotObserved";
}

/// What the rule looks at.
#[derive(Debug, Default, Clone)]
pub(crate) struct Facts<'a> {
    /// `metadata.deletionTimestamp`.
    pub(crate) deleted: Option<Seconds>,
    /// Whether its controller takes it for suspended.
    pub(crate) suspended: bool,
    /// `metadata.generation`.
    pub(crate) generation: Option<i64>,
    /// `status.observedGeneration`.
    pub(crate) observed_generation: Option<i64>,
    /// `status.conditions`.
    pub(crate) conditions: &'a [Condition<'a>],
    /// What the newest entry of `status.history` tells.
    pub(crate) last_attempt: Option<State>,
    /// No controller ever writes a status: an Alert, a Provider, an OCI HelmRepository.
    pub(crate) statusless: bool,
}

/// The state rule. First match.
pub(crate) fn judge<'a>(facts: &'a Facts<'a>) -> Draft<'a> {
    let ready = facts.condition(condition::READY);
    if let Some(deleted) = facts.deleted {
        // A finalizer that fails tells so by Ready=False.
        let failing = ready.filter(|ready| ready.is("False"));
        return Draft { since: Some(deleted), ..draft(State::Terminating, failing) };
    }
    if facts.suspended {
        // When it was suspended is recorded nowhere; the condition tells the last outcome's time.
        return Draft { since: None, last_outcome: facts.outcome(), ..draft(State::Suspended, ready) };
    }
    if let Some(stalled) = facts.is_true(condition::STALLED) {
        return draft(State::Stalled, Some(stalled));
    }
    let Some(ready) = ready else {
        if let Some(reconciling) = facts.is_true(condition::RECONCILING) {
            return draft(State::Progressing, Some(reconciling));
        }
        if let Some(ahead) = facts.generation_ahead() {
            return ahead;
        }
        return draft(if facts.statusless { State::Ready } else { State::Pending }, None);
    };
    match ready.status.as_str() {
        "False" => draft(facts.failure(ready), Some(ready)),
        "True" => match facts.generation_ahead() {
            Some(ahead) => Draft { last_outcome: Some(State::Ready), ..ahead },
            None => draft(State::Ready, Some(ready)),
        },
        _ => Draft { last_outcome: facts.outcome(), ..draft(State::Progressing, Some(ready)) },
    }
}

/// What a Kustomization's, ResourceSet's or FluxInstance's newest history entry says of its last attempt.
pub(crate) fn reconciled(entry: &Snapshot<'_>) -> Option<State> {
    match entry.last_reconciled_status.as_ref()?.as_str() {
        "" | "Progressing" | "Unknown" => None,
        reason::RECONCILIATION_SUCCEEDED => Some(State::Ready),
        reason::DEPENDENCY_NOT_READY => Some(State::Blocked),
        _ => Some(State::Failed),
    }
}

/// What a HelmRelease's newest Helm snapshot says: a release that is being made says nothing yet.
pub(crate) fn released(entry: &Snapshot<'_>) -> Option<State> {
    match entry.status.as_ref()?.as_str() {
        "deployed" | "superseded" => Some(State::Ready),
        "failed" => Some(State::Failed),
        _ => None,
    }
}

impl<'a> Facts<'a> {
    fn condition(&self, type_: &str) -> Option<&'a Condition<'a>> {
        self.conditions.iter().find(|condition| condition.type_.as_str() == type_)
    }

    fn is_true(&self, type_: &str) -> Option<&'a Condition<'a>> {
        self.condition(type_).filter(|condition| condition.is("True"))
    }

    /// Ready=False: a dependency's fault, being retried, or neither.
    fn failure(&self, ready: &Condition<'_>) -> State {
        if ready.has_reason(reason::DEPENDENCY_NOT_READY) {
            return State::Blocked;
        }
        let retrying = self
            .is_true(condition::RECONCILING)
            .is_some_and(|reconciling| reconciling.has_reason(reason::PROGRESSING_WITH_RETRY));
        if retrying { State::Failing } else { State::Failed }
    }

    /// How the last finished attempt ended, whatever the generation.
    fn outcome(&self) -> Option<State> {
        if self.is_true(condition::STALLED).is_some() {
            return Some(State::Stalled);
        }
        let ready = self.condition(condition::READY)?;
        match ready.status.as_str() {
            "True" => Some(State::Ready),
            "False" => Some(self.failure(ready)),
            _ => self.outcome_beside_ready(),
        }
    }

    /// Ready=Unknown says that a reconciliation is going on. How the one before ended is told by other
    /// conditions, which stay until the new one ends, and by the history.
    fn outcome_beside_ready(&self) -> Option<State> {
        if condition::SOURCE_FAILURES.into_iter().any(|type_| self.is_true(type_).is_some()) {
            return Some(State::Failed);
        }
        if let Some(released) = self.condition(condition::RELEASED) {
            // After a rollback the newest Helm snapshot is a deployed one: the failure is only told here.
            let failed = released.is("False") || self.is_true(condition::REMEDIATED).is_some();
            return Some(if failed { State::Failed } else { State::Ready });
        }
        self.last_attempt.or_else(|| self.is_true(condition::ARTIFACT_IN_STORAGE).map(|_| State::Ready))
    }

    /// The verdict of an object that changed since its controller last looked. The CRDs' default
    /// `observedGeneration: -1` says that none ever did, which is Pending's to tell.
    fn generation_ahead(&self) -> Option<Draft<'a>> {
        let observed = self
            .observed_generation
            .filter(|observed| *observed >= 0)
            .or_else(|| self.condition(condition::READY).and_then(|ready| ready.observed_generation))?;
        let generation = self.generation.filter(|generation| *generation > observed)?;
        Some(Draft {
            reason: reason::GENERATION_NOT_OBSERVED.into(),
            message: format!("generation {generation} waits for its controller, which has seen {observed}")
                .into(),
            ..Draft::new(State::Progressing)
        })
    }
}

impl Condition<'_> {
    fn is(&self, status: &str) -> bool {
        self.status.as_str() == status
    }

    fn has_reason(&self, reason: &str) -> bool {
        self.reason.as_ref().is_some_and(|own| own.as_str() == reason)
    }
}

/// `state`, with the deciding condition's words.
fn draft<'a>(state: State, decided_by: Option<&'a Condition<'a>>) -> Draft<'a> {
    let Some(condition) = decided_by else { return Draft::new(state) };
    let text = |text: &'a Option<super::object::Text<'a>>| text.as_ref().map_or("", |text| text.as_str());
    Draft {
        reason: text(&condition.reason).into(),
        message: text(&condition.message).into(),
        since: condition.last_transition_time.map(|at| at.0),
        ..Draft::new(state)
    }
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
