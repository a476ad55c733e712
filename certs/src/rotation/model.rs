//! Checks the rotation's invariant against a model of all replicas and clients, under random events.
//!
//! Replicas follow the store, and clients the published bundles, both less than an overlap behind. Two objects publish
//! the bundle. Writes fail, the wall clock jumps, leaders change, and a former leader may still publish an old bundle.

use proptest::prelude::*;
use std::time::Instant;

use super::*;
use crate::expiry::Validity;

const OVERLAP: Duration = Duration::from_secs(10);
const CA_LIFETIME: Duration = Duration::from_mins(2);

#[derive(Debug, Clone)]
enum Event {
    Elapse(u64),
    Jump(i64),
    /// The leader observes, computes a step, writes it (if `is_saved`), and publishes the bundle in the objects for
    /// which `is_repaired` holds.
    Look {
        is_saved: bool,
        is_repaired: [bool; 2],
    },
    LeaderChange,
    /// The former leader publishes the bundle that it knew.
    Former {
        object: usize,
    },
}

/// All values so far, with the time from which each one held; the last one is current.
struct History<T>(Vec<(Instant, T)>);

impl<T> History<T> {
    fn new(now: Instant, value: T) -> Self {
        Self(vec![(now, value)])
    }

    fn latest(&self) -> &T {
        &self.0.last().expect("never empty").1
    }

    fn push(&mut self, now: Instant, value: T) {
        self.0.push((now, value));
    }

    /// All values that a follower may still use that is less than an overlap behind.
    fn in_use(&self, now: Instant) -> impl Iterator<Item = &T> {
        let ends = self.0.iter().skip(1).map(|(began, _)| Some(*began)).chain([None]);
        let is_used = move |end: Option<Instant>| end.is_none_or(|end| now.duration_since(end) < OVERLAP);
        self.0.iter().zip(ends).filter(move |(_, end)| is_used(*end)).map(|((_, value), _)| value)
    }
}

struct Model {
    policy: Policy,
    wall: SystemTime,
    clock: Instant,
    stores: History<Store>,
    published: [History<Store>; 2],
    observations: Observations,
    former: Option<(Instant, Store)>,
    steps: Vec<Step>,
    requeue_after: Duration,
}

