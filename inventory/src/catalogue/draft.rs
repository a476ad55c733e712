//! A verdict under construction, before its texts are interned.

use std::borrow::Cow;

use crate::{Deadline, Deniers, Interner, Seconds, State, Verdict};

/// A [`Verdict`] whose texts are still borrowed from the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft<'a> {
    pub(crate) state: State,
    pub(crate) last_outcome: Option<State>,
    pub(crate) reason: Cow<'a, str>,
    pub(crate) message: Cow<'a, str>,
    pub(crate) since: Option<Seconds>,
    pub(crate) outcome_since: Option<Seconds>,
    pub(crate) deadline: Option<Box<Deadline>>,
}

/// The limit of Kubernetes for the reason of a condition. A reason from another field may be longer.
const REASON_BYTES: usize = 256;

impl Draft<'_> {
    /// `state`, without a reason.
    pub(crate) fn new(state: State) -> Self {
        Self {
            state,
            last_outcome: None,
            reason: Cow::Borrowed(""),
            message: Cow::Borrowed(""),
            since: None,
            outcome_since: None,
            deadline: None,
        }
    }

    /// The verdict on an object that could not be judged.
    pub(crate) fn unknown(reason: &'static str, message: String) -> Self {
        Self { reason: reason.into(), message: message.into(), ..Self::new(State::Unknown) }
    }

    pub(crate) fn finish(self, interner: &Interner) -> Verdict {
        // A suspended object is not retried, even if its condition still says so.
        let is_held_back = !matches!(self.state, State::Ready | State::Suspended);
        Verdict {
            state: self.state,
            last_outcome: self.last_outcome,
            reason: interner.intern(clip(&self.reason, REASON_BYTES)),
            message: interner.intern(clip(&self.message, Verdict::MESSAGE_BYTES)),
            denied_by: is_held_back.then(|| Deniers::named_in(&self.message, interner)).flatten(),
            since: self.since,
            outcome_since: self.outcome_since,
            deadline: self.deadline,
        }
    }
}

/// The longest prefix of `text` within `bytes` that ends at a character boundary.
pub(crate) fn clip(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_at_a_character() {
        let draft = Draft { message: "é".repeat(400).into(), ..Draft::new(State::Failed) };
        let verdict = draft.finish(&Interner::default());
        assert_eq!(verdict.message.len(), Verdict::MESSAGE_BYTES);
        let odd = Draft { message: format!("x{}", "é".repeat(400)).into(), ..Draft::new(State::Failed) };
        assert_eq!(odd.finish(&Interner::default()).message.len(), Verdict::MESSAGE_BYTES - 1);
    }
}
