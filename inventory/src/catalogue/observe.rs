//! Turns the JSON of an object into its record.
//!
//! **Invariant:** An object whose name can be read always gets a record; if it cannot be judged, the record is Unknown.

use gatehouse_apiservice::view::TENANT_LABEL;
use kube_cel::cel::Value;

use super::{
    Catalogue, Draft, Judge, Kind, KindId, Undecodable, argo,
    draft::clip,
    expression::Scope,
    game,
    link::Subject,
    matching, quota, resources,
    rule::{self, Rules},
    tree,
};
use crate::{
    Above, Application, Deadline, Detail, End, Interner, ObjectKey, Record, Seconds, State, Verdict, above,
    expression::describe,
    flux::{self, Named, Text},
    pod,
};

/// The namespace of a manifest that sets no `metadata.namespace`, as in kubectl.
const DEFAULT_NAMESPACE: &str = "default";

/// The reason for an object with fields of the wrong type.
const UNDECODABLE: &str = "Undecodable";

/// The reason for an object whose deletion does not finish.
const DELETION_STUCK: &str = "DeletionStuck";

/// The reason for an object that has had no status for too long.
const NOT_RECONCILED: &str = "NotReconciled";
const SILENCE: Seconds = 3600;

/// The reason for an object on which a rule could not be evaluated.
const RULE_ERROR: &str = "RuleError";

/// The namespace of an object: empty for a cluster-scoped kind, even if the manifest sets one.
pub(crate) fn namespace_of<'a>(kind: &Kind, namespace: Option<&'a Text<'_>>) -> &'a str {
    named_namespace(kind, namespace.map(Text::as_str))
}

fn named_namespace<'a>(kind: &Kind, namespace: Option<&'a str>) -> &'a str {
    if !kind.namespaced {
        return "";
    }
    namespace.filter(|namespace| !namespace.is_empty()).unwrap_or(DEFAULT_NAMESPACE)
}

impl Catalogue {
    /// Decodes and judges an object. `now` is for verdicts that depend on the time.
    ///
    /// An object whose fields have the wrong type also gets a record: Unknown, with the path of the field.
    pub fn observe(
        &self,
        id: KindId,
        json: &str,
        interner: &Interner,
        now: Seconds,
    ) -> Result<Record, Undecodable> {
        match &self.kind(id).judge {
            Judge::Flux => flux::observe(self, id, json, interner, now).or_else(|_| {
                let detail = Detail::Flux(Box::default());
                self.undecodable(id, json, flux::field_error(json), detail, interner)
            }),
            Judge::Pod => pod::observe(self, id, json, interner, now)
                .or_else(|_| self.undecodable(id, json, pod::field_error(json), Detail::None, interner)),
            Judge::Rules(rules) => self.observe_by_rules(id, rules, json, interner, now),
        }
    }

    /// The record of an object whose fields have the wrong type, if its name can be read.
    fn undecodable(
        &self,
        id: KindId,
        json: &str,
        error: String,
        detail: Detail,
        interner: &Interner,
    ) -> Result<Record, Undecodable> {
        let Ok(Named { metadata }) = serde_json::from_str::<Named<'_>>(json) else {
            return Err(Undecodable { message: error });
        };
        let kind = self.kind(id);
        let namespace = namespace_of(kind, metadata.namespace.as_ref());
        Ok(Record {
            key: interner.key(id, namespace, metadata.name.as_str()),
            created: 0,
            layer: kind.layer,
            verdict: Draft::unknown(UNDECODABLE, error).finish(interner),
            detail,
            above: None,
        })
    }

    fn observe_by_rules(
        &self,
        id: KindId,
        rules: &Rules,
        json: &str,
        interner: &Interner,
        now: Seconds,
    ) -> Result<Record, Undecodable> {
        let kind = self.kind(id);
        let undecodable = |message: String| Undecodable { message };
        let object = tree::parse(json).map_err(|error| undecodable(error.to_string()))?;
        let metadata = Fields::of(&object, "metadata").map_err(undecodable)?;
        let name = metadata.text("name").map_err(undecodable)?.unwrap_or_default();
        if name.is_empty() {
            return Err(undecodable("metadata.name: missing".into()));
        }
        let namespace = metadata.text("namespace").map_err(undecodable)?;
        let scope = Scope::new(&object, now, &self.functions, &rules.variables);

        let judged = Judged::of(self, kind, rules, &metadata, &scope, json, interner);
        let Judged { created, layer, draft, detail, above } = judged.unwrap_or_else(|draft| Judged {
            created: 0,
            layer: kind.layer,
            draft,
            detail: Detail::None,
            above: None,
        });
        let mut record = Record {
            key: interner.key(id, named_namespace(kind, namespace), name),
            created,
            layer,
            verdict: draft.finish(interner),
            detail,
            above,
        };
        record.let_pass(now);
        Ok(record)
    }
}

