//! Rotation of a certificate authority (CA) and the serving certificate that it signs, without a moment in which
//! clients reject a server.
//!
//! The state is one [`Store`]. One process at a time, the leader, observes the store and the published bundles
//! ([`Observations`]), asks for the next step ([`plan`]), computes it ([`apply`]) and writes the result. The write must
//! fail if another process has written the store meanwhile, and a step that was not written has not happened. Every
//! process reads the store and serves with [`Store::serving`]. Clients verify with [`Store::bundle`], which the leader
//! publishes.
//!
//! **Invariant:** every serving certificate in use verifies against every bundle in use, as long as processes follow
//! the store, and clients the published bundle, within [`Policy::overlap`]. An authority is replaced in three steps.
//! Each of them waits until all processes and clients must have followed the one before:
//!
//! | step | authorities in the bundle | serving certificate signed by |
//! |---|---|---|
//! | – | 1 | 1 |
//! | [`Step::PublishNext`] | 1 2 | 1 |
//! | [`Step::Switch`], after the bundle was published everywhere for an overlap | 1 2 | 2 |
//! | [`Step::DropPrevious`], an overlap later | 2 | 2 |
//!
//! The leader measures these waits on its own monotonic clock, and only from what it observed itself: a jump of the
//! wall clock, or a bundle that could not be published for an hour, cannot shorten them. A new leader starts the wait
//! again. Whether a certificate has expired is judged by the wall clock, as clients do.
//!
//! If the invariant cannot be kept, because the store is lost or its authority has expired, clients reject the servers
//! already, and a new store is created at once: see [`Step::Create`].

#[cfg(test)]
mod model;
mod observations;
mod policy;
mod steps;
mod store;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

pub use observations::{ObservationTimes, Observations};
pub use policy::{Policy, PolicyError};
pub use steps::{RotationError, apply};
pub use store::{Store, StoreError};

/// The longest wait until the next look at the store. The wall clock may jump meanwhile.
const MAX_WAIT: Duration = Duration::from_hours(1);

/// What the leader does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Carry out this step.
    Do(Step),
    /// Nothing, unless an observation changes.
    Nothing {
        /// How long to wait at most before the next look.
        requeue_after: Duration,
    },
}

/// One change of the store. See the table in the [module's documentation](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Create a new authority and a serving certificate, and drop the old ones: there is no store, its authority cannot
    /// be read, or has expired (or is not valid yet) with no next one that is valid. Connections fail until the new
    /// bundle is published everywhere. A leader that still has a lost store in memory writes it again instead.
    Create,
    /// Create the next authority: clients trust it from now on, and it signs later. Replaces a next authority that has
    /// waited too long.
    PublishNext,
    /// Make the next authority the current one; it signs a new serving certificate.
    Switch,
    /// Remove the previous authority from the bundle.
    DropPrevious,
    /// Issue a new serving certificate with the current authority.
    RenewLeaf,
}

impl Step {
    /// The step's name in logs and metrics.
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

/// The next step for `store` at the wall-clock time `now`. `store` is `None` if it is missing or cannot be read.
pub fn plan(store: Option<&Store>, policy: &Policy, now: SystemTime, observed: ObservationTimes) -> Plan {
    let Some(store) = store else { return Plan::Do(Step::Create) };
    let current = &store.current.certificate.validity;
    if !current.contains(now) {
        // Some clients trust the next authority already, and none trusts a new one.
        let has_next = store.next.as_ref().is_some_and(|next| next.certificate.validity.contains(now));
        return Plan::Do(if has_next { Step::Switch } else { Step::Create });
    }
    if is_leaf_due(store, policy, now) {
        return Plan::Do(Step::RenewLeaf);
    }
    let after = |waited: Duration, step| match policy.overlap().saturating_sub(waited) {
        Duration::ZERO => Plan::Do(step),
        rest => Plan::Nothing { requeue_after: rest.min(MAX_WAIT) },
    };
    match (&store.previous, &store.next) {
        (Some(_), _) => after(observed.unchanged_for, Step::DropPrevious),
        (None, Some(next)) if next.certificate.validity.remaining(now) <= policy.authority_margin() => {
            Plan::Do(Step::PublishNext)
        }
        (None, Some(_)) => after(observed.published_for.unwrap_or_default(), Step::Switch),
        (None, None) => match current.remaining(now).saturating_sub(policy.authority_margin()) {
            Duration::ZERO => Plan::Do(Step::PublishNext),
            rest => {
                Plan::Nothing { requeue_after: rest.min(until_leaf_is_due(store, policy, now)).min(MAX_WAIT) }
            }
        },
    }
}

/// Whether the serving certificate must be replaced, and a new one by the current authority would be better.
fn is_leaf_due(store: &Store, policy: &Policy, now: SystemTime) -> bool {
    let Some(leaf) = &store.leaf else { return true };
    let is_ending = until_leaf_is_due(store, policy, now).is_zero();
    // A certificate that expires with its authority cannot be extended; the switch to the next authority replaces it.
    let can_last = store.current.certificate.validity.not_after > leaf.validity.not_after;
    (is_ending && can_last)
        || !leaf.has_names(policy.names())
        || !leaf.verifies(&store.current.certificate, now)
}

fn until_leaf_is_due(store: &Store, policy: &Policy, now: SystemTime) -> Duration {
    let left = store.leaf.as_ref().map_or(Duration::ZERO, |leaf| leaf.validity.remaining(now));
    left.saturating_sub(policy.leaf_margin())
}
