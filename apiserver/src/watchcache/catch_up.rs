//! Going on with a client that was told by another replica, or by an earlier life of this one.
//!
//! What such a client has is known only as far as its version goes: the replica that made it knew, at that time, what
//! had happened upstream until half a [`window`](crate::clock::Clock::window) before, as all do that vouch for their
//! versions. Clocks are an eighth of a window off at most, and a version a quarter ahead. So whatever the client has
//! not seen happened less than a whole window before its version, was taken in here no sooner, and has stamped its rows
//! since ([`recent`](super::recent)): those are told, each as it is now.
//!
//! The client may also have seen what is not known here yet. So stamps go on being told, whether or not their row
//! changed, until all is known that had happened when the client came: half a window later, if this replica vouches
//! for its own versions then. From there on the client has what this replica has, and follows the log.
//!
//! Until then events carry the twins of their versions. Stamps are told in the order of their versions, so a client
//! that is cut in between lacks only what was stamped later here; what has happened since half a window before the last
//! stamp that it was told of, and so it goes on with that version as it came with its first, here or anywhere.

use std::{sync::Arc, time::Duration};

use super::{Expired, Row, RowKey, State, WatchCache};
use crate::clock::{is_vouched, twin};

/// Where a watch begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// Behind a version that was told here.
    Follow(u64),
    /// With what the client may lack.
    CatchUp(CatchUp),
}

/// Why a client cannot go on from a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// What it may lack is not known any more.
    Expired(Expired),
    /// It is further ahead of this replica's time than clocks are apart.
    Ahead,
}

/// A client that is being told what it may lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatchUp {
    /// The version that the client came with,
    asked: u64,
    /// and when.
    began: Duration,
    /// All stamps after this version are to be told,
    from: u64,
    /// and all up to this one have been.
    position: u64,
}

/// A row that the client may lack, or have in another state.
#[derive(Debug)]
pub struct CatchUpRow {
    /// The twin of the version at which the row was made last.
    pub version: u64,
    /// Namespace and name.
    pub key: RowKey,
    /// The row, if there is one.
    pub row: Option<Arc<Row>>,
    /// Whether it is newer than all that the client is to be told of.
    pub is_new: bool,
    /// What a row that is gone said last, where that is known.
    pub last: Option<Arc<Row>>,
}

/// What comes after some rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// More rows.
    More,
    /// For now, nothing.
    Wait,
    /// What comes after this version in the log.
    Follow(u64),
}

impl WatchCache {
    /// How a client goes on that was told everything up to `version`, by whomever.
    pub fn resume(&self, version: u64) -> Result<Resume, Refused> {
        let began = self.clock.now();
        self.read(|state| {
            if state.log.has(version) {
                return Ok(Resume::Follow(version));
            }
            let expired = Expired { asked: version, oldest: state.recent.start() };
            // By a clock that is wrong, an old version may look like one of just now.
            if !is_vouched(version) || !self.clock.is_right() {
                return Err(Refused::Expired(expired));
            }
            let lacks = self.clock.window_before(version);
            let from = lacks.and_then(|lacks| state.recent.from(lacks)).ok_or(Refused::Expired(expired))?;
            // What is made from here on is to be later for the client, too.
            if !self.clock.pass(version) {
                return Err(Refused::Ahead);
            }
            Ok(Resume::CatchUp(CatchUp { asked: version, began, from, position: from }))
        })
    }
}

impl CatchUp {
    /// The next rows, at most `limit`, and what comes then.
    pub fn next(&mut self, cache: &WatchCache, limit: usize) -> Result<(Vec<CatchUpRow>, Then), Expired> {
        // Looked at before the stamps are: what is known by now has left its stamps by then.
        let is_level = cache.clock.vouches() && cache.clock.now() >= self.began + cache.clock.window() / 2;
        if is_level {
            // So that it is told a version later than its own. If the clock cannot be moved so far, it is not.
            cache.advance_past(self.asked);
        }
        let (rows, is_all, current) = cache.read(|state| self.look(state, limit))?;
        if let Some(last) = rows.last() {
            self.position = last.version | 1;
        }
        let then = match (is_all, is_level) {
            (true, false) => Then::Wait,
            (true, true) if current >= self.position => Then::Follow(current),
            (true, true) => {
                // Rows that were made again and said the same: they have moved its version, and not that of the rows.
                cache.advance();
                Then::More
            }
            (false, _) => Then::More,
        };
        Ok((rows, then))
    }

    /// The rows, whether they are all, and the version of the latest change.
    fn look(&self, state: &State, limit: usize) -> Result<(Vec<CatchUpRow>, bool, u64), Expired> {
        let mut stamps = state.recent.after(self.position)?;
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
