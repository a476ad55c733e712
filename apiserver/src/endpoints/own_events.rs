//! The events of a watch whose user sees only some of the rows: the changes of these rows, and rows that come and go
//! because his rights change.

use std::{collections::VecDeque, sync::Arc};

use super::{
    encode::now,
    fanout::{BATCH, Batch, CHUNK, Feed},
    select::EventType,
};
use crate::{
    callers::{Caller, Next, Rights, Step},
    clock::twin,
    watchcache::{CatchUpRow, ChangeKind, Expired, Row},
};
use gatehouse_serving::ApiError;

/// See the module.
pub(super) struct OwnEvents {
    rights: Rights,
    /// The step that is being sent.
    step: Option<OpenStep>,
    /// What he saw when the watch began, by the version since which he sees that. A client that is catching up has an
    /// unknown part of what follows.
    began: u64,
}

struct OpenStep {
    version: u64,
    left: VecDeque<(ChangeKind, Arc<Row>)>,
}

impl OwnEvents {
    pub(super) fn new(rights: Rights) -> Self {
        let (_, began) = rights.caller().visible();
        Self { rights, step: None, began }
    }

    /// Whose they are.
    pub(super) fn caller(&self) -> Arc<Caller> {
        self.rights.shared_caller()
    }

    pub(super) fn rights(&mut self) -> &mut Rights {
        &mut self.rights
    }

    /// The events after `position`, up to about [`CHUNK`] bytes of them. In a Table the first may carry the columns.
    pub(super) fn after(
        &mut self,
        feed: &Feed,
        position: u64,
        mut with_columns: bool,
    ) -> Result<Batch, Expired> {
        let caller = self.rights.caller();
        if self.step.is_none() {
            match caller.next(self.rights.callers(), position, BATCH)? {
                Next::Changes(changes, reached) => {
                    return Ok(feed.own_events(changes, reached, &caller.visible().0, with_columns));
                }
                Next::Step(step) => self.step = Some(OpenStep::new(&step, feed)),
            }
        }
        let visible = caller.visible().0;
        let Some(step) = &mut self.step else { return Ok(Batch { events: Vec::new(), position }) };
        let (mut batch, mut bytes) = (Batch { events: Vec::new(), position }, 0);
        while let Some((kind, row)) = step.left.pop_front() {
            // Whoever is cut off before the last event gets the whole step again.
            let version = if step.left.is_empty() { step.version } else { twin(step.version) };
            let with_columns = std::mem::take(&mut with_columns);
            let text = if kind == ChangeKind::Added && visible.shows(row.key()) {
                let mut out = Vec::new();
                let (added, row) = (EventType::Added.as_str(), row.at_version(version));
                feed.encoder.event(&mut out, added, &row, now(), with_columns);
                out.into()
            } else {
                feed.gone(row.key(), version, with_columns)
            };
            bytes += text.len();
            batch.events.push(text);
            if bytes >= CHUNK {
                break;
            }
        }
        if step.left.is_empty() {
            batch.position = step.version;
            self.step = None;
        }
        Ok(batch)
    }

    /// Whether he sees a row now.
    pub(super) fn sees(&self, row: &Row) -> bool {
        self.rights.caller().visible().0.shows(row.key())
    }

    /// The version up to which there are no events after `position`; `None` if there are some.
    pub(super) fn quiet_until(&self, feed: &Feed, position: u64) -> Option<u64> {
        match self.rights.caller().next(self.rights.callers(), position, BATCH) {
            Ok(Next::Changes(changes, reached)) if self.step.is_none() => {
                let is_quiet = changes.iter().all(|change| feed.selection.event(change).is_none());
                is_quiet.then_some(reached)
            }
            _ => None,
        }
    }

    /// The rows of a catch-up that he sees. Errors: what he sees has changed meanwhile. Then it is not known what the
    /// client was shown.
    pub(super) fn caught_up(&self, rows: Vec<CatchUpRow>) -> Result<Vec<CatchUpRow>, ApiError> {
        let (visible, since) = self.rights.caller().visible();
        if since != self.began {
            return Err(ApiError::expired("what you may see has changed: list again"));
        }
        Ok(rows.into_iter().filter(|row| visible.shows(&row.key)).collect())
    }
}

impl OpenStep {
    /// Of a row that is seen no longer it is not known what the client has: it may have matched before it changed.
    fn new(step: &Step, feed: &Feed) -> Self {
        let selected = step.rows().filter(|(kind, row)| match kind {
            ChangeKind::Deleted => feed.selection.may_match(row.key()) && feed.selection.clusters.show(row),
            ChangeKind::Added | ChangeKind::Modified => feed.selection.matches(row),
        });
        Self { version: step.version, left: selected.collect() }
    }
}
