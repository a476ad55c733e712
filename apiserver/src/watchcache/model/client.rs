//! A client that follows the protocol: it lists, watches from the last version it got, and lists again on 410
//! or if its version is too far ahead.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{prelude::*, test_runner::TestCaseError};

use super::{LOCAL, remote, replica::content, world::Contents};
use crate::{
    clusters::access::Clusters,
    endpoints::select::{EventType, Selection},
    watchcache::{CatchUp, CatchUpStep, Expired, Resume, ResumeError, ResumeFrom, Row, WatchCache},
};
use gatehouse_apiservice::labels::Selector;
use gatehouse_serving::field_selector::FieldSelector;

pub(super) struct Client {
    selection: Selection,
    takes_bookmarks: bool,
    objects: BTreeMap<String, String>,
    version: Option<u64>,
    watch: Option<Watch>,
    /// The last process that served it, and the latest settled version it got from that process.
    last: Option<(Arc<WatchCache>, u64)>,
    sees_remote: bool,
    /// Whose versions its watches resume from.
    from: ResumeFrom,
    outcomes: Vec<Outcome>,
}

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With this many rows.
    Listed(usize),
    Followed,
    CaughtUp,
    Expired,
}

struct Watch {
    who: usize,
    cache: Arc<WatchCache>,
    phase: Phase,
    /// The latest version that the watch has sent; 0 if none.
    reported: u64,
}

enum Phase {
    CatchUp(CatchUp),
    Follow(u64),
}

/// Rows by their names: the content of each, and whether it matches the selector.
type Rows = BTreeMap<String, (String, bool)>;

impl Client {
    pub(super) fn new(selects: bool, takes_bookmarks: bool, sees_remote: bool) -> Self {
        let labels = Selector::parse(if selects { "match=yes" } else { "" }).expect("a selector");
        let seen = if sees_remote { &[LOCAL, remote::NAME][..] } else { &[LOCAL] };
        let clusters = Clusters::Only(Arc::new(seen.iter().map(|name| (*name).into()).collect()));
        let selection = Selection { namespace: None, labels, fields: FieldSelector::default(), clusters };
        Self {
            selection,
            takes_bookmarks,
            objects: BTreeMap::new(),
            version: None,
            watch: None,
            last: None,
            sees_remote,
            from: if sees_remote { ResumeFrom::ThisReplica } else { ResumeFrom::AnyReplica },
            outcomes: Vec::new(),
        }
    }

    /// From now on it resumes anywhere, whatever it sees.
    pub(super) fn resume_anywhere(&mut self) {
        self.from = ResumeFrom::AnyReplica;
    }

    /// How its requests were answered, if it sees no row of the remote cluster.
    pub(super) fn outcomes(self) -> Option<Vec<Outcome>> {
        (!self.sees_remote).then_some(self.outcomes)
    }

    /// `at_least`: the list must not be older than what the client has seen.
    pub(super) fn list(
        &mut self,
        who: usize,
        cache: &Arc<WatchCache>,
        at_least: bool,
        contents: &mut Contents,
    ) -> Result<(), TestCaseError> {
        let wanted = self.version.filter(|_| at_least);
        // A replica that cannot reach the version answers with 504; the client then takes any version.
        let wanted = wanted.filter(|version| cache.advance_past(*version));
        let snapshot = cache.snapshot();
        prop_assert!(wanted.is_none_or(|version| snapshot.version >= version));
        self.objects.clear();
        for row in self.selection.rows(&snapshot.rows, None) {
            contents.reported(row.version, &row.key().name, &content(row))?;
            self.objects.insert(row.key().name.to_string(), content(row));
        }
        self.outcomes.push(Outcome::Listed(self.objects.len()));
        self.watch = None;
        self.reported(cache, snapshot.version)?;
        self.watch = Some(Watch {
            who,
            cache: Arc::clone(cache),
            phase: Phase::Follow(snapshot.version),
            reported: snapshot.version,
        });
        Ok(())
    }

    pub(super) fn watch(
        &mut self,
        who: usize,
        cache: &Arc<WatchCache>,
        contents: &mut Contents,
    ) -> Result<(), TestCaseError> {
        let Some(version) = self.version else { return self.list(who, cache, false, contents) };
        let (outcome, phase) = match cache.resume(version, self.from) {
            Ok(Resume::Follow(version)) => (Outcome::Followed, Phase::Follow(version)),
            Ok(Resume::CatchUp(catch_up)) => (Outcome::CaughtUp, Phase::CatchUp(catch_up)),
            Err(ResumeError::AnotherReplica | ResumeError::Expired(_) | ResumeError::TooLarge) => {
                self.outcomes.push(Outcome::Expired);
                return self.list(who, cache, false, contents);
            }
        };
        self.outcomes.push(outcome);
        self.watch = Some(Watch { who, cache: Arc::clone(cache), phase, reported: 0 });
        Ok(())
    }

