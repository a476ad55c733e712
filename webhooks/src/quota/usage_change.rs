//! Computes what a request asks of the quotas of its namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gatehouse_apiservice::{client::explain, policy::Enforcement};
use gatehouse_policy::Operation;
use gatehouse_quota::{
    Amounts, Ceiling, CompiledQuota, Dimension, GroupResource, Proposal, Templates, Usage, UsageError,
    is_charged, owner, scale_replicas, scaled, usage,
};
use serde_json::Value;
use tokio::time::Instant;

use super::pods;
use crate::world::{Live, LiveError, Snapshot};

/// The parts of a request that quotas look at.
#[derive(Debug, Clone, Copy)]
pub struct QuotaRequest<'a> {
    /// The kind of requester.
    pub requester: Requester,
    /// The operation. A deletion is reviewed only if the objects that the object owns stay: else deletions are always
    /// admitted.
    pub operation: Operation,
    /// The resource.
    pub resource: &'a GroupResource,
    /// The API version that it is sent at.
    pub version: &'a str,
    /// `scale`, `resize`, or empty; other subresources change no usage.
    pub subresource: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The new object, or the new Scale.
    pub object: Option<&'a Value>,
    /// The existing object or Scale.
    pub old: Option<&'a Value>,
    /// The requesting user.
    pub user: &'a str,
    /// Whether it is a dry run.
    pub dry_run: bool,
    /// The deadline of the answer.
    pub until: Instant,
}

/// The kind of requester, as far as quotas distinguish them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requester {
    /// Agones. What it creates for a Fleet or a set is charged to that owner. It is denied only while more would exist
    /// than the limit allows and than Fleets and sets ask for, because Agones retries.
    Agones,
    /// The garbage collector. It makes no decisions of its own, and objects that it orphans remain counted.
    Collector,
    /// Anybody else. An owner reference in their objects exempts them from nothing.
    Other,
}

/// What a request asks for; by default, nothing that a quota limits.
#[derive(Debug, Default)]
pub(super) struct UsageChange {
    /// The object's name, including one that the API server generated.
    pub(super) name: String,
    /// Its usage before and after the request.
    pub(super) charge: Option<Proposal>,
    /// How far an autoscaler may scale its fleet, if further than before.
    pub(super) ceiling: Option<CeilingRequest>,
    /// The containers or fields without a request that a quota with such a limit requires.
    pub(super) unstated: BTreeMap<Dimension, Vec<String>>,
    /// The usage of a game server that Agones creates for a set.
    pub(super) replacement: Option<Amounts>,
    /// The amounts that an update lowers in a game server below what its pod uses.
    pub(super) shrunk: BTreeSet<Dimension>,
}

impl UsageChange {
    /// The requests that a quota requires and that are missing, as text.
    pub(super) fn unstated_under(&self, quota: &CompiledQuota) -> Option<String> {
        let unstated = self.unstated.iter().filter(|(dimension, _)| quota.hard.contains_key(dimension));
        let list: Vec<_> =
            unstated.map(|(dimension, who)| format!("{dimension} for: {}", who.join(","))).collect();
        (!list.is_empty()).then(|| list.join("; "))
    }

    /// Why a quota that denies does not let a game server shrink: its pod keeps what it was created with.
    pub(super) fn shrunk_under(&self, quota: &CompiledQuota) -> Option<String> {
        let is_denied = quota.enforcement == Enforcement::Deny;
        let shrunk = self.shrunk.iter().find(|dimension| is_denied && quota.hard.contains_key(dimension))?;
        Some(format!(
            "spec: Forbidden: a game server keeps the {shrunk} that it was made with: delete it instead"
        ))
    }
}

/// How far a fleet may grow.
#[derive(Debug)]
pub(super) struct CeilingRequest {
    /// Its usage then.
    pub(super) ceiling: Amounts,
    /// Its usage now.
    pub(super) instead_of: Amounts,
}

