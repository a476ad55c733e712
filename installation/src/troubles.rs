//! Logs a problem when it appears, instead of in every round: some problems last for months.

use std::collections::BTreeSet;

use gatehouse_apiservice::client::explain;

use crate::error::KeepError;

/// The problems of the last round and of this one.
#[derive(Default)]
pub(crate) struct Troubles {
    last: BTreeSet<String>,
    now: BTreeSet<String>,
}

impl Troubles {
    /// Logs `error`, unless it has occurred in the last round or in this one. Returns whether it was logged.
    pub(crate) fn meet(&mut self, error: &KeepError) -> bool {
        let trouble = explain(error);
        let is_news = !self.last.contains(&trouble) && !self.now.contains(&trouble);
        if is_news {
            tracing::warn!(error = %trouble, "certificates or registration are not up to date");
        }
        self.now.insert(trouble);
        is_news
    }

    /// Ends the round. A problem that did not occur in it is logged again if it comes back.
    pub(crate) fn end_look(&mut self) {
        self.last = std::mem::take(&mut self.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_once_while_it_lasts() {
        let mut troubles = Troubles::default();
        let other = KeepError::Foreign("other".to_owned());
        assert!(troubles.meet(&KeepError::Deposed) && troubles.meet(&other));
        troubles.end_look();
        assert!(!troubles.meet(&KeepError::Deposed), "whatever else was met");
        troubles.end_look();
        assert!(!troubles.meet(&KeepError::Deposed) && troubles.meet(&other), "the other one came back");
    }
}
