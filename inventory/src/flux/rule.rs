//! The state rule of Flux's kinds: a pure function from an object's own fields to a verdict.
//!
//! The first check that matches decides, so the order of the checks matters. Controllers advance `observedGeneration`
//! only when they succeed, so failures are checked before the generation. Every reconciliation sets Ready=Unknown,
//! which hides the outcome of the attempt before it, so that outcome is reported separately as the last outcome. If the
//! object does not record it, [`Verdict::remember`](crate::Verdict) keeps the outcome that was observed earlier.
//!
//! **Invariant:** The verdict depends only on [`Facts`], which include the current time.

use super::messages::{condition, explained_by, limit, reason, source_is_missing, timeout, waits_for_source};
use crate::{
    Deadline, End, Seconds, State, Verdict,
    catalogue::{Draft, clip},
    flux::object::{Condition, Snapshot},
};

/// The input of the rule.
#[derive(Debug, Default, Clone)]
pub(crate) struct Facts<'a> {
    pub(crate) kind: &'a str,
    /// `metadata.creationTimestamp`.
    pub(crate) created: Option<Seconds>,
    /// `metadata.deletionTimestamp`.
    pub(crate) deleted: Option<Seconds>,
    /// Whether its controller treats it as suspended.
    pub(crate) suspended: bool,
    /// `metadata.generation`.
    pub(crate) generation: Option<i64>,
    /// `spec.timeout`.
    pub(crate) timeout: Option<Seconds>,
    /// `status.observedGeneration`.
    pub(crate) observed_generation: Option<i64>,
    /// `status.conditions`.
    pub(crate) conditions: &'a [Condition<'a>],
    /// The attempt that the newest entry of `status.history` describes.
    pub(crate) last_attempt: Option<Attempt<'a>>,
    /// Since when each attempt in `status.history` has failed.
    pub(crate) failing_since: Option<Seconds>,
    /// `status.lastAttemptedRevision` of a Kustomization, unless it equals `status.lastAppliedRevision`.
    pub(crate) unapplied: Option<&'a str>,
    /// Whether no controller ever writes a status: an Alert, a Provider, an OCI HelmRepository.
    pub(crate) statusless: bool,
    /// `spec.test.ignoreFailures` of a HelmRelease.
    pub(crate) ignores_tests: bool,
    pub(crate) now: Seconds,
}

/// A finished attempt, as recorded in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt<'a> {
    pub(crate) state: State,
    pub(crate) at: Option<Seconds>,
    pub(crate) revision: Option<&'a str>,
}

/// How the last finished attempt ended, and the condition that reports it.
struct Outcome<'a> {
    state: State,
    since: Option<Seconds>,
    reported_by: Option<&'a Condition<'a>>,
}

/// The state rule. The first check that matches decides.
pub(crate) fn judge<'a>(facts: &'a Facts<'a>) -> Draft<'a> {
    let ready = facts.condition(condition::READY);
    if let Some(deleted) = facts.deleted {
        // The controller reports a failing finalizer with Ready=False.
        let failing = ready.filter(|ready| ready.is("False"));
        let draft =
            Draft { since: Some(deleted), outcome_since: None, ..facts.draft(State::Terminating, failing) };
        return facts.fails_after(
            draft,
            Some(deleted),
            limit::DELETION,
            reason::DELETION_STUCK,
            "being deleted",
        );
    }
    if facts.suspended {
        // The object does not record when it was suspended; the time of the condition belongs to the last outcome.
        return Draft { since: None, ..facts.under_way(State::Suspended, ready, facts.outcome()) };
    }
    if let Some(stalled) = facts.is_true(condition::STALLED) {
        return facts.changed_since(stalled).unwrap_or_else(|| facts.draft(State::Stalled, Some(stalled)));
    }
    let Some(ready) = ready else {
        if let Some(reconciling) = facts.is_true(condition::RECONCILING) {
            return facts.progressing(reconciling);
        }
        if let Some(ahead) = facts.generation_ahead() {
            return ahead;
        }
        if facts.statusless {
            return facts.draft(State::Ready, None);
        }
        let words = "no controller has reported on it, made";
        return facts.fails_after(
            Draft::new(State::Pending),
            facts.created,
            limit::SILENCE,
            reason::NOT_RECONCILED,
            words,
        );
    };
    match ready.status.as_str() {
        "False" => facts.not_ready(ready),
        "True" => facts.generation_ahead().unwrap_or_else(|| facts.ready(ready)),
        _ => facts.progressing(ready),
    }
}

