//! What the policies have to say about the objects of the files.

use std::collections::{BTreeMap, HashSet};

use gatehouse_policy::{Accounts, Case, Kind, Operation, Policy, Subject, Violation, defaults};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    Live,
    files::{Files, Lookup, Object, Role},
    graph::Graph,
    kustomize::Layout,
    report::{Finding, Note, Severity},
    ruleset::{Namespaces, Rules, Selected},
};

/// An object where it will be.
#[derive(Debug)]
pub(crate) struct Placed<'a> {
    /// Of [`Files::objects`].
    pub(crate) index: usize,
    pub(crate) object: &'a Object,
    /// None where nobody says.
    pub(crate) namespace: Option<String>,
}

impl<'a> Placed<'a> {
    /// The objects to judge, each once for every namespace it will be in.
    pub(crate) fn all(files: &'a Files, layout: &Layout) -> Vec<Self> {
        let mut all = Vec::new();
        let judged = files.objects.iter().enumerate().filter(|(_, object)| object.role == Role::Judged);
        for (index, object) in judged {
            let path = files.texts[object.source.text].path.as_deref();
            if !layout.is_patch(path) {
                let namespaces = layout.namespaces(path, object);
                all.extend(namespaces.into_iter().map(|namespace| Placed { index, object, namespace }));
            }
        }
        all
    }

    /// As the API server would have it.
    pub(crate) fn value(&self) -> Value {
        let mut value = self.object.value.clone();
        if let (Some(namespace), Some(metadata)) = (&self.namespace, value.get_mut("metadata"))
            && let Some(metadata) = metadata.as_object_mut()
        {
            metadata.insert("namespace".to_owned(), namespace.as_str().into());
        }
        value
    }

    fn subject(&self) -> Option<Subject> {
        let kind = Kind::of_kind(&self.object.group, &self.object.kind)?;
        // As kubectl would have it.
        let namespace = self.namespace.as_deref().unwrap_or("default");
        Some(Subject::new(kind, namespace, &self.object.name, self.value()))
    }
}

/// The verdicts of the policies.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) findings: Vec<Finding>,
    pub(crate) notes: Vec<Note>,
    /// The objects that something applied to.
    pub(crate) judged: HashSet<usize>,
}

