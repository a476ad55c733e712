//! Who sees which rows of `mynamespaces`: those of the namespaces in which he may list fluxsummaries.
//!
//! The view has one row for each namespace, rendered once. For each user the namespaces that he sees are kept. The
//! bindings and roles of RBAC are an index of candidates ([`rbac`]); the authorizer decides about each, and about the
//! whole cluster ([`answers`]). An answer is asked for again when a binding that concerns it changes, and otherwise
//! after ten seconds, or as much later as keeps all users together at [`REVIEWS_PER_SECOND`].
//!
//! **Invariant:** nothing is shown without an answer of the authorizer that allows it. What cannot be decided is an
//! error for a list, and ends a watch after a minute.
//!
//! **Invariant:** what a user was shown at a version of this replica follows from the version alone ([`steps`]).
//!
//! Namespaces that only another authorizer than RBAC allows are not candidates, unless it allows the whole cluster or a
//! RoleBinding is labelled to ask about its subjects. They can be read by name.

mod answers;
mod caller;
mod counts;
mod objects;
mod observed;
mod rbac;
mod steps;
#[cfg(test)]
pub(crate) mod testing;
mod visible;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gatehouse_apiservice::{
    UserInfo, View,
    view::{GROUP, MyNamespaceStatus, VERSION},
};
use gatehouse_inventory::source::Upstream;
use gatehouse_serving::{
    ApiError,
    authz::{Access, Target},
};
use prometheus::IntCounter;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{answers::Answers, observed::Observed, rbac::Rbac};
pub(crate) use self::{
    caller::{Caller, OpenWatch, Progress},
    steps::{Next, Step},
    visible::Visible,
};
use crate::{
    metrics::ViewMetrics,
    watchcache::{RowKey, WatchCache},
};

/// How long an answer is used.
const LIFETIME: Duration = Duration::from_secs(10);
/// How many reviews renew answers, on average. If there are more answers to renew than this in [`LIFETIME`], each answer
/// is used for longer. Changes of RBAC are noticed by its watches, whatever this is.
const REVIEWS_PER_SECOND: f64 = 25.0;
/// Answers are renewed for those who have an open watch, or asked within this time.
const ACTIVE: Duration = Duration::from_mins(1);
/// How many reviews are waited for at once.
const REVIEWS_AT_ONCE: usize = 32;
/// How long a user is remembered who asks for nothing.
const IDLE: Duration = Duration::from_mins(10);
/// The most users that are remembered without an open watch.
const MOST_CALLERS: usize = 1024;
/// How often it is tried again to find out what a user sees.
const RETRY: Duration = Duration::from_secs(1);

/// The resource whose rows depend on who asks.
pub(crate) const RESOURCE: &str = <MyNamespaceStatus as View>::RESOURCE.plural;

/// How much is kept about users.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The most questions that are asked about one user: the first namespaces by name. He is shown no others.
    pub(crate) of_caller: usize,
    /// The most answers, and namespaces in steps, of all users. Users without a watch are forgotten for it; who would
    /// still exceed it gets 503.
    pub(crate) of_all: usize,
}

impl Default for Limits {
    /// Twice the namespaces that the view is made for, and some 20 MiB.
    fn default() -> Self {
        Self { of_caller: 10_000, of_all: 100_000 }
    }
}

/// See the module.
pub(crate) struct Callers {
    access: Access,
    cache: Arc<WatchCache>,
    /// `None` where the authorizer allows everything to everybody whom it knows.
    observed: Option<Arc<Observed>>,
    known: Mutex<HashMap<UserInfo, Arc<Caller>>>,
    reviews: Semaphore,
    limits: Limits,
    /// Counts users for whom not every namespace could be asked about.
    left_out: IntCounter,
}

impl Callers {
    /// Everybody sees the rows of `cache` that `access` lets him see. `changes` learns how often RBAC was seen to change.
    pub(crate) fn new(
        access: Access,
        cache: Arc<WatchCache>,
        changes: Option<watch::Sender<Option<u64>>>,
        limits: Limits,
        metrics: &ViewMetrics,
    ) -> Arc<Self> {
        let observed = changes.map(|changes| Observed::new(Arc::clone(cache.shared_clock()), changes));
        let observed = observed.map(Arc::new);
        let (known, reviews) = (Mutex::default(), Semaphore::new(REVIEWS_AT_ONCE));
        let left_out = metrics.callers_left_out();
        Arc::new(Self { access, cache, observed, known, reviews, limits, left_out })
    }

    /// Follows the bindings and roles of a cluster until `stop` is cancelled.
    pub(crate) async fn run(self: Arc<Self>, upstream: Upstream, stop: CancellationToken) {
        match &self.observed {
            Some(observed) => Arc::clone(observed).run(upstream, stop).await,
            None => stop.cancelled().await,
        }
    }

    /// A user, whose rights are known as they are now. Errors: they cannot be found out.
    pub(crate) async fn caller(&self, user: &UserInfo) -> Result<Arc<Caller>, ApiError> {
        let caller = self.find(user);
        caller.review(self).await?;
        Ok(caller)
    }

    /// Whether a user may see a row. Asks about its namespace alone, so that other authorizers than RBAC count too.
    pub(crate) async fn may_see(&self, user: &UserInfo, key: &RowKey) -> Result<bool, ApiError> {
        let known = self.known().get(user).cloned();
        if let Some(caller) = known
            && caller.visible().0.shows(key)
            && caller.is_current(self)
        {
            return Ok(true);
        }
        self.ask(user, visible::namespace_of(key)).await.1
    }

