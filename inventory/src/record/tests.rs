//! The size of a record.

use super::*;

/// There are tens of thousands of records, so fields that only some kinds have are boxed.
#[test]
fn a_record_does_not_grow_with_the_kinds_there_are() {
    assert_eq!(size_of::<Detail>(), 24);
    assert_eq!(size_of::<Record>(), 176);
    assert_eq!(size_of::<FluxDetail>(), 176);
}