    /// Continues the open watch, or opens one at this replica.
    pub(super) fn watch_on(
        &mut self,
        who: usize,
        cache: &Arc<WatchCache>,
        contents: &mut Contents,
    ) -> Result<(), TestCaseError> {
        if self.watch.is_some() { Ok(()) } else { self.watch(who, cache, contents) }
    }

    pub(super) fn read(&mut self, count: usize, contents: &mut Contents) -> Result<(), TestCaseError> {
        for _ in 0..count {
            match self.next(contents)? {
                Ok(true) => {}
                Ok(false) => break,
                Err(Expired { .. }) => {
                    self.outcomes.push(Outcome::Expired);
                    let Some(Watch { who, cache, .. }) = self.watch.take() else { break };
                    self.list(who, &cache, false, contents)?;
                }
            }
        }
        Ok(())
    }

    /// Reads one step. Returns whether there was an event or there may be another at once.
    fn next(&mut self, contents: &mut Contents) -> Result<Result<bool, Expired>, TestCaseError> {
        let Some(Watch { cache, phase, reported, .. }) = &mut self.watch else { return Ok(Ok(false)) };
        let cache = Arc::clone(cache);
        match phase {
            Phase::CatchUp(catch_up) => {
                let (rows, then) = match catch_up.next(&cache, 1) {
                    Ok(next) => next,
                    Err(expired) => return Ok(Err(expired)),
                };
                for stamped in &rows {
                    *reported = (*reported).max(stamped.version);
                }
                if let CatchUpStep::Follow(version) = then {
                    prop_assert!(version >= *reported, "it goes back from {} to {}", reported, version);
                    *phase = Phase::Follow(version);
                }
                for stamped in &rows {
                    if let Some((event, row)) = self.selection.catch_up_event(stamped) {
                        self.take(event, &stamped.key.name, stamped.version, row, contents)?;
                    }
                }
                if let CatchUpStep::Follow(version) = then
                    && self.takes_bookmarks
                {
                    self.reported(&cache, version)?;
                }
                Ok(Ok(then != CatchUpStep::Wait || !rows.is_empty()))
            }
            Phase::Follow(position) => {
                let (changes, reached) = match cache.changes_after(*position, 1) {
                    Ok(next) => next,
                    Err(expired) => return Ok(Err(expired)),
                };
                *position = reached;
                for change in &changes {
                    if let Some(event) = self.selection.event(change) {
                        let version = change.row.version;
                        self.take(event, &change.row.key().name, version, Some(&change.row), contents)?;
                        self.reported(&cache, version)?;
                    }
                }
                Ok(Ok(!changes.is_empty()))
            }
        }
    }

    fn take(
        &mut self,
        event: EventType,
        name: &str,
        version: u64,
        row: Option<&Arc<Row>>,
        contents: &mut Contents,
    ) -> Result<(), TestCaseError> {
        self.version = Some(version);
        match row.filter(|_| event != EventType::Deleted) {
            Some(row) => {
                contents.reported(version, name, &content(row))?;
                self.objects.insert(name.to_owned(), content(row));
            }
            None => drop(self.objects.remove(name)),
        }
        Ok(())
    }

    /// Takes a settled version, and checks that it is not before any that this process gave it.
    fn reported(&mut self, cache: &Arc<WatchCache>, version: u64) -> Result<(), TestCaseError> {
        self.version = Some(version);
        if let Some((last, before)) = &self.last
            && Arc::ptr_eq(last, cache)
        {
            prop_assert!(version >= *before, "it goes back from {} to {}", before, version);
        }
        self.last = Some((Arc::clone(cache), version));
        Ok(())
    }

    pub(super) fn bookmark(&mut self) -> Result<(), TestCaseError> {
        if let Some(Watch { cache, phase: Phase::Follow(position), .. }) = &self.watch
            && self.takes_bookmarks
        {
            let (cache, position) = (Arc::clone(cache), *position);
            self.reported(&cache, position)?;
        }
        Ok(())
    }

    pub(super) fn cut(&mut self) {
        self.watch = None;
    }

    pub(super) fn cut_from(&mut self, who: usize) {
        if self.watch.as_ref().is_some_and(|watch| watch.who == who) {
            self.cut();
        }
    }

    /// Checks that the client has the rows that it selects and sees.
    pub(super) fn has(&self, local: &Rows, remote: &Rows) -> Result<(), TestCaseError> {
        let everything = self.selection.labels.is_empty();
        let seen = local.iter().chain(remote.iter().filter(|_| self.sees_remote));
        let wanted = seen.filter(|(_, (_, matches))| everything || *matches);
        let wanted: BTreeMap<_, _> =
            wanted.map(|(name, (content, _))| (name.clone(), content.clone())).collect();
        let (selects, sees_remote) = (!everything, self.sees_remote);
        prop_assert_eq!(
            &self.objects,
            &wanted,
            "selects: {}, sees the remote cluster: {}",
            selects,
            sees_remote
        );
        Ok(())
    }
}
