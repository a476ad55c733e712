//! What one user was shown: the namespaces that he sees, and how these changed, in the order of versions.
//!
//! A *step* is a change of this set. Its version comes from the clock of the cache and is drawn while nobody writes to
//! the cache, so that steps and the changes of rows have one order: all changes of rows before a step have versions
//! below its own, all after it above. What is shown at a version therefore follows from the version alone, and lists,
//! pages and watches of one user agree.
//!
//! The events of a step carry the twin of its version, and only the last of them the version itself. A client that is
//! cut off in between continues from the twin and gets the whole step again.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::visible::Visible;
use crate::{
    clock::twin,
    watchcache::{Change, ChangeKind, Expired, Row, Rows, Snapshot, WatchCache},
};

/// How long steps are remembered, as the log of the cache remembers changes.
const MAX_AGE: Duration = Duration::from_mins(10);
/// The most steps that are remembered. A step keeps the rows of its time alive, as far as they have changed since.
const MAX_STEPS: usize = 64;
/// The most namespaces in steps that are remembered, whatever their number. The last step is.
const MAX_NAMES: usize = 50_000;

/// A change of what somebody sees.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Its version.
    pub(crate) version: u64,
    at: Duration,
    /// The rows at that version.
    rows: Rows,
    before: Visible,
    after: Visible,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Steps {
    /// What is seen from this version on is known; what was shown before is not.
    start: u64,
    /// The version of the last step that was forgotten.
    forgotten: u64,
    taken: VecDeque<Step>,
    current: Visible,
}

/// What comes next after a version.
#[derive(Debug)]
pub(crate) enum Next {
    /// These changes of visible rows, and nothing else up to this version.
    Changes(Vec<Arc<Change>>, u64),
    /// This step.
    Step(Step),
}

impl Steps {
    /// Somebody who sees this from now on.
    pub(super) fn new(cache: &WatchCache, visible: Visible) -> Self {
        let start = cache.issue().version;
        Self { start, forgotten: 0, taken: VecDeque::new(), current: visible }
    }

    /// What is seen now.
    pub(super) fn current(&self) -> &Visible {
        &self.current
    }

    /// Changes what is seen from now on. Returns whether that is a change.
    pub(super) fn see(&mut self, cache: &WatchCache, visible: Visible) -> bool {
        if visible == self.current {
            return false;
        }
        let Snapshot { version, rows } = cache.issue();
        let before = std::mem::replace(&mut self.current, visible);
        let at = cache.clock().now();
        self.taken.push_back(Step { version, at, rows, before, after: self.current.clone() });
        let oldest = at.saturating_sub(MAX_AGE);
        let mut names = self.weight();
        while let Some(first) = self.taken.front()
            && (self.taken.len() > MAX_STEPS
                || first.at < oldest
                || (names > MAX_NAMES && self.taken.len() > 1))
        {
            self.forgotten = first.version;
            names -= first.before.len();
            self.taken.pop_front();
        }
        true
    }

    /// How many namespaces are kept.
    pub(super) fn weight(&self) -> usize {
        self.current.len() + self.taken.iter().map(|step| step.before.len()).sum::<usize>()
    }

    /// The version of the last step, or of the start.
    pub(super) fn last(&self) -> u64 {
        self.taken.back().map_or(self.start.max(self.forgotten), |step| step.version)
    }

    /// Whether it is known what was shown at a version, of this replica.
    pub(super) fn covers(&self, version: u64) -> bool {
        version >= self.start && version >= self.forgotten
    }

    /// Whether this is the version of a step, the twin of one, or the start.
    pub(super) fn has(&self, version: u64) -> bool {
        version == self.start
            || self.taken.iter().any(|step| step.version == version || twin(step.version) == version)
    }

    /// What is seen now, at the version that a list has now.
    pub(super) fn snapshot(&self, cache: &WatchCache) -> Snapshot {
        let Snapshot { version, rows } = cache.snapshot();
        Snapshot { version: version.max(self.last()), rows: self.current.of(&rows) }
    }

    /// What was seen at a version that this replica issued, and still is.
    pub(super) fn snapshot_at(&self, cache: &WatchCache, version: u64) -> Result<Snapshot, Expired> {
        if !self.covers(version) {
            return Err(Expired { asked: version, oldest: self.start.max(self.forgotten) });
        }
        let is_own = self.has(version);
        let Snapshot { rows, .. } = cache.snapshot_at_or(version, is_own)?;
        let later = self.taken.iter().find(|step| step.version > version);
        let visible = later.map_or(&self.current, |step| &step.before);
        Ok(Snapshot { version, rows: self.current.of(&visible.of(&rows)) })
    }

