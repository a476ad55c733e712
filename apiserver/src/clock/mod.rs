//! Versions without storage: a hybrid logical clock.
//!
//! A version is a time with a replica's number in the low bits (`version.rs`). On one replica versions strictly
//! increase, whatever its clock does; between replicas they are comparable as far as the clocks agree, and never equal,
//! for a number is held by one replica at a time ([`Grant`]).
//!
//! After Kulkarni et al., "Logical Physical Clocks" (2014), with the logical part spilling into the ticks: a server
//! makes far fewer than 250,000 changes a second.
//!
//! Whoever tells the time to the watch caches is this clock too, so that a test can.

mod version;

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;

pub use version::{REPLICAS, Ticks, is_vouched, twin};

/// The end of a grant that is left alone: a second's ticks are as many versions as may still be made before a replica
/// whose grant has ended notices. (They are not vouched for.)
const RESERVE: Duration = Duration::from_secs(1);
/// See [`Clock::window`].
pub const DEFAULT_WINDOW: Duration = Duration::from_mins(1);

/// The right to make versions with a number.
///
/// Two holders of one number follow each other without a common version if the later one's `after` is at or past the
/// earlier one's `until`, both as written down by the earlier one, whatever their clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Below [`REPLICAS`].
    pub number: u8,
    /// Versions are to be later than this: until then the one before might have made them. `None` if there was none.
    /// One far in the future makes versions that other replicas refuse: such a number is better not taken.
    pub after: Option<SystemTime>,
    /// Versions are to be earlier than this. `None`: for ever.
    pub until: Option<SystemTime>,
}

/// The time, twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// As others know it. It may be wrong, and be set.
    pub wall: SystemTime,
    /// Since some moment: it passes evenly, whatever becomes of the other.
    pub passed: Duration,
}

/// Makes versions. One for each process; shared by every resource.
pub struct Clock {
    time: Box<dyn Fn() -> Reading + Send + Sync>,
    window: Duration,
    state: Mutex<State>,
    granted: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    grant: Option<Grant>,
    /// Of the latest version, or of one that all to come are to be later than.
    last: Ticks,
    /// Of the first version made with the number that is held.
    first: Option<Ticks>,
    vouches: bool,
    wall: Wall,
    /// The [`Reading::offset`] at which the wall was last said to be right.
    right: Option<i128>,
}

impl Reading {
    /// In microseconds. It changes when the wall is set, and slowly as it is slewed.
    fn offset(self) -> i128 {
        let micros = |time: Duration| i128::try_from(time.as_micros()).unwrap_or(i128::MAX);
        let wall = match self.wall.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => micros(after),
            Err(before) => -micros(before.duration()),
        };
        wall.saturating_sub(micros(self.passed))
    }

    /// What the wall would tell at another offset.
    fn wall_at(self, offset: i128) -> SystemTime {
        let micros = |difference: u128| Duration::from_micros(u64::try_from(difference).unwrap_or(u64::MAX));
        let (own, difference) = (self.offset(), micros(offset.abs_diff(self.offset())));
        let wall =
            if own > offset { self.wall.checked_sub(difference) } else { self.wall.checked_add(difference) };
        wall.unwrap_or(self.wall)
    }
}

/// What is known of the time that others know.
#[derive(Debug, Clone, Copy, Default)]
enum Wall {
    /// Nobody has said anything.
    #[default]
    Unknown,
    /// It was right, at this [`Reading::offset`].
    Right(i128),
    /// It is wrong.
    Wrong,
}

impl Clock {
    /// A clock for the replica with this number, below [`REPLICAS`], which is its own for ever.
    pub fn new(number: u8) -> Self {
        let clock = Self::unnumbered();
        clock.grant(Grant { number, after: None, until: None });
        clock
    }

    /// A clock that has yet to be granted a number.
    pub fn unnumbered() -> Self {
        let begin = Instant::now();
        Self {
            time: Box::new(move || Reading { wall: SystemTime::now(), passed: begin.elapsed() }),
            window: DEFAULT_WINDOW,
            state: Mutex::default(),
            granted: watch::Sender::new(false),
        }
    }

    /// Tells another time than the system's.
    #[must_use]
    pub fn with_time(self, time: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        Self { time: Box::new(time), ..self }
    }

    /// With another [`Clock::window`].
    #[must_use]
    pub fn with_window(self, window: Duration) -> Self {
        Self { window, ..self }
    }

    /// How far apart replicas may be: what one knows at a time the others know within half of this, each one's clock is
    /// within an eighth of it from the truth, and a version is believed that is a quarter of it ahead.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Takes a number, or goes on with it for longer.
    pub fn grant(&self, grant: Grant) {
        let mut state = self.state();
        if let Some(after) = grant.after
            // What was to end then was this very grant, unless the number has been another's meanwhile.
            && !state.grant.is_some_and(|held| held.number == grant.number && held.until >= grant.after)
        {
            state.last = state.last.max(Ticks::of(after));
        }
        if state.grant.is_none_or(|held| held.number != grant.number) {
            state.first = None;
        }
        state.grant = Some(grant);
        drop(state);
        self.granted.send_replace(true);
    }

    /// Waits for the first grant.
    pub async fn granted(&self) {
        // The sender lives as long as this does.
        let _ = self.granted.subscribe().wait_for(|granted| *granted).await;
    }

    /// Says whether what happens upstream is known here as soon as it should be.
    pub fn vouch(&self, vouches: bool) {
        self.state().vouches = vouches;
    }

