//! Decides what happens to a request during a freeze.
//!
//! Requests of people are denied. Writes of Flux's controllers are held: an existing object stays as it is, a new one
//! is admitted suspended, and a new fleet without servers. A parent that applies the objects of several tenants then
//! sees no change in those of the frozen one, and continues with the others. People whom the policy exempts may resume
//! or create an object; this is marked on it, because otherwise it would be suspended at once.
//!
//! **Invariant:** only a policy that denies holds a write, and only writes of Flux are held.

use gatehouse_apiservice::{UserInfo, policy::Enforcement};
use gatehouse_inventory::{DISABLED, Suspension};
use json_patch::{Patch, PatchOperation, RemoveOperation, jsonptr::PointerBuf};
use serde_json::{Value, json};

use crate::{
    Accounts, ActiveFreeze, Case, Operation, Policy, Subject, annotation, defaults::Additions, rules::freezes,
};

/// The author in `fluxcd.controlplane.io/suspendedBy`.
pub const AUTHOR: &str = "gatehouse";

/// The annotations that only Gatehouse writes.
const MARKS: [&str; 2] = [annotation::FROZEN_BY, annotation::EXEMPT_FROM];

/// A write of a Flux controller that a freeze holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The name of the policy.
    pub policy: String,
    /// The active freeze.
    pub freeze: ActiveFreeze,
    /// True if an existing object stays as it is; false if a new one is admitted suspended or without servers.
    pub stays: bool,
}

impl Hold {
    /// The mark on held objects: `POLICY/FREEZE`.
    pub fn mark(&self) -> String {
        self.freeze.mark(&self.policy)
    }

    /// The warning for the client.
    pub fn notice(&self) -> String {
        let what = if self.stays { "the object stays as it is" } else { "the object does nothing" };
        format!("{what} during the freeze {}, which ends {}", self.mark(), self.freeze.until_local)
    }
}

impl ActiveFreeze {
    /// The mark on held objects: `POLICY/FREEZE`.
    pub fn mark(&self, policy: &str) -> String {
        format!("{policy}/{}", self.name)
    }

    /// The mark on objects that this freeze does not hold, though other occurrences may: `POLICY/FREEZE@SINCE`.
    pub fn exemption(&self, policy: &str) -> String {
        format!("{policy}/{}@{}", self.name, self.since)
    }
}

impl Policy {
    /// The active freeze for a request, unless its user may pass.
    pub(crate) fn freeze_over(&self, case: &Case<'_>) -> Option<ActiveFreeze> {
        // Garbage collection passes, game controllers pass on game servers, and so do people whom the policy exempts.
        let is_passed = |user: &UserInfo| {
            Accounts::is_collector(user)
                || case.subject().is_some_and(|subject| !subject.kind.is_flux())
                    && case.accounts.is_game_controller(user)
                || self.is_exempt_person(user)
        };
        let is_passed = case.user.is_some_and(is_passed);
        self.active_freeze(case.now).filter(|_| !is_passed)
    }

    /// The hold of this policy on a request. Policies that only warn or audit hold nothing.
    fn hold(&self, case: &Case<'_>) -> Option<Hold> {
        if self.enforcement != Enforcement::Deny || !case.is_fluxs() {
            return None;
        }
        let stays = match (case.operation, case.object?) {
            (Operation::Update, _) => freezes::changes(case).map(|_| true)?,
            (Operation::Create, object) if !freezes::is_inert(object) => false,
            _ => return None,
        };
        let kind = case.object?.kind;
        // Helm does not apply an unchanged object again, so a fleet would stay without servers after the freeze.
        let can_wait = kind.suspension() != Suspension::Never || kind.has_replicas() && !case.is_helms();
        let freeze = self.freeze_over(case).filter(|_| stays || can_wait)?;
        Some(Hold { policy: self.name.clone(), freeze, stays })
    }

    /// The mark of the active freeze, if the user is exempt from it.
    fn exemption(&self, case: &Case<'_>) -> Option<String> {
        let user = case.user.filter(|user| self.is_exempt_person(user))?;
        let freeze = self.active_freeze(case.now).filter(|_| self.enforcement == Enforcement::Deny)?;
        debug_assert!(user.service_account().is_none(), "exempt accounts are held too");
        Some(freeze.exemption(&self.name))
    }
}

