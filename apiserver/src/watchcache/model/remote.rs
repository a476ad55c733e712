//! The remote cluster of the model: what happens there, and what a replica knows of it.

use std::collections::BTreeMap;

use gatehouse_apiservice::view::CLUSTER_LABEL;
use proptest::prelude::*;

use super::replica::row_key;
use crate::watchcache::{Draft, RowKey, Update, WatchCache, testing};

/// The name of the cluster.
pub(super) const NAME: &str = "eu";

/// What can happen.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// An object is written, or deleted.
    Commit(u8, Option<u8>),
    /// A replica observes so many of the next commits.
    Deliver(usize, usize),
    /// A replica loses the cluster. Nothing else of that replica changes.
    Lose(usize),
    /// A replica reaches the cluster again, and lists it.
    Find(usize),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let (who, key) = (0..4_usize, 0..3_u8);
    prop_oneof![
        6 => (key, prop::option::weighted(0.75, 0..8_u8)).prop_map(|(key, value)| Step::Commit(key, value)),
        4 => (who.clone(), 0..4_usize).prop_map(|(who, count)| Step::Deliver(who, count)),
        2 => who.clone().prop_map(Step::Lose),
        2 => who.prop_map(Step::Find),
    ]
}

/// The objects.
pub(super) type Objects = BTreeMap<u8, u8>;

/// The cluster itself.
#[derive(Debug, Default)]
pub(super) struct Remote {
    /// When, and what.
    history: Vec<(u64, u8, Option<u8>)>,
    pub(super) objects: Objects,
}

/// What a replica knows of it.
#[derive(Debug, Default)]
pub(super) struct Observed {
    objects: Objects,
    /// How many commits it has observed.
    seen: usize,
    is_lost: bool,
}

impl Remote {
    pub(super) fn commit(&mut self, now: u64, key: u8, value: Option<u8>) {
        put(&mut self.objects, key, value);
        self.history.push((now, key, value));
    }
}

impl Observed {
    /// What a new process lists.
    pub(super) fn new(remote: &Remote, cache: &WatchCache) -> Self {
        let mut observed = Self::default();
        observed.find(remote, cache);
        observed
    }

    /// Observes the next `count` commits.
    pub(super) fn deliver(&mut self, remote: &Remote, count: usize, cache: &WatchCache) {
        self.reach(remote, self.seen + count, cache);
    }

    /// Observes what was committed until `due`.
    pub(super) fn deliver_until(&mut self, remote: &Remote, due: u64, cache: &WatchCache) {
        self.reach(remote, remote.history.partition_point(|(at, ..)| *at <= due), cache);
    }

    fn reach(&mut self, remote: &Remote, until: usize, cache: &WatchCache) {
        if self.is_lost {
            return;
        }
        let news = remote.history.get(self.seen..until.min(remote.history.len())).unwrap_or_default();
        self.seen += news.len();
        let updates: Vec<_> = news
            .iter()
            .map(|(_, key, value)| {
                put(&mut self.objects, *key, *value);
                update(*key, *value)
            })
            .collect();
        cache.publish_remote(updates);
    }

    pub(super) fn lose(&mut self) {
        self.is_lost = true;
    }

    /// Lists everything.
    pub(super) fn find(&mut self, remote: &Remote, cache: &WatchCache) {
        let keys = self.objects.keys().chain(remote.objects.keys());
        let updates: Vec<_> = keys.map(|key| update(*key, remote.objects.get(key).copied())).collect();
        cache.publish_remote(updates);
        *self = Self { objects: remote.objects.clone(), seen: remote.history.len(), is_lost: false };
    }
}

/// The rows by their names: the content of each, and whether it matches the selector.
pub(super) fn rows(objects: &Objects) -> impl Iterator<Item = (String, (String, bool))> {
    objects.iter().map(|(key, value)| (name(*key), row(*value)))
}

fn put(objects: &mut Objects, key: u8, value: Option<u8>) {
    match value {
        Some(value) => objects.insert(key, value),
        None => objects.remove(&key),
    };
}

fn name(key: u8) -> String {
    format!("{NAME}.{key}")
}

fn row(value: u8) -> (String, bool) {
    (format!("r{value}"), value.is_multiple_of(2))
}

fn update(key: u8, value: Option<u8>) -> Update {
    let (row_key, Some(value)) = (row_key(&name(key)), value) else {
        return Update::Delete(row_key(&name(key)));
    };
    let (content, matches) = row(value);
    Update::Apply(draft(&row_key, &content, matches, NAME))
}

/// A row of a cluster.
pub(super) fn draft(key: &RowKey, content: &str, matches: bool, cluster: &str) -> Draft {
    let matches = if matches { "yes" } else { "no" };
    let labels = [("content", content), (CLUSTER_LABEL, cluster), ("match", matches)];
    let labels = labels.map(|(name, value)| (name.into(), value.into()));
    testing::draft(&key.namespace, &key.name, "Ready").labelled(labels)
}
