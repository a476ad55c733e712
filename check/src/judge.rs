//! Judges the objects of the files by the policies.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use gatehouse_policy::{Accounts, Case, Kind, Operation, Policy, Subject, Violation, defaults};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Files, Live,
    build::Built,
    flux,
    graph::Graph,
    ignored,
    open::Open,
    report::{Finding, Ignored, Note, Severity, short_digest},
    rulesets::{Namespaces, Ruleset, Selected},
};

/// An object and the namespace that it will be in.
#[derive(Debug)]
pub(crate) struct Placed<'a> {
    /// Its index among the objects that will be applied.
    pub(crate) index: usize,
    pub(crate) object: &'a Built,
    /// `None` if it is unknown.
    pub(crate) namespace: Option<String>,
}

impl<'a> Placed<'a> {
    /// All objects, in order.
    pub(crate) fn all(objects: &'a [Built]) -> Vec<Self> {
        let placed = |(index, object): (usize, &'a Built)| {
            let namespace = object.id.namespace.clone().filter(|namespace| !flux::is_open(namespace));
            Placed { index, object, namespace }
        };
        objects.iter().enumerate().map(placed).collect()
    }

    /// The object as the API server would store it.
    pub(crate) fn value(&self) -> Value {
        match self.object.node.as_deref() {
            Some(node) => node.to_value(),
            None => json!({"metadata": {"name": self.object.id.name, "namespace": self.namespace}}),
        }
    }

    fn subject(&self) -> Option<Subject> {
        let kind = Kind::of_kind(&self.object.id.group, &self.object.id.kind)?;
        // The default namespace of kubectl.
        let namespace = self.namespace.as_deref().unwrap_or("default");
        Some(Subject::new(kind, namespace, &self.object.id.name, self.value()))
    }
}

/// The findings of the policies.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) findings: Vec<Finding>,
    pub(crate) ignored: Vec<Ignored>,
    pub(crate) notes: Vec<Note>,
    /// The objects that a policy or quota applied to.
    pub(crate) judged: HashSet<usize>,
}

impl Verdicts {
    /// Adds a finding, unless the object declares it as intended.
    pub(crate) fn take(&mut self, object: &Built, finding: Finding) {
        match ignored::reason(object, &finding.policy, &finding.rule) {
            Some(reason) => self.ignored.push(Ignored { finding, reason }),
            None => self.findings.push(finding),
        }
    }
}

