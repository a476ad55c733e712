//! Versions increase, belong to one replica only, and show whether they are vouched for.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::*;

/// A clock, and the second that its wall clock shows.
fn clock(number: Option<u8>) -> (Clock, Arc<AtomicU64>) {
    let second = Arc::new(AtomicU64::new(100));
    let reported = Arc::clone(&second);
    let clock = number.map_or_else(Clock::unnumbered, Clock::new);
    let clock = clock.with_time(move || {
        let wall = at(reported.load(Ordering::Relaxed));
        ClockReading { wall, passed: Duration::from_secs(1_000) }
    });
    clock.vouch(true);
    (clock, second)
}

/// The given second of 2027.
fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(499_656) + Duration::from_secs(second)
}

fn grant(number: u8, after: Option<u64>, until: u64) -> Grant {
    Grant { number, after: after.map(at), until: Some(at(until)) }
}

fn number(version: u64) -> u64 {
    version >> 2 & 15
}

#[test]
fn versions_increase_when_time_stands_still_and_when_it_goes_back() {
    let (clock, second) = clock(Some(3));
    let versions: Vec<_> = [10, 10, 9, 0, 11, 50]
        .map(|to| {
            second.store(to, Ordering::Relaxed);
            clock.next()
        })
        .into();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    assert_eq!(Ticks::of_version(versions[5]), Ticks::of(at(50)), "time takes over again once it is ahead");
}

#[test]
fn a_window_before_a_version_is_counted_from_the_time_as_it_is_known_now() {
    let (clock, second) = clock(Some(3));
    let version = clock.next();
    assert_eq!(clock.window_before(version), Some(Duration::from_secs(940)));
    second.store(130, Ordering::Relaxed);
    assert_eq!(clock.window_before(version), Some(Duration::from_secs(910)));
    second.store(5_000, Ordering::Relaxed);
    assert_eq!(clock.window_before(version), None);
    second.store(10, Ordering::Relaxed);
    assert_eq!(
        clock.window_before(version),
        Some(Duration::from_secs(1_000)),
        "from ahead: all of it is due"
    );
}

#[test]
fn versions_that_time_has_been_set_back_from_are_not_vouched_for() {
    let (clock, second) = clock(Some(3));
    assert!(is_vouched(clock.next()));
    second.store(90, Ordering::Relaxed);
    assert!(is_vouched(clock.next()), "clocks are as far apart as that");
    second.store(10, Ordering::Relaxed);
    assert!(!clock.vouches() && !is_vouched(clock.next()));
    second.store(101, Ordering::Relaxed);
    assert!(is_vouched(clock.next()));
}

#[test]
fn replicas_never_make_the_same_version() {
    let [a, b] = [0, 1].map(|number| clock(Some(number)).0.next());
    assert_eq!(Ticks::of_version(a), Ticks::of_version(b));
    assert_ne!(a, b);
    assert_ne!(twin(a), b);
}

#[tokio::test]
async fn a_grant_is_waited_for() {
    let (clock, _) = clock(None);
    let clock = Arc::new(clock);
    assert!(!is_vouched(clock.next()), "nobody's number");
    let waiting = tokio::spawn({
        let clock = Arc::clone(&clock);
        async move { clock.granted().await }
    });
    clock.grant(grant(5, None, 115));
    waiting.await.unwrap();
    clock.granted().await;
    let version = clock.next();
    assert_eq!((number(version), is_vouched(version)), (5, true));
}

#[test]
fn versions_stay_within_the_grant_and_are_not_vouched_for_after_it() {
    let (clock, second) = clock(None);
    clock.grant(grant(5, None, 115));
    second.store(113, Ordering::Relaxed);
    assert!(clock.vouches() && is_vouched(clock.next()));
    second.store(200, Ordering::Relaxed);
    let late: Vec<_> = (0..1000).map(|_| clock.next()).collect();
    assert!(late.is_sorted_by(|a, b| a < b));
    assert!(late.iter().all(|version| Ticks::of_version(*version) < Ticks::of(at(115))));
    assert!(!clock.vouches() && late.iter().all(|version| !is_vouched(*version)));
    clock.grant(grant(5, None, 215));
    let renewed = clock.next();
    assert_eq!((Ticks::of_version(renewed), is_vouched(renewed)), (Ticks::of(at(200)), true));
}

#[test]
fn another_s_number_is_taken_up_after_all_its_versions_though_the_clock_be_behind() {
    let (before, second) = clock(None);
    before.grant(grant(5, None, 115));
    second.store(120, Ordering::Relaxed);
    let last = (0..1000).map(|_| before.next()).last().unwrap();
    let (after, _) = clock(Some(9));
    let own = after.next();
    after.grant(grant(5, Some(115), 130));
    let first = after.next();
    assert!(first > last && first > own, "{first} {last}");
    assert_eq!(number(first), 5);
}

