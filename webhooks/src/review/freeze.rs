//! Applies freezes beyond denying: holds the writes of Flux, protects the marks of Gatehouse, and keeps held objects
//! from being deleted.
//!
//! **Invariant:** on Flux's objects, nobody but Gatehouse adds its marks or entries of its field manager; the request
//! of someone else carries only those that the mutating webhook added.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use gatehouse_installation::FIELD_MANAGER;
use gatehouse_policy::freeze::{self, Hold};
use gatehouse_policy::{Accounts, Case, Kind, Operation, Policy, Subject, annotation, gains_owner, mutation};
use gatehouse_serving::ApiError;
use gatehouse_serving::error::FieldProblem;
use gatehouse_serving::fair::Held;
use gatehouse_serving::pipeline::Holder;
use json_patch::{Patch, PatchOperation};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::{Annotation, Answer};
use super::request::Request;
use crate::metrics::{DryRun, Metrics};
use crate::world::{Applied, own_paths};

/// The old object in a patch, the patch in base64, and that in a response, whose buffer grows while it is written.
const COPIES: usize = 5;

/// The response of a mutating review. If a freeze holds an update by Flux, it is undone; otherwise defaults are filled
/// in, marks are corrected, and a new object from Flux is suspended.
pub(super) fn mutated(
    request: &Request<'_>,
    policies: &[&Policy],
    case: &Case<'_>,
    metrics: &Metrics,
    mut room: Held<Holder>,
) -> Answer {
    let hold = freeze::hold(policies, case);
    if let Some(hold) = &hold {
        metrics.count_policy_decision(&hold.policy, "freezes", DryRun(request.dry_run), "held");
        if hold.stays {
            // The validating webhook denies an update that is not reverted.
            let text = request.old_object.map_or(0, |old| old.get().len());
            if !room.try_grow(text.saturating_mul(COPIES)) {
                return Answer::allowed();
            }
            return as_it_was(request)
                .map_or_else(Answer::allowed, |patch| with_hold(Answer::written(patch, room), hold));
        }
    }
    let Some(object) = case.object else { return Answer::allowed() };
    let mut operations = mutation(policies, case, hold.as_ref()).0;
    let Some(hold) = hold else { return Answer::patched(&Patch(operations)) };
    if object.kind.is_flux() {
        operations.extend(owned(request, object, case.now));
    }
    with_hold(Answer::patched(&Patch(operations)), &hold)
}

/// Whether an object mentions Gatehouse's field manager. Most do not, and without a policy nothing else has to be read
/// then. kube-apiserver does not escape such letters in JSON.
pub(super) fn bears_marks(request: &Request<'_>) -> bool {
    let objects = [request.object, request.old_object];
    objects.into_iter().flatten().any(|raw| raw.get().contains(FIELD_MANAGER))
}

/// Denies changes that forge the marks or the field manager of Gatehouse.
pub(super) fn guard(request: &Request<'_>, policies: &[&Policy], case: &Case<'_>) -> Result<(), ApiError> {
    if !is_guarded(request, case) {
        return Ok(());
    }
    if let Some(name) = freeze::forged(policies, case) {
        let why = format!("the annotation {name} is reserved for Gatehouse and must not be changed");
        return Err(refused(format!("metadata.annotations[{name}]"), why));
    }
    // `gatehouse apiserver` suspends, resumes and requests by the same manager.
    if request.by_gatehouse {
        return Ok(());
    }
    check_manager(request, case)?;
    check_entries(request, case)
}

