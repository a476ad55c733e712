//! Computes freeze windows: when each begins and ends, in its time zone.
//!
//! A schedule names times on the clock of a zone. A freeze begins at the first instant at which that clock shows the
//! time or a later one: a time that daylight saving skips moves to the end of the gap, and a time that occurs twice
//! counts once, the first time. The freeze then lasts an absolute duration.
//!
//! **Invariant:** the windows of a freeze are in the order of its schedule, since a later time never becomes an
//! earlier instant.

mod hold;
mod overlap;

#[cfg(test)]
mod tests;

use gatehouse_apiservice::{dns, policy::Freeze};
use gatehouse_inventory::schedule::is_ever_due;
use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

use crate::{ActiveFreeze, rules::Errors};

pub use hold::{AUTHOR, Hold, forged, hold, marks, suspended};
pub(crate) use overlap::refuse_overlaps;

/// The longest freeze: 31 days.
const LONGEST: SignedDuration = SignedDuration::from_hours(31 * 24);

/// The freezes of a policy.
#[derive(Debug, Default)]
pub(crate) struct Freezes(Vec<Window>);

/// A compiled freeze.
#[derive(Debug)]
pub(crate) struct Window {
    name: String,
    reason: Option<String>,
    schedule: croner::Cron,
    /// The schedule as written.
    written: String,
    duration: SignedDuration,
    zone: TimeZone,
}

impl Freezes {
    pub(crate) fn compile(freezes: &[Freeze], errors: &mut Errors) -> Self {
        /// The most freezes. Each takes a search at admission; more are better written as a schedule.
        const MOST: usize = 64;
        if freezes.len() > MOST {
            errors.refuse(
                "spec.rules.freezes",
                freezes.len().to_string(),
                format!("must be {MOST} or fewer"),
            );
            return Self::default();
        }
        let mut windows = Vec::new();
        for (index, freeze) in freezes.iter().enumerate() {
            let field = format!("spec.rules.freezes[{index}]");
            // The name becomes part of the marks on held objects.
            if !dns::is_label(&freeze.name) {
                let why = "must be a name of lower-case letters, digits and dashes, of at most 63 characters";
                errors.refuse(format!("{field}.name"), &freeze.name, why);
            } else if freezes[..index].iter().any(|other| other.name == freeze.name) {
                errors.refuse(
                    format!("{field}.name"),
                    &freeze.name,
                    "names another freeze of this policy too",
                );
            }
            if let Some(window) = Window::compile(freeze, &field, errors) {
                windows.push((index, window));
            }
        }
        refuse_overlaps(&windows, errors);
        Self(windows.into_iter().map(|(_, window)| window).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The active freeze.
    pub(crate) fn active(&self, now: Timestamp) -> Option<ActiveFreeze> {
        self.0.iter().find_map(|window| window.active(now))
    }

    /// When a freeze begins or ends next.
    pub(crate) fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let next = |window: &Window| match window.active(now) {
            Some(active) => Some(active.until),
            None => window.next_start(now),
        };
        self.0.iter().filter_map(next).min()
    }
}

impl Window {
    fn compile(freeze: &Freeze, field: &str, errors: &mut Errors) -> Option<Self> {
        let schedule = schedule(&freeze.schedule);
        if let Err(why) = &schedule {
            errors.refuse(format!("{field}.schedule"), &freeze.schedule, why);
        }
        let duration = errors.duration(&format!("{field}.duration"), &freeze.duration);
        if duration.is_some_and(|duration| duration > LONGEST) {
            errors.refuse(
                format!("{field}.duration"),
                &freeze.duration,
                "must not be longer than 31 days (744h)",
            );
            return None;
        }
        let zone = match freeze.time_zone.as_deref() {
            None => Some(TimeZone::UTC),
            Some(name) => {
                // The time zones are compiled in, so that every replica and every check of a file agree.
                let zone = TimeZoneDatabase::bundled().get(name).ok();
                if zone.is_none() {
                    errors.refuse(format!("{field}.timeZone"), name, "unknown time zone");
                }
                zone
            }
        };
        let window = Self {
            name: freeze.name.clone(),
            reason: freeze.reason.clone().filter(|reason| !reason.is_empty()),
            schedule: schedule.ok()?,
            written: freeze.schedule.clone(),
            duration: duration?,
            zone: zone?,
        };
        if !is_ever_due(&window.schedule) {
            errors.refuse(format!("{field}.schedule"), &freeze.schedule, "never comes");
            return None;
        }
        Some(window)
    }

    fn active(&self, now: Timestamp) -> Option<ActiveFreeze> {
        let since = self.last_start(now)?;
        let until = since.checked_add(self.duration).ok()?;
        (now < until).then(|| ActiveFreeze {
            name: self.name.clone(),
            reason: self.reason.clone(),
            since,
            until,
            until_local: until.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M %:z (%Q)").to_string(),
        })
    }

    /// The last start at or before an instant.
    fn last_start(&self, now: Timestamp) -> Option<Timestamp> {
        // While the clock repeats an hour, it shows a time before one that it has already shown.
        let mut clock = self.latest_shown(now);
        let mut inclusive = true;
        loop {
            let at = self.schedule.find_previous_occurrence(&clock, inclusive).ok()?;
            let start = self.instant(at)?;
            if start <= now {
                return Some(start);
            }
            (clock, inclusive) = (at, false);
        }
    }

    /// The first start after an instant.
    fn next_start(&self, now: Timestamp) -> Option<Timestamp> {
        let mut clock = self.zone.to_datetime(now);
        let mut inclusive = true;
        loop {
            let at = self.schedule.find_next_occurrence(&clock, inclusive).ok()?;
            let start = self.instant(at)?;
            if start > now {
                return Some(start);
            }
            (clock, inclusive) = (at, false);
        }
    }

    /// The latest time that the clock has shown up to an instant.
    fn latest_shown(&self, now: Timestamp) -> DateTime {
        /// The most that clocks are put back, other than over the date line.
        const LONGEST_FOLD: SignedDuration = SignedDuration::from_hours(3);
        let shown = self.zone.to_datetime(now);
        let earlier = now.checked_sub(LONGEST_FOLD).unwrap_or(now);
        let (then, today) = (self.zone.to_offset(earlier).seconds(), self.zone.to_offset(now).seconds());
        let put_back = SignedDuration::from_secs(i64::from(then) - i64::from(today));
        if put_back.is_positive() { shown.checked_add(put_back).unwrap_or(shown) } else { shown }
    }

    /// The first instant at which the clock shows a time or a later one.
    fn instant(&self, clock: DateTime) -> Option<Timestamp> {
        let before = match self.zone.to_ambiguous_timestamp(clock).offset() {
            AmbiguousOffset::Unambiguous { offset } => return offset.to_timestamp(clock).ok(),
            AmbiguousOffset::Fold { before, .. } => return before.to_timestamp(clock).ok(),
            AmbiguousOffset::Gap { before, .. } => before,
        };
        // With the offset before the gap, this instant lies within the gap or after its end; the end is the preceding
        // transition.
        let within = before.to_timestamp(clock).ok()?;
        let transition =
            self.zone.preceding(within.checked_add(SignedDuration::from_nanos(1)).ok()?).next()?;
        Some(transition.timestamp())
    }
}

/// Parses cron with five fields, or a nickname such as `@weekly`.
fn schedule(text: &str) -> Result<croner::Cron, String> {
    use croner::parser::{CronParser, Seconds, Year};
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(text).map_err(|error| format!("not a schedule of five fields: {error}"))
}
