//! What the tasks that watch one API server share: its client, what is wanted of it, and what is known of how it is.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use kube::{Client, core::ApiResource};
use tokio::sync::{Notify, watch};

use super::{
    discovery::{Finding, Served, Wanted},
    settings::WatchSettings,
};

/// Whether and as what a resource is to be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// Discovery has not answered yet.
    Undecided,
    /// Not served.
    Absent,
    /// Served like this.
    Served(ApiResource),
}

/// What the tasks of one cluster share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) settings: WatchSettings,
    /// Whether the server's version promises streaming lists.
    pub(super) streams: AtomicBool,
    /// Wakes discovery: something is no longer, or newly, served or wanted.
    pub(super) rediscover: Notify,
    /// Wakes whoever waits to try again: the server, which was silent, answers.
    pub(super) answers: Notify,
    /// How often it has looked as if the server had ended, whoever answers since.
    pub(super) doubts: AtomicU64,
    wishes: Mutex<Wishes>,
}

/// Locked for one look or change at a time, never across an await.
#[derive(Default)]
struct Wishes {
    /// Discovery has answered at least once: what is wanted from now on it has to be asked for.
    is_answered: bool,
    wanted: Vec<(Wanted, watch::Sender<Assignment>)>,
}

impl Shared {
    pub(super) fn new(client: Client, settings: WatchSettings) -> Self {
        Self {
            client,
            settings,
            streams: AtomicBool::default(),
            rediscover: Notify::new(),
            answers: Notify::new(),
            doubts: AtomicU64::default(),
            wishes: Mutex::default(),
        }
    }

    /// Whether and as what `wanted` is served, now and later. Dropping the receiver ends the wish.
    pub(super) fn want(&self, wanted: Wanted) -> watch::Receiver<Assignment> {
        let (assign, assigned) = watch::channel(Assignment::Undecided);
        let mut wishes = self.wishes();
        wishes.wanted.push((wanted, assign));
        if wishes.is_answered {
            self.rediscover.notify_one();
        }
        assigned
    }

    pub(super) fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether somebody wants what the CustomResourceDefinition of this name, `plural.group`, defines.
    pub(super) fn is_wanted(&self, definition: &str) -> bool {
        let wishes = self.wishes();
        definition.split_once('.').is_some_and(|(plural, group)| {
            wishes.wanted.iter().any(|(wanted, _)| wanted.group == group && wanted.plural == plural)
        })
    }

    /// Tells who wants something whether and as what it is served.
    pub(super) fn assign(&self, served: &Served) {
        self.streams.store(served.streams, Ordering::Relaxed);
        let mut wishes = self.wishes();
        wishes.is_answered = true;
        wishes.wanted.retain(|(_, assign)| !assign.is_closed());
        for (wanted, assign) in &wishes.wanted {
            let new = match served.find(wanted) {
                Finding::Served(resource) => Assignment::Served(resource),
                Finding::Absent => Assignment::Absent,
                Finding::Unknown => continue,
            };
            assign.send_if_modified(|current| {
                let differs = *current != new;
                if differs {
                    *current = new;
                }
                differs
            });
        }
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
