//! Regressions: sequences that random cases found, each with its failure.

use super::{
    Run, Step,
    cases::{PLAIN, run},
};

/// A replica whose list of namespaces was older than its admission took an object for one that no longer belongs to the
/// tenant, and dropped the charge before it was counted.
#[test]
fn a_list_of_namespaces_that_is_older_than_an_object_does_not_say_whose_it_is() {
    let steps: &[Step] = &[
        (0, 0, 0, 0),
        (227, 5, 0, 1),
        (164, 11, 0, 0),
        (227, 93, 3, 0),
        (141, 1, 190, 0),
        (51, 0, 0, 0),
        (0, 0, 24, 0),
        (51, 0, 0, 0),
        (171, 0, 136, 0),
        (0, 0, 0, 0),
        (12, 0, 0, 0),
        (21, 0, 0, 0),
        (34, 0, 0, 0),
        (30, 0, 187, 0),
        (21, 0, 110, 0),
        (167, 0, 0, 0),
        (0, 0, 0, 0),
        (203, 188, 0, 0),
        (76, 170, 60, 32),
        (83, 53, 0, 0),
        (187, 47, 0, 0),
    ];
    run(steps, PLAIN).unwrap();
}

/// A block was written and the seal broken before other replicas observed it, its writer died, and the ledger was
/// emptied.
#[test]
fn what_is_empty_after_a_broken_seal_is_no_older_versions() {
    let steps: &[Step] = &[
        (227, 255, 101, 0),
        (149, 129, 21, 0),
        (146, 252, 159, 0),
        (4, 0, 0, 0),
        (0, 0, 0, 0),
        (0, 0, 0, 0),
        (0, 0, 0, 0),
        (0, 0, 0, 0),
        (29, 137, 0, 0),
        (16, 0, 0, 0),
        (0, 0, 0, 0),
        (16, 0, 0, 0),
        (12, 0, 0, 0),
        (167, 0, 34, 0),
        (197, 0, 93, 0),
    ];
    run(steps, Run { editor: true, ..PLAIN }).unwrap();
}