/// The last attempt according to the newest history entry of a Kustomization, ResourceSet or FluxInstance.
pub(crate) fn reconciled<'a>(entry: &'a Snapshot<'_>) -> Option<Attempt<'a>> {
    let state = match entry.last_reconciled_status.as_ref()?.as_str() {
        "" | "Progressing" | "Unknown" => return None,
        reason::RECONCILIATION_SUCCEEDED => State::Ready,
        reason::DEPENDENCY_NOT_READY => State::Blocked,
        _ => State::Failed,
    };
    let revision = entry.metadata.as_ref().and_then(|metadata| metadata.revision.as_ref());
    Some(Attempt {
        state,
        at: entry.last_reconciled.map(|at| at.0),
        revision: revision.map(super::Text::as_str),
    })
}

/// Since when every attempt in the history of a Kustomization, ResourceSet or FluxInstance has failed. There is an entry
/// for each content and status, so that the last success bounds the failures that followed.
pub(crate) fn failing_since(entries: &[Snapshot<'_>]) -> Option<Seconds> {
    let attempts =
        || entries.iter().filter_map(|entry| Some((reconciled(entry)?, entry.first_reconciled?.0)));
    let (newest, _) = attempts().next()?;
    if newest.state != State::Failed {
        return None;
    }
    let succeeded = attempts().filter(|(attempt, _)| attempt.state == State::Ready);
    let succeeded = succeeded.filter_map(|(attempt, _)| attempt.at).max().unwrap_or(Seconds::MIN);
    let failed = attempts().filter(|(attempt, first)| attempt.state == State::Failed && *first >= succeeded);
    failed.map(|(_, first)| first).min()
}

/// The last attempt according to the newest Helm snapshot of a HelmRelease; `None` while Helm is still releasing it.
pub(crate) fn released<'a>(entry: &'a Snapshot<'_>) -> Option<Attempt<'a>> {
    let state = match entry.status.as_ref()?.as_str() {
        "deployed" | "superseded" => State::Ready,
        "failed" => State::Failed,
        _ => return None,
    };
    Some(Attempt { state, at: None, revision: None })
}

impl<'a> Facts<'a> {
    fn condition(&self, type_: &str) -> Option<&'a Condition<'a>> {
        self.conditions.iter().find(|condition| condition.type_.as_str() == type_)
    }

    fn with_status(&self, type_: &str, status: &str) -> Option<&'a Condition<'a>> {
        self.condition(type_).filter(|condition| condition.is(status))
    }

    fn is_true(&self, type_: &str) -> Option<&'a Condition<'a>> {
        self.with_status(type_, "True")
    }

    /// The conditions of a source that report a failed attempt. A source that waits for its own source has not failed.
    fn source_failures(&self) -> impl Iterator<Item = &'a Condition<'a>> {
        let failures = condition::SOURCE_FAILURES.into_iter().filter_map(|type_| self.is_true(type_));
        let failures = failures.chain(self.with_status(condition::SOURCE_VERIFIED, "False"));
        failures
            .filter(|failed| !waits_for_source(failed.reason(), failed.message()) && !self.is_early(failed))
    }

    /// Whether `condition` reports that a source is missing, and has done so only for a short time.
    fn is_early(&self, condition: &Condition<'_>) -> bool {
        source_is_missing(condition.reason(), condition.message())
            && condition.since().is_some_and(|since| self.now < since + limit::SOURCE)
    }

    /// Ready=True. helm-controller leaves it so while it looks whether there is anything to do, which takes seconds.
    fn ready(&self, ready: &'a Condition<'a>) -> Draft<'a> {
        let draft = self.draft(State::Ready, Some(ready));
        match self.is_true(condition::RECONCILING) {
            Some(looks) if !looks.has_reason(reason::PROGRESSING_WITH_RETRY) => {
                let words = "looked after without an end";
                self.fails_after(draft, looks.since(), limit::PROGRESS, reason::PROGRESS_STUCK, words)
            }
            _ => draft,
        }
    }

    /// Ready=False: about to continue, blocked by a dependency, being retried, or failed.
    fn not_ready(&self, ready: &'a Condition<'a>) -> Draft<'a> {
        if ready.has_reason(reason::HEALTH_CHECK_CANCELED) || self.is_installed_anew(ready) {
            return self.progressing(ready);
        }
        if waits_for_source(ready.reason(), ready.message()) || self.is_early(ready) {
            let draft = self.under_way(State::Progressing, Some(ready), self.outcome_beside_ready());
            let at = ready.since().or(self.created).map(|since| since + limit::SOURCE);
            return self.turns(draft, at, self.failure(ready), ready.reason(), ready.message());
        }
        self.draft(self.failure(ready), Some(ready))
    }

    /// Whether `condition` reports that a release was uninstalled because it gets another name, namespace or storage, and
    /// not as a remediation.
    fn is_installed_anew(&self, condition: &Condition<'_>) -> bool {
        condition.has_reason(reason::UNINSTALL_SUCCEEDED) && self.is_true(condition::REMEDIATED).is_none()
    }

    fn failure(&self, ready: &Condition<'_>) -> State {
        if ready.has_reason(reason::DEPENDENCY_NOT_READY) || ready.has_reason(reason::SOURCE_NOT_READY) {
            return State::Blocked;
        }
        // helm-controller leaves Ready as it is while it remedies a failure, after which it tries again.
        let remedies = ["Running 'rollback'", "Running 'uninstall'"];
        let retrying = self.is_true(condition::RECONCILING).is_some_and(|reconciling| {
            reconciling.has_reason(reason::PROGRESSING_WITH_RETRY)
                || remedies.iter().any(|words| reconciling.message().starts_with(words))
        });
        if retrying { State::Failing } else { State::Failed }
    }

    /// A controller is working, as `condition` reports. After a time limit, this counts as a failure.
    fn progressing(&self, condition: &'a Condition<'a>) -> Draft<'a> {
        let draft = self.under_way(State::Progressing, Some(condition), self.outcome_beside_ready());
        // A release has time limits for each action, beside `spec.timeout`.
        let recorded = [self.is_true(condition::RECONCILING), Some(condition)].into_iter().flatten();
        let recorded =
            recorded.filter_map(|condition| timeout(condition.message())).max().unwrap_or_default();
        let limit = limit::PROGRESS.max(recorded.saturating_mul(2));
        self.fails_after(draft, condition.since(), limit, reason::PROGRESS_STUCK, "in progress")
    }

    /// How the last finished attempt ended, for any generation.
    fn outcome(&self) -> Option<Outcome<'a>> {
        let of = |state, reported_by: &'a Condition<'a>| Outcome {
            state,
            since: reported_by.since(),
            reported_by: Some(reported_by),
        };
        if let Some(stalled) = self.is_true(condition::STALLED) {
            return Some(of(State::Stalled, stalled));
        }
        let ready = self.condition(condition::READY)?;
        match ready.status.as_str() {
            "True" => Some(of(State::Ready, ready)),
            "False" if waits_for_source(ready.reason(), ready.message()) => self.outcome_beside_ready(),
            "False" if ready.has_reason(reason::HEALTH_CHECK_CANCELED) => self.outcome_beside_ready(),
            "False" => Some(of(self.failure(ready), ready)),
            _ => self.outcome_beside_ready(),
        }
    }

    /// Ready=Unknown reports that a reconciliation is in progress. Other conditions, which stay until it ends, and the
    /// history report how the previous attempt ended.
    fn outcome_beside_ready(&self) -> Option<Outcome<'a>> {
        let of = |state, reported_by: &'a Condition<'a>| Outcome {
            state,
            since: reported_by.since(),
            reported_by: Some(reported_by),
        };
        if let Some(failed) = self.source_failures().next() {
            return Some(of(State::Failed, failed));
        }
        if let Some(released) = self.condition(condition::RELEASED) {
            if released.is("False") && self.is_installed_anew(released) {
                return None;
            }
            // After a rollback, the newest Helm snapshot is a deployed one, so only this condition reports the failure.
            if released.is("False") || self.is_true(condition::REMEDIATED).is_some() {
                return Some(of(State::Failed, released));
            }
            // A release is not finished until its tests are.
            return match self.condition(condition::TEST_SUCCESS).filter(|_| !self.ignores_tests) {
                Some(test) if test.is("False") => Some(of(State::Failed, test)),
                Some(test) if !test.is("True") => None,
                _ => Some(of(State::Ready, released)),
            };
        }
        if let Some(unhealthy) = self.with_status(condition::HEALTHY, "False") {
            return Some(of(State::Failed, unhealthy));
        }
        if let Some(unapplied) = self.unapplied {
            return self.outcome_of_unapplied(unapplied);
        }
        let recorded = self.last_attempt.map(|attempt| Outcome {
            state: attempt.state,
            since: attempt.at,
            reported_by: None,
        });
        recorded
            .or_else(|| self.is_true(condition::ARTIFACT_IN_STORAGE).map(|stored| of(State::Ready, stored)))
    }

    /// The outcome for a Kustomization that attempted a revision and did not apply it. A failed build leaves no history
    /// entry, so the newest entry may describe an earlier attempt. The progress of the current attempt decides.
    fn outcome_of_unapplied(&self, revision: &str) -> Option<Outcome<'a>> {
        let of =
            |attempt: Attempt<'a>| Outcome { state: attempt.state, since: attempt.at, reported_by: None };
        let own = self.last_attempt.filter(|attempt| attempt.revision == Some(revision));
        let at = self.is_true(condition::RECONCILING).map_or("", Condition::message);
        if at.starts_with("Fetching manifests") {
            // The controller records the attempted revision later than this stage, so an earlier attempt recorded it,
            // and failed.
            return Some(own.map_or(Outcome { state: State::Failed, since: None, reported_by: None }, of));
        }
        let is_built = at.starts_with("Detecting drift") || at.starts_with("Running health checks");
        if is_built { self.last_attempt } else { own }.map(of)
    }

    /// The verdict of an object that changed since its controller last observed it. `observedGeneration: -1` is the
    /// default of the CRDs: no controller has observed the object yet, which the Pending check handles.
    fn generation_ahead(&self) -> Option<Draft<'a>> {
        let ready = self.condition(condition::READY);
        let observed = self
            .observed_generation
            .filter(|observed| *observed >= 0)
            .or_else(|| ready.and_then(|ready| ready.observed_generation))?;
        let outcome = ready.filter(|ready| ready.is("True")).map(|_| State::Ready);
        self.waits_for_controller(observed, outcome, ready.and_then(Condition::since))
    }

    /// The verdict of an object that its controller gave up, and that has changed since then.
    fn changed_since(&self, stalled: &Condition<'_>) -> Option<Draft<'a>> {
        self.waits_for_controller(stalled.observed_generation?, Some(State::Stalled), stalled.since())
    }

    /// The verdict of an object if it is of a later generation than `observed`.
    fn waits_for_controller(
        &self,
        observed: i64,
        outcome: Option<State>,
        outcome_since: Option<Seconds>,
    ) -> Option<Draft<'a>> {
        let generation = self.generation.filter(|generation| *generation > observed)?;
        let words = format!("generation {generation} waits for its controller, which has seen {observed}");
        let draft = Draft {
            reason: reason::GENERATION_NOT_OBSERVED.into(),
            message: words.clone().into(),
            last_outcome: outcome,
            outcome_since,
            ..Draft::new(State::Progressing)
        };
        // The object does not record when it changed, so the time when Gatehouse first saw the change counts.
        let at = Some(self.now + self.patience(limit::SILENCE));
        Some(self.turns(draft, at, State::Failed, reason::GENERATION_NOT_OBSERVED, &words))
    }

    /// `state`, with the reason of the deciding condition and the message of the condition that explains it.
    fn draft(&self, state: State, decided_by: Option<&'a Condition<'a>>) -> Draft<'a> {
        let Some(condition) = decided_by else { return Draft::new(state) };
        Draft {
            reason: condition.reason().into(),
            message: self.explained(condition).message().into(),
            since: condition.since(),
            outcome_since: if state.is_failure() { self.failed_since(condition) } else { condition.since() },
            ..Draft::new(state)
        }
    }

    /// When the failure that `condition` reports began. Controllers rewrite Ready with each attempt; the other
    /// conditions keep their time until an attempt succeeds.
    fn failed_since(&self, condition: &Condition<'_>) -> Option<Seconds> {
        let others = [condition::RELEASED, condition::HEALTHY].map(|type_| self.with_status(type_, "False"));
        let others = self.source_failures().chain(others.into_iter().flatten()).filter_map(Condition::since);
        others.chain(condition.since()).chain(self.failing_since).min()
    }

    fn explained(&self, condition: &'a Condition<'a>) -> &'a Condition<'a> {
        let mut by = explained_by(self.kind, condition.reason()).iter();
        by.find_map(|(type_, status)| self.with_status(type_, status)).unwrap_or(condition)
    }

    /// `state`, without information about the previous attempt. If that attempt failed, its reason and message are
    /// used.
    fn under_way(
        &self,
        state: State,
        decided_by: Option<&'a Condition<'a>>,
        outcome: Option<Outcome<'a>>,
    ) -> Draft<'a> {
        let draft = self.draft(state, decided_by);
        let Some(outcome) = outcome else { return Draft { outcome_since: None, ..draft } };
        let failed =
            outcome.reported_by.filter(|_| outcome.state.is_failure() && state == State::Progressing);
        let recorded = failed.map(|condition| self.draft(state, Some(condition)));
        let (reason, message) =
            recorded.map_or((draft.reason, draft.message), |recorded| (recorded.reason, recorded.message));
        let failing_since = self.failing_since.filter(|_| outcome.state.is_failure());
        let outcome_since = outcome.since.into_iter().chain(failing_since).min();
        Draft { reason, message, last_outcome: Some(outcome.state), outcome_since, ..draft }
    }

    /// The time limit for an operation: `limit`, or twice `spec.timeout` if that is longer.
    fn patience(&self, limit: Seconds) -> Seconds {
        limit.max(self.timeout.unwrap_or_default().saturating_mul(2))
    }

    /// `draft`, or Failed if the object has been in that state for too long.
    fn fails_after(
        &self,
        draft: Draft<'a>,
        since: Option<Seconds>,
        limit: Seconds,
        reason: &'static str,
        words: &str,
    ) -> Draft<'a> {
        let Some(since) = since else { return draft };
        let date =
            jiff::Timestamp::from_second(since).map_or_else(|_| since.to_string(), |at| at.to_string());
        let detail = if draft.message.is_empty() { String::new() } else { format!(": {}", draft.message) };
        let at = since.saturating_add(self.patience(limit));
        self.turns(draft, Some(at), State::Failed, reason, &format!("{words} since {date}{detail}"))
    }

    /// `draft`, which changes to another verdict at a given time, or has already changed if that time has passed.
    fn turns(
        &self,
        draft: Draft<'a>,
        at: Option<Seconds>,
        state: State,
        reason: &str,
        message: &str,
    ) -> Draft<'a> {
        let Some(at) = at else { return draft };
        let message = clip(message, Verdict::MESSAGE_BYTES).to_owned();
        if at <= self.now {
            return Draft {
                reason: reason.to_owned().into(),
                message: message.into(),
                since: Some(at),
                outcome_since: draft.outcome_since.and(Some(at)),
                ..Draft::new(state)
            };
        }
        let deadline = Deadline {
            at,
            since: at,
            observed: false,
            end: End::State(state),
            reason: reason.into(),
            message: message.into(),
            passed: false,
            next: None,
        };
        Draft { deadline: Some(Box::new(deadline)), ..draft }
    }
}

impl Condition<'_> {
    fn is(&self, status: &str) -> bool {
        self.status.as_str() == status
    }

    fn reason(&self) -> &str {
        self.reason.as_ref().map_or("", |reason| reason.as_str())
    }

    fn message(&self) -> &str {
        self.message.as_ref().map_or("", |message| message.as_str())
    }

    fn since(&self) -> Option<Seconds> {
        self.last_transition_time.map(|at| at.0)
    }

    fn has_reason(&self, reason: &str) -> bool {
        self.reason() == reason
    }
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
