//! Suspensions end at their longest duration. Pure.
//!
//! Since when an object is suspended, by whom and why is noted on it, by admission or here, and held here: a parent that
//! takes away what kubectl wrote does not take that away. What a suspension that is over left behind is cleared away, so
//! that the next one begins anew and takes a reason of its own.

use gatehouse_apiservice::policy::Enforcement;
use gatehouse_policy::{Policy, annotation, freeze::AUTHOR};
use jiff::{SignedDuration, Timestamp};

use super::{
    freeze::Hold,
    object::{Change, Claims, Object, Write},
};

/// How far in the future a beginning may be: clocks differ.
const CLOCKS: SignedDuration = SignedDuration::from_mins(5);
/// What is noted of a suspension.
const NOTES: [&str; 3] = [annotation::SUSPENDED_AT, annotation::SUSPENDED_BY, annotation::SUSPEND_REASON];

/// What policies say of suspensions in a namespace.
#[derive(Debug, Clone, Default)]
pub(super) struct Limit {
    /// Whether any has a rule about them: then they are noted.
    is_noted: bool,
    /// The longest by the strictest policy that enforces, and its name.
    enforced: Option<(SignedDuration, String)>,
    /// The longest by the strictest policy that only tells, and its name.
    told: Option<(SignedDuration, String)>,
}

impl Limit {
    /// Takes in what a policy says.
    pub(super) fn add(&mut self, policy: &Policy) {
        self.is_noted |= policy.notes_suspensions();
        let Some(longest) = policy.max_suspension() else { return };
        let limit = if policy.enforcement == Enforcement::Deny { &mut self.enforced } else { &mut self.told };
        if limit.as_ref().is_none_or(|(known, _)| longest < *known) {
            *limit = Some((longest, policy.name.clone()));
        }
    }

    fn is_some(&self) -> bool {
        self.enforced.is_some() || self.told.is_some()
    }
}

/// What is to be done to an object that no freeze holds, and when to look at it again if nothing is. While a freeze is
/// on, no suspension ends.
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

/// What is left of a suspension that is over, or of a freeze that somebody was exempt from.
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

/// Holds what is noted of a suspension. Where its length is limited and its beginning is not known, it begins now.
fn notes(object: &Object, since: Option<Timestamp>, limit: &Limit, now: Timestamp) -> Write {
    // A hold whose mark was given up is not undone by holding something else.
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

/// What comes of a suspension that lasts too long, and when to look again.
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
    for (limit, is_enforced) in [(&limit.enforced, true), (&limit.told, false)] {
        let Some((end, longest, policy)) = end(limit) else { continue };
        if now < end {
            next = next.into_iter().chain([end]).min();
        } else if is_enforced {
            let note = format!(
                "resumed: suspended since {since}, longer than the {longest:#} that policy {policy} allows"
            );
            let write = Write::End { resumes: true, annotations: NOTES.to_vec() };
            return (Some(Change { write, told: Some(("SuspensionExpired", note, policy)) }), None);
        } else {
            let note =
                format!("suspended since {since}, longer than the {longest:#} that policy {policy} allows");
            let told = Some(("SuspensionOverdue", note, policy));
            return match notes(object, Some(since), &Limit::default(), now) {
                Write::Nothing => (Some(Change { write: Write::Nothing, told }), next),
                // It is told when that is done.
                write => (Some(quiet(write)), next),
            };
        }
    }
    (None, next)
}

fn quiet(write: Write) -> Change {
    Change { write, told: None }
}
