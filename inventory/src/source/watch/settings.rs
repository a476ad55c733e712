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
    /// Within this time each change is known, or else the kind is known to be behind, even if connections break silently.
    /// `None`: no such promise.
    pub lag: Option<Duration>,
    /// The interval of attempts, or up to twice that, if the account may not list or watch a resource.
    pub forbidden: Duration,
}

/// How long watches last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// The server is asked to end each watch after at most this time. Before it does, it sends a bookmark.
    pub(super) round: Duration,
    /// A watch without events and bookmarks for this long is considered dead, and is resumed from its last
    /// resourceVersion. kube-apiserver sends a bookmark each minute, and before it ends a watch.
    pub(super) silence: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { round: Duration::from_mins(5), silence: Duration::from_secs(90) }
    }
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
            lag: None,
            forbidden: Duration::from_secs(30),
        }
    }
}

impl WatchSettings {
    /// Settings under which each change is known within `lag`, or else the kind is known to be behind, even if
    /// connections break silently. Over HTTP/1.1 this costs one request per kind in that time.
    #[must_use]
    pub fn within(self, lag: Duration) -> Self {
        Self {
            // Jitter adds a third.
            discovery_interval: self.discovery_interval.min(lag.mul_f64(0.75)),
            forbidden: self.forbidden.min(lag / 2),
            lag: Some(lag),
            ..self
        }
    }

    /// The pace of a watch. `is_shared`: it shares a connection with heartbeats, whose answers show that it is alive.
    pub(super) fn pace(&self, is_shared: bool) -> Pace {
        let Pace { round, silence } = Pace::default();
        match self.lag {
            Some(lag) if !is_shared => Pace {
                // Otherwise a watch is heard from two seconds before its end, and when it is opened again.
                round: if lag > BOOKMARKS { round } else { round.min(lag.mul_f64(0.9)) },
                silence: silence.min(lag),
            },
            _ => Pace { round, silence },
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
    fn a_watch_ends_before_its_silence_would_count_as_lag_unless_it_is_heard_from_sooner() {
        let round = |lag, is_shared| {
            WatchSettings::default().within(Duration::from_secs(lag)).pace(is_shared).round.as_secs()
        };
        assert_eq!([2, 30, 75, 90].map(|lag| round(lag, false)), [1, 27, 67, 300]);
        assert_eq!([2, 30, 75, 90].map(|lag| round(lag, true)), [300; 4]);
        assert_eq!(WatchSettings::default().pace(false), Pace::default());
    }
}
