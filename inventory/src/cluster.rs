//! What is known of one cluster, for those who read it. The inventory alone changes it.

use crate::{
    KindStatus, Layer, Liveness, ObjectKey, Record, Reference, Seconds, Str,
    catalogue::KindId,
    graph::{Cycle, Graph, Place},
    records::{self, Records},
    relations::Relations,
    tally::{GameTally, Tallies, Tally},
};

/// A source that was not heard from for this long is stale: several heartbeats of five seconds, so that a
/// restart of an API server behind a load balancer goes unnoticed.
pub const STALE_AFTER: Seconds = 30;

/// What is known of one cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its name; `local` is the one that serves this API.
    pub name: Str,
    pub(crate) records: Records,
    kinds: Vec<Kind>,
    pub(crate) graph: Graph,
    pub(crate) relations: Relations,
    pub(crate) tallies: Tallies,
    pub(crate) contact: Contact,
    /// When it was added to the inventory.
    pub(crate) added: Seconds,
    pub(crate) fresh: bool,
    pub(crate) fresh_since: Seconds,
    pub(crate) last_event: Seconds,
    /// Since when something is known that some row does not show; `None` if rows show all that is.
    pub(crate) behind_since: Option<Seconds>,
    /// How far behind the cluster what is known of it may be.
    pub(crate) lag: Seconds,
}

/// How the observation of a kind stands.
#[derive(Debug, Default)]
pub(crate) struct Kind {
    pub(crate) status: Option<KindStatus>,
    pub(crate) failing_since: Option<Seconds>,
    /// Counts [`Event::Restart`](crate::Event::Restart); what a whole pass does not send is gone.
    pub(crate) pass: u32,
    /// Whether a whole pass has been seen.
    pub(crate) synced: bool,
    pub(crate) stale: bool,
    /// When `stale` last turned.
    pub(crate) turned: Seconds,
    /// Whether a pass has begun and not ended.
    pub(crate) listing: bool,
    /// Since when its watch stands again, if it went on from where it had come after a while.
    pub(crate) resumed: Option<Seconds>,
    /// When its source last said that all has been told; `None` if it is none that does.
    current: Option<Seconds>,
}

/// Why it cannot be said that all is known that has happened in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCurrent {
    /// It does not answer.
    Silent,
    /// The watch of a kind says nothing.
    Quiet(KindId),
    /// The watch of a kind fails, or has yet to make up for what happened meanwhile.
    Behind(KindId),
    /// What follows from what is known is not worked out.
    Busy,
}

/// What was last heard of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contact {
    /// When it last answered; `None` if it never has.
    pub last_heard: Option<Seconds>,
    /// Why it does not answer, if the last attempt failed.
    pub silent: Option<Str>,
    /// Since when it has answered, or has not.
    pub since: Seconds,
    /// `gitVersion` of its API server.
    pub version: Option<Str>,
    /// How many seconds our clock was ahead of the cluster's when that was last seen.
    pub ahead: Option<Seconds>,
}

/// What the object behind an entry of `dependsOn` is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependency<'a> {
    /// It is this object.
    Is(&'a Record),
    /// It does not exist, though its kind is observed.
    Missing,
    /// Its kind is not observed, or may not be.
    Unseen,
}

impl Cluster {
    pub(crate) fn new(name: Str, kinds: usize, now: Seconds) -> Self {
        Self {
            name,
            records: Records::new(),
            kinds: std::iter::repeat_with(Kind::default).take(kinds).collect(),
            graph: Graph::default(),
            relations: Relations::default(),
            tallies: Tallies::default(),
            contact: Contact { since: now, ..Contact::default() },
            added: now,
            fresh: true,
            fresh_since: now,
            last_event: now,
            behind_since: None,
            lag: STALE_AFTER,
        }
    }

    pub(crate) fn kind_mut(&mut self, kind: KindId) -> &mut Kind {
        &mut self.kinds[usize::from(kind.0)]
    }

