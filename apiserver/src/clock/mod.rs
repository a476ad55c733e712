//! resourceVersions without storage: a hybrid logical clock.
//!
//! A version is a time with the replica's number in its low bits (`version.rs`). Versions of different
//! replicas can be compared as far as the replicas' clocks agree.
//!
//! **Invariant:** the versions of one replica strictly increase, whatever its wall clock does.
//!
//! **Invariant:** versions of two replicas are never equal, because only one replica at a time holds a number
//! ([`Grant`]).
//!
//! The clock follows Kulkarni et al., "Logical Physical Clocks" (2014). Its logical part spills into the
//! ticks of the time: a second has 250,000 ticks, far more than a server makes changes.
//!
//! The watch caches read the time from this clock too, so that a test can set it.

mod version;

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;

pub use version::{REPLICAS, Ticks, is_vouched, twin};

/// The last second of a grant is a reserve. A replica that has not yet noticed that its grant has ended can
/// still make as many versions as a second has ticks; they are not vouched for.
const RESERVE: Duration = Duration::from_secs(1);
/// See [`Clock::window`].
pub const DEFAULT_WINDOW: Duration = Duration::from_mins(1);

/// The right to make versions with a replica number.
///
/// Two holders of one number make no version in common, whatever their clocks say, if the later holder's
/// `after` is at or past the earlier holder's `until`, as recorded by the earlier holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The replica number, below [`REPLICAS`].
    pub number: u8,
    /// Versions must be later than this, because the previous holder may have made versions until then.
    /// `None` if there was none. A time far in the future leads to versions that other replicas refuse:
    /// better take another number.
    pub after: Option<SystemTime>,
    /// Versions must be earlier than this. `None`: for ever.
    pub until: Option<SystemTime>,
}

/// The time by two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The wall clock, which others know too. It may be wrong, and may be set.
    pub wall: SystemTime,
    /// The monotonic clock: the time since some moment, not affected by the wall clock.
    pub passed: Duration,
}

/// Makes versions. A process has one clock, which all its resources share.
pub struct Clock {
    time: Box<dyn Fn() -> ClockReading + Send + Sync>,
    window: Duration,
    state: Mutex<State>,
    granted: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    grant: Option<Grant>,
    /// The time of the latest version, or of a version of another replica that all further ones must be later
    /// than.
    last: Ticks,
    /// The time of the first version made with the current number.
    first: Option<Ticks>,
    vouches: bool,
    wall: WallClock,
    /// The [`ClockReading::offset`] at which the wall clock was last confirmed to be right.
    confirmed_offset: Option<i128>,
}

impl ClockReading {
    /// The wall clock minus the monotonic clock, in microseconds. It jumps when the wall clock is set, and
    /// drifts when it is slewed.
    fn offset(self) -> i128 {
        let micros = |time: Duration| i128::try_from(time.as_micros()).unwrap_or(i128::MAX);
        let wall = match self.wall.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => micros(after),
            Err(before) => -micros(before.duration()),
        };
        wall.saturating_sub(micros(self.passed))
    }

    /// What the wall clock would show at another offset.
    fn wall_at(self, offset: i128) -> SystemTime {
        let micros = |difference: u128| Duration::from_micros(u64::try_from(difference).unwrap_or(u64::MAX));
        let (own, difference) = (self.offset(), micros(offset.abs_diff(self.offset())));
        let wall =
            if own > offset { self.wall.checked_sub(difference) } else { self.wall.checked_add(difference) };
        wall.unwrap_or(self.wall)
    }
}

/// Whether the wall clock is right, as far as is known.
#[derive(Debug, Clone, Copy, Default)]
enum WallClock {
    /// It has not been compared with another clock yet.
    #[default]
    Unknown,
    /// It was right, at this [`ClockReading::offset`].
    Right(i128),
    /// It was wrong when it was last compared.
    Wrong,
}

impl Clock {
    /// A clock for the replica with this number, below [`REPLICAS`], which it holds for ever.
    pub fn new(number: u8) -> Self {
        let clock = Self::unnumbered();
        clock.grant(Grant { number, after: None, until: None });
        clock
    }

    /// A clock that waits for its number, see [`Clock::grant`].
    pub fn unnumbered() -> Self {
        let begin = Instant::now();
        Self {
            time: Box::new(move || ClockReading { wall: SystemTime::now(), passed: begin.elapsed() }),
            window: DEFAULT_WINDOW,
            state: Mutex::default(),
            granted: watch::Sender::new(false),
        }
    }

    /// Reads the time from `time` instead of the system.
    #[must_use]
    pub fn with_time(self, time: impl Fn() -> ClockReading + Send + Sync + 'static) -> Self {
        Self { time: Box::new(time), ..self }
    }

    /// With another [`Clock::window`].
    #[must_use]
    pub fn with_window(self, window: Duration) -> Self {
        Self { window, ..self }
    }

    /// W, the bound on the differences between replicas: each observes within W/2 what another knows, each
    /// clock is off by at most W/8, and a version up to W/4 ahead is accepted.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Takes a number, or extends the grant of the current one.
    pub fn grant(&self, grant: Grant) {
        let mut state = self.state();
        if let Some(after) = grant.after
            // A renewal continues the same grant, unless another replica held the number meanwhile.
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
        // The sender lives as long as the clock.
        let _ = self.granted.subscribe().wait_for(|granted| *granted).await;
    }

    /// Sets whether this replica observes upstream changes as soon as it should.
    pub fn vouch(&self, vouches: bool) {
        self.state().vouches = vouches;
    }

