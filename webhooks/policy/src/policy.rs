//! Compiles a policy, and decides which of its rules judge a request.

use std::{collections::BTreeMap, sync::Mutex, time::Instant};

use gatehouse_apiservice::UserInfo;
use gatehouse_apiservice::labels::Selector;
use gatehouse_apiservice::policy::{
    Enforcement, Exempt, FieldError, ParamRef, ReconcilePolicy, Rules, Verbs,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    ActiveFreeze, Case, Dependencies, Kind, Operation, Subject, Verb, Violation,
    content::{Content, Scope},
    defaults::Defaults,
    exemptions::Exemptions,
    freeze::Freezes,
    members,
    parameters::Parameters,
    rules::{
        Errors,
        cel::{Conditions, Seen},
        freezes, judge,
        suspension::Suspension,
        verbs,
    },
    settings::Settings,
};

/// A compiled ReconcilePolicy.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Its uid; empty if it was read from a file.
    pub uid: String,
    /// Its generation; zero if it was read from a file.
    pub generation: i64,
    /// The enforcement of rules without a setting of their own.
    pub enforcement: Enforcement,
    selector: Selector,
    exempt: Exempt,
    exemptions: Exemptions,
    settings: Settings,
    param_ref: Option<ParamRef>,
    content: Content,
    conditions: Conditions,
    suspension: Option<Suspension>,
    freezes: Freezes,
    /// The cached freeze state, and until when it is valid: every request needs it.
    frozen: Mutex<Option<Frozen>>,
    authorizes_verbs: bool,
    pub(crate) defaults: Defaults,
}

/// The rule that making an object exempt requires a verb.
const EXEMPT: &str = "exempt";

/// The active freeze, or none, from one instant until before another.
#[derive(Debug, Clone)]
struct Frozen {
    from: Timestamp,
    until: Option<Timestamp>,
    active: Option<ActiveFreeze>,
}

impl Policy {
    /// Compiles a policy without parameters, or whose ConfigMap does not exist. Every invalid field is reported.
    pub fn compile(policy: &ReconcilePolicy) -> Result<Self, Vec<FieldError>> {
        Self::compile_with(policy, None)
    }

