//! What a request asks of the quotas over its namespace.

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

use crate::world::{Live, LiveError, Snapshot};

/// A request, as far as quotas are concerned.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who does it.
    pub requester: Requester,
    /// What is done. A deletion is asked about only where what the object owns stays: nothing is ever in the way of its
    /// going.
    pub operation: Operation,
    /// The resource.
    pub resource: &'a GroupResource,
    /// The version that it is sent at.
    pub version: &'a str,
    /// `scale`, or empty; nothing else takes up anything.
    pub subresource: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The object, or the Scale, as it is to be.
    pub object: Option<&'a Value>,
    /// As it is.
    pub old: Option<&'a Value>,
    /// Who asks.
    pub user: &'a str,
    /// Nothing will be written.
    pub dry_run: bool,
    /// When the answer must be there.
    pub until: Instant,
}

/// Who makes a request, as far as quotas are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requester {
    /// Agones. What it creates for a Fleet or a set is charged there. It is denied only while more would exist than the
    /// limit allows and than Fleets and sets ask for, since Agones tries again.
    Agones,
    /// The garbage collector. It decides on nothing, and what it lets go of goes on being counted.
    Collector,
    /// Anybody else. The owner that an object of theirs names excuses from nothing.
    Other,
}

/// What a request asks for; by default nothing that any quota limits.
#[derive(Debug, Default)]
pub(super) struct Question {
    /// The object's name, also where the API server has made it up.
    pub(super) name: String,
    /// What it takes up, and is to take up.
    pub(super) charge: Option<Proposal>,
    /// How far an autoscaler may let its fleet grow, if that is further than before.
    pub(super) ceiling: Option<CeilingRequest>,
    /// What it does not state and has to, where a quota limits that: containers, or fields.
    pub(super) unstated: BTreeMap<Dimension, Vec<String>>,
    /// What a game server takes up that Agones makes for a set.
    pub(super) replacement: Option<Amounts>,
    /// What it makes less of in a game server than its pod takes up.
    pub(super) shrunk: BTreeSet<Dimension>,
}

impl Question {
    /// What has to be stated under a quota and is not.
    pub(super) fn unstated_under(&self, quota: &CompiledQuota) -> Option<String> {
        let unstated = self.unstated.iter().filter(|(dimension, _)| quota.hard.contains_key(dimension));
        let list: Vec<_> =
            unstated.map(|(dimension, who)| format!("{dimension} for: {}", who.join(","))).collect();
        (!list.is_empty()).then(|| list.join("; "))
    }

    /// Why a game server may not be written smaller under a quota that denies: its pod keeps what it was made with.
    pub(super) fn shrunk_under(&self, quota: &CompiledQuota) -> Option<String> {
        let is_denied = quota.enforcement == Enforcement::Deny;
        let shrunk = self.shrunk.iter().find(|dimension| is_denied && quota.hard.contains_key(dimension))?;
        Some(format!(
            "spec: Forbidden: a game server keeps the {shrunk} that it was made with: delete it instead"
        ))
    }
}

/// How far a fleet might grow.
#[derive(Debug)]
pub(super) struct CeilingRequest {
    /// What it would take up then.
    pub(super) ceiling: Amounts,
    /// What it takes up.
    pub(super) instead_of: Amounts,
}

/// Why it cannot be told what a request asks for.
#[derive(Debug)]
pub(super) enum AskError {
    /// The object makes no sense.
    Invalid(String),
    /// Something is not known now.
    Unknown(String),
}

impl From<UsageError> for AskError {
    fn from(error: UsageError) -> Self {
        match error {
            UsageError::Field(_) => Self::Invalid(error.to_string()),
            UsageError::UnknownTemplate { .. } => Self::Unknown(error.to_string()),
        }
    }
}

/// Of an object's `metadata`.
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

    /// Of an object as it is, the revision that it was written at.
    fn revision(&self) -> Result<u64, AskError> {
        let wrong = |_| AskError::Invalid("oldObject.metadata.resourceVersion: must be a number".to_owned());
        self.resource_version.parse().map_err(wrong)
    }
}

