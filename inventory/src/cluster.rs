//! The observed state of one cluster, as its readers see it.
//!
//! **Invariant:** only the [`Inventory`](crate::Inventory) changes a cluster.

use gatehouse_apiservice::denial::Denier;

use crate::{
    ArgoTally, GameNumbers, KindStatus, Layer, Liveness, Mode, ObjectKey, Problems, Record, Reference,
    Registration, Seconds, Str, Validity,
    below::Below,
    catalogue::KindId,
    graph::{Cycle, Graph, Place},
    managers::Managers,
    records::{self, Records},
    relations::Relations,
    tally::{GameTally, Tallies, Tally},
};

/// A cluster is stale if it has not answered for this long, and a kind if its watch has failed for this long. That is
/// several heartbeats of five seconds, so that a restart of an API server behind a load balancer has no effect.
pub const STALE_AFTER: Seconds = 30;

/// The observed state of one cluster.
#[derive(Debug)]
pub struct Cluster {
    /// The name; `local` is the cluster that serves this API.
    pub name: Str,
    pub(crate) records: Records,
    kinds: Vec<Kind>,
    pub(crate) graph: Graph,
    pub(crate) relations: Relations,
    pub(crate) below: Below,
    pub(crate) managers: Managers,
    pub(crate) tallies: Tallies,
    pub(crate) contact: Contact,
    /// When it was added to the inventory.
    pub(crate) added: Seconds,
    pub(crate) fresh: bool,
    pub(crate) fresh_since: Seconds,
    pub(crate) last_event: Seconds,
    /// When the oldest change happened that some row does not show yet; `None` if all rows are up to date.
    pub(crate) behind_since: Option<Seconds>,
    /// The largest acceptable delay between a change in the cluster and its appearance in the rows.
    pub(crate) lag: Seconds,
    /// Who registered it; `None` for the cluster that serves this API.
    pub(crate) registration: Option<Box<Registration>>,
    /// How it is observed.
    pub(crate) mode: Mode,
    /// When `registration` last changed.
    pub(crate) registered: Seconds,
    /// Whether its credential expires soon.
    pub(crate) validity: Validity,
    /// Registrations that are ignored.
    pub(crate) ignored: Vec<Str>,
    /// What is not known because of how the cluster is observed.
    pub(crate) lacks: Vec<Str>,
    /// Whether it is no longer registered, and nothing of it is known.
    pub(crate) removed: bool,
}

/// The state of the observation of a kind.
#[derive(Debug, Default)]
pub(crate) struct Kind {
    pub(crate) status: Option<KindStatus>,
    pub(crate) failing_since: Option<Seconds>,
    /// The number of [`Event::Restart`](crate::Event::Restart)s. After [`Event::Synced`](crate::Event::Synced), a
    /// record of an older pass belongs to a deleted object.
    pub(crate) pass: u32,
    /// Whether a list has been completed.
    pub(crate) synced: bool,
    pub(crate) stale: bool,
    /// When `stale` last changed.
    pub(crate) turned: Seconds,
    /// Whether a list is in progress.
    pub(crate) listing: bool,
    /// When its watch resumed after a failure, or after a silence longer than the lag. `None` once a list is complete.
    pub(crate) resumed: Option<Seconds>,
    /// When its source last reported that it is up to date; `None` if the source never does.
    current: Option<Seconds>,
}

/// Why recent changes of a cluster may be unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCurrent {
    /// The cluster does not answer.
    Silent,
    /// The watch of a kind has sent neither events nor bookmarks for too long.
    Quiet(KindId),
    /// The kind is not listed yet, or its watch fails or has just resumed and may have events outstanding.
    Behind(KindId),
    /// The inventory has not computed yet which rows earlier changes affect.
    Busy,
}

/// When the API server last answered, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contact {
    /// When the last successful answer arrived; `None` before the first one.
    pub last_heard: Option<Seconds>,
    /// The error of the last attempt; `None` if it succeeded.
    pub silent: Option<Str>,
    /// Whether that error is an answer, which says that the credential is not valid.
    pub unauthenticated: bool,
    /// Since when the API server has answered, or has failed to.
    pub since: Seconds,
    /// `gitVersion` of its API server.
    pub version: Option<Str>,
    /// How many seconds our clock was ahead of the cluster's when it was last measured.
    pub ahead: Option<Seconds>,
}

