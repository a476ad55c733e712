//! Each write is for the version that was read. One that meets a change by somebody else is tried again, some times.

use gatehouse_serving::ApiError;
use http::StatusCode;

/// How often a request is tried that meets a change of the object by somebody else.
const MOST: usize = 5;

/// The attempts that a request has left.
pub(super) struct Attempts(usize);

impl Attempts {
    pub(super) fn new() -> Self {
        Self(MOST)
    }

    /// Whether to read the object again, after a write that failed so.
    pub(super) fn try_again(&mut self, error: &ApiError) -> bool {
        self.0 = self.0.saturating_sub(1);
        error.code() == StatusCode::CONFLICT && self.0 > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_is_met_five_times_and_nothing_else_is_tried_again() {
        let mut attempts = Attempts::new();
        let conflict = ApiError::already_exists("changed meanwhile");
        let tried = (0..10).take_while(|_| attempts.try_again(&conflict)).count();
        assert_eq!(tried + 1, MOST);
        assert!(!Attempts::new().try_again(&ApiError::denied("no")));
    }
}
