//! The simulated world: the upstream cluster, time, and the calls between clients and replicas.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use proptest::{prelude::*, test_runner::TestCaseError};

use super::{
    CLIENTS, Kind, LAG, Step,
    client::{Client, Outcome},
    remote::{self, Remote},
    replica::{Objects, Replica},
};
use crate::clock::REPLICAS;

/// A write to the cluster.
#[derive(Debug, Clone)]
pub(super) struct Commit {
    pub(super) at: u64,
    pub(super) kind: Kind,
    pub(super) key: u8,
    pub(super) value: Option<u8>,
}

pub(super) struct World {
    /// Milliseconds.
    now: u64,
    history: Vec<Commit>,
    truth: Objects,
    remote: Remote,
    /// Lengths of the history at which the cluster was restored: no watch continues across them.
    torn: Vec<usize>,
    replicas: Vec<Replica>,
    clients: Vec<Client>,
    contents: Contents,
    window: Duration,
    /// The last replica number that was given out.
    numbers: u8,
}

/// The row and content that was sent under each version, by any replica.
#[derive(Default)]
pub(super) struct Contents(HashMap<u64, (String, String)>);

impl Contents {
    /// Checks that no version has two contents.
    pub(super) fn reported(&mut self, version: u64, key: &str, content: &str) -> Result<(), TestCaseError> {
        let reported = (key.to_owned(), content.to_owned());
        let before = self.0.entry(version).or_insert_with(|| reported.clone());
        prop_assert_eq!(&*before, &reported, "two contents of version {}", version);
        Ok(())
    }
}

impl World {
    pub(super) fn new(skews: &[i64], window: Duration) -> Self {
        let now = 10_000_000;
        let mut truth = Objects::default();
        truth.put(Kind::Subject, 0, Some(1));
        truth.put(Kind::Cause, 1, Some(1));
        let remote = Remote::default();
        let numbered = (0..).zip(skews);
        let replicas = numbered
            .map(|(number, skew)| Replica::new(number, *skew, window, now, &[], truth.clone(), &remote));
        let replicas = replicas.collect();
        // With and without a selector, bookmarks, and the rows of the remote cluster.
        let clients =
            (0..CLIENTS).map(|n| Client::new(n % 2 == 0, n / 2 % 2 == 0, n >= CLIENTS / 2)).collect();
        let mut world = Self {
            now,
            history: Vec::new(),
            truth,
            remote,
            torn: Vec::new(),
            replicas,
            clients,
            contents: Contents::default(),
            window,
            numbers: 3,
        };
        // Replicas have been up for some time; otherwise they would refuse all clients of others.
        world.pass(4 * LAG);
        world
    }

    /// Leaves out the rule for those who see rows of the remote cluster.
    pub(super) fn resume_anywhere(&mut self) {
        self.clients.iter_mut().for_each(Client::resume_anywhere);
    }

    /// Each replica makes a new version without a change.
    pub(super) fn advance(&self) {
        self.replicas.iter().for_each(|replica| replica.cache.advance());
    }

