//! Compiles the policies and quotas of files and of the cluster, and collects what is known about namespaces.

use std::collections::{BTreeMap, BTreeSet};

use gatehouse_apiservice::policy::{FieldError, GROUP, ParamRef, ReconcilePolicy, TenantQuota};
use gatehouse_inventory::yaml::Node;
use gatehouse_policy::Policy;
use gatehouse_quota::CompiledQuota;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    Files, Live, Role,
    build::{Built, Id},
    judge::Placed,
    report::{Note, Problem},
};

/// The labels of a namespace.
pub type Labels = BTreeMap<String, String>;

/// The API version of policies and quotas.
const VERSION: &str = "v1alpha1";

/// The label that every namespace has, with its name as the value.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A policy or quota and its origin.
#[derive(Debug)]
pub(crate) struct Ruleset<T> {
    pub(crate) compiled: T,
    selector: Option<LabelSelector>,
    /// The CEL expressions of a policy, by the name of their rule.
    pub(crate) expressions: BTreeMap<String, String>,
    /// Whether a policy takes parameters from a ConfigMap that was not found.
    pub(crate) parameters_unknown: bool,
    /// The rules of a policy, as named in violations.
    pub(crate) rules: Vec<String>,
}

/// The policies and quotas to apply.
#[derive(Debug, Default)]
pub(crate) struct Rulesets {
    /// Sorted by name: the first policy that sets a default wins.
    pub(crate) policies: Vec<Ruleset<Policy>>,
    pub(crate) quotas: Vec<Ruleset<CompiledQuota>>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<Note>,
}

/// Whether a policy or quota applies to a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selected {
    Yes,
    No,
    /// It depends on unknown labels.
    Unknown,
}

impl Rulesets {
    pub(crate) fn of(files: &Files, placed: &[Placed<'_>], live: &Live) -> Self {
        let mut rulesets = Self::default();
        let parameters = Parameters { files, placed, live };
        let mut names: [BTreeSet<&str>; 2] = Default::default();
        for object in files.objects.iter().filter(|object| object.id.group == GROUP) {
            match (object.id.kind.as_str(), object.id.version.as_str()) {
                ("ReconcilePolicy", VERSION) => {
                    names[0].insert(&object.id.name);
                    rulesets.take_policy(files, &parameters, object);
                }
                ("TenantQuota", VERSION) => {
                    names[1].insert(&object.id.name);
                    rulesets.take_quota(files, object);
                }
                // The webhooks maintain these.
                ("QuotaLedger", VERSION) => {}
                (kind, version) => {
                    let known = "this Gatehouse knows ReconcilePolicy and TenantQuota";
                    let message = format!("{kind} of {GROUP}/{version} is not known: {known} of {VERSION}");
                    let spot = files.spot_of(object, &["kind"]);
                    rulesets.problems.push(Problem { spot, message });
                }
            }
        }
        // A file replaces the object of the same name in the cluster.
        let changed = |names: &BTreeSet<&str>, name: Option<&str>| names.contains(name.unwrap_or_default());
        for policy in
            live.policies.iter().filter(|policy| !changed(&names[0], policy.metadata.name.as_deref()))
        {
            let found = parameters.of(policy);
            match Policy::compile_with(policy, found.as_ref()) {
                Ok(ruleset) => rulesets.add_policy(ruleset, policy, found.is_some()),
                Err(errors) => {
                    rulesets.in_cluster("ReconcilePolicy", policy.metadata.name.as_deref(), errors);
                }
            }
        }
        for quota in live.quotas.iter().filter(|quota| !changed(&names[1], quota.metadata.name.as_deref())) {
            match CompiledQuota::compile(quota) {
                Ok(ruleset) => {
                    rulesets.quotas.push(Ruleset::quota(ruleset, quota));
                }
                Err(errors) => rulesets.in_cluster("TenantQuota", quota.metadata.name.as_deref(), errors),
            }
        }
        rulesets.policies.sort_by(|one, other| one.compiled.name.cmp(&other.compiled.name));
        rulesets.quotas.sort_by(|one, other| one.compiled.name.cmp(&other.compiled.name));
        rulesets
    }

    fn take_policy(&mut self, files: &Files, parameters: &Parameters<'_>, object: &Built) {
        let Some(policy) = self.read::<ReconcilePolicy>(files, object) else { return };
        if let Err(errors) = Policy::compile_new(&policy) {
            self.in_file(files, object, errors);
            return;
        }
        let found = parameters.of(&policy);
        match Policy::compile_with(&policy, found.as_ref()) {
            Ok(ruleset) => self.add_policy(ruleset, &policy, found.is_some()),
            Err(errors) => self.in_file(files, object, errors),
        }
    }

    fn add_policy(&mut self, compiled: Policy, policy: &ReconcilePolicy, has_parameters: bool) {
        let unknown = policy.spec.param_ref.as_ref().filter(|_| !has_parameters);
        if let Some(ParamRef { name, namespace }) = unknown {
            let message = format!(
                "{} takes parameters from the ConfigMap {namespace}/{name}, which is in no file: rules that need it are \
                 not judged",
                compiled.name
            );
            self.notes.push(Note { spot: None, message });
        }
        let parameters_unknown = unknown.is_some();
        self.policies.push(Ruleset { parameters_unknown, ..Ruleset::policy(compiled, policy) });
    }

    fn take_quota(&mut self, files: &Files, object: &Built) {
        let Some(quota) = self.read::<TenantQuota>(files, object) else { return };
        match CompiledQuota::compile(&quota) {
            Ok(ruleset) => match ruleset.uncountable() {
                errors if errors.is_empty() => {
                    self.quotas.push(Ruleset::quota(ruleset, &quota));
                }
                errors => self.in_file(files, object, errors),
            },
            Err(errors) => self.in_file(files, object, errors),
        }
    }

    /// Decodes the typed object. An unknown field is an error, as in `kubectl apply`: a misspelled rule would have no
    /// effect.
    fn read<T: DeserializeOwned + Serialize>(&mut self, files: &Files, object: &Built) -> Option<T> {
        let mut problem = |field: &str, message: String| {
            let spot = files.spot_of(object, &[field]);
            let what = format!("{} {}: {message}", object.id.kind, object.id.name);
            self.problems.push(Problem { spot, message: what });
        };
        let value = object.value();
        let typed: T = match serde_path_to_error::deserialize(&value) {
            Ok(typed) => typed,
            Err(error) => {
                let field = error.path().to_string();
                problem(&field, format!("{field}: {}", error.inner()));
                return None;
            }
        };
        let known = serde_json::to_value(&typed).unwrap_or_default();
        let mut unknown = Vec::new();
        unknown_fields("spec", &value["spec"], &known["spec"], &mut unknown);
        for field in unknown {
            problem(&field, format!("{field}: unknown field"));
        }
        Some(typed)
    }

    fn in_file(&mut self, files: &Files, object: &Built, errors: Vec<FieldError>) {
        for error in errors {
            let field = error.field.trim_end_matches(" key");
            // If a list is too short or a map lacks a field, the enclosing field provides the position.
            let outer = field.rfind(['.', '[']).map_or("", |end| &field[..end]);
            let spot = files.spot_of(object, &[field, outer]);
            self.problems
                .push(Problem { spot, message: format!("{} {}: {error}", object.id.kind, object.id.name) });
        }
    }

    /// A policy that does not compile applies to nothing in the cluster either: files are not rejected for it, but it
    /// is noted.
    fn in_cluster(&mut self, kind: &str, name: Option<&str>, errors: Vec<FieldError>) {
        for error in errors {
            let message = format!("{kind} {} of the cluster: {error}", name.unwrap_or_default());
            self.notes.push(Note { spot: None, message });
        }
    }
}

/// The places to look for the ConfigMaps of policies.
struct Parameters<'a> {
    files: &'a Files,
    placed: &'a [Placed<'a>],
    live: &'a Live,
}