/// Why it is unknown what a request asks for.
#[derive(Debug)]
pub(super) enum UsageChangeError {
    /// The object is invalid.
    Invalid(String),
    /// Something is unknown at present.
    Unknown(String),
}

impl From<UsageError> for UsageChangeError {
    fn from(error: UsageError) -> Self {
        match error {
            UsageError::Field(_) => Self::Invalid(error.to_string()),
            UsageError::UnknownTemplate { .. } => Self::Unknown(error.to_string()),
        }
    }
}

/// The identifying fields of an object's `metadata`.
struct Identity<'a> {
    uid: &'a str,
    name: &'a str,
    resource_version: &'a str,
}

impl<'a> Identity<'a> {
    fn of(object: &'a Value) -> Self {
        let text = |field: &str| object.get("metadata")?.get(field)?.as_str();
        Self {
            uid: text("uid").unwrap_or_default(),
            name: text("name").unwrap_or_default(),
            resource_version: text("resourceVersion").unwrap_or_default(),
        }
    }

    /// The revision of an existing object.
    fn revision(&self) -> Result<u64, UsageChangeError> {
        let wrong =
            |_| UsageChangeError::Invalid("oldObject.metadata.resourceVersion: must be a number".to_owned());
        self.resource_version.parse().map_err(wrong)
    }
}

/// Whether a quota limits anything that objects of the resource use.
pub(super) fn concerns(quota: &CompiledQuota, resource: &GroupResource) -> bool {
    quota.hard.keys().any(|dimension| match dimension.counted() {
        Some(counted) => counted == resource,
        None => is_charged(resource) || is_autoscaler(resource),
    })
}

fn is_autoscaler(resource: &GroupResource) -> bool {
    (&*resource.group, &*resource.resource) == ("autoscaling.agones.dev", "fleetautoscalers")
}

fn is_game_server(resource: &GroupResource) -> bool {
    (&*resource.group, &*resource.resource) == ("agones.dev", "gameservers")
}

/// The subresource by which the requests of a pod are changed in place. Its object is the pod.
const RESIZE: &str = "resize";

/// The finalizers by which Agones keeps a GameServer until its pod has ended; Agones before 1.41 uses the first.
const AGONES_FINALIZERS: [&str; 2] = ["agones.dev", "agones.dev/controller"];

/// The annotation of a GameServer without a pod: Agones then waits for none.
const DEV_ADDRESS: &str = "agones.dev/dev-address";

/// The field by which an update would remove a GameServer before its pod, or a pod from its set, and the reason.
pub(crate) fn released(resource: &GroupResource, object: &Value, old: &Value) -> Option<(String, String)> {
    if !is_game_server(resource) {
        return pods::released(resource, object, old);
    }
    let has = |object: &Value, wanted: &str| {
        let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
        finalizers.into_iter().flatten().any(|finalizer| finalizer == wanted)
    };
    if let Some(finalizer) = AGONES_FINALIZERS.into_iter().find(|one| has(old, one) && !has(object, one)) {
        let why = format!("{finalizer} keeps the game server until its pod has ended");
        return Some(("metadata.finalizers".to_owned(), why));
    }
    let is_dev = |object: &Value| {
        object.pointer("/metadata/annotations").and_then(|annotations| annotations.get(DEV_ADDRESS)).is_some()
    };
    (is_dev(object) && !is_dev(old)).then(|| {
        let why = "Agones would not wait for the game server's pod to end".to_owned();
        (format!("metadata.annotations[{DEV_ADDRESS}]"), why)
    })
}

