//! What a Flux object's status tells of its last reconciliations or releases.
//!
//! Its controller keeps five of them. Gatehouse adds nothing to these, so that all replicas show the same, also after a
//! restart.

use std::fmt;

use crate::{Seconds, Str};

/// The entries of a history, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History(Box<[HistoryEntry]>);

/// Reconciliations of one content with one result, or a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// What tells it from the others of its object.
    pub id: EntryId,
    /// How it ended.
    pub result: HistoryResult,
    /// The result as the controller calls it.
    pub reason: Str,
    /// The revision that was reconciled, or the chart that was released.
    pub revision: Option<Str>,
    /// What Helm did, if its controller says so.
    pub action: Option<Str>,
    /// When it happened first.
    pub first: Seconds,
    /// When it happened last.
    pub last: Seconds,
    /// How many milliseconds it took last.
    pub took: Option<u32>,
    /// How often it happened.
    pub times: Option<u32>,
}

/// What tells an entry from the others of its object, and the end of the name of its row: the number of a release as
/// Helm writes it, or twelve hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryId(u64);

impl EntryId {
    const RELEASE: u64 = 1 << 63;

    /// The number of a release of Helm, which is less than 2^63.
    pub fn release(number: u64) -> Self {
        Self(number | Self::RELEASE)
    }

    /// 48 bits of a digest.
    pub fn digest(bits: u64) -> Self {
        Self(bits & !Self::RELEASE)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 & Self::RELEASE {
            0 => write!(f, "{:012x}", self.0),
            _ => write!(f, "v{}", self.0 & !Self::RELEASE),
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HistoryResult {
    /// With success.
    Succeeded,
    /// Without success.
    Failed,
    /// It has not ended.
    Pending,
    /// The release was uninstalled, or is being uninstalled.
    Uninstalled,
    /// The controller says something else.
    Unknown,
}

impl HistoryResult {
    /// The name used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Pending => "Pending",
            Self::Uninstalled => "Uninstalled",
            Self::Unknown => "Unknown",
        }
    }
}

impl HistoryEntry {
    /// Whether a remediation brought back what had been there before.
    fn is_rollback(&self) -> bool {
        self.action.as_ref().is_some_and(|action| action.eq_ignore_ascii_case("rollback"))
    }
}

impl History {
    /// The history of these entries, the newest first. Those that repeat the `id` of a newer one are left out.
    pub fn new(entries: impl IntoIterator<Item = HistoryEntry>) -> Self {
        let mut kept: Vec<HistoryEntry> = Vec::new();
        for entry in entries {
            if kept.iter().all(|other| other.id != entry.id) {
                kept.push(entry);
            }
        }
        Self(kept.into())
    }

    /// Keeps the newest `most` entries, and of the others those that tell what was good last and since when it fails.
    #[must_use]
    pub fn keep(self, most: usize) -> Self {
        let good = self.0.iter().position(|entry| entry.result == HistoryResult::Succeeded);
        let always = [good, self.first_failure()];
        let entries = self.0.into_iter().enumerate();
        Self(
            entries
                .filter(|(at, _)| *at < most || always.contains(&Some(*at)))
                .map(|(_, entry)| entry)
                .collect(),
        )
    }

    /// The entries, the newest first.
    pub fn entries(&self) -> &[HistoryEntry] {
        &self.0
    }

    /// The newest entry that ended with success.
    pub fn last_good(&self) -> Option<&HistoryEntry> {
        self.0.iter().find(|entry| entry.result == HistoryResult::Succeeded)
    }

    /// The position of the oldest failure since the last success, as far back as the history goes. What a rollback
    /// brought back is no success of what failed before.
    pub fn first_failure(&self) -> Option<usize> {
        let succeeded =
            |entry: &HistoryEntry| entry.result == HistoryResult::Succeeded && !entry.is_rollback();
        let since = self.0.iter().position(succeeded).unwrap_or(self.0.len());
        self.0[..since].iter().rposition(|entry| entry.result == HistoryResult::Failed)
    }

    /// The size in bytes, without shared texts.
    pub(crate) fn size(&self) -> usize {
        size_of_val(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, result: HistoryResult) -> HistoryEntry {
        let revision = Some(format!("r{id}").into());
        let (first, last) = (1, 2);
        HistoryEntry {
            id: EntryId::digest(id),
            result,
            reason: "".into(),
            revision,
            action: None,
            first,
            last,
            took: None,
            times: None,
        }
    }

    #[test]
    fn failures_began_after_the_last_success() {
        use HistoryResult::{Failed, Pending, Succeeded};
        let first = |results: &[HistoryResult]| {
            History::new((0..).zip(results).map(|(id, result)| entry(id, *result))).first_failure()
        };
        assert_eq!(first(&[Failed, Failed, Succeeded, Failed]), Some(1));
        assert_eq!(first(&[Pending, Failed, Succeeded]), Some(1));
        assert_eq!(first(&[Succeeded, Failed]), None);
        assert_eq!(first(&[Failed, Failed]), Some(1), "the history goes back no further");
        assert_eq!(first(&[]), None);
        let back = HistoryEntry { action: Some("rollback".into()), ..entry(9, Succeeded) };
        let history = History::new([back, entry(8, Failed), entry(7, Succeeded)]);
        assert_eq!(
            (history.first_failure(), history.last_good().map(|good| good.id)),
            (Some(1), Some(EntryId::digest(9)))
        );
    }

    #[test]
    fn what_is_kept_tells_the_same_of_failures_and_successes() {
        use HistoryResult::{Failed, Pending, Succeeded};
        let all = [Failed, Pending, Failed, Succeeded, Failed, Succeeded];
        let history =
            |from: usize| History::new((0..).zip(&all[from..]).map(|(id, result)| entry(id, *result)));
        for from in 0..all.len() {
            for most in 0..=all.len() {
                let (whole, kept) = (history(from), history(from).keep(most));
                let first = |history: &History| history.first_failure().map(|at| history.entries()[at].id);
                assert_eq!(
                    (kept.last_good(), first(&kept)),
                    (whole.last_good(), first(&whole)),
                    "{from} {most}"
                );
                assert!(
                    kept.entries().len() <= most + 2
                        && whole.entries().starts_with(&kept.entries()[..most.min(kept.entries().len())])
                );
            }
        }
        assert_eq!(
            history(0).keep(1).entries().iter().map(|entry| entry.id).collect::<Vec<_>>(),
            [0, 2, 3].map(EntryId::digest)
        );
    }

    #[test]
    fn entries_have_names_of_their_own() {
        let twice = History::new([entry(255, HistoryResult::Failed), entry(255, HistoryResult::Succeeded)]);
        assert_eq!(twice.entries().len(), 1);
        assert_eq!(twice.entries()[0].id.to_string(), "0000000000ff");
        assert_eq!(EntryId::release(4).to_string(), "v4");
        assert_ne!(EntryId::release(4), EntryId::digest(4));
        assert!(size_of::<HistoryEntry>() <= 96, "{}", size_of::<HistoryEntry>());
    }
}
