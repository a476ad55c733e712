//! Ends suspensions at their maximum duration. There is no I/O here.
//!
//! Annotations record since when, by whom and why an object is suspended. Admission or this module sets them, and
//! Gatehouse owns them by server-side apply, so an apply by a parent does not remove them. When a suspension ends, its
//! annotations are removed, so that the next one has its own start and reason.

use gatehouse_apiservice::policy::Enforcement;
use gatehouse_policy::{Policy, annotation, freeze::AUTHOR};
use jiff::{SignedDuration, Timestamp};

use super::{
    freeze::Hold,
    object::{Change, Claims, Object, Write},
};

/// How far in the future a start may be, since clocks differ.
const CLOCKS: SignedDuration = SignedDuration::from_mins(5);
/// The annotations of a suspension.
const NOTES: [&str; 4] = [
    annotation::SUSPENDED_AT,
    annotation::SUSPENDED_BY,
    annotation::SUSPEND_REASON,
    annotation::SUSPENDED_UNTIL,
];

/// The rules of all policies about suspensions in a namespace.
#[derive(Debug, Clone, Default)]
pub(super) struct Limit {
    /// Whether any policy has a rule about suspensions. If so, they are annotated.
    is_noted: bool,
    /// The shortest maximum among enforcing policies, with the name of its policy.
    enforced: Option<(SignedDuration, String)>,
    /// The shortest maximum among policies that only warn or audit, with the name of its policy.
    reported: Option<(SignedDuration, String)>,
}

impl Limit {
    /// Adds the rules of a policy.
    pub(super) fn add(&mut self, policy: &Policy) {
        self.is_noted |= policy.notes_suspensions();
        let Some(longest) = policy.max_suspension() else { return };
        let is_enforced = policy.enforcement_of("suspension") == Enforcement::Deny;
        let limit = if is_enforced { &mut self.enforced } else { &mut self.reported };
        if limit.as_ref().is_none_or(|(known, _)| longest < *known) {
            *limit = Some((longest, policy.name.clone()));
        }
    }

    fn is_some(&self) -> bool {
        self.enforced.is_some() || self.reported.is_some()
    }
}

/// The change of an object that no freeze holds, and when to visit it again if nothing changes. While a freeze is
/// active, no suspension ends.
pub(super) fn decide(
    object: &Object,
    limit: &Limit,
    holds: &[Hold],
    now: Timestamp,
) -> (Change, Option<Timestamp>) {
    if !object.is_suspended {
        return (quiet(resumed(object, holds)), None);
    }
    if !limit.is_noted {
        return (quiet(Write::Nothing), None);
    }
    let at = object.annotation(annotation::SUSPENDED_AT).and_then(|text| text.parse::<Timestamp>().ok());
    let since = at.filter(|since| since.duration_since(now) <= CLOCKS);
    if let (Some(since), true) = (since, holds.is_empty()) {
        let (change, next) = expire(object, limit, since, now);
        return match change {
            Some(change) => (change, next),
            None => (quiet(notes(object, at.map(|_| since), limit, now)), next),
        };
    }
    (quiet(notes(object, since, limit, now)), None)
}

/// Removes what is left of an ended suspension, or of an exemption from an ended freeze.
fn resumed(object: &Object, holds: &[Hold]) -> Write {
    let mut over = Vec::new();
    if object.annotation(annotation::SUSPENDED_AT).is_some() {
        over.extend(NOTES);
    } else if object.annotation(annotation::SUSPENDED_BY) == Some(AUTHOR) {
        over.push(annotation::SUSPENDED_BY);
    }
    if object.annotation(annotation::FROZEN_BY).is_some() {
        over.push(annotation::FROZEN_BY);
    }
    let is_exempt = holds.iter().any(|hold| hold.exempts(object));
    match object.annotation(annotation::EXEMPT_FROM) {
        Some(_) if !is_exempt => over.push(annotation::EXEMPT_FROM),
        Some(exemption) if over.is_empty() => {
            return Claims::default().with(annotation::EXEMPT_FROM, exemption).write(object);
        }
        _ => {}
    }
    if over.is_empty() { Write::Nothing } else { Write::End { resumes: false, annotations: over } }
}

/// Takes ownership of the annotations of a suspension. If its duration is limited and its start is unknown, it starts
/// now.
fn notes(object: &Object, since: Option<Timestamp>, limit: &Limit, now: Timestamp) -> Write {
    // If Gatehouse owns the suspension without its mark, applying the annotations alone would resume the object.
    let mut claims = Claims { suspension: object.has_own_suspension(), ..Claims::default() };
    for name in NOTES {
        if let Some(text) = object.annotation(name) {
            claims = claims.with(name, text);
        }
    }
    if since.is_none() && limit.is_some() {
        let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
        claims = claims.with(annotation::SUSPENDED_AT, second.to_string());
    }
    claims.write(object)
}

/// The change of a suspension that is too long, and when to visit the object again.
fn expire(
    object: &Object,
    limit: &Limit,
    since: Timestamp,
    now: Timestamp,
) -> (Option<Change>, Option<Timestamp>) {
    let end = |limit: &Option<(SignedDuration, String)>| {
        limit
            .as_ref()
            .and_then(|(longest, policy)| Some((since.checked_add(*longest).ok()?, *longest, policy.clone())))
    };
    let mut next = None;
    for (limit, is_enforced) in [(&limit.enforced, true), (&limit.reported, false)] {
        let Some((end, longest, policy)) = end(limit) else { continue };
        if now < end {
            next = next.into_iter().chain([end]).min();
        } else if is_enforced {
            let note = format!(
                "resumed: suspended since {since}, longer than the {longest:#} that policy {policy} allows"
            );
            let write = Write::End { resumes: true, annotations: NOTES.to_vec() };
            return (Some(Change { write, notice: Some(("SuspensionExpired", note, policy)) }), None);
        } else {
            let note =
                format!("suspended since {since}, longer than the {longest:#} that policy {policy} allows");
            let notice = Some(("SuspensionOverdue", note, policy));
            return match notes(object, Some(since), &Limit::default(), now) {
                Write::Nothing => (Some(Change { write: Write::Nothing, notice }), next),
                // The Event is sent after this write.
                write => (Some(quiet(write)), next),
            };
        }
    }
    (None, next)
}

fn quiet(write: Write) -> Change {
    Change { write, notice: None }
}
