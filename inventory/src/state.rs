//! The states of an observed object, and their order of severity.

use serde::{Deserialize, Serialize};

/// The state of an object, as its controller last reported it. The rules that choose a state are in `flux/rule.rs` for
/// Flux kinds, and in the catalogue for all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// The last reconciliation of the current generation succeeded.
    Ready,
    /// Suspended by its owner, so it is not expected to make progress.
    Suspended,
    /// Being deleted.
    Terminating,
    /// No controller has reported a status yet.
    Pending,
    /// A controller is working on it and has not failed.
    Progressing,
    /// The state cannot be determined: a field has the wrong type, or a rule fails to evaluate.
    Unknown,
    /// It waits for a dependency that is not ready.
    Blocked,
    /// It has failed, and the controller retries.
    Failing,
    /// It has failed.
    Failed,
    /// It has failed, and the controller has given up until the object changes.
    Stalled,
}

impl State {
    /// All states, the least severe first, as [`State`] compares.
    pub const ALL: [State; 10] = [
        State::Ready,
        State::Suspended,
        State::Terminating,
        State::Pending,
        State::Progressing,
        State::Unknown,
        State::Blocked,
        State::Failing,
        State::Failed,
        State::Stalled,
    ];

    /// The name used in the API (`status.state`).
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Ready => "Ready",
            State::Suspended => "Suspended",
            State::Terminating => "Terminating",
            State::Pending => "Pending",
            State::Progressing => "Progressing",
            State::Unknown => "Unknown",
            State::Blocked => "Blocked",
            State::Failing => "Failing",
            State::Failed => "Failed",
            State::Stalled => "Stalled",
        }
    }

    /// Whether somebody has to act, on this object or on one that it depends on.
    pub const fn is_failure(self) -> bool {
        matches!(self, State::Blocked | State::Failing | State::Failed | State::Stalled)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How many objects are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([u32; State::ALL.len()]);

impl Counts {
    /// The number of objects in `state`.
    pub const fn of(&self, state: State) -> u32 {
        self.0[state as usize]
    }

    /// The number of objects in all states.
    pub fn total(&self) -> u32 {
        self.0.iter().sum()
    }

    /// Adds an object in `state`.
    pub const fn add(&mut self, state: State) {
        self.0[state as usize] += 1;
    }

    /// Removes an object in `state`, which must have been added before.
    pub const fn remove(&mut self, state: State) {
        self.0[state as usize] -= 1;
    }

    /// The most severe state of any object.
    pub fn worst(&self) -> Option<State> {
        State::ALL.into_iter().rev().find(|state| self.of(*state) > 0)
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut sum, counts| {
            sum.0.iter_mut().zip(counts.0).for_each(|(sum, count)| *sum += count);
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_the_states_in_the_order_they_compare() {
        assert!(State::ALL.is_sorted());
        for (index, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, index);
        }
    }

    #[test]
    fn clients_know_every_state() {
        assert_eq!(State::ALL.map(State::as_str), gatehouse_apiservice::view::STATES);
    }

    #[test]
    fn worst_is_the_gravest_state_present() {
        let mut counts = Counts::default();
        assert_eq!(counts.worst(), None);
        counts.add(State::Ready);
        counts.add(State::Blocked);
        assert_eq!((counts.worst(), counts.total()), (Some(State::Blocked), 2));
        counts.remove(State::Blocked);
        assert_eq!(counts.worst(), Some(State::Ready));
    }
}
