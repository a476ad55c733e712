//! The ledger against a model of the API server.
//!
//! The model has what makes the real one hard: an update is written only upon the revision that admission was shown;
//! requests are admitted and then written late, or never, or reviewed again, twice, by several replicas with old
//! copies of the ledger; those who settle watch each kind at a speed of their own, see single objects ahead of the
//! rest (as in the middle of a list), begin anew from an old list, and settle two at a time. The clock is everybody's
//! own.
//!
//! `GATEHOUSE_LONG=1` runs a hundred times as many cases.

mod settler;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gatehouse_apiservice::{policy::QuotaLedgerSpec, quantity::Quantity};
use proptest::prelude::*;

use self::settler::Settler;
use super::*;

/// No request is written later than this after it began: kube-apiserver's `--request-timeout`, and a little.
const REQUEST: u32 = 70;
/// The settler's patience.
const PATIENCE: u32 = 75;
/// Two kinds of objects, and namespaces.
const KINDS: usize = 3;
const NAMESPACES: usize = 2;

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

#[derive(Debug, Clone)]
struct Object {
    kind: usize,
    namespace: usize,
    revision: u64,
    usage: Amounts,
}

/// Something that was written: an object as it is since, or that it is gone.
#[derive(Debug, Clone)]
struct Event {
    revision: u64,
    kind: usize,
    uid: Arc<str>,
    object: Option<Object>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// To be reviewed.
    Fresh,
    /// May be written at any time, or never.
    Admitted(Option<i64>),
}

#[derive(Debug, Clone)]
struct Request {
    began: u32,
    stage: Stage,
    namespace: usize,
    kind: usize,
    proposal: Proposal,
}

struct World {
    now: u32,
    revision: u64,
    objects: BTreeMap<Arc<str>, Object>,
    history: Vec<Event>,
    requests: Vec<Request>,
    uids: u32,
    stored: (u64, Ledger),
    replicas: [(u64, Ledger); 2],
    settlers: [Settler; 2],
    forced: bool,
}

type Step = (u8, u8, u8, u8);