impl Model {
    fn new() -> Self {
        let policy =
            Policy::new(vec!["a.svc".to_owned()], CA_LIFETIME, CA_LIFETIME / 2, OVERLAP).expect("a policy");
        let (wall, clock) = (super::tests::start(), Instant::now());
        let store = apply(Step::Create, None, &policy, wall).expect("made");
        let published = std::array::from_fn(|_| History::new(clock, store.clone()));
        Self {
            policy,
            wall,
            clock,
            stores: History::new(clock, store),
            published,
            observations: Observations::default(),
            former: None,
            steps: Vec::new(),
            requeue_after: Duration::ZERO,
        }
    }

    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Elapse(seconds) => {
                self.clock += Duration::from_secs(seconds);
                self.wall += Duration::from_secs(seconds);
            }
            Event::Jump(seconds) if seconds < 0 => self.wall -= Duration::from_secs(seconds.unsigned_abs()),
            Event::Jump(seconds) => self.wall += Duration::from_secs(seconds.unsigned_abs()),
            Event::Look { is_saved, is_repaired } => self.look(is_saved, is_repaired),
            Event::LeaderChange => {
                self.observations = Observations::default();
                self.former = Some((self.clock, self.stores.latest().clone()));
            }
            Event::Former { object } => {
                if let Some((until, store)) = &self.former
                    && self.clock.duration_since(*until) < OVERLAP
                {
                    self.published[object].push(self.clock, store.clone());
                }
            }
        }
    }

    fn look(&mut self, is_saved: bool, is_repaired: [bool; 2]) {
        let store = self.stores.latest().clone();
        let published: Vec<_> = self.published.iter().map(|published| published.latest().bundle()).collect();
        let observed = self.observations.observe(&store, published.iter().map(String::as_bytes), self.clock);
        match plan(Some(&store), &self.policy, self.wall, observed) {
            Plan::Nothing { requeue_after } => self.requeue_after = requeue_after,
            Plan::Do(step) if is_saved => {
                let is_emergency = !store.current.certificate.validity.contains(self.wall);
                let next = apply(step, Some(&store), &self.policy, self.wall).expect("follows");
                self.steps.push(step);
                self.requeue_after = Duration::ZERO;
                if is_emergency {
                    // The invariant does not hold until all have followed an emergency step, so the histories start
                    // again from it.
                    *self = Self { wall: self.wall, steps: std::mem::take(&mut self.steps), ..Self::new() };
                    self.stores = History::new(self.clock, next.clone());
                    self.published = std::array::from_fn(|_| History::new(self.clock, next.clone()));
                } else {
                    self.stores.push(self.clock, next);
                }
            }
            Plan::Do(_) => {}
        }
        for (published, _) in
            self.published.iter_mut().zip(is_repaired).filter(|(_, is_repaired)| *is_repaired)
        {
            if published.latest().bundle() != self.stores.latest().bundle() {
                published.push(self.clock, self.stores.latest().clone());
            }
        }
    }

    /// Whether every serving certificate in use verifies against every bundle in use.
    fn everybody_is_trusted(&self) -> bool {
        self.stores.in_use(self.clock).all(|store| {
            let leaf = store.leaf.as_ref().expect("made");
            let trusts = |published: &Store| {
                published.trusted().any(|authority| leaf.verifies(authority, leaf.validity.not_before))
            };
            self.published.iter().flat_map(|published| published.in_use(self.clock)).all(trusts)
        })
    }

    /// Whether every serving certificate in use, and its authority, is valid by the wall clock.
    fn nothing_has_ended(&self) -> bool {
        let is_valid = |validity: &Validity| validity.contains(self.wall);
        self.stores.in_use(self.clock).all(|store| {
            is_valid(&store.leaf.as_ref().expect("made").validity)
                && is_valid(&store.current.certificate.validity)
        })
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let look = (prop::bool::weighted(0.8), prop::array::uniform2(prop::bool::weighted(0.8)))
        .prop_map(|(is_saved, is_repaired)| Event::Look { is_saved, is_repaired });
    let event = prop_oneof![
        6 => (1..12_u64).prop_map(Event::Elapse),
        8 => look,
        1 => (-30..30_i64).prop_map(Event::Jump),
        1 => Just(Event::LeaderChange),
        1 => (0..2_usize).prop_map(|object| Event::Former { object }),
    ];
    prop::collection::vec(event, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn who_serves_is_trusted_whatever_happens(events in events()) {
        let mut model = Model::new();
        for event in &events {
            model.happens(event);
            prop_assert!(model.everybody_is_trusted(), "after {event:?}, with {:?}", model.steps);
        }
    }
}

#[test]
fn authorities_follow_each_other_for_ever_and_nobody_meets_a_certificate_that_has_ended() {
    let mut model = Model::new();
    while model.steps.iter().filter(|step| **step == Step::Switch).count() < 10 {
        model.happens(&Event::Look { is_saved: true, is_repaired: [true; 2] });
        assert!(model.everybody_is_trusted() && model.nothing_has_ended(), "{:?}", model.steps);
        model.happens(&Event::Elapse(model.requeue_after.as_secs().max(1)));
        assert!(model.everybody_is_trusted() && model.nothing_has_ended(), "{:?}", model.steps);
    }
    assert!(!model.steps.contains(&Step::Create), "{:?}", model.steps);
}

#[test]
fn a_bundle_that_cannot_be_published_holds_the_rotation() {
    let mut model = Model::new();
    let looks = |model: &mut Model, is_repaired| {
        for _ in 0..30 {
            model.happens(&Event::Look { is_saved: true, is_repaired });
            model.happens(&Event::Elapse(1));
        }
    };
    model.happens(&Event::Elapse(CA_LIFETIME.as_secs() * 2 / 3));
    looks(&mut model, [true, false]);
    assert!(model.steps.contains(&Step::PublishNext) && !model.steps.contains(&Step::Switch));
    looks(&mut model, [true, true]);
    assert!(model.steps.contains(&Step::Switch), "{:?}", model.steps);
}
