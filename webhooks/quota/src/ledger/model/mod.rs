//! Tests the ledger against a model of the API server, of replicas, and of clients that edit ledgers by hand.
//!
//! The model includes the difficulties of a real cluster:
//! - an update is written only at the revision that admission was shown;
//! - requests are admitted and then written late, or never, or reviewed again, twice, by several replicas with old
//!   copies of the ledger;
//! - a write of the ledger is not answered, and still done, at once or later;
//! - replicas die and return, pause, and observe each kind at their own speed, single objects ahead of the rest (as in
//!   the middle of a list), or start again from an old list;
//! - any of them settles, two at a time; some are of a version without blocks;
//! - somebody edits the ledger by hand, restores an old state, or deletes it;
//! - each replica has its own clock.
//!
//! `GATEHOUSE_LONG=1` runs a hundred times as many cases.

mod cases;
mod editor;
mod found;
pub(super) mod older;
mod replica;
mod requests;
mod settling;
mod view;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gatehouse_apiservice::{policy::QuotaLedgerSpec, quantity::Quantity};
use proptest::prelude::*;

use self::{
    older::Older,
    replica::{Fault, Replica},
    requests::{Request, Stage},
    view::View,
};
use super::*;

/// A request is written no later than this after it began: kube-apiserver's `--request-timeout`, and a little more.
const REQUEST: u32 = 70;
/// The settler's patience.
const PATIENCE: u32 = 75;
/// Two kinds of objects, and namespaces.
const KINDS: usize = 3;
const NAMESPACES: usize = 2;
const REPLICAS: usize = 3;

fn resource(kind: usize) -> GroupResource {
    [
        GroupResource::new("a.io", "ones"),
        GroupResource::new("b.io", "twos"),
        GroupResource::new("", "namespaces"),
    ][kind]
        .clone()
}

fn hard() -> BTreeMap<Dimension, Quantity> {
    [(Dimension::GameServers, 10), (Dimension::Players, 14)]
        .map(|(dimension, limit)| (dimension, Quantity::from_integer(limit)))
        .into()
}

fn amounts(servers: u8, players: u8) -> Amounts {
    [(Dimension::GameServers, servers), (Dimension::Players, players)]
        .map(|(dimension, quantity)| (dimension, Quantity::from_integer(quantity.into())))
        .into_iter()
        .collect()
}

fn seconds(now: u32) -> Duration {
    Duration::from_secs(now.into())
}

#[derive(Debug, Clone)]
struct Object {
    kind: usize,
    namespace: usize,
    revision: u64,
    usage: Amounts,
}

/// A write: the object's new state, or its deletion.
#[derive(Debug, Clone)]
struct Event {
    revision: u64,
    kind: usize,
    uid: Arc<str>,
    object: Option<Object>,
}

/// The QuotaLedger in etcd.
#[derive(Debug, Clone)]
struct Stored {
    version: u64,
    uid: String,
    generation: i64,
    spec: QuotaLedgerSpec,
}

impl Stored {
    fn place(&self) -> Place<'_> {
        Place { uid: &self.uid, generation: self.generation }
    }

    fn read(&self) -> Result<Ledger, LedgerError> {
        Ledger::read(&self.spec, self.place())
    }
}

/// A write that was not answered, and may still be done.
#[derive(Debug, Clone)]
struct Delayed {
    version: u64,
    spec: QuotaLedgerSpec,
}

/// The state of a run, except for the replicas with blocks.
#[derive(Debug, Clone, Copy)]
struct Run {
    forced: bool,
    older: bool,
    editor: bool,
    fault: Option<Fault>,
}

