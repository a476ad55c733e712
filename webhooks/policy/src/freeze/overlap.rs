//! Rejects policies whose freezes overlap: with two active freezes, it would be undefined which of them holds an
//! object and when it is released.
//!
//! **Invariant:** overlaps are searched in fixed years, not from today, so a policy that compiled once always
//! compiles.

use jiff::{SignedDuration, Timestamp};

use super::Window;
use crate::rules::Errors;

/// The years 2027 to 2030, which include a leap day.
const REFERENCE: (Timestamp, Timestamp) =
    (Timestamp::constant(1_798_761_600, 0), Timestamp::constant(1_924_992_000, 0));

/// The most starts of one freeze that are checked: four years of one every two hours. A denser schedule is checked for
/// a shorter time, in which it repeats many times.
const MOST: usize = 17_600;

/// Rejects windows that overlap; each is given with its index in the policy.
pub(crate) fn refuse_overlaps(windows: &[(usize, Window)], errors: &mut Errors) {
    let starts: Vec<_> = windows.iter().map(|(_, window)| starts(window)).collect();
    for (place, (index, window)) in windows.iter().enumerate() {
        let field = |index: usize, name: &str| format!("spec.rules.freezes[{index}].{name}");
        let own = starts[place].windows(2).find(|pair| pair[1].duration_since(pair[0]) < window.duration);
        if let Some(pair) = own {
            let period = pair[1].duration_since(pair[0]);
            let why = format!(
                "freeze {:?} overlaps itself: it begins again after {}",
                window.name,
                gatehouse_apiservice::duration::show(period)
            );
            errors.refuse(
                field(*index, "duration"),
                gatehouse_apiservice::duration::show(window.duration),
                why,
            );
            continue;
        }
        for (other_place, (_, other)) in windows.iter().enumerate().take(place) {
            let meeting = meeting(&starts[other_place], other.duration, &starts[place], window.duration);
            if let Some(at) = meeting {
                let why = format!(
                    "freezes {:?} and {:?} overlap, for example at {}",
                    other.name,
                    window.name,
                    at.to_zoned(window.zone.clone()).strftime("%Y-%m-%d %H:%M %Q")
                );
                errors.refuse(field(*index, "schedule"), &window.written, why);
            }
        }
    }
}

/// The starts of a freeze within the reference years.
fn starts(window: &Window) -> Vec<Timestamp> {
    let mut starts = Vec::new();
    let mut at = REFERENCE.0;
    while let Some(next) = window.next_start(at) {
        if next >= REFERENCE.1 || starts.len() == MOST {
            break;
        }
        let overlaps = starts.last().is_some_and(|last| next.duration_since(*last) < window.duration);
        starts.push(next);
        // A freeze that overlaps itself is rejected for that alone.
        if overlaps {
            break;
        }
        at = next;
    }
    starts
}

/// An instant at which both freezes are active. Both lists are sorted.
fn meeting(
    left: &[Timestamp],
    left_duration: SignedDuration,
    right: &[Timestamp],
    right_duration: SignedDuration,
) -> Option<Timestamp> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    while let (Some(one), Some(other)) = (left.peek(), right.peek()) {
        let (one, other) = (**one, **other);
        if one <= other {
            if other.duration_since(one) < left_duration {
                return Some(other);
            }
            left.next();
        } else {
            if one.duration_since(other) < right_duration {
                return Some(one);
            }
            right.next();
        }
    }
    None
}