/// What a request asks for.
pub(super) async fn of(
    request: &QuotaRequest<'_>,
    world: &Snapshot,
    live: &Live,
) -> Result<UsageChange, UsageChangeError> {
    if let (Operation::Delete, Some(old)) = (request.operation, request.old) {
        return let_go(request, old, world);
    }
    let Some(object) = request.object else {
        return Err(UsageChangeError::Invalid("object: must be given".to_owned()));
    };
    match (request.operation, request.subresource, request.old) {
        (Operation::Create, "", _) => ask_with_template(request, object, None, world, live).await,
        (Operation::Update, "" | RESIZE, Some(old)) => {
            ask_with_template(request, object, Some(old), world, live).await
        }
        (Operation::Update, "scale", Some(old)) => scale(request, object, old, world, live).await,
        (Operation::Update, "" | "scale", None) => {
            Err(UsageChangeError::Invalid("oldObject: must be given".to_owned()))
        }
        _ => Ok(UsageChange::default()),
    }
}

/// The name of a creation's object, if it already exists: the creation will fail, but its charge would expire only
/// after a minute. The object is looked up only if the world knows one, and then read with a quorum, so that it exists
/// while the request is in progress.
pub(super) async fn taken<'a>(
    request: &QuotaRequest<'_>,
    usage_change: &'a UsageChange,
    world: &Snapshot,
    live: &Live,
) -> Option<&'a str> {
    let name = &*usage_change.name;
    if request.operation != Operation::Create
        || world.object(request.resource, request.namespace, name).is_none()
    {
        return None;
    }
    let found = live.object_at(request.resource, request.version, request.namespace, name).await;
    matches!(found, Ok(Some(_))).then_some(name)
}

/// What a request asks for. A template that was created just before may not be observed yet, so it is looked up.
async fn ask_with_template(
    request: &QuotaRequest<'_>,
    object: &Value,
    old: Option<&Value>,
    world: &Snapshot,
    live: &Live,
) -> Result<UsageChange, UsageChangeError> {
    let error = match ask(request, object, old, world, world) {
        Err(Unclear::Usage(error)) => error,
        other => return other.map_err(UsageChangeError::from),
    };
    let UsageError::UnknownTemplate { namespace, name, .. } = &error else {
        return Err(UsageChangeError::Invalid(error.to_string()));
    };
    let templates = GroupResource::new("pteronimbus.io", "gametemplates");
    match live.object(world, &templates, namespace, name).await {
        Ok(Some(template)) => {
            let found = Found { world, namespace, name, template };
            ask(request, object, old, world, &found).map_err(UsageChangeError::from)
        }
        Ok(None) => Err(UsageChangeError::Invalid(error.to_string())),
        Err(_) => Err(UsageChangeError::Unknown(error.to_string())),
    }
}

/// The world, and a template that it has not observed.
struct Found<'a> {
    world: &'a Snapshot,
    namespace: &'a str,
    name: &'a str,
    template: Value,
}

impl Templates for Found<'_> {
    fn game_template(&self, namespace: &str, name: &str) -> Option<Value> {
        if (self.namespace, self.name) == (namespace, name) {
            return Some(self.template.clone());
        }
        self.world.game_template(namespace, name)
    }

    fn runtime_class(&self, name: &str) -> Option<Value> {
        self.world.runtime_class(name)
    }
}

/// Like an [`UsageChangeError`], with what is yet to be looked up.
enum Unclear {
    Usage(UsageError),
    UsageChangeError(UsageChangeError),
}

impl From<UsageError> for Unclear {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}

impl From<UsageChangeError> for Unclear {
    fn from(error: UsageChangeError) -> Self {
        Self::UsageChangeError(error)
    }
}

impl From<Unclear> for UsageChangeError {
    fn from(unclear: Unclear) -> Self {
        match unclear {
            Unclear::Usage(error) => error.into(),
            Unclear::UsageChangeError(error) => error,
        }
    }
}