/// Whether a quota limits anything that objects of the resource take up.
pub(super) fn concerns(quota: &CompiledQuota, resource: &GroupResource) -> bool {
    quota.hard.keys().any(|dimension| match dimension {
        Dimension::Count(counted) => counted == resource,
        _ => is_charged(resource) || is_autoscaler(resource),
    })
}

fn is_autoscaler(resource: &GroupResource) -> bool {
    (&*resource.group, &*resource.resource) == ("autoscaling.agones.dev", "fleetautoscalers")
}

fn is_game_server(resource: &GroupResource) -> bool {
    (&*resource.group, &*resource.resource) == ("agones.dev", "gameservers")
}

/// The finalizers by which Agones keeps a GameServer until its pod has ended; the first, before Agones 1.41.
const KEEPERS: [&str; 2] = ["agones.dev", "agones.dev/controller"];

/// What says that a GameServer has no pod: Agones waits for none then.
const DEV_ADDRESS: &str = "agones.dev/dev-address";

/// The field by which an update would have a GameServer gone before its pod, and why that is so.
pub(crate) fn released(resource: &GroupResource, object: &Value, old: &Value) -> Option<(String, String)> {
    if !is_game_server(resource) {
        return None;
    }
    let has = |object: &Value, keeper: &str| {
        let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
        finalizers.into_iter().flatten().any(|finalizer| finalizer == keeper)
    };
    if let Some(keeper) = KEEPERS.into_iter().find(|keeper| has(old, keeper) && !has(object, keeper)) {
        let why = format!("{keeper} keeps the game server until its pod has ended");
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
pub(super) async fn question(facts: &Facts<'_>, world: &Snapshot, live: &Live) -> Result<Question, AskError> {
    if let (Operation::Delete, Some(old)) = (facts.operation, facts.old) {
        return let_go(facts, old, world);
    }
    let Some(object) = facts.object else {
        return Err(AskError::Invalid("object: must be given".to_owned()));
    };
    match (facts.operation, facts.subresource, facts.old) {
        (Operation::Create, "", _) => ask_with_template(facts, object, None, world, live).await,
        (Operation::Update, "", Some(old)) => ask_with_template(facts, object, Some(old), world, live).await,
        (Operation::Update, "scale", Some(old)) => scale(facts, object, old, world, live).await,
        (Operation::Update, "" | "scale", None) => {
            Err(AskError::Invalid("oldObject: must be given".to_owned()))
        }
        _ => Ok(Question::default()),
    }
}

/// The name of the object that a creation cannot make, because there is one: it would be charged, and for a minute nobody
/// could tell that nothing comes of it. It is looked for only where the world knows of one, and read with a quorum then: it
/// exists while the request is under way.
pub(super) async fn taken<'a>(
    facts: &Facts<'_>,
    question: &'a Question,
    world: &Snapshot,
    live: &Live,
) -> Option<&'a str> {
    let name = &*question.name;
    if facts.operation != Operation::Create || world.object(facts.resource, facts.namespace, name).is_none() {
        return None;
    }
    let found = live.object_at(facts.resource, facts.version, facts.namespace, name).await;
    matches!(found, Ok(Some(_))).then_some(name)
}

/// What a request asks for. A template that was made just before may not have been seen yet: it is looked up.
async fn ask_with_template(
    facts: &Facts<'_>,
    object: &Value,
    old: Option<&Value>,
    world: &Snapshot,
    live: &Live,
) -> Result<Question, AskError> {
    let error = match ask(facts, object, old, world, world) {
        Err(Unclear::Usage(error)) => error,
        other => return other.map_err(AskError::from),
    };
    let UsageError::UnknownTemplate { namespace, name, .. } = &error else {
        return Err(AskError::Invalid(error.to_string()));
    };
    let templates = GroupResource::new("pteronimbus.io", "gametemplates");
    match live.object(world, &templates, namespace, name).await {
        Ok(Some(template)) => {
            let found = Found { world, namespace, name, template };
            ask(facts, object, old, world, &found).map_err(AskError::from)
        }
        Ok(None) => Err(AskError::Invalid(error.to_string())),
        Err(_) => Err(AskError::Unknown(error.to_string())),
    }
}