    /// What comes next after a version: at most `limit` changes of rows, or a step.
    pub(super) fn next(&self, cache: &WatchCache, version: u64, limit: usize) -> Result<Next, Expired> {
        if version < self.forgotten {
            return Err(Expired { asked: version, oldest: self.forgotten });
        }
        let step = self.taken.iter().find(|step| step.version > version);
        let visible = step.map_or(&self.current, |step| &step.before);
        let (mut changes, mut reached) = cache.changes_after(version, limit)?;
        if let Some(step) = step {
            changes.retain(|change| change.row.version < step.version);
            let Some(last) = changes.last() else { return Ok(Next::Step(step.clone())) };
            reached = last.row.version;
        }
        changes.retain(|change| visible.shows(change.row.key()));
        Ok(Next::Changes(changes, reached))
    }
}

impl Step {
    /// The rows that are seen no longer, then those that are seen from now on.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (ChangeKind, Arc<Row>)> + use<> {
        let gone = self.before.beyond(&self.after, &self.rows);
        let new = self.after.beyond(&self.before, &self.rows);
        let gone = gone.into_iter().map(|row| (ChangeKind::Deleted, row));
        gone.chain(new.into_iter().map(|row| (ChangeKind::Added, row)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callers::testing::{cache, draft, names, only};
    use crate::watchcache::Update;

    fn told(next: &Next) -> Vec<String> {
        match next {
            Next::Changes(changes, _) => {
                changes.iter().map(|change| format!("{:?} {}", change.kind, change.row.key().name)).collect()
            }
            Next::Step(step) => {
                step.rows().map(|(kind, row)| format!("step {kind:?} {}", row.key().name)).collect()
            }
        }
    }

    /// Everything after a version.
    fn rest(steps: &Steps, cache: &WatchCache, mut version: u64) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let next = steps.next(cache, version, 1).expect("known");
            all.extend(told(&next));
            let reached = match next {
                Next::Changes(_, reached) => reached,
                Next::Step(step) => step.version,
            };
            if reached == version {
                return all;
            }
            version = reached;
        }
    }

    #[test]
    fn steps_and_changes_come_in_the_order_in_which_they_happened() {
        let cache = cache(&["a", "b", "c"]);
        let mut steps = Steps::new(&cache, only(&["a"]));
        let start = steps.snapshot(&cache).version;
        cache.publish([Update::Apply(draft("b", "1")), Update::Apply(draft("a", "1"))]);
        assert!(steps.see(&cache, only(&["a", "b"])) && !steps.see(&cache, only(&["a", "b"])));
        cache.publish([Update::Apply(draft("b", "2"))]);
        assert!(steps.see(&cache, only(&["b", "c"])));
        cache.publish([Update::Apply(draft("a", "3")), Update::Apply(draft("c", "3"))]);
        let expected =
            ["Modified a", "step Added b", "Modified b", "step Deleted a", "step Added c", "Modified c"];
        assert_eq!(rest(&steps, &cache, start), expected);
        let version = steps.snapshot(&cache).version;
        assert_eq!(rest(&steps, &cache, version), Vec::<String>::new());
    }

    #[test]
    fn whoever_is_cut_off_within_a_step_gets_it_again() {
        let cache = cache(&["a", "b"]);
        let mut steps = Steps::new(&cache, Visible::nothing());
        steps.see(&cache, Visible::Everything);
        let version = steps.last();
        assert!(steps.has(version) && steps.has(twin(version)) && !steps.has(version + 1));
        assert_eq!(rest(&steps, &cache, twin(version)), ["step Added a", "step Added b"]);
        assert!(rest(&steps, &cache, version).is_empty());
    }

    #[test]
    fn a_list_at_a_version_is_what_was_seen_then() {
        let cache = cache(&["a", "b"]);
        let mut steps = Steps::new(&cache, only(&["a"]));
        let first = steps.snapshot(&cache).version;
        steps.see(&cache, only(&["b"]));
        let second = steps.snapshot(&cache).version;
        cache.publish([Update::Apply(draft("b", "1")), Update::Apply(draft("d", "1"))]);
        steps.see(&cache, Visible::Everything);
        let at = |version| names(steps.snapshot_at(&cache, version).expect("known").rows.iter());
        assert_eq!((at(first), at(second)), (vec!["a".to_owned()], vec!["b".to_owned()]));
        steps.see(&cache, only(&["a", "b", "d"]));
        assert_eq!(names(steps.snapshot(&cache).rows.iter()), ["a", "b", "d"]);
        steps.see(&cache, only(&["d"]));
        let at = |version| names(steps.snapshot_at(&cache, version).expect("known").rows.iter());
        assert!(at(first).is_empty(), "what is seen no longer is not shown as it was");
        assert!(steps.snapshot_at(&cache, first - 1).is_err());
        assert!(steps.snapshot_at(&cache, second + 1).is_err(), "nobody was given this version");
    }

    #[test]
    fn forgotten_steps_are_known_to_be() {
        let cache = cache(&["a"]);
        let mut steps = Steps::new(&cache, Visible::nothing());
        let start = steps.last();
        for _ in 0..MAX_STEPS {
            steps.see(&cache, only(&["a"]));
            steps.see(&cache, Visible::nothing());
        }
        assert!(steps.next(&cache, start, 10).is_err() && !steps.covers(start));
        assert!(steps.taken.len() <= MAX_STEPS && steps.covers(steps.last()));
    }
}