impl World {
    fn new(forced: bool) -> Self {
        let mut world = Self {
            now: 0,
            revision: 0,
            objects: BTreeMap::new(),
            history: Vec::new(),
            requests: Vec::new(),
            uids: 0,
            stored: (0, Ledger::new("quota")),
            replicas: Default::default(),
            settlers: Default::default(),
            forced,
        };
        world.make_namespace(0);
        world.settlers[0].ledger = world.stored.clone();
        world.advance(0, NAMESPACES, usize::MAX);
        world.settle(0);
        world.replicas = [world.stored.clone(), world.stored.clone()];
        world
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

    /// Replaces the ledger, if it is still the one of `version`. What is written is what is read.
    fn swap(&mut self, version: u64, ledger: &Ledger) -> bool {
        if self.stored.0 != version {
            return false;
        }
        let wire = serde_json::to_value(ledger).unwrap();
        let spec: QuotaLedgerSpec = serde_json::from_value(wire).unwrap();
        assert_eq!(&Ledger::try_from(&spec).unwrap(), ledger);
        self.stored = (version + 1, ledger.clone());
        true
    }

    fn pick(&self, index: u8) -> Option<(Arc<str>, Object)> {
        let ours: Vec<_> = self.objects.iter().filter(|(_, object)| object.kind != NAMESPACES).collect();
        let (uid, object) = ours.get(usize::from(index) % ours.len().max(1))?;
        Some((Arc::clone(uid), (*object).clone()))
    }

    fn request(&mut self, index: u8) -> Option<usize> {
        // What took too long is over, whatever it was admitted to.
        let now = self.now;
        self.requests.retain(|request| now - request.began <= REQUEST);
        (!self.requests.is_empty()).then(|| usize::from(index) % self.requests.len())
    }

    fn step(&mut self, (action, a, b, c): Step) {
        match action % 20 {
            0 | 1 => self.ask_to_create(a, b, c),
            2 | 3 => self.ask_to_update(a, b, c),
            4 | 5 => self.review(&[a], b, c),
            6 => self.review(&[a, b], c, 0),
            7 | 8 => self.commit(a),
            9 => self.give_up(a, b),
            10 => {
                if let Some((uid, object)) = self.pick(a) {
                    self.write(&uid, object.kind, None);
                }
            }
            11 => self.advance(usize::from(a) % 2, usize::from(b) % KINDS, usize::from(c) % 8),
            12 => self.see_ahead(usize::from(a) % 2, b),
            13 => self.settle(usize::from(a) % 2),
            14 if a % 4 == 0 => self.begin_anew(usize::from(b) % 2, c),
            14 if a % 4 == 1 => self.replicas[usize::from(b) % 2] = self.stored.clone(),
            14 => self.settlers[usize::from(b) % 2].ledger = self.stored.clone(),
            15 => self.make(a, b, c),
            16 => self.catch_up(usize::from(a) % 2, usize::from(b)),
            17 => {
                self.ask_to_update(a, b, c);
                if let Some(last) = self.requests.len().checked_sub(1) {
                    self.review_one(last, usize::from(c) % 2);
                }
            }
            _ if a % 16 == 0 && self.objects.keys().all(|uid| **uid != *"namespace-1") => {
                self.make_namespace(1);
            }
            _ if a % 2 == 0 => self.now += u32::from(b % 40),
            _ => self.read_expired(usize::from(b) % 2),
        }
    }

    /// A creation that goes through at once.
    fn make(&mut self, a: u8, servers: u8, players: u8) {
        self.ask_to_create(a, servers, players);
        let last = self.requests.len() - 1;
        self.review_one(last, usize::from(a) % 2);
        if let Ok(last) = u8::try_from(last) {
            self.commit(last);
        }
    }

    fn review_one(&mut self, index: usize, replica: usize) {
        if let (Ok(index), Ok(replica)) = (u8::try_from(index), u8::try_from(replica)) {
            self.review(&[index], replica, 1);
        }
    }

    fn ask_to_create(&mut self, a: u8, servers: u8, players: u8) {
        let labelled = self.objects.contains_key("namespace-1");
        self.uids += 1;
        let kind = usize::from(a) % 2;
        let proposal = Proposal {
            uid: format!("u{}", self.uids).into(),
            resource: resource(kind),
            namespace: "n".into(),
            name: "o".into(),
            at: None,
            old: Amounts::default(),
            new: amounts(servers % 7, players % 7),
            forced: self.forced,
        };
        let namespace = usize::from(labelled && a >= 128);
        self.requests.push(Request { began: self.now, stage: Stage::Fresh, namespace, kind, proposal });
    }

    /// Shown to admission as it is, or as it was: the API server may begin with what it has cached.
    fn ask_to_update(&mut self, index: u8, usage: u8, age: u8) {
        let Some((uid, object)) = self.pick(index) else { return };
        let known: Vec<&Object> = self
            .history
            .iter()
            .filter(|event| event.uid == uid)
            .filter_map(|event| event.object.as_ref())
            .collect();
        let shown = known[known.len() - 1 - usize::from(age % 4 / 2 * (age / 8)) % known.len()].clone();
        let proposal = Proposal {
            uid,
            resource: resource(object.kind),
            namespace: "n".into(),
            name: "o".into(),
            at: Some(shown.revision),
            old: shown.usage,
            new: amounts(usage % 8, usage / 8 % 8),
            forced: self.forced,
        };
        let Object { kind, namespace, .. } = object;
        self.requests.push(Request { began: self.now, stage: Stage::Fresh, namespace, kind, proposal });
    }

    /// Requests ride on one write together. Those that were admitted may be reviewed again.
    fn review(&mut self, which: &[u8], replica: u8, tries: u8) {
        let replica = usize::from(replica) % 2;
        for _ in 0..=(tries % 2) {
            let (version, mut ledger) = self.replicas[replica].clone();
            let mut stages = Vec::new();
            for index in which {
                let Some(index) = self.request(*index) else { continue };
                let stage = match ledger.propose(&self.requests[index].proposal, &hard()) {
                    Outcome::NoIncrease | Outcome::Superseded => Some(Stage::Admitted(None)),
                    Outcome::Charged(charged) => Some(Stage::Admitted(charged.receipt)),
                    Outcome::Exceeded(_) | Outcome::Untracked(_) | Outcome::Full => None,
                };
                stages.push((index, stage));
            }
            if ledger == self.replicas[replica].1 || self.swap(version, &ledger) {
                if ledger != self.replicas[replica].1 {
                    self.replicas[replica] = (version + 1, ledger);
                }
                let mut refused = BTreeSet::new();
                for (index, stage) in stages {
                    match stage {
                        Some(stage) => self.requests[index].stage = stage,
                        // A review that is refused does not undo one that was admitted.
                        None if self.requests[index].stage == Stage::Fresh => {
                            refused.insert(index);
                        }
                        None => {}
                    }
                }
                for index in refused.into_iter().rev() {
                    self.requests.remove(index);
                }
                return;
            }
            self.replicas[replica] = self.stored.clone();
        }
    }

    fn commit(&mut self, index: u8) {
        let Some(index) = self.request(index) else { return };
        let Request { stage: Stage::Admitted(_), namespace, kind, proposal, .. } =
            self.requests[index].clone()
        else {
            return;
        };
        let current = self.objects.get(&proposal.uid).cloned();
        match (proposal.at, current) {
            (None, None) => {}
            (Some(at), Some(object)) if object.revision == at => {}
            (Some(_), Some(object)) => {
                // A conflict: the request is tried, and reviewed, upon the object as it is.
                let request = &mut self.requests[index];
                request.stage = Stage::Fresh;
                request.proposal.at = Some(object.revision);
                request.proposal.old = object.usage;
                return;
            }
            (None, Some(_)) | (Some(_), None) => {
                self.requests.remove(index);
                return;
            }
        }
        self.requests.remove(index);
        let object = Object { kind, namespace, revision: self.revision + 1, usage: proposal.new };
        self.write(&proposal.uid, kind, Some(object));
    }

    /// A request ends unwritten. If another quota has refused it, its charge is taken back.
    fn give_up(&mut self, index: u8, how: u8) {
        let Some(index) = self.request(index) else { return };
        let request = self.requests.remove(index);
        let Stage::Admitted(Some(receipt)) = request.stage else { return };
        let (version, mut ledger) = self.stored.clone();
        if how.is_multiple_of(2) && ledger.withdraw(&request.proposal, receipt) {
            self.swap(version, &ledger);
        }
    }

    fn usage(&self) -> Amounts {
        self.objects.values().fold(Amounts::default(), |sum, object| sum.saturating_add(&object.usage))
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let usage = self.usage();
        let ledger = &self.stored.1;
        for (dimension, limit) in hard() {
            let (usage, used, charge) =
                (usage.get(&dimension), ledger.used()[&dimension], ledger.charge().get(&dimension));
            prop_assert!(
                usage <= used.checked_add(charge).unwrap(),
                "{}: {} is used, {} counted and {} charged",
                dimension,
                usage,
                used,
                charge
            );
            prop_assert!(self.forced || usage <= limit, "{}: {} is used of {}", dimension, usage, limit);
        }
        prop_assert_eq!(ledger.charge(), &Ledger::sum(&ledger.entries));
        Ok(())
    }

    /// Nobody asks for anything any more; everything is seen, and waited for.
    fn quiesce(&mut self) {
        self.requests.clear();
        for _ in 0..2 {
            for kind in 0..KINDS {
                self.advance(0, kind, usize::MAX);
            }
            self.settlers[0].ledger = self.stored.clone();
            self.read_expired(0);
            self.settle(0);
            self.now += PATIENCE + 1;
        }
    }
}

fn run(steps: &[Step], forced: bool) -> Result<(), TestCaseError> {
    let mut world = World::new(forced);
    world.check()?;
    for step in steps {
        world.step(*step);
        world.check()?;
    }
    world.quiesce();
    world.check()?;
    let usage = world.usage();
    for (dimension, used) in world.stored.1.used() {
        prop_assert_eq!(*used, usage.get(dimension));
    }
    prop_assert!(world.stored.1.is_empty(), "{:?}", world.stored.1);
    Ok(())
}

fn cases(short: u32) -> ProptestConfig {
    let cases = if std::env::var_os("GATEHOUSE_LONG").is_some() { short * 100 } else { short };
    ProptestConfig { cases, max_shrink_iters: 100_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn usage_never_exceeds_what_is_counted_and_charged_nor_the_limit(
        steps in prop::collection::vec(any::<Step>(), 1..160),
    ) {
        run(&steps, false)?;
    }
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn what_is_admitted_beyond_the_limit_is_charged_all_the_same(
        steps in prop::collection::vec(any::<Step>(), 1..160),
    ) {
        run(&steps, true)?;
    }
}
