//! Counts over sets of records, updated incrementally.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use gatehouse_apiservice::denial::Denier;

use crate::{
    ArgoTally, Counts, Detail, Engine, GameKind, GameNumbers, Layer, ObjectKey, Record, Seconds, State, Str,
    catalogue::{Kind, KindId},
    problems::ProblemTallies,
};

/// Counts by kind and state, and the failures in order.
#[derive(Debug, Default)]
pub struct Tally {
    kinds: BTreeMap<KindId, Counts>,
    failures: BTreeSet<Rank>,
}

/// The order of failures: the most severe state first, then the oldest, then by key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    state: Reverse<State>,
    /// [`Seconds::MAX`] if unknown.
    since: Seconds,
    pub(crate) key: ObjectKey,
}

impl Rank {
    /// The rank of a record by the outcome of its last attempt, whether or not that is a failure.
    pub(crate) fn by_outcome(record: &Record) -> Self {
        Self {
            state: Reverse(record.verdict.outcome()),
            since: record.verdict.outcome_since().unwrap_or(Seconds::MAX),
            key: record.key.clone(),
        }
    }

    fn of(record: &Record) -> Option<Self> {
        record.verdict.outcome().is_failure().then(|| Self::by_outcome(record))
    }
}

impl Tally {
    pub(crate) fn add(&mut self, record: &Record, state: State) {
        self.kinds.entry(record.key.kind).or_default().add(state);
        // A failed object that is being retried counts as failed until the attempt ends, so that lists of failures are
        // stable.
        self.failures.extend(Rank::of(record));
    }

    /// Removes a record that was added with the same state.
    pub(crate) fn remove(&mut self, record: &Record, state: State) {
        if let Some(counts) = self.kinds.get_mut(&record.key.kind) {
            counts.remove(state);
            if counts.total() == 0 {
                self.kinds.remove(&record.key.kind);
            }
        }
        if let Some(rank) = Rank::of(record) {
            self.failures.remove(&rank);
        }
    }

    /// The kinds that are present, with their counts.
    pub fn kinds(&self) -> impl Iterator<Item = (KindId, &Counts)> {
        self.kinds.iter().map(|(kind, counts)| (*kind, counts))
    }

    /// The counts of a kind.
    pub fn kind(&self, kind: KindId) -> Counts {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }

    /// The counts over all kinds.
    pub fn counts(&self) -> Counts {
        self.kinds.values().copied().sum()
    }

    /// The most severe state of any object, where a failed one that is being retried counts as failed.
    pub fn worst(&self) -> Option<State> {
        let failure = self.failures.first().map(|rank| rank.state.0);
        failure.max(self.counts().worst())
    }

    /// Whether no object is counted.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The failures, the most severe first.
    pub fn failures(&self) -> impl ExactSizeIterator<Item = &ObjectKey> {
        self.failures.iter().map(|rank| &rank.key)
    }

    /// The failure that has lasted longest, of those with a known time.
    pub fn oldest_failure(&self) -> Option<&ObjectKey> {
        // Within a state the oldest comes first, so only the first of each state has to be compared.
        let heads = State::ALL.into_iter().filter(|state| state.is_failure()).filter_map(|state| {
            let from = self.failures.range(first_of(state)..).next();
            from.filter(|rank| rank.state.0 == state && rank.since < Seconds::MAX)
        });
        heads.min_by_key(|rank| (rank.since, &rank.key)).map(|rank| &rank.key)
    }
}

/// The game servers and fleets of a namespace.
#[derive(Debug, Default)]
pub struct GameTally {
    /// All objects, those of a fleet included, by their current states.
    pub objects: Tally,
    /// The sum over the objects of each engine.
    numbers: [GameNumbers; Engine::ALL.len()],
    /// The number of objects of each engine.
    present: [u32; Engine::ALL.len()],
}

impl GameTally {
    /// The engines with objects, and the sum over these.
    pub fn engines(&self) -> impl Iterator<Item = (Engine, &GameNumbers)> {
        let present = Engine::ALL.into_iter().filter(|engine| self.present[*engine as usize] > 0);
        present.map(|engine| (engine, &self.numbers[engine as usize]))
    }

    fn add(&mut self, record: &Record, GameKind { engine, role }: GameKind) {
        self.objects.add(record, record.verdict.state);
        self.numbers[engine as usize] += GameNumbers::of(record, role);
        self.present[engine as usize] += 1;
    }

    fn remove(&mut self, record: &Record, GameKind { engine, role }: GameKind) {
        self.objects.remove(record, record.verdict.state);
        self.numbers[engine as usize] -= GameNumbers::of(record, role);
        self.present[engine as usize] -= 1;
    }
}

/// The servers of a fleet.
#[derive(Debug, Default)]
pub(crate) struct FleetTally {
    /// What they add to the numbers of the fleet.
    pub(crate) numbers: GameNumbers,
    servers: u32,
}

