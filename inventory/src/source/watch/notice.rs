//! What a follower is asked for, and what it tells of a resource.

use super::raw::Raw;
use crate::source::KindStatus;

/// Receives the notices of a resource.
pub trait Observer: Send {
    /// Handles the next notice. Nothing more is read from the server until this returns.
    fn observe(&mut self, notice: WatchNotice<'_>) -> impl Future<Output = ()> + Send;
}

/// A notice about a resource or one of its objects, in order.
#[derive(Debug)]
pub enum WatchNotice<'a> {
    /// The status of the resource. Sent before the first object.
    Status(KindStatus),
    /// All objects will be sent now. The known ones are kept until [`WatchNotice::Synced`].
    Restart,
    /// The current state of an object.
    Apply(&'a Raw),
    /// An object was deleted; this is its last state.
    Delete(&'a Raw),
    /// All objects have been sent since the last [`WatchNotice::Restart`]. Others no longer exist.
    Synced,
    /// All changes up to this resourceVersion have been sent. Omitted if the resourceVersion is not a number.
    Reached(u64),
}

/// Which objects of a resource are followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// Those of this namespace; `None`: of all.
    pub(super) namespace: Option<String>,
    /// Those with these labels, as a label selector.
    pub(super) labels: Option<String>,
}

/// Which part of each object is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The whole object.
    Whole,
    /// Only `metadata` (`PartialObjectMetadata`), so that the API server does not send the rest.
    Metadata,
}
