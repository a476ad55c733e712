//! What a record takes, and what it remembers.

use super::*;

/// Ten thousand records are ten thousand times this: what only some kinds have goes behind a box.
#[test]
fn a_record_does_not_grow_with_the_kinds_there_are() {
    assert_eq!(size_of::<Detail>(), 24);
    assert_eq!(size_of::<Record>(), 160);
    assert_eq!(size_of::<FluxDetail>(), 144);
}
