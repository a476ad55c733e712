//! A policy, compiled: its rules in one place, and which of them judge a request.

use std::{collections::BTreeMap, sync::Mutex, time::Instant};

use gatehouse_apiservice::policy::{
    CrossNamespaceRefs, DependencyCycles, Enforcement, Exempt, FieldError, Prune, ReconcilePolicy, Rules,
    Selector, Verbs,
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    ActiveFreeze, Case, Dependencies, Kind, Operation, Subject, User, Verb, Violation,
    defaults::Defaults,
    freeze::Freezes,
    members,
    rules::{
        Errors,
        cel::{Conditions, Seen},
        cross_namespace, cycles, freezes,
        interval::Interval,
        judge, prune,
        replicas::Replicas,
        service_account::ServiceAccountName,
        sources::Sources,
        suspension::Suspension,
        target_namespaces::Targets,
        verbs,
    },
};

/// A ReconcilePolicy, compiled.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Its uid; empty, if it was read from a file.
    pub uid: String,
    /// Its generation; zero, if it was read from a file.
    pub generation: i64,
    /// What happens to a request that breaks a rule.
    pub enforcement: Enforcement,
    selector: Selector,
    exempt: Exempt,
    content: Content,
    suspension: Option<Suspension>,
    freezes: Freezes,
    /// What was found about the freezes, and until when it holds: every request asks.
    frozen: Mutex<Option<Frozen>>,
    authorizes_verbs: bool,
    pub(crate) defaults: Defaults,
}

/// The rules about what an object holds.
#[derive(Debug)]
struct Content {
    interval: Option<Interval>,
    service_account_name: Option<ServiceAccountName>,
    forbids_cross_namespace_refs: bool,
    sources: Option<Sources>,
    targets: Option<Targets>,
    requires_prune: bool,
    forbids_cycles: bool,
    replicas: Option<Replicas>,
    conditions: Conditions,
}

/// The freeze that is on, or none, from an instant until before another.
#[derive(Debug, Clone)]
struct Frozen {
    from: Timestamp,
    until: Option<Timestamp>,
    active: Option<ActiveFreeze>,
}

impl Policy {
    /// Compiles a policy. Every field that is wrong is named.
    pub fn compile(policy: &ReconcilePolicy) -> Result<Self, Vec<FieldError>> {
        let mut errors = Errors::default();
        let spec = &policy.spec;
        let selector = spec.namespace_selector.as_ref().map(|selector| {
            Selector::compile("spec.namespaceSelector", selector).unwrap_or_else(|wrong| {
                errors.0.extend(wrong);
                Selector::default()
            })
        });
        check_exempt(&spec.exempt, &mut errors);
        let content = Content::compile(&spec.rules, &mut errors);
        let suspension = spec.rules.suspension.as_ref().map(|rule| Suspension::compile(rule, &mut errors));
        let freezes = Freezes::compile(&spec.rules.freezes, &mut errors);
        let (interval, account) = (content.interval.as_ref(), content.service_account_name.as_ref());
        let defaults = Defaults::compile(&spec.defaults, interval, account, &mut errors);
        if !errors.0.is_empty() {
            return Err(errors.0);
        }
        Ok(Self {
            name: policy.metadata.name.clone().unwrap_or_default(),
            uid: policy.metadata.uid.clone().unwrap_or_default(),
            generation: policy.metadata.generation.unwrap_or_default(),
            enforcement: spec.enforcement,
            selector: selector.unwrap_or_default(),
            exempt: spec.exempt.clone(),
            content,
            suspension,
            freezes,
            frozen: Mutex::new(None),
            authorizes_verbs: spec.rules.verbs == Some(Verbs::Authorize),
            defaults,
        })
    }

    /// As [`compile`](Self::compile), for a policy that is being written: what takes too much by an estimate is refused
    /// too. One that is there already holds within its budget, and must not cease to be enforced.
    pub fn compile_new(policy: &ReconcilePolicy) -> Result<Self, Vec<FieldError>> {
        let compiled = Self::compile(policy)?;
        let mut errors = Errors::default();
        compiled.content.conditions.estimate(&mut errors);
        if errors.0.is_empty() { Ok(compiled) } else { Err(errors.0) }
    }

    /// Whether it judges the objects of a namespace with these labels.
    pub fn selects(&self, namespace_labels: &BTreeMap<String, String>) -> bool {
        self.selector.matches(namespace_labels)
    }

    /// Whether it has conditions: they may look at all of an object.
    pub fn has_conditions(&self) -> bool {
        self.content.conditions.len() > 0
    }

    /// Whether judging may take long: the work of macros and functions is bounded by a budget alone, which others should
    /// not spend waiting. Without, there is no more work than the expression has parts.
    pub fn may_take_long(&self) -> bool {
        self.content.conditions.may_take_long()
    }

    /// Judges a request at admission.
    ///
    /// Not judged: Gatehouse itself; what is going anyway; changes of status and of other subresources but `scale`;
    /// game servers that belong to a fleet, which is judged in their place. Of an update, only what it changes.
    pub fn judge(&self, case: &Case<'_>, deps: &dyn Dependencies) -> Vec<Violation> {
        self.judge_until(case, deps, None)
    }

