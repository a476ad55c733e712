//! How a cluster is watched.

use std::time::Duration;

/// How a cluster is watched. The defaults suit any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchSettings {
    /// Whether lists are streamed.
    pub streaming: Streaming,
    /// Objects in a page of a list that is not streamed.
    pub page_size: u32,
    /// The time between two looks at what is served; changes of CRDs are seen sooner where those may be
    /// watched.
    pub discovery_interval: Duration,
    /// The time between two signs of life, and the time that each has to arrive.
    pub heartbeat: Duration,
    /// How long a resource that was served must not be found before it counts as absent, and its objects as gone.
    /// An API server that starts may answer discovery before it has read its CRDs.
    pub absence: Duration,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            streaming: Streaming::Auto,
            page_size: 500,
            discovery_interval: Duration::from_mins(1),
            heartbeat: Duration::from_secs(5),
            absence: Duration::ZERO,
        }
    }
}

/// Whether objects are listed by a watch that begins with them (`sendInitialEvents`), which costs the API
/// server a fraction of the memory, or by pages. A kind whose server refuses is listed by pages in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Streaming {
    /// If the API server's version is one that does so by default: 1.34 or later.
    #[default]
    Auto,
    /// Try.
    Always,
    /// By pages.
    Never,
}
