//! `verify`: whether the signatures of what is fetched are checked, and whose signatures are accepted.
//!
//! Without a key, Flux accepts a Cosign signature of anyone unless its identity is matched. A chart from a
//! GitRepository or a Bucket is verified as its source is, and a Bucket has nothing to verify.

use gatehouse_apiservice::policy::{Identity, VerifyRule};

use super::{Errors, Report};
use crate::{
    Kind, Subject,
    look::{Look, WrongType},
};

/// The providers of verification in Flux, for objects other than GitRepositories.
const PROVIDERS: [&str; 2] = ["cosign", "notation"];
/// The modes of verification of a GitRepository.
const MODES: [&str; 3] = ["HEAD", "Tag", "TagAndHEAD"];

#[derive(Debug)]
pub(crate) struct Signatures(VerifyRule);

/// The path of the field that sets verification in objects of a kind.
pub(crate) fn place(kind: Kind) -> Option<&'static [&'static str]> {
    match kind {
        Kind::GitRepository | Kind::OciRepository | Kind::HelmChart | Kind::Bucket => Some(&["verify"]),
        Kind::HelmRelease => Some(&["chart", "spec", "verify"]),
        _ => None,
    }
}

impl Signatures {
    pub(crate) fn compile(rule: &VerifyRule, errors: &mut Errors) -> Self {
        let VerifyRule { required, providers, modes, identities } = rule;
        let field = "spec.rules.verify";
        if !required && providers.is_empty() && modes.is_empty() && identities.is_empty() {
            errors.refuse(field, "{}", "must set required, providers, modes or identities");
        }
        for (name, list, known) in [("providers", providers, &PROVIDERS[..]), ("modes", modes, &MODES[..])] {
            for (index, one) in list.iter().enumerate().filter(|(_, one)| !known.contains(&one.as_str())) {
                let why = format!("Flux has none of this name: there are {}", known.join(", "));
                errors.refuse(format!("{field}.{name}[{index}]"), one, why);
            }
        }
        for (index, Identity { issuer, subject }) in identities.iter().enumerate() {
            for (name, text) in [("issuer", issuer), ("subject", subject)] {
                if text.is_empty() {
                    let field = format!("{field}.identities[{index}].{name}");
                    errors.refuse(field, text, "must not be empty: it would match anybody");
                }
            }
        }
        Self(rule.clone())
    }

    pub(crate) fn check(&self, subject: &Subject, report: &mut Report<'_>) -> Result<(), WrongType> {
        let spec = Look::spec(&subject.object);
        let Some(place) =
            place(subject.kind).filter(|_| is_fetched_by_itself(subject.kind, &spec).unwrap_or(true))
        else {
            return Ok(());
        };
        if subject.kind == Kind::Bucket {
            if self.0.required {
                let hint = "use a source that can be verified";
                report.broken("spec", "a Bucket has no signatures that could be verified", hint);
            }
            return Ok(());
        }
        let verify = spec.at(place)?;
        if !verify.is_some() {
            if self.0.required {
                report.broken(
                    verify.path(),
                    "signatures must be verified",
                    "say what signatures are verified by",
                );
            }
            return Ok(());
        }
        if subject.kind == Kind::GitRepository {
            self.git(&verify, report)
        } else {
            self.oci(&verify, report)
        }
    }

    fn git(&self, verify: &Look<'_>, report: &mut Report<'_>) -> Result<(), WrongType> {
        let mode = verify.field("mode")?;
        let named = mode.string()?.filter(|mode| !mode.is_empty()).unwrap_or("HEAD");
        // Flux's older spelling.
        let named = if named == "head" { "HEAD" } else { named };
        if !self.0.modes.is_empty() && !self.0.modes.iter().any(|allowed| allowed == named) {
            let hint = format!("use {}", self.0.modes.join(", "));
            report.broken(mode.path(), format!("{named} is not an allowed mode"), hint);
        }
        Ok(())
    }

    fn oci(&self, verify: &Look<'_>, report: &mut Report<'_>) -> Result<(), WrongType> {
        let provider = verify.field("provider")?;
        let named = provider.string()?.filter(|provider| !provider.is_empty()).unwrap_or("cosign");
        if !self.0.providers.is_empty() && !self.0.providers.iter().any(|allowed| allowed == named) {
            let hint = format!("use {}", self.0.providers.join(", "));
            report.broken(provider.path(), format!("{named} is not an allowed provider"), hint);
        }
        if named != "cosign" {
            return Ok(());
        }
        let has_key = verify.at(&["secretRef", "name"])?.string()?.is_some_and(|name| !name.is_empty());
        let identities = verify.field("matchOIDCIdentity")?;
        let elements = identities.elements()?;
        if !has_key && elements.is_empty() {
            let why = "without a key or an identity, anybody's signature is taken";
            report.broken(identities.path(), why, "name a Secret with keys, or who has to have signed");
        }
        // With keys, Flux checks no identity.
        if self.0.identities.is_empty() || has_key {
            return Ok(());
        }
        for element in elements {
            let (issuer, subject) = (element.field("issuer")?, element.field("subject")?);
            let (issuer, subject) =
                (issuer.string()?.unwrap_or_default(), subject.string()?.unwrap_or_default());
            let is_allowed = |one: &Identity| one.issuer == issuer && one.subject == subject;
            if !self.0.identities.iter().any(is_allowed) {
                let shown = |text: &str| text.chars().take(256).collect::<String>();
                let why = format!("{} of {} is not an allowed identity", shown(subject), shown(issuer));
                report.broken(element.path(), why, self.hint());
            }
        }
        Ok(())
    }

    fn hint(&self) -> String {
        let one = |Identity { issuer, subject }: &Identity| format!("{subject} of {issuer}");
        format!("use {}", self.0.identities.iter().map(one).collect::<Vec<_>>().join(", "))
    }
}

/// Whether an object fetches by itself, not from another source that is judged on its own.
pub(super) fn is_fetched_by_itself(kind: Kind, spec: &Look<'_>) -> Result<bool, WrongType> {
    let source = match kind {
        Kind::HelmChart => spec.at(&["sourceRef", "kind"])?,
        Kind::HelmRelease if !spec.field("chart")?.is_some() => return Ok(false),
        Kind::HelmRelease => spec.at(&["chart", "spec", "sourceRef", "kind"])?,
        _ => return Ok(true),
    };
    Ok(!matches!(source.string()?, Some("GitRepository" | "Bucket")))
}
