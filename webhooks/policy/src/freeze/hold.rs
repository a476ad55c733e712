//! What becomes of a request while a freeze is on.
//!
//! People are refused. What Flux's controllers write is held instead: an object that exists stays as it is, a new one is
//! admitted suspended, a new fleet without servers. A parent that brings the objects of several tenants then sees no change in those of the frozen
//! one, and goes on with the others. People whom the policy exempts may resume an object, or make one; that they did is
//! marked on it, for otherwise it would be suspended at once.

use gatehouse_apiservice::policy::Enforcement;
use gatehouse_inventory::{DISABLED, Suspension};
use json_patch::{Patch, PatchOperation, RemoveOperation, jsonptr::PointerBuf};
use serde_json::{Value, json};

use crate::{
    Accounts, ActiveFreeze, Case, Operation, Policy, Subject, User, annotation, defaults::Additions,
    rules::freezes,
};

/// Who suspends, as `fluxcd.controlplane.io/suspendedBy` says it.
pub const AUTHOR: &str = "gatehouse";

/// Annotations that Gatehouse alone writes.
const MARKS: [&str; 2] = [annotation::FROZEN_BY, annotation::EXEMPT_FROM];

/// What a freeze makes of a write by one of Flux's controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The policy.
    pub policy: String,
    /// Its freeze.
    pub freeze: ActiveFreeze,
    /// An object that exists stays as it is; else, a new one is admitted so that it does nothing.
    pub stays: bool,
}

impl Hold {
    /// As objects are marked: `POLICY/FREEZE`.
    pub fn mark(&self) -> String {
        self.freeze.mark(&self.policy)
    }

    /// A sentence for whoever wrote.
    pub fn notice(&self) -> String {
        let what = if self.stays { "the object stays as it is" } else { "the object does nothing" };
        format!("{what} during the freeze {}, which ends {}", self.mark(), self.freeze.until_local)
    }
}

impl ActiveFreeze {
    /// As objects are marked: `POLICY/FREEZE`.
    pub fn mark(&self, policy: &str) -> String {
        format!("{policy}/{}", self.name)
    }

    /// As objects are marked that this freeze does not hold, though others of its kind may: `POLICY/FREEZE@SINCE`.
    pub fn exemption(&self, policy: &str) -> String {
        format!("{policy}/{}@{}", self.name, self.since)
    }
}

impl Policy {
    /// The freeze that is on for a request, unless whoever makes it may pass.
    pub(crate) fn freeze_over(&self, case: &Case<'_>) -> Option<ActiveFreeze> {
        // A freeze holds back what acts by itself; people who may break it are named by the policy.
        let is_passed = |user: &User| {
            Accounts::is_collector(user)
                || case.subject().is_some_and(|subject| !subject.kind.is_flux())
                    && case.accounts.is_game_controller(user)
                || self.is_exempt_person(user)
        };
        let is_passed = case.user.is_some_and(is_passed);
        self.active_freeze(case.now).filter(|_| !is_passed)
    }

    /// The freeze that this policy would hold a request by. Policies that only warn or audit hold nothing.
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
        // Helm does not write again what it wrote once: a fleet would stay without servers when the freeze is over.
        let can_wait = kind.suspension() != Suspension::Never || kind.has_replicas() && !case.is_helms();
        let freeze = self.freeze_over(case).filter(|_| stays || can_wait)?;
        Some(Hold { policy: self.name.clone(), freeze, stays })
    }

    /// The freeze that is on and that whoever makes the request is exempt from.
    fn exemption(&self, case: &Case<'_>) -> Option<String> {
        let user = case.user.filter(|user| self.is_exempt_person(user))?;
        let freeze = self.active_freeze(case.now).filter(|_| self.enforcement == Enforcement::Deny)?;
        debug_assert!(user.service_account().is_none(), "exempt accounts are held too");
        Some(freeze.exemption(&self.name))
    }
}

/// The freeze that a request is held by.
pub fn hold(policies: &[&Policy], case: &Case<'_>) -> Option<Hold> {
    let is_judged =
        case.subresource.is_none() && !case.user.is_some_and(|user| case.accounts.is_gatehouse(user));
    policies.iter().filter(|_| is_judged).find_map(|policy| policy.hold(case))
}

/// What admits a new object so that it does nothing, as additions to it. Who owns the fields that suspend is for the
/// caller to say; a fleet has its servers when it is applied again.
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

/// What an exempt person's request is marked with: the freezes that do not hold the object from here on.
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

/// What is made of Gatehouse's marks in a request: an exempt person's doing is marked, and what Flux's controllers
/// bring of them (from Git, where somebody copied them to) is left out.
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

/// The mark that a request writes though only Gatehouse may, given what Gatehouse itself makes of it. Taking a mark away
/// gives a claim up, which is not forbidden here: while a freeze is on, the freeze forbids it.
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