/// Denies the removal of a managedFields entry of Gatehouse for a field that keeps its value. Gatehouse recognizes its
/// own fields by this entry; only an edit of managedFields removes it then.
fn check_entries(request: &Request<'_>, case: &Case<'_>) -> Result<(), ApiError> {
    let (Some(object), Some(old)) = (case.object, case.old) else { return Ok(()) };
    let applied = |raw: Option<&RawValue>| {
        raw.and_then(managed_fields).map(|fields| Applied::of(object.kind, fields)).unwrap_or_default()
    };
    let before = applied(request.old_object);
    if before.is_empty() {
        return Ok(());
    }
    let now = applied(request.object);
    let is_lost = |name: &&&'static str| {
        let stands = |subject: &Subject| subject.annotation(name).map(str::to_owned);
        !now.annotations.contains(*name) && stands(object).is_some() && stands(object) == stands(old)
    };
    let is_suspension_lost =
        before.suspension && !now.suspension && object.is_suspended() && old.is_suspended();
    if !is_suspension_lost && before.annotations.iter().find(is_lost).is_none() {
        return Ok(());
    }
    let why = format!(
        "the entries of the field manager {FIELD_MANAGER:?} tell what Gatehouse suspended: leave them as they are"
    );
    Err(refused("metadata.managedFields".to_owned(), why))
}

/// Denies the deletion of an object that Gatehouse holds, by any user but garbage collection: Flux would leave behind
/// what the object applied.
pub(super) fn keep(request: &Request<'_>, case: &Case<'_>) -> Result<(), ApiError> {
    let kind = case.subject().map(|subject| subject.kind).filter(|_| is_guarded(request, case));
    let Some(kind) = kind else { return Ok(()) };
    let Some(old) = case.old.filter(|old| is_held(request, kind, old)) else { return Ok(()) };
    let field = match (case.operation, case.object) {
        _ if case.user.is_some_and(Accounts::is_collector) => return Ok(()),
        (Operation::Delete, _) => "metadata",
        // The garbage collector would delete it for a new owner that does not exist, and it is not denied.
        (_, Some(object)) if gains_owner(object, old) => "metadata.ownerReferences",
        _ => return Ok(()),
    };
    let freeze = old.annotation(annotation::FROZEN_BY).unwrap_or_default();
    let why = format!(
        "it is suspended by the freeze {freeze}, and Flux leaves behind what a suspended object applied: resume it \
         before it is deleted, or wait until the freeze is over"
    );
    Err(refused(field.to_owned(), why))
}

fn is_guarded(request: &Request<'_>, case: &Case<'_>) -> bool {
    let is_going = case.old.is_some_and(Subject::is_terminating);
    let is_flux = case.subject().is_some_and(|subject| subject.kind.is_flux());
    is_flux && case.subresource.is_none() && !is_going && bears_marks(request)
}

/// Whether Gatehouse suspended an object, by its managedFields and its mark.
fn is_held(request: &Request<'_>, kind: Kind, old: &Subject) -> bool {
    let is_marked = old.annotation(annotation::FROZEN_BY).is_some() && old.is_suspended();
    let fields = || request.old_object.and_then(managed_fields);
    is_marked && fields().is_some_and(|fields| Applied::of(kind, fields).suspension)
}

/// Only Gatehouse may write as its field manager, by a flag or by an edit of managedFields. Entries may shrink, as
/// they do if someone takes over fields.
fn check_manager(request: &Request<'_>, case: &Case<'_>) -> Result<(), ApiError> {
    let problem = |why: &str| Err(refused("metadata.managedFields".to_owned(), why.to_owned()));
    let paths = |raw: Option<&RawValue>| match raw.and_then(managed_fields) {
        Some(fields) => own_paths(fields).map(BTreeSet::from_iter),
        None => Some(BTreeSet::new()),
    };
    let (Some(new), Some(mut known)) = (paths(request.object), paths(request.old_object)) else {
        return problem("cannot be read");
    };
    // A new object that was admitted suspended; its mark was already verified.
    if case.operation == Operation::Create
        && let Some(object) = case.object.filter(|object| object.annotation(annotation::FROZEN_BY).is_some())
        && let Ok(made) = serde_json::value::to_raw_value(&[entry(object, case.now)])
    {
        known.extend(own_paths(&made).unwrap_or_default());
    }
    if new.is_subset(&known) {
        return Ok(());
    }
    problem(&format!(
        "the field manager {FIELD_MANAGER:?} is reserved for Gatehouse: use another field manager"
    ))
}

