//! What the leader has seen, and for how long.

use std::time::{Duration, Instant};

use super::Store;

/// How long things have been as they are, as far as the leader knows. By default: not at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// How long the store has been as it is.
    pub kept_for: Duration,
    /// How long everybody who publishes the store's bundle was seen to do so, without an interruption that was seen;
    /// `None` if somebody does not.
    pub published_for: Option<Duration>,
}

/// What a leader has seen in its term; made anew for each term.
///
/// Sound as long as the leader alone mends what is published, and only after it has looked: then a bundle that was
/// different for a while was seen to be.
#[derive(Default)]
pub struct Sightings {
    kept: Option<(Kept, Instant)>,
    published: Option<(String, Instant)>,
}

#[derive(PartialEq, Eq)]
struct Kept {
    bundle: String,
    leaf: Option<String>,
}

impl Sightings {
    /// Looks at the store, and at the bundles of all that publish it. None at all is not published.
    pub fn look<'a>(
        &mut self,
        store: &Store,
        published: impl IntoIterator<Item = &'a [u8]>,
        now: Instant,
    ) -> Seen {
        let bundle = store.bundle();
        let mut published = published.into_iter().peekable();
        let is_published =
            published.peek().is_some() && published.all(|published| published == bundle.as_bytes());
        let published_for = is_published.then(|| since(&mut self.published, bundle.clone(), now));
        if published_for.is_none() {
            self.published = None;
        }
        let leaf = store.leaf.as_ref().map(|leaf| leaf.pair.certificate_pem.clone());
        Seen { kept_for: since(&mut self.kept, Kept { bundle, leaf }, now), published_for }
    }
}

/// How long `value` has been there; from now on, if something else was.
fn since<T: PartialEq>(seen: &mut Option<(T, Instant)>, value: T, now: Instant) -> Duration {
    match seen {
        Some((before, since)) if *before == value => now.saturating_duration_since(*since),
        _ => {
            *seen = Some((value, now));
            Duration::ZERO
        }
    }
}
