//! What is wrong, told once for each trouble and not for each look: some last for months.

use std::collections::BTreeSet;

use gatehouse_apiservice::client::explain;

use crate::error::KeepError;

/// What was met in the last look, and in this one.
#[derive(Default)]
pub(crate) struct Troubles {
    last: BTreeSet<String>,
    now: BTreeSet<String>,
}

impl Troubles {
    /// Tells of what was met in this look, unless it was met in the last one too. Says whether it did.
    pub(crate) fn meet(&mut self, error: &KeepError) -> bool {
        let trouble = explain(error);
        let is_news = !self.last.contains(&trouble) && !self.now.contains(&trouble);
        if is_news {
            tracing::warn!(error = %trouble, "certificates or registration are not up to date");
        }
        self.now.insert(trouble);
        is_news
    }

    /// The look is over, and with it what was not met any more.
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
