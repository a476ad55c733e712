//! Suspends and resumes objects, in the replica that leads: what freezes hold back, and what was suspended too long.
//!
//! One task does both, so that they never work against each other: an object that a freeze holds is the freeze's. What
//! is to be done is decided from what is observed, and written to that very version of an object; who acts on an old
//! view is refused, and looks again.

#[cfg(test)]
mod tests;
mod touched;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use gatehouse_apiservice::client::explain;
use gatehouse_installation::FIELD_MANAGER;
use gatehouse_inventory::Str;
use gatehouse_quota::GroupResource;
use jiff::Timestamp;
use kube::{
    Client,
    api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::touched::{Place, Touched};
use super::{
    Context, freeze,
    leading::{LeaderTask, while_leading},
    object::{Change, Object, Write},
    suspension,
};
use crate::{
    events::{Level, Notice},
    world::{Snapshot, resource_of},
};

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
pub(super) struct Suspender {
    context: Context,
    clock: Clock,
    touched: Touched,
    /// Versions that were written. What is observed may be older.
    written: HashMap<Place, u64>,
    /// The uids of objects of which it was told already that they are suspended too long.
    overdue: HashMap<Place, Str>,
}

/// Something to do, and to which object.
struct Task {
    resource: GroupResource,
    version: String,
    place: Place,
    object: Object,
    change: Change,
}

impl Suspender {
    pub(super) fn new(context: Context) -> Self {
        Self::by_clock(context, Arc::new(Timestamp::now))
    }

    fn by_clock(context: Context, clock: Clock) -> Self {
        Self { context, clock, touched: Touched::default(), written: HashMap::new(), overdue: HashMap::new() }
    }

    /// Suspends and resumes whenever it leads, until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (world, leadership) = (self.context.world.clone(), self.context.leadership.clone());
        while_leading(&mut self, world, leadership, stop).await;
    }

    /// Does what is to be done. Returns how long there is nothing more to do unless something changes.
    async fn act(&mut self, snapshot: &Arc<Snapshot>) -> Duration {
        let now = (self.clock)();
        let tasks = self.decide(snapshot, now);
        let results: Vec<_> = stream::iter(tasks)
            .map(|task| {
                let context = self.context.clone();
                async move { (work(&context, &task).await, task.place) }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut wait = self.touched.next().map_or(LOOK, |next| until(next, now)).min(LOOK);
        for (result, place) in results {
            if let Ok(version) = result {
                self.written.insert(place, version);
            } else {
                self.touched.again(place);
                wait = wait.min(RETRY);
            }
        }
        wait
    }

    /// What is to be done.
    fn decide(&mut self, snapshot: &Arc<Snapshot>, now: Timestamp) -> Vec<Task> {
        let mut tasks = Vec::new();
        for place in self.touched.take(snapshot, now) {
            self.touched.look_at(&place, None);
            let objects = snapshot.objects(resource_of(place.0));
            let Some(held) = objects.and_then(|objects| objects.get(&place.1)) else {
                self.written.remove(&place);
                self.overdue.remove(&place);
                continue;
            };
            // What was written is perhaps not observed yet. When it is, the object is touched.
            match self.written.get(&place) {
                Some(version) if held.resource_version < *version => continue,
                Some(_) => drop(self.written.remove(&place)),
                None => {}
            }
            let Some(object) = Object::of(held) else { continue };
            if !object.is_suspended {
                self.overdue.remove(&place);
            }
            // Of what is in a namespace that is not known, nothing can be said.
            let Some(ruleset) = self.touched.ruleset(&place.1.namespace).filter(|_| !object.is_terminating)
            else {
                continue;
            };
            let (change, due) = match freeze::decide(&object, &ruleset.holds) {
                Some(change) => (change, None),
                None => suspension::decide(&object, &ruleset.limit, &ruleset.holds, now),
            };
            self.touched.look_at(&place, due);
            if change.write != Write::Nothing {
                match Task::new(snapshot, place.clone(), object, change) {
                    Some(task) => tasks.push(task),
                    None => self.touched.again(place),
                }
            } else if change.told.is_some()
                && self.overdue.insert(place, Str::clone(&held.uid)).as_ref() != Some(&held.uid)
            {
                tell(&self.context, &object, &change, Level::Warning);
            }
        }
        tasks
    }
}

impl LeaderTask for Suspender {
    const GATHER: Duration = Duration::from_millis(200);

    async fn pass(&mut self, snapshot: Arc<Snapshot>) -> Duration {
        if is_known(&snapshot) { self.act(&snapshot).await } else { LOOK }
    }

    fn rest(&mut self) {
        self.touched = Touched::default();
        self.written.clear();
        self.overdue.clear();
    }
}

impl Task {
    /// None, while the object's kind is not served.
    fn new(snapshot: &Snapshot, place: Place, object: Object, change: Change) -> Option<Self> {
        let resource = resource_of(object.kind).clone();
        let version = snapshot.kinds.get(&resource)?.version()?.to_owned();
        Some(Self { resource, version, place, object, change })
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
    let Some(patch) = change.write.patch(object) else { return Err(Failed) };
    let write = async {
        if let Write::Apply(_) = change.write {
            // By force: a freeze holds what somebody else declares too.
            let parameters = PatchParams::apply(FIELD_MANAGER).force();
            api.patch(name, &parameters, &Patch::Apply(&patch)).await
        } else {
            let manager = Some(FIELD_MANAGER.to_owned());
            let parameters = PatchParams { field_manager: manager, ..PatchParams::default() };
            api.patch(name, &parameters, &Patch::Merge(&patch)).await
        }
    };
    let written = match timeout(PATIENCE, write).await {
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
    context.events.tell(Notice { regarding, level, reason, action: "Keeping", note, cause });
}

/// From `now` until just after `at`.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    left + Duration::from_millis(50)
}
