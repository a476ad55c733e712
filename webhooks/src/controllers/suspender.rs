//! Suspends and resumes objects in the leader: for freezes, and at the maximum duration of suspensions.
//!
//! One task does both, so that they do not conflict: an object that a freeze holds belongs to the freeze. Decisions are
//! made from a snapshot, and written to exactly that version of the object. If the snapshot is outdated, the write
//! fails with 409, and the object is decided again.

#[cfg(test)]
mod tests;
mod visits;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use gatehouse_apiservice::client::explain;
use gatehouse_installation::FIELD_MANAGER;
use gatehouse_inventory::Str;
use gatehouse_quota::GroupResource;
use gatehouse_serving::events::{Level, Notice};
use jiff::Timestamp;
use kube::{
    Client,
    api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::visits::{Place, Visits};
use super::{
    Context, freeze,
    leading::{LeaderTask, while_leading},
    object::{Change, Object, Write},
    suspension,
};
use crate::world::{Snapshot, resource_of};

/// The longest wait between passes, so that a correction of the wall clock takes effect.
const LOOK: Duration = Duration::from_mins(1);
/// How long to wait after a failed write.
const RETRY: Duration = Duration::from_secs(5);
/// The time limit of a write.
const PATIENCE: Duration = Duration::from_secs(10);
/// The number of concurrent writes. A freeze of a thousand objects begins within seconds, and does not starve other
/// clients.
const AT_ONCE: usize = 16;

/// The wall clock; tests replace it.
type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Suspends and resumes objects while this replica leads.
pub(super) struct Suspender {
    context: Context,
    clock: Clock,
    visits: Visits,
    /// The resourceVersions that were written. Snapshots may be older.
    written: HashMap<Place, u64>,
    /// The uids of objects for which an Event about an overdue suspension was sent.
    overdue: HashMap<Place, Str>,
}

/// A change of an object.
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
        Self { context, clock, visits: Visits::default(), written: HashMap::new(), overdue: HashMap::new() }
    }

    /// Suspends and resumes while this replica leads, until `stop` is cancelled.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (world, leadership) = (self.context.world.clone(), self.context.leadership.clone());
        while_leading(&mut self, world, leadership, stop).await;
    }

    /// Makes all changes that are necessary. Returns after which time there is more to do if nothing changes.
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
        let mut wait = self.visits.next().map_or(LOOK, |next| until(next, now)).min(LOOK);
        for (result, place) in results {
            if let Ok(version) = result {
                self.written.insert(place, version);
            } else {
                self.visits.again(place);
                wait = wait.min(RETRY);
            }
        }
        wait
    }

    /// The changes that are necessary.
    fn decide(&mut self, snapshot: &Arc<Snapshot>, now: Timestamp) -> Vec<Task> {
        let mut tasks = Vec::new();
        for place in self.visits.take(snapshot, now) {
            self.visits.look_at(&place, None);
            let objects = snapshot.objects(resource_of(place.0));
            let Some(held) = objects.and_then(|objects| objects.get(&place.1)) else {
                self.written.remove(&place);
                self.overdue.remove(&place);
                continue;
            };
            // The snapshot may not contain the last write yet. Once it does, the object is visited again.
            match self.written.get(&place) {
                Some(version) if held.resource_version < *version => continue,
                Some(_) => drop(self.written.remove(&place)),
                None => {}
            }
            let Some(object) = Object::of(held) else { continue };
            if !object.is_suspended {
                self.overdue.remove(&place);
            }
            // If the namespace is unknown, nothing can be decided.
            let Some(ruleset) = self.visits.ruleset(&place.1.namespace).filter(|_| !object.is_terminating)
            else {
                continue;
            };
            let (change, due) = match freeze::decide(&object, &ruleset.holds) {
                Some(change) => (change, None),
                None => suspension::decide(&object, &ruleset.limit, &ruleset.holds, now),
            };
            self.visits.look_at(&place, due);
            if change.write != Write::Nothing {
                match Task::new(snapshot, place.clone(), object, change) {
                    Some(task) => tasks.push(task),
                    None => self.visits.again(place),
                }
            } else if change.notice.is_some()
                && self.overdue.insert(place, Str::clone(&held.uid)).as_ref() != Some(&held.uid)
            {
                record_event(&self.context, &object, &change, Level::Warning);
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
        self.visits = Visits::default();
        self.written.clear();
        self.overdue.clear();
    }
}

impl Task {
    /// `None` while the kind is not served.
    fn new(snapshot: &Snapshot, place: Place, object: Object, change: Change) -> Option<Self> {
        let resource = resource_of(object.kind).clone();
        let version = snapshot.kinds.get(&resource)?.version()?.to_owned();
        Some(Self { resource, version, place, object, change })
    }
}

/// Whether policies and namespaces have been listed. Before that, all freezes would seem to be over.
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

/// A change failed, and the error was logged.
struct Failed;

/// Writes a change and sends its Event. Returns the new resourceVersion.
async fn work(context: &Context, task: &Task) -> Result<u64, Failed> {
    // A replica that lost leadership leaves the change to the new leader.
    if !context.leadership.is_leading() {
        return Err(Failed);
    }
    let Task { resource, version, object, change, .. } = task;
    let name = object.regarding().name.as_str();
    let api = api(context.client.clone(), resource, version, object);
    let Some(patch) = change.write.patch(object) else { return Err(Failed) };
    let write = async {
        if let Write::Apply(_) = change.write {
            // With force, since a freeze also suspends objects whose field another manager owns.
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
            tracing::debug!(%resource, namespace = object.regarding().namespace, name, reason = %status.message, "object was changed by another client, trying again later");
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
    record_event(context, object, change, Level::Normal);
    let version = written.metadata.resource_version.and_then(|version| version.parse().ok());
    Ok(version.unwrap_or_default())
}

fn api(client: Client, resource: &GroupResource, version: &str, object: &Object) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(&resource.group, version, object.kind.name());
    let resource = ApiResource::from_gvk_with_plural(&kind, &resource.resource);
    Api::namespaced_with(client, &object.regarding().namespace, &resource)
}

fn record_event(context: &Context, object: &Object, change: &Change, level: Level) {
    let Some((reason, note, cause)) = change.notice.clone() else { return };
    let regarding = object.regarding().clone();
    context.events.record(Notice { regarding, level, reason, action: "Keeping", note, cause });
}

/// The time from `now` until just after `at`.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    left + Duration::from_millis(50)
}
