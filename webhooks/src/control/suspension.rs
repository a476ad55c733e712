//! Suspensions end at their longest duration. Pure.
//!
//! Since when an object is suspended is noted on it, by admission or here; what a suspension that is over left behind
//! is cleared away, so that the next one begins anew and takes a reason of its own.

use gatehouse_apiservice::policy::Enforcement;
use gatehouse_policy::{Policy, annotation};
use jiff::{SignedDuration, Timestamp};

use super::object::{Change, Object};

/// How far in the future a beginning may be: clocks differ.
const CLOCKS: SignedDuration = SignedDuration::from_mins(5);

/// How long suspensions may last in a namespace.
#[derive(Debug, Clone, Default)]
pub(super) struct Limit {
    /// By the strictest policy that enforces, and its name.
    pub(super) enforced: Option<(SignedDuration, String)>,
    /// By the strictest policy that only tells, and its name.
    pub(super) told: Option<(SignedDuration, String)>,
}

impl Limit {
    /// Takes in what a policy says.
    pub(super) fn add(&mut self, policy: &Policy) {
        let Some(longest) = policy.max_suspension() else { return };
        let limit = if policy.enforcement == Enforcement::Deny { &mut self.enforced } else { &mut self.told };
        if limit.as_ref().is_none_or(|(known, _)| longest < *known) {
            *limit = Some((longest, policy.name.clone()));
        }
    }
}

/// What is to be done to an object that no freeze holds, and when to look at it again if nothing is.
pub(super) fn decide(object: &Object, limit: &Limit, now: Timestamp) -> (Option<Change>, Option<Timestamp>) {
    if object.is_terminating || object.frozen_by.is_some() {
        return (None, None);
    }
    if !object.is_suspended {
        let left_behind = object.suspended_at.is_some();
        return (left_behind.then(|| clear(Change::default())), None);
    }
    if limit.enforced.is_none() && limit.told.is_none() {
        return (None, None);
    }
    let since = object.suspended_at.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    let Some(since) = since.filter(|since| since.duration_since(now) <= CLOCKS) else {
        let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let annotations = vec![(annotation::SUSPENDED_AT, Some(second.to_string()))];
        return (Some(Change { annotations, ..Change::default() }), None);
    };
    let end = |limit: &Option<(SignedDuration, String)>| {
        limit
            .as_ref()
            .and_then(|(longest, policy)| Some((since.checked_add(*longest).ok()?, *longest, policy.clone())))
    };
    let mut next = None;
    for (limit, is_enforced) in [(&limit.enforced, true), (&limit.told, false)] {
        let Some((end, longest, policy)) = end(limit) else { continue };
        if now < end {
            next = next.into_iter().chain([end]).min();
        } else if is_enforced {
            let note = format!(
                "resumed: suspended since {since}, longer than the {longest:#} that policy {policy} allows"
            );
            let mut change =
                clear(Change { told: Some(("SuspensionExpired", note, policy)), ..Change::default() });
            object.resume(&mut change);
            return (Some(change), None);
        } else {
            let note =
                format!("suspended since {since}, longer than the {longest:#} that policy {policy} allows");
            let told = Some(("SuspensionOverdue", note, policy));
            return (Some(Change { told, ..Change::default() }), next);
        }
    }
    (None, next)
}

/// Takes away what belonged to the suspension that is over: its beginning, its author, its reason.
fn clear(mut change: Change) -> Change {
    for name in [annotation::SUSPENDED_AT, annotation::SUSPENDED_BY, annotation::SUSPEND_REASON] {
        change.annotations.push((name, None));
    }
    change
}
