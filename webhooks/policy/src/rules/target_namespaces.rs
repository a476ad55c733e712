//! `targetNamespaces`: the namespaces that Kustomizations and HelmReleases may apply to.

use gatehouse_apiservice::policy::{TargetNamespaces, TargetNamespacesRule};

use super::{Errors, Report};
use crate::{
    Kind, Subject,
    glob::Names,
    look::{Look, WrongType},
    parameters::{Parameters, Usable},
};

#[derive(Debug)]
pub(crate) struct Targets {
    required: bool,
    /// The namespaces beside an object's own; `None` allows any.
    allowed: Option<Names>,
}

impl Targets {
    pub(crate) fn compile(
        rule: &TargetNamespaces,
        parameters: &Parameters<'_>,
        errors: &mut Errors,
    ) -> Usable<Self> {
        let TargetNamespacesRule { required, allowed, allowed_from } = match rule {
            TargetNamespaces::Own(_) => return Ok(Self { required: false, allowed: Some(Names::default()) }),
            TargetNamespaces::Rule(rule) => rule,
        };
        let field = "spec.rules.targetNamespaces";
        let is_limited = allowed.is_some() || !allowed_from.is_empty();
        if !required && !is_limited {
            errors.refuse(field, "{}", "must be Own, or set required or allowed");
        }
        let own = allowed.as_deref().unwrap_or_default();
        let names = parameters.names(&format!("{field}.allowed"), own, allowed_from, errors)?;
        Ok(Self { required: *required, allowed: is_limited.then_some(names) })
    }

    pub(crate) fn check(&self, subject: &Subject, report: &mut Report<'_>) -> Result<(), WrongType> {
        let fields: &[&str] = match subject.kind {
            Kind::Kustomization => &["targetNamespace"],
            // Helm stores its releases as Secrets in the storage namespace.
            Kind::HelmRelease => &["targetNamespace", "storageNamespace"],
            _ => &[],
        };
        for name in fields {
            let field = Look::spec(&subject.object).field(name)?;
            // Without the field, a HelmRelease applies to its own namespace, and a Kustomization to those in its
            // manifests.
            let Some(target) = field.string()?.filter(|target| !target.is_empty()) else {
                if self.required && *name == "targetNamespace" {
                    report.broken(field.path(), "a target namespace must be named", self.hint(subject));
                }
                continue;
            };
            if target != subject.namespace && !self.allows(target) {
                report.broken(field.path(), format!("{target} is not allowed"), self.hint(subject));
            }
        }
        Ok(())
    }

    fn allows(&self, target: &str) -> bool {
        self.allowed.as_ref().is_none_or(|names| names.matches(target))
    }

    fn hint(&self, subject: &Subject) -> String {
        let own = &subject.namespace;
        match &self.allowed {
            None => format!("name one, such as {own}"),
            Some(names) if names.is_empty() => format!("use {own}"),
            Some(names) => format!("use {own}, or a namespace that matches {}", names.show()),
        }
    }
}
