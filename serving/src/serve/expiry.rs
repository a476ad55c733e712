//! Readiness and log lines about the expiry of the serving certificate, by the wall clock, as clients judge it.

use std::time::{Duration, SystemTime};

use gatehouse_certs::expiry::{Unreadable, Validity};
use jiff::Timestamp;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::tls::Certificates;
use crate::health::HealthCheck;

/// How often the same warning is logged.
const REPEAT: Duration = Duration::from_hours(24);
/// How often the certificate is checked. That is often enough: when it nears its end, its renewal has failed for days.
const LOOK: Duration = Duration::from_mins(1);
/// A warning is logged this long before the certificate expires, or when a tenth of its lifetime is left, whichever is
/// shorter.
const NEAR: Duration = Duration::from_hours(7 * 24);
const NEAR_PART: u32 = 10;

impl Certificates {
    /// A check that fails on `/readyz` while the serving certificate is not valid: clients would reject this replica,
    /// and may accept another. It does not affect liveness, since a restart does not help.
    pub fn readiness_check(&self) -> HealthCheck {
        let certificates = self.clone();
        HealthCheck::readiness("serving-certificate", move || {
            judge(certificates.serving(), SystemTime::now())
        })
    }
}

fn judge(serving: Result<Validity, Unreadable>, now: SystemTime) -> Result<(), String> {
    match serving {
        Err(unreadable) => Err(format!("the serving certificate is invalid: {unreadable}")),
        Ok(validity) if validity.contains(now) => Ok(()),
        Ok(validity) => Err(format!(
            "the serving certificate is valid from {} until {}",
            from(&validity),
            until(&validity)
        )),
    }
}

fn from(validity: &Validity) -> String {
    timestamp(validity.not_before)
}

fn until(validity: &Validity) -> String {
    timestamp(validity.not_after)
}

fn timestamp(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "ever".to_owned(), |time| time.to_string())
}

/// Logs that the serving certificate expires soon, has expired or is not valid yet.
pub(super) struct Reminder {
    certificates: Certificates,
    ticks: Interval,
    said: Option<(Validity, Urgency, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Urgency {
    Soon,
    Now,
}

impl Reminder {
    pub(super) fn new(certificates: Certificates) -> Self {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { certificates, ticks, said: None }
    }

    pub(super) async fn is_due(&mut self) {
        self.ticks.tick().await;
    }

    pub(super) fn remind(&mut self) {
        // A certificate that cannot be parsed fails the readiness check, which logs it.
        let Ok(validity) = self.certificates.serving() else { return };
        let not_after = until(&validity);
        match self.has_to_say(validity, SystemTime::now()) {
            None => {}
            Some(Urgency::Soon) => tracing::warn!(not_after, "serving certificate expires soon"),
            Some(Urgency::Now) => {
                let not_before = from(&validity);
                tracing::error!(not_before, not_after, "serving certificate has expired or is not valid yet");
            }
        }
    }

    /// The urgency to log now; `None` if there is none, or the same was logged within [`REPEAT`].
    fn has_to_say(&mut self, validity: Validity, now: SystemTime) -> Option<Urgency> {
        let Some(urgency) = urgency(&validity, now) else {
            self.said = None;
            return None;
        };
        let is_said = self.said.is_some_and(|(about, before, at)| {
            (about, before) == (validity, urgency) && at.elapsed() < REPEAT
        });
        if is_said {
            return None;
        }
        self.said = Some((validity, urgency, Instant::now()));
        Some(urgency)
    }
}

fn urgency(validity: &Validity, now: SystemTime) -> Option<Urgency> {
    if !validity.contains(now) {
        return Some(Urgency::Now);
    }
    (validity.left(now) < NEAR.min(validity.left(validity.not_before) / NEAR_PART)).then_some(Urgency::Soon)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gatehouse_certs::issue::{Authority, Usage};
    use gatehouse_certs::load;
    use tokio::sync::watch;

    use super::*;
    use crate::authn::AuthenticationConfig;
    use crate::authn::testing::issue;

    const DAY: Duration = Duration::from_hours(24);

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
    }

    fn lasting(days: u32) -> Validity {
        Validity { not_before: start(), not_after: start() + DAY * days }
    }

    #[test]
    fn a_replica_is_ready_while_its_certificate_is_valid_and_says_its_dates_when_not() {
        let validity = lasting(1);
        assert_eq!(judge(Ok(validity), start()), Ok(()));
        assert_eq!(judge(Ok(validity), start() + DAY), Ok(()));
        let expected =
            "the serving certificate is valid from 2027-01-15T08:00:00Z until 2027-01-16T08:00:00Z";
        for time in [start() - DAY, start() + 2 * DAY] {
            assert_eq!(judge(Ok(validity), time), Err(expected.to_owned()));
        }
    }

    #[test]
    fn an_end_is_near_for_a_week_or_for_a_tenth_of_a_short_life() {
        for (days, now, expected) in [
            (365, 357, None),
            (365, 359, Some(Urgency::Soon)),
            (20, 17, None),
            (20, 19, Some(Urgency::Soon)),
            (20, 21, Some(Urgency::Now)),
        ] {
            assert_eq!(urgency(&lasting(days), start() + DAY * now), expected, "{days}, {now}");
        }
        assert_eq!(urgency(&lasting(20), start() - DAY), Some(Urgency::Now), "not valid yet");
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_is_told_once_a_day_and_of_each_step() {
        let key = issue(&Authority::new("ca").expect("authority"), "a", None, Usage::ServerAuth);
        let (_, keys) = watch::channel(load::issued(&key).expect("loads"));
        let (_, authentication) = watch::channel(Arc::new(AuthenticationConfig::default()));
        let mut reminder = Reminder::new(Certificates::new(keys, authentication));
        let mut says = |days, now| reminder.has_to_say(lasting(days), start() + DAY * now);
        assert_eq!(says(30, 20), None);
        assert_eq!(says(30, 29), Some(Urgency::Soon));
        assert_eq!(says(30, 29), None);
        tokio::time::advance(REPEAT).await;
        assert_eq!(says(30, 29), Some(Urgency::Soon));
        assert_eq!(says(30, 31), Some(Urgency::Now));
        assert_eq!(says(60, 31), None, "renewed");
        assert_eq!(says(60, 59), Some(Urgency::Soon));
    }
}
