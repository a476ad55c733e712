//! `serviceAccountName`: the account that Kustomizations, HelmReleases and ResourceSets are applied as. Sources have
//! a field of that name too, which pulls images and is not meant.

use gatehouse_apiservice::policy::ServiceAccountNameRule;

use super::{Errors, Report};
use crate::{
    Kind, Subject,
    glob::Names,
    look::{Look, WrongType},
};

#[derive(Debug)]
pub(crate) struct ServiceAccountName {
    required: bool,
    allowed: Names,
}

impl ServiceAccountName {
    pub(crate) fn compile(rule: &ServiceAccountNameRule, errors: &mut Errors) -> Self {
        let allowed = Names::compile(&rule.allowed, |index, pattern, why| {
            errors.refuse(format!("spec.rules.serviceAccountName.allowed[{index}]"), pattern, why);
        });
        Self { required: rule.required, allowed }
    }

    pub(crate) fn check(&self, subject: &Subject, report: &mut Report<'_>) -> Result<(), WrongType> {
        if !matches!(subject.kind, Kind::Kustomization | Kind::HelmRelease | Kind::ResourceSet) {
            return Ok(());
        }
        let field = Look::spec(&subject.object).field("serviceAccountName")?;
        match field.string()?.filter(|name| !name.is_empty()) {
            None if self.required => {
                report.broken(field.path(), "a service account must be named", self.hint());
            }
            Some(name) if !self.allows(name) => {
                report.broken(field.path(), format!("{name} is not allowed"), self.hint());
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether an account may be named.
    pub(crate) fn allows(&self, name: &str) -> bool {
        self.allowed.is_empty() || self.allowed.matches(name)
    }

    fn hint(&self) -> String {
        if self.allowed.is_empty() {
            "name a service account of the namespace".into()
        } else {
            format!("name a service account that matches {}", self.allowed.show())
        }
    }
}
