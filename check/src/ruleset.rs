//! Policies and quotas, from files and from the cluster, compiled; and what is known of namespaces.

use std::collections::{BTreeMap, BTreeSet};

use gatehouse_apiservice::policy::{FieldError, GROUP, ReconcilePolicy, TenantQuota};
use gatehouse_policy::Policy;
use gatehouse_quota::CompiledQuota;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Live,
    files::{Files, Lookup, Object},
    kustomize::Layout,
    report::{Note, Problem},
};

/// The labels of a namespace.
pub type Labels = BTreeMap<String, String>;

/// Every namespace has it, with its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A policy or quota, and where it is from.
#[derive(Debug)]
pub(crate) struct Rules<T> {
    pub(crate) rules: T,
    selector: Option<LabelSelector>,
}

/// What applies.
#[derive(Debug, Default)]
pub(crate) struct Ruleset {
    /// By name: the first sets what several would.
    pub(crate) policies: Vec<Rules<Policy>>,
    pub(crate) quotas: Vec<Rules<CompiledQuota>>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<Note>,
}

/// Whether rules apply to a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selected {
    Yes,
    No,
    /// It depends on labels that are not known.
    Unknown,
}

impl Ruleset {
    pub(crate) fn of(files: &Files, live: &Live) -> Self {
        let mut ruleset = Self::default();
        let mut lookup = Lookup::of(files);
        let mut names: [BTreeSet<&str>; 2] = Default::default();
        for object in files.objects.iter().filter(|object| object.group == GROUP) {
            match object.kind.as_str() {
                "ReconcilePolicy" => {
                    names[0].insert(&object.name);
                    ruleset.take_policy(&mut lookup, object);
                }
                "TenantQuota" => {
                    names[1].insert(&object.name);
                    ruleset.take_quota(&mut lookup, object);
                }
                _ => {}
            }
        }
        // What the cluster has and a file changes is as the file says.
        let changed = |names: &BTreeSet<&str>, name: Option<&str>| names.contains(name.unwrap_or_default());
        for policy in
            live.policies.iter().filter(|policy| !changed(&names[0], policy.metadata.name.as_deref()))
        {
            match Policy::compile(policy) {
                Ok(rules) => {
                    ruleset.policies.push(Rules { rules, selector: policy.spec.namespace_selector.clone() });
                }
                Err(errors) => ruleset.in_cluster("ReconcilePolicy", policy.metadata.name.as_deref(), errors),
            }
        }
        for quota in live.quotas.iter().filter(|quota| !changed(&names[1], quota.metadata.name.as_deref())) {
            match CompiledQuota::compile(quota) {
                Ok(rules) => {
                    ruleset
                        .quotas
                        .push(Rules { rules, selector: Some(quota.spec.namespace_selector.clone()) });
                }
                Err(errors) => ruleset.in_cluster("TenantQuota", quota.metadata.name.as_deref(), errors),
            }
        }
        ruleset.policies.sort_by(|one, other| one.rules.name.cmp(&other.rules.name));
        ruleset.quotas.sort_by(|one, other| one.rules.name.cmp(&other.rules.name));
        ruleset
    }

    fn take_policy(&mut self, lookup: &mut Lookup<'_>, object: &Object) {
        let Some(policy) = self.read::<ReconcilePolicy>(lookup, object) else { return };
        match Policy::compile_new(&policy) {
            Ok(rules) => self.policies.push(Rules { rules, selector: policy.spec.namespace_selector }),
            Err(errors) => self.in_file(lookup, object, errors),
        }
    }

    fn take_quota(&mut self, lookup: &mut Lookup<'_>, object: &Object) {
        let Some(quota) = self.read::<TenantQuota>(lookup, object) else { return };
        match CompiledQuota::compile(&quota) {
            Ok(rules) => match rules.uncountable() {
                errors if errors.is_empty() => {
                    self.quotas.push(Rules { rules, selector: Some(quota.spec.namespace_selector) });
                }
                errors => self.in_file(lookup, object, errors),
            },
            Err(errors) => self.in_file(lookup, object, errors),
        }
    }

    /// The typed object. A field that the type does not know is an error, as it is for `kubectl apply`: a misspelt
    /// rule would be no rule.
    fn read<T: DeserializeOwned + Serialize>(
        &mut self,
        lookup: &mut Lookup<'_>,
        object: &Object,
    ) -> Option<T> {
        let mut problem = |field: &str, message: String| {
            let spot = lookup.spot(&object.source, &[field]);
            let what = format!("{} {}: {message}", object.kind, object.name);
            self.problems.push(Problem { spot, message: what });
        };
        let typed: T = match serde_path_to_error::deserialize(&object.value) {
            Ok(typed) => typed,
            Err(error) => {
                let field = error.path().to_string();
                problem(&field, format!("{field}: {}", error.inner()));
                return None;
            }
        };
        let known = serde_json::to_value(&typed).unwrap_or_default();
        let mut unknown = Vec::new();
        unknown_fields("spec", &object.value["spec"], &known["spec"], &mut unknown);
        for field in unknown {
            problem(&field, format!("{field}: unknown field"));
        }
        Some(typed)
    }

