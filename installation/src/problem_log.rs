//! Logs a problem when it appears, instead of in every round: some problems last for months.

use std::collections::BTreeSet;

use gatehouse_apiservice::client::explain;

use crate::error::ReconcileError;

/// The problems of the last round and of this one.
#[derive(Default)]
pub(crate) struct ProblemLog {
    last: BTreeSet<String>,
    now: BTreeSet<String>,
}

impl ProblemLog {
    /// Logs `error`, unless it has occurred in the last round or in this one. Returns whether it was logged.
    pub(crate) fn report(&mut self, error: &ReconcileError) -> bool {
        let problem = explain(error);
        let is_news = !self.last.contains(&problem) && !self.now.contains(&problem);
        if is_news {
            tracing::warn!(error = %problem, "certificates or registration are not up to date");
        }
        self.now.insert(problem);
        is_news
    }

    /// Ends the round. A problem that did not occur in it is logged again if it comes back.
    pub(crate) fn end_round(&mut self) {
        self.last = std::mem::take(&mut self.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_once_while_it_lasts() {
        let mut problems = ProblemLog::default();
        let other = ReconcileError::ForeignSecret("other".to_owned());
        assert!(problems.report(&ReconcileError::LostLeadership) && problems.report(&other));
        problems.end_round();
        assert!(!problems.report(&ReconcileError::LostLeadership), "whatever else was met");
        problems.end_round();
        assert!(
            !problems.report(&ReconcileError::LostLeadership) && problems.report(&other),
            "the other one came back"
        );
    }
}
