//! How long the leader has observed the store and the published bundles without a change.

use std::time::{Duration, Instant};

use super::Store;

/// For how long the leader has observed the current state. The default is zero, and not published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObservationTimes {
    /// How long the store has had its bundle and its serving certificate.
    pub unchanged_for: Duration,
    /// How long every object has had the store's bundle, with no other bundle observed in between; `None` if an object
    /// has another bundle now.
    pub published_for: Option<Duration>,
}

/// What a leader has observed in its term. Each term starts with a new value.
///
/// [`ObservationTimes::published_for`] is right only if the leader alone repairs a bundle that was overwritten, and
/// calls [`Observations::observe`] before it does. It then observes every bundle that was wrong for a while.
#[derive(Default)]
pub struct Observations {
    stored: Option<(StoredCertificates, Instant)>,
    published: Option<(String, Instant)>,
}

#[derive(PartialEq, Eq)]
struct StoredCertificates {
    bundle: String,
    leaf: Option<String>,
}

impl Observations {
    /// Records the store, and the bundles of all objects that publish it, at `now`. With no objects the bundle counts
    /// as not published.
    pub fn observe<'a>(
        &mut self,
        store: &Store,
        published: impl IntoIterator<Item = &'a [u8]>,
        now: Instant,
    ) -> ObservationTimes {
        let bundle = store.bundle();
        let mut published = published.into_iter().peekable();
        let is_published =
            published.peek().is_some() && published.all(|published| published == bundle.as_bytes());
        let published_for = is_published.then(|| since(&mut self.published, bundle.clone(), now));
        if published_for.is_none() {
            self.published = None;
        }
        let leaf = store.leaf.as_ref().map(|leaf| leaf.pair.certificate_pem.clone());
        ObservationTimes {
            unchanged_for: since(&mut self.stored, StoredCertificates { bundle, leaf }, now),
            published_for,
        }
    }
}

/// How long `value` has been observed. Another value starts at zero.
fn since<T: PartialEq>(observed: &mut Option<(T, Instant)>, value: T, now: Instant) -> Duration {
    match observed {
        Some((before, since)) if *before == value => now.saturating_duration_since(*since),
        _ => {
            *observed = Some((value, now));
            Duration::ZERO
        }
    }
}