/// The world, and a template that it has not seen.
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
}

/// Like a [`AskError`], with what there is to find out yet.
enum Unclear {
    Usage(UsageError),
    AskError(AskError),
}

impl From<UsageError> for Unclear {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}

impl From<AskError> for Unclear {
    fn from(puzzle: AskError) -> Self {
        Self::AskError(puzzle)
    }
}

impl From<Unclear> for AskError {
    fn from(unclear: Unclear) -> Self {
        match unclear {
            Unclear::Usage(error) => error.into(),
            Unclear::AskError(puzzle) => puzzle,
        }
    }
}

fn ask(
    facts: &Facts<'_>,
    object: &Value,
    old: Option<&Value>,
    world: &Snapshot,
    templates: &dyn Templates,
) -> Result<Question, Unclear> {
    let identity = Identity::of(object);
    let name = identity.name.to_owned();
    if facts.requester == Requester::Collector && old.is_some_and(|old| old.get("spec") == object.get("spec"))
    {
        return Ok(Question { name, ..Question::default() });
    }
    let new = usage(facts.resource, object, templates)?;
    // One that makes no sense as it is was counted, and no more; it may be made to make sense.
    let counted = |_| Usage::counted(facts.resource);
    let before = old.map(|old| usage(facts.resource, old, templates).unwrap_or_else(counted));
    let shrunk = before.as_ref().map(|before| shrunk(facts, &new, before)).unwrap_or_default();
    let is_replacement = facts.operation == Operation::Create
        && facts.requester == Requester::Agones
        && is_game_server(facts.resource)
        && new.owner.is_some();
    let replacement = is_replacement.then(|| new.beside_count());
    let ceiling = match &new.ceiling {
        Some(ceiling) => {
            height(facts, ceiling, before.as_ref().and_then(|before| before.ceiling.as_ref()), world)?
        }
        None => None,
    };
    let at = old.map(|old| Identity::of(old).revision()).transpose()?;
    let unstated = unstated(facts, &new, before.as_ref());
    let charge = charge(facts, &identity, at, (new, before))?;
    Ok(Question { name, charge: Some(charge), ceiling, unstated, replacement, shrunk })
}

/// What an object does not state: all of it at its creation, and whatever it stated before or there comes to be more of.
/// What is there without is left alone otherwise, so that it can become smaller and be written to.
fn unstated(facts: &Facts<'_>, new: &Usage, before: Option<&Usage>) -> BTreeMap<Dimension, Vec<String>> {
    if facts.requester == Requester::Agones && new.owner.is_some() {
        return BTreeMap::new();
    }
    let servers = |usage: &Usage| usage.amounts.get(&Dimension::GameServers);
    let is_new = |dimension: &Dimension| {
        before.is_none_or(|before| !before.unstated.contains_key(dimension) || servers(new) > servers(before))
    };
    let unstated = new.unstated.iter().filter(|(dimension, _)| is_new(dimension));
    unstated.map(|(dimension, who)| (dimension.clone(), who.clone())).collect()
}

/// What an update makes less of in a server of Agones. Fleets and sets make new servers of what they say.
fn shrunk(facts: &Facts<'_>, new: &Usage, before: &Usage) -> BTreeSet<Dimension> {
    if !is_game_server(facts.resource) || facts.requester != Requester::Other {
        return BTreeSet::new();
    }
    let shrunk = before.amounts.iter().filter(|(dimension, had)| new.amounts.get(dimension) < **had);
    shrunk.map(|(dimension, _)| dimension.clone()).collect()
}