    /// As [`judge`](Self::judge); what is not evaluated by `until` is broken.
    pub fn judge_until(
        &self,
        case: &Case<'_>,
        deps: &dyn Dependencies,
        until: Option<Instant>,
    ) -> Vec<Violation> {
        let mut violations = Vec::new();
        let Some(subject) = case.subject() else { return violations };
        let is_scale = case.subresource == Some("scale");
        if (case.subresource.is_some() && !is_scale)
            || case.user.is_some_and(|user| case.accounts.is_gatehouse(user))
            || members::is_excused(case, deps)
            || case.operation != Operation::Create && is_left_alone(case, subject)
        {
            return violations;
        }
        self.judge_freeze(case, &mut violations);
        if case.operation == Operation::Delete || self.is_exempt(case.user) {
            return violations;
        }
        if is_scale {
            if let (Some(replicas), Some(scaling)) = (&self.content.replicas, case.scaling) {
                judge("replicas", &mut violations, |report| {
                    replicas.check_scale(scaling, report);
                    Ok(())
                });
            }
            return violations;
        }
        let Some(object) = case.object else { return violations };
        // What was judged by its owner is judged as a whole when it has none any more.
        let is_changed = case.old.is_none_or(|old| old.spec_differs(object)) || members::is_let_go(case);
        if is_changed {
            self.content.judge(object, case.old, deps, &mut violations);
        }
        self.judge_conditions(case, object, is_changed, until, &mut violations);
        if let Some(suspension) = &self.suspension
            && !case.user.is_some_and(|user| case.accounts.is_flux(user))
            && !case.is_admitted_suspended()
        {
            judge("suspension", &mut violations, |report| {
                suspension.check(case, object, report);
                Ok(())
            });
        }
        violations
    }

    /// Judges an object that exists: by what it holds, not by who made it or when.
    pub fn audit(&self, object: &Subject, deps: &dyn Dependencies) -> Vec<Violation> {
        let mut all = u64::MAX;
        self.audit_within(object, deps, &mut all)
    }

    /// As [`audit`](Self::audit), within what is left of the steps that are granted for many objects. Where none are left,
    /// every condition is broken.
    pub fn audit_within(
        &self,
        object: &Subject,
        deps: &dyn Dependencies,
        granted: &mut u64,
    ) -> Vec<Violation> {
        let mut violations = Vec::new();
        if object.is_terminating() || members::is_member(object, deps) {
            return violations;
        }
        self.content.judge(object, None, deps, &mut violations);
        let seen = Seen::existing(object, *granted);
        let before = seen.steps_left();
        for index in 0..self.content.conditions.len() {
            judge(format!("cel[{index}]"), &mut violations, |report| {
                self.content.conditions.check(index, &seen, report);
                Ok(())
            });
        }
        *granted -= before - seen.steps_left();
        violations
    }

    /// The rights that a request takes beside that of editing. The caller asks SubjectAccessReview.
    pub fn required_verbs(&self, case: &Case<'_>) -> Vec<Verb> {
        let is_controller = |user: &User| case.accounts.is_gatehouse(user) || case.accounts.is_flux(user);
        if !self.authorizes_verbs || case.user.is_some_and(is_controller) || self.is_exempt(case.user) {
            return Vec::new();
        }
        verbs::required(case)
    }

    /// The freeze that is on.
    pub fn active_freeze(&self, now: Timestamp) -> Option<ActiveFreeze> {
        self.frozen(now).active
    }

