//! What a remote Gatehouse does not show: views that it does not serve or that may not be read, rows that cannot be read
//! here, and views that are not known here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use gatehouse_apiservice::view::RESOURCES;
use gatehouse_inventory::{KindStatus, Str};

use super::probe::Gatehouse;

/// The views of one cluster. All of them write here.
pub(super) struct Notes {
    /// The views that are not known here.
    unknown: Vec<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    views: [View; RESOURCES.len()],
    told: Vec<Str>,
}

#[derive(Default)]
struct View {
    status: Option<KindStatus>,
    /// How many rows could not be read since the last list, and why the last one.
    unreadable: (u64, String),
}

impl Notes {
    pub(super) fn new(gatehouse: &Gatehouse) -> Self {
        Self { unknown: gatehouse.unknown.clone(), state: Mutex::default() }
    }

    /// Records the status of a view. Returns whether its rows are followed.
    pub(super) fn status(&self, view: usize, status: &KindStatus) -> bool {
        self.state().views[view].status = Some(status.clone());
        matches!(status, KindStatus::Served { .. })
    }

    /// Records that all rows of a view are listed now.
    pub(super) fn restart(&self, view: usize) {
        self.state().views[view].unreadable = (0, String::new());
    }

    /// Records that a row cannot be read.
    pub(super) fn unreadable(&self, view: usize, why: &str) {
        let mut state = self.state();
        let (count, last) = &mut state.views[view].unreadable;
        *count += 1;
        why.clone_into(last);
    }

    /// What is not shown, if that is not what was told last.
    pub(super) fn changed(&self) -> Option<Vec<Str>> {
        let mut state = self.state();
        let views = RESOURCES.iter().zip(&state.views);
        let mut lacks: Vec<Str> = views.filter_map(|(resource, view)| view.lacks(resource.plural)).collect();
        if !self.unknown.is_empty() {
            lacks.push(
                format!("its Gatehouse has views that are not known here: {}", self.unknown.join(", "))
                    .into(),
            );
        }
        if state.told == lacks {
            return None;
        }
        state.told.clone_from(&lacks);
        Some(lacks)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    fn lacks(&self, plural: &str) -> Option<Str> {
        Some(match (&self.status, &self.unreadable) {
            (Some(KindStatus::Absent), _) => format!("{plural}: its Gatehouse has no such view").into(),
            (Some(KindStatus::Forbidden { message }), _) => {
                format!("{plural}: the view may not be read: {message}").into()
            }
            (_, (1.., why)) => {
                format!("{plural}: rows are left out that cannot be shown, the last since {why}").into()
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shown_is_named_and_said_once() {
        let gatehouse = Gatehouse { name: "local".into(), unknown: vec!["moonphases".to_owned()] };
        let notes = Notes::new(&gatehouse);
        assert!(notes.status(0, &KindStatus::Served { version: "v1alpha1".into() }));
        assert!(!notes.status(1, &KindStatus::Absent));
        assert!(!notes.status(2, &KindStatus::Forbidden { message: "no right".into() }));
        notes.unreadable(3, "it is longer than 256 KiB");
        assert_eq!(
            notes.changed().unwrap().iter().map(|note| &**note).collect::<Vec<_>>(),
            [
                "argoapplications: its Gatehouse has no such view",
                "argosummaries: the view may not be read: no right",
                "clusterhealths: rows are left out that cannot be shown, the last since it is longer than 256 KiB",
                "its Gatehouse has views that are not known here: moonphases",
            ]
        );
        assert_eq!(notes.changed(), None);
        notes.restart(3);
        assert_eq!(notes.changed().unwrap().len(), 3);
    }
}
