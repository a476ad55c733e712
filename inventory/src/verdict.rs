//! Verdicts: the state of an object, the reason, the time, and the deadlines that will change it.
//!
//! A verdict depends only on the object's own fields, with one exception. Controllers take back a failure when they
//! begin the next attempt. So the outcome of the last finished attempt is carried over from the previous verdict of the
//! same object.

use gatehouse_apiservice::denial::{self, Denier};

use crate::{Interner, Seconds, State, Str, flux::reason};

/// The result of a state rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The state of the object.
    pub state: State,
    /// The outcome of the last finished attempt, if the object is Suspended or Progressing.
    pub last_outcome: Option<State>,
    /// The reason of the deciding condition, in CamelCase; empty if no condition decided.
    pub reason: Str,
    /// A text for people, of at most [`Verdict::MESSAGE_BYTES`] bytes.
    pub message: Str,
    /// When the object entered this state, if its conditions say so.
    pub since: Option<Seconds>,
    /// Of Flux objects: since when the [outcome](Verdict::outcome) has been a success or a failure, across attempts.
    pub outcome_since: Option<Seconds>,
    /// The quotas and policies that deny what its controller does, as the message says.
    pub denied_by: Option<Box<Deniers>>,
    /// The first of the deadlines that will change this verdict.
    pub deadline: Option<Box<Deadline>>,
}

/// Quotas and policies that deny a request, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deniers(Box<[Denier<Str>]>);

impl Deniers {
    /// Those that the message names; it must not be cut yet.
    pub(crate) fn named_in(message: &str, interner: &Interner) -> Option<Box<Self>> {
        let named = denial::deniers(message).into_iter();
        let named = named.map(|Denier { kind, name }| Denier { kind, name: interner.intern(name) });
        let all: Box<[_]> = named.collect();
        (!all.is_empty()).then(|| Box::new(Self(all)))
    }
}

impl Verdict {
    /// The largest length of a message, in bytes. Some controllers write whole build logs into messages; longer ones
    /// are cut at a character boundary.
    pub const MESSAGE_BYTES: usize = 512;

    /// The quotas and policies that hold the object back.
    pub fn deniers(&self) -> &[Denier<Str>] {
        self.denied_by.as_ref().map_or(&[], |deniers| &deniers.0)
    }

    /// Whether the object is Ready, or was Ready when it was suspended.
    pub fn is_well(&self) -> bool {
        match self.state {
            State::Suspended => self.last_outcome == Some(State::Ready),
            state => state == State::Ready,
        }
    }

    /// Since when the outcome has been a success or a failure. If that is unknown, since when the object has been in
    /// its state.
    pub fn outcome_since(&self) -> Option<Seconds> {
        self.outcome_since.or(self.since)
    }

