//! One user: what he was shown, and the answers that this rests on.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use gatehouse_apiservice::UserInfo;
use gatehouse_serving::ApiError;
use tokio::{sync::watch, time::Instant};

use super::{
    Callers,
    answers::{Answers, Question},
    rbac::{Subject, subjects_of},
    steps::{Next, Steps},
    visible::Visible,
};
use crate::watchcache::{Expired, Resume, ResumeError, ResumeFrom, Snapshot};

/// How many reviews of one user are sent at once.
const AT_ONCE: usize = 8;
/// How long another replica may take to show a change of rights, as far as this replica can tell: what its watches
/// lag behind, and the review itself.
const REVIEWED_WITHIN: Duration = Duration::from_secs(30);

/// A user, by everything that an authorizer may look at.
pub(crate) struct Caller {
    pub(super) user: UserInfo,
    subjects: Box<[Subject]>,
    state: Mutex<State>,
    /// Held while reviews are sent, so that simultaneous requests of a user send them once.
    reviewing: tokio::sync::Mutex<()>,
    is_renewing: AtomicBool,
    progress: watch::Sender<Progress>,
    watches: AtomicUsize,
    /// How many answers and steps' namespaces are kept, to be read while the state is locked.
    weight: AtomicUsize,
}

struct State {
    answers: Answers,
    /// The number of the last change of the bindings that was taken in; `None` before the first.
    seen: Option<u64>,
    /// Whether all answers about him may be kept beside those about others.
    has_room: bool,
    /// `None` until everything was answered once.
    steps: Option<Steps>,
    used: Instant,
}

/// What became of the bindings' changes.
enum TakenIn {
    /// They are taken in, and these questions are to be asked.
    Due(Vec<Question>),
    /// First it has to be known whether there is room for so many answers.
    NeedsRoom(usize),
}

/// Notices for the watches of a user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// How often answers were renewed.
    pub(crate) rounds: u64,
    /// Why what he sees is no longer known.
    pub(crate) lost: Option<ApiError>,
}

/// An open watch of a user.
pub(crate) struct OpenWatch(Arc<Caller>);

impl Caller {
    pub(super) fn new(user: UserInfo) -> Self {
        let state = State {
            answers: Answers::default(),
            seen: None,
            has_room: true,
            steps: None,
            used: Instant::now(),
        };
        Self {
            subjects: subjects_of(&user),
            user,
            state: Mutex::new(state),
            reviewing: tokio::sync::Mutex::default(),
            is_renewing: AtomicBool::new(false),
            progress: watch::Sender::default(),
            watches: AtomicUsize::new(0),
            weight: AtomicUsize::new(0),
        }
    }

    /// Asks what has to be asked, and takes in the answers. Errors: not everything is known.
    pub(super) async fn review(&self, callers: &Callers) -> Result<(), ApiError> {
        let _turn = self.reviewing.lock().await;
        let mut failed = None;
        // Each answer may bring further questions, once.
        loop {
            let due = self.take_in(callers)?;
            if due.is_empty() || failed.is_some() {
                break;
            }
            failed = self.ask(callers, due).await.err();
            self.show_answers(callers);
        }
        let mut state = self.state();
        if state.is_crowded() {
            return Err(crowded());
        }
        let visible = state.answers.visible();
        match (&mut state.steps, failed) {
            (Some(steps), None) => drop(steps.see(&callers.cache, visible)),
            (None, None) => state.steps = Some(Steps::new(&callers.cache, visible)),
            // Whatever was answered counts: a right that was taken away is seen, one that was granted too.
            (Some(steps), Some(failure)) => {
                steps.see(&callers.cache, visible);
                return Err(failure);
            }
            (None, Some(failure)) => return Err(failure),
        }
        self.weigh(&state);
        drop(state);
        self.progress.send_if_modified(|progress| progress.lost.take().is_some());
        Ok(())
    }

    /// Shows what is answered while other answers are asked for again. Not before each question has an answer: rows would
    /// go and come back.
    fn show_answers(&self, callers: &Callers) {
        let mut state = self.state();
        let visible = state.answers.visible();
        let is_complete = state.answers.is_complete() && !state.is_crowded();
        let is_seen =
            state.steps.as_mut().is_some_and(|steps| is_complete && steps.see(&callers.cache, visible));
        drop(state);
        if is_seen {
            self.progress.send_modify(|progress| progress.rounds += 1);
        }
    }