    /// Compiles a policy with the ConfigMap of its `spec.paramRef`, if that exists. An invalid ConfigMap is not an
    /// error of the policy: rules that need it are then violated.
    pub fn compile_with(
        policy: &ReconcilePolicy,
        parameters: Option<&Value>,
    ) -> Result<Self, Vec<FieldError>> {
        let mut errors = Errors::default();
        let spec = &policy.spec;
        let selector = spec.namespace_selector.as_ref().map(|selector| {
            Selector::compile("spec.namespaceSelector", selector).unwrap_or_else(|wrong| {
                errors.0.extend(wrong);
                Selector::default()
            })
        });
        check_exempt(&spec.exempt, &mut errors);
        let parameters = Parameters::compile(spec.param_ref.as_ref(), parameters, &mut errors);
        let content = Content::compile(&spec.rules, &parameters, &mut errors);
        let conditions = Conditions::compile(spec, &parameters, &mut errors);
        let mut written = written(&spec.rules);
        let settings = Settings::compile(spec, &written, &mut errors);
        written.extend(spec.rules.cel.iter().filter_map(|rule| rule.name.as_deref()));
        let exemptions = Exemptions::compile(&spec.exempt.objects, &written, &mut errors);
        let suspension = spec.rules.suspension.as_ref().map(|rule| Suspension::compile(rule, &mut errors));
        let freezes = Freezes::compile(&spec.rules.freezes, &mut errors);
        let account = content.service_account_name.as_ref().and_then(|account| account.as_ref().ok());
        let defaults = Defaults::compile(&spec.defaults, content.interval.as_ref(), account, &mut errors);
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
            exemptions,
            settings,
            param_ref: spec.param_ref.clone(),
            content,
            conditions,
            suspension,
            freezes,
            frozen: Mutex::new(None),
            authorizes_verbs: spec.rules.verbs == Some(Verbs::Authorize),
            defaults,
        })
    }

    /// As [`compile`](Self::compile), for a policy that is being written: expressions with too high an estimated cost
    /// are rejected as well. An existing policy is bounded by its budget, and must stay enforced.
    pub fn compile_new(policy: &ReconcilePolicy) -> Result<Self, Vec<FieldError>> {
        let compiled = Self::compile(policy)?;
        let mut errors = Errors::default();
        compiled.conditions.estimate(&mut errors);
        if errors.0.is_empty() { Ok(compiled) } else { Err(errors.0) }
    }

    /// Whether it judges the objects of a namespace with these labels.
    pub fn selects(&self, namespace_labels: &BTreeMap<String, String>) -> bool {
        self.selector.matches(namespace_labels)
    }

    /// The enforcement of a rule.
    pub fn enforcement_of(&self, rule: &str) -> Enforcement {
        if rule == EXEMPT {
            // An exempt object avoids all rules, so the strictest enforcement applies.
            let all = self.settings.enforcements().chain([self.enforcement]);
            return all.min_by_key(|one| *one as u8).unwrap_or_default();
        }
        self.settings.enforcement(rule).unwrap_or(self.enforcement)
    }

    /// The reference to the ConfigMap with its parameters.
    pub fn param_ref(&self) -> Option<&ParamRef> {
        self.param_ref.as_ref()
    }

    /// Why rules that need its parameters cannot be judged, if so; all objects that they judge violate them.
    pub fn trouble(&self) -> Option<&str> {
        self.content.trouble().or_else(|| self.conditions.trouble())
    }

    /// Whether a rule cannot be judged because parameters are missing.
    pub fn lacks_parameters(&self, rule: &str) -> bool {
        let is_condition = || self.conditions.uses(rule, "params");
        self.content.is_unusable(rule) || self.conditions.trouble().is_some() && is_condition()
    }

    /// Whether it has conditions, which may read all of an object.
    pub fn has_conditions(&self) -> bool {
        !self.conditions.is_empty()
    }

    /// Whether a condition uses the Namespace of an object.
    pub fn asks_for_namespace(&self) -> bool {
        self.conditions.any_uses("namespaceObject")
    }

    /// Whether the condition of this name uses the Namespace of an object.
    pub fn is_about_namespace(&self, rule: &str) -> bool {
        self.conditions.uses(rule, "namespaceObject")
    }

    /// Whether judging may take long. The work of macros and functions is bounded only by a budget, which other
    /// requests should not wait for. Without them, the work is bounded by the size of the expression.
    pub fn may_take_long(&self) -> bool {
        self.conditions.may_take_long()
    }

    /// Judges an admission request.
    ///
    /// Not judged: requests of Gatehouse itself; objects that are being deleted; changes of status and of other
    /// subresources but `scale`; game servers that belong to a fleet, which is judged instead. An update is judged
    /// only by what it changes.
    pub fn judge(&self, case: &Case<'_>, deps: &dyn Dependencies) -> Vec<Violation> {
        self.judge_until(case, deps, None)
    }

    /// As [`judge`](Self::judge); a condition that is not evaluated by `until` is violated.
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
        let Some(object) = case.object else { return violations };
        if let Some(scaling) = case.scaling.filter(|_| is_scale) {
            self.content.judge_scale(self.scope(object), scaling, &mut violations);
        }
        if is_scale {
            return violations;
        }
        // An object that loses the owner that was judged instead is judged as a whole.
        let is_changed = case.old.is_none_or(|old| old.spec_differs(object)) || members::is_let_go(case);
        // An unchanged object is judged only by rules that it was exempt from and no longer is.
        let scope = Scope { exempt_before: case.old.filter(|_| !is_changed), ..self.scope(object) };
        self.content.judge(scope, case.old, deps, &mut violations);
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

    /// Judges an existing object by its content, not by who created it or when.
    pub fn audit(&self, object: &Subject, deps: &dyn Dependencies) -> Vec<Violation> {
        let mut all = u64::MAX;
        self.audit_within(object, deps, &mut all)
    }

    /// As [`audit`](Self::audit), within the remaining steps that many objects share. If none are left, every
    /// condition is violated.
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
        let scope = self.scope(object);
        self.content.judge(scope, None, deps, &mut violations);
        let seen = self.conditions.existing(object, *granted);
        let before = seen.steps_left();
        for (index, name) in self.conditions.names().enumerate().filter(|(_, name)| scope.judges(name)) {
            judge(name.to_owned(), &mut violations, |report| {
                self.conditions.check(index, &seen, report);
                Ok(())
            });
        }
        *granted -= before - seen.steps_left();
        violations
    }

    /// The verbs that a request requires beside the right to edit. The caller checks them with SubjectAccessReview.
    pub fn required_verbs(&self, case: &Case<'_>) -> Vec<Verb> {
        let is_gatehouse = |user: &UserInfo| case.accounts.is_gatehouse(user);
        if case.user.is_some_and(is_gatehouse) || self.is_exempt(case.user) {
            return Vec::new();
        }
        let is_flux = |user: &UserInfo| case.accounts.is_flux(user);
        let is_judged = || case.subject().is_some_and(|subject| self.settings.judges("verbs", subject.kind));
        let mut required = Vec::new();
        if self.authorizes_verbs && !case.user.is_some_and(is_flux) && is_judged() {
            required = verbs::required(case);
        }
        if self.takes_right_to_exempt(case) {
            required.push(Verb::Exempt);
        }
        required
    }

    /// Whether a request makes an object exempt by what its author chooses.
    fn takes_right_to_exempt(&self, case: &Case<'_>) -> bool {
        let is_whole = case.operation != Operation::Delete && case.subresource.is_none();
        let object = case.object.filter(|_| is_whole && !case.old.is_some_and(Subject::is_terminating));
        object.is_some_and(|object| self.exemptions.takes_right(object, case.old))
    }

    /// The active freeze.
    pub fn active_freeze(&self, now: Timestamp) -> Option<ActiveFreeze> {
        self.frozen(now).active
    }

    /// When a freeze begins or ends next.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.frozen(now).until
    }

    /// The longest suspension.
    pub fn max_suspension(&self) -> Option<SignedDuration> {
        self.suspension.as_ref()?.max_duration
    }

    /// Whether it has a rule about suspensions: then the author and the time of a suspension are added.
    pub fn notes_suspensions(&self) -> bool {
        self.suspension.is_some()
    }

    fn frozen(&self, now: Timestamp) -> Frozen {
        if self.freezes.is_empty() {
            return Frozen { from: now, until: None, active: None };
        }
        // A poisoned lock still holds a valid value.
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

    /// Judges conditions, which also see labels and annotations. An object that violated a condition before may still
    /// be labelled; a change of metadata alone must not violate a condition that held.
    fn judge_conditions(
        &self,
        case: &Case<'_>,
        object: &Subject,
        is_changed: bool,
        until: Option<Instant>,
        violations: &mut Vec<Violation>,
    ) {
        let conditions = &self.conditions;
        let is_relabelled = || {
            case.old.is_some_and(|old| {
                ["labels", "annotations"]
                    .into_iter()
                    .any(|field| old.metadata(field) != object.metadata(field))
            })
        };
        if conditions.is_empty() || !(is_changed || is_relabelled()) {
            return;
        }
        let scope = self.scope(object);
        let seen = conditions.seen(object, case.old, case, until);
        let old = case.old.filter(|_| !is_changed);
        let before = old.map(|old| (old, conditions.seen(old, Some(old), case, until)));
        for (index, name) in conditions.names().enumerate().filter(|(_, name)| scope.judges(name)) {
            let was_broken = |(old, before): &(&Subject, Seen<'_>)| {
                !self.exemptions.exempts(name, old) && conditions.is_known_broken(index, before)
            };
            if before.as_ref().is_some_and(was_broken) {
                continue;
            }
            judge(name.to_owned(), violations, |report| {
                conditions.check(index, &seen, report);
                Ok(())
            });
        }
    }

    /// The scope of rules that judge an object.
    fn scope<'a>(&'a self, object: &'a Subject) -> Scope<'a> {
        let Self { settings, exemptions, .. } = self;
        Scope { settings, exemptions, object, exempt_before: None }
    }

    /// Whether a user may pass freezes: people whom the policy exempts. Service accounts never pass by this.
    pub(crate) fn is_exempt_person(&self, user: &UserInfo) -> bool {
        user.service_account().is_none() && self.is_exempt(Some(user))
    }

    fn is_exempt(&self, user: Option<&UserInfo>) -> bool {
        let Some(user) = user else { return false };
        self.exempt.users.contains(&user.name)
            || user.groups.iter().any(|group| self.exempt.groups.contains(group))
            || user.service_account().is_some_and(|(namespace, name)| {
                let accounts = &self.exempt.service_accounts;
                accounts.iter().any(|account| account.namespace == namespace && account.name == name)
            })
    }
}

