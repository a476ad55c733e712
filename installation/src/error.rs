//! Why a round of maintenance failed. Callers log the error and retry.

use std::time::Duration;

use gatehouse_certs::rotation::{RotationError, StoreError};
use tokio::time::timeout;

/// The timeout of one request. It is shorter than `LEASE_DURATION` less `RENEW_DEADLINE` (24 s − 18 s), so that a
/// leader's last request is over before another replica leads. Two requests, a read of the Lease and a write, fit into
/// `RENEW_DEADLINE`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

/// Something could not be brought up to date in this round.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// The API server answered with an error, or could not be reached.
    #[error("cannot read or write {what}")]
    Request {
        /// Kind and name.
        what: String,
        /// The error of the client.
        source: Box<kube::Error>,
    },
    /// The API server did not answer within [`REQUEST_TIMEOUT`].
    #[error("{what}: timed out after {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout {
        /// Kind and name.
        what: String,
    },
    /// The object is not created, because without its owner it would outlive the installation.
    #[error("{what} does not exist and is not created: its owner, the ClusterRole {owner}, does not exist")]
    NoOwner {
        /// Kind and name.
        what: String,
        /// The name of the ClusterRole.
        owner: String,
    },
    /// The Secret has content that Gatehouse did not write.
    #[error("Secret/{0} has other content and is not overwritten")]
    ForeignSecret(String),
    /// The content of the Secret cannot be used at all.
    #[error("Secret/{name} is invalid")]
    Store {
        /// The Secret's name.
        name: String,
        /// What is wrong with it.
        source: StoreError,
    },
    /// One key of the Secret cannot be used; the others can.
    #[error("a key of Secret/{name} is invalid")]
    InvalidKey {
        /// The Secret's name.
        name: String,
        /// What is wrong with it.
        source: StoreError,
    },
    /// The manager that installed the configuration, such as Helm, left out some of its webhooks.
    #[error("{what} lacks {}; its installer must add them", webhooks.join(", "))]
    Incomplete {
        /// Kind and name.
        what: String,
        /// The names of the missing webhooks.
        webhooks: Vec<String>,
    },
    /// A step of the rotation could not be computed.
    #[error("cannot issue certificates")]
    Rotation(#[from] RotationError),
    /// This replica lost leadership in the middle of a round.
    #[error("this replica lost leadership")]
    LostLeadership,
}

/// Sends a request about `what` (kind and name), with a timeout of [`REQUEST_TIMEOUT`].
pub(crate) async fn with_timeout<T>(
    what: &str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, ReconcileError> {
    match timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => answer
            .map_err(|source| ReconcileError::Request { what: what.to_owned(), source: Box::new(source) }),
        Err(_) => Err(ReconcileError::Timeout { what: what.to_owned() }),
    }
}