/// The managedFields entry for the suspension of a new object.
fn entry(object: &Subject, now: jiff::Timestamp) -> Value {
    let applied =
        Applied { suspension: true, annotations: vec![annotation::FROZEN_BY, annotation::SUSPENDED_BY] };
    let api_version = object.object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    applied.entry(object.kind, api_version, now)
}

/// Makes Gatehouse the owner of the fields that suspend a new object.
fn owned(request: &Request<'_>, object: &Subject, now: jiff::Timestamp) -> Option<PatchOperation> {
    let entry = entry(object, now);
    let operation = match request.object.and_then(managed_fields) {
        Some(_) => json!({"op": "add", "path": "/metadata/managedFields/-", "value": entry}),
        None => json!({"op": "add", "path": "/metadata/managedFields", "value": [entry]}),
    };
    serde_json::from_value(operation).ok()
}

/// The patch that restores the old object, managedFields included. It is made from text, without building either
/// object.
fn as_it_was(request: &Request<'_>) -> Option<Vec<u8>> {
    #[derive(Serialize)]
    struct Change<'a> {
        op: &'static str,
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<&'a RawValue>,
    }
    /// The top-level fields of an object. Kubernetes' objects have about five; more than `MOST` are rejected.
    #[derive(Default)]
    struct Fields<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);
    const MOST: usize = 64;
    impl<'de> Deserialize<'de> for Fields<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Map;
            impl<'de> Visitor<'de> for Map {
                type Value = Fields<'de>;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                    let mut fields = Fields::default();
                    while let Some((name, value)) = map.next_entry()? {
                        if fields.0.len() == MOST {
                            return Err(A::Error::custom("has too many fields"));
                        }
                        fields.0.insert(name, value);
                    }
                    Ok(fields)
                }
            }
            deserializer.deserialize_map(Map)
        }
    }
    fn fields(raw: Option<&RawValue>) -> Option<BTreeMap<Cow<'_, str>, &RawValue>> {
        serde_json::from_str(raw?.get()).ok().map(|Fields(fields)| fields)
    }
    let (new, old) = (fields(request.object)?, fields(request.old_object)?);
    let path = |name: &str| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    let restored = old.iter().filter_map(|(name, value)| {
        let is_same = new.get(name).is_some_and(|new| new.get() == value.get());
        (!is_same).then(|| Change { op: "add", path: path(name), value: Some(value) })
    });
    let removed = new.keys().filter(|name| !old.contains_key(*name)).map(|name| Change {
        op: "remove",
        path: path(name),
        value: None,
    });
    serde_json::to_vec(&restored.chain(removed).collect::<Vec<_>>()).ok()
}

/// The answer with a warning and annotations about the freeze.
fn with_hold(answer: Answer, hold: &Hold) -> Answer {
    answer
        .warning(hold.notice())
        .annotated(Annotation::Policy, &hold.policy)
        .annotated(Annotation::Rule, "freezes")
        .annotated(Annotation::Decision, "held")
}

fn managed_fields(raw: &RawValue) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow, default)]
        metadata: Option<Metadata<'a>>,
    }
    #[derive(Deserialize)]
    struct Metadata<'a> {
        #[serde(borrow, default, rename = "managedFields")]
        managed_fields: Option<&'a RawValue>,
    }
    let object: Object<'_> = serde_json::from_str(raw.get()).ok()?;
    object.metadata?.managed_fields.filter(|fields| fields.get() != "null")
}

fn refused(field: String, message: String) -> ApiError {
    let why = format!("denied the request: {field}: {message}");
    ApiError::denied(why).caused_by(&[FieldProblem {
        field: field.into(),
        reason: "FieldValueForbidden",
        message,
    }])
}

#[cfg(test)]
mod tests {
    use super::super::request::testing;
    use super::*;