    /// Takes in the changes of the bindings, and returns the questions to ask.
    fn take_in(&self, callers: &Callers) -> Result<Vec<Question>, ApiError> {
        let mut has_room = None;
        loop {
            match self.try_take_in(callers, has_room)? {
                TakenIn::Due(questions) => return Ok(questions),
                // Others cannot be looked at while the state is locked.
                TakenIn::NeedsRoom(wanted) => has_room = Some(callers.has_room(self, wanted)),
            }
        }
    }

    fn try_take_in(&self, callers: &Callers, has_room: Option<bool>) -> Result<TakenIn, ApiError> {
        let now = Instant::now();
        let mut state = self.state();
        let (seen, is_crowded) = (state.seen, state.is_crowded());
        let (last, change) = callers.read(|rbac| {
            let last = rbac.last();
            let changed = match seen {
                Some(seen) if seen == last && !is_crowded => return (last, None),
                Some(seen) => rbac.changed(&self.subjects, seen),
                None => Some(HashSet::new()),
            };
            // Most changes concern others.
            let concerns_him =
                seen.is_none() || is_crowded || changed.as_ref().is_none_or(|changed| !changed.is_empty());
            (last, concerns_him.then(|| (rbac.candidates(&self.subjects), changed)))
        })?;
        if let Some((candidates, changed)) = change {
            let Some(has_room) = has_room else {
                // An answer about each and about all, and those that he sees.
                let questions = (candidates.len() + 1).min(callers.limits.of_caller);
                return Ok(TakenIn::NeedsRoom(2 * questions - 1));
            };
            let left_out = state.answers.left_out();
            state.has_room = has_room;
            let most = if has_room { callers.limits.of_caller } else { 1 };
            state.answers.update(candidates, changed.as_ref(), most, now);
            self.weigh(&state);
            if left_out == 0 {
                self.report_left_out(callers, &state.answers);
            }
        }
        state.seen = Some(last);
        Ok(TakenIn::Due(state.answers.due(now)))
    }

    /// Reports that there are more namespaces than are asked about.
    fn report_left_out(&self, callers: &Callers, answers: &Answers) {
        let (left_out, most) = (answers.left_out(), answers.most());
        if left_out == 0 {
            return;
        }
        callers.left_out.inc();
        let user = &self.user.name;
        tracing::warn!(user, left_out, most, "too many namespaces to ask the authorizer about");
    }

    /// How many answers and namespaces are kept.
    pub(super) fn weight(&self) -> usize {
        self.weight.load(Ordering::Relaxed)
    }

    fn weigh(&self, state: &State) {
        let steps = state.steps.as_ref().map_or(0, Steps::weight);
        self.weight.store(state.answers.len() + steps, Ordering::Relaxed);
    }

