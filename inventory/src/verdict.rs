//! What is made of an object: its state, why, since when, and what time alone will make of it.
//!
//! A verdict is a function of what an object says about itself, with one exception: what a controller takes back before it
//! is over is kept from the verdict before, as long as the same object stands under the same name.

use crate::{Seconds, State, Str, flux::reason};

/// The outcome of a state rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What the object is doing.
    pub state: State,
    /// The state it would be in if it were not Suspended or Progressing: its last finished attempt's.
    pub last_outcome: Option<State>,
    /// The deciding condition's reason, CamelCase; empty if nothing decided.
    pub reason: Str,
    /// For people; at most [`Verdict::MESSAGE_BYTES`] long.
    pub message: Str,
    /// When it entered this state, as far as its conditions tell.
    pub since: Option<Seconds>,
    /// Since when its [outcome](Verdict::outcome) has been a success, or a failure, of Flux's objects; over attempts.
    pub outcome_since: Option<Seconds>,
    /// When this verdict turns into another by the passing of time alone.
    pub deadline: Option<Box<Deadline>>,
}

impl Verdict {
    /// Controllers put whole build logs into messages; this much is kept, cut at a character.
    pub const MESSAGE_BYTES: usize = 512;

    /// Whether it is Ready, or was when it was suspended.
    pub fn is_well(&self) -> bool {
        match self.state {
            State::Suspended => self.last_outcome == Some(State::Ready),
            state => state == State::Ready,
        }
    }

    /// Since when its outcome has been a success, or a failure; as far as is known, or else since when it has been in its
    /// state.
    pub fn outcome_since(&self) -> Option<Seconds> {
        self.outcome_since.or(self.since)
    }

    /// Keeps what was observed of the same object `before` and what it no longer tells: broken stays broken until it is
    /// seen to work. A controller takes back a failure as soon as it tries again, and not all leave a trace.
    pub(crate) fn remember(&mut self, before: &Verdict) {
        if self.still_waits(before) {
            *self = before.clone();
            return;
        }
        if matches!(self.state, State::Progressing | State::Suspended) {
            let known = before.known_outcome();
            let is_suspended = self.state == State::Suspended;
            // Nothing has begun since its condition was written, which is therefore the newest there is.
            let is_told = is_suspended || *self.reason == *reason::GENERATION_NOT_OBSERVED;
            // A success that was not seen itself: its time tells.
            let is_newer = self.last_outcome == Some(State::Ready)
                && self
                    .outcome_since
                    .zip(before.outcome_since())
                    .is_some_and(|(own, before)| own > before || is_told && own == before);
            let says_itself = is_suspended && self.last_outcome.is_some_and(State::is_failure);
            if known.is_some_and(State::is_failure) && !is_newer && !says_itself {
                self.last_outcome = known;
                self.outcome_since = before.outcome_since();
                if self.state == State::Progressing {
                    (self.reason, self.message) = (before.reason.clone(), before.message.clone());
                }
            } else if known == Some(State::Ready) && self.last_outcome.is_none() {
                (self.last_outcome, self.outcome_since) = (known, before.outcome_since());
            }
        }
        let is_same = match (self.known_outcome(), before.known_outcome()) {
            (Some(own), Some(before)) => own.is_failure() == before.is_failure(),
            _ => false,
        };
        if is_same && before.outcome_since.is_some() {
            self.outcome_since = before.outcome_since;
        }
    }

    /// How its last finished attempt ended.
    fn known_outcome(&self) -> Option<State> {
        match self.state {
            State::Progressing | State::Suspended => self.last_outcome,
            state if state == State::Ready || state.is_failure() => Some(state),
            _ => None,
        }
    }

    /// Whether a generation still waits for its controller that was seen to wait `before`: its time goes on.
    fn still_waits(&self, before: &Verdict) -> bool {
        let waits = |verdict: &Verdict| verdict.reason == self.reason && verdict.message == self.message;
        let own = self.deadline.as_ref();
        own.is_some_and(|own| own.reason == self.reason && own.message == self.message)
            && self.state == State::Progressing
            && waits(before)
    }