    /// Says whether the wall is right, as somebody else's clock shows. A wall that is wrong, or has been set since, is
    /// trusted no more until it is said to be right again: no version is vouched for, nor taken to be of the time it says.
    pub fn confirm(&self, is_right: bool) {
        let offset = (self.time)().offset();
        let mut state = self.state();
        if !is_right && !matches!(state.wall, Wall::Wrong) {
            tracing::warn!(
                "the local clock differs from the cluster's: watches from other replicas must list again"
            );
        }
        state.wall = if is_right { Wall::Right(offset) } else { Wall::Wrong };
        if is_right {
            state.right = Some(offset);
        }
    }

    /// Whether versions are further ahead of the time than they can have come by other replicas' versions: they were made
    /// when the wall was wrong and nobody had said so. No replica would take them for what they are until their time
    /// comes, so it is better to begin anew, with another number.
    pub fn is_astray(&self) -> bool {
        let reading = (self.time)();
        let state = self.state();
        let is_known = state.right.is_some() && state.is_right(reading, self.window);
        is_known && state.last > Ticks::of(reading.wall).plus(self.window)
    }

    /// Whether the wall is right, as far as is known.
    pub fn is_right(&self) -> bool {
        let reading = (self.time)();
        self.state().is_right(reading, self.window)
    }

    /// Whether the versions made now are vouched for.
    pub fn vouches(&self) -> bool {
        let reading = (self.time)();
        let state = self.state();
        state.vouched(reading, state.now(reading, self.window).max(state.last), self.window)
    }

    /// How much time has passed.
    pub fn now(&self) -> Duration {
        (self.time)().passed
    }

    /// When, by [`Clock::now`], it was a window earlier than the version says. It is the time as it is known now that
    /// counts: what it was taken for when something happened may have been corrected since. `None`: before there was
    /// this clock.
    pub fn window_before(&self, version: u64) -> Option<Duration> {
        let reading = (self.time)();
        let before = Ticks::of_version(version).minus(self.window);
        let now = self.state().now(reading, self.window);
        reading.passed.checked_sub(now.since(before))
    }

    /// A version later than every one this clock has made.
    pub fn next(&self) -> u64 {
        let reading = (self.time)();
        self.state().next(reading, self.window)
    }

    /// Whether what was known when the version was made may be taken to be known here: because it was made here, or as
    /// long as `spread` ago.
    pub fn knows(&self, version: u64, spread: Duration) -> bool {
        let at = Ticks::of_version(version);
        at.plus(spread) <= self.trusted() || self.state().has_made(version)
    }

    /// Makes all versions to come later than this one; not if that is further ahead of the time than clocks are apart,
    /// or than this replica's number lasts.
    pub fn pass(&self, version: u64) -> bool {
        let now = self.trusted();
        let at = Ticks::of_version(version);
        let mut state = self.state();
        let is_near = at <= now.plus(self.window / 4) && state.limit().is_none_or(|limit| at < limit);
        if is_near {
            state.last = state.last.max(at);
        }
        is_near
    }

    fn trusted(&self) -> Ticks {
        let reading = (self.time)();
        self.state().now(reading, self.window)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The time: as the wall tells it, unless it was right once and has been set since. Then it is what the wall would tell
    /// otherwise, or a moment of a wrong wall would push versions as far ahead for as long.
    fn now(&self, reading: Reading, window: Duration) -> Ticks {
        Ticks::of(match self.right {
            Some(offset) if is_apart(reading, offset, window) => reading.wall_at(offset),
            _ => reading.wall,
        })
    }

    fn next(&mut self, reading: Reading, window: Duration) -> u64 {
        let now = self.now(reading, window);
        let at = self.limit().map_or(now, |limit| now.min(limit)).max(Ticks(self.last.0 + 1));
        self.last = at;
        self.first.get_or_insert(at);
        let vouched = self.vouched(reading, at, window);
        version::compose(at, self.grant.map_or(0, |grant| grant.number), vouched)
    }

    /// Whether the version was, or may have been: not before this clock made its first one with the number.
    fn has_made(&self, version: u64) -> bool {
        let at = Ticks::of_version(version);
        self.grant.is_some_and(|grant| version::replica(version) == grant.number)
            && self.first.is_some_and(|first| first <= at && at <= self.last)
    }

    /// Whether a version of `at` is. One that is far ahead comes of a time that has been corrected, and would be taken
    /// one day for what it says.
    fn vouched(&self, reading: Reading, at: Ticks, window: Duration) -> bool {
        let now = self.now(reading, window);
        let is_within = self.limit().is_none_or(|limit| now.max(at) < limit);
        let is_right = self.is_right(reading, window);
        self.vouches && self.grant.is_some() && is_within && is_right && at <= now.plus(window / 4)
    }

    fn is_right(&self, reading: Reading, window: Duration) -> bool {
        match self.wall {
            Wall::Unknown => true,
            Wall::Right(offset) => !is_apart(reading, offset, window),
            Wall::Wrong => false,
        }
    }

    /// The time from which on no version is made, but for those that are made without knowing.
    fn limit(&self) -> Option<Ticks> {
        Some(Ticks::of(self.grant?.until?).minus(RESERVE))
    }
}

/// By more than slewing explains.
fn is_apart(reading: Reading, offset: i128, window: Duration) -> bool {
    reading.offset().abs_diff(offset) > (window / 8).as_micros()
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Clock").field("window", &self.window).field("state", &*state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
