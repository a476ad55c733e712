//! A model of replicas and their clients. It tests that every client that follows the protocol ends with the
//! true objects, whichever replicas it asks, and whatever fails, lags behind or is restored from a backup.
//!
//! The clock, the watch cache, catching up and selections are the real code; upstream, time and the calls are
//! simulated ([`world`]). The model enforces what the argument of [`super::catch_up`] assumes: a replica that
//! vouches for its versions has observed everything that happened half a window ago, and a clock is either
//! off by at most an eighth of the window or far off. A replica whose versions are astray restarts, and at
//! the end no replica with a right clock is ahead of the time.
//!
//! There is a remote cluster, too. A replica may lose it for any time, while another goes on to observe it, and stays
//! ready meanwhile. Half of the clients see its rows. Those who do not are served as if it did not exist.
//!
//! `GATEHOUSE_LONG=1` runs a hundred times as many cases.

mod client;
mod remote;
mod replica;
mod world;

use std::time::Duration;

use proptest::prelude::*;

use self::{client::Outcome, world::World};

const WINDOW: Duration = Duration::from_secs(8);
/// The longest delay, in milliseconds, at which a replica that vouches for its versions observes a change.
const LAG: u64 = 4_000;
/// In milliseconds: far longer than anything is remembered, and how far off a wrong clock is.
const HOUR: u64 = 3_600_000;
/// How far ahead a very wrong clock is, in milliseconds.
const DECADE: i64 = 10 * 365 * 24 * 3_600_000;

/// The name of the local cluster.
const LOCAL: &str = "local";
/// Four clients see rows of the local cluster only, four those of the remote one as well.
const CLIENTS: usize = 8;

/// What can happen. Numbers of replicas are taken modulo how many there are.
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
    /// What happens in the remote cluster.
    Remote(remote::Step),
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
    let (client, who, key) = (0..CLIENTS, 0..4_usize, 0..3_u8);
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
        3 => (client.clone(), who.clone(), any::<bool>()).prop_map(|(client, who, at_least)| Step::List(client, who, at_least)),
        12 => (client.clone(), who).prop_map(|(client, who)| Step::Watch(client, who)),
        14 => (client.clone(), 1..5_usize).prop_map(|(client, count)| Step::Read(client, count)),
        3 => client.clone().prop_map(Step::Cut),
        2 => client.prop_map(Step::Bookmark),
        12 => remote::step().prop_map(Step::Remote),
    ]
}

fn run(replicas: &[i64], steps: &[Step], window: Duration) -> Result<(), TestCaseError> {
    let mut world = World::new(replicas, window);
    for step in steps {
        world.take(step)?;
    }
    world.finish().map(drop)
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

proptest! {
    #![proptest_config(config(500))]

    /// Whoever sees no row of the remote cluster is answered as without that cluster, or better: its changes make
    /// newer versions, from which more watches can go on. (Not tried: what is forgotten after ten minutes. Where nothing
    /// at all changes, it is forgotten later.)
    #[test]
    fn a_remote_cluster_costs_nobody_a_410_who_does_not_see_it(
        replicas in prop::collection::vec(-1_000..=1_000_i64, 2..=4),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        costs_nobody_a_410(&replicas, &steps)?;
    }
}

fn costs_nobody_a_410(replicas: &[i64], steps: &[Step]) -> Result<(), TestCaseError> {
    let mut outcomes = Vec::new();
    for exists in [true, false] {
        let mut world = World::new(replicas, WINDOW);
        for step in steps {
            // A replica that does not vouch for its versions keeps the last one from before until something changes.
            // A change of the remote cluster then does what any change does: it makes a version that counts at this
            // replica only. Both runs make such a version at once, so that they do not differ by it.
            world.advance();
            // The time passes in any case.
            match step {
                Step::Remote(_) if !exists => world.take(&Step::Pass(0))?,
                Step::Pass(millis) => world.take(&Step::Pass(LAG.min(*millis)))?,
                // Else it reads fewer of its own events beside those that it is not shown.
                Step::Read(client, _) => world.take(&Step::Read(*client, usize::MAX))?,
                step => world.take(step)?,
            }
        }
        outcomes.push(world.finish()?);
    }
    let [with, without] = &outcomes[..] else { unreachable!("two runs") };
    for (with, without) in with.iter().zip(without) {
        // From the first difference on, the client is in another state.
        let differs = with.iter().zip(without).find(|(with, without)| with != without);
        prop_assert!(differs.is_none_or(|(_, without)| *without == Outcome::Expired), "{:?}", differs);
    }
    Ok(())
}

#[test]
fn a_remote_change_counts_as_any_other_where_the_clock_is_wrong() {
    let steps = [
        Step::Commit(Kind::Subject, 0, None),
        Step::Deliver(0, 1, 0),
        Step::SetClock(0, -HOUR.cast_signed()),
        Step::Remote(remote::Step::Commit(0, Some(0))),
        Step::Remote(remote::Step::Deliver(0, 1)),
        Step::Watch(3, 0),
        Step::Watch(3, 1),
    ];
    costs_nobody_a_410(&[0; 4], &steps).unwrap();
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

/// A client that sees the remote cluster lists at a replica that has lost it, and goes on at another.
fn listed_where_a_cluster_is_lost() -> Vec<Step> {
    let seer = CLIENTS - 1;
    vec![
        Step::Remote(remote::Step::Commit(1, Some(1))),
        Step::Pass(3 * LAG),
        Step::Remote(remote::Step::Lose(0)),
        Step::Remote(remote::Step::Commit(1, Some(2))),
        Step::Pass(10 * LAG),
        Step::List(seer, 0, false),
        Step::Watch(seer, 1),
    ]
}

#[test]
fn who_lists_where_a_cluster_is_lost_does_not_keep_its_old_rows() {
    run(&[0, 0], &listed_where_a_cluster_is_lost(), WINDOW).unwrap();
}

#[test]
fn if_it_went_on_anywhere_it_would_keep_them() {
    let mut world = World::new(&[0, 0], WINDOW);
    world.resume_anywhere();
    for step in listed_where_a_cluster_is_lost() {
        world.take(&step).unwrap();
    }
    assert!(world.finish().is_err());
}

#[test]
fn what_was_known_elsewhere_before_is_told_again() {
    run(&[0, 0], &known_elsewhere_before(), WINDOW).unwrap();
}

#[test]
fn without_a_window_as_long_it_is_missed() {
    assert!(run(&[0, 0], &known_elsewhere_before(), Duration::from_millis(100)).is_err());
}
