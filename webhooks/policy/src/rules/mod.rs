//! Contains the rules, one file each. **Invariant:** a rule knows which kinds have the field that it judges, and never
//! judges others.

pub(crate) mod cel;
pub(crate) mod cross_namespace;
pub(crate) mod cycles;
pub(crate) mod decryption;
pub(crate) mod freezes;
pub(crate) mod interval;
pub(crate) mod prune;
pub(crate) mod reference;
pub(crate) mod replicas;
pub(crate) mod service_account;
pub(crate) mod sources;
pub(crate) mod suspension;
pub(crate) mod target_namespaces;
pub(crate) mod verbs;
pub(crate) mod verify;

use std::borrow::Cow;

use gatehouse_apiservice::policy::FieldError;

use crate::{Kind, Violation, look::WrongType};

/// The rules except CEL conditions, by their fields of `spec.rules`.
pub(crate) const NATIVE: [&str; 14] = [
    "interval",
    "serviceAccountName",
    "decryptionAccount",
    "crossNamespaceRefs",
    "sources",
    "verify",
    "ref",
    "targetNamespaces",
    "prune",
    "dependencyCycles",
    "suspension",
    "freezes",
    "replicas",
    "verbs",
];

/// Whether a rule can judge objects of a kind, and may be limited to it.
pub(crate) fn is_judged(rule: &str, kind: Kind) -> bool {
    match rule {
        "interval" => interval::has_interval(kind),
        "serviceAccountName" => matches!(kind, Kind::Kustomization | Kind::HelmRelease | Kind::ResourceSet),
        "decryptionAccount" | "prune" => kind == Kind::Kustomization,
        "crossNamespaceRefs" => cross_namespace::has_references(kind),
        "sources" => sources::has_address(kind),
        "verify" => verify::place(kind).is_some(),
        "ref" => reference::has_reference(kind),
        "targetNamespaces" => matches!(kind, Kind::Kustomization | Kind::HelmRelease),
        "dependencyCycles" => cycles::has_dependencies(kind),
        "replicas" => kind.has_replicas() || kind == Kind::FleetAutoscaler,
        "verbs" => kind.is_flux(),
        // The rule on suspensions applies to all objects of a namespace alike.
        _ => false,
    }
}

/// Collects the violations of a rule by an object.
pub(crate) struct Report<'a> {
    rule: Cow<'static, str>,
    violations: &'a mut Vec<Violation>,
}

/// The most violations of a rule that are reported. An object of a megabyte can have a hundred thousand.
const MOST_VIOLATIONS: usize = 32;
/// The longest text of a violation, in characters: names and values of fields can have megabytes.
const LONGEST_TEXT: usize = 1024;

impl Report<'_> {
    /// Adds a violation by a field.
    pub(crate) fn broken(
        &mut self,
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        match self.violations.iter().rev().take_while(|other| other.rule == self.rule).count() {
            MOST_VIOLATIONS => {
                self.push(String::new(), "is broken by more fields than are named", String::new());
            }
            already if already > MOST_VIOLATIONS => {}
            _ => self.push(field.into(), message, hint.into()),
        }
    }

    fn push(&mut self, field: String, message: impl Into<String>, hint: String) {
        let (field, message, hint) = (clipped(field), clipped(message.into()), clipped(hint));
        self.violations.push(Violation { rule: self.rule.clone(), field, message, hint });
    }
}

fn clipped(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Runs a rule. A field that it reads and that has the wrong type is a violation.
pub(crate) fn judge(
    rule: impl Into<Cow<'static, str>>,
    violations: &mut Vec<Violation>,
    check: impl FnOnce(&mut Report<'_>) -> Result<(), WrongType>,
) {
    let mut report = Report { rule: rule.into(), violations };
    if let Err(WrongType { field, message }) = check(&mut report) {
        report.broken(field, message, "give the field the type that its kind asks for");
    }
}

/// Collects the errors of a policy.
#[derive(Debug, Default)]
pub(crate) struct Errors(pub(crate) Vec<FieldError>);

impl Errors {
    pub(crate) fn refuse(
        &mut self,
        field: impl Into<String>,
        value: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.0.push(FieldError::new(field, value, message));
    }

    /// Parses a duration, which must be longer than zero.
    pub(crate) fn duration(&mut self, field: &str, value: &str) -> Option<jiff::SignedDuration> {
        match gatehouse_apiservice::duration::parse(value) {
            Ok(duration) if duration.is_positive() => return Some(duration),
            Ok(_) => self.refuse(field, value, "must be longer than zero"),
            Err(message) => self.refuse(field, value, message),
        }
        None
    }
}