#[test]
fn a_renewal_does_not_push_versions_ahead() {
    let (clock, _) = clock(None);
    clock.grant(grant(5, None, 115));
    clock.grant(grant(5, Some(115), 120));
    assert_eq!(Ticks::of_version(clock.next()), Ticks::of(at(100)));
    // The number is lost, held by another replica for a while, and taken again.
    clock.grant(grant(5, Some(130), 140));
    assert!(Ticks::of_version(clock.next()) > Ticks::of(at(130)));
}

#[test]
fn a_clock_that_is_set_vouches_for_nothing_until_it_is_known_to_be_right() {
    let (clock, second) = clock(Some(3));
    clock.vouch(true);
    clock.confirm(true);
    second.store(107, Ordering::Relaxed);
    assert!(clock.vouches() && is_vouched(clock.next()), "an eighth of a minute");
    for set in [3_700, 20] {
        second.store(set, Ordering::Relaxed);
        assert!(!clock.vouches() && !is_vouched(clock.next()), "{set}");
    }
    second.store(200, Ordering::Relaxed);
    assert!(!clock.vouches());
    clock.confirm(true);
    second.store(4_000, Ordering::Relaxed);
    assert!(!is_vouched(clock.next()));
    clock.confirm(true);
    assert!(is_vouched(clock.next()));
    clock.confirm(false);
    assert!(!clock.is_right() && !is_vouched(clock.next()));
}

/// A clock whose wall clock a test sets, and whose time a test lets pass.
fn running() -> (Clock, Arc<[AtomicU64; 2]>) {
    let time = Arc::new([100, 100].map(AtomicU64::new));
    let reported = Arc::clone(&time);
    let clock = Clock::new(3).with_time(move || {
        let [wall, passed] = [0, 1].map(|n| reported[n].load(Ordering::Relaxed));
        ClockReading { wall: at(wall), passed: Duration::from_secs(passed) }
    });
    clock.vouch(true);
    (clock, time)
}

const DECADE: u64 = 10 * 365 * 24 * 3_600;

#[test]
fn a_clock_that_was_years_off_for_a_moment_leaves_versions_where_they_were() {
    for wrong in [100 + DECADE, 0] {
        let (clock, time) = running();
        clock.confirm(true);
        let set = |wall, passed| {
            time[0].store(wall, Ordering::Relaxed);
            time[1].store(passed, Ordering::Relaxed);
        };
        let mut last = clock.next();
        // First the error is unknown, then it is reported.
        for is_told in [false, true] {
            set(wrong + 10, 110);
            if is_told {
                clock.confirm(false);
            }
            let version = clock.next();
            assert!(version > last && !is_vouched(version));
            assert!(Ticks::of_version(version) <= Ticks::of(at(111)), "{wrong}");
            let far = version::compose(Ticks::of(at(90 + DECADE)), 1, true);
            assert!(!clock.advance_past(far), "nor does anybody push it there");
            last = version;
        }
        set(120, 120);
        clock.confirm(true);
        let version = clock.next();
        assert_eq!((Ticks::of_version(version), is_vouched(version)), (Ticks::of(at(120)), true));
        assert!(!clock.is_too_far_ahead());
    }
}

#[test]
fn versions_that_a_wrong_clock_made_from_the_start_are_astray_once_it_is_right() {
    let (clock, time) = running();
    time[0].store(100 + DECADE, Ordering::Relaxed);
    clock.next();
    clock.confirm(false);
    assert!(!clock.is_too_far_ahead(), "nobody knows better");
    time[0].store(100, Ordering::Relaxed);
    assert!(!clock.is_too_far_ahead());
    clock.confirm(true);
    assert!(clock.is_too_far_ahead());
}

#[test]
fn what_was_made_here_or_a_while_ago_is_known() {
    let spread = Duration::from_secs(1);
    let of = |second: u64, replica: u8| version::compose(Ticks::of(at(second)), replica, true);
    let (clock, second) = clock(Some(3));
    assert!(clock.knows(of(99, 1), spread) && !clock.knows(of(100, 1), spread));
    assert!(!clock.knows(of(100, 3), spread), "an earlier life's, perhaps");
    let own = clock.next();
    assert!(clock.knows(own, spread) && clock.knows(twin(own), spread));
    assert!(!clock.knows(of(100, 1), spread), "though a later one has been made here");
    clock.grant(grant(1, None, 200));
    assert!(!clock.knows(of(100, 1), spread) && !clock.knows(own, spread), "another number");
    second.store(101, Ordering::Relaxed);
    assert!(clock.knows(of(100, 1), spread) && !clock.knows(of(101, 1), spread));
}

#[test]
fn a_version_is_passed_unless_it_is_too_far_ahead() {
    let ahead = |second: u64| version::compose(Ticks::of(at(second)), 1, true);
    let (clock, _) = clock(Some(3));
    assert!(clock.advance_past(ahead(114)) && clock.next() > ahead(114));
    assert!(!clock.advance_past(ahead(116)) && clock.next() < ahead(115), "a quarter of a minute");
    assert!(!clock.advance_past(u64::MAX));

    clock.grant(grant(5, None, 110));
    assert!(!clock.advance_past(ahead(111)), "that is another's time already");
    assert!(!is_vouched(clock.next()), "made from here on before the time comes");
}
