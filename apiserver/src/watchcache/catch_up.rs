//! Resumes a client that was last served by another replica, or by an earlier process of this one.
//!
//! This replica knows nothing of what such a client has seen but its version V. Only vouched versions are
//! accepted: when the other replica made V, it had observed everything that happened upstream until W/2
//! before, where W is the [`window`](crate::clock::Clock::window). The clocks of the two replicas are off by
//! at most W/8 each, and V is at most W/4 ahead of the other replica's clock. So every change that the client
//! lacks happened less than W/2 + W/4 + 2 × W/8 = W before V. This replica observed that change no earlier
//! than it happened, and stamped the rows that it rendered then ([`stamp_log`](super::stamp_log)). The client
//! therefore gets every row that was stamped since W before V, each with its current content.
//!
//! The client may also have seen changes that this replica has not observed yet. So it continues to get
//! stamped rows, changed or not, until this replica has observed everything that had happened when the client
//! connected. That is the case W/2 later, if this replica vouches for its own versions at that time. From
//! then on the client has what this replica has, and its watch follows the log.
//!
//! Until then, events carry the twins of their versions. Rows are sent in the order of their stamps'
//! versions. A client whose connection breaks in between lacks only what was stamped after the last row it
//! got, which is what happened since W/2 before that version. So the argument above holds for that version
//! too, and the client can resume from it at any replica.

use std::{sync::Arc, time::Duration};

use super::{Expired, Row, RowKey, State, WatchCache};
use crate::clock::{is_vouched, twin};

/// How a watch from a version begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// With the changes after this version, which this cache issued.
    Follow(u64),
    /// With the rows that the client may lack.
    CatchUp(CatchUp),
}

/// Whose versions a watch may resume from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeFrom {
    /// Those of any replica.
    AnyReplica,
    /// Those of this replica only, because the watch shows rows of remote clusters. The argument above does not
    /// hold for them: another replica may have lost a remote cluster for hours, or this one may have.
    ThisReplica,
}

/// Why a watch cannot resume from a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeError {
    /// The version is another replica's, and the watch resumes at the replica that made it only.
    AnotherReplica,
    /// This replica no longer knows what the client may lack.
    Expired(Expired),
    /// The version is further ahead of this replica's time than correct clocks allow.
    TooLarge,
}

/// The state of a client that is being sent the rows it may lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatchUp {
    /// The version that the client resumes from.
    asked: u64,
    /// When the client connected, by [`Clock::now`](crate::clock::Clock::now).
    began: Duration,
    /// The client needs all stamps after this version.
    from: u64,
    /// All stamps up to this version have been sent.
    position: u64,
}

/// A row that the client may lack, or may have with other content.
#[derive(Debug)]
pub struct CatchUpRow {
    /// The twin of the version at which the row was rendered last.
    pub version: u64,
    /// Namespace and name.
    pub key: RowKey,
    /// The current row, if there is one.
    pub row: Option<Arc<Row>>,
    /// Whether the row was added after the version that the client's stamps start from; its event is then
    /// ADDED.
    pub is_new: bool,
    /// The last content of a row that was deleted, if it is still known.
    pub last: Option<Arc<Row>>,
}

/// How a catch-up continues after some rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUpStep {
    /// With more rows, at once.
    More,
    /// With rows that are yet to be rendered: there are none now.
    Wait,
    /// With the log after this version: the client has caught up.
    Follow(u64),
}

impl WatchCache {
    /// How a client that has everything up to `version` resumes. `from`: whose version that may be.
    pub fn resume(&self, version: u64, from: ResumeFrom) -> Result<Resume, ResumeError> {
        let began = self.clock.now();
        self.read(|state| {
            if state.log.has(version) {
                return Ok(Resume::Follow(version));
            }
            if from == ResumeFrom::ThisReplica {
                return Err(ResumeError::AnotherReplica);
            }
            let expired = Expired { asked: version, oldest: state.stamps.start() };
            // With a wrong clock, here or there, an old version may look recent.
            if !is_vouched(version) || !self.clock.is_right() {
                return Err(ResumeError::Expired(expired));
            }
            let lacks = self.clock.window_before(version);
            let from =
                lacks.and_then(|lacks| state.stamps.from(lacks)).ok_or(ResumeError::Expired(expired))?;
            // Versions made from here on must be later than the client's.
            if !self.clock.advance_past(version) {
                return Err(ResumeError::TooLarge);
            }
            Ok(Resume::CatchUp(CatchUp { asked: version, began, from, position: from }))
        })
    }
}

impl CatchUp {
    /// The next rows, at most `limit`, and how to continue after them.
    pub fn next(
        &mut self,
        cache: &WatchCache,
        limit: usize,
    ) -> Result<(Vec<CatchUpRow>, CatchUpStep), Expired> {
        // Checked before the stamps are read: everything observed by now has left its stamps by then.
        let is_caught_up =
            cache.clock.vouches() && cache.clock.now() >= self.began + cache.clock.window() / 2;
        if is_caught_up {
            // The client's last version must be later than the one it came with. If the clock cannot move
            // that far, it is not.
            cache.advance_past(self.asked);
        }
        let (rows, is_all, current) = cache.read(|state| self.read_rows(state, limit))?;
        if let Some(last) = rows.last() {
            self.position = last.version | 1;
        }
        let then = match (is_all, is_caught_up) {
            (true, false) => CatchUpStep::Wait,
            (true, true) if current >= self.position => CatchUpStep::Follow(current),
            (true, true) => {
                // Rows that were rendered without a change moved the client's version, but not the cache's.
                cache.advance();
                CatchUpStep::More
            }
            (false, _) => CatchUpStep::More,
        };
        Ok((rows, then))
    }

    /// The next rows, whether they are all, and the current version.
    fn read_rows(&self, state: &State, limit: usize) -> Result<(Vec<CatchUpRow>, bool, u64), Expired> {
        let mut stamps = state.stamps.after(self.position)?;
        let rows = stamps.by_ref().take(limit).map(|stamp| CatchUpRow {
            version: twin(stamp.version),
            key: stamp.key.clone(),
            row: state.current.rows.get(stamp.key).cloned(),
            is_new: stamp.added > self.from,
            last: stamp.last.cloned(),
        });
        let rows = rows.collect();
        Ok((rows, stamps.next().is_none(), state.current.version))
    }
}
