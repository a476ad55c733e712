//! Tests policies and objects in the form in which people write them.

mod cel;
mod compile;
mod content;
mod exemptions;
mod freezes;
mod members;
mod parameters;
mod references;
mod requests;
mod sources;

use std::collections::HashMap;

use gatehouse_apiservice::{UserInfo, policy::ReconcilePolicy};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Accounts, Case, Dependencies, Kind, ObjectName, Operation, Policy, Scaling, Subject, Verb, Violation,
};

/// A policy with this `spec`.
fn try_policy(spec: &str) -> Result<Policy, Vec<String>> {
    let spec: Value = serde_saphyr::from_str(spec).unwrap();
    let policy = json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy",
        "metadata": {"name": "p", "uid": "u", "generation": 3}, "spec": spec,
    });
    let policy: ReconcilePolicy = serde_json::from_value(policy).unwrap();
    Policy::compile(&policy).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn policy(spec: &str) -> Policy {
    try_policy(spec).unwrap()
}

/// An object in the namespace team-a with the name `x`, unless it says otherwise.
fn subject(kind: Kind, object: &str) -> Subject {
    let mut object: Value = serde_saphyr::from_str(object).unwrap();
    let metadata = object.as_object_mut().unwrap().entry("metadata").or_insert_with(|| json!({}));
    for (field, value) in [("namespace", "team-a"), ("name", "x")] {
        metadata.as_object_mut().unwrap().entry(field).or_insert_with(|| json!(value));
    }
    Subject::of(kind, object)
}

/// No object has dependencies.
struct NoDependencies;

impl Dependencies for NoDependencies {
    fn depends_on(&self, _of: &ObjectName) -> Option<Vec<ObjectName>> {
        None
    }
}

/// A request, by default by jane on the morning of Wednesday, 6 January 2027.
struct Request {
    operation: Operation,
    subresource: Option<&'static str>,
    object: Option<Subject>,
    old: Option<Subject>,
    scaling: Option<Scaling>,
    user: Option<UserInfo>,
    field_manager: Option<&'static str>,
    now: Timestamp,
    accounts: Accounts,
}

impl Request {
    fn create(object: Subject) -> Self {
        Self {
            operation: Operation::Create,
            subresource: None,
            object: Some(object),
            old: None,
            scaling: None,
            user: Some(UserInfo { name: "jane".into(), groups: vec!["devs".into()], ..UserInfo::default() }),
            field_manager: None,
            now: "2027-01-06T08:00:00Z".parse().unwrap(),
            accounts: Accounts::default(),
        }
    }

    fn update(old: Subject, object: Subject) -> Self {
        Self { operation: Operation::Update, old: Some(old), ..Self::create(object) }
    }

    fn delete(old: Subject) -> Self {
        Self { operation: Operation::Delete, object: None, old: Some(old.clone()), ..Self::create(old) }
    }

    fn scale(parent: Subject, from: i64, to: i64) -> Self {
        Self {
            operation: Operation::Update,
            subresource: Some("scale"),
            scaling: Some(Scaling { from, to }),
            ..Self::create(parent)
        }
    }

    fn by(self, user: &str) -> Self {
        Self { user: Some(UserInfo { name: user.into(), ..UserInfo::default() }), ..self }
    }

    fn at(self, now: &str) -> Self {
        Self { now: now.parse().unwrap(), ..self }
    }

    fn case(&self) -> Case<'_> {
        Case {
            operation: self.operation,
            subresource: self.subresource,
            object: self.object.as_ref(),
            old: self.old.as_ref(),
            scaling: self.scaling,
            user: self.user.as_ref(),
            field_manager: self.field_manager,
            now: self.now,
            accounts: &self.accounts,
        }
    }

    /// `RULE FIELD: MESSAGE` of each violation.
    fn judged(&self, policy: &Policy) -> Vec<String> {
        self.judged_among(policy, &NoDependencies)
    }

    fn judged_among(&self, policy: &Policy, known: &dyn Dependencies) -> Vec<String> {
        policy.judge(&self.case(), known).iter().map(line).collect()
    }

    fn verbs(&self, policy: &Policy) -> Vec<Verb> {
        policy.required_verbs(&self.case())
    }
}

fn line(violation: &Violation) -> String {
    assert!(!violation.hint.is_empty(), "{violation:?} helps nobody");
    format!("{} {}: {}", violation.rule, violation.field, violation.message)
}

/// Creates an object of `kind` under a policy with these rules, and compares the violations; the audit must return the
/// same.
#[track_caller]
fn check(rules: &str, kind: Kind, spec: &str, expected: &[&str]) {
    let policy = policy(&format!("rules: {rules}"));
    let subject = subject(kind, &format!("spec: {spec}"));
    assert_eq!(Request::create(subject.clone()).judged(&policy), expected, "{rules} {spec}");
    let audited: Vec<_> = policy.audit(&subject, &NoDependencies).iter().map(line).collect();
    assert_eq!(audited, expected, "{rules} {spec}, audited");
}

/// Dependencies of Kustomizations in team-a, as `NAME → NAMES`.
struct Known(HashMap<&'static str, Vec<&'static str>>);

impl Dependencies for Known {
    fn depends_on(&self, of: &ObjectName) -> Option<Vec<ObjectName>> {
        let names = self.0.get(&*of.name)?;
        Some(names.iter().map(|name| ObjectName { name: (*name).into(), ..of.clone() }).collect())
    }
}