/// A set is deleted and lets its servers go: they stay, and its Fleet has another set made.
fn let_go(facts: &Facts<'_>, old: &Value, world: &Snapshot) -> Result<Question, AskError> {
    let identity = Identity::of(old);
    let name = identity.name.to_owned();
    if owner(facts.resource, old).is_none_or(|owner| owner.uid.is_none()) {
        return Ok(Question { name, ..Question::default() });
    }
    let takes_up = usage(facts.resource, old, world).unwrap_or_else(|_| Usage::counted(facts.resource));
    let counted = Usage { owner: takes_up.owner.clone(), ..Usage::counted(facts.resource) };
    let at = Some(identity.revision()?);
    let charge = charge(facts, &identity, at, (Usage { owner: None, ..takes_up }, Some(counted)))?;
    Ok(Question { name, charge: Some(charge), ..Question::default() })
}

fn height(
    facts: &Facts<'_>,
    ceiling: &Ceiling,
    before: Option<&Ceiling>,
    world: &Snapshot,
) -> Result<Option<CeilingRequest>, AskError> {
    let fleets = GroupResource::new("agones.dev", "fleets");
    let fleet = world.object(&fleets, facts.namespace, &ceiling.fleet);
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

/// A request for the number of replicas alone. The object is a Scale, with uid and resourceVersion of what is scaled; all
/// else of that is looked up.
async fn scale(
    facts: &Facts<'_>,
    object: &Value,
    old: &Value,
    world: &Snapshot,
    live: &Live,
) -> Result<Question, AskError> {
    let (new_replicas, old_replicas) = (scale_replicas(object)?, scale_replicas(old)?);
    let identity = Identity::of(old);
    let at = Some(identity.revision()?);
    let Facts { resource, namespace, .. } = facts;
    let held = world.object(resource, namespace, identity.name);
    // As it was then, or since: upon a revision that is history nothing is written anyway.
    let held = held.filter(|held| *held.uid == *identity.uid && Some(held.resource_version) >= at);
    let parent = match held.and_then(|held| held.value()) {
        Some(parent) => parent,
        None => match live.object_at(resource, facts.version, namespace, identity.name).await {
            Ok(Some(parent)) if Identity::of(&parent).uid == identity.uid => parent,
            // It is gone, and nothing of it can be scaled.
            Ok(_) => return Ok(Question::default()),
            Err(error) => return Err(unknown(facts, identity.name, &error)),
        },
    };
    let new = scaled(resource, &parent, new_replicas, world)?;
    // What makes no sense as it is was merely counted.
    let before = scaled(resource, &parent, old_replicas, world).unwrap_or_else(|_| Usage::counted(resource));
    let before = Some(before);
    let unstated = unstated(facts, &new, before.as_ref());
    let charge = charge(facts, &identity, at, (new, before))?;
    Ok(Question { name: identity.name.to_owned(), charge: Some(charge), unstated, ..Question::default() })
}

fn unknown(facts: &Facts<'_>, name: &str, error: &LiveError) -> AskError {
    let Facts { resource, namespace, .. } = facts;
    tracing::warn!(%resource, namespace, name, error = %explain(error), "cannot read what the decision needs");
    AskError::Unknown(format!("{resource} {name:?} was not observed yet and cannot be read"))
}

/// What an object takes up beyond what it took up. `at`: of an update, the revision that it is made upon.
///
/// Whoever it is charged to, an object is charged by what it takes up alone; see [`gatehouse_quota::Families`] for why
/// that is enough. Two are not: what Agones makes of what is charged already, and what is no longer its owner's, which
/// makes another.
fn charge(
    facts: &Facts<'_>,
    identity: &Identity<'_>,
    at: Option<u64>,
    (new, before): (Usage, Option<Usage>),
) -> Result<Proposal, AskError> {
    if identity.uid.is_empty() {
        return Err(AskError::Invalid("metadata.uid: must be given".to_owned()));
    }
    let bare = || Usage::counted(facts.resource).amounts;
    let forced = facts.requester == Requester::Agones && new.owner.is_some();
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
        resource: facts.resource.clone(),
        namespace: Arc::from(facts.namespace),
        name: Arc::from(identity.name),
        user: Arc::from(facts.user),
        at,
        old,
        new: if forced { bare() } else { new.amounts },
        forced,
    })
}