/// The tallies of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    /// Flux objects by namespace, in their current states.
    pub(crate) namespaces: HashMap<Str, Tally>,
    /// Game servers and fleets by namespace.
    pub(crate) games: HashMap<Str, GameTally>,
    /// Applications of Argo CD by namespace.
    pub(crate) applications: HashMap<Str, ArgoTally>,
    /// The servers of each fleet and set, whether or not that exists.
    pub(crate) fleets: HashMap<ObjectKey, FleetTally>,
    /// All objects by the layer that they count towards, with the outcome of their last attempt: a healthy layer stays
    /// healthy while a controller reconciles one of its objects.
    pub(crate) layers: [Tally; Layer::ALL.len()],
    /// Nodes by kubelet version.
    pub(crate) kubelet_versions: BTreeMap<Str, u32>,
    /// How many objects each quota and policy holds back.
    pub(crate) held_back: HashMap<Denier<Str>, u32>,
    /// The problems of the cluster and of its namespaces.
    pub(crate) problems: ProblemTallies,
}

impl Tallies {
    /// Adds a record of `kind`.
    pub(crate) fn add(&mut self, record: &Record, kind: &Kind) {
        self.problems.add(record, kind);
        if kind.is_flux() {
            let namespace = self.namespaces.entry(record.key.namespace.clone()).or_default();
            namespace.add(record, record.verdict.state);
        }
        if let Some(game) = kind.game {
            self.games.entry(record.key.namespace.clone()).or_default().add(record, game);
            if let Some((fleet, share)) = record.share_of_fleet(game) {
                let fleet = self.fleets.entry(fleet).or_default();
                fleet.numbers += share;
                fleet.servers += 1;
            }
        }
        if kind.is_application() {
            self.applications.entry(record.key.namespace.clone()).or_default().add(record);
        }
        if let Some(layer) = record.layer {
            self.layers[layer as usize].add(record, record.verdict.outcome());
        }
        if let Detail::Node { kubelet_version } = &record.detail {
            *self.kubelet_versions.entry(kubelet_version.clone()).or_default() += 1;
        }
        for denier in record.verdict.deniers() {
            *self.held_back.entry(denier.clone()).or_default() += 1;
        }
    }

    /// Removes a record, which must be the same as when it was added.
    pub(crate) fn remove(&mut self, record: &Record, kind: &Kind) {
        self.problems.remove(record, kind);
        if kind.is_flux()
            && let Some(namespace) = self.namespaces.get_mut(&record.key.namespace)
        {
            namespace.remove(record, record.verdict.state);
            if namespace.is_empty() {
                self.namespaces.remove(&record.key.namespace);
            }
        }
        if let Some(game) = kind.game
            && let Some(namespace) = self.games.get_mut(&record.key.namespace)
        {
            namespace.remove(record, game);
            if namespace.objects.is_empty() {
                self.games.remove(&record.key.namespace);
            }
            if let Some((key, share)) = record.share_of_fleet(game)
                && let Some(fleet) = self.fleets.get_mut(&key)
            {
                fleet.numbers -= share;
                fleet.servers -= 1;
                if fleet.servers == 0 {
                    self.fleets.remove(&key);
                }
            }
        }
        if kind.is_application()
            && let Some(namespace) = self.applications.get_mut(&record.key.namespace)
        {
            namespace.remove(record);
            if namespace.objects.is_empty() {
                self.applications.remove(&record.key.namespace);
            }
        }
        if let Some(layer) = record.layer {
            self.layers[layer as usize].remove(record, record.verdict.outcome());
        }
        if let Detail::Node { kubelet_version } = &record.detail
            && let Some(nodes) = self.kubelet_versions.get_mut(kubelet_version)
        {
            *nodes -= 1;
            if *nodes == 0 {
                self.kubelet_versions.remove(kubelet_version);
            }
        }
        for denier in record.verdict.deniers() {
            if let Some(objects) = self.held_back.get_mut(denier) {
                *objects -= 1;
                if *objects == 0 {
                    self.held_back.remove(denier);
                }
            }
        }
    }
}

/// A rank that sorts before all failures in `state`.
fn first_of(state: State) -> Rank {
    let key = ObjectKey::new(KindId(0), "", "");
    Rank { state: Reverse(state), since: Seconds::MIN, key }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    #[test]
    fn failures_come_gravest_first_and_the_oldest_is_found_among_all() {
        let mut tally = Tally::default();
        for (name, state, since) in [
            ("fresh-stall", State::Stalled, 300),
            ("old-block", State::Blocked, 10),
            ("older-fail", State::Failed, 100),
            ("newer-fail", State::Failed, 200),
            ("fine", State::Ready, 1),
        ] {
            tally.add(&record(name).state(state).since(since).build(), state);
        }
        let names: Vec<_> = tally.failures().map(|key| &*key.name).collect();
        assert_eq!(names, ["fresh-stall", "older-fail", "newer-fail", "old-block"]);
        assert_eq!(tally.oldest_failure().map(|key| &*key.name), Some("old-block"));
        assert_eq!((tally.counts().total(), tally.counts().of(State::Failed)), (5, 2));
    }

    #[test]
    fn what_was_added_and_removed_leaves_nothing() {
        let mut tally = Tally::default();
        let record = record("a").state(State::Failed).build();
        tally.add(&record, State::Failed);
        tally.remove(&record, State::Failed);
        assert!(tally.is_empty());
        assert_eq!((tally.failures().len(), tally.oldest_failure()), (0, None));
    }
}
