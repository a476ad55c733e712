//! Fills in fields that an object omits, as a JSON Patch.
//!
//! **Invariant:** only absent fields are set, and only where the kind has the field: a field that Flux declared is
//! never overwritten, so its server-side-apply dry-run sees no drift. Each addition is also applied to a copy, so that
//! the next policy sees it, and a second review of the patched object adds nothing.

mod containers;
mod patch;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use gatehouse_apiservice::{dns, labels::Selector, policy, quantity::Quantity};
use json_patch::Patch;
use serde_json::{Value, json};

pub(crate) use self::patch::Additions;
use crate::{
    Case, Kind, Operation, Policy, Subject, annotation, members,
    rules::{
        Errors,
        interval::{Interval, has_interval},
        service_account::ServiceAccountName,
    },
};

/// The defaults of a policy.
#[derive(Debug)]
pub(crate) struct Defaults {
    interval: Option<String>,
    timeout: Option<String>,
    retry_interval: Option<String>,
    prune: Option<bool>,
    service_account_name: Option<String>,
    labels: BTreeMap<String, String>,
    requests: BTreeMap<String, String>,
}

impl Defaults {
    pub(crate) fn compile(
        defaults: &policy::Defaults,
        interval: Option<&Interval>,
        account: Option<&ServiceAccountName>,
        errors: &mut Errors,
    ) -> Self {
        for (name, value) in [
            ("interval", &defaults.interval),
            ("timeout", &defaults.timeout),
            ("retryInterval", &defaults.retry_interval),
        ] {
            let (Some(text), field) = (value, format!("spec.defaults.{name}")) else { continue };
            let Some(duration) = errors.duration(&field, text) else { continue };
            if !is_flux_duration(text) {
                errors.refuse(&field, text, "must be made of h, m, s and ms, as Flux takes durations");
            } else if let Some(problem) =
                interval.filter(|_| name == "interval").and_then(|rule| rule.problem(duration))
            {
                errors.refuse(&field, text, format!("breaks spec.rules.interval of this policy: {problem}"));
            }
        }
        if let Some(name) = &defaults.service_account_name {
            let field = "spec.defaults.serviceAccountName";
            if !dns::is_subdomain(name) {
                errors.refuse(field, name, "must be the name of a service account");
            } else if account.is_some_and(|rule| !rule.allows(name)) {
                errors.refuse(field, name, "breaks spec.rules.serviceAccountName of this policy");
            }
        }
        check_labels(&defaults.labels, errors);
        let requests = defaults.game_server_resources.as_ref().map(|resources| resources.requests.clone());
        let requests = requests.unwrap_or_default();
        for (name, quantity) in &requests {
            let field = format!("spec.defaults.gameServerResources.requests[{name}]");
            if name.is_empty() {
                errors.refuse(&field, name, "must be the name of a resource, such as cpu");
            }
            match quantity.parse::<Quantity>() {
                Ok(quantity) if !quantity.is_negative() => {}
                Ok(_) => errors.refuse(&field, quantity, "must not be negative"),
                Err(error) => errors.refuse(&field, quantity, error.to_string()),
            }
        }
        Self {
            interval: defaults.interval.clone(),
            timeout: defaults.timeout.clone(),
            retry_interval: defaults.retry_interval.clone(),
            prune: defaults.prune,
            service_account_name: defaults.service_account_name.clone(),
            labels: defaults.labels.clone(),
            requests,
        }
    }

    fn add_to(&self, kind: Kind, additions: &mut Additions) {
        let text = |value: &Option<String>| value.clone().map(Value::String);
        if kind == Kind::ImagePolicy {
            // The interval is required if it reflects digests always, and forbidden otherwise.
            if additions.get(&["spec", "digestReflectionPolicy"]) == Some(&json!("Always")) {
                additions.add(&["spec", "interval"], text(&self.interval));
            }
        } else if has_interval(kind) {
            additions.add(&["spec", "interval"], text(&self.interval));
        }
        if has_timeout(kind) {
            additions.add(&["spec", "timeout"], text(&self.timeout));
        }
        if kind == Kind::Kustomization {
            additions.add(&["spec", "retryInterval"], text(&self.retry_interval));
            additions.add(&["spec", "prune"], self.prune.map(Value::Bool));
        }
        if matches!(kind, Kind::Kustomization | Kind::HelmRelease) {
            additions.add(&["spec", "serviceAccountName"], text(&self.service_account_name));
        }
        containers::add_requests(kind, &self.requests, additions);
    }
}