    pub(super) fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        self.pass(1);
        match *step {
            Step::Commit(kind, key, value) => self.commit(kind, key, value),
            Step::Flip(kind, key, value) => {
                let before = self.truth.value(kind, key);
                self.commit(kind, key, Some(value));
                self.pass(1);
                self.commit(kind, key, before);
            }
            Step::Restore(commits) => self.restore(commits),
            Step::Deliver(who, subjects, causes) => {
                let who = self.replica(who);
                if self.replicas[who].cut_off.is_none() {
                    let until =
                        [(0, subjects), (1, causes)].map(|(kind, count)| self.after(who, kind, count));
                    self.deliver(who, until);
                }
            }
            Step::Pass(millis) => self.pass(millis),
            Step::Partition(who) => {
                let (who, now) = (self.replica(who), self.now);
                self.replicas[who].cut_off.get_or_insert(now);
            }
            Step::Heal(who) => {
                let who = self.replica(who);
                self.heal(who);
            }
            Step::Relist(who, kind) => {
                let who = self.replica(who);
                if self.replicas[who].cut_off.is_none() {
                    self.replicas[who].relist(kind, &self.history, &self.truth);
                }
            }
            Step::Restart(who, skew) => {
                let who = self.replica(who);
                self.restart(who, skew);
            }
            Step::SetClock(who, skew) => {
                let who = self.replica(who);
                self.replicas[who].skew = skew;
                self.replicas[who].tell_time(self.now);
            }
            Step::List(client, who, at_least) => {
                let who = self.replica(who);
                self.clients[client].list(who, &self.replicas[who].cache, at_least, &mut self.contents)?;
            }
            Step::Watch(client, who) => {
                let who = self.replica(who);
                self.clients[client].watch(who, &self.replicas[who].cache, &mut self.contents)?;
            }
            Step::Read(client, count) => {
                self.clients[client].read(count, &mut self.contents)?;
            }
            Step::Cut(client) => self.clients[client].cut(),
            Step::Bookmark(client) => self.clients[client].bookmark()?,
            Step::Remote(ref step) => self.take_remote(step),
        }
        Ok(())
    }

    fn take_remote(&mut self, step: &remote::Step) {
        match *step {
            remote::Step::Commit(key, value) => self.remote.commit(self.now, key, value),
            remote::Step::Deliver(who, count) => {
                let who = self.replica(who);
                let Replica { remote, cache, .. } = &mut self.replicas[who];
                remote.deliver(&self.remote, count, cache);
            }
            remote::Step::Lose(who) => {
                let who = self.replica(who);
                self.replicas[who].remote.lose();
            }
            remote::Step::Find(who) => self.find_remote(who),
        }
    }

    fn find_remote(&mut self, who: usize) {
        let who = self.replica(who);
        let Replica { remote, cache, .. } = &mut self.replicas[who];
        remote.find(&self.remote, cache);
    }

    /// Delivers everything, and checks that every client has the true objects. Returns how those who see no row of the
    /// remote cluster were answered.
    pub(super) fn finish(mut self) -> Result<Vec<Vec<Outcome>>, TestCaseError> {
        for who in 0..self.replicas.len() {
            self.heal(who);
            self.find_remote(who);
        }
        self.pass(3 * LAG);
        for (n, client) in self.clients.iter_mut().enumerate() {
            let who = n % self.replicas.len();
            client.watch_on(who, &self.replicas[who].cache, &mut self.contents)?;
        }
        // The first read gets the rows that there are; the second, when the time for that is over, ends the
        // catch-up.
        for _ in 0..2 {
            for client in &mut self.clients {
                client.read(usize::MAX, &mut self.contents)?;
            }
            self.pass(3 * LAG);
        }
        let truth: BTreeMap<_, _> = self.truth.rows().collect();
        let remote: BTreeMap<_, _> = remote::rows(&self.remote.objects).collect();
        for replica in &self.replicas {
            prop_assert_eq!(&replica.objects, &self.truth, "the model itself");
            // Unless no number was left for its restart.
            let ahead = replica.ahead(self.now);
            prop_assert!(
                ahead <= self.window || self.numbers + 1 == REPLICAS || !replica.is_right(),
                "{:?} ahead of the time",
                ahead
            );
        }
        for client in &self.clients {
            client.has(&truth, &remote)?;
        }
        Ok(self.clients.into_iter().filter_map(Client::outcomes).collect())
    }

    /// Restarts a replica with a new number, as long as there is one: versions have room for [`REPLICAS`].
    fn restart(&mut self, who: usize, skew: i64) {
        if self.numbers + 1 < REPLICAS {
            let truth = self.truth.clone();
            self.numbers += 1;
            self.replicas[who] =
                Replica::new(self.numbers, skew, self.window, self.now, &self.history, truth, &self.remote);
            self.clients.iter_mut().for_each(|client| client.cut_from(who));
        }
    }

    fn replica(&self, who: usize) -> usize {
        who % self.replicas.len()
    }

    fn commit(&mut self, kind: Kind, key: u8, value: Option<u8>) {
        self.truth.put(kind, key, value);
        self.history.push(Commit { at: self.now, kind, key, value });
    }

    /// Restores the cluster from a backup: replicas find that their resourceVersions are unknown, and list.
    fn restore(&mut self, commits: usize) {
        let mut objects = Objects::default();
        objects.put(Kind::Subject, 0, Some(1));
        objects.put(Kind::Cause, 1, Some(1));
        let kept = self.history.len().saturating_sub(commits);
        for commit in &self.history[..kept] {
            objects.put(commit.kind, commit.key, commit.value);
        }
        for kind in [Kind::Subject, Kind::Cause] {
            for key in 0..8 {
                if objects.value(kind, key) != self.truth.value(kind, key) {
                    self.commit(kind, key, objects.value(kind, key));
                }
            }
        }
        self.torn.push(self.history.len());
    }

    /// The position of a replica after `count` more commits of a kind.
    fn after(&self, who: usize, kind: usize, count: usize) -> usize {
        let seen = self.replicas[who].seen[kind];
        let mut news = (seen..self.history.len()).filter(|at| self.history[*at].kind as usize == kind);
        if count == 0 { seen } else { news.nth(count - 1).map_or(self.history.len(), |last| last + 1) }
    }

    fn deliver(&mut self, who: usize, until: [usize; 2]) {
        let replica = &mut self.replicas[who];
        let tear = self.torn.last().copied().unwrap_or_default();
        if replica.seen.iter().zip(until).any(|(seen, until)| *seen < tear && until > *seen) {
            for kind in [Kind::Subject, Kind::Cause] {
                replica.relist(kind, &self.history, &self.truth);
            }
        } else {
            replica.deliver(&self.history, until);
        }
    }

    fn heal(&mut self, who: usize) {
        let replica = &mut self.replicas[who];
        if replica.cut_off.take().is_some_and(|since| self.now >= since + LAG) {
            replica.resumed = Some(self.now);
        }
    }

    /// Lets time pass. Replicas observe what is due by then, and notice that they are cut off or connected
    /// again.
    fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            let next = end.min(self.now + LAG / 4);
            for who in 0..self.replicas.len() {
                let replica = &mut self.replicas[who];
                replica.remote.deliver_until(&self.remote, next.saturating_sub(LAG), &replica.cache);
                match (replica.cut_off, replica.resumed) {
                    (Some(since), _) => {
                        if next >= since + LAG {
                            replica.resumed = None;
                            replica.trouble(true);
                        }
                        continue;
                    }
                    (None, Some(since)) if next < since + LAG => continue,
                    _ => {}
                }
                let due = self.history.partition_point(|commit| commit.at + LAG <= next);
                self.deliver(who, [due, due]);
                let replica = &mut self.replicas[who];
                if replica.resumed.take().is_some() {
                    replica.trouble(false);
                }
                replica.hear();
                if replica.cache.clock().is_too_far_ahead() {
                    let skew = replica.skew;
                    self.restart(who, skew);
                }
            }
            self.now = next;
            self.replicas.iter().for_each(|replica| replica.tell_time(next));
        }
    }
}
