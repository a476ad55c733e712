//! `targetNamespaces`: where Kustomizations and HelmReleases may put what they apply.

use gatehouse_apiservice::policy::TargetNamespaces;

use super::{Errors, Report};
use crate::{
    Kind, Subject,
    glob::Names,
    look::{Look, WrongType},
};

/// Beside an object's own namespace.
#[derive(Debug)]
pub(crate) struct Targets(Names);

impl Targets {
    pub(crate) fn compile(rule: &TargetNamespaces, errors: &mut Errors) -> Self {
        let allowed = match rule {
            TargetNamespaces::Own(_) => &[][..],
            TargetNamespaces::Allowed { allowed } => allowed,
        };
        Self(Names::compile(allowed, |index, pattern, why| {
            errors.refuse(format!("spec.rules.targetNamespaces.allowed[{index}]"), pattern, why);
        }))
    }

    pub(crate) fn check(&self, subject: &Subject, report: &mut Report<'_>) -> Result<(), WrongType> {
        let fields: &[&str] = match subject.kind {
            Kind::Kustomization => &["targetNamespace"],
            // Helm keeps what it released as Secrets in the storage namespace.
            Kind::HelmRelease => &["targetNamespace", "storageNamespace"],
            _ => &[],
        };
        for name in fields {
            let field = Look::spec(&subject.object).field(name)?;
            // Left out, a HelmRelease goes into its own namespace, and a Kustomization where its manifests say.
            let Some(target) = field.string()?.filter(|target| !target.is_empty()) else { continue };
            if target != subject.namespace && !self.0.matches(target) {
                let hint = if self.0.is_empty() {
                    format!("use {}", subject.namespace)
                } else {
                    format!("use {}, or a namespace that matches {}", subject.namespace, self.0.show())
                };
                report.broken(field.path(), format!("{target} is not allowed"), hint);
            }
        }
        Ok(())
    }
}
