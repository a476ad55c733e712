//! Freezes of a policy must not overlap: which of two holds an object, and when it is let go, would be anybody's
//! guess.
//!
//! What overlaps is found on fixed years, not from today: a policy that was admitted once must compile for ever.

use jiff::{SignedDuration, Timestamp};

use super::Window;
use crate::rules::Errors;

/// From 2027 to 2031, with a leap day.
const REFERENCE: (Timestamp, Timestamp) =
    (Timestamp::constant(1_798_761_600, 0), Timestamp::constant(1_924_992_000, 0));

/// The most beginnings of one freeze that are looked at: four years of one every two hours. Denser schedules are
/// looked at for a shorter time, in which they repeat themselves many times over.
const MOST: usize = 17_600;

/// Refuses windows that overlap, given with their place in the policy.
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

/// When a freeze begins within the reference years.
fn starts(window: &Window) -> Vec<Timestamp> {
    let mut starts = Vec::new();
    let mut at = REFERENCE.0;
    while let Some(next) = window.next_start(at) {
        if next >= REFERENCE.1 || starts.len() == MOST {
            break;
        }
        let overlaps = starts.last().is_some_and(|last| next.duration_since(*last) < window.duration);
        starts.push(next);
        // What overlaps itself is refused for that alone.
        if overlaps {
            break;
        }
        at = next;
    }
    starts
}

/// An instant at which both are on. Both lists are in order.
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
