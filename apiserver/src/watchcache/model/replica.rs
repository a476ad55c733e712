//! A replica: what it has observed of each kind, in whatever order, and the rows it renders from that.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use super::{
    Kind, LOCAL,
    remote::{self, Remote},
    world::Commit,
};
use crate::{
    clock::{Clock, ClockReading, Ticks},
    watchcache::{Row, RowKey, Update, WatchCache, testing},
};

/// The objects of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Objects {
    subjects: BTreeMap<u8, u8>,
    causes: BTreeMap<u8, u8>,
}

pub(super) struct Replica {
    pub(super) cache: Arc<WatchCache>,
    /// In milliseconds: the time of its wall clock, and the time that has passed.
    time: Arc<[AtomicU64; 2]>,
    pub(super) skew: i64,
    /// How many commits it has observed, for each kind.
    pub(super) seen: [usize; 2],
    pub(super) objects: Objects,
    /// Since when it has no connection, in milliseconds.
    pub(super) cut_off: Option<u64>,
    /// Since when its watches are back, until it has caught up.
    pub(super) resumed: Option<u64>,
    /// Whether it knows that it is cut off. Its rows then say that they may be stale.
    troubled: bool,
    pub(super) remote: remote::Observed,
}

/// How far clocks may be off, in milliseconds: an eighth of the window.
const APART: u64 = 1_000;
/// 2027, in seconds since 1970.
const BEGIN: u64 = 1_798_761_600;

impl Objects {
    fn of(&mut self, kind: Kind) -> &mut BTreeMap<u8, u8> {
        match kind {
            Kind::Subject => &mut self.subjects,
            Kind::Cause => &mut self.causes,
        }
    }

    pub(super) fn put(&mut self, kind: Kind, key: u8, value: Option<u8>) {
        match value {
            Some(value) => self.of(kind).insert(key, value),
            None => self.of(kind).remove(&key),
        };
    }

    pub(super) fn value(&self, kind: Kind, key: u8) -> Option<u8> {
        self.clone().of(kind).get(&key).copied()
    }

    /// The rows by their names: the content of each, and whether it matches the selector.
    pub(super) fn rows(&self) -> impl Iterator<Item = (String, (String, bool))> {
        self.subjects.keys().filter_map(|key| Some((key.to_string(), self.row(*key)?)))
    }

    fn row(&self, key: u8) -> Option<(String, bool)> {
        let subject = *self.subjects.get(&key)?;
        let cause = self.causes.get(&(key + subject / 4)).copied().unwrap_or_default();
        Some((format!("s{subject}.c{cause}"), (subject + cause).is_multiple_of(2)))
    }

    /// The rows that depend on an object.
    fn touched(&self, kind: Kind, key: u8) -> BTreeSet<u8> {
        match kind {
            Kind::Subject => BTreeSet::from([key]),
            Kind::Cause => {
                let reported = self.subjects.iter().filter(|(subject, value)| **subject + **value / 4 == key);
                reported.map(|(subject, _)| *subject).collect()
            }
        }
    }
}

impl Replica {
    /// A process that has just listed everything. No other process has, or has had, its number.
    pub(super) fn new(
        number: u8,
        skew: i64,
        window: Duration,
        now: u64,
        history: &[Commit],
        truth: Objects,
        remote: &Remote,
    ) -> Self {
        let time = Arc::new([now.saturating_add_signed(skew), now].map(AtomicU64::new));
        let reported = Arc::clone(&time);
        let clock = Clock::new(number).with_window(window).with_time(move || {
            let [wall, passed] = [0, 1].map(|n| Duration::from_millis(reported[n].load(Ordering::Relaxed)));
            ClockReading { wall: SystemTime::UNIX_EPOCH + Duration::from_secs(BEGIN) + wall, passed }
        });
        let cache = Arc::new(testing::cache_by(clock));
        let seen = [history.len(); 2];
        let remote = remote::Observed::new(remote, &cache);
        let (cut_off, resumed, troubled) = (None, None, false);
        let replica = Self { cache, time, skew, seen, objects: truth, cut_off, resumed, troubled, remote };
        replica.hear();
        replica.publish(replica.objects.subjects.keys().copied().collect());
        replica.cache.mark_synced();
        replica
    }

    pub(super) fn tell_time(&self, now: u64) {
        self.time[0].store(now.saturating_add_signed(self.skew), Ordering::Relaxed);
        self.time[1].store(now, Ordering::Relaxed);
    }

    /// Observes in one batch all commits of each kind up to the given ones.
    pub(super) fn deliver(&mut self, history: &[Commit], until: [usize; 2]) {
        let mut touched = BTreeSet::new();
        for kind in [Kind::Subject, Kind::Cause] {
            let seen = &mut self.seen[kind as usize];
            let news = history.get(*seen..until[kind as usize]).unwrap_or_default();
            *seen = until[kind as usize].max(*seen);
            for commit in news.iter().filter(|commit| commit.kind == kind) {
                self.objects.put(kind, commit.key, commit.value);
                touched.extend(self.objects.touched(kind, commit.key));
            }
        }
        self.publish(touched);
    }

    /// Lists a kind: takes its objects as they are, without the steps in between.
    pub(super) fn relist(&mut self, kind: Kind, history: &[Commit], truth: &Objects) {
        self.seen[kind as usize] = history.len();
        let mut touched = BTreeSet::new();
        for key in 0..8 {
            if self.objects.value(kind, key) != truth.value(kind, key) {
                self.objects.put(kind, key, truth.value(kind, key));
                touched.extend(self.objects.touched(kind, key));
            }
        }
        self.publish(touched);
        self.cache.record_gap();
    }

    /// Notices that it is cut off, or that it no longer is.
    pub(super) fn trouble(&mut self, troubled: bool) {
        if troubled {
            self.cache.clock().vouch(false);
        }
        if self.troubled != troubled {
            self.troubled = troubled;
            self.publish(self.objects.subjects.keys().copied().collect());
        }
        if !troubled {
            self.hear();
            self.cache.advance();
        }
    }

    /// Gets a response from the cluster, with the cluster's time.
    pub(super) fn hear(&self) {
        let clock = self.cache.clock();
        clock.confirm(self.is_right());
        clock.vouch(!self.troubled);
    }

    /// Whether its clock is as accurate as the protocol needs.
    pub(super) fn is_right(&self) -> bool {
        self.skew.unsigned_abs() <= APART
    }

    /// How far its latest version is ahead of the true time.
    pub(super) fn ahead(&self, now: u64) -> Duration {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(BEGIN) + Duration::from_millis(now);
        Ticks::of_version(self.cache.snapshot().version).since(Ticks::of(time))
    }

    fn publish(&self, touched: BTreeSet<u8>) {
        self.cache.publish(touched.into_iter().map(|key| match self.objects.row(key) {
            Some((content, matches)) => {
                let content = if self.troubled { format!("{content}!") } else { content };
                Update::Apply(remote::draft(&row_key(&key.to_string()), &content, matches, LOCAL))
            }
            None => Update::Delete(row_key(&key.to_string())),
        }));
    }
}

pub(super) fn row_key(name: &str) -> RowKey {
    RowKey { namespace: "a".into(), name: name.into() }
}

/// The content of a row.
pub(super) fn content(row: &Row) -> String {
    row.labels()[0].1.to_string()
}
