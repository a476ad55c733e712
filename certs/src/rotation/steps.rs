//! Computes the store after a step.

use std::time::SystemTime;

use jiff::Timestamp;

use super::store::{Authority, Leaf};
use super::{Policy, Step, Store, StoreError};
use crate::issue;
use crate::issue::{IssueError, Usage};

/// The prefix of the authorities' common names.
const AUTHORITY_NAME: &str = "gatehouse-ca";
/// The common name of serving certificates. Clients verify the subject alternative names instead.
const LEAF_NAME: &str = "gatehouse";

/// A step could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The step does not fit the store: there is none, or it has no next authority to switch to.
    #[error("rotation step {} does not apply to the stored certificates", .0.as_str())]
    NotApplicable(Step),
    /// A certificate could not be issued.
    #[error("cannot issue a certificate")]
    Issue(#[from] IssueError),
    /// A certificate that was issued cannot be used.
    #[error("invalid certificate")]
    Store(#[from] StoreError),
}

/// The store after `step`, which [`super::plan`] asked for, at the wall-clock time `now`. The caller writes it.
pub fn apply(
    step: Step,
    store: Option<&Store>,
    policy: &Policy,
    now: SystemTime,
) -> Result<Store, RotationError> {
    let mut store = match (step, store) {
        (Step::Create, _) => {
            let current = new_authority(policy, now)?;
            let leaf = new_leaf(&current, policy, now)?;
            Store::new(current, leaf)
        }
        (_, None) => return Err(RotationError::NotApplicable(step)),
        (Step::PublishNext, Some(store)) => {
            Store { next: Some(new_authority(policy, now)?), ..store.clone() }
        }
        (Step::Switch, Some(store)) => {
            let current = store.next.clone().ok_or(RotationError::NotApplicable(step))?;
            let leaf = Some(new_leaf(&current, policy, now)?);
            let previous = Some(store.current.certificate.clone());
            Store { current, next: None, previous, leaf, ..store.clone() }
        }
        (Step::DropPrevious, Some(store)) => Store { previous: None, ..store.clone() },
        (Step::RenewLeaf, Some(store)) => {
            Store { leaf: Some(new_leaf(&store.current, policy, now)?), ..store.clone() }
        }
    };
    store.problems.clear();
    store.changed_at = Timestamp::try_from(now).ok();
    Ok(store)
}

fn new_authority(policy: &Policy, now: SystemTime) -> Result<Authority, RotationError> {
    let authority = issue::Authority::generation(AUTHORITY_NAME, now, policy.ca_lifetime())?;
    Ok(Authority::from_issued(&authority)?)
}

fn new_leaf(authority: &Authority, policy: &Policy, now: SystemTime) -> Result<Leaf, RotationError> {
    let signer = issue::Authority::from_pem(&authority.certificate.pem, &authority.key_pem)?;
    let pair = signer.issue_at(
        now,
        &issue::Leaf {
            common_name: LEAF_NAME.to_owned(),
            organization: None,
            dns_names: policy.names().to_vec(),
            ips: Vec::new(),
            usage: Usage::ServerAuth,
            // A certificate never outlives its authority.
            lifetime: policy.leaf_lifetime().min(authority.certificate.validity.remaining(now)),
        },
    )?;
    Ok(Leaf::from_issued(pair)?)
}