    /// The state without regard to an attempt under way, as long as there was one before: kustomize-controller
    /// goes through Progressing on every reconciliation, whatever comes of it.
    pub fn outcome(&self) -> State {
        match self.state {
            State::Progressing => self.last_outcome.unwrap_or(self.state),
            state => state,
        }
    }

    /// While something is under way, what was seen before it counts: a failure until it is seen to be over, a success where
    /// nothing else is known. So health changes once for each change, and not with each attempt.
    pub(crate) fn count_as_before(&mut self, before: &Self) {
        let outcome = before.outcome();
        if self.state == State::Progressing
            && (outcome.is_failure() || outcome == State::Ready && self.last_outcome.is_none())
        {
            self.last_outcome = Some(outcome);
        }
    }

    /// Goes on with the clocks of the verdict before, where nothing has changed but the time of observation.
    pub(crate) fn continue_from(&mut self, before: &Self) {
        let mut own = self.deadline.as_deref_mut();
        while let Some(deadline) = own {
            let mut known = before.deadlines().filter(|known| known.observed);
            if deadline.observed
                && let Some(known) = known.find(|known| known.is_same(deadline))
            {
                deadline.at -= deadline.since - known.since;
                deadline.since = known.since;
            }
            own = deadline.next.as_deref_mut();
        }
    }

    /// What time will bring about, in order.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = &Deadline> {
        std::iter::successors(self.deadline.as_deref(), |deadline| deadline.next.as_deref())
    }

    /// When time will change it next.
    pub(crate) fn due(&self) -> Option<Seconds> {
        self.deadlines().filter(|deadline| !deadline.passed).map(|deadline| deadline.at).min()
    }

    /// Lets its deadlines decide that have come by `now`; what the last one does, if one has come since.
    pub(crate) fn let_pass(&mut self, now: Seconds) -> Option<End> {
        let (mut deadline, mut end, mut told, mut is_new) = (self.deadline.as_deref_mut(), None, None, false);
        while let Some(current) = deadline {
            if !current.passed && current.at <= now {
                (current.passed, is_new) = (true, true);
            }
            if current.passed {
                end = Some(current.end);
                if let End::State(state) = current.end {
                    told = Some((state, current.reason.clone(), current.told(), current.since, current.at));
                }
            }
            deadline = current.next.as_deref_mut();
        }
        let end = end.filter(|_| is_new)?;
        if let Some((state, reason, message, since, at)) = told {
            (self.state, self.last_outcome) = (state, None);
            (self.reason, self.message, self.since) = (reason, message, Some(since));
            self.outcome_since = self.outcome_since.and(Some(at));
        }
        // What the object says itself it says again; what was observed would be lost.
        while let Some(passed) = self.deadline.take_if(|deadline| deadline.passed && !deadline.observed) {
            self.deadline = passed.next;
        }
        Some(end)
    }
}

/// A verdict that time alone brings about: a certificate expires, a backup grows too old, a rollout never ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// From this second on.
    pub at: Seconds,
    /// When that began which it ends: at most `at`.
    pub since: Seconds,
    /// Whether the object does not say so itself: `since` is then when it was first observed like this.
    pub observed: bool,
    /// What comes of it.
    pub end: End,
    /// CamelCase.
    pub reason: Str,
    /// For people.
    pub message: Str,
    /// Whether it has come.
    pub passed: bool,
    /// The one that comes after it, and whose verdict then counts instead.
    pub next: Option<Box<Deadline>>,
}

/// What a deadline does to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is in this state from then on.
    State(State),
    /// Its state is kept, and counts towards no layer any more.
    Forgotten,
}

impl Deadline {
    /// Whether the other stands for the same thing, whenever it began.
    fn is_same(&self, other: &Self) -> bool {
        (&self.reason, &self.message, self.end) == (&other.reason, &other.message, other.end)
    }

    /// The message once it has come: with the time since which it has been so, unless that is now.
    fn told(&self) -> Str {
        match jiff::Timestamp::from_second(self.since) {
            Ok(since) if self.since < self.at && self.message.is_empty() => format!("since {since}").into(),
            Ok(since) if self.since < self.at => format!("{}, since {since}", self.message).into(),
            _ => self.message.clone(),
        }
    }
}
