//! The size of a record.

use super::*;

/// There are tens of thousands of records, so fields that only some kinds have are boxed.
#[test]
fn a_record_does_not_grow_with_the_kinds_there_are() {
    assert!(size_of::<Detail>() <= 24);
    assert!(size_of::<Record>() <= 144, "{}", size_of::<Record>());
    assert!(size_of::<FluxDetail>() <= 128, "{}", size_of::<FluxDetail>());
    assert!(size_of::<Reference>() <= 16);
}
