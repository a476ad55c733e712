//! Freezes hold Flux back: whom, by what mark, and when they let go. Pure.
//!
//! Refusing changes to a Kustomization does not keep Flux from applying new commits. So, while a freeze is on, what
//! applies is suspended, and what Gatehouse suspended is marked on the object itself: restarts and changes of leader
//! forget nothing, and exactly what was held is let go.

use gatehouse_apiservice::policy::Enforcement;
use gatehouse_policy::{Kind, Policy, annotation};
use jiff::Timestamp;

use super::object::{Change, Object};

/// Who suspends, as `fluxcd.controlplane.io/suspendedBy` says it.
pub(super) const AUTHOR: &str = "gatehouse";

/// A freeze that is on in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hold {
    /// `POLICY/FREEZE`, as objects are marked.
    mark: String,
    reason: Option<String>,
    until: String,
}

impl Hold {
    /// The freeze of a policy that is on. Policies that only warn or audit hold nothing back.
    pub(super) fn of(policy: &Policy, now: Timestamp) -> Option<Self> {
        if policy.enforcement != Enforcement::Deny {
            return None;
        }
        let freeze = policy.active_freeze(now)?;
        Some(Self {
            mark: format!("{}/{}", policy.name, freeze.name),
            reason: freeze.reason,
            until: freeze.until_local,
        })
    }
}

/// What is to be done to an object, given the freezes that are on in its namespace.
pub(super) fn decide(object: &Object, holds: &[Hold]) -> Option<Change> {
    if object.is_terminating {
        return None;
    }
    let mark = object.frozen_by.as_deref();
    let hold = holds.iter().find(|hold| mark == Some(&hold.mark)).or_else(|| holds.first());
    match hold.filter(|_| is_held(object.kind)) {
        Some(hold) => {
            let is_marked = mark == Some(&hold.mark);
            if !object.is_suspended {
                Some(begin(object, hold))
            } else if mark.is_some() && !is_marked {
                // One freeze follows another: the object goes from hand to hand.
                Some(Change {
                    annotations: vec![(annotation::FROZEN_BY, Some(hold.mark.clone()))],
                    ..Change::default()
                })
            } else {
                // Marked and stopped, or stopped by somebody else, who will let it go.
                None
            }
        }
        None => mark.map(|mark| end(object, mark)),
    }
}

/// What applies things to the cluster. Sources may be fetched in a freeze.
fn is_held(kind: Kind) -> bool {
    matches!(kind, Kind::Kustomization | Kind::HelmRelease | Kind::ResourceSet)
}

fn begin(object: &Object, hold: &Hold) -> Change {
    let reason = hold.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let mut change = Change {
        annotations: vec![
            (annotation::FROZEN_BY, Some(hold.mark.clone())),
            (annotation::SUSPENDED_BY, Some(AUTHOR.to_owned())),
        ],
        told: Some((
            "Frozen",
            format!("suspended by the freeze {}{reason}, which ends {}", hold.mark, hold.until),
            hold.mark.clone(),
        )),
        ..Change::default()
    };
    object.suspend(&mut change);
    change
}

fn end(object: &Object, mark: &str) -> Change {
    let mut change = Change { annotations: vec![(annotation::FROZEN_BY, None)], ..Change::default() };
    if object.suspended_by.as_deref() == Some(AUTHOR) {
        change.annotations.push((annotation::SUSPENDED_BY, None));
    }
    if object.is_suspended {
        object.resume(&mut change);
        change.told = Some(("FreezeEnded", format!("resumed: the freeze {mark} is over"), mark.to_owned()));
    }
    change
}
