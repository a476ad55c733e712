//! One candidate for one Lease: observes, takes, renews and releases it.

use std::time::{Duration, SystemTime};

use gatehouse_apiservice::client::explain;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, api::PostParams};
use tokio::time::{Instant, timeout};

use super::{Decision, evaluate};
use crate::empty_object;
use crate::error::{ReconcileError, with_timeout};

/// The precision of the times in a Lease (`MicroTime`).
const MICROSECOND: Duration = Duration::from_micros(1);
/// The timeout for releasing the Lease on shutdown. If it is not released, the next holder waits until it expires.
const RELEASE: Duration = Duration::from_secs(2);

/// A candidate for a Lease.
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// The `leaseDurationSeconds` that it writes.
    duration: Duration,
    /// The wall clock; tests replace it.
    pub(crate) time: fn() -> SystemTime,
    /// The Lease as last observed, and when its spec was first observed.
    seen: Option<(Lease, Instant)>,
    /// Whether `seen` is what this candidate wrote last. Then the next renewal needs not read it: it fails with a
    /// conflict if another client has written it since.
    is_written: bool,
}

/// A Lease that this candidate took or renewed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseTerm {
    /// A time before the write was sent.
    pub(crate) started: Instant,
    /// When it expires: its `renewTime` plus its duration, by the holder's wall clock.
    pub(crate) expires: SystemTime,
    /// When the previous hold expired, of this or another holder, by the same rule; `None` if there was none.
    pub(crate) previous_expiry: Option<SystemTime>,
}

/// Why an attempt neither took nor renewed the Lease.
#[derive(Debug)]
pub(crate) enum AcquireError {
    /// Another candidate holds the Lease.
    HeldByOther,
    /// Another candidate wrote the Lease at the same time.
    Conflict,
    /// The API server answered with an error, or could not be reached.
    Failed(String),
}

/// What a released Lease says about its last hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReleaseMode {
    /// The hold ended now: `renewTime` is the time of release and the duration is 1 s. client-go writes this, so other
    /// tools recognize it.
    Expire,
    /// `renewTime` and duration stay, so that the next holder knows until when the Lease was held.
    KeepExpiry,
}

impl From<ReconcileError> for AcquireError {
    fn from(error: ReconcileError) -> Self {
        match &error {
            ReconcileError::Request { source, .. } if is_conflict(source) => Self::Conflict,
            _ => Self::Failed(explain(&error)),
        }
    }
}

impl Candidate {
    pub(crate) fn new(api: Api<Lease>, name: &str, identity: &str, duration: Duration) -> Self {
        let (name, identity) = (name.to_owned(), identity.to_owned());
        Self { api, name, identity, duration, time: SystemTime::now, seen: None, is_written: false }
    }

    /// The name of the Lease.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The `holderIdentity` that this candidate writes.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// Reads the Lease, and takes or renews it if [`evaluate`] allows that. Before it takes a Lease that it does not
    /// hold, it calls `may_acquire` with the time when the last hold expires, according to the Lease; `false` leaves
    /// the Lease alone.
    pub(crate) async fn try_acquire_or_renew(
        &mut self,
        may_acquire: impl Fn(Option<SystemTime>) -> bool,
    ) -> Result<LeaseTerm, AcquireError> {
        let what = format!("Lease/{}", self.name);
        if std::mem::take(&mut self.is_written)
            && let Some(lease) = self.seen.as_ref().map(|(lease, _)| lease.clone())
        {
            match self.write(lease, false, Instant::now()).await {
                // It is no longer what was written, or gone.
                Err(ReconcileError::Request { source, .. }) if has_code(&source, &[404, 409]) => {}
                written => return Ok(written?),
            }
        }
        let lease = with_timeout(&what, self.api.get_opt(&self.name)).await?;
        let now = Instant::now();
        self.observe(lease, now);
        let (lease, since) = match &self.seen {
            Some((lease, since)) => (Some(lease), *since),
            None => (None, now),
        };
        let spec = lease.map(|lease| lease.spec.clone().unwrap_or_default());
        let decision = evaluate(spec.as_ref(), &self.identity, since, now);
        let mut lease = match (decision, lease) {
            (Decision::Wait(_), _) => return Err(AcquireError::HeldByOther),
            (Decision::Renew | Decision::Take, Some(lease)) => lease.clone(),
            // A new Lease has no holder and is taken below, unless another candidate created and took it meanwhile.
            (_, _) => with_timeout(&what, empty_object::get_or_create(&self.api, &self.name)).await?,
        };
        let is_new = decision != Decision::Renew;
        let spec = lease.spec.get_or_insert_default();
        if decision == Decision::Create
            && spec.holder_identity.as_ref().is_some_and(|holder| !holder.is_empty())
        {
            return Err(AcquireError::Conflict);
        }
        if is_new && !may_acquire(expiry(spec)) {
            return Err(AcquireError::HeldByOther);
        }
        Ok(self.write(lease, is_new, now).await?)
    }