    /// The watch of a user: what wakes it.
    pub(crate) fn open(self: &Arc<Self>, caller: &Arc<Caller>) -> Rights {
        let bindings = self.observed.as_ref().map(|observed| observed.follow());
        let watch = caller.open_watch();
        Rights { progress: caller.follow(), bindings, watch, callers: Arc::clone(self) }
    }

    fn find(&self, user: &UserInfo) -> Arc<Caller> {
        let mut known = self.known();
        let caller = if let Some(caller) = known.get(user) {
            Arc::clone(caller)
        } else {
            known.retain(|_, caller| caller.idle() < IDLE);
            if known.len() >= MOST_CALLERS {
                forget_idlest(&mut known);
            }
            let caller = Arc::new(Caller::new(user.clone()));
            known.insert(user.clone(), Arc::clone(&caller));
            caller
        };
        caller.touch();
        caller
    }

    /// Whether so many answers about a user may be kept beside those about others. Users without a watch are forgotten if
    /// there is no room, those first who were here longest ago. No state of a user may be locked.
    fn has_room(&self, user: &Caller, wanted: usize) -> bool {
        let most = self.limits.of_all;
        let mut known = self.known();
        let others: Vec<_> =
            known.values().filter(|other| !std::ptr::eq(&raw const ***other, user)).cloned().collect();
        let mut kept: usize = others.iter().map(|other| other.weight()).sum();
        if kept + wanted > most {
            let mut idle: Vec<_> = others.iter().map(|other| (other.idle(), other)).collect();
            idle.retain(|(idle, _)| !idle.is_zero());
            idle.sort_by_key(|(idle, _)| std::cmp::Reverse(*idle));
            for (_, other) in idle {
                if kept + wanted <= most {
                    break;
                }
                kept -= other.weight();
                known.remove(&other.user);
            }
        }
        kept + wanted <= most
    }

    /// Asks the authorizer about a namespace, or with an empty name about all. Returns when it was asked: a review may
    /// have to wait for others.
    async fn ask(&self, user: &UserInfo, namespace: &str) -> (Instant, Result<bool, ApiError>) {
        let _turn = self.reviews.acquire().await;
        let asked = Instant::now();
        let resource = objects::RESOURCE;
        let target =
            Target { group: GROUP, version: VERSION, resource, subresource: "", namespace, name: "" };
        (asked, self.access.review(user, objects::VERB, target).await)
    }

    /// Reads the index of candidates. Errors: it is not up to date.
    fn read<T>(&self, look: impl FnOnce(&Rbac) -> T) -> Result<T, ApiError> {
        match &self.observed {
            Some(observed) => observed.read(look).map_err(ApiError::unavailable),
            None => Ok(look(&Rbac::default())),
        }
    }

    fn is_quiet(&self, subjects: &[rbac::Subject], since: Duration) -> bool {
        self.is_open_to_all() || self.read(|rbac| rbac.is_quiet(subjects, since)).unwrap_or_default()
    }

    fn is_open_to_all(&self) -> bool {
        self.observed.is_none()
    }

    /// Whether what a user sees can no longer be known.
    fn is_outdated(&self, answers: &Answers) -> bool {
        answers.is_outdated(Instant::now()) || self.read(|_| ()).is_err()
    }

    /// How long an answer is used: longer, the more of them have to be renewed.
    fn lifetime(&self) -> Duration {
        let answers: usize = self.known().values().map(|caller| caller.answers_in_use(ACTIVE)).sum();
        let answers = u32::try_from(answers).unwrap_or(u32::MAX);
        LIFETIME.max(Duration::from_secs_f64(f64::from(answers) / REVIEWS_PER_SECOND))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<UserInfo, Arc<Caller>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the half of the users without a watch who were here longest ago. They are known again when they ask.
fn forget_idlest(known: &mut HashMap<UserInfo, Arc<Caller>>) {
    let mut idle: Vec<_> =
        known.values().map(|caller| caller.idle()).filter(|idle| !idle.is_zero()).collect();
    idle.sort_unstable();
    if let Some(median) = idle.get(idle.len() / 2).copied() {
        known.retain(|_, caller| caller.idle() < median);
    }
}

/// The rights behind an open watch.
pub(crate) struct Rights {
    progress: watch::Receiver<Progress>,
    bindings: Option<watch::Receiver<u64>>,
    watch: OpenWatch,
    callers: Arc<Callers>,
}

impl Rights {
    /// Whose they are.
    pub(crate) fn caller(&self) -> &Caller {
        &self.watch
    }

    /// The same, to share.
    pub(crate) fn shared_caller(&self) -> Arc<Caller> {
        Arc::clone(&self.watch)
    }

    /// All users.
    pub(crate) fn callers(&self) -> &Callers {
        &self.callers
    }

    /// Renews what is due, in the background. Errors: what the user sees is no longer known.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        if !self.watch.is_renewing() && self.watch.is_due(&self.callers) {
            self.watch.renew(&self.callers);
        }
        match &self.progress.borrow().lost {
            Some(_) => Err(ApiError::expired("what you may see cannot be determined any more: list again")),
            None => Ok(()),
        }
    }

    /// Returns when what the user sees may have changed, or is no longer known. Cancel safe.
    pub(crate) async fn changed(&mut self) -> Result<(), ApiError> {
        loop {
            self.check()?;
            if self.watch.is_renewing() {
                // The sender lives in the caller.
                let _ = self.progress.changed().await;
                return self.check();
            }
            let bindings = async {
                match &mut self.bindings {
                    Some(bindings) => drop(bindings.changed().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.progress.changed() => return self.check(),
                () = bindings => {}
                () = sleep_until(self.watch.next_due()) => {}
            }
        }
    }
}