impl Parameters<'_> {
    /// The ConfigMap that a policy takes parameters from: from the files of policies, then the objects to apply, then
    /// the cluster.
    fn of(&self, policy: &ReconcilePolicy) -> Option<Value> {
        let ParamRef { name, namespace } = policy.spec.param_ref.as_ref()?;
        // Only the beginning of a very large one was read.
        let is_it = |object: &Built, at: Option<&String>| {
            let Id { group, kind, .. } = &object.id;
            let is_map = group.is_empty() && kind == "ConfigMap" && object.node.is_some();
            is_map && object.id.name == *name && at == Some(namespace)
        };
        let own = |object: &&Built| is_it(object, object.id.namespace.as_ref());
        let beside = self.files.objects.iter().find(own).map(Built::value);
        let applied = || {
            let found = |placed: &&Placed<'_>| is_it(placed.object, placed.namespace.as_ref());
            self.placed.iter().find(found).map(|placed| placed.object.value())
        };
        let there = || {
            let key = (namespace.clone(), name.clone());
            self.live.config_maps.get(&key).cloned()
        };
        beside.or_else(applied).or_else(there)
    }
}

/// The fields of `written` that the decoded value lacks.
fn unknown_fields(at: &str, written: &Value, known: &Value, unknown: &mut Vec<String>) {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => {
            for (name, value) in written {
                let field = format!("{at}.{name}");
                match known.get(name) {
                    Some(known) => unknown_fields(&field, value, known, unknown),
                    // Empty values are omitted when the object is serialized.
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

impl Ruleset<Policy> {
    fn policy(ruleset: Policy, policy: &ReconcilePolicy) -> Self {
        let rules = serde_json::to_value(&policy.spec.rules).unwrap_or_default();
        let expressions =
            rules["cel"].as_array().into_iter().flatten().enumerate().filter_map(|(index, rule)| {
                let name = rule["name"].as_str().map_or_else(|| format!("cel[{index}]"), str::to_owned);
                Some((name, rule["expression"].as_str()?.to_owned()))
            });
        let expressions: BTreeMap<String, String> = expressions.collect();
        let native = rules.as_object().into_iter().flat_map(|rules| rules.keys().cloned());
        let exempt = (!policy.spec.exempt.objects.is_empty()).then(|| "exempt".to_owned());
        Self {
            compiled: ruleset,
            selector: policy.spec.namespace_selector.clone(),
            rules: native
                .filter(|rule| rule != "cel")
                .chain(expressions.keys().cloned())
                .chain(exempt)
                .collect(),
            expressions,
            parameters_unknown: false,
        }
    }
}

impl Ruleset<CompiledQuota> {
    fn quota(ruleset: CompiledQuota, quota: &TenantQuota) -> Self {
        Self {
            compiled: ruleset,
            selector: Some(quota.spec.namespace_selector.clone()),
            expressions: BTreeMap::new(),
            parameters_unknown: false,
            rules: Vec::new(),
        }
    }
}

impl<T> Ruleset<T> {
    /// Whether it applies to a namespace with these labels, as `matches` decides.
    pub(crate) fn selects(
        &self,
        namespace: Option<&Namespace>,
        matches: impl Fn(&T, &Labels) -> bool,
    ) -> Selected {
        let decided =
            |labels: &Labels| if matches(&self.compiled, labels) { Selected::Yes } else { Selected::No };
        let keys =
            |only_name: bool| self.selector.as_ref().is_none_or(|selector| asks_for(selector, only_name));
        match namespace {
            Some(Namespace { labels, known: true, .. }) => decided(labels),
            Some(Namespace { labels, known: false, .. }) if keys(true) => decided(labels),
            None if keys(false) => Selected::Yes,
            Some(_) | None => Selected::Unknown,
        }
    }
}

/// Whether a selector is empty, or requires only the name.
fn asks_for(selector: &LabelSelector, or_name: bool) -> bool {
    let labels = selector.match_labels.iter().flatten().map(|(key, _)| key.as_str());
    let expressions = selector.match_expressions.iter().flatten().map(|expression| expression.key.as_str());
    labels.chain(expressions).all(|key| or_name && key == NAME_LABEL)
}

/// The labels of an object.
pub(crate) fn labels_of(object: &Built) -> Labels {
    texts_of(object, "labels")
}

/// The labels or annotations of an object.
pub(crate) fn texts_of(object: &Built, field: &str) -> Labels {
    let map = object.node.as_deref().and_then(|node| node.at_path(&["metadata", field]));
    let entries = map.map(Node::entries).unwrap_or_default().iter();
    entries.filter_map(|entry| Some((entry.name().to_owned(), entry.value.as_str()?.to_owned()))).collect()
}

/// What is known about a namespace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namespace {
    labels: Labels,
    annotations: Labels,
    /// Whether its labels are complete.
    known: bool,
}

impl Namespace {
    /// The namespace object for conditions; `None` if nothing describes it.
    pub(crate) fn object(&self, name: &str) -> Option<Value> {
        let Self { labels, annotations, known } = self;
        known.then(|| {
            let mut metadata = json!({"name": name, "labels": labels});
            if !annotations.is_empty() {
                metadata["annotations"] = json!(annotations);
            }
            json!({"metadata": metadata})
        })
    }
}

/// The known namespaces.
#[derive(Debug, Default)]
pub(crate) struct Namespaces(BTreeMap<String, Namespace>);

impl Namespaces {
    /// The namespaces of the cluster, overridden by those of files, then by the user's options.
    pub(crate) fn of(
        files: &Files,
        placed: &[Placed<'_>],
        live: &Live,
        given: &BTreeMap<String, Labels>,
    ) -> Self {
        let mut namespaces = Self::default();
        for (name, labels) in &live.namespaces {
            let annotations = live.annotations.get(name).cloned().unwrap_or_default();
            namespaces.insert(name, labels.clone(), annotations);
        }
        let beside = files.objects.iter().filter(|object| files.text_of(object.at).role == Role::Policies);
        let objects = beside.chain(placed.iter().map(|placed| placed.object));
        for object in objects.filter(|object| object.id.group.is_empty() && object.id.kind == "Namespace") {
            namespaces.insert(&object.id.name, texts_of(object, "labels"), texts_of(object, "annotations"));
        }
        for (name, labels) in given {
            let Namespace { labels: mut all, annotations, .. } =
                namespaces.0.get(name).cloned().unwrap_or_default();
            all.extend(labels.clone());
            namespaces.insert(name, all, annotations);
        }
        namespaces
    }

    fn insert(&mut self, name: &str, mut labels: Labels, annotations: Labels) {
        labels.insert(NAME_LABEL.to_owned(), name.to_owned());
        self.0.insert(name.to_owned(), Namespace { labels, annotations, known: true });
    }

    /// If nothing describes a namespace, only its name is known.
    pub(crate) fn named(&self, name: &str) -> Namespace {
        self.0.get(name).cloned().unwrap_or_else(|| Namespace {
            labels: Labels::from([(NAME_LABEL.to_owned(), name.to_owned())]),
            annotations: Labels::new(),
            known: false,
        })
    }
}
