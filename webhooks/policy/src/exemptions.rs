//! Exempts objects from the rules about their content: by kind, namespace, name and labels.
//!
//! Anyone who may write an object may choose its labels, and the name of a new one. So a request that makes an object
//! exempt by these requires the verb `exempt` on the policy. An exemption that names the namespace and no label was
//! chosen by the policy's author, and requires no verb.
//!
//! **Invariant:** an object that was exempt before stays exempt without a verb. An object is judged as it becomes: one
//! that is no longer exempt is judged as a whole.

use gatehouse_apiservice::{labels::Selector, policy::ExemptObjects};

use crate::{
    Kind, Subject,
    glob::Names,
    rules::{Errors, NATIVE},
    settings::kinds,
};

/// The rules about actions and times. No object is exempt from these.
const ABOUT_DOING: [&str; 3] = ["freezes", "suspension", "verbs"];

/// The exemptions of a policy.
#[derive(Debug, Default)]
pub(crate) struct Exemptions(Vec<Exemption>);

#[derive(Debug)]
struct Exemption {
    kinds: Option<Vec<Kind>>,
    namespaces: Option<Names>,
    names: Option<Names>,
    labels: Option<Selector>,
    /// If empty, every rule.
    rules: Vec<String>,
}

impl Exemptions {
    /// Compiles exemptions. `written` has the fields or names of the policy's rules.
    pub(crate) fn compile(objects: &[ExemptObjects], written: &[&str], errors: &mut Errors) -> Self {
        let compile = |(index, one): (usize, &ExemptObjects)| {
            let field = format!("spec.exempt.objects[{index}]");
            Exemption::compile(one, &field, written, errors)
        };
        Self(objects.iter().enumerate().map(compile).collect())
    }

    /// Whether an object is exempt from a rule.
    pub(crate) fn exempts(&self, rule: &str, object: &Subject) -> bool {
        self.0.iter().any(|exemption| exemption.is_from(rule) && exemption.matches(object))
    }

    /// Whether changing `old` to `object` requires the verb `exempt`: it becomes exempt by what its author chooses.
    pub(crate) fn takes_right(&self, object: &Subject, old: Option<&Subject>) -> bool {
        self.0.iter().any(|exemption| {
            exemption.is_chosen()
                && exemption.matches(object)
                && !old.is_some_and(|old| exemption.matches(old))
        })
    }
}

impl Exemption {
    fn compile(one: &ExemptObjects, field: &str, written: &[&str], errors: &mut Errors) -> Self {
        let ExemptObjects { kinds: kind_names, namespaces, names, label_selector, rules } = one;
        let labels = label_selector.as_ref().map(|selector| {
            let field = format!("{field}.labelSelector");
            if selector.match_labels.iter().flatten().next().is_none()
                && selector.match_expressions.iter().flatten().next().is_none()
            {
                errors.refuse(&field, "{}", "must select by a label: an empty selector selects every object");
            }
            Selector::compile(&field, selector).unwrap_or_else(|wrong| {
                errors.0.extend(wrong);
                Selector::default()
            })
        });
        if namespaces.is_empty() && names.is_empty() && labels.is_none() {
            let why = "must say which objects: by names, namespaces or labelSelector";
            errors.refuse(field, "", why);
        }
        for (index, rule) in rules.iter().enumerate() {
            if let Some(why) = problem(rule, written) {
                errors.refuse(format!("{field}.rules[{index}]"), rule, why);
            }
        }
        let mut globs = |name: &str, patterns: &[String]| {
            let compiled = Names::compile(patterns, |index, pattern, why| {
                errors.refuse(format!("{field}.{name}[{index}]"), pattern, why);
            });
            (!patterns.is_empty()).then_some(compiled)
        };
        let (namespaces, names) = (globs("namespaces", namespaces), globs("names", names));
        let kinds = kinds(&format!("{field}.kinds"), kind_names, errors);
        Self { kinds, namespaces, names, labels, rules: rules.clone() }
    }

    fn is_from(&self, rule: &str) -> bool {
        let is_named = || self.rules.iter().any(|known| known == rule);
        !ABOUT_DOING.contains(&rule) && (self.rules.is_empty() || is_named())
    }

    fn matches(&self, object: &Subject) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&object.kind))
            && self.namespaces.as_ref().is_none_or(|names| names.matches(&object.namespace))
            && self.names.as_ref().is_none_or(|names| names.matches(&object.name))
            && self.labels.as_ref().is_none_or(|selector| selector.matches(&object.labels()))
    }

    /// Whether the author of an object can make it exempt.
    fn is_chosen(&self) -> bool {
        self.labels.is_some() || self.namespaces.is_none()
    }
}

/// Why objects cannot be exempt from a rule, if so.
fn problem(rule: &str, written: &[&str]) -> Option<String> {
    if ABOUT_DOING.contains(&rule) {
        return Some(format!("{rule} is about what somebody does: exempt users instead"));
    }
    if written.contains(&rule) {
        return None;
    }
    Some(if NATIVE.contains(&rule) {
        format!("the policy has no spec.rules.{rule}")
    } else {
        "the policy has no rule of this name; a condition in CEL is named by spec.rules.cel[].name".to_owned()
    })
}
