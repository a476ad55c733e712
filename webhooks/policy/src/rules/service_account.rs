//! `serviceAccountName`: the account that Kustomizations, HelmReleases and ResourceSets are applied as. The field of
//! the same name in sources, which pulls images, is not judged.

use gatehouse_apiservice::policy::ServiceAccountNameRule;

use super::{Errors, Report};
use crate::{
    Kind, Subject,
    glob::Names,
    look::{Look, WrongType},
    parameters::{Parameters, Usable},
};

#[derive(Debug)]
pub(crate) struct ServiceAccountName {
    required: bool,
    accepts_kube_config: bool,
    allowed: Accounts,
}

/// The accounts that may be named; `None` allows any.
#[derive(Debug)]
pub(crate) struct Accounts(Option<Names>);

impl ServiceAccountName {
    pub(crate) fn compile(
        rule: &ServiceAccountNameRule,
        parameters: &Parameters<'_>,
        errors: &mut Errors,
    ) -> Usable<Self> {
        let field = "spec.rules.serviceAccountName";
        if rule.accept_kube_config && !rule.required {
            let why = "says nothing unless required is true";
            errors.refuse(format!("{field}.acceptKubeConfig"), "true", why);
        }
        let allowed = Accounts::compile(field, &rule.allowed, &rule.allowed_from, parameters, errors)?;
        Ok(Self { required: rule.required, accepts_kube_config: rule.accept_kube_config, allowed })
    }

    pub(crate) fn check(&self, subject: &Subject, report: &mut Report<'_>) -> Result<(), WrongType> {
        if !matches!(subject.kind, Kind::Kustomization | Kind::HelmRelease | Kind::ResourceSet) {
            return Ok(());
        }
        let spec = Look::spec(&subject.object);
        let field = spec.field("serviceAccountName")?;
        match field.string()?.filter(|name| !name.is_empty()) {
            None if self.required && !(self.accepts_kube_config && has_kube_config(subject.kind, &spec)?) => {
                report.broken(field.path(), "a service account must be named", self.allowed.hint());
            }
            Some(name) if !self.allowed.allows(name) => {
                report.broken(field.path(), format!("{name} is not allowed"), self.allowed.hint());
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether an account may be named.
    pub(crate) fn allows(&self, name: &str) -> bool {
        self.allowed.allows(name)
    }
}

/// Whether it is applied by a kubeconfig in a Secret. A kubeconfig that a ConfigMap describes may name no account:
/// then the account is Flux's.
fn has_kube_config(kind: Kind, spec: &Look<'_>) -> Result<bool, WrongType> {
    if kind == Kind::ResourceSet {
        return Ok(false);
    }
    let secret = spec.at(&["kubeConfig", "secretRef", "name"])?;
    Ok(secret.string()?.is_some_and(|name| !name.is_empty()))
}

impl Accounts {
    pub(crate) fn compile(
        field: &str,
        allowed: &[String],
        from: &[String],
        parameters: &Parameters<'_>,
        errors: &mut Errors,
    ) -> Usable<Self> {
        let field = format!("{field}.allowed");
        let names = parameters.names(&field, allowed, from, errors)?;
        // An empty list allows none; without a list, any is allowed.
        Ok(Self((!allowed.is_empty() || !from.is_empty()).then_some(names)))
    }

    pub(crate) fn allows(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.matches(name))
    }

    pub(crate) fn hint(&self) -> String {
        match &self.0 {
            None => "name a service account of the namespace".into(),
            Some(names) if names.is_empty() => "the policy allows no service account at all".into(),
            Some(names) => format!("name a service account that matches {}", names.show()),
        }
    }
}
