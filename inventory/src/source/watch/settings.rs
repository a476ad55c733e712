//! Settings for the watch of a cluster.

use std::time::Duration;

/// Settings for the watch of a cluster. The defaults suit all clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchSettings {
    /// Whether to use streaming lists.
    pub streaming: Streaming,
    /// The number of objects in a page of a list that is not streamed.
    pub page_size: u32,
    /// The interval of discovery. Changes of CRDs are noticed sooner if the account may watch these.
    pub discovery_interval: Duration,
    /// Whether CustomResourceDefinitions are watched, so that discovery runs when one that is wanted changes.
    pub definitions: bool,
    /// The interval of heartbeats, and the time limit of each.
    pub heartbeat: Duration,
    /// How long a resource that was served must be missing from discovery before it counts as absent and its objects as
    /// deleted. A starting API server may answer discovery before it has loaded its CRDs.
    pub absence: Duration,
    /// The server is asked to end each watch after at most this time. Before it does, it sends a bookmark.
    pub round: Duration,
    /// A watch without events and bookmarks for this long is considered dead, and is resumed from its last
    /// resourceVersion. kube-apiserver sends a bookmark each minute, and before it ends a watch.
    pub silence: Duration,
    /// The interval of attempts, or up to twice that, if the account may not list or watch a resource.
    pub forbidden: Duration,
}

/// A watch without changes is heard from within this time: kube-apiserver sends a bookmark each minute.
const BOOKMARKS: Duration = Duration::from_secs(75);

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            streaming: Streaming::Auto,
            page_size: 500,
            discovery_interval: Duration::from_mins(1),
            definitions: true,
            heartbeat: Duration::from_secs(5),
            absence: Duration::from_secs(15),
            round: Duration::from_mins(5),
            silence: Duration::from_secs(90),
            forbidden: Duration::from_secs(30),
        }
    }
}

impl WatchSettings {
    /// Settings under which each change is known within `lag`, or else the kind is known to be behind, even if
    /// connections break silently. This costs one request per kind in that time.
    #[must_use]
    pub fn within(self, lag: Duration) -> Self {
        // Otherwise a watch is heard from two seconds before its end, and when it is opened again.
        let round = if lag > BOOKMARKS { self.round } else { self.round.min(lag.mul_f64(0.9)) };
        Self {
            // Jitter adds a third.
            discovery_interval: self.discovery_interval.min(lag.mul_f64(0.75)),
            round,
            silence: self.silence.min(lag),
            forbidden: self.forbidden.min(lag / 2),
            ..self
        }
    }
}

/// Whether to list objects by a watch with `sendInitialEvents`, which needs a fraction of the API server's memory
/// (KEP-3157), or in pages. A kind for which the server refuses it is always listed in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Streaming {
    /// Stream if the version of the API server does so by default: 1.34 or later.
    #[default]
    Auto,
    /// Try to stream.
    Always,
    /// List in pages.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_ends_before_its_silence_would_count_as_lag_unless_bookmarks_come_sooner() {
        let round = |lag| WatchSettings::default().within(Duration::from_secs(lag)).round.as_secs();
        assert_eq!([2, 30, 75, 90].map(round), [1, 27, 67, 300]);
    }
}