    /// Carries over what was observed of the same object `before` and is no longer in its status. A failed object
    /// counts as failed until a success is observed: a controller removes the failure from the status when it retries,
    /// and not all controllers keep it elsewhere.
    pub(crate) fn remember(&mut self, before: &Verdict) {
        if self.still_waits(before) {
            *self = before.clone();
            return;
        }
        if matches!(self.state, State::Progressing | State::Suspended) {
            let known = before.known_outcome();
            let is_suspended = self.state == State::Suspended;
            // No attempt has begun since the condition was written, so the condition is the latest news.
            let is_told = is_suspended || *self.reason == *reason::GENERATION_NOT_OBSERVED;
            // A success that was not observed itself is recognized by its time.
            let is_newer = self.last_outcome == Some(State::Ready)
                && self
                    .outcome_since
                    .zip(before.outcome_since())
                    .is_some_and(|(own, before)| own > before || is_told && own == before);
            let says_itself = is_told && self.last_outcome.is_some_and(State::is_failure);
            if known.is_some_and(State::is_failure) && !is_newer && !says_itself {
                self.last_outcome = known;
                self.outcome_since = before.outcome_since();
                if self.state == State::Progressing {
                    (self.reason, self.message) = (before.reason.clone(), before.message.clone());
                    self.denied_by.clone_from(&before.denied_by);
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

    /// The outcome of the last finished attempt.
    fn known_outcome(&self) -> Option<State> {
        match self.state {
            State::Progressing | State::Suspended => self.last_outcome,
            state if state == State::Ready || state.is_failure() => Some(state),
            _ => None,
        }
    }

    /// Whether the object still waits for its controller to observe the same generation as `before`, so that its
    /// deadline stays.
    fn still_waits(&self, before: &Verdict) -> bool {
        let waits = |verdict: &Verdict| verdict.reason == self.reason && verdict.message == self.message;
        let own = self.deadline.as_ref();
        own.is_some_and(|own| own.reason == self.reason && own.message == self.message)
            && self.state == State::Progressing
            && waits(before)
    }

    /// The outcome of the last finished attempt if one is in progress, otherwise the state. kustomize-controller sets
    /// Progressing on each reconciliation, whatever the outcome.
    pub fn outcome(&self) -> State {
        match self.state {
            State::Progressing => self.last_outcome.unwrap_or(self.state),
            state => state,
        }
    }

    /// While an attempt is in progress, keeps the outcome from before it: a failure until the attempt ends, and a
    /// success if nothing else is known. So health changes once per change, not with each attempt.
    pub(crate) fn count_as_before(&mut self, before: &Self) {
        let outcome = before.outcome();
        if self.state == State::Progressing
            && (outcome.is_failure() || outcome == State::Ready && self.last_outcome.is_none())
        {
            self.last_outcome = Some(outcome);
        }
    }

    /// Keeps the start of those deadlines that were already observed in the verdict `before`.
    pub(crate) fn continue_from(&mut self, before: &Self) {
        let mut own = self.deadline.as_deref_mut();
        while let Some(deadline) = own {
            let mut known = before.deadlines().filter(|known| known.observed);
            if deadline.observed
                && let Some(known) = known.find(|known| known.is_same(deadline))
                && known.since < deadline.since
            {
                deadline.at -= deadline.since - known.since;
                deadline.since = known.since;
            }
            own = deadline.next.as_deref_mut();
        }
    }

    /// The deadlines, in order.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = &Deadline> {
        std::iter::successors(self.deadline.as_deref(), |deadline| deadline.next.as_deref())
    }

    /// When the next deadline is due.
    pub(crate) fn due(&self) -> Option<Seconds> {
        self.deadlines().filter(|deadline| !deadline.passed).map(|deadline| deadline.at).min()
    }

    /// Applies the deadlines that are due at `now`. Returns the effect of the last one, if one has passed since the
    /// last call.
    pub(crate) fn let_pass(&mut self, now: Seconds) -> Option<End> {
        let (mut deadline, mut end, mut reached, mut is_new) =
            (self.deadline.as_deref_mut(), None, None, false);
        while let Some(current) = deadline {
            if !current.passed && current.at <= now {
                (current.passed, is_new) = (true, true);
            }
            if current.passed {
                end = Some(current.end);
                if let End::State(state) = current.end {
                    reached = Some((
                        state,
                        current.reason.clone(),
                        current.message_after(),
                        current.since,
                        current.at,
                    ));
                }
            }
            deadline = current.next.as_deref_mut();
        }
        let end = end.filter(|_| is_new)?;
        if let Some((state, reason, message, since, at)) = reached {
            (self.state, self.last_outcome) = (state, None);
            (self.reason, self.message, self.since) = (reason, message, Some(since));
            self.outcome_since = self.outcome_since.and(Some(at));
        }
        // Deadlines from the object's own fields come again when it is decoded again. Observed ones must be kept, since
        // their start is not in the object.
        while let Some(passed) = self.deadline.take_if(|deadline| deadline.passed && !deadline.observed) {
            self.deadline = passed.next;
        }
        Some(end)
    }
}

/// A change of a verdict by time alone: a certificate expires, a backup becomes too old, a rollout does not finish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// When the change happens.
    pub at: Seconds,
    /// When the state began that the deadline ends; at most `at`.
    pub since: Seconds,
    /// Whether `since` is the time of the first observation or of a write before it, because the object has no such
    /// time.
    pub observed: bool,
    /// The effect.
    pub end: End,
    /// The reason afterwards, in CamelCase.
    pub reason: Str,
    /// The message afterwards, for people.
    pub message: Str,
    /// Whether the deadline has passed.
    pub passed: bool,
    /// The next deadline, whose effect then replaces this one.
    pub next: Option<Box<Deadline>>,
}

/// The effect of a deadline on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The object is in this state from then on.
    State(State),
    /// The object keeps its state, but counts towards no layer.
    Forgotten,
}

impl Deadline {
    /// Whether both deadlines are for the same condition, whenever it began.
    fn is_same(&self, other: &Self) -> bool {
        (&self.reason, &self.message, self.end) == (&other.reason, &other.message, other.end)
    }

    /// The message after the deadline. It includes the time `since`, unless that is the deadline itself.
    fn message_after(&self) -> Str {
        match jiff::Timestamp::from_second(self.since) {
            Ok(since) if self.since < self.at && self.message.is_empty() => format!("since {since}").into(),
            Ok(since) if self.since < self.at => format!("{}, since {since}", self.message).into(),
            _ => self.message.clone(),
        }
    }
}