fn ask(
    request: &QuotaRequest<'_>,
    object: &Value,
    old: Option<&Value>,
    world: &Snapshot,
    templates: &dyn Templates,
) -> Result<UsageChange, Unclear> {
    let identity = Identity::of(object);
    let name = identity.name.to_owned();
    if request.requester == Requester::Collector
        && old.is_some_and(|old| old.get("spec") == object.get("spec"))
    {
        return Ok(UsageChange { name, ..UsageChange::default() });
    }
    let new = pods::added(request, usage(request.resource, object, templates)?, world, templates);
    // An invalid existing object was only counted as an object; an update may make it valid.
    let counted = |_| Usage::counted(request.resource);
    let before = old.map(|old| usage(request.resource, old, templates).unwrap_or_else(counted));
    let shrunk = before.as_ref().map(|before| shrunk(request, &new, before)).unwrap_or_default();
    let is_replacement = request.operation == Operation::Create
        && request.requester == Requester::Agones
        && is_game_server(request.resource)
        && new.owner.is_some();
    let replacement = is_replacement.then(|| new.beside_count());
    let ceiling = match &new.ceiling {
        Some(ceiling) => ceiling_request(
            request,
            ceiling,
            before.as_ref().and_then(|before| before.ceiling.as_ref()),
            world,
        )?,
        None => None,
    };
    let at = old.map(|old| Identity::of(old).revision()).transpose()?;
    let unstated = unstated(request, &new, before.as_ref());
    let charge = charge(request, &identity, at, (new, before))?;
    Ok(UsageChange { name, charge: Some(charge), ceiling, unstated, replacement, shrunk })
}

/// The missing requests of an object that are reported; none of what Agones creates for an owner, which was asked.
fn unstated(
    request: &QuotaRequest<'_>,
    new: &Usage,
    before: Option<&Usage>,
) -> BTreeMap<Dimension, Vec<String>> {
    if request.requester == Requester::Agones && new.owner.is_some() {
        return BTreeMap::new();
    }
    new.newly_unstated(before)
}

/// The amounts that an update lowers in a GameServer of Agones. Fleets and sets create new servers instead.
fn shrunk(request: &QuotaRequest<'_>, new: &Usage, before: &Usage) -> BTreeSet<Dimension> {
    if !is_game_server(request.resource) || request.requester != Requester::Other {
        return BTreeSet::new();
    }
    let shrunk = before.amounts.iter().filter(|(dimension, had)| new.amounts.get(dimension) < **had);
    shrunk.map(|(dimension, _)| dimension.clone()).collect()
}

/// What the orphaning deletion of a set asks for: its servers stay, and its Fleet gets another set.
fn let_go(
    request: &QuotaRequest<'_>,
    old: &Value,
    world: &Snapshot,
) -> Result<UsageChange, UsageChangeError> {
    let identity = Identity::of(old);
    let name = identity.name.to_owned();
    if owner(request.resource, old).is_none_or(|owner| owner.uid.is_none()) {
        return Ok(UsageChange { name, ..UsageChange::default() });
    }
    let takes_up = usage(request.resource, old, world).unwrap_or_else(|_| Usage::counted(request.resource));
    let counted = Usage { owner: takes_up.owner.clone(), ..Usage::counted(request.resource) };
    let at = Some(identity.revision()?);
    let charge = charge(request, &identity, at, (Usage { owner: None, ..takes_up }, Some(counted)))?;
    Ok(UsageChange { name, charge: Some(charge), ..UsageChange::default() })
}

fn ceiling_request(
    request: &QuotaRequest<'_>,
    ceiling: &Ceiling,
    before: Option<&Ceiling>,
    world: &Snapshot,
) -> Result<Option<CeilingRequest>, UsageChangeError> {
    let fleets = GroupResource::new("agones.dev", "fleets");
    let fleet = world.object(&fleets, request.namespace, &ceiling.fleet);
    let value = fleet.and_then(|fleet| fleet.value());
    let most = |ceiling: &Ceiling| ceiling.amounts(value.as_ref()).map(Option::unwrap_or_default);
    let height = most(ceiling)?;
    let before =
        before.filter(|before| before.fleet == ceiling.fleet).map(most).transpose()?.unwrap_or_default();
    if height.iter().all(|(dimension, quantity)| *quantity <= before.get(dimension)) {
        return Ok(None);
    }
    let instead_of = fleet.map(|fleet| fleet.usage.amounts.clone()).unwrap_or_default();
    Ok(Some(CeilingRequest { ceiling: height, instead_of }))
}