struct World {
    now: u32,
    revision: u64,
    objects: BTreeMap<Arc<str>, Object>,
    history: Vec<Event>,
    requests: Vec<Request>,
    uids: u32,
    /// Versions of the ledger so far.
    versions: u64,
    stored: Option<Stored>,
    /// Every state of the ledger, as far back as the API server knows them.
    states: Vec<Stored>,
    /// Some earlier states of the ledger, to be restored by hand.
    backups: Vec<Stored>,
    delayed: Vec<Delayed>,
    replicas: Vec<Replica>,
    lives: u32,
    older: Older,
    run: Run,
    /// Whether a request was denied although there was room.
    wrongly_refused: bool,
}

type Step = (u8, u8, u8, u8);

fn spec(ledger: &Ledger, place: Option<Place<'_>>) -> QuotaLedgerSpec {
    serde_json::from_value(serde_json::to_value(ledger.written(place)).unwrap()).unwrap()
}

impl World {
    fn new(run: Run) -> Self {
        let mut world = Self {
            now: 0,
            revision: 0,
            objects: BTreeMap::new(),
            history: Vec::new(),
            requests: Vec::new(),
            uids: 0,
            versions: 0,
            stored: None,
            states: Vec::new(),
            backups: Vec::new(),
            delayed: Vec::new(),
            replicas: Vec::new(),
            lives: 0,
            older: Older::default(),
            run,
            wrongly_refused: false,
        };
        world.make_namespace(0);
        for _ in 0..REPLICAS {
            let replica = world.born();
            world.replicas.push(replica);
        }
        world.make_ledger(&Ledger::new("quota"));
        for replica in 0..REPLICAS {
            world.catch_up(replica, KINDS);
        }
        world
    }

    /// Creates the ledger's object. Until it has a uid to be sealed to, nobody reserves anything in it.
    fn make_ledger(&mut self, ledger: &Ledger) {
        let mut unsealed = Ledger::new("quota");
        unsealed.break_seal();
        self.create(&unsealed);
        let Some(stored) = self.stored.clone() else { return };
        self.swap(stored.version, spec(ledger, Some(stored.place())));
    }

    fn create(&mut self, ledger: &Ledger) {
        self.versions += 1;
        let uid = format!("ledger-{}", self.versions);
        self.store(Some(Stored { version: self.versions, uid, generation: 1, spec: spec(ledger, None) }));
    }

    /// Records the object's new state.
    fn store(&mut self, stored: Option<Stored>) {
        self.states.extend(stored.clone());
        self.stored = stored;
    }

    fn make_namespace(&mut self, namespace: usize) {
        let uid: Arc<str> = format!("namespace-{namespace}").into();
        let object =
            Object { kind: NAMESPACES, namespace, revision: self.revision + 1, usage: Amounts::default() };
        self.write(&uid, NAMESPACES, Some(object));
    }

    fn write(&mut self, uid: &Arc<str>, kind: usize, object: Option<Object>) {
        self.revision += 1;
        match &object {
            Some(object) => self.objects.insert(Arc::clone(uid), object.clone()),
            None => self.objects.remove(uid),
        };
        self.history.push(Event { revision: self.revision, kind, uid: Arc::clone(uid), object });
    }

    /// Replaces the ledger's spec, if it is still the one of `version`.
    fn swap(&mut self, version: u64, spec: QuotaLedgerSpec) -> bool {
        let Some(stored) = self.stored.clone().filter(|stored| stored.version == version) else {
            return false;
        };
        self.versions += 1;
        let generation = stored.generation + i64::from(stored.spec != spec);
        self.store(Some(Stored { version: self.versions, generation, spec, ..stored }));
        true
    }

    fn pick(&self, index: u8) -> Option<(Arc<str>, Object)> {
        let ours: Vec<_> = self.objects.iter().filter(|(_, object)| object.kind != NAMESPACES).collect();
        let (uid, object) = ours.get(usize::from(index) % ours.len().max(1))?;
        Some((Arc::clone(uid), (*object).clone()))
    }

