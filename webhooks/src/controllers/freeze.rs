//! Freezes: which objects Gatehouse suspends, how it marks them, and when it resumes them. There is no I/O here.
//!
//! Denying changes of a Kustomization does not stop Flux from applying new commits. So during a freeze, the objects
//! that apply something are suspended. Gatehouse marks those on the objects themselves, so that a restart or a new
//! leader resumes exactly these.

use gatehouse_apiservice::policy::Enforcement;
use gatehouse_policy::{Kind, Policy, annotation, freeze::AUTHOR};
use jiff::Timestamp;

use super::object::{Change, Claims, Object};

/// An active freeze in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hold {
    /// The value of `frozen-by`: `POLICY/FREEZE`.
    mark: String,
    /// The item of `exempt-from` on objects that the freeze does not hold.
    exemption: String,
    reason: Option<String>,
    until: String,
}

impl Hold {
    /// The active freeze of a policy. Policies that only warn or audit suspend nothing.
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

    /// Whether an object is exempt from this freeze.
    pub(super) fn exempts(&self, object: &Object) -> bool {
        let exemptions = object.annotation(annotation::EXEMPT_FROM).unwrap_or_default();
        exemptions.split(',').any(|exemption| exemption == self.exemption)
    }
}

/// The change of an object, given the active freezes in its namespace. `None` if freezes do not affect it.
pub(super) fn decide(object: &Object, holds: &[Hold]) -> Option<Change> {
    let mark = object.annotation(annotation::FROZEN_BY);
    let holding = || holds.iter().filter(|hold| !hold.exempts(object));
    let hold = holding().find(|hold| mark == Some(&hold.mark)).or_else(|| holding().next());
    match hold {
        // The object may be of any kind, since admission suspends all new ones. If another freeze follows, it takes
        // over the object.
        Some(hold) if object.is_held() => Some(Change { write: claims(hold).write(object), notice: None }),
        // An object that is already suspended is left to whoever suspended it.
        Some(hold) if is_held(object.kind) && !object.is_suspended => Some(begin(object, hold)),
        None if object.is_held() => Some(end(object)),
        _ => None,
    }
}

/// Whether objects of the kind apply something to the cluster. Sources may be fetched during a freeze.
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
    Change { write: claims(hold).write(object), notice: Some(("Frozen", note, hold.mark.clone())) }
}

/// Drops all owned fields. Those that another manager owns too stay.
fn end(object: &Object) -> Change {
    let mark = object.annotation(annotation::FROZEN_BY).unwrap_or_default();
    let note = format!("resumed: the freeze {mark} is over");
    Change { write: Claims::default().write(object), notice: Some(("FreezeEnded", note, mark.to_owned())) }
}