    /// Takes or renews the Lease as it was read or written last. `now` is before the request.
    async fn write(
        &mut self,
        mut lease: Lease,
        is_new: bool,
        now: Instant,
    ) -> Result<LeaseTerm, ReconcileError> {
        let before = lease.spec.take().unwrap_or_default();
        let previous_expiry = expiry(&before);
        let spec = self.renewed_spec(before, timestamp((self.time)()), is_new);
        let expires = expiry(&spec).unwrap_or(SystemTime::UNIX_EPOCH);
        lease.spec = Some(spec);
        // The update carries the resourceVersion: of two candidates that take the Lease, one gets a conflict.
        let what = format!("Lease/{}", self.name);
        let written =
            with_timeout(&what, self.api.replace(&self.name, &PostParams::default(), &lease)).await?;
        self.observe(Some(written), now);
        self.is_written = true;
        Ok(LeaseTerm { started: now, expires, previous_expiry })
    }

    /// Releases the Lease, if this candidate last observed itself as its holder. If that fails or takes longer than
    /// [`RELEASE`], the next holder waits until the Lease expires.
    pub(crate) async fn release(&mut self, mode: ReleaseMode) {
        let Some((lease, _)) = self.seen.take() else { return };
        if let Ok(Err(error)) = timeout(RELEASE, self.clear_holder(lease, mode)).await {
            tracing::debug!(error = %explain(&error), lease = %self.name, "cannot release the Lease");
        }
    }

    /// Reads the Lease again after a conflict: a renewal that was cancelled in flight may have been written, and would
    /// leave the Lease held by a replica that has ended.
    async fn clear_holder(&self, mut lease: Lease, mode: ReleaseMode) -> kube::Result<()> {
        loop {
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            spec.holder_identity = Some(String::new());
            if mode == ReleaseMode::Expire {
                spec.lease_duration_seconds = Some(1);
                spec.renew_time = Some(MicroTime(timestamp((self.time)())));
            }
            match self.api.replace(&self.name, &PostParams::default(), &lease).await {
                Err(error) if is_conflict(&error) => {
                    lease = self.api.get(&self.name).await?;
                }
                written => return written.map(drop),
            }
        }
    }

    fn observe(&mut self, lease: Option<Lease>, now: Instant) {
        self.seen = lease.map(|lease| match self.seen.take() {
            Some((known, since)) if known.spec == lease.spec => (lease, since),
            _ => (lease, now),
        });
    }

    /// The spec that takes or renews a Lease. `renewTime` never goes back, even if the wall clock does, since this
    /// holder and others may rely on the time that it gave. It always grows by 1 µs at least, since other candidates
    /// recognize a renewal by a change.
    fn renewed_spec(&self, before: LeaseSpec, now: Timestamp, is_new: bool) -> LeaseSpec {
        let transitions = before.lease_transitions.unwrap_or(0);
        let is_first = before.renew_time.is_none();
        let next = before.renew_time.as_ref().and_then(|last| last.0.checked_add(MICROSECOND).ok());
        let renewed = next.map_or(now, |next| next.max(now));
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
            acquire_time: if is_new { Some(MicroTime(now)) } else { before.acquire_time },
            renew_time: Some(MicroTime(renewed)),
            lease_transitions: Some(transitions.saturating_add(i32::from(is_new && !is_first))),
            ..before
        }
    }
}

/// When the last hold expires, by the wall clock of its holder.
fn expiry(spec: &LeaseSpec) -> Option<SystemTime> {
    let renewed = SystemTime::from(spec.renew_time.as_ref()?.0);
    renewed.checked_add(super::duration(spec))
}

/// `time` in whole microseconds, as a Lease stores it; the last representable time if it lies beyond that.
fn timestamp(time: SystemTime) -> Timestamp {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

fn is_conflict(error: &kube::Error) -> bool {
    has_code(error, &[409])
}

fn has_code(error: &kube::Error, codes: &[u16]) -> bool {
    matches!(error, kube::Error::Api(status) if codes.contains(&status.code))
}