/// What is known of the object that an entry of `dependsOn` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependency<'a> {
    /// The object exists.
    Is(&'a Record),
    /// The object does not exist, although its kind is observed.
    Missing,
    /// Unknown, since its kind is not in the catalogue, not listed yet or forbidden.
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
            below: Below::default(),
            managers: Managers::default(),
            tallies: Tallies::default(),
            contact: Contact { since: now, ..Contact::default() },
            added: now,
            fresh: true,
            fresh_since: now,
            last_event: now,
            behind_since: None,
            lag: STALE_AFTER,
            registration: None,
            mode: Mode::default(),
            registered: now,
            validity: Validity::default(),
            ignored: Vec::new(),
            lacks: Vec::new(),
            removed: false,
        }
    }

    /// Who registered the cluster, and whether it is observed; `None` for the one that serves this API.
    pub fn registration(&self) -> Option<&Registration> {
        self.registration.as_deref()
    }

    /// How a remote cluster is observed.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What is not known of the cluster because of how it is observed.
    pub fn lacks(&self) -> &[Str] {
        &self.lacks
    }

    /// When what is known of the registration last changed.
    pub fn registered_since(&self) -> Seconds {
        self.registered
    }

    /// Whether the credential expires soon, or has expired.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Registrations that are ignored, each with the reason.
    pub fn ignored(&self) -> &[Str] {
        &self.ignored
    }

    /// Whether the cluster is no longer registered. Its rows are to be deleted.
    pub fn is_removed(&self) -> bool {
        self.removed
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

    /// The Applications of Argo CD in a namespace; `None` if it has none.
    pub fn applications(&self, namespace: &str) -> Option<&ArgoTally> {
        self.tallies.applications.get(namespace)
    }

    /// What the servers of a fleet or set add to the numbers that it reports itself.
    pub fn servers_of(&self, fleet: &ObjectKey) -> GameNumbers {
        self.tallies.fleets.get(fleet).map_or_else(GameNumbers::default, |servers| servers.numbers)
    }

    /// The counts over a layer.
    pub fn layer(&self, layer: Layer) -> &Tally {
        &self.tallies.layers[layer as usize]
    }

    /// The problems of the cluster.
    pub fn problems(&self) -> &Problems {
        &self.tallies.problems.all
    }

    /// The problems of a namespace; `None` if it has none.
    pub fn problems_in(&self, namespace: &str) -> Option<&Problems> {
        self.tallies.problems.namespaces.get(namespace)
    }

    /// The kubelet versions of the cluster's nodes, and how many nodes have each.
    pub fn kubelet_versions(&self) -> impl ExactSizeIterator<Item = (&Str, u32)> {
        self.tallies.kubelet_versions.iter().map(|(version, nodes)| (version, *nodes))
    }

    /// How many objects a quota or policy holds back.
    pub fn held_back(&self, by: &Denier<Str>) -> u32 {
        self.tallies.held_back.get(by).copied().unwrap_or_default()
    }

    /// How many objects name `key` in their `dependsOn`.
    pub fn dependents(&self, key: &ObjectKey) -> usize {
        self.graph.dependents(key)
    }

    /// The generator whose `spec.artifacts` names the object, whether or not the object exists.
    pub(crate) fn maker(&self, key: &ObjectKey) -> Option<&ObjectKey> {
        self.graph.maker(key)
    }

    /// The object's depth and cycle in the graph of `dependsOn`.
    pub fn place(&self, key: &ObjectKey) -> Place {
        self.graph.place(key)
    }

    /// The cycle that an object is in; a long one is named in part.
    pub fn cycle(&self, key: &ObjectKey) -> Option<Cycle<'_>> {
        self.graph.cycle(key)
    }

    /// What is known of the object that an entry of `dependsOn` names.
    pub fn dependency(&self, reference: &Reference) -> Dependency<'_> {
        let Reference::Known(key) = reference else { return Dependency::Unseen };
        match self.record(key) {
            Some(record) => Dependency::Is(record),
            None if self.is_watched(key.kind) => Dependency::Missing,
            None => Dependency::Unseen,
        }
    }

    /// The last status that the source reported for a kind; `None` before the first.
    pub fn kind_status(&self, kind: KindId) -> Option<&KindStatus> {
        self.kind_state(kind).status.as_ref()
    }

    /// Whether all objects of the kind are known, so that one without a record does not exist.
    pub fn is_watched(&self, kind: KindId) -> bool {
        self.is_settled(kind)
            && matches!(self.kind_status(kind), Some(KindStatus::Served { .. } | KindStatus::Absent))
    }

    /// Whether the kind is settled: its objects have been listed, or it is absent or forbidden.
    pub fn is_settled(&self, kind: KindId) -> bool {
        let state = self.kind_state(kind);
        match state.status {
            Some(KindStatus::Absent | KindStatus::Forbidden { .. }) => true,
            Some(KindStatus::Served { .. } | KindStatus::Failing { .. }) => state.synced,
            None => false,
        }
    }

    /// Checks that the rows show all changes that happened up to [the lag](crate::Inventory::with_lag) before `now`, as
    /// far as their kinds may be read.
    pub fn is_current(&self, now: Seconds) -> Result<(), NotCurrent> {
        // Two delays add up: that of the watch, and that of the rows.
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
            // A watch that has resumed needs time to deliver the events of its outage.
            if !is_told || kind.resumed.is_some_and(|resumed| now - resumed < self.lag) {
                return Err(NotCurrent::Behind(id));
            }
        }
        Ok(())
    }

    /// How many seconds our clock is ahead of the cluster's, if that is more than is acceptable.
    pub fn clock_error(&self) -> Option<Seconds> {
        // A quarter of the lag, and one second, which is the resolution of the measurement.
        self.contact.ahead.filter(|ahead| ahead.abs() > self.lag / 4 + 1)
    }

    /// How many seconds ago the API server last answered, and which served kind has been silent for longest, with its
    /// seconds.
    pub fn silence(&self, now: Seconds) -> (Seconds, Option<(KindId, Seconds)>) {
        let served = (0..).map(KindId).zip(&self.kinds);
        let served = served.filter(|(_, kind)| matches!(kind.status, Some(KindStatus::Served { .. })));
        let kinds = served.filter_map(|(id, kind)| Some((id, now - kind.current?)));
        (now - self.contact.last_heard.unwrap_or(self.added), kinds.max_by_key(|(_, silence)| *silence))
    }

    /// When the API server last answered, and how.
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    /// Whether the API server answered within [`STALE_AFTER`], and since when that is or is not so.
    pub fn freshness(&self) -> (bool, Seconds) {
        (self.fresh, self.fresh_since)
    }

    /// Whether the records of all these kinds are fresh, and since when that is or is not so.
    pub fn freshness_of(&self, kinds: impl IntoIterator<Item = KindId>) -> (bool, Seconds) {
        let kinds = kinds.into_iter().map(|kind| self.kind_state(kind)).map(|kind| (kind.stale, kind.turned));
        let turns: Vec<_> = kinds.chain([(!self.fresh, self.fresh_since)]).collect();
        let stale = turns.iter().filter(|(stale, _)| *stale).map(|(_, turned)| *turned).min();
        let last = turns.iter().map(|(_, turned)| *turned).max();
        (stale.is_none(), stale.or(last).unwrap_or(self.fresh_since))
    }

    /// Whether the records of a kind are fresh.
    pub fn is_fresh(&self, kind: KindId) -> bool {
        self.fresh && !self.kind_state(kind).stale
    }

    /// When a change was last observed.
    pub fn last_event(&self) -> Seconds {
        self.last_event
    }
}

