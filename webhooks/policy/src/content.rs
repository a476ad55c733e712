//! Compiles the rules about the content of an object, and selects those that judge an object.

use gatehouse_apiservice::policy::{CrossNamespaceRefs, DependencyCycles, Prune, Rules};

use crate::look::WrongType;
use crate::{
    Dependencies, Scaling, Subject, Violation,
    exemptions::Exemptions,
    parameters::{Parameters, Usable},
    rules::{
        Errors, Report, cross_namespace, cycles, decryption::DecryptionAccount, interval::Interval,
        is_judged, judge, prune, reference::References, replicas::Replicas,
        service_account::ServiceAccountName, sources::Sources, target_namespaces::Targets,
        verify::Signatures,
    },
    settings::Settings,
};

/// The rules about the content of an object, except CEL conditions.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) interval: Option<Interval>,
    pub(crate) service_account_name: Option<Usable<ServiceAccountName>>,
    decryption_account: Option<Usable<DecryptionAccount>>,
    forbids_cross_namespace_refs: bool,
    sources: Option<Usable<Sources>>,
    signatures: Option<Signatures>,
    references: Option<References>,
    targets: Option<Usable<Targets>>,
    requires_prune: bool,
    forbids_cycles: bool,
    replicas: Option<Replicas>,
}

/// Selects the rules that judge an object.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) exemptions: &'a Exemptions,
    pub(crate) object: &'a Subject,
    /// The old object. If set, only rules that it was exempt from are judged.
    pub(crate) exempt_before: Option<&'a Subject>,
}

impl Scope<'_> {
    /// Whether a rule judges the object.
    pub(crate) fn judges(&self, rule: &str) -> bool {
        self.settings.judges(rule, self.object.kind)
            && !self.exemptions.exempts(rule, self.object)
            && self.exempt_before.is_none_or(|old| self.exemptions.exempts(rule, old))
    }

    /// Runs a rule, if it judges the object.
    fn run(
        &self,
        rule: &'static str,
        violations: &mut Vec<Violation>,
        check: impl FnOnce(&mut Report<'_>) -> Result<(), WrongType>,
    ) {
        if self.judges(rule) {
            judge(rule, violations, check);
        }
    }

    /// Runs a rule that may be unusable; every object that an unusable rule would judge violates it.
    fn run_usable<T>(
        &self,
        rule: &'static str,
        usable: Option<&Usable<T>>,
        violations: &mut Vec<Violation>,
        check: impl FnOnce(&T, &mut Report<'_>) -> Result<(), WrongType>,
    ) {
        match usable {
            Some(Ok(compiled)) => self.run(rule, violations, |report| check(compiled, report)),
            Some(Err(why)) if is_judged(rule, self.object.kind) => self.run(rule, violations, |report| {
                let hint = "ask whoever keeps the policy to mend its parameters";
                report.broken("", format!("cannot be judged: {why}"), hint);
                Ok(())
            }),
            Some(Err(_)) | None => {}
        }
    }
}

impl Content {
    pub(crate) fn compile(rules: &Rules, parameters: &Parameters<'_>, errors: &mut Errors) -> Self {
        Self {
            interval: rules.interval.as_ref().map(|rule| Interval::compile(rule, errors)),
            service_account_name: rules
                .service_account_name
                .as_ref()
                .map(|rule| ServiceAccountName::compile(rule, parameters, errors)),
            decryption_account: rules
                .decryption_account
                .as_ref()
                .map(|rule| DecryptionAccount::compile(rule, parameters, errors)),
            forbids_cross_namespace_refs: rules.cross_namespace_refs == Some(CrossNamespaceRefs::Forbid),
            sources: rules.sources.as_ref().map(|rule| Sources::compile(rule, parameters, errors)),
            signatures: rules.verify.as_ref().map(|rule| Signatures::compile(rule, errors)),
            references: rules.reference.as_ref().map(|rule| References::compile(rule, errors)),
            targets: rules.target_namespaces.as_ref().map(|rule| Targets::compile(rule, parameters, errors)),
            requires_prune: rules.prune == Some(Prune::Required),
            forbids_cycles: rules.dependency_cycles == Some(DependencyCycles::Forbid),
            replicas: rules.replicas.as_ref().map(|rule| Replicas::compile(rule, errors)),
        }
    }

    /// Why a rule cannot be judged, if there is one.
    pub(crate) fn trouble(&self) -> Option<&str> {
        fn why<T>(usable: Option<&Usable<T>>) -> Option<&str> {
            usable?.as_ref().err().map(String::as_str)
        }
        why(self.service_account_name.as_ref())
            .or_else(|| why(self.decryption_account.as_ref()))
            .or_else(|| why(self.sources.as_ref()))
            .or_else(|| why(self.targets.as_ref()))
    }

    /// Whether a rule cannot be judged.
    pub(crate) fn is_unusable(&self, rule: &str) -> bool {
        match rule {
            "serviceAccountName" => self.service_account_name.as_ref().is_some_and(Result::is_err),
            "decryptionAccount" => self.decryption_account.as_ref().is_some_and(Result::is_err),
            "sources" => self.sources.as_ref().is_some_and(Result::is_err),
            "targetNamespaces" => self.targets.as_ref().is_some_and(Result::is_err),
            _ => false,
        }
    }

    pub(crate) fn judge(
        &self,
        scope: Scope<'_>,
        old: Option<&Subject>,
        deps: &dyn Dependencies,
        violations: &mut Vec<Violation>,
    ) {
        let object = scope.object;
        if let Some(interval) = &self.interval {
            scope.run("interval", violations, |report| interval.check(object, report));
        }
        let account = self.service_account_name.as_ref();
        scope
            .run_usable("serviceAccountName", account, violations, |rule, report| rule.check(object, report));
        let account = self.decryption_account.as_ref();
        scope.run_usable("decryptionAccount", account, violations, |rule, report| rule.check(object, report));
        if self.forbids_cross_namespace_refs {
            scope.run("crossNamespaceRefs", violations, |report| cross_namespace::check(object, report));
        }
        let sources = self.sources.as_ref();
        scope.run_usable("sources", sources, violations, |rule, report| rule.check(object, report));
        if let Some(signatures) = &self.signatures {
            scope.run("verify", violations, |report| signatures.check(object, report));
        }
        if let Some(references) = &self.references {
            scope.run("ref", violations, |report| references.check(object, report));
        }
        let targets = self.targets.as_ref();
        scope.run_usable("targetNamespaces", targets, violations, |rule, report| rule.check(object, report));
        if self.requires_prune {
            scope.run("prune", violations, |report| prune::check(object, report));
        }
        if self.forbids_cycles {
            scope.run("dependencyCycles", violations, |report| cycles::check(object, deps, report));
        }
        if let Some(replicas) = &self.replicas {
            scope.run("replicas", violations, |report| replicas.check(object, old, deps, report));
        }
    }

    /// Judges a scale.
    pub(crate) fn judge_scale(&self, scope: Scope<'_>, scaling: Scaling, violations: &mut Vec<Violation>) {
        if let Some(replicas) = &self.replicas {
            scope.run("replicas", violations, |report| {
                replicas.check_scale(scaling, report);
                Ok(())
            });
        }
    }
}