/// Judges each object as a creation by an unspecified user, after defaulting.
pub(crate) fn judge(
    files: &Files,
    placed: &[Placed<'_>],
    policies: &[Ruleset<Policy>],
    namespaces: &Namespaces,
    live: &Live,
    now: Timestamp,
) -> Verdicts {
    let graph = Graph::of(placed.iter().filter_map(Placed::subject), live);
    let mut judging =
        Judging { files, graph, now, accounts: Accounts::default(), verdicts: Verdicts::default() };
    // For each policy, the namespaces that it was assumed to select.
    let mut assumed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut nowhere = 0;
    for placed in placed {
        let Some(mut subject) = placed.subject() else { continue };
        let namespace = placed.namespace.as_deref().map(|name| namespaces.named(name));
        if let Some(object) = namespace.as_ref().and_then(|known| known.object(&subject.namespace)) {
            subject = subject.within(Arc::new(object));
        }
        let selection: Vec<_> =
            policies.iter().map(|ruleset| ruleset.selects(namespace.as_ref(), Policy::selects)).collect();
        let applies =
            |selected: Selected| policies.iter().zip(&selection).filter(move |(_, is)| **is == selected);
        let certain: Vec<&Policy> = applies(Selected::Yes).map(|(ruleset, _)| &ruleset.compiled).collect();
        for (ruleset, _) in applies(Selected::Yes) {
            judging.by(ruleset, &certain, placed, &subject);
        }
        for (ruleset, _) in applies(Selected::Unknown) {
            // If the policy selects the namespace, its defaults apply too; those of other uncertain policies may not.
            let mut with = certain.clone();
            with.push(&ruleset.compiled);
            with.sort_by(|one, other| one.name.cmp(&other.name));
            judging.by(ruleset, &with, placed, &subject);
            match placed.namespace.as_deref() {
                Some(namespace) => assumed.entry(&ruleset.compiled.name).or_default().push(namespace),
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

/// The object as the API server would store it, with the defaults of the policies that select its namespace.
pub(crate) fn filled(
    placed: &Placed<'_>,
    policies: &[Ruleset<Policy>],
    namespaces: &Namespaces,
    now: Timestamp,
) -> Value {
    let Some(mut subject) = placed.subject() else { return placed.value() };
    let namespace = placed.namespace.as_deref().map(|name| namespaces.named(name));
    let selected = policies
        .iter()
        .filter(|ruleset| ruleset.selects(namespace.as_ref(), Policy::selects) != Selected::No);
    let with: Vec<&Policy> = selected.map(|ruleset| &ruleset.compiled).collect();
    let patch = defaults(&with, &creation(&subject, now, &Accounts::default()));
    // A patch that cannot be applied sets no defaults.
    let _ = json_patch::patch(&mut subject.object, &patch);
    subject.object
}

/// The creation of an object by an unspecified user.
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
    files: &'a Files,
    graph: Graph,
    now: Timestamp,
    accounts: Accounts,
    verdicts: Verdicts,
}

impl Judging<'_> {
    fn by(&mut self, ruleset: &Ruleset<Policy>, with: &[&Policy], placed: &Placed<'_>, subject: &Subject) {
        let violations = self.violations(ruleset, with, subject);
        if violations.is_empty() {
            return;
        }
        let open = Open::of(placed.object.node.as_deref());
        for violation in violations {
            // One note reports this.
            if ruleset.parameters_unknown && ruleset.compiled.lacks_parameters(&violation.rule) {
                continue;
            }
            if let Some(message) = self.undecided(ruleset, with, placed, subject, &open, &violation) {
                let spot = Some(self.files.spot_of(placed.object, &[&violation.field]));
                self.verdicts.notes.push(Note { spot, message });
            } else {
                self.take(ruleset, placed, violation);
            }
        }
    }

    fn violations(&self, ruleset: &Ruleset<Policy>, with: &[&Policy], subject: &Subject) -> Vec<Violation> {
        let case = creation(subject, self.now, &self.accounts);
        let mut filled = subject.clone();
        // A patch that cannot be applied sets no defaults.
        let _ = json_patch::patch(&mut filled.object, &defaults(with, &case));
        ruleset.compiled.judge(&Case { object: Some(&filled), ..case }, &self.graph)
    }

    /// Why a violation is uncertain, if it depends on something unknown.
    fn undecided(
        &self,
        ruleset: &Ruleset<Policy>,
        with: &[&Policy],
        placed: &Placed<'_>,
        subject: &Subject,
        open: &Open,
        violation: &Violation,
    ) -> Option<String> {
        let rule = format!("{}/{}", ruleset.compiled.name, violation.rule);
        let field = &violation.field;
        let expression = ruleset.expressions.get(&*violation.rule).map(String::as_str);
        if let Some((path, text)) = open.concerns(&violation.rule, field, expression) {
            return Some(if path == *field {
                format!("{field}: {text} is filled in by Flux, so {rule} cannot judge it")
            } else {
                format!("{path}: {text} is filled in by Flux, so {rule} cannot judge {}", or_object(field))
            });
        }
        if ruleset.compiled.is_about_namespace(&violation.rule) && !subject.knows_namespace() {
            let name = &subject.namespace;
            return Some(format!("the Namespace {name} is in no file, so {rule} cannot judge the object"));
        }
        if placed.namespace.is_some() {
            return None;
        }
        // The namespace is unknown: checks whether another namespace would satisfy the rule.
        let named = placed.object.node.as_deref()?.field(field)?.1.as_str()?;
        let mut moved = Subject::new(subject.kind, named, &subject.name, subject.object.clone());
        if let Some(metadata) = moved.object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".to_owned(), named.into());
        }
        let same = |other: &Violation| other.rule == violation.rule && other.field == *field;
        let stays = self.violations(ruleset, with, &moved).iter().any(same);
        (!stays).then(|| {
            format!("{field}: {named} is right in the namespace {named} alone, and where this object goes is not known: {rule} cannot judge it")
        })
    }

    fn take(&mut self, ruleset: &Ruleset<Policy>, placed: &Placed<'_>, violation: Violation) {
        let policy = &ruleset.compiled;
        let Violation { rule, field, message, hint } = violation;
        // The time when a file is applied is unknown.
        if rule == "freezes" {
            self.verdicts
                .notes
                .push(Note { spot: None, message: format!("at present, {}: {message}", policy.name) });
            return;
        }
        // The index of an expression is not stable over time.
        let rule_id = match ruleset.expressions.get(&*rule).filter(|_| rule.contains('[')) {
            Some(expression) => format!("cel-{}", short_digest(expression, 4)),
            None => rule.to_string(),
        };
        self.verdicts.take(
            placed.object,
            Finding {
                spot: self.files.spot_of(placed.object, &[&field]),
                enforcement: Severity::from(policy.enforcement_of(&rule)),
                policy: policy.name.clone(),
                rule: rule.into_owned(),
                kind: placed.object.id.kind.clone(),
                namespace: placed.namespace.clone(),
                name: placed.object.id.name.clone(),
                field,
                message,
                hint,
                rule_id,
                fingerprint: String::new(),
            },
        );
    }
}

fn or_object(field: &str) -> &str {
    if field.is_empty() { "the object" } else { field }
}

/// The first names, and the number of the others.
pub(crate) fn list(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let text = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => text,
        Some(more) => format!("{text} and {more} more"),
    }
}