    /// Records whether the wall clock agrees with another one. A wall clock that is wrong, or was set since
    /// it was confirmed, is not trusted until it is confirmed again: no version is vouched for, and no other
    /// replica's version is taken to be of the time it shows.
    pub fn confirm(&self, is_right: bool) {
        let offset = (self.time)().offset();
        let mut state = self.state();
        if !is_right && !matches!(state.wall, WallClock::Wrong) {
            tracing::warn!(
                "the local clock differs from the cluster's: watches from other replicas must list again"
            );
        }
        state.wall = if is_right { WallClock::Right(offset) } else { WallClock::Wrong };
        if is_right {
            state.confirmed_offset = Some(offset);
        }
    }

    /// Whether the versions are further ahead of the time than other replicas' versions can have moved them.
    /// Then they were made while the wall clock was wrong and this was not yet known. Other replicas refuse
    /// such versions until their time comes, so the process should restart and take another number.
    pub fn is_too_far_ahead(&self) -> bool {
        let reading = (self.time)();
        let state = self.state();
        let is_known = state.confirmed_offset.is_some() && state.is_right(reading, self.window);
        is_known && state.last > Ticks::of(reading.wall).plus(self.window)
    }

    /// Whether the wall clock is right, as far as is known.
    pub fn is_right(&self) -> bool {
        let reading = (self.time)();
        self.state().is_right(reading, self.window)
    }

    /// Whether versions made now are vouched for.
    pub fn vouches(&self) -> bool {
        let reading = (self.time)();
        let state = self.state();
        state.vouched(reading, state.now(reading, self.window).max(state.last), self.window)
    }

    /// The time that has passed by the monotonic clock.
    pub fn now(&self) -> Duration {
        (self.time)().passed
    }

    /// The time by [`Clock::now`] that is a window before the time of the version. It is computed from the
    /// wall clock as it is known now, which may have been corrected since the version was made. `None` if
    /// that is before this clock started.
    pub fn window_before(&self, version: u64) -> Option<Duration> {
        let reading = (self.time)();
        let before = Ticks::of_version(version).minus(self.window);
        let now = self.state().now(reading, self.window);
        reading.passed.checked_sub(now.since(before))
    }

    /// A version later than all that this clock has made or passed.
    pub fn next(&self) -> u64 {
        let reading = (self.time)();
        self.state().next(reading, self.window)
    }

    /// Whether this replica can be assumed to know everything that the maker of the version knew: because it
    /// made the version itself, or because the version is at least `spread` old.
    pub fn knows(&self, version: u64, spread: Duration) -> bool {
        let at = Ticks::of_version(version);
        at.plus(spread) <= self.trusted_time() || self.state().has_made(version)
    }

    /// Makes all further versions later than this one. Returns false, and does nothing, if the version is
    /// further ahead of the time than clocks may differ (W/4), or past the end of this replica's grant.
    pub fn advance_past(&self, version: u64) -> bool {
        let now = self.trusted_time();
        let at = Ticks::of_version(version);
        let mut state = self.state();
        let is_near = at <= now.plus(self.window / 4) && state.limit().is_none_or(|limit| at < limit);
        if is_near {
            state.last = state.last.max(at);
        }
        is_near
    }

    fn trusted_time(&self) -> Ticks {
        let reading = (self.time)();
        self.state().now(reading, self.window)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The wall clock's time. If the wall clock was right once and has been set since, the time that it would
    /// show otherwise: else a wall clock that is wrong for a moment would push versions ahead by as much for
    /// as long.
    fn now(&self, reading: ClockReading, window: Duration) -> Ticks {
        Ticks::of(match self.confirmed_offset {
            Some(offset) if has_jumped(reading, offset, window) => reading.wall_at(offset),
            _ => reading.wall,
        })
    }

    fn next(&mut self, reading: ClockReading, window: Duration) -> u64 {
        let now = self.now(reading, window);
        let at = self.limit().map_or(now, |limit| now.min(limit)).max(Ticks(self.last.0 + 1));
        self.last = at;
        self.first.get_or_insert(at);
        let vouched = self.vouched(reading, at, window);
        version::compose(at, self.grant.map_or(0, |grant| grant.number), vouched)
    }

    /// Whether this clock made the version, or may have made it: it bears the current number and is between
    /// the first and the last version made with it.
    fn has_made(&self, version: u64) -> bool {
        let at = Ticks::of_version(version);
        self.grant.is_some_and(|grant| version::replica(version) == grant.number)
            && self.first.is_some_and(|first| first <= at && at <= self.last)
    }

    /// Whether a version of the time `at` is vouched for. One that is far ahead comes from a time that was
    /// corrected since; when its time comes, it would be mistaken for a version of that time.
    fn vouched(&self, reading: ClockReading, at: Ticks, window: Duration) -> bool {
        let now = self.now(reading, window);
        let is_within = self.limit().is_none_or(|limit| now.max(at) < limit);
        let is_right = self.is_right(reading, window);
        self.vouches && self.grant.is_some() && is_within && is_right && at <= now.plus(window / 4)
    }

    fn is_right(&self, reading: ClockReading, window: Duration) -> bool {
        match self.wall {
            WallClock::Unknown => true,
            WallClock::Right(offset) => !has_jumped(reading, offset, window),
            WallClock::Wrong => false,
        }
    }

    /// The time at which versions stop, except for those of the reserve.
    fn limit(&self) -> Option<Ticks> {
        Some(Ticks::of(self.grant?.until?).minus(RESERVE))
    }
}

/// Whether the wall clock has moved further than slewing explains: by more than W/8.
fn has_jumped(reading: ClockReading, offset: i128, window: Duration) -> bool {
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