/// What a request for the `scale` subresource asks for. Its object is a Scale with the uid and resourceVersion of the
/// scaled object, which is looked up.
async fn scale(
    request: &QuotaRequest<'_>,
    object: &Value,
    old: &Value,
    world: &Snapshot,
    live: &Live,
) -> Result<UsageChange, UsageChangeError> {
    let (new_replicas, old_replicas) = (scale_replicas(object)?, scale_replicas(old)?);
    let identity = Identity::of(old);
    let at = Some(identity.revision()?);
    let QuotaRequest { resource, namespace, .. } = request;
    let held = world.object(resource, namespace, identity.name);
    // At that revision or a later one: a write at an old revision fails anyway.
    let held = held.filter(|held| *held.uid == *identity.uid && Some(held.resource_version) >= at);
    let parent = match held.and_then(|held| held.value()) {
        Some(parent) => parent,
        None => match live.object_at(resource, request.version, namespace, identity.name).await {
            Ok(Some(parent)) if Identity::of(&parent).uid == identity.uid => parent,
            // The object is gone, and cannot be scaled.
            Ok(_) => return Ok(UsageChange::default()),
            Err(error) => return Err(unknown(request, identity.name, &error)),
        },
    };
    let new = scaled(resource, &parent, new_replicas, world)?;
    // An invalid existing object was only counted as an object.
    let before = scaled(resource, &parent, old_replicas, world).unwrap_or_else(|_| Usage::counted(resource));
    let before = Some(before);
    let unstated = unstated(request, &new, before.as_ref());
    let charge = charge(request, &identity, at, (new, before))?;
    Ok(UsageChange {
        name: identity.name.to_owned(),
        charge: Some(charge),
        unstated,
        ..UsageChange::default()
    })
}

fn unknown(request: &QuotaRequest<'_>, name: &str, error: &LiveError) -> UsageChangeError {
    let QuotaRequest { resource, namespace, .. } = request;
    tracing::warn!(%resource, namespace, name, error = %explain(error), "cannot read an object that the usage depends on");
    UsageChangeError::Unknown(format!("{resource} {name:?} was not observed yet and cannot be read"))
}

/// What an object takes up beyond what it took up. `at`: of an update, the revision that it is made upon.
///
/// Whoever it is charged to, an object is charged by what it takes up alone; see [`gatehouse_quota::Families`] for why
/// that is enough. Two are not: what Agones makes of what is charged already, and what is no longer its owner's, which
/// makes another.
fn charge(
    request: &QuotaRequest<'_>,
    identity: &Identity<'_>,
    at: Option<u64>,
    (new, before): (Usage, Option<Usage>),
) -> Result<Proposal, UsageChangeError> {
    if identity.uid.is_empty() {
        return Err(UsageChangeError::Invalid("metadata.uid: must be given".to_owned()));
    }
    let bare = || Usage::counted(request.resource).amounts;
    let forced = request.requester == Requester::Agones && new.owner.is_some();
    let is_let_go = before
        .as_ref()
        .and_then(|before| before.owner.as_ref())
        .is_some_and(|owner| owner.uid.is_some() && new.owner.as_ref() != Some(owner));
    let old = match before {
        None => Amounts::default(),
        Some(_) if is_let_go || forced => bare(),
        Some(before) => before.amounts,
    };
    Ok(Proposal {
        uid: Arc::from(identity.uid),
        resource: request.resource.clone(),
        namespace: Arc::from(request.namespace),
        name: Arc::from(identity.name),
        user: Arc::from(request.user),
        at,
        old,
        new: if forced { bare() } else { new.amounts },
        forced,
    })
}