    /// When a freeze begins or ends next.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.frozen(now).until
    }

    /// How long a suspension may last.
    pub fn max_suspension(&self) -> Option<SignedDuration> {
        self.suspension.as_ref()?.max_duration
    }

    /// Whether it has a rule about suspensions: then who suspends, and when, is noted.
    pub fn notes_suspensions(&self) -> bool {
        self.suspension.is_some()
    }

    fn frozen(&self, now: Timestamp) -> Frozen {
        if self.freezes.is_empty() {
            return Frozen { from: now, until: None, active: None };
        }
        // A poisoned lock holds what was found all the same.
        let mut known = self.frozen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*known {
            Some(known) if known.from <= now && known.until.is_none_or(|until| now < until) => known.clone(),
            _ => {
                let (active, until) = (self.freezes.active(now), self.freezes.next_change(now));
                let from = active.as_ref().map_or(now, |active| active.since);
                known.insert(Frozen { from, until, active }).clone()
            }
        }
    }

    fn judge_freeze(&self, case: &Case<'_>, violations: &mut Vec<Violation>) {
        let is_held = case.operation == Operation::Create
            && case.is_fluxs()
            && case.object.is_some_and(freezes::is_inert);
        if let Some(freeze) = self.freeze_over(case)
            && let Some(field) = freezes::changes(case).filter(|_| !is_held)
        {
            judge("freezes", violations, |report| {
                freezes::check(&freeze, field, report);
                Ok(())
            });
        }
    }

    /// Conditions see labels and annotations too. What broke one before may still be labelled; a change of metadata
    /// alone must not break one that held.
    fn judge_conditions(
        &self,
        case: &Case<'_>,
        object: &Subject,
        is_changed: bool,
        until: Option<Instant>,
        violations: &mut Vec<Violation>,
    ) {
        let conditions = &self.content.conditions;
        let is_relabelled = || {
            case.old.is_some_and(|old| {
                ["labels", "annotations"]
                    .into_iter()
                    .any(|field| old.metadata(field) != object.metadata(field))
            })
        };
        if conditions.len() == 0 || !(is_changed || is_relabelled()) {
            return;
        }
        let seen = Seen::new(object, case.old, Some(case), until);
        let before = case.old.filter(|_| !is_changed).map(|old| Seen::new(old, Some(old), Some(case), until));
        for index in 0..conditions.len() {
            if before.as_ref().is_some_and(|before| conditions.is_known_broken(index, before)) {
                continue;
            }
            judge(format!("cel[{index}]"), violations, |report| {
                conditions.check(index, &seen, report);
                Ok(())
            });
        }
    }

    /// Whether somebody may pass freezes: people whom the policy exempts. Accounts are held in any case.
    pub(crate) fn is_exempt_person(&self, user: &User) -> bool {
        user.service_account().is_none() && self.is_exempt(Some(user))
    }

    fn is_exempt(&self, user: Option<&User>) -> bool {
        let Some(user) = user else { return false };
        self.exempt.users.contains(&user.name)
            || user.groups.iter().any(|group| self.exempt.groups.contains(group))
            || user.service_account().is_some_and(|(namespace, name)| {
                let accounts = &self.exempt.service_accounts;
                accounts.iter().any(|account| account.namespace == namespace && account.name == name)
            })
    }
}

impl Content {
    fn compile(rules: &Rules, errors: &mut Errors) -> Self {
        Self {
            interval: rules.interval.as_ref().map(|rule| Interval::compile(rule, errors)),
            service_account_name: rules
                .service_account_name
                .as_ref()
                .map(|rule| ServiceAccountName::compile(rule, errors)),
            forbids_cross_namespace_refs: rules.cross_namespace_refs == Some(CrossNamespaceRefs::Forbid),
            sources: rules.sources.as_ref().map(|rule| Sources::compile(rule, errors)),
            targets: rules.target_namespaces.as_ref().map(|rule| Targets::compile(rule, errors)),
            requires_prune: rules.prune == Some(Prune::Required),
            forbids_cycles: rules.dependency_cycles == Some(DependencyCycles::Forbid),
            replicas: rules.replicas.as_ref().map(|rule| Replicas::compile(rule, errors)),
            conditions: Conditions::compile(&rules.cel, errors),
        }
    }

    /// Every rule but the conditions.
    fn judge(
        &self,
        object: &Subject,
        old: Option<&Subject>,
        deps: &dyn Dependencies,
        violations: &mut Vec<Violation>,
    ) {
        if let Some(interval) = &self.interval {
            judge("interval", violations, |report| interval.check(object, report));
        }
        if let Some(account) = &self.service_account_name {
            judge("serviceAccountName", violations, |report| account.check(object, report));
        }
        if self.forbids_cross_namespace_refs {
            judge("crossNamespaceRefs", violations, |report| cross_namespace::check(object, report));
        }
        if let Some(sources) = &self.sources {
            judge("sources", violations, |report| sources.check(object, report));
        }
        if let Some(targets) = &self.targets {
            judge("targetNamespaces", violations, |report| targets.check(object, report));
        }
        if self.requires_prune {
            judge("prune", violations, |report| prune::check(object, report));
        }
        if self.forbids_cycles {
            judge("dependencyCycles", violations, |report| cycles::check(object, deps, report));
        }
        if let Some(replicas) = &self.replicas {
            judge("replicas", violations, |report| replicas.check(object, old, deps, report));
        }
    }
}

/// Whether an object is being deleted, and nothing more comes of it. OpenKruiseGame goes on with a set that a finalizer
/// keeps.
fn is_left_alone(case: &Case<'_>, subject: &Subject) -> bool {
    let changes = case.scaling.is_some()
        || case.old.zip(case.object).is_some_and(|(old, object)| old.spec_differs(object));
    let goes_on = subject.kind == Kind::KruiseGameServerSet && changes;
    case.old.unwrap_or(subject).is_terminating() && !goes_on
}

/// An empty name exempts nobody, and was meant to exempt somebody.
fn check_exempt(exempt: &Exempt, errors: &mut Errors) {
    for (list, names) in [("users", &exempt.users), ("groups", &exempt.groups)] {
        for (index, name) in names.iter().enumerate().filter(|(_, name)| name.is_empty()) {
            errors.refuse(format!("spec.exempt.{list}[{index}]"), name, "must not be empty");
        }
    }
    for (index, account) in exempt.service_accounts.iter().enumerate() {
        for (field, value) in [("namespace", &account.namespace), ("name", &account.name)] {
            if value.is_empty() {
                errors.refuse(
                    format!("spec.exempt.serviceAccounts[{index}].{field}"),
                    value,
                    "must not be empty",
                );
            }
        }
    }
}
