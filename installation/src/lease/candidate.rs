//! One Lease, as one who would hold it sees it: a look, a write, and giving it back.

use std::time::{Duration, SystemTime};

use gatehouse_apiservice::client::explain;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, api::PostParams};
use tokio::time::{Instant, timeout};

use super::{Decision, LEASE_DURATION, evaluate};
use crate::blank;
use crate::error::{KeepError, limited};

/// What times in a Lease are written to.
const MICROSECOND: Duration = Duration::from_micros(1);
/// For giving the Lease back at the end; without, the next holder waits for it to run out.
const RELEASE: Duration = Duration::from_secs(2);

/// One who would hold a Lease.
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// The time of day; another in tests.
    pub(crate) time: fn() -> SystemTime,
    /// The Lease as it was last seen, and since when it has been so.
    seen: Option<(Lease, Instant)>,
}

/// A Lease that is held from now on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// When the write began.
    pub(crate) began: Instant,
    /// Until when it is held, by what it says itself.
    pub(crate) until: SystemTime,
    /// Until when it was held before, by whomever, by what it said itself.
    pub(crate) before: Option<SystemTime>,
}

/// Why an attempt came to nothing.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Somebody else holds the Lease.
    Held,
    /// Somebody else wrote at the same time.
    Conflict,
    /// The API server refused, or could not be reached.
    Failed(String),
}

/// What becomes of a Lease that is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trace {
    /// It says that it is over, as client-go leaves it, so that others' eyes see that too.
    Over,
    /// It goes on to say until when it was held.
    Kept,
}

impl From<KeepError> for Refusal {
    fn from(error: KeepError) -> Self {
        match &error {
            KeepError::Request { source, .. } if is_conflict(source) => Self::Conflict,
            _ => Self::Failed(explain(&error)),
        }
    }
}

impl Candidate {
    /// For the Lease `name`.
    pub(crate) fn new(api: Api<Lease>, name: &str, identity: &str) -> Self {
        let (name, identity) = (name.to_owned(), identity.to_owned());
        Self { api, name, identity, time: SystemTime::now, seen: None }
    }

    /// What the Lease is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Who holds it then.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// Looks at the Lease and takes or renews it, if that is in order. One that is not ours is taken only if `may_take`
    /// agrees to when it was held last, by what it says itself.
    pub(crate) async fn attempt(
        &mut self,
        may_take: impl Fn(Option<SystemTime>) -> bool,
    ) -> Result<Held, Refusal> {
        let what = format!("Lease/{}", self.name);
        let lease = limited(&what, self.api.get_opt(&self.name)).await?;
        let now = Instant::now();
        self.observe(lease, now);
        let (lease, since) = match &self.seen {
            Some((lease, since)) => (Some(lease), *since),
            None => (None, now),
        };
        let spec = lease.map(|lease| lease.spec.clone().unwrap_or_default());
        let decision = evaluate(spec.as_ref(), &self.identity, since, now);
        let mut lease = match (decision, lease) {
            (Decision::Wait(_), _) => return Err(Refusal::Held),
            (Decision::Renew | Decision::Take, Some(lease)) => lease.clone(),
            // It is nobody's then, and taken as any other; unless somebody was quicker with both.
            (_, _) => limited(&what, blank::make(&self.api, &self.name)).await?,
        };
        let is_new = decision != Decision::Renew;
        let spec = lease.spec.take().unwrap_or_default();
        if decision == Decision::Create
            && spec.holder_identity.as_ref().is_some_and(|holder| !holder.is_empty())
        {
            return Err(Refusal::Conflict);
        }
        let before = held_until(&spec);
        if is_new && !may_take(before) {
            return Err(Refusal::Held);
        }
        let spec = self.renewed(spec, timestamp((self.time)()), is_new);
        let until = held_until(&spec).unwrap_or(SystemTime::UNIX_EPOCH);
        lease.spec = Some(spec);
        // With its resourceVersion: of two that take it, one does.
        let written = limited(&what, self.api.replace(&self.name, &PostParams::default(), &lease)).await?;
        self.observe(Some(written), now);
        Ok(Held { began: now, until, before })
    }

    /// Gives the Lease back, if it is ours as far as we know. Whether that works makes a difference of seconds to others,
    /// and none to us.
    pub(crate) async fn release(&mut self, trace: Trace) {
        let Some((lease, _)) = self.seen.take() else { return };
        if let Ok(Err(error)) = timeout(RELEASE, self.give_back(lease, trace)).await {
            tracing::debug!(error = %explain(&error), lease = %self.name, "cannot release the Lease");
        }
    }

    /// Looks again where somebody wrote meanwhile: a renewal that was not waited for to its end may have come to be, and
    /// would hold the Lease for nobody.
    async fn give_back(&self, mut lease: Lease, trace: Trace) -> kube::Result<()> {
        loop {
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            spec.holder_identity = Some(String::new());
            if trace == Trace::Over {
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

    /// Whatever the clock says: a Lease that said once until when it is held does not say less later. Somebody may have
    /// relied on it, this holder above all. It still changes, for those who judge it by that.
    fn renewed(&self, before: LeaseSpec, now: Timestamp, is_new: bool) -> LeaseSpec {
        let transitions = before.lease_transitions.unwrap_or(0);
        let is_first = before.renew_time.is_none();
        let next = before.renew_time.as_ref().and_then(|last| last.0.checked_add(MICROSECOND).ok());
        let renewed = next.map_or(now, |next| next.max(now));
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: if is_new { Some(MicroTime(now)) } else { before.acquire_time },
            renew_time: Some(MicroTime(renewed)),
            lease_transitions: Some(transitions.saturating_add(i32::from(is_new && !is_first))),
            ..before
        }
    }
}

/// Until when whoever held it last may have thought so, by the clock that it was written with.
fn held_until(spec: &LeaseSpec) -> Option<SystemTime> {
    let renewed = SystemTime::from(spec.renew_time.as_ref()?.0);
    renewed.checked_add(super::duration(spec))
}

/// As it is written down, which is to the microsecond. A clock beyond the calendar is as good as one at its end.
fn timestamp(time: SystemTime) -> Timestamp {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}
