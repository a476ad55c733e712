//! Turns a case into a request: reads its objects, and rejects cases that could not fail.

use gatehouse_apiservice::UserInfo;
use gatehouse_policy::{Kind, Operation, Scaling};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    find::Suite,
    format::{Case, Object},
    world::World,
};
use crate::{
    build::{Built, Id},
    files::absolute,
    read,
    report::Problem,
};
use gatehouse_inventory::{
    manifest,
    yaml::{At, Node},
};

/// The user of a request, unless a case sets one.
const SOMEBODY: &str = "somebody";

/// The request.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) case: &'a Case,
    /// The ID of the object.
    pub(super) id: Id,
    pub(super) namespace: String,
    /// `None` if only quotas read the object.
    pub(super) kind: Option<Kind>,
    pub(super) operation: Operation,
    /// The new object.
    pub(super) object: Option<Value>,
    /// The existing object.
    pub(super) old: Option<Value>,
    pub(super) scaling: Option<Scaling>,
    pub(super) user: UserInfo,
    pub(super) now: Timestamp,
}

impl<'a> Request<'a> {
    pub(super) fn of(suite: &'a Suite, world: &World, index: usize, now: Timestamp) -> Result<Self, Problem> {
        let case = &suite.test.cases[index];
        let problem = |field: &str, message: &dyn std::fmt::Display| {
            suite.problem(format!("cases[{index}].{field}").trim_end_matches('.'), message)
        };
        let object = |field: &str, written: &Option<Object>| {
            let written = written.as_ref().map(|written| object(suite, written));
            written.transpose().map_err(|message| problem(field, &message))
        };
        let old = object("oldObject", &case.old_object)?;
        let mut object = object("object", &case.object)?;
        if let Some(patch) = &case.patch {
            let patched = object.get_or_insert_with(|| old.clone().unwrap_or_default());
            if patched.is_null() {
                return Err(problem("patch", &"neither object nor oldObject is there to be patched"));
            }
            json_patch::merge(patched, patch);
        }
        let operation = operation(case, object.is_some(), old.is_some())
            .map_err(|(field, message)| problem(field, &message))?;
        let scaling = match (case.scale, &old) {
            (Some(to), Some(old)) => {
                Some(Scaling { from: old["spec"]["replicas"].as_i64().unwrap_or(1), to })
            }
            _ => None,
        };
        if scaling.is_some() {
            object.clone_from(&old);
        }
        let subject = object.as_ref().or(old.as_ref()).cloned().unwrap_or_default();
        let field = if object.is_some() && case.object.is_some() { "object" } else { "oldObject" };
        let id = Id::of(&Node::of(&subject, At::default()))
            .ok_or_else(|| problem(field, &"must have apiVersion and kind"))?;
        if old.as_ref().and_then(|old| Id::of(&Node::of(old, At::default()))).is_some_and(|old| old != id) {
            return Err(problem("object", &"must have kind, namespace and name of the oldObject"));
        }
        let namespace = id.namespace.clone().ok_or_else(|| {
            problem(field, &"metadata.namespace: Required value: policies select namespaces")
        })?;
        let kind = Kind::of_kind(&id.group, &id.kind);
        if kind.is_none() && world.rulesets.quotas.is_empty() {
            let what = [&id.group, "/", &id.kind].concat();
            return Err(problem(field, &format!("no policy looks at {}", what.trim_start_matches('/'))));
        }
        world.selects(&namespace).map_err(|message| problem(field, &message))?;
        let user = match &case.user_info {
            Some(user) => user.clone(),
            None => UserInfo { name: SOMEBODY.to_owned(), ..UserInfo::default() }.authenticated(),
        };
        let given = case.now.or(suite.test.now);
        if given.is_none() && world.has_freezes() {
            return Err(problem("", &"now: Required value: a policy has freezes"));
        }
        let now = given.unwrap_or(now);
        Ok(Self { case, id, namespace, kind, operation, object, old, scaling, user, now })
    }
}

