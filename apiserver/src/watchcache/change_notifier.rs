//! Wakes the watches that a change concerns.
//!
//! There may be a thousand watches of single namespaces, and most changes do not concern them. So each
//! namespace that is followed has its own channel. Every [`WAKE_ALL_AFTER`] changes all watches are woken, so that
//! a watch of a quiet namespace moves its position on before the log drops it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use gatehouse_inventory::Str;
use tokio::sync::watch;

/// All watches are woken after this many changes. The log holds some thousands of usual changes, and more
/// than this number even of the largest.
const WAKE_ALL_AFTER: usize = 64;
/// The channels of namespaces that have no more watchers are removed once there are more channels than this,
/// or than twice as many as were left the last time.
const CLEANUP_THRESHOLD: usize = 64;

/// The channels that a resource's watches wait on.
#[derive(Debug)]
pub(super) struct ChangeNotifier {
    /// The version of the latest change; 0 until the cache is synced.
    all: watch::Sender<u64>,
    namespaces: Mutex<Namespaces>,
}

#[derive(Debug, Default)]
struct Namespaces {
    channels: HashMap<Str, watch::Sender<u64>>,
    /// The number of channels at which unused ones are removed.
    limit: usize,
    /// Changes since all watches were woken the last time.
    changes: usize,
}

impl ChangeNotifier {
    pub(super) fn new() -> Self {
        Self { all: watch::Sender::new(0), namespaces: Mutex::default() }
    }

    /// The version of the latest change.
    pub(super) fn latest(&self) -> u64 {
        *self.all.borrow()
    }

    /// Subscribes to all changes.
    pub(super) fn follow(&self) -> watch::Receiver<u64> {
        self.all.subscribe()
    }

    /// Subscribes to the changes of a namespace, and now and then to others.
    pub(super) fn follow_namespace(&self, namespace: &str) -> watch::Receiver<u64> {
        let mut namespaces = self.namespaces();
        if let Some(channel) = namespaces.channels.get(namespace) {
            return channel.subscribe();
        }
        if namespaces.channels.len() >= namespaces.limit {
            namespaces.channels.retain(|_, channel| channel.receiver_count() > 0);
            namespaces.limit = CLEANUP_THRESHOLD.max(2 * namespaces.channels.len());
        }
        let (channel, receiver) = watch::channel(self.latest());
        namespaces.channels.insert(namespace.into(), channel);
        receiver
    }

    /// Publishes that everything up to `version` is in the log, and the namespace of each change. A
    /// concurrent `advance` may have published a later version already, but not these changes, so their
    /// namespaces are woken in any case.
    pub(super) fn notify(&self, version: u64, changed: &[Str]) {
        let is_later = self.all.send_if_modified(|published| {
            let is_later = version > *published;
            *published = version.max(*published);
            is_later
        });
        if !is_later && changed.is_empty() {
            return;
        }
        let mut namespaces = self.namespaces();
        namespaces.changes += changed.len();
        if namespaces.changes >= WAKE_ALL_AFTER {
            namespaces.changes = 0;
            for channel in namespaces.channels.values() {
                channel.send_replace(version);
            }
            return;
        }
        let mut last = None;
        for namespace in changed {
            // Changes mostly come grouped by namespace, so a namespace is seldom woken twice.
            if last != Some(namespace)
                && let Some(channel) = namespaces.channels.get(namespace)
            {
                channel.send_replace(version);
            }
            last = Some(namespace);
        }
    }

    fn namespaces(&self) -> MutexGuard<'_, Namespaces> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_woken_by_its_own_changes() {
        let notifier = ChangeNotifier::new();
        let (mut all, mut a) = (notifier.follow(), notifier.follow_namespace("a"));
        notifier.notify(1, &["b".into()]);
        assert!(all.has_changed().unwrap() && !a.has_changed().unwrap());
        all.mark_unchanged();
        notifier.notify(2, &["b".into(), "a".into()]);
        assert!(all.has_changed().unwrap() && a.has_changed().unwrap());
        a.mark_unchanged();
        notifier.notify(2, &[]);
        assert!(!a.has_changed().unwrap(), "nothing is later");
    }

    #[test]
    fn a_change_that_is_told_after_a_later_version_still_wakes_its_namespace() {
        let notifier = ChangeNotifier::new();
        let a = notifier.follow_namespace("a");
        notifier.notify(101, &[]);
        assert!(!a.has_changed().unwrap());
        notifier.notify(100, &["a".into()]);
        assert!(a.has_changed().unwrap() && notifier.latest() == 101);
    }

    #[test]
    fn everybody_is_woken_now_and_then() {
        let notifier = ChangeNotifier::new();
        let mut a = notifier.follow_namespace("a");
        for version in 1..=WAKE_ALL_AFTER as u64 {
            assert!(!a.has_changed().unwrap(), "{version}");
            notifier.notify(version, &["b".into()]);
        }
        assert!(a.has_changed().unwrap());
        a.mark_unchanged();
        notifier.notify(1000, &["b".into()]);
        assert!(!a.has_changed().unwrap());
    }

    #[test]
    fn namespaces_that_nobody_follows_are_forgotten() {
        let notifier = ChangeNotifier::new();
        let kept = notifier.follow_namespace("kept");
        for number in 0..10 * CLEANUP_THRESHOLD {
            drop(notifier.follow_namespace(&number.to_string()));
        }
        assert!(notifier.namespaces().channels.len() <= CLEANUP_THRESHOLD + 1);
        notifier.notify(1, &["kept".into()]);
        assert!(kept.has_changed().unwrap());
    }
}
