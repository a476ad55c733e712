//! Suspends and resumes objects, in the replica that leads: what freezes hold back, and what was suspended too long.
//!
//! One task does both, so that they never work against each other: an object that a freeze holds is the freeze's. What
//! is to be done is decided from what is observed, and written to that very version of an object; who acts on an old
//! view is refused, and looks again.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use gatehouse_apiservice::client::explain;
use gatehouse_inventory::Str;
use gatehouse_keeper::FIELD_MANAGER;
use gatehouse_policy::GOVERNED;
use gatehouse_quota::GroupResource;
use jiff::Timestamp;
use kube::{
    Client,
    api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    freeze::{self, Hold},
    object::{Change, Object},
    suspension::{self, Limit},
};
use crate::{
    events::{Level, Told},
    world::{Held, Snapshot, resource_of},
};

/// Changes that come together are looked at together.
const GATHER: Duration = Duration::from_millis(200);
/// No sleep is longer, so that a wall clock that is set right takes effect.
const LOOK: Duration = Duration::from_mins(1);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(5);
/// One write.
const PATIENCE: Duration = Duration::from_secs(10);
/// Writes under way at once: a freeze of a thousand objects begins within seconds, and leaves the API server time for
/// others.
const AT_ONCE: usize = 16;

/// The time of day. Tests have their own.
type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Suspends and resumes, while it leads.
pub(super) struct Keeper {
    context: Context,
    clock: Clock,
    /// Objects as they were read last, by uid: most do not change between two looks.
    known: HashMap<Str, (u64, Object)>,
    /// Versions that were written, by uid. What is observed may be older.
    written: HashMap<Str, u64>,
    /// Objects of which it was told already that they are suspended too long.
    overdue: HashSet<Str>,
}

/// What holds in a namespace.
#[derive(Default)]
struct Over {
    holds: Vec<Hold>,
    limit: Limit,
}

/// Something to do, and to which object.
struct Task {
    resource: GroupResource,
    version: String,
    uid: Str,
    object: Object,
    change: Change,
}

impl Keeper {
    pub(super) fn new(context: Context) -> Self {
        Self::by_clock(context, Arc::new(Timestamp::now))
    }

    fn by_clock(context: Context, clock: Clock) -> Self {
        Self { context, clock, known: HashMap::new(), written: HashMap::new(), overdue: HashSet::new() }
    }

