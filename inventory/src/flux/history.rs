//! Reads the history in the status of a Flux object.

use gatehouse_apiservice::duration;

use super::{
    TEXT_BYTES,
    object::{Artifact, Snapshot, Status},
    reason,
    wire::Text,
};
use crate::{EntryId, History, HistoryEntry, HistoryResult, Interner, Str, catalogue::clip};

/// Entries without a time are left out.
pub(super) fn history(kind: &str, status: &Status<'_>, interner: &Interner) -> History {
    let read = if kind == "HelmRelease" { release } else { reconciliations };
    let entries = status.history.as_ref().map_or(&[][..], |history| &history.0);
    let stored = status.artifact.as_ref().and_then(|artifact| stored(artifact, interner));
    History::new(entries.iter().filter_map(|entry| read(entry, interner)).chain(stored))
}

/// What a source has stored. Of earlier artifacts its status tells nothing.
fn stored(artifact: &Artifact<'_>, interner: &Interner) -> Option<HistoryEntry> {
    let at = artifact.last_update_time?.0;
    let digest = artifact.digest.as_ref().or(artifact.revision.as_ref()).map_or("", Text::as_str);
    Some(HistoryEntry {
        id: EntryId::digest(first_digits(digest)),
        result: HistoryResult::Succeeded,
        reason: text("", interner),
        revision: given(artifact.revision.as_ref(), interner),
        action: None,
        first: at,
        last: at,
        took: None,
        times: None,
    })
}

/// An entry of a Kustomization, ResourceSet or FluxInstance: one for each content and status.
fn reconciliations(entry: &Snapshot<'_>, interner: &Interner) -> Option<HistoryEntry> {
    let status = entry.last_reconciled_status.as_ref().map_or("", Text::as_str);
    let result = match status {
        "" | "Progressing" | "Unknown" => HistoryResult::Pending,
        reason::RECONCILIATION_SUCCEEDED => HistoryResult::Succeeded,
        _ => HistoryResult::Failed,
    };
    let last = entry.last_reconciled.or(entry.first_reconciled)?.0;
    let took = entry.last_reconciled_duration.as_ref().and_then(|took| duration::parse(took.as_str()).ok());
    // A digest is known by its first digits; the same content with another status is another entry.
    let digest = first_digits(entry.digest.as_ref().map_or("", Text::as_str));
    let id = if result == HistoryResult::Succeeded { digest } else { digest ^ fold(status) };
    Some(HistoryEntry {
        id: EntryId::digest(id),
        result,
        reason: text(status, interner),
        revision: entry.metadata.as_ref().and_then(|metadata| given(metadata.revision.as_ref(), interner)),
        action: None,
        first: entry.first_reconciled.map_or(last, |first| first.0),
        last,
        took: took.and_then(|took| u32::try_from(took.as_millis()).ok()),
        times: entry.total_reconciliations.and_then(|times| u32::try_from(times).ok()),
    })
}

/// A snapshot that Helm keeps of a release.
fn release(entry: &Snapshot<'_>, interner: &Interner) -> Option<HistoryEntry> {
    let status = entry.status.as_ref().map_or("", Text::as_str);
    let result = match status {
        "deployed" | "superseded" => HistoryResult::Succeeded,
        "failed" => HistoryResult::Failed,
        "uninstalled" | "uninstalling" => HistoryResult::Uninstalled,
        _ if status.starts_with("pending") => HistoryResult::Pending,
        _ => HistoryResult::Unknown,
    };
    let chart = match (&entry.chart_name, &entry.chart_version) {
        (Some(name), Some(version)) => {
            Some(text(&format!("{}@{}", name.as_str(), version.as_str()), interner))
        }
        _ => None,
    };
    // `firstDeployed` is that of the first release of this name, whatever it contained.
    let deployed = entry.last_deployed.or(entry.first_deployed)?.0;
    Some(HistoryEntry {
        // Without a number, which Helm always writes, it is told by its content.
        id: EntryId::release(
            entry
                .version
                .and_then(|version| u64::try_from(version).ok())
                .unwrap_or_else(|| fold(chart.as_deref().unwrap_or_default())),
        ),
        result,
        reason: text(status, interner),
        revision: chart,
        action: given(entry.action.as_ref(), interner),
        first: deployed,
        last: deployed,
        took: None,
        times: None,
    })
}

fn given(text: Option<&Text<'_>>, interner: &Interner) -> Option<Str> {
    text.map(Text::as_str).filter(|text| !text.is_empty()).map(|text| self::text(text, interner))
}

fn text(text: &str, interner: &Interner) -> Str {
    interner.intern(clip(text, TEXT_BYTES))
}

/// As many bits as twelve hexadecimal digits have.
const BITS: u64 = (1 << 48) - 1;

/// The first twelve digits of `algorithm:digits`; bits of the text, if these are none.
fn first_digits(digest: &str) -> u64 {
    let digits = digest.rsplit(':').next().and_then(|digits| digits.get(..12));
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_else(|| fold(digest))
}

/// 48 bits of a text (FNV-1a), the same in every version of Gatehouse.
fn fold(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 48)) & BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_known_by_its_first_digits() {
        assert_eq!(first_digits("sha256:5c8d1f0e7a4b39c2"), 0x5c8d_1f0e_7a4b);
        for text in ["", "sha256:", "sha256:xyz", "md5:0123", "sha256:ééééééé"] {
            assert!(first_digits(text) <= BITS, "{text}");
        }
        assert_ne!(fold("HealthCheckFailed"), fold("PruneFailed"));
    }
}
