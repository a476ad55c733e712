//! The annotations of Flux objects that Gatehouse reads and writes.

/// The reason of a suspension.
pub const SUSPEND_REASON: &str = "gatehouse.dev/suspend-reason";
/// The time of a suspension (RFC 3339).
pub const SUSPENDED_AT: &str = "gatehouse.dev/suspended-at";
/// The time at which a suspension ends by itself (RFC 3339).
pub const SUSPENDED_UNTIL: &str = "gatehouse.dev/suspended-until";
/// The freeze that holds an object: `POLICY/FREEZE`.
pub const FROZEN_BY: &str = "gatehouse.dev/frozen-by";
/// The freezes that do not hold an object, since an exempt person created or resumed it: `POLICY/FREEZE@SINCE`,
/// separated by commas.
pub const EXEMPT_FROM: &str = "gatehouse.dev/exempt-from";
/// The author of a suspension.
pub const SUSPENDED_BY: &str = "fluxcd.controlplane.io/suspendedBy";
/// Requests a reconciliation, by a token that the controller has not handled yet.
pub const REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
/// Forces the requested reconciliation, if its token is the same.
pub const FORCE_AT: &str = "reconcile.fluxcd.io/forceAt";
/// Resets the counted failures before the requested reconciliation, if its token is the same.
pub const RESET_AT: &str = "reconcile.fluxcd.io/resetAt";
/// The annotations that request a reconciliation.
pub const REQUESTS: [&str; 3] = [REQUESTED_AT, FORCE_AT, RESET_AT];