/// The hold on a request: that of the first policy which holds it.
pub fn hold(policies: &[&Policy], case: &Case<'_>) -> Option<Hold> {
    let is_judged =
        case.subresource.is_none() && !case.user.is_some_and(|user| case.accounts.is_gatehouse(user));
    policies.iter().filter(|_| is_judged).find_map(|policy| policy.hold(case))
}

/// The patch that suspends a new object, or scales a new fleet to 0. The caller sets the owner of the fields that
/// suspend; a fleet gets its servers when it is applied again.
pub fn suspended(hold: &Hold, object: &Subject) -> Patch {
    let mut additions = Additions::to(&object.object);
    if object.kind.has_replicas() {
        additions.set(&["spec", "replicas"], json!(0));
        return additions.into_patch();
    }
    match object.kind.suspension() {
        Suspension::Field => additions.set(&["spec", "suspend"], json!(true)),
        Suspension::Annotation(name) => additions.set(&["metadata", "annotations", name], json!(DISABLED)),
        Suspension::Never => {}
    }
    additions.set(&["metadata", "annotations", annotation::FROZEN_BY], json!(hold.mark()));
    additions.set(&["metadata", "annotations", annotation::SUSPENDED_BY], json!(AUTHOR));
    additions.into_patch()
}

/// The mark for an exempt person's request: the freezes that no longer hold the object.
fn exemptions(policies: &[&Policy], case: &Case<'_>) -> Option<String> {
    let object = case.object.filter(|object| object.kind.suspension() != Suspension::Never)?;
    let begins = match case.operation {
        Operation::Create => !object.is_suspended(),
        Operation::Update => !object.is_suspended() && case.old.is_some_and(Subject::is_suspended),
        Operation::Delete => false,
    };
    let exemptions: Vec<_> =
        policies.iter().filter(|_| begins).filter_map(|policy| policy.exemption(case)).collect();
    (!exemptions.is_empty()).then(|| exemptions.join(","))
}

/// The patch to Gatehouse's marks in a request: an exempt person's request is marked, and changes to marks by Flux's
/// controllers (from copies in Git) are reverted.
pub fn marks(policies: &[&Policy], case: &Case<'_>) -> Patch {
    let Some(object) = case.object else { return Patch(Vec::new()) };
    let mut operations = Vec::new();
    if case.is_fluxs() {
        for name in MARKS.into_iter().filter(|name| is_changed(case, name)) {
            let path = PointerBuf::from_tokens(["metadata", "annotations", name]);
            match case.old.and_then(|old| old.annotation(name)) {
                Some(before) => {
                    let value = Value::from(before);
                    operations.push(PatchOperation::Add(json_patch::AddOperation { path, value }));
                }
                None => operations.push(PatchOperation::Remove(RemoveOperation { path })),
            }
        }
        return Patch(operations);
    }
    let mut additions = Additions::to(&object.object);
    if let Some(exemptions) = exemptions(policies, case) {
        additions.set(&["metadata", "annotations", annotation::EXEMPT_FROM], exemptions.into());
    }
    additions.into_patch()
}

/// The mark that a request adds or changes and only Gatehouse may write, except as Gatehouse itself adds it. Removing
/// a mark gives up a claim, which is allowed here; an active freeze denies it.
pub fn forged(policies: &[&Policy], case: &Case<'_>) -> Option<&'static str> {
    let object = case.object?;
    let is_right = |name: &str, value: &str| match name {
        annotation::EXEMPT_FROM => exemptions(policies, case).as_deref() == Some(value),
        // A new object that was admitted suspended.
        _ => {
            case.operation == Operation::Create
                && case.is_fluxs()
                && object.is_suspended()
                && policies.iter().filter(|policy| policy.enforcement == Enforcement::Deny).any(|policy| {
                    let freeze = policy.freeze_over(case);
                    freeze.is_some_and(|freeze| freeze.mark(&policy.name) == value)
                })
        }
    };
    MARKS.into_iter().find(|name| {
        is_changed(case, name) && object.annotation(name).is_some_and(|value| !is_right(name, value))
    })
}

fn is_changed(case: &Case<'_>, name: &str) -> bool {
    case.object.and_then(|object| object.annotation(name)) != case.old.and_then(|old| old.annotation(name))
}
