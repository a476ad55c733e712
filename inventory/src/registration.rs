//! What is known of a remote cluster apart from its objects: who registered it, and whether it is observed.

use crate::{ClusterId, Seconds, Str};

/// The cluster that serves this API. It is not registered, and never removed.
pub const LOCAL: ClusterId = ClusterId(0);

/// The registration of a remote cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The name of the cluster in rows.
    pub name: Str,
    /// The object that registers it, for example `Secret gatehouse-clusters/eu`.
    pub origin: Str,
    /// Why the cluster is not observed; `None` if it is.
    pub refused: Option<Refusal>,
    /// When the credential expires, if it says so.
    pub expires: Option<Seconds>,
    /// How it is observed at first.
    pub mode: Mode,
}

/// How a remote cluster is observed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Its objects are watched. Nothing waits for it.
    #[default]
    Direct,
    /// It runs Gatehouse, whose rows are shown. Nothing waits for it.
    Views,
    /// A folder is read. It answers at once, so that the first rows are complete.
    Snapshot,
}

impl Mode {
    /// The name used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Views => "views",
            Self::Snapshot => "snapshot",
        }
    }
}

/// Whether a credential expires soon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Validity {
    /// Not within [`NOTICE`], as far as is known.
    #[default]
    Lasting,
    /// Within [`NOTICE`].
    Ending,
    /// It has expired.
    Ended,
}

/// How long before its end a credential is said to expire.
pub const NOTICE: Seconds = 7 * 24 * 3600;

impl Registration {
    /// Whether the credential expires soon, or has expired.
    pub(crate) fn validity(&self, now: Seconds) -> Validity {
        match self.expires {
            Some(at) if at <= now => Validity::Ended,
            Some(at) if at - now < NOTICE => Validity::Ending,
            _ => Validity::Lasting,
        }
    }
}

/// Why a registration is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One word for programs, such as `InvalidKubeconfig`.
    pub reason: Str,
    /// Names the field.
    pub message: Str,
}