/// The findings about an object whose name is known.
struct Judged<'a> {
    created: Seconds,
    layer: Option<crate::Layer>,
    draft: Draft<'a>,
    detail: Detail,
    above: Option<Box<Above>>,
}

impl<'a> Judged<'a> {
    /// The error is the verdict on an object that does not match the schema of its kind.
    fn of(
        catalogue: &Catalogue,
        kind: &Kind,
        rules: &Rules,
        metadata: &Fields<'a>,
        scope: &Scope<'a>,
        json: &str,
        interner: &Interner,
    ) -> Result<Self, Draft<'a>> {
        let undecodable = |message| Draft::unknown(UNDECODABLE, message);
        let created = metadata.instant("creationTimestamp").map_err(undecodable)?;
        let deleted = metadata.instant("deletionTimestamp").map_err(undecodable)?;
        for part in ["spec", "status"] {
            Fields::of(scope.object, part).map_err(undecodable)?;
        }
        let detail = detail(catalogue, kind, scope, json, interner).map_err(undecodable)?;
        let rule_error = |error: rule::RuleError| {
            Draft::unknown(RULE_ERROR, format!("{}: {}", error.field, error.message))
        };
        let layer = rules.layer(scope).map(|layer| layer.or(kind.layer));
        let draft = match deleted {
            Some(deleted) => terminating(rules, scope, deleted, interner).unwrap_or_else(rule_error),
            None => match rules.judge(scope, interner) {
                Ok(draft) => silent(draft, created, scope.now, interner),
                Err(error) => rule_error(error),
            },
        };
        let (layer, draft) = match layer {
            Ok(layer) => (layer, draft),
            Err(error) => (kind.layer, rule_error(error)),
        };
        let created = created.unwrap_or_default();
        let namespace = metadata.text("namespace").map_err(undecodable)?;
        let subject = Subject { namespace: named_namespace(kind, namespace), created, layer };
        let links = || {
            let applied = resources::applied(kind, scope.object).map_err(undecodable)?;
            let links = rules.links(catalogue, scope, interner, &subject, &draft, applied);
            let links = links.map_err(|message| rule_error(rule::RuleError { field: "uses", message }))?;
            Ok(links.map(Box::new))
        };
        let detail = match detail {
            Detail::None => links()?.map_or(Detail::None, Detail::Linked),
            Detail::Application(application) => {
                Detail::Application(Box::new(Application { links: links()?, ..*application }))
            }
            detail => detail,
        };
        let may_fail = draft.state != State::Ready || draft.deadline.is_some() || detail.links().is_some();
        let above = if may_fail {
            let made_for = || match &rules.made_for {
                Some(rule) => rule.key(catalogue, scope, interner, subject.namespace),
                None => Ok(None),
            };
            above(catalogue, metadata, subject.namespace, interner, made_for).map_err(undecodable)?
        } else {
            None
        };
        Ok(Self { created, layer, draft, detail, above })
    }
}

/// What the object was made for, or else what owns it by its owner references, and what applies it by its labels.
fn above(
    catalogue: &Catalogue,
    metadata: &Fields<'_>,
    namespace: &str,
    interner: &Interner,
    made_for: impl FnOnce() -> Result<Option<ObjectKey>, String>,
) -> Result<Option<Box<Above>>, String> {
    let get = |name| metadata.value.and_then(|metadata| tree::field(metadata, name));
    let references = match get("ownerReferences") {
        None => &[][..],
        Some(Value::List(references)) => references.as_slice(),
        Some(other) => return Err(expected("metadata", "ownerReferences", "a list", other)),
    };
    let is_controller =
        |reference: &&Value| matches!(tree::field(reference, "controller"), Some(Value::Bool(true)));
    let owner = || {
        let reference = references.iter().find(is_controller)?;
        let field = |name| tree::field(reference, name).and_then(text);
        let named = [field("apiVersion")?, field("kind")?, field("name")?];
        above::owner(catalogue, interner, named, namespace)
    };
    let owner = made_for()?.or_else(owner);
    let labels = get("labels");
    let label = |prefix: &str, part: &str| text(tree::field(labels?, &format!("{prefix}/{part}"))?);
    let manager = above::manager(catalogue, interner, label);
    Ok(Above::of(owner, manager))
}

