//! Whether a cron schedule is ever due: `0 0 30 2 *` never is.
//!
//! Tenants write schedules, and for one that is never due, the library searches up to the year 5000. A search of the
//! last 28 years before that is cheap, and has the same answer as a search from today. Callers check it first.

use croner::{Cron, CronDateTime};
use jiff::civil::{DateTime, date};

/// In the 28 years from here to the year 5000, each day of each month falls on each day of the week, the 29th of
/// February included.
const START: DateTime = date(4972, 1, 1).at(0, 0, 0, 0);

/// Whether the schedule is ever due.
pub fn is_ever_due(schedule: &Cron) -> bool {
    is_due_after(schedule, &START)
}

fn is_due_after(schedule: &Cron, start: &impl CronDateTime) -> bool {
    schedule.find_next_occurrence(start, true).is_ok()
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, cmp::Ordering, rc::Rc};

    use croner::{CivilDateTime, Resolution, Weekday, errors::CronError};

    use super::*;

    /// A time that counts how many other times the library visits.
    #[derive(Clone)]
    struct Counted(DateTime, Rc<Cell<u32>>);

    impl CronDateTime for Counted {
        fn to_civil(&self) -> CivilDateTime {
            self.0.to_civil()
        }

        fn civil_weekday(&self) -> Weekday {
            self.0.civil_weekday()
        }

        fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
            self.1.set(self.1.get() + 1);
            Ok(match self.0.resolve_civil(civil)? {
                Resolution::Single(at) => Resolution::Single(Self(at, Rc::clone(&self.1))),
                _ => unreachable!("there is no time zone"),
            })
        }

        fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
            Some(Self(self.0.checked_add_seconds(seconds)?, Rc::clone(&self.1)))
        }

        fn cmp_instant(&self, other: &Self) -> Ordering {
            self.0.cmp_instant(&other.0)
        }
    }

    #[test]
    fn what_is_never_due_is_found_out_in_a_bounded_number_of_steps() {
        for (schedule, expected) in [
            ("* * * * *", true),
            ("0 0 29 2 *", true),
            ("0 0 31 1,2 *", true),
            ("0 0 30 2 MON", true),
            ("0 0 29 2 +MON", true),
            ("59 59 23 31 12 *", true),
            ("0 0 30 2 *", false),
            ("* * 30,31 2 *", false),
            ("*/5 * 31 2,4,6,9,11 *", false),
        ] {
            let steps = Rc::new(Cell::new(0));
            let schedule: Cron = schedule.parse().expect(schedule);
            let start = Counted(START, Rc::clone(&steps));
            assert_eq!(is_due_after(&schedule, &start), expected, "{}", schedule.as_str());
            // The days and months of 28 years.
            assert!(steps.get() < 28 * (366 + 12), "{}: {} steps", schedule.as_str(), steps.get());
        }
    }
}
