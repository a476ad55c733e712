//! `decryptionAccount`: the account that a Kustomization decrypts with. Without one, keys in a cloud are read with the
//! rights of kustomize-controller, whoever owns the secrets; keys in a Secret do not change that.

use gatehouse_apiservice::policy::DecryptionAccountRule;

use super::{Errors, Report, service_account::Accounts};
use crate::{
    Kind, Subject,
    look::{Look, WrongType},
    parameters::{Parameters, Usable},
};

#[derive(Debug)]
pub(crate) struct DecryptionAccount {
    required: bool,
    allowed: Accounts,
}

impl DecryptionAccount {
    pub(crate) fn compile(
        rule: &DecryptionAccountRule,
        parameters: &Parameters<'_>,
        errors: &mut Errors,
    ) -> Usable<Self> {
        let field = "spec.rules.decryptionAccount";
        if !rule.required && rule.allowed.is_empty() && rule.allowed_from.is_empty() {
            errors.refuse(field, "{}", "must set required or allowed");
        }
        let allowed = Accounts::compile(field, &rule.allowed, &rule.allowed_from, parameters, errors)?;
        Ok(Self { required: rule.required, allowed })
    }

    pub(crate) fn check(&self, subject: &Subject, report: &mut Report<'_>) -> Result<(), WrongType> {
        let decryption = Look::spec(&subject.object).field("decryption")?;
        if subject.kind != Kind::Kustomization || !decryption.is_some() {
            return Ok(());
        }
        let field = decryption.field("serviceAccountName")?;
        match field.string()?.filter(|name| !name.is_empty()) {
            None if self.required => {
                let why = "a service account to decrypt with must be named";
                report.broken(field.path(), why, self.allowed.hint());
            }
            Some(name) if !self.allowed.allows(name) => {
                report.broken(field.path(), format!("{name} is not allowed"), self.allowed.hint());
            }
            _ => {}
        }
        Ok(())
    }
}