impl Kind {
    /// Records an event of the kind.
    pub(crate) fn observed(&mut self, now: Seconds, lag: Seconds) {
        if self.current.is_some() {
            self.current(now, lag);
        }
    }

    /// Records that the kind is up to date. After a silence longer than the lag, events may still be outstanding.
    pub(crate) fn current(&mut self, now: Seconds, lag: Seconds) {
        if self.current.is_some_and(|current| now - current > lag) {
            self.resumed = Some(now);
        }
        self.current = Some(now);
    }
}

impl Contact {
    /// Applies an answer or its absence. Returns whether readers can see a difference.
    pub(crate) fn update(&mut self, liveness: Liveness, now: Seconds) -> bool {
        let before = self.clone();
        let was_silent = before.silent.is_some();
        match liveness {
            Liveness::Alive { version, ahead } => {
                (self.last_heard, self.silent, self.version) = (Some(now), None, version);
                self.ahead = ahead.or(self.ahead);
                self.unauthenticated = false;
            }
            Liveness::Silent { message } => (self.silent, self.unauthenticated) = (Some(message), false),
            Liveness::Lost { since, message } => {
                (self.last_heard, self.silent, self.unauthenticated) = (Some(since), Some(message), false);
                self.since = since;
                return before != *self;
            }
            Liveness::Unauthenticated { message } => {
                (self.silent, self.unauthenticated) = (Some(message), true);
            }
        }
        if self.silent.is_some() != was_silent {
            self.since = now;
        }
        // The first answer is news, too, even if it says nothing.
        (before.last_heard.is_some(), &before.silent, before.unauthenticated, &before.version)
            != (self.last_heard.is_some(), &self.silent, self.unauthenticated, &self.version)
    }
}
