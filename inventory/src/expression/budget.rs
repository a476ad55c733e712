//! Limits the cost of an evaluation: steps, bytes and time.
//!
//! The limits follow those of Kubernetes: one for each expression, and one for all expressions of a policy on an
//! object. A step is the evaluation of one part of an expression, or a read of one element or of some bytes of a value.
//!
//! **Invariant:** Bytes are counted before they are allocated and are never returned, so an evaluation cannot hold more
//! than it may count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::Failure;

/// The most steps of one expression on one object.
pub const EXPRESSION_STEPS: u64 = 1_000_000;
/// The most bytes that one expression allocates on one object.
pub const EXPRESSION_BYTES: u64 = 16 << 20;
/// The most steps of all expressions of a policy, or of a kind of the catalogue, on one object.
pub const TOTAL_STEPS: u64 = 4 * EXPRESSION_STEPS;

/// The number of steps between two reads of the clock.
const STEPS_BETWEEN_LOOKS: u64 = 1024;

/// The budget that several expressions share.
#[derive(Debug)]
pub struct Budget {
    /// Evaluations may run on different threads, but only one at a time uses it.
    steps: AtomicU64,
    until: Option<Instant>,
}

impl Budget {
    /// [`TOTAL_STEPS`], with the deadline `until`.
    pub fn new(until: Option<Instant>) -> Self {
        Self { steps: AtomicU64::new(TOTAL_STEPS), until }
    }

    /// [`TOTAL_STEPS`], or `granted` if fewer steps remain of the budget for many objects.
    pub fn of(granted: u64) -> Self {
        Self { steps: AtomicU64::new(granted.min(TOTAL_STEPS)), until: None }
    }

    /// The remaining steps.
    pub fn steps_left(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// The part of it that one expression may use.
    pub(super) fn meter(&self) -> Meter<'_> {
        let steps = self.steps_left().min(EXPRESSION_STEPS);
        Meter { budget: self, granted: steps, steps, bytes: EXPRESSION_BYTES, until_look: 0 }
    }
}

/// Counts the cost of one expression.
#[derive(Debug)]
pub(super) struct Meter<'b> {
    budget: &'b Budget,
    granted: u64,
    steps: u64,
    bytes: u64,
    until_look: u64,
}

impl Meter<'_> {
    /// Counts steps; an error if too few remain or the deadline has passed.
    pub(super) fn steps(&mut self, steps: u64) -> Result<(), Failure> {
        let Some(left) = self.steps.checked_sub(steps) else {
            self.steps = 0;
            return Err(if self.granted < EXPRESSION_STEPS {
                Failure::Exhausted("takes, with the conditions before it, too much work on this object")
            } else {
                Failure::Exhausted("takes too much work on this object")
            });
        };
        self.steps = left;
        if let Some(left) = self.until_look.checked_sub(steps) {
            self.until_look = left;
        } else {
            self.until_look = STEPS_BETWEEN_LOOKS;
            if self.budget.until.is_some_and(|until| Instant::now() >= until) {
                return Err(Failure::Exhausted("was not evaluated in time"));
            }
        }
        Ok(())
    }

    /// Counts bytes that are about to be allocated.
    pub(super) fn bytes(&mut self, bytes: u64) -> Result<(), Failure> {
        match self.bytes.checked_sub(bytes) {
            Some(left) => {
                self.bytes = left;
                Ok(())
            }
            None => Err(Failure::Exhausted("takes too much memory on this object")),
        }
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        let used = self.granted - self.steps;
        self.budget.steps.store(self.budget.steps_left().saturating_sub(used), Ordering::Relaxed);
    }
}
