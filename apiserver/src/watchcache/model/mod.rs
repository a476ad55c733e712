//! Replicas and their clients, against what is true: whichever replica a client asks, whatever dies, falls behind or
//! goes back in time, a client that follows the protocol ends with the truth.
//!
//! The clock, the cache with its log, the catching up and the selections are the real ones; the upstream, time and
//! whoever calls whom are the model's ([`world`]). What the argument of [`super::catch_up`] takes for granted is kept
//! here by force: a replica that vouches for its versions knows what happened half a window ago, and clocks are within
//! an eighth of it from the truth, or far off. A replica whose versions went astray begins anew, and in the end none is
//! ahead of the time whose clock is right.
//!
//! `GATEHOUSE_LONG=1` runs a hundred times as many cases.

mod client;
mod replica;
mod world;

use std::time::Duration;

use proptest::prelude::*;

use self::world::World;

const WINDOW: Duration = Duration::from_secs(8);
/// How late a replica that vouches for its versions may know of something.
const LAG: u64 = 4_000;
/// Far longer than anything is remembered; and how far off a clock is that is wrong.
const HOUR: u64 = 3_600_000;
/// How far ahead one is that is very wrong.
const DECADE: i64 = 10 * 365 * 24 * 3_600_000;

/// What can happen. Replicas and clients are counted around.
#[derive(Debug, Clone)]
enum Step {
    /// An object is written, or deleted.
    Commit(Kind, u8, Option<u8>),
    /// An object is changed and changed back.
    Flip(Kind, u8, u8),
    /// The cluster's state is that of so many commits ago.
    Restore(usize),
    /// A replica takes in so many of the next commits of each kind at one go.
    Deliver(usize, usize, usize),
    /// Milliseconds.
    Pass(u64),
    /// A replica is cut off.
    Partition(usize),
    /// Its watches go on from where they came.
    Heal(usize),
    /// It lists a kind anew.
    Relist(usize, Kind),
    /// Its process begins anew, its clock set so far from the truth.
    Restart(usize, i64),
    /// Its clock is set.
    SetClock(usize, i64),
    /// A client lists; with its last version as the oldest it takes, if so.
    List(usize, usize, bool),
    /// It watches from its last version.
    Watch(usize, usize),
    /// It reads so many events.
    Read(usize, usize),
    /// Its connection breaks.
    Cut(usize),
    /// It is told how far it came.
    Bookmark(usize),
}

/// Of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Has a row.
    Subject,
    /// What a row says depends on the one that its subject refers to.
    Cause,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Subject), Just(Kind::Cause)]
}

fn skew() -> impl Strategy<Value = i64> {
    let hour = HOUR.cast_signed();
    prop_oneof![8 => -1_000..=1_000_i64, 1 => Just(-hour), 1 => Just(hour), 1 => Just(DECADE)]
}

fn step() -> impl Strategy<Value = Step> {
    let (who, key) = (0..4_usize, 0..3_u8);
    prop_oneof![
        12 => (kind(), key.clone(), prop::option::weighted(0.75, 0..8_u8)).prop_map(|(kind, key, value)| Step::Commit(kind, key, value)),
        5 => (kind(), key, 0..8_u8).prop_map(|(kind, key, value)| Step::Flip(kind, key, value)),
        1 => (1..6_usize).prop_map(Step::Restore),
        14 => (who.clone(), 0..4_usize, 0..4_usize).prop_map(|(who, a, b)| Step::Deliver(who, a, b)),
        5 => prop::sample::select(vec![1, 100, 900, 2_000, LAG, 2 * LAG, 3 * LAG, HOUR]).prop_map(Step::Pass),
        2 => who.clone().prop_map(Step::Partition),
        2 => who.clone().prop_map(Step::Heal),
        2 => (who.clone(), kind()).prop_map(|(who, kind)| Step::Relist(who, kind)),
        1 => (who.clone(), skew()).prop_map(|(who, skew)| Step::Restart(who, skew)),
        1 => (who.clone(), skew()).prop_map(|(who, skew)| Step::SetClock(who, skew)),
        3 => (who.clone(), who.clone(), any::<bool>()).prop_map(|(client, who, at_least)| Step::List(client, who, at_least)),
        12 => (who.clone(), who.clone()).prop_map(|(client, who)| Step::Watch(client, who)),
        14 => (who.clone(), 1..5_usize).prop_map(|(client, count)| Step::Read(client, count)),
        3 => who.clone().prop_map(Step::Cut),
        2 => who.prop_map(Step::Bookmark),
    ]
}

fn run(replicas: &[i64], steps: &[Step], window: Duration) -> Result<(), TestCaseError> {
    let mut world = World::new(replicas, window);
    for step in steps {
        world.take(step)?;
    }
    world.finish()
}

fn config(cases: u32) -> ProptestConfig {
    let cases = if std::env::var_os("GATEHOUSE_LONG").is_some() { cases * 100 } else { cases };
    ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(config(3_000))]

    #[test]
    fn every_client_ends_with_the_truth(
        replicas in prop::collection::vec(-1_000..=1_000_i64, 2..=4),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        run(&replicas, &steps, WINDOW)?;
    }
}

#[test]
fn a_clock_that_was_years_ahead_for_a_moment_leaves_no_versions_ahead() {
    let commit = |key| Step::Commit(Kind::Subject, key, Some(1));
    let wrong = [Step::SetClock(0, DECADE), commit(1), Step::Deliver(0, 1, 0), Step::List(0, 0, false)];
    let right = [Step::SetClock(0, 0), Step::Pass(LAG), commit(2), Step::Watch(0, 1), Step::Pass(LAG)];
    let from_the_start = [Step::Restart(0, DECADE), Step::Pass(LAG), commit(3), Step::List(0, 0, false)];
    run(&[0, 0], &[&wrong[..], &right].concat(), WINDOW).unwrap();
    run(&[0, 0], &[&from_the_start[..], &wrong, &right].concat(), WINDOW).unwrap();
}

/// A client lists what one replica knows early, and goes on with another that has known for long what the client lacks.
fn known_elsewhere_before() -> Vec<Step> {
    vec![
        Step::Commit(Kind::Subject, 0, Some(1)),
        Step::Deliver(1, 1, 0),
        Step::Pass(2_000),
        Step::Commit(Kind::Subject, 1, Some(2)),
        // The first replica is two seconds behind with the causes.
        Step::Commit(Kind::Cause, 0, Some(3)),
        Step::Deliver(1, 1, 1),
        Step::Pass(900),
        Step::Deliver(0, 2, 0),
        Step::List(0, 0, false),
        Step::Watch(0, 1),
    ]
}

#[test]
fn what_was_known_elsewhere_before_is_told_again() {
    run(&[0, 0], &known_elsewhere_before(), WINDOW).unwrap();
}

#[test]
fn without_a_window_as_long_it_is_missed() {
    assert!(run(&[0, 0], &known_elsewhere_before(), Duration::from_millis(100)).is_err());
}
