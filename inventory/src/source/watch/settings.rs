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
    /// The server is asked to end each watch after at most this. It says then how far it came, if nothing else has.
    pub round: Duration,
    /// A watch that says nothing for this long is dead, and taken up anew from where it came. kube-apiserver says how
    /// far it came each minute, and before it ends a watch.
    pub silence: Duration,
    /// The time between two attempts, or up to twice it, at what this account may not list or watch.
    pub forbidden: Duration,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            streaming: Streaming::Auto,
            page_size: 500,
            discovery_interval: Duration::from_mins(1),
            heartbeat: Duration::from_secs(5),
            absence: Duration::from_secs(15),
            round: Duration::from_mins(5),
            silence: Duration::from_secs(90),
            forbidden: Duration::from_secs(30),
        }
    }
}

impl WatchSettings {
    /// So that whatever happens is known within `lag`, or known not to be known, though connections die without a
    /// word. Costs a request for each kind in that time.
    #[must_use]
    pub fn within(self, lag: Duration) -> Self {
        Self {
            // Jitter adds a third.
            discovery_interval: self.discovery_interval.min(lag.mul_f64(0.75)),
            round: self.round.min(lag.mul_f64(0.75)),
            silence: self.silence.min(lag),
            forbidden: self.forbidden.min(lag / 2),
            ..self
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
