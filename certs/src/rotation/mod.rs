//! Certificates that are rotated by whoever uses them: an authority, a serving certificate signed by it, and the order in
//! which both are replaced.
//!
//! What is kept is one [`Store`]. One process at a time, the leader, looks at it ([`Sightings`]), asks what to do
//! ([`plan`]), does it ([`apply`]) and writes the outcome, which must fail if the store was written by somebody else
//! meanwhile; a step that could not be written has not been made. Every process follows the store and serves with
//! [`Store::serving`]. Whoever verifies them follows [`Store::bundle`], which the leader publishes.
//!
//! Invariant: **whatever anybody serves with verifies against whatever bundle anybody uses**, as long as processes follow
//! the store, and verifiers the published bundle, within [`Policy::overlap`]. An authority is replaced in three steps, and
//! each waits until nobody can be behind the one before:
//!
//! | step | authorities in the bundle | serving certificate by |
//! |---|---|---|
//! | – | 1 | 1 |
//! | [`Step::PublishNext`] | 1 2 | 1 |
//! | [`Step::Switch`], once the bundle was seen everywhere for an overlap | 1 2 | 2 |
//! | [`Step::DropPrevious`], an overlap later | 2 | 2 |
//!
//! Waiting is measured by the leader's own monotonic clock, from what it saw itself: a jump of the wall clock, or a bundle
//! that could not be published for an hour, makes it longer and never shorter. A new leader begins to wait anew. When
//! certificates end is judged by the wall clock, as by those who verify them.
//!
//! Where the invariant cannot be kept the store is made anew at once, since nothing verifies any more anyhow: see
//! [`Step::Create`].

#[cfg(test)]
mod model;
mod policy;
mod sightings;
mod steps;
mod store;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

pub use policy::{Policy, PolicyError};
pub use sightings::{Seen, Sightings};
pub use steps::{RotationError, apply};
pub use store::{Store, StoreError};

/// The store is looked at again after this long at the latest: a wall clock may jump.
const MAX_WAIT: Duration = Duration::from_hours(1);

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Make this step.
    Do(Step),
    /// Nothing, unless what was seen changes.
    Nothing {
        /// When to look again at the latest.
        next_look: Duration,
    },
}

/// One change of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A new authority and a certificate by it, without regard for what there was: there is no store, its authority cannot
    /// be read, or has ended without one to follow it. Until the new bundle is published everywhere, connections fail. A
    /// leader that still has the store that is gone writes that again instead.
    Create,
    /// A second authority beside the current one, to be trusted from now on and used later.
    PublishNext,
    /// The second authority becomes the current one, and signs the serving certificate.
    Switch,
    /// The authority before the current one is trusted no longer.
    DropPrevious,
    /// A new serving certificate by the current authority.
    RenewLeaf,
}

impl Step {
    /// Its name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::PublishNext => "publish-next",
            Self::Switch => "switch",
            Self::DropPrevious => "drop-previous",
            Self::RenewLeaf => "renew-leaf",
        }
    }
}

/// Says what is to be done about `store`; `None` if there is none that can be read.
pub fn plan(store: Option<&Store>, policy: &Policy, now: SystemTime, seen: Seen) -> Plan {
    let Some(store) = store else { return Plan::Do(Step::Create) };
    let current = &store.current.certificate.validity;
    if !current.contains(now) {
        // An authority that is in the bundle already is better than one that nobody knows.
        let has_next = store.next.as_ref().is_some_and(|next| next.certificate.validity.contains(now));
        return Plan::Do(if has_next { Step::Switch } else { Step::Create });
    }
    if is_leaf_due(store, policy, now) {
        return Plan::Do(Step::RenewLeaf);
    }
    let after = |waited: Duration, step| match policy.overlap().saturating_sub(waited) {
        Duration::ZERO => Plan::Do(step),
        rest => Plan::Nothing { next_look: rest.min(MAX_WAIT) },
    };
    match (&store.previous, &store.next) {
        (Some(_), _) => after(seen.kept_for, Step::DropPrevious),
        (None, Some(next)) if next.certificate.validity.left(now) <= policy.authority_margin() => {
            Plan::Do(Step::PublishNext)
        }
        (None, Some(_)) => after(seen.published_for.unwrap_or_default(), Step::Switch),
        (None, None) => match current.left(now).saturating_sub(policy.authority_margin()) {
            Duration::ZERO => Plan::Do(Step::PublishNext),
            rest => {
                Plan::Nothing { next_look: rest.min(until_leaf_is_due(store, policy, now)).min(MAX_WAIT) }
            }
        },
    }
}

/// Whether another serving certificate by the current authority is needed, and would be any better.
fn is_leaf_due(store: &Store, policy: &Policy, now: SystemTime) -> bool {
    let Some(leaf) = &store.leaf else { return true };
    let is_ending = until_leaf_is_due(store, policy, now).is_zero();
    // One that ends with its authority is followed by the next authority's.
    let can_last = store.current.certificate.validity.not_after > leaf.validity.not_after;
    (is_ending && can_last)
        || !leaf.has_names(policy.names())
        || !leaf.verifies(&store.current.certificate, now)
}

fn until_leaf_is_due(store: &Store, policy: &Policy, now: SystemTime) -> Duration {
    let left = store.leaf.as_ref().map_or(Duration::ZERO, |leaf| leaf.validity.left(now));
    left.saturating_sub(policy.leaf_margin())
}