/// The patch that fills in absent fields; if several policies set a field, the first by name wins.
///
/// Fields are filled in on a creation, and on an update that changes the spec; labels also on an update that changes
/// labels. If a policy has a rule about suspensions, the author and the time of a suspension are added.
pub fn defaults(policies: &[&Policy], case: &Case<'_>) -> Patch {
    let none = || Patch(Vec::new());
    let Some(object) = case.object else { return none() };
    if case.operation == Operation::Delete
        || case.subresource.is_some()
        || case.old.is_some_and(Subject::is_terminating)
        || case.user.is_some_and(|user| case.accounts.is_gatehouse(user))
        || members::may_be_excused(case)
    {
        return none();
    }
    let is_changed = case.old.is_none_or(|old| old.spec_differs(object));
    let is_relabelled = case.old.is_some_and(|old| old.metadata("labels") != object.metadata("labels"));
    let mut by_name = policies.to_vec();
    by_name.sort_by(|one, other| one.name.cmp(&other.name));
    let mut additions = Additions::to(&object.object);
    for policy in by_name {
        if is_changed {
            policy.defaults.add_to(object.kind, &mut additions);
        }
        if is_changed || is_relabelled {
            for (key, value) in &policy.defaults.labels {
                additions.add(&["metadata", "labels", key], Some(Value::String(value.clone())));
            }
        }
        if policy.notes_suspensions() {
            note_suspension(case, object, &mut additions);
        }
    }
    additions.into_patch()
}

fn note_suspension(case: &Case<'_>, object: &Subject, additions: &mut Additions) {
    let Some(user) = case.user else { return };
    let is_new = object.is_suspended() && !case.old.is_some_and(Subject::is_suspended);
    if !is_new || !object.kind.is_flux() || case.accounts.is_flux(user) {
        return;
    }
    let mut note = |name: &str, value: String| {
        let path = ["metadata", "annotations", name];
        // What the object bore before it was suspended is about an earlier suspension, or about none.
        let is_left = case
            .old
            .and_then(|old| old.annotation(name))
            .is_some_and(|left| object.annotation(name) == Some(left));
        if is_left {
            additions.set(&path, Value::String(value));
        } else {
            additions.add(&path, Some(Value::String(value)));
        }
    };
    note(annotation::SUSPENDED_BY, user.name.clone());
    // Kubernetes writes times in whole seconds.
    let now = jiff::Timestamp::from_second(case.now.as_second()).unwrap_or(case.now);
    note(annotation::SUSPENDED_AT, now.to_string());
}

/// Whether objects of this kind have `spec.timeout`.
fn has_timeout(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Bucket
            | Kind::GitRepository
            | Kind::HelmRepository
            | Kind::OciRepository
            | Kind::Kustomization
            | Kind::HelmRelease
            | Kind::ImageRepository
            | Kind::Provider
    )
}

/// Whether it matches the pattern of Flux's definitions: `^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`.
fn is_flux_duration(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit() || b".smh".contains(&byte))
        && !text.starts_with('.')
}

/// Checks labels with a selector: it is valid if and only if the labels are.
fn check_labels(labels: &BTreeMap<String, String>, errors: &mut Errors) {
    let selector = json!({"matchLabels": labels});
    let Ok(selector) = serde_json::from_value(selector) else { return };
    if let Err(wrong) = Selector::compile("spec.defaults", &selector) {
        for mut error in wrong {
            error.field = error.field.replace("spec.defaults.matchLabels", "spec.defaults.labels");
            errors.0.push(error);
        }
    }
}
