//! Freezes hold Flux back: whom, by what mark, and when they let go. Pure.
//!
//! Refusing changes to a Kustomization does not keep Flux from applying new commits. So, while a freeze is on, what
//! applies is suspended, and what Gatehouse suspended is marked on the object itself: restarts and changes of leader
//! forget nothing, and exactly what was held is let go.

use gatehouse_apiservice::policy::Enforcement;
use gatehouse_policy::{Kind, Policy, annotation, freeze::AUTHOR};
use jiff::Timestamp;

use super::object::{Change, Claims, Object};

/// A freeze that is on in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hold {
    /// `POLICY/FREEZE`, as objects are marked.
    mark: String,
    /// As objects are marked that it does not hold.
    exemption: String,
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
            mark: freeze.mark(&policy.name),
            exemption: freeze.exemption(&policy.name),
            reason: freeze.reason,
            until: freeze.until_local,
        })
    }

    /// Whether an object is exempt from it.
    pub(super) fn exempts(&self, object: &Object) -> bool {
        let exemptions = object.annotation(annotation::EXEMPT_FROM).unwrap_or_default();
        exemptions.split(',').any(|exemption| exemption == self.exemption)
    }
}

/// What is to be done to an object, given the freezes that are on in its namespace. None, if freezes have nothing to say
/// of it.
pub(super) fn decide(object: &Object, holds: &[Hold]) -> Option<Change> {
    let mark = object.annotation(annotation::FROZEN_BY);
    let holding = || holds.iter().filter(|hold| !hold.exempts(object));
    let hold = holding().find(|hold| mark == Some(&hold.mark)).or_else(|| holding().next());
    match hold {
        // A new object of any kind was admitted suspended. One freeze follows another: it goes from hand to hand.
        Some(hold) if object.is_held() => Some(Change { write: claims(hold).write(object), told: None }),
        // Whoever suspended it will let it go.
        Some(hold) if is_held(object.kind) && !object.is_suspended => Some(begin(object, hold)),
        None if object.is_held() => Some(end(object)),
        _ => None,
    }
}

/// What applies things to the cluster. Sources may be fetched in a freeze.
fn is_held(kind: Kind) -> bool {
    matches!(kind, Kind::Kustomization | Kind::HelmRelease | Kind::ResourceSet)
}

fn claims(hold: &Hold) -> Claims {
    let claims = Claims { suspension: true, ..Claims::default() };
    claims.with(annotation::FROZEN_BY, &hold.mark).with(annotation::SUSPENDED_BY, AUTHOR)
}

fn begin(object: &Object, hold: &Hold) -> Change {
    let reason = hold.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let note = format!("suspended by the freeze {}{reason}, which ends {}", hold.mark, hold.until);
    Change { write: claims(hold).write(object), told: Some(("Frozen", note, hold.mark.clone())) }
}

/// Lets go of everything. What somebody else holds too stays.
fn end(object: &Object) -> Change {
    let mark = object.annotation(annotation::FROZEN_BY).unwrap_or_default();
    let note = format!("resumed: the freeze {mark} is over");
    Change { write: Claims::default().write(object), told: Some(("FreezeEnded", note, mark.to_owned())) }
}