    fn step(&mut self, (action, a, b, c): Step) {
        let replica = usize::from(a) % REPLICAS;
        match action % 30 {
            0 | 1 => self.ask_to_create(a, b, c),
            2 | 3 => self.ask_to_update(a, b, c),
            4..=6 => self.review(&[b], replica, c),
            7 => self.review(&[b, c], replica, b),
            8 | 9 => self.commit(a),
            10 => self.give_up(a, b),
            11 => {
                if let Some((uid, object)) = self.pick(a) {
                    self.write(&uid, object.kind, None);
                }
            }
            12 => self.advance(replica, usize::from(b) % KINDS, usize::from(c) % 8),
            13 => self.see_ahead(replica, b),
            14 | 15 => self.settle(replica),
            16 if b % 4 == 0 => self.begin_anew(replica, c),
            16 => self.meet(replica),
            17 | 18 => self.make(a, b, c),
            19 => self.catch_up(replica, usize::from(b)),
            20 => {
                self.ask_to_update(a, b, c);
                if let Some(last) = self.requests.len().checked_sub(1) {
                    self.review_one(last, usize::from(c) % REPLICAS);
                }
            }
            21 if self.objects.keys().all(|uid| **uid != *"namespace-1") && a % 16 == 0 => {
                self.make_namespace(1);
            }
            21 => self.now += u32::from(b % 40),
            22 if b.is_multiple_of(4) => self.wait_out(replica),
            22 => self.now += u32::from(b % 8),
            23 => self.read_expired(replica),
            24 => self.answer(replica, b),
            25 => self.give_back(replica, b),
            26 if a % 4 == 0 => self.die(usize::from(b) % REPLICAS),
            26 => self.land(b),
            27 => self.read_dead(replica),
            28 if self.run.older => self.older_step(a, b, c),
            29 if self.run.editor => self.edit(a, b),
            _ => self.now += u32::from(b % 3),
        }
    }

    /// Enough time passes that a replica which has observed everything considers a silent replica dead.
    fn wait_out(&mut self, replica: usize) {
        self.meet(replica);
        self.now += PATIENCE + 20;
        self.read_dead(replica);
        self.catch_up(replica, KINDS);
    }

    /// Carries out an unanswered write of the ledger.
    fn land(&mut self, index: u8) {
        if self.delayed.is_empty() {
            return;
        }
        let Delayed { version, spec } = self.delayed.remove(usize::from(index) % self.delayed.len());
        self.swap(version, spec);
    }

    fn usage(&self) -> Amounts {
        self.objects.values().fold(Amounts::default(), |sum, object| sum.saturating_add(&object.usage))
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let usage = self.usage();
        let ledger = self.stored.as_ref().and_then(|stored| stored.read().ok());
        prop_assert!(
            !self.wrongly_refused || self.run.editor || self.run.older,
            "refused, and there was room"
        );
        let trusted = ledger.filter(|ledger| !self.run.editor && ledger.seal() != Seal::Broken);
        for (dimension, limit) in hard() {
            let usage = usage.get(&dimension);
            if let Some(ledger) = &trusted {
                let used = ledger.used().get(&dimension).copied().unwrap_or_default();
                let promised = ledger.promised().get(&dimension);
                prop_assert!(
                    usage <= used.checked_add(promised).unwrap(),
                    "{dimension}: {usage} is used, {used} counted and {promised} promised",
                );
            }
            prop_assert!(self.run.forced || usage <= limit, "{dimension}: {usage} is used of {limit}");
        }
        Ok(())
    }

    /// No more requests are made; everything is observed, and all waits expire.
    fn quiesce(&mut self) {
        self.requests.clear();
        self.delayed.clear();
        for _ in 0..4 {
            for replica in 0..REPLICAS {
                self.catch_up(replica, KINDS);
                self.read_expired(replica);
                self.read_dead(replica);
                self.settle(replica);
                self.meet(replica);
                self.give_back(replica, 1);
            }
            self.now += PATIENCE + 20;
        }
        self.catch_up(0, KINDS);
    }
}