    fn kind_state(&self, kind: KindId) -> &Kind {
        &self.kinds[usize::from(kind.0)]
    }

    /// The record of an object.
    pub fn record(&self, key: &ObjectKey) -> Option<&Record> {
        records::find(&self.records, key)
    }

    /// Every record, in no order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = &Record> {
        self.records.values().map(|entry| &*entry.record)
    }

    /// The counts over the Flux objects of a namespace; `None` if it has none.
    pub fn namespace(&self, name: &str) -> Option<&Tally> {
        self.tallies.namespaces.get(name)
    }

    /// The game servers and fleets of a namespace; `None` if it has none.
    pub fn games(&self, namespace: &str) -> Option<&GameTally> {
        self.tallies.games.get(namespace)
    }

    /// The counts over a layer.
    pub fn layer(&self, layer: Layer) -> &Tally {
        &self.tallies.layers[layer as usize]
    }

    /// The kubelet versions of its nodes, and how many nodes have each.
    pub fn kubelet_versions(&self) -> impl ExactSizeIterator<Item = (&Str, u32)> {
        self.tallies.kubelet_versions.iter().map(|(version, nodes)| (version, *nodes))
    }

    /// How many objects name `key` in their `dependsOn`.
    pub fn dependents(&self, key: &ObjectKey) -> usize {
        self.graph.dependents(key)
    }

    /// The generator that makes an object, whether or not it has been made.
    pub(crate) fn maker(&self, key: &ObjectKey) -> Option<&ObjectKey> {
        self.graph.maker(key)
    }

    /// Where an object stands in the graph of dependencies.
    pub fn place(&self, key: &ObjectKey) -> Place {
        self.graph.place(key)
    }

    /// The members of the cycle that an object is in; at most some of them.
    pub fn cycle(&self, key: &ObjectKey) -> Option<Cycle<'_>> {
        self.graph.cycle(key)
    }

    /// What an entry of `dependsOn` is doing.
    pub fn dependency(&self, reference: &Reference) -> Dependency<'_> {
        let Reference::Known(key) = reference else { return Dependency::Unseen };
        match self.record(key) {
            Some(record) => Dependency::Is(record),
            None if self.is_watched(key.kind) => Dependency::Missing,
            None => Dependency::Unseen,
        }
    }

    /// How a kind's observation stands; `None` before the source has said.
    pub fn kind_status(&self, kind: KindId) -> Option<&KindStatus> {
        self.kind_state(kind).status.as_ref()
    }

    /// Whether every object of the kind is known, so that an unknown one does not exist.
    pub(crate) fn is_watched(&self, kind: KindId) -> bool {
        self.is_settled(kind)
            && matches!(self.kind_status(kind), Some(KindStatus::Served { .. } | KindStatus::Absent))
    }

    /// Whether as much as can be is known of a kind: all of it, or that it cannot be seen.
    pub fn is_settled(&self, kind: KindId) -> bool {
        let state = self.kind_state(kind);
        match state.status {
            Some(KindStatus::Absent | KindStatus::Forbidden { .. }) => true,
            Some(KindStatus::Served { .. } | KindStatus::Failing { .. }) => state.synced,
            None => false,
        }
    }

    /// Whether all that happened in the cluster until as long ago as it [may be](crate::Inventory::with_lag) is known, as
    /// far as it may be read; or why not.
    pub fn is_current(&self, now: Seconds) -> Result<(), NotCurrent> {
        // Two delays in a row: what may be known late, and is shown later.
        let lag = self.lag - self.behind_since.map_or(0, |since| now - since);
        if lag < 0 {
            return Err(NotCurrent::Busy);
        }
        if self.contact.silent.is_some() || !self.fresh {
            return Err(NotCurrent::Silent);
        }
        for (id, kind) in (0..).map(KindId).zip(&self.kinds) {
            let is_told = match &kind.status {
                Some(KindStatus::Absent | KindStatus::Forbidden { .. }) => continue,
                Some(KindStatus::Served { .. }) => kind.synced && !kind.listing && !kind.stale,
                Some(KindStatus::Failing { .. }) | None => false,
            };
            if kind.current.is_some_and(|current| now - current > lag) {
                return Err(NotCurrent::Quiet(id));
            }
            // What has piled up while a watch was broken takes its time.
            if !is_told || kind.resumed.is_some_and(|resumed| now - resumed < self.lag) {
                return Err(NotCurrent::Behind(id));
            }
        }
        Ok(())
    }

    /// How many seconds our clock is ahead of the cluster's, if that is more than may be.
    pub fn clock_error(&self) -> Option<Seconds> {
        // A quarter of the lag, and what the resolution of a second hides.
        self.contact.ahead.filter(|ahead| ahead.abs() > self.lag / 4 + 1)
    }

    /// How long nothing has been heard at `now` of the cluster itself, and of the kind whose watch says least.
    pub fn silence(&self, now: Seconds) -> (Seconds, Option<(KindId, Seconds)>) {
        let served = (0..).map(KindId).zip(&self.kinds);
        let served = served.filter(|(_, kind)| matches!(kind.status, Some(KindStatus::Served { .. })));
        let kinds = served.filter_map(|(id, kind)| Some((id, now - kind.current?)));
        (now - self.contact.last_heard.unwrap_or(self.added), kinds.max_by_key(|(_, silence)| *silence))
    }

    /// What was last heard of the cluster.
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    /// Whether the cluster was heard from lately, and since when that has been so.
    pub fn freshness(&self) -> (bool, Seconds) {
        (self.fresh, self.fresh_since)
    }

    /// Whether what is known of all these kinds is up to date, and since when that has been so.
    pub fn freshness_of(&self, kinds: impl IntoIterator<Item = KindId>) -> (bool, Seconds) {
        let kinds = kinds.into_iter().map(|kind| self.kind_state(kind)).map(|kind| (kind.stale, kind.turned));
        let turns: Vec<_> = kinds.chain([(!self.fresh, self.fresh_since)]).collect();
        let stale = turns.iter().filter(|(stale, _)| *stale).map(|(_, turned)| *turned).min();
        let last = turns.iter().map(|(_, turned)| *turned).max();
        (stale.is_none(), stale.or(last).unwrap_or(self.fresh_since))
    }

    /// Whether what is known of a kind is up to date.
    pub fn is_fresh(&self, kind: KindId) -> bool {
        self.fresh && !self.kind_state(kind).stale
    }

    /// When anything was last observed to change.
    pub fn last_event(&self) -> Seconds {
        self.last_event
    }
}

impl Kind {
    /// Something of it was told.
    pub(crate) fn said(&mut self, now: Seconds, lag: Seconds) {
        if self.current.is_some() {
            self.current(now, lag);
        }
    }

    /// All of it was told, but what has piled up during a silence that was too long.
    pub(crate) fn current(&mut self, now: Seconds, lag: Seconds) {
        if self.current.is_some_and(|current| now - current > lag) {
            self.resumed = Some(now);
        }
        self.current = Some(now);
    }
}

impl Contact {
    /// Takes in a sign of life or its absence; whether it is anything new.
    pub(crate) fn hear(&mut self, heard: Liveness, now: Seconds) -> bool {
        let before = self.clone();
        let was_silent = before.silent.is_some();
        match heard {
            Liveness::Alive { version, ahead } => {
                (self.last_heard, self.silent, self.version) = (Some(now), None, version);
                self.ahead = ahead.or(self.ahead);
            }
            Liveness::Silent { message } => self.silent = Some(message),
        }
        if self.silent.is_some() != was_silent {
            self.since = now;
        }
        (&before.silent, &before.version) != (&self.silent, &self.version)
    }
}
