//! What can go wrong with keeping things right. It is logged, and tried again.

use std::time::Duration;

use gatehouse_certs::rotation::{RotationError, StoreError};
use tokio::time::timeout;

/// One request. Shorter than the difference between the time that a leader believes in itself and the time that others
/// wait for it, so that what it began is over when another leads; and two of them, a look at a Lease and a write, fit
/// between two renewals and the deadline.
const REQUEST: Duration = Duration::from_secs(4);

/// Something could not be kept right, for now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// The API server refused, or could not be reached.
    #[error("cannot read or write {what}")]
    Request {
        /// Kind and name.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("{what}: timed out after {} s", REQUEST.as_secs())]
    Late {
        /// Kind and name.
        what: String,
    },
    /// It would not go with the installation.
    #[error("{what} does not exist and is not created: its owner, the ClusterRole {owner}, does not exist")]
    NoOwner {
        /// Kind and name.
        what: String,
        /// The name of the ClusterRole.
        owner: String,
    },
    /// The Secret belongs to somebody else.
    #[error("Secret/{0} has other content and is not overwritten")]
    Foreign(String),
    /// What the Secret holds cannot be used.
    #[error("Secret/{name} is invalid")]
    Store {
        /// The Secret's name.
        name: String,
        /// What is wrong with it.
        source: StoreError,
    },
    /// Some of what the Secret holds cannot be used.
    #[error("a key of Secret/{name} is invalid")]
    Part {
        /// The Secret's name.
        name: String,
        /// What is wrong with it.
        source: StoreError,
    },
    /// Whoever installed it left something out.
    #[error("{what} lacks {}; its installer must add them", webhooks.join(", "))]
    Incomplete {
        /// Kind and name.
        what: String,
        /// The names of webhooks.
        webhooks: Vec<String>,
    },
    /// A step of the rotation failed.
    #[error("cannot issue certificates")]
    Rotation(#[from] RotationError),
    /// Somebody else leads meanwhile.
    #[error("this replica lost leadership")]
    Deposed,
}

/// Waits for a request about `what`, not for long.
pub(crate) async fn limited<T>(
    what: &str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, KeepError> {
    match timeout(REQUEST, request).await {
        Ok(answer) => {
            answer.map_err(|source| KeepError::Request { what: what.to_owned(), source: Box::new(source) })
        }
        Err(_) => Err(KeepError::Late { what: what.to_owned() }),
    }
}
