//! The only task that changes the world: it follows resources, applies their changes, and publishes snapshots.

use std::{
    collections::{BTreeSet, HashMap},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use gatehouse_inventory::{Interner, KindStatus, Str, source::Upstream};
use gatehouse_quota::{CompiledQuota, GroupResource};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    kinds::{self, Role},
    observer::{Reader, Slot},
    snapshot::Snapshot,
    state::{Change, State},
};

/// The state that readers and the writer share.
pub(super) struct Published {
    pub(super) snapshot: ArcSwap<Snapshot>,
    pub(super) sequence: watch::Sender<u64>,
}

pub(super) struct Writer {
    upstream: Upstream,
    /// Gatehouse's own.
    namespace: String,
    published: Arc<Published>,
    state: State,
    strings: Arc<Interner>,
    changes_sender: mpsc::Sender<(Slot, Change)>,
    changes: mpsc::Receiver<(Slot, Change)>,
    followed: HashMap<Slot, Followed>,
    tasks: JoinSet<()>,
    /// The number of slots so far.
    slots: u64,
    /// The quotas whose counted kinds are followed.
    quotas: Arc<[Arc<CompiledQuota>]>,
    published_at: Instant,
}

struct Followed {
    resource: GroupResource,
    role: Role,
    /// The label selector.
    labels: Option<&'static str>,
    task: AbortHandle,
}

/// The longest that the first readiness waits for kinds that only quotas count. All but the largest are listed in less time.
const SETTLE_IN: Duration = Duration::from_secs(20);
/// The capacity of the channel to the writer. If it is full, followers wait.
const WAITING: usize = 1024;
/// The least time between two snapshots, unless the one before is older: each copies what changed in the maps and wakes
/// all quotas and controllers, so changes that come fast are published together.
const APART: Duration = Duration::from_millis(5);

impl Writer {
    pub(super) fn new(upstream: Upstream, namespace: &str, published: Arc<Published>) -> Self {
        let (changes_sender, changes) = mpsc::channel(WAITING);
        Self {
            upstream,
            namespace: namespace.to_owned(),
            published,
            state: State::default(),
            strings: Arc::default(),
            changes_sender,
            changes,
            followed: HashMap::new(),
            tasks: JoinSet::new(),
            slots: 0,
            quotas: Arc::default(),
            published_at: Instant::now(),
        }
    }