    #[test]
    fn an_object_becomes_what_it_was_in_all_its_fields() {
        let entry = |manager: &str| json!([{"manager": manager, "operation": "Apply"}]);
        let old = json!({
            "apiVersion": "g/v1", "kind": "Thing", "spec": {"path": "a", "suspend": true},
            "metadata": {"name": "a", "labels": {"x": "y"}, "managedFields": entry("gatehouse")},
            "status": {"ready": true},
        });
        let new = json!({
            "apiVersion": "g/v1", "kind": "Thing", "spec": {"path": "b"}, "data~a/b": 1,
            "metadata": {"name": "a", "ownerReferences": [], "managedFields": entry("kustomize-controller")},
        });
        let mut review = testing::review("g", "things", &new);
        review["request"]["operation"] = json!("UPDATE");
        review["request"]["oldObject"] = old.clone();
        let body = review.to_string();
        let request = Request::parse(body.as_bytes()).expect("a review");
        let patch: Patch = serde_json::from_slice(&as_it_was(&request).unwrap()).unwrap();
        let mut becomes = new;
        json_patch::patch(&mut becomes, &patch).unwrap();
        assert_eq!(becomes, old);
        assert!(bears_marks(&request));
        assert_eq!(patch.0.len(), 4, "what is the same is left alone: {patch}");
    }

    /// Whether an update from `old` to `new` keeps the entries by which Gatehouse recognizes its fields.
    fn leaves_entries(old: &Value, new: &Value) -> bool {
        let mut review = testing::review("kustomize.toolkit.fluxcd.io", "kustomizations", new);
        review["request"]["operation"] = json!("UPDATE");
        review["request"]["oldObject"] = old.clone();
        let body = review.to_string();
        let request = Request::parse(body.as_bytes()).expect("a review");
        let subject = |object: &Value| Subject::new(Kind::Kustomization, "n", "a", object.clone());
        let (object, before, accounts) = (subject(new), subject(old), Accounts::default());
        let case = Case {
            operation: Operation::Update,
            subresource: None,
            object: Some(&object),
            old: Some(&before),
            scaling: None,
            user: None,
            field_manager: None,
            now: jiff::Timestamp::UNIX_EPOCH,
            accounts: &accounts,
        };
        check_entries(&request, &case).is_ok()
    }

    #[test]
    fn what_stands_as_gatehouse_wrote_it_keeps_its_entry() {
        let held =
            Applied { suspension: true, annotations: vec![annotation::FROZEN_BY, annotation::SUSPENDED_BY] };
        let recorded = Applied { suspension: false, annotations: vec![annotation::SUSPEND_REASON] };
        let object = |suspend: Value, annotations: Value, applied: &[&Applied]| {
            let entry = |one: &&Applied| one.entry(Kind::Kustomization, "x/v1", jiff::Timestamp::UNIX_EPOCH);
            let entries: Vec<Value> = applied.iter().map(entry).collect();
            json!({"metadata": {"name": "a", "annotations": annotations, "managedFields": entries},
                   "spec": {"suspend": suspend}})
        };
        let marks = json!({annotation::FROZEN_BY: "p/f", annotation::SUSPENDED_BY: "gatehouse"});
        let frozen = object(json!(true), marks.clone(), &[&held]);
        assert!(leaves_entries(&frozen, &frozen));
        assert!(!leaves_entries(&frozen, &object(json!(true), marks.clone(), &[])));
        let part = Applied { suspension: true, annotations: Vec::new() };
        assert!(
            !leaves_entries(&frozen, &object(json!(true), marks.clone(), &[&part])),
            "the marks' is gone"
        );
        let part = Applied { suspension: false, ..held.clone() };
        assert!(!leaves_entries(&frozen, &object(json!(true), marks, &[&part])), "the suspension's is gone");
        assert!(leaves_entries(&frozen, &object(json!(false), json!({}), &[])), "it is resumed");
        let because = |reason: &str| json!({annotation::SUSPEND_REASON: reason});
        let suspended = object(json!(true), because("x"), &[&recorded]);
        assert!(!leaves_entries(&suspended, &object(json!(true), because("x"), &[])));
        assert!(leaves_entries(&suspended, &object(json!(true), because("y"), &[])), "somebody took it over");
    }
}