    /// Keeps whenever it leads, until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep_for_ever()).await;
    }

    async fn keep_for_ever(&mut self) {
        let mut leading = self.context.leadership.receiver();
        let mut changed = self.context.world.changed();
        loop {
            if !*leading.borrow_and_update() {
                self.rest();
                if leading.wait_for(|leads| *leads).await.is_err() {
                    return;
                }
            }
            changed.borrow_and_update();
            let snapshot = self.context.world.snapshot();
            let wait = if is_known(&snapshot) { self.pass(&snapshot).await } else { LOOK };
            tokio::select! {
                () = sleep(wait) => {}
                changed = changed.changed() => match changed {
                    Ok(()) => sleep(GATHER).await,
                    Err(_) => return,
                },
                changed = leading.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Does what is to be done. Returns how long there is nothing more to do unless something changes.
    async fn pass(&mut self, snapshot: &Snapshot) -> Duration {
        let now = (self.clock)();
        let (tasks, next) = self.decide(snapshot, now);
        let results: Vec<_> = stream::iter(tasks)
            .map(|task| {
                let context = self.context.clone();
                async move { (work(&context, &task).await, task.uid) }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut wait = next.map_or(LOOK, |next| until(next, now)).min(LOOK);
        for (result, uid) in results {
            match result {
                Ok(version) => drop(self.written.insert(uid, version)),
                Err(Failed) => wait = wait.min(RETRY),
            }
        }
        wait
    }

    /// What is to be done, and when the next thing is.
    fn decide(&mut self, snapshot: &Snapshot, now: Timestamp) -> (Vec<Task>, Option<Timestamp>) {
        let Self { context, known, written, overdue, .. } = self;
        let mut before = std::mem::take(known);
        let mut over: HashMap<&str, Option<Over>> = HashMap::new();
        let mut tasks = Vec::new();
        let mut next = snapshot.policies.iter().filter_map(|policy| policy.next_change(now)).min();
        for held in suspendable(snapshot) {
            let Some(object) = read(held, before.remove(&held.uid)) else { continue };
            let (_, object) = known.entry(Str::clone(&held.uid)).insert_entry(object).into_mut();
            let namespace = &*held.key.namespace;
            let over = over.entry(namespace).or_insert_with(|| over_namespace(snapshot, namespace, now));
            // Of what is in a namespace that is not known, nothing can be said.
            let Some(over) = over else { continue };
            let (change, due) = match freeze::decide(object, &over.holds) {
                None if over.holds.is_empty() => suspension::decide(object, &over.limit, now),
                change => (change, None),
            };
            next = next.into_iter().chain(due).min();
            // What was written is perhaps not observed yet.
            let is_old = written.get(&held.uid).is_some_and(|version| held.resource_version < *version);
            let Some(change) = change.filter(|_| !is_old) else { continue };
            if change.writes() {
                let (uid, object) = (Str::clone(&held.uid), object.clone());
                tasks.extend(Task::new(snapshot, uid, object, change));
            } else if overdue.insert(Str::clone(&held.uid)) {
                tell(context, object, &change, Level::Warning);
            }
        }
        written.retain(|uid, version| known.get(uid).is_some_and(|(known, _)| known < version));
        overdue.retain(|uid| known.get(uid).is_some_and(|(_, object)| object.is_suspended));
        (tasks, next)
    }

    /// Leads no more: what is known is for the next leader to find out.
    fn rest(&mut self) {
        self.known.clear();
        self.written.clear();
        self.overdue.clear();
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

impl Task {
    /// None, if the object's kind is not served any more.
    fn new(snapshot: &Snapshot, uid: Str, object: Object, change: Change) -> Option<Self> {
        let resource = resource_of(object.kind).clone();
        let version = snapshot.kinds.get(&resource)?.version()?.to_owned();
        Some(Self { resource, version, uid, object, change })
    }
}

/// Every object of Flux's kinds.
fn suspendable(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Held>> {
    let kinds = GOVERNED.iter().copied().filter(|kind| kind.is_flux());
    kinds.filter_map(|kind| snapshot.objects(resource_of(kind))).flat_map(|objects| objects.values())
}

/// The object as it is held now, if it was not read before.
fn read(held: &Held, before: Option<(u64, Object)>) -> Option<(u64, Object)> {
    match before {
        Some(before) if before.0 == held.resource_version => Some(before),
        _ => Some((held.resource_version, Object::of(held)?)),
    }
}

/// Whether policies and namespaces were listed. Before, every freeze would seem to be over.
fn is_known(snapshot: &Snapshot) -> bool {
    let policies = GroupResource::new(gatehouse_apiservice::policy::GROUP, "reconcilepolicies");
    let namespaces = GroupResource::new("", "namespaces");
    [policies, namespaces].iter().all(|resource| {
        snapshot
            .kinds
            .get(resource)
            .is_some_and(|state| state.obstacle().is_none() && state.version().is_some())
    })
}

/// What holds in a namespace; none, if it is not known.
fn over_namespace(snapshot: &Snapshot, namespace: &str, now: Timestamp) -> Option<Over> {
    let info = snapshot.namespaces.get(namespace)?;
    let mut over = Over::default();
    for policy in snapshot.policies.iter().filter(|policy| policy.selects(&info.labels)) {
        over.holds.extend(Hold::of(policy, now));
        over.limit.add(policy);
    }
    Some(over)
}

/// Something was not done, and why was logged.
struct Failed;

/// Writes, and tells of it. Returns the version that was written.
async fn work(context: &Context, task: &Task) -> Result<u64, Failed> {
    // A leader that is none any more leaves it to the next.
    if !context.leadership.is_leading() {
        return Err(Failed);
    }
    let Task { resource, version, object, change, .. } = task;
    let name = object.regarding().name.as_str();
    let api = api(context.client.clone(), resource, version, object);
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(change.patch(object));
    let written = match timeout(PATIENCE, api.patch(name, &parameters, &patch)).await {
        Ok(Ok(written)) => written,
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
            tracing::debug!(%resource, namespace = object.regarding().namespace, name, reason = %status.message, "has changed meanwhile");
            return Err(Failed);
        }
        Ok(Err(error)) => {
            tracing::warn!(%resource, namespace = object.regarding().namespace, name, error = %explain(&error), "cannot be suspended or resumed");
            return Err(Failed);
        }
        Err(_) => {
            tracing::warn!(%resource, namespace = object.regarding().namespace, name, "cannot be suspended or resumed in time");
            return Err(Failed);
        }
    };
    tell(context, object, change, Level::Normal);
    let version = written.metadata.resource_version.and_then(|version| version.parse().ok());
    Ok(version.unwrap_or_default())
}

fn api(client: Client, resource: &GroupResource, version: &str, object: &Object) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(&resource.group, version, object.kind.name());
    let resource = ApiResource::from_gvk_with_plural(&kind, &resource.resource);
    Api::namespaced_with(client, &object.regarding().namespace, &resource)
}

fn tell(context: &Context, object: &Object, change: &Change, level: Level) {
    let Some((reason, note, cause)) = change.told.clone() else { return };
    let regarding = object.regarding().clone();
    context.events.tell(Told { regarding, level, reason, action: "Keeping", note, cause });
}

/// From `now` until just after `at`.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    left + Duration::from_millis(50)
}
