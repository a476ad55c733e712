//! Tests each check of the state rule, and the mistakes that the order of the checks avoids.

use std::borrow::Cow;

use super::*;
use crate::flux::{Instant, Text};

fn text(text: &'static str) -> Text<'static> {
    Text(Cow::Borrowed(text))
}

fn condition(type_: &'static str, status: &'static str, reason: &'static str) -> Condition<'static> {
    Condition {
        type_: text(type_),
        status: text(status),
        reason: Some(text(reason)),
        message: Some(text("in words")),
        last_transition_time: Some(Instant(1_000)),
        observed_generation: None,
    }
}

fn ready(status: &'static str, reason: &'static str) -> Vec<Condition<'static>> {
    vec![condition("Ready", status, reason)]
}

fn retrying(mut conditions: Vec<Condition<'static>>) -> Vec<Condition<'static>> {
    conditions.push(condition("Reconciling", "True", "ProgressingWithRetry"));
    conditions
}

fn facts<'a>(conditions: &'a [Condition<'a>]) -> Facts<'a> {
    Facts {
        kind: "Kustomization",
        generation: Some(2),
        observed_generation: Some(2),
        conditions,
        now: 2_000,
        ..Facts::default()
    }
}

fn state(facts: &Facts<'_>) -> (State, Option<State>) {
    let draft = judge(facts);
    (draft.state, draft.last_outcome)
}

#[test]
fn each_line_of_the_rule_decides_before_those_below_it() {
    let stalled =
        [condition("Stalled", "True", "RetriesExceeded"), condition("Ready", "False", "RetriesExceeded")];
    let (blocked, failed) = (ready("False", "DependencyNotReady"), ready("False", "BuildFailed"));
    let failing = retrying(ready("False", "BuildFailed"));
    let (unknown, good) = (ready("Unknown", "Progressing"), ready("True", "ReconciliationSucceeded"));
    let ahead = |conditions| Facts { generation: Some(3), ..facts(conditions) };
    let statusless = Facts { statusless: true, ..facts(&[]) };
    let cases = [
        ("deleted", Facts { deleted: Some(5), suspended: true, ..facts(&stalled) }, State::Terminating, None),
        ("suspended", Facts { suspended: true, ..ahead(&stalled) }, State::Suspended, Some(State::Stalled)),
        ("stalled", ahead(&stalled), State::Stalled, None),
        ("dependency not ready", ahead(&blocked), State::Blocked, None),
        ("failed, retrying", ahead(&failing), State::Failing, None),
        ("failed", ahead(&failed), State::Failed, None),
        ("ready unknown", ahead(&unknown), State::Progressing, None),
        ("generation ahead", ahead(&good), State::Progressing, Some(State::Ready)),
        ("ready", facts(&good), State::Ready, None),
        ("no conditions, and there never are", statusless, State::Ready, None),
        ("no conditions", facts(&[]), State::Pending, None),
    ];
    for (name, facts, expected, outcome) in cases {
        assert_eq!(state(&facts), (expected, outcome), "{name}");
    }
}

#[test]
fn a_failure_began_when_the_oldest_condition_that_tells_of_it_did() {
    let since = |type_, status, at| Condition {
        last_transition_time: Some(Instant(at)),
        ..condition(type_, status, "UpgradeFailed")
    };
    for (other, expected) in [
        (since("Released", "False", 700), 700),
        (since("FetchFailed", "True", 700), 700),
        (since("Healthy", "False", 700), 700),
        (since("Released", "True", 700), 1_000),
        (since("Released", "False", 1_700), 1_000),
    ] {
        let conditions = [condition("Ready", "False", "UpgradeFailed"), other];
        let facts = facts(&conditions);
        let draft = judge(&facts);
        assert_eq!((draft.since, draft.outcome_since), (Some(1_000), Some(expected)), "{:?}", conditions[1]);
    }
    // The time of a success is the time of its own condition.
    let conditions = [condition("Ready", "True", "Succeeded"), since("Released", "True", 700)];
    assert_eq!(judge(&facts(&conditions)).outcome_since, Some(1_000));
}

#[test]
fn the_deciding_condition_gives_reason_message_and_time() {
    let conditions = retrying(ready("False", "BuildFailed"));
    let facts = facts(&conditions);
    let draft = judge(&facts);
    assert_eq!((&*draft.reason, &*draft.message, draft.since), ("BuildFailed", "in words", Some(1_000)));
}

#[test]
fn trap_1_a_broken_new_spec_fails_though_its_generation_was_never_observed() {
    let conditions = ready("False", "BuildFailed");
    let facts = Facts { generation: Some(9), observed_generation: Some(8), ..facts(&conditions) };
    assert_eq!(state(&facts), (State::Failed, None));
}

#[test]
fn trap_2_a_reconciliation_of_a_healthy_object_hides_no_outcome() {
    let conditions = ready("Unknown", "Progressing");
    for (status, outcome) in [
        ("ReconciliationSucceeded", Some(State::Ready)),
        ("HealthCheckFailed", Some(State::Failed)),
        ("DependencyNotReady", Some(State::Blocked)),
        ("", None),
    ] {
        let json = format!(r#"{{"lastReconciledStatus": "{status}"}}"#);
        let newest: Snapshot<'_> = serde_json::from_str(&json).unwrap();
        let facts = Facts { last_attempt: reconciled(&newest), ..facts(&conditions) };
        assert_eq!(state(&facts), (State::Progressing, outcome), "{status}");
    }
}

#[test]
fn trap_3_a_helm_snapshot_is_no_reconciliation_and_a_rollback_no_success() {
    for (status, outcome) in
        [("deployed", Some(State::Ready)), ("failed", Some(State::Failed)), ("pending-upgrade", None)]
    {
        let json = format!(r#"{{"chartVersion": "1.0.0", "status": "{status}"}}"#);
        let newest: Snapshot<'_> = serde_json::from_str(&json).unwrap();
        assert_eq!(released(&newest).map(|attempt| attempt.state), outcome, "{status}");
        assert_eq!(reconciled(&newest), None, "{status}");
    }
    let mut conditions = ready("Unknown", "Progressing");
    conditions.push(condition("Released", "False", "UpgradeFailed"));
    conditions.push(condition("Remediated", "True", "RollbackSucceeded"));
    let deployed = Attempt { state: State::Ready, at: None, revision: None };
    let rolled_back = Facts { last_attempt: Some(deployed), ..facts(&conditions) };
    assert_eq!(state(&rolled_back), (State::Progressing, Some(State::Failed)));
}

#[test]
fn trap_4_a_suspended_object_is_suspended_however_far_its_generation_is_ahead() {
    let conditions = ready("True", "ReconciliationSucceeded");
    let facts = Facts { suspended: true, generation: Some(7), ..facts(&conditions) };
    assert_eq!(state(&facts), (State::Suspended, Some(State::Ready)));
    assert_eq!(judge(&facts).since, None, "the condition's time is not that of the suspension");
}

#[test]
fn trap_5_an_object_that_fails_and_is_retried_is_not_progressing() {
    let failing = retrying(ready("False", "UpgradeFailed"));
    assert_eq!(state(&facts(&failing)), (State::Failing, None));
    let exhausted =
        [condition("Stalled", "True", "RetriesExceeded"), condition("Ready", "False", "UpgradeFailed")];
    assert_eq!(state(&facts(&exhausted)), (State::Stalled, None));
}

#[test]
fn trap_6_suspended_and_failing_is_one_state_with_the_outcome_beside_it() {
    let conditions = retrying(ready("False", "BuildFailed"));
    let facts = Facts { suspended: true, ..facts(&conditions) };
    assert_eq!(state(&facts), (State::Suspended, Some(State::Failing)));
}

#[test]
fn a_source_keeps_its_outcome_in_its_own_conditions() {
    let mut conditions = ready("Unknown", "Progressing");
    conditions.push(condition("ArtifactInStorage", "True", "Succeeded"));
    assert_eq!(state(&facts(&conditions)), (State::Progressing, Some(State::Ready)));
    conditions.push(condition("FetchFailed", "True", "GitOperationFailed"));
    assert_eq!(state(&facts(&conditions)), (State::Progressing, Some(State::Failed)));
}

#[test]
fn the_default_status_of_the_crds_is_pending() {
    let fresh = Facts { generation: Some(1), observed_generation: Some(-1), ..Facts::default() };
    assert_eq!(state(&fresh), (State::Pending, None));
    assert_eq!(state(&Facts { statusless: true, ..fresh }), (State::Ready, None));
}

#[test]
fn a_controller_at_work_for_the_first_time_is_progressing() {
    let conditions = [condition("Reconciling", "True", "Progressing")];
    assert_eq!(state(&facts(&conditions)), (State::Progressing, None));
}

#[test]
fn without_a_status_field_the_condition_tells_which_generation_was_seen() {
    let mut conditions = ready("True", "ReconciliationSucceeded");
    conditions[0].observed_generation = Some(1);
    let facts = Facts { observed_generation: None, ..facts(&conditions) };
    assert_eq!(state(&facts), (State::Progressing, Some(State::Ready)));
}