    fn in_file(&mut self, lookup: &mut Lookup<'_>, object: &Object, errors: Vec<FieldError>) {
        for error in errors {
            let field = error.field.trim_end_matches(" key");
            // A list may be shorter than it should be, a map may lack what it needs: then what is around it.
            let outer = field.rfind(['.', '[']).map_or("", |end| &field[..end]);
            let spot = lookup.spot(&object.source, &[field, outer]);
            self.problems
                .push(Problem { spot, message: format!("{} {}: {error}", object.kind, object.name) });
        }
    }

    /// What does not compile applies to nothing there: no reason to refuse files for it, but worth knowing.
    fn in_cluster(&mut self, kind: &str, name: Option<&str>, errors: Vec<FieldError>) {
        for error in errors {
            let message = format!("{kind} {} of the cluster: {error}", name.unwrap_or_default());
            self.notes.push(Note { spot: None, message });
        }
    }
}

/// The fields of `written` that are missing in what was understood of it.
fn unknown_fields(at: &str, written: &Value, known: &Value, unknown: &mut Vec<String>) {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => {
            for (name, value) in written {
                let field = format!("{at}.{name}");
                match known.get(name) {
                    Some(known) => unknown_fields(&field, value, known, unknown),
                    // Left out where it is written again, because it says nothing.
                    None if is_empty(value) => {}
                    None => unknown.push(field),
                }
            }
        }
        (Value::Array(written), Value::Array(known)) => {
            for (index, (written, known)) in written.iter().zip(known).enumerate() {
                unknown_fields(&format!("{at}[{index}]"), written, known, unknown);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

impl<T> Rules<T> {
    /// Whether it applies, as `matches` has it, to a namespace with these labels.
    pub(crate) fn selects(
        &self,
        namespace: Option<&Namespace>,
        matches: impl Fn(&T, &Labels) -> bool,
    ) -> Selected {
        let decided =
            |labels: &Labels| if matches(&self.rules, labels) { Selected::Yes } else { Selected::No };
        let keys =
            |only_name: bool| self.selector.as_ref().is_none_or(|selector| asks_for(selector, only_name));
        match namespace {
            Some(Namespace { labels, known: true }) => decided(labels),
            Some(Namespace { labels, known: false }) if keys(true) => decided(labels),
            None if keys(false) => Selected::Yes,
            Some(_) | None => Selected::Unknown,
        }
    }
}

/// Whether a selector asks for nothing, or for the name alone.
fn asks_for(selector: &LabelSelector, or_name: bool) -> bool {
    let labels = selector.match_labels.iter().flatten().map(|(key, _)| key.as_str());
    let expressions = selector.match_expressions.iter().flatten().map(|expression| expression.key.as_str());
    labels.chain(expressions).all(|key| or_name && key == NAME_LABEL)
}

/// What is known of a namespace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namespace {
    labels: Labels,
    /// Whether these are all of its labels.
    known: bool,
}

/// The namespaces that are known.
#[derive(Debug, Default)]
pub(crate) struct Namespaces(BTreeMap<String, Namespace>);

impl Namespaces {
    /// Of the cluster, over them those of files, and over these what the user says of them.
    pub(crate) fn of(files: &Files, layout: &Layout, live: &Live, said: &BTreeMap<String, Labels>) -> Self {
        let mut namespaces = Self::default();
        for (name, labels) in &live.namespaces {
            namespaces.insert(name, labels.clone());
        }
        for object in
            files.objects.iter().filter(|object| object.group.is_empty() && object.kind == "Namespace")
        {
            let labels = object.value.pointer("/metadata/labels").and_then(Value::as_object);
            let labels = labels.into_iter().flatten();
            let labels: Labels =
                labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
            // Kustomize renames a Namespace when it puts objects into one.
            for name in layout.namespaces(files.texts[object.source.text].path.as_deref(), object) {
                namespaces.insert(&name.unwrap_or_else(|| object.name.clone()), labels.clone());
            }
        }
        for (name, labels) in said {
            let mut all = namespaces.0.get(name).map(|known| known.labels.clone()).unwrap_or_default();
            all.extend(labels.clone());
            namespaces.insert(name, all);
        }
        namespaces
    }

    fn insert(&mut self, name: &str, mut labels: Labels) {
        labels.insert(NAME_LABEL.to_owned(), name.to_owned());
        self.0.insert(name.to_owned(), Namespace { labels, known: true });
    }

    /// Of one that is nowhere described, its name is known.
    pub(crate) fn named(&self, name: &str) -> Namespace {
        self.0.get(name).cloned().unwrap_or_else(|| Namespace {
            labels: Labels::from([(NAME_LABEL.to_owned(), name.to_owned())]),
            known: false,
        })
    }
}