/// Whether an object is being deleted, and nothing else happens to it. OpenKruiseGame still acts on changes of a set
/// that a finalizer keeps.
fn is_left_alone(case: &Case<'_>, subject: &Subject) -> bool {
    let changes = case.scaling.is_some()
        || case.old.zip(case.object).is_some_and(|(old, object)| old.spec_differs(object));
    let goes_on = subject.kind == Kind::KruiseGameServerSet && changes;
    case.old.unwrap_or(subject).is_terminating() && !goes_on
}

/// Rejects empty names in exemptions: they would exempt nobody.
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

/// The fields of the rules that a policy has, except CEL conditions.
fn written(rules: &Rules) -> Vec<&'static str> {
    let Rules {
        interval,
        service_account_name,
        cross_namespace_refs,
        sources,
        target_namespaces,
        decryption_account,
        verify,
        reference,
        prune,
        dependency_cycles,
        suspension,
        freezes,
        replicas,
        verbs,
        cel: _,
    } = rules;
    let rules = [
        ("interval", interval.is_some()),
        ("serviceAccountName", service_account_name.is_some()),
        ("decryptionAccount", decryption_account.is_some()),
        ("crossNamespaceRefs", cross_namespace_refs.is_some()),
        ("sources", sources.is_some()),
        ("verify", verify.is_some()),
        ("ref", reference.is_some()),
        ("targetNamespaces", target_namespaces.is_some()),
        ("prune", prune.is_some()),
        ("dependencyCycles", dependency_cycles.is_some()),
        ("suspension", suspension.is_some()),
        ("freezes", !freezes.is_empty()),
        ("replicas", replicas.is_some()),
        ("verbs", verbs.is_some()),
    ];
    rules.into_iter().filter_map(|(rule, is_written)| is_written.then_some(rule)).collect()
}
