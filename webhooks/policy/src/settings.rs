//! Applies the settings of single rules: the kinds that a rule judges, and its enforcement.

use gatehouse_apiservice::policy::{Enforcement, ReconcilePolicySpec, RuleSettings};

use crate::{
    GOVERNED, Kind,
    rules::{Errors, NATIVE, is_judged},
};

/// The settings of a policy's rules.
#[derive(Debug, Default)]
pub(crate) struct Settings(Vec<Setting>);

#[derive(Debug)]
struct Setting {
    rule: String,
    /// `None` for every kind that the rule supports.
    kinds: Option<Vec<Kind>>,
    enforcement: Option<Enforcement>,
}

impl Settings {
    /// Compiles the settings. `written` has the fields of the policy's rules.
    pub(crate) fn compile(spec: &ReconcilePolicySpec, written: &[&str], errors: &mut Errors) -> Self {
        let mut settings = Self::default();
        for (index, one) in spec.rule_settings.iter().enumerate() {
            settings.add(one, &format!("spec.ruleSettings[{index}]"), written, errors);
        }
        for (index, rule) in spec.rules.cel.iter().enumerate() {
            let kinds = kinds(&format!("spec.rules.cel[{index}].kinds"), &rule.kinds, errors);
            let name = rule.name.clone().unwrap_or_else(|| format!("cel[{index}]"));
            settings.0.push(Setting { rule: name, kinds, enforcement: rule.enforcement });
        }
        settings
    }

    fn add(&mut self, one: &RuleSettings, field: &str, written: &[&str], errors: &mut Errors) {
        let RuleSettings { rule, kinds: names, enforcement } = one;
        if let Some(why) = self.problem(rule, written) {
            errors.refuse(format!("{field}.rule"), rule, why);
            return;
        }
        let limited = kinds(&format!("{field}.kinds"), names, errors);
        for (index, kind) in limited.iter().flatten().enumerate() {
            if !is_judged(rule, *kind) {
                let why = format!("{rule} has nothing to judge in a {}", kind.name());
                errors.refuse(format!("{field}.kinds"), names.get(index).map_or("", String::as_str), why);
            }
        }
        if names.is_empty() && enforcement.is_none() {
            errors.refuse(field, rule, "must set kinds or enforcement");
        }
        self.0.push(Setting { rule: rule.clone(), kinds: limited, enforcement: *enforcement });
    }

    /// Why a rule cannot have settings, if so.
    fn problem(&self, rule: &str, written: &[&str]) -> Option<String> {
        if rule.starts_with("cel") {
            return Some("conditions have settings of their own, in spec.rules.cel".to_owned());
        }
        if !NATIVE.contains(&rule) {
            return Some(format!("no rule of this name: there are {}", NATIVE.join(", ")));
        }
        if rule == "freezes" {
            return Some(
                "freezes hold as the policy is enforced: write them into a policy of their own".to_owned(),
            );
        }
        if !written.contains(&rule) {
            return Some(format!("the policy has no spec.rules.{rule}"));
        }
        let is_known = self.0.iter().any(|known| known.rule == rule);
        is_known.then(|| "has settings already".to_owned())
    }

    /// Whether a rule judges objects of a kind.
    pub(crate) fn judges(&self, rule: &str, kind: Kind) -> bool {
        let kinds = self.of(rule).and_then(|setting| setting.kinds.as_deref());
        kinds.is_none_or(|kinds| kinds.contains(&kind))
    }

    /// The enforcement of a rule, if it differs from that of the policy.
    pub(crate) fn enforcement(&self, rule: &str) -> Option<Enforcement> {
        self.of(rule)?.enforcement
    }

    /// The enforcements that are set.
    pub(crate) fn enforcements(&self) -> impl Iterator<Item = Enforcement> {
        self.0.iter().filter_map(|setting| setting.enforcement)
    }

    fn of(&self, rule: &str) -> Option<&Setting> {
        self.0.iter().find(|setting| setting.rule == rule)
    }
}

/// Parses names of kinds; `None` if there are none, which means any kind.
pub(crate) fn kinds(field: &str, names: &[String], errors: &mut Errors) -> Option<Vec<Kind>> {
    let mut kinds = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let known = kinds.len();
        // Two kinds may have the same name; a name without a group means both.
        kinds.extend(GOVERNED.iter().copied().filter(|kind| match name.split_once('.') {
            Some((name, group)) => kind.name() == name && kind.group() == group,
            None => kind.name() == name,
        }));
        if kinds.len() == known {
            let mut all: Vec<&str> = GOVERNED.iter().map(|kind| kind.name()).collect();
            all.dedup();
            let why = format!("not a kind that policies judge: there are {}", all.join(", "));
            errors.refuse(format!("{field}[{index}]"), name, why);
        }
    }
    (!names.is_empty()).then_some(kinds)
}