/// An object that is being deleted. A deletion takes seconds, or hours while players are connected, but not days.
fn terminating<'a>(
    rules: &Rules,
    scope: &Scope<'a>,
    deleted: Seconds,
    interner: &Interner,
) -> Result<Draft<'a>, rule::RuleError> {
    let metadata = tree::field(scope.object, "metadata");
    let finalizers = metadata.and_then(|metadata| tree::field(metadata, "finalizers"));
    let names: Vec<_> = match finalizers {
        Some(Value::List(names)) => names.iter().filter_map(text).collect(),
        _ => Vec::new(),
    };
    let mut words = "being deleted".to_owned();
    if !names.is_empty() {
        words = format!("{words}, waits for finalizers {}", names.join(", "));
    }
    let message = rules.deletion(scope)?;
    if !message.is_empty() {
        words = format!("{words}: {message}");
    }
    let deadline = Deadline {
        at: deleted.saturating_add(rules.deleting),
        since: deleted,
        observed: false,
        end: End::State(State::Failed),
        reason: interner.intern(DELETION_STUCK),
        message: interner.intern(clip(&words, Verdict::MESSAGE_BYTES / 2)),
        passed: false,
        next: None,
    };
    let deadline = Some(Box::new(deadline));
    Ok(Draft { message, since: Some(deleted), deadline, ..Draft::new(State::Terminating) })
}

/// An object without a status, which normally lasts seconds. Some kinds have their own deadline for it.
fn silent<'a>(draft: Draft<'a>, created: Option<Seconds>, now: Seconds, interner: &Interner) -> Draft<'a> {
    if draft.state != State::Pending || draft.deadline.is_some() {
        return draft;
    }
    let since = created.unwrap_or(now);
    let deadline = Deadline {
        at: since.saturating_add(SILENCE),
        since,
        observed: created.is_none(),
        end: End::State(State::Failed),
        reason: interner.intern(NOT_RECONCILED),
        message: interner.intern("no controller has reported on it"),
        passed: false,
        next: None,
    };
    Draft { deadline: Some(Box::new(deadline)), ..draft }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// The details of some kinds that views show beyond the verdict.
fn detail(
    catalogue: &Catalogue,
    kind: &Kind,
    scope: &Scope<'_>,
    json: &str,
    interner: &Interner,
) -> Result<Detail, String> {
    let object = scope.object;
    if let Some(of) = kind.game {
        let written = scope.last_written().unwrap_or(scope.now);
        return game::detail(catalogue, of, &kind.kind, object, written, interner);
    }
    if kind.is_application() {
        return Ok(Detail::Application(Box::new(argo::application(catalogue, object, interner)?)));
    }
    if kind.is_tenant_quota() {
        return Ok(Detail::TenantQuota(Box::new(quota::detail(json, interner)?)));
    }
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Namespace") => {
            let labels = tree::field(object, "metadata").and_then(|metadata| tree::field(metadata, "labels"));
            let tenant = match labels.and_then(|labels| tree::field(labels, TENANT_LABEL)) {
                None => None,
                Some(Value::String(tenant)) => Some(interner.intern(tenant)),
                Some(other) => return Err(expected("metadata.labels", TENANT_LABEL, "a string", other)),
            };
            Ok(Detail::Namespace { tenant })
        }
        ("", "Node") => {
            let info = tree::field(object, "status").and_then(|status| tree::field(status, "nodeInfo"));
            let kubelet_version = match info.and_then(|info| tree::field(info, "kubeletVersion")) {
                None => "",
                Some(Value::String(version)) => version,
                Some(other) => return Err(expected("status.nodeInfo", "kubeletVersion", "a string", other)),
            };
            Ok(Detail::Node { kubelet_version: interner.intern(kubelet_version) })
        }
        _ => Ok(Detail::None),
    }
}

/// A part of an object that is a map or absent.
struct Fields<'a> {
    part: &'static str,
    value: Option<&'a Value>,
}

impl<'a> Fields<'a> {
    fn of(object: &'a Value, part: &'static str) -> Result<Self, String> {
        match tree::field(object, part) {
            None => Ok(Self { part, value: None }),
            Some(value @ Value::Map(_)) => Ok(Self { part, value: Some(value) }),
            Some(other) => Err(format!("{part}: expected a map, got {}", describe(other))),
        }
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, String> {
        match self.value.and_then(|value| tree::field(value, name)) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(expected(self.part, name, "a string", other)),
        }
    }

    fn instant(&self, name: &str) -> Result<Option<Seconds>, String> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let wrong = || format!("{}.{name}: expected an RFC 3339 timestamp, got {text:?}", self.part);
        matching::seconds(text).map(Some).ok_or_else(wrong)
    }
}

fn expected(part: &str, name: &str, what: &str, got: &Value) -> String {
    format!("{part}.{name}: expected {what}, got {}", describe(got))
}