/// The operation of the request; the error names the invalid field and the reason.
fn operation(case: &Case, object: bool, old: bool) -> Result<Operation, (&'static str, String)> {
    let wrong = |field, message: &str| Err((field, message.to_owned()));
    if case.scale.is_some() {
        return match (object, old, case.operation) {
            (false, true, None | Some(Operation::Update)) => Ok(Operation::Update),
            (_, false, _) => wrong("scale", "needs oldObject, and scales that"),
            (true, ..) => wrong("scale", "scales oldObject: leave object and patch out"),
            _ => wrong("operation", "a scale is an UPDATE"),
        };
    }
    match (case.operation, object, old) {
        (None | Some(Operation::Create), true, false) => Ok(Operation::Create),
        (None | Some(Operation::Update), true, true) => Ok(Operation::Update),
        (Some(Operation::Delete), false, true) => Ok(Operation::Delete),
        (None, false, _) => wrong("object", "Required value: or operation DELETE with oldObject"),
        (Some(Operation::Create), ..) => wrong("operation", "CREATE needs object and no oldObject"),
        (Some(Operation::Update), ..) => wrong("operation", "UPDATE needs object, or patch, and oldObject"),
        (Some(Operation::Delete), ..) => wrong("operation", "DELETE needs oldObject and no object"),
    }
}

/// The object that a case names.
fn object(suite: &Suite, written: &Object) -> Result<Value, String> {
    match written {
        Object::Inline(value) if value.is_object() => Ok(value.clone()),
        Object::Inline(_) => Err("must be an object, or FILE, or FILE#KIND/NAME".to_owned()),
        Object::File(text) => {
            let (path, which) = text.split_once('#').map_or((text.as_str(), None), |(p, w)| (p, Some(w)));
            let full = absolute(&suite.folder.join(path));
            let bytes = std::fs::read(&full).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => format!("{path} does not exist"),
                _ => format!("{path} cannot be read: {error}"),
            })?;
            let text = read::text(&bytes).map_err(|why| format!("{path}: {why}"))?;
            let parsed = read::parse(text, 0, manifest::is_json(&full), true);
            if let Some(fault) = parsed.faults.first() {
                return Err(format!("{path}:{} does not parse: {}", fault.line, fault.message));
            }
            one(&parsed.objects, which).map_err(|why| format!("{path} {why}"))
        }
    }
}

/// The only object of a file, or the one that is named.
fn one(objects: &[Built], which: Option<&str>) -> Result<Value, String> {
    let is_meant = |object: &&Built| {
        let Some(which) = which else { return true };
        let Id { kind, namespace, name, .. } = &object.id;
        let fits = |text: &str, part: &str| text.eq_ignore_ascii_case(part);
        match which.split('/').collect::<Vec<_>>()[..] {
            [of_kind, of_name] => fits(kind, of_kind) && name == of_name,
            [of_kind, of_namespace, of_name] => {
                fits(kind, of_kind) && name == of_name && namespace.as_deref() == Some(of_namespace)
            }
            _ => false,
        }
    };
    let meant: Vec<&Built> = objects.iter().filter(is_meant).collect();
    let [object] = meant[..] else {
        let names = objects.iter().map(|object| {
            let Id { kind, namespace, name, .. } = &object.id;
            [Some(kind.as_str()), namespace.as_deref(), Some(name)]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("/")
        });
        let names = names.collect::<Vec<_>>().join(", ");
        return Err(match (meant.len(), which) {
            _ if objects.is_empty() => "holds no object".to_owned(),
            (0, Some(which)) => format!("holds no {which}: it holds {names}"),
            (count, Some(which)) => format!("holds {count} objects {which}: name one as KIND/NAMESPACE/NAME"),
            (count, None) => format!("holds {count} objects: name one as FILE#KIND/NAME ({names})"),
        });
    };
    Ok(object.node.as_deref().map(Node::to_value).unwrap_or_default())
}
