//! Feeds the index of candidates from the watches of bindings and roles, and knows whether it is up to date.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use gatehouse_inventory::{
    Interner, KindStatus,
    source::{Content, Observer, Raw, Upstream, Wanted, WatchNotice},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    objects,
    rbac::{Key, Kind, Rbac},
};
use crate::clock::Clock;

const GROUP: &str = "rbac.authorization.k8s.io";
/// How long the index is used after one of its watches was heard from last, which is with each heartbeat, or when it is
/// opened anew.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is looked whether that is so.
const LOOK: Duration = Duration::from_secs(5);

/// The index, shared by its observers and its readers.
pub(super) struct Observed {
    clock: Arc<Clock>,
    state: RwLock<State>,
    /// The number of the last change.
    changed: watch::Sender<u64>,
    /// How many changes of any binding or role there were, or that the index is not up to date.
    changes: watch::Sender<Option<u64>>,
}

#[derive(Default)]
struct State {
    rbac: Rbac,
    /// When each watch was heard from last; `None` if it cannot be read.
    heard: [Option<Instant>; Kind::ALL.len()],
}

impl Observed {
    pub(super) fn new(clock: Arc<Clock>, changes: watch::Sender<Option<u64>>) -> Self {
        Self { clock, state: RwLock::default(), changed: watch::Sender::new(0), changes }
    }

    /// Follows bindings and roles until `stop` is cancelled.
    pub(super) async fn run(self: Arc<Self>, upstream: Upstream, stop: CancellationToken) {
        let (strings, mut tasks) = (Arc::new(Interner::default()), JoinSet::new());
        for kind in Kind::ALL {
            let observer = KindObserver { kind, observed: Arc::clone(&self), strings: Arc::clone(&strings) };
            tasks.spawn(upstream.follow(wanted(kind), Content::Whole, observer));
        }
        tasks.spawn(Arc::clone(&self).look());
        // None of them ends by itself, unless by a bug: then the index becomes too old to be used.
        stop.run_until_cancelled(async {
            while let Some(Err(error)) = tasks.join_next().await {
                tracing::error!(%error, "the observation of RBAC failed");
            }
            std::future::pending::<()>().await;
        })
        .await;
    }

    /// Tells from time to time whether the index is up to date.
    async fn look(self: Arc<Self>) {
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            let is_current = self.read(|_| ()).is_ok();
            self.changes.send_if_modified(|known| {
                let has_changed = known.is_some() != is_current;
                if has_changed {
                    *known = is_current.then_some(0);
                }
                has_changed
            });
        }
    }

    /// Reads the index, if it is up to date. Otherwise the error says why it is not.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Rbac) -> T) -> Result<T, &'static str> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let is_heard = |heard: &Option<Instant>| heard.is_some_and(|heard| heard.elapsed() < PATIENCE);
        if !state.rbac.is_complete() {
            return Err("bindings and roles are not known yet");
        }
        if !state.heard.iter().all(is_heard) {
            return Err("bindings and roles cannot be read");
        }
        Ok(look(&state.rbac))
    }

    /// Subscribes to the number of the last change.
    pub(super) fn follow(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Changes the index; `kind` was heard from.
    pub(super) fn write(&self, kind: Kind, change: impl FnOnce(&mut Rbac, Duration)) {
        let last = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.heard[kind as usize] = Some(Instant::now());
            change(&mut state.rbac, self.clock.now());
            state.rbac.last()
        };
        self.changed.send_if_modified(|known| std::mem::replace(known, last) != last);
    }

    /// Some binding or role has changed, whatever it grants.
    fn noticed(&self) {
        self.changes.send_if_modified(|known| {
            *known = known.map(|number| number + 1);
            known.is_some()
        });
    }

    /// The kind cannot be read.
    fn lose(&self, kind: Kind) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).heard[kind as usize] = None;
    }
}

fn wanted(kind: Kind) -> Wanted {
    let plural = match kind {
        Kind::Roles => "roles",
        Kind::ClusterRoles => "clusterroles",
        Kind::RoleBindings => "rolebindings",
        Kind::ClusterRoleBindings => "clusterrolebindings",
    };
    Wanted { group: GROUP.to_owned(), plural: plural.to_owned(), kind: None }
}

struct KindObserver {
    kind: Kind,
    observed: Arc<Observed>,
    strings: Arc<Interner>,
}

impl Observer for KindObserver {
    async fn observe(&mut self, notice: WatchNotice<'_>) {
        let kind = self.kind;
        match notice {
            WatchNotice::Status(KindStatus::Served { .. }) | WatchNotice::Reached(_) => {
                self.observed.write(kind, |_, _| {});
            }
            // A kind that fails may be heard from again soon.
            WatchNotice::Status(KindStatus::Failing { .. }) => {}
            WatchNotice::Status(KindStatus::Forbidden { .. } | KindStatus::Absent) => {
                self.observed.lose(kind);
            }
            WatchNotice::Restart => self.observed.write(kind, |rbac, _| rbac.restart(kind)),
            WatchNotice::Synced => self.observed.write(kind, |rbac, now| rbac.synced(kind, now)),
            WatchNotice::Apply(raw) => self.apply(raw, Some(raw.json())),
            WatchNotice::Delete(raw) => self.apply(raw, None),
        }
    }
}

impl KindObserver {
    /// What cannot be read grants nothing.
    fn apply(&self, raw: &Raw, json: Option<&str>) {
        let (namespace, name) = (raw.namespace(), raw.name());
        let key: Key = (self.strings.intern(namespace), name.into());
        let report = |error| {
            tracing::warn!(kind = ?self.kind, namespace, name, %error, "skipping an object that cannot be decoded");
        };
        match self.kind {
            Kind::Roles | Kind::ClusterRoles => {
                let grants = json.map(|json| objects::grants(json).map_err(report).unwrap_or_default());
                self.observed.write(self.kind, |rbac, now| rbac.role(&key, grants, now));
            }
            Kind::RoleBindings | Kind::ClusterRoleBindings => {
                let read = |json| objects::binding(namespace, json, &self.strings).map_err(report);
                let binding = json.and_then(|json| read(json).ok().flatten());
                self.observed.write(self.kind, |rbac, now| rbac.binding(&key, binding, now));
            }
        }
        self.observed.noticed();
    }
}