/// Judges each object as if it were created by nobody in particular, after the defaults were filled in.
pub(crate) fn judge(
    files: &Files,
    placed: &[Placed<'_>],
    policies: &[Rules<Policy>],
    namespaces: &Namespaces,
    live: &Live,
    now: Timestamp,
) -> Verdicts {
    let subjects: Vec<_> = placed.iter().filter_map(|placed| Some((placed, placed.subject()?))).collect();
    let graph = Graph::of(subjects.iter().map(|(_, subject)| subject), live);
    let mut judging = Judging {
        lookup: Lookup::of(files),
        graph,
        now,
        accounts: Accounts::default(),
        verdicts: Verdicts::default(),
    };
    // By policy, the namespaces it was taken to select.
    let mut assumed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut nowhere = 0;
    for (placed, subject) in &subjects {
        let namespace = placed.namespace.as_deref().map(|name| namespaces.named(name));
        let selection: Vec<_> =
            policies.iter().map(|rules| rules.selects(namespace.as_ref(), Policy::selects)).collect();
        let applies =
            |selected: Selected| policies.iter().zip(&selection).filter(move |(_, is)| **is == selected);
        let certain: Vec<&Policy> = applies(Selected::Yes).map(|(rules, _)| &rules.rules).collect();
        for policy in &certain {
            judging.by(policy, &certain, placed, subject);
        }
        for (rules, _) in applies(Selected::Unknown) {
            // If it selects the namespace, so do its defaults; those of other such policies may not.
            let mut with = certain.clone();
            with.push(&rules.rules);
            with.sort_by(|one, other| one.name.cmp(&other.name));
            judging.by(&rules.rules, &with, placed, subject);
            match placed.namespace.as_deref() {
                Some(namespace) => assumed.entry(&rules.rules.name).or_default().push(namespace),
                None => nowhere += 1,
            }
        }
        if selection.iter().any(|is| *is != Selected::No) {
            judging.verdicts.judged.insert(placed.index);
        }
    }
    let mut verdicts = judging.verdicts;
    for (policy, mut namespaces) in assumed {
        namespaces.sort_unstable();
        namespaces.dedup();
        verdicts.notes.push(Note {
            spot: None,
            message: format!(
                "{policy} selects namespaces by labels, and those of {} are not known: it is taken to select them \
                 (--namespace-labels NAMESPACE:KEY=VALUE tells)",
                list(&namespaces)
            ),
        });
    }
    if nowhere > 0 {
        let message =
            "some objects do not say which namespace they go to: every policy is taken to select them";
        verdicts.notes.push(Note { spot: None, message: message.to_owned() });
    }
    verdicts
}

/// An object as the API server would have it, with the defaults of the policies over its namespace.
pub(crate) fn filled(
    placed: &Placed<'_>,
    policies: &[Rules<Policy>],
    namespaces: &Namespaces,
    now: Timestamp,
) -> Value {
    let Some(mut subject) = placed.subject() else { return placed.value() };
    let namespace = placed.namespace.as_deref().map(|name| namespaces.named(name));
    let selected =
        policies.iter().filter(|rules| rules.selects(namespace.as_ref(), Policy::selects) != Selected::No);
    let with: Vec<&Policy> = selected.map(|rules| &rules.rules).collect();
    let patch = defaults(&with, &creation(&subject, now, &Accounts::default()));
    // A patch that does not apply fills in nothing.
    let _ = json_patch::patch(&mut subject.object, &patch);
    subject.object
}

/// A creation by nobody in particular.
fn creation<'a>(subject: &'a Subject, now: Timestamp, accounts: &'a Accounts) -> Case<'a> {
    Case {
        operation: Operation::Create,
        subresource: None,
        object: Some(subject),
        old: None,
        scaling: None,
        user: None,
        field_manager: None,
        now,
        accounts,
    }
}

struct Judging<'a> {
    lookup: Lookup<'a>,
    graph: Graph,
    now: Timestamp,
    accounts: Accounts,
    verdicts: Verdicts,
}

impl Judging<'_> {
    fn by(&mut self, policy: &Policy, with: &[&Policy], placed: &Placed<'_>, subject: &Subject) {
        let case = creation(subject, self.now, &self.accounts);
        let mut filled = subject.clone();
        // A patch that does not apply fills in nothing.
        let _ = json_patch::patch(&mut filled.object, &defaults(with, &case));
        let violations = policy.judge(&Case { object: Some(&filled), ..case }, &self.graph);
        for violation in violations {
            self.take(policy, placed, violation);
        }
    }

    fn take(&mut self, policy: &Policy, placed: &Placed<'_>, violation: Violation) {
        let Violation { rule, field, message, hint } = violation;
        // When a file is applied is not known.
        if rule.starts_with("freeze") {
            self.verdicts
                .notes
                .push(Note { spot: None, message: format!("at present, {}: {message}", policy.name) });
            return;
        }
        let spot = self.lookup.spot(&placed.object.source, &[&field]);
        if let Some(text) = self.lookup.text(&placed.object.source, &field).filter(|text| text.contains("${"))
        {
            let message =
                format!("{field}: {text} is filled in by Flux, so {}/{rule} cannot judge it", policy.name);
            self.verdicts.notes.push(Note { spot: Some(spot), message });
            return;
        }
        self.verdicts.findings.push(Finding {
            spot,
            enforcement: Severity::from(policy.enforcement),
            policy: policy.name.clone(),
            rule: rule.into_owned(),
            kind: placed.object.kind.clone(),
            namespace: placed.namespace.clone(),
            name: placed.object.name.clone(),
            field,
            message,
            hint,
        });
    }
}

/// Some of them, and how many more.
pub(crate) fn list(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let text = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => text,
        Some(more) => format!("{text} and {more} more"),
    }
}