    /// Observes until `stop` is cancelled. The tasks end with this future.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        for (resource, role) in kinds::fixed() {
            self.follow(resource, role);
        }
        self.publish();
        let upstream = self.upstream.clone();
        self.tasks.spawn(async move { upstream.run(|_| std::future::ready(())).await });
        let mut settling_in = pin!(sleep(SETTLE_IN));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = &mut settling_in, if !self.state.snapshot.is_settled_in => {
                    self.state.snapshot.is_settled_in = true;
                }
                Some(ended) = self.tasks.join_next_with_id() => {
                    if let Err(error) = ended {
                        self.task_failed(&error);
                    }
                }
                Some(first) = self.changes.recv() => {
                    self.take(first);
                    sleep_until(self.published_at + APART).await;
                    for _ in 0..WAITING {
                        let Ok(next) = self.changes.try_recv() else { break };
                        self.take(next);
                    }
                }
            }
            self.follow_counted();
            self.follow_parameters();
            self.settle_in();
            self.publish();
        }
    }

    /// Once readiness has succeeded, it does not wait for kinds that a quota begins to count. Otherwise a new quota could
    /// make all replicas of a fresh installation unready at once.
    fn settle_in(&mut self) {
        let snapshot = &mut self.state.snapshot;
        snapshot.is_settled_in = snapshot.is_settled_in || snapshot.readiness().is_ok();
    }

    fn take(&mut self, (slot, change): (Slot, Change)) {
        if let Some(Followed { resource, role, .. }) = self.followed.get(&slot) {
            self.state.take(resource, *role, change);
        }
    }

    fn publish(&mut self) {
        self.state.snapshot.sequence += 1;
        let snapshot = Arc::new(self.state.snapshot.clone());
        self.published.snapshot.store(snapshot);
        self.published.sequence.send_replace(self.state.snapshot.sequence);
        self.published_at = Instant::now();
    }

    fn follow(&mut self, resource: GroupResource, role: Role) {
        let slot = Slot(self.slots);
        self.slots += 1;
        let is_parameters = role == Role::Parameters;
        let labels = self.state.labels_of(&resource);
        if is_parameters {
            self.state.begin_parameters(&self.namespace);
        } else {
            self.state.begin(&resource, role.is_required(), labels);
        }
        let reader = Reader {
            slot,
            role,
            name: resource.to_string(),
            strings: Arc::clone(&self.strings),
            changes: self.changes_sender.clone(),
        };
        let wanted = kinds::wanted(&resource);
        let task = if is_parameters {
            let namespace = self.namespace.clone();
            self.tasks.spawn(self.upstream.follow_in(namespace, wanted, role.content(), reader))
        } else if let Some(labels) = labels {
            self.tasks.spawn(self.upstream.follow_labelled(labels.to_owned(), wanted, role.content(), reader))
        } else {
            self.tasks.spawn(self.upstream.follow(wanted, role.content(), reader))
        };
        self.followed.insert(slot, Followed { resource, role, labels, task });
    }

    /// ConfigMaps are followed as long as a policy takes parameters from one.
    fn follow_parameters(&mut self) {
        let slot = self.followed.iter().find(|(_, followed)| followed.role == Role::Parameters);
        match (slot.map(|(slot, _)| *slot), self.state.asks_for_parameters()) {
            (None, true) => self.follow(kinds::CONFIG_MAPS.clone(), Role::Parameters),
            (Some(slot), false) => {
                if let Some(followed) = self.followed.remove(&slot) {
                    followed.task.abort();
                }
                self.state.cease_parameters();
            }
            _ => {}
        }
    }

    /// Follows the resources that quotas count, and stops when no quota counts them any more.
    fn follow_counted(&mut self) {
        if Arc::ptr_eq(&self.quotas, &self.state.snapshot.quotas) {
            return;
        }
        self.quotas = Arc::clone(&self.state.snapshot.quotas);
        let wanted = self.state.counted();
        let mut known = BTreeSet::new();
        let mut over = Vec::new();
        // ConfigMaps of one namespace are not all that a quota may count.
        for (slot, followed) in self.followed.iter().filter(|(_, one)| one.role != Role::Parameters) {
            let is_wanted = wanted.contains(&followed.resource)
                && followed.labels == self.state.labels_of(&followed.resource);
            if followed.role.is_optional() && !is_wanted {
                over.push(*slot);
            } else {
                known.insert(followed.resource.clone());
            }
        }
        for slot in over {
            if let Some(followed) = self.followed.remove(&slot) {
                followed.task.abort();
                self.state.cease(&followed.resource);
            }
        }
        for resource in wanted.difference(&known) {
            self.follow(resource.clone(), Role::of_limited(resource));
        }
    }

    /// A watch task panicked, which is a bug. Its kind must not look as if it merely had no changes.
    fn task_failed(&mut self, error: &JoinError) {
        if error.is_cancelled() {
            return;
        }
        tracing::error!(%error, "watch task failed");
        let message = Str::from("its observation failed; the log says why");
        let id: Id = error.id();
        let mut is_follower = false;
        for followed in self.followed.values().filter(|followed| followed.task.id() == id) {
            is_follower = true;
            let status = KindStatus::Forbidden { message: Str::clone(&message) };
            self.state.take(&followed.resource, followed.role, Change::Status(status));
        }
        // Without discovery, all kinds would silently become stale.
        assert!(is_follower, "discovery failed: {error}");
    }
}
