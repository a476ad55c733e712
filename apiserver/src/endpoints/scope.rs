//! What a request reads: the rows of a cache, or those of them that its user may see.

use super::ResourceEndpoint;
use crate::{
    callers::{Caller, Callers},
    watchcache::{Expired, Resume, ResumeError, ResumeFrom, Snapshot, WatchCache},
};
use gatehouse_serving::ApiError;

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    cache: &'a WatchCache,
    /// `None`: whoever may read the resource sees all rows.
    caller: Option<(&'a Callers, &'a Caller)>,
    from: ResumeFrom,
}

impl<'a> Scope<'a> {
    pub(super) fn new(served: &'a ResourceEndpoint, caller: Option<&'a Caller>, from: ResumeFrom) -> Self {
        Self { cache: &served.cache, caller: served.callers.as_deref().zip(caller), from }
    }

    pub(super) fn cache(&self) -> &'a WatchCache {
        self.cache
    }

    /// The rows as they are now.
    pub(super) fn snapshot(&self) -> Result<Snapshot, ApiError> {
        match self.caller {
            Some((callers, caller)) => caller.snapshot(callers),
            None => Ok(self.cache.snapshot()),
        }
    }

    /// The rows as they were at a version.
    pub(super) fn snapshot_at(&self, version: u64) -> Result<Snapshot, Expired> {
        match self.caller {
            Some((callers, caller)) => caller.snapshot_at(callers, version),
            None => self.cache.snapshot_at(version),
        }
    }

    /// How a client that has everything up to `version` resumes.
    pub(super) fn resume(&self, version: u64) -> Result<Resume, ResumeError> {
        match self.caller {
            Some((callers, caller)) => caller.resume(callers, version, self.from),
            None => self.cache.resume(version, self.from),
        }
    }
}
