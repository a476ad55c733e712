//! A model of replicas and their clients. It tests that every client that follows the protocol ends with the
//! true objects, whichever replicas it asks, and whatever fails, lags behind or is restored from a backup.
//!
//! The clock, the watch cache, catching up and selections are the real code; upstream, time and the calls are
//! simulated ([`world`]). The model enforces what the argument of [`super::catch_up`] assumes: a replica that
//! vouches for its versions has observed everything that happened half a window ago, and a clock is either
//! off by at most an eighth of the window or far off. A replica whose versions are astray restarts, and at
//! the end no replica with a right clock is ahead of the time.
//!
//! `GATEHOUSE_LONG=1` runs a hundred times as many cases.

mod client;
mod replica;
mod world;

use std::time::Duration;

use proptest::prelude::*;

use self::world::World;

const WINDOW: Duration = Duration::from_secs(8);
/// The longest delay, in milliseconds, at which a replica that vouches for its versions observes a change.
const LAG: u64 = 4_000;
/// In milliseconds: far longer than anything is remembered, and how far off a wrong clock is.
const HOUR: u64 = 3_600_000;
/// How far ahead a very wrong clock is, in milliseconds.
const DECADE: i64 = 10 * 365 * 24 * 3_600_000;

/// What can happen. Numbers of replicas and clients are taken modulo how many there are.
#[derive(Debug, Clone)]
enum Step {
    /// An object is written, or deleted.
    Commit(Kind, u8, Option<u8>),
    /// An object is changed and changed back.
    Flip(Kind, u8, u8),
    /// The cluster is restored from a backup of so many commits ago.
    Restore(usize),
    /// A replica observes so many of the next commits of each kind in one batch.
    Deliver(usize, usize, usize),
    /// So many milliseconds pass.
    Pass(u64),
    /// A replica loses its connection to the cluster.
    Partition(usize),
    /// The connection is back, and its watches resume where they were.
    Heal(usize),
    /// A replica lists a kind again.
    Relist(usize, Kind),
    /// A replica's process restarts, with its clock so many milliseconds off.
    Restart(usize, i64),
    /// A replica's clock is set to be so many milliseconds off.
    SetClock(usize, i64),
    /// A client lists at a replica; if so, with its last version as the minimum.
    List(usize, usize, bool),
    /// A client watches at a replica from its last version.
    Watch(usize, usize),
    /// A client reads so many events.
    Read(usize, usize),
    /// A client's connection breaks.
    Cut(usize),
    /// A client gets a bookmark.
    Bookmark(usize),
}

/// The kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An object with a row.
    Subject,
    /// An object that rows of subjects depend on: each subject refers to one.
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

/// A client lists at a replica that observed a change late, and resumes at another that observed it long
/// before.
fn known_elsewhere_before() -> Vec<Step> {
    vec![
        Step::Commit(Kind::Subject, 0, Some(1)),
        Step::Deliver(1, 1, 0),
        Step::Pass(2_000),
        Step::Commit(Kind::Subject, 1, Some(2)),
        // The first replica observes causes two seconds late.
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