    async fn ask(&self, callers: &Callers, questions: Vec<Question>) -> Result<(), ApiError> {
        let lifetime = callers.lifetime();
        let asking = questions.into_iter().map(|question| async move {
            let (asked, answer) = callers.ask(&self.user, &question).await;
            (question, asked, answer)
        });
        let mut asking = stream::iter(asking).buffer_unordered(AT_ONCE);
        let mut failed = None;
        while let Some((question, asked, answer)) = asking.next().await {
            let allowed = match answer {
                Ok(allowed) => Some(allowed),
                Err(error) => {
                    failed.get_or_insert(error);
                    None
                }
            };
            self.state().answers.answered(&question, allowed, asked, lifetime);
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whether all answers may be used.
    pub(super) fn is_current(&self, callers: &Callers) -> bool {
        self.take_in(callers).is_ok_and(|due| due.is_empty()) && !self.state().is_crowded()
    }

    /// Whether it is time to ask, for watches.
    pub(super) fn is_due(&self, callers: &Callers) -> bool {
        self.take_in(callers).is_err() || self.next_due() <= Instant::now()
    }

    /// When there is something to ask, unless the bindings change before.
    pub(super) fn next_due(&self) -> Instant {
        let next = self.state().answers.next();
        next.unwrap_or_else(|| Instant::now() + super::RETRY)
    }

    /// Renews the answers in the background, unless that is being done. The watches are told when it is done.
    pub(super) fn renew(self: &Arc<Self>, callers: &Arc<Callers>) {
        if self.is_renewing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (caller, callers) = (Arc::clone(self), Arc::clone(callers));
        tokio::spawn(async move {
            let reviewed = caller.review(&callers).await;
            let is_lost = {
                let state = caller.state();
                state.is_crowded() || callers.is_outdated(&state.answers)
            };
            let lost = if is_lost { reviewed.err() } else { None };
            caller.is_renewing.store(false, Ordering::Release);
            caller.progress.send_modify(|progress| {
                progress.rounds += 1;
                progress.lost = lost;
            });
        });
    }

    /// Whether [`Caller::renew`] is at work.
    pub(super) fn is_renewing(&self) -> bool {
        self.is_renewing.load(Ordering::Acquire)
    }

    /// Subscribes to what becomes of the answers.
    pub(super) fn follow(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// What he sees now.
    pub(crate) fn snapshot(&self, callers: &Callers) -> Result<Snapshot, ApiError> {
        self.with_steps(|steps| steps.snapshot(&callers.cache)).ok_or_else(unknown)
    }

    /// What he saw at a version.
    pub(crate) fn snapshot_at(&self, callers: &Callers, version: u64) -> Result<Snapshot, Expired> {
        let expired = Expired { asked: version, oldest: version };
        self.with_steps(|steps| steps.snapshot_at(&callers.cache, version)).unwrap_or(Err(expired))
    }

    /// What comes next after a version.
    pub(crate) fn next(&self, callers: &Callers, version: u64, limit: usize) -> Result<Next, Expired> {
        let expired = Expired { asked: version, oldest: version };
        self.with_steps(|steps| steps.next(&callers.cache, version, limit)).unwrap_or(Err(expired))
    }

    /// What he sees now, and the version since which he sees that.
    pub(crate) fn visible(&self) -> (Visible, u64) {
        self.with_steps(|steps| (steps.current().clone(), steps.last()))
            .unwrap_or_else(|| (Visible::nothing(), 0))
    }

    /// How a client that has everything up to `version` resumes.
    ///
    /// What was shown by this replica at a version of its own is known. Of a version of another replica it is known only
    /// if nothing that concerns this user has changed in the bindings for so long that both replicas must have shown the
    /// same, and if the answers here follow from the bindings alone. Otherwise the version has expired.
    pub(crate) fn resume(
        &self,
        callers: &Callers,
        version: u64,
        from: ResumeFrom,
    ) -> Result<Resume, ResumeError> {
        let cache = &callers.cache;
        let is = |question: fn(&Steps, u64) -> bool| {
            self.with_steps(|steps| question(steps, version)).unwrap_or_default()
        };
        let is_covered = is(Steps::covers);
        if is_covered && is(Steps::has) {
            return Ok(Resume::Follow(version));
        }
        let resumed = cache.resume(version, from)?;
        if is_covered && matches!(resumed, Resume::Follow(_)) {
            return Ok(resumed);
        }
        let begin = cache.clock().window_before(version).and_then(|time| time.checked_sub(REVIEWED_WITHIN));
        let is_certain = begin.is_some_and(|begin| {
            let is_quiet = callers.is_quiet(&self.subjects, begin);
            is_quiet && (callers.is_open_to_all() || self.state().answers.follow_from_rbac())
        });
        if is_certain {
            return Ok(resumed);
        }
        Err(ResumeError::Expired(Expired { asked: version, oldest: cache.snapshot().version }))
    }

    /// Counts a watch for as long as the result lives.
    pub(super) fn open_watch(self: &Arc<Self>) -> OpenWatch {
        self.watches.fetch_add(1, Ordering::Relaxed);
        OpenWatch(Arc::clone(self))
    }

    /// How many answers will have to be renewed, because he was here within this time or a watch is open.
    pub(super) fn answers_in_use(&self, within: Duration) -> usize {
        if self.idle() < within { self.state().answers.len() } else { 0 }
    }

    /// Notes that he is here.
    pub(super) fn touch(&self) {
        self.state().used = Instant::now();
    }

    /// How long ago he was here; zero while a watch is open.
    pub(super) fn idle(&self) -> Duration {
        match self.watches.load(Ordering::Relaxed) {
            0 => self.state().used.elapsed(),
            _ => Duration::ZERO,
        }
    }

    fn with_steps<T>(&self, look: impl FnOnce(&Steps) -> T) -> Option<T> {
        self.state().steps.as_ref().map(look)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether something is not asked about him because there are too many answers about others.
    fn is_crowded(&self) -> bool {
        !self.has_room && self.answers.left_out() > 0
    }
}

fn unknown() -> ApiError {
    ApiError::unavailable("your rights are not known yet")
}

fn crowded() -> ApiError {
    ApiError::unavailable("the rights of too many users are asked for at once; try again later")
}

impl std::ops::Deref for OpenWatch {
    type Target = Arc<Caller>;

    fn deref(&self) -> &Arc<Caller> {
        &self.0
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.touch();
        self.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}
