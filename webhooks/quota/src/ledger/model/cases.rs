//! The cases of the model, and what must hold after each step and in the end.

use proptest::{prelude::*, test_runner::RngSeed};

use super::{
    super::{DEAD, Ledger, Seal},
    Fault, KINDS, PATIENCE, REPLICAS, Run, Step, World, hard,
};

impl World {
    /// A denial is right if the counted usage and the admissions, as replicas wrote them, leave no room for the
    /// request. Several replicas may have admitted the object's present usage.
    pub(super) fn refuses(&mut self, request: usize) {
        let ledger = self.stored.as_ref().and_then(|stored| stored.read().ok());
        // While the ledger is broken or counts nothing yet, requests are told to retry.
        let stands = |ledger: &Ledger| ledger.seal() != Seal::Broken && !ledger.used().is_empty();
        let Some(ledger) = ledger.filter(stands) else { return };
        let taken = ledger.reserved("");
        let new = &self.requests[request].proposal.new;
        let is_right = hard().iter().any(|(dimension, limit)| {
            let used = ledger.used()[dimension].checked_add(taken.get(dimension)).unwrap();
            used.checked_add(new.get(dimension)).unwrap() > *limit
        });
        self.wrongly_refused |= !is_right;
    }
}

pub(super) fn run(steps: &[Step], run: Run) -> Result<(), TestCaseError> {
    let mut world = World::new(run);
    world.check()?;
    for step in steps {
        world.step(*step);
        world.check()?;
    }
    world.quiesce();
    world.check()?;
    let ledger = world.stored.as_ref().unwrap().read().unwrap();
    let usage = world.usage();
    prop_assert_eq!(ledger.used().len(), 2, "{:?}", &world.stored);
    for (dimension, used) in ledger.used() {
        prop_assert_eq!(*used, usage.get(dimension));
    }
    prop_assert!(ledger.promised().is_empty(), "{:?}", ledger);
    prop_assert!(ledger.seal() != Seal::Broken);
    Ok(())
}

/// The same cases in each run, so that a failure shows the change that caused it; or a hundred times as many random
/// ones.
fn cases(short: u32) -> ProptestConfig {
    let (cases, rng_seed) = match std::env::var_os("GATEHOUSE_LONG") {
        Some(_) => (short * 100, RngSeed::Random),
        None => (short, RngSeed::Fixed(1)),
    };
    ProptestConfig { cases, rng_seed, max_shrink_iters: 100_000, ..ProptestConfig::default() }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<Step>(), 1..200)
}

/// Whether a broken rule is found by cases that are the same in each run.
fn is_found(run: Run) -> bool {
    let config = ProptestConfig {
        cases: 20_000,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let seed = proptest::test_runner::TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(config, seed);
    runner.run(&steps(), |steps| self::run(&steps, run)).is_err()
}

/// The broken rules that random cases find soon; and those that take longer, if there is time.
#[test]
fn each_rule_is_needed() {
    let mut faults = vec![Fault::BlocksTakenUp, Fault::CountedTwice, Fault::NoRecall];
    if std::env::var_os("GATEHOUSE_LONG").is_some() {
        faults.extend([Fault::BlocksDroppedEarly, Fault::BlocksOutlived, Fault::CountedAsSeen]);
    }
    for fault in faults {
        assert!(is_found(Run { fault: Some(fault), ..PLAIN }), "{fault:?} was not found");
    }
    for fault in [Fault::RestoredAsKnown, Fault::EmptiedUnseen] {
        assert!(is_found(Run { fault: Some(fault), editor: true, ..PLAIN }), "{fault:?} was not found");
    }
}

/// A replica's admission is written, or another request admitted, after another replica, which has observed its block
/// all the time, considered it dead.
fn after_it_was_taken_for_gone(fault: Fault, breaks: bool) -> Result<(), TestCaseError> {
    let mut world = World::new(Run { fault: breaks.then_some(fault), ..PLAIN });
    let dead = u32::try_from(DEAD.as_secs()).unwrap();
    world.ask_to_create(0, 3, 0);
    // There is room for three servers.
    world.review(&[0], 1, 3);
    world.meet(0);
    match fault {
        Fault::BlocksDroppedEarly => {
            world.die(1);
            world.now += dead + 1;
            world.read_dead(0);
            world.catch_up(0, KINDS);
            world.commit(0);
        }
        Fault::CountedAsSeen => {
            world.commit(0);
            world.die(1);
            world.now += dead + PATIENCE + 1;
            world.read_dead(0);
            world.settle(0);
        }
        _ => {
            world.commit(0);
            world.wait_out(0);
            world.ask_to_create(0, 2, 0);
            world.review(&[0], 1, 1);
            world.commit(0);
        }
    }
    world.check()
}

#[test]
fn a_block_outlives_its_replica_and_no_replica_its_block() {
    for fault in [Fault::BlocksDroppedEarly, Fault::CountedAsSeen, Fault::BlocksOutlived] {
        after_it_was_taken_for_gone(fault, false).unwrap();
        assert!(after_it_was_taken_for_gone(fault, true).is_err(), "{fault:?} was not found");
    }
}

/// Somebody empties a ledger before one replica has observed what another has reserved in it.
fn emptied_unseen(fault: Option<Fault>) -> Result<(), TestCaseError> {
    let mut world = World::new(Run { fault, editor: true, ..PLAIN });
    (0..REPLICAS).for_each(|replica| world.meet(replica));
    world.ask_to_create(0, 6, 0);
    world.review(&[0], 1, 0);
    world.edit(11, 0);
    world.meet(0);
    world.ask_to_create(0, 6, 0);
    world.review(&[1], 0, 1);
    world.commit(1);
    world.commit(0);
    world.check()
}

#[test]
fn who_has_not_seen_all_of_an_emptied_ledger_promises_nothing_upon_it() {
    emptied_unseen(None).unwrap();
    assert!(emptied_unseen(Some(Fault::EmptiedUnseen)).is_err());
}

pub(super) const PLAIN: Run = Run { forced: false, older: false, editor: false, fault: None };

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn usage_never_exceeds_what_is_counted_and_promised_nor_the_limit(steps in steps()) {
        run(&steps, PLAIN)?;
    }
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn what_is_admitted_beyond_the_limit_is_charged_all_the_same(steps in steps()) {
        run(&steps, Run { forced: true, ..PLAIN })?;
    }

    #[test]
    fn a_version_that_knows_no_blocks_may_run_beside(steps in steps()) {
        run(&steps, Run { older: true, ..PLAIN })?;
    }

    #[test]
    fn whatever_somebody_makes_of_a_ledger_it_heals_and_no_limit_is_exceeded(steps in steps()) {
        run(&steps, Run { editor: true, ..PLAIN })?;
    }
}
