//! What an evaluation may cost: steps, bytes and time.
//!
//! Kubernetes' limits are the model: a limit for each expression, and one for all expressions of a policy on an object.
//! A step is the evaluation of one part of an expression, or the look at one element or some bytes of a value. Bytes are
//! counted before they are asked for and never given back, so that an evaluation cannot hold more than it may count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::Failure;

/// The most steps that one expression takes on one object.
pub const EXPRESSION_STEPS: u64 = 1_000_000;
/// The most bytes that one expression makes on one object.
pub const EXPRESSION_BYTES: u64 = 16 << 20;
/// The most steps that the expressions of a policy, or of a kind of the catalogue, take together on one object.
pub const TOTAL_STEPS: u64 = 4 * EXPRESSION_STEPS;

/// The clock is looked at after so many steps.
const STEPS_BETWEEN_LOOKS: u64 = 1024;

/// What several expressions may take together.
#[derive(Debug)]
pub struct Budget {
    /// One evaluation at a time takes of it, if not on one thread.
    steps: AtomicU64,
    until: Option<Instant>,
}

impl Budget {
    /// [`TOTAL_STEPS`], and no step after `until`.
    pub fn new(until: Option<Instant>) -> Self {
        Self { steps: AtomicU64::new(TOTAL_STEPS), until }
    }

    /// [`TOTAL_STEPS`], or less if so many are not left of what is granted for many objects.
    pub fn of(granted: u64) -> Self {
        Self { steps: AtomicU64::new(granted.min(TOTAL_STEPS)), until: None }
    }

    /// The steps that are left.
    pub fn steps_left(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// What one expression may take of it.
    pub(super) fn meter(&self) -> Meter<'_> {
        let steps = self.steps_left().min(EXPRESSION_STEPS);
        Meter { budget: self, granted: steps, steps, bytes: EXPRESSION_BYTES, until_look: 0 }
    }
}

/// Counts what one expression takes.
#[derive(Debug)]
pub(super) struct Meter<'b> {
    budget: &'b Budget,
    granted: u64,
    steps: u64,
    bytes: u64,
    until_look: u64,
}

impl Meter<'_> {
    /// Takes steps; an error, if so many are not left or the time is over.
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

    /// Takes bytes that are about to be asked for.
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
