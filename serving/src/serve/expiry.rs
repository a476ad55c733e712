//! Readiness and log lines about the expiry of the serving certificate, by the wall clock, as clients judge it.

use std::time::{Duration, SystemTime};

use gatehouse_certs::expiry::{InvalidCertificate, Validity};
use gatehouse_certs::issue::CLOCK_SKEW;
use jiff::Timestamp;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::tls::Certificates;
use crate::health::HealthCheck;

/// How often the same warning is logged.
const WARNING_INTERVAL: Duration = Duration::from_hours(24);
/// How often the certificate is checked. That is often enough: when it nears its end, its renewal has failed for days.
const CHECK_INTERVAL: Duration = Duration::from_mins(1);
/// A warning is logged this long before the certificate expires, or when a tenth of its lifetime is left, whichever is
/// shorter.
const WARN_BEFORE: Duration = Duration::from_hours(7 * 24);
const WARN_LIFETIME_PART: u32 = 10;

/// A replica stops being ready this long before its certificate expires, or when a 24th of its lifetime is left,
/// whichever is shorter: long enough for clients to move to other replicas. A certificate that can be renewed has been
/// renewed long before. The lifetime does not include [`CLOCK_SKEW`], by which certificates are backdated: of one that
/// lasts seconds, the 24th would otherwise be longer than the time that is left when it is issued.
const LEAVE_BEFORE: Duration = Duration::from_mins(1);
const LEAVE_LIFETIME_PART: u32 = 24;

impl Certificates {
    /// A check that fails on `/readyz` while the serving certificate is not valid, or is about to expire: clients would
    /// reject this replica, and may accept another. It does not affect liveness, since a restart does not help.
    pub fn readiness_check(&self) -> HealthCheck {
        let certificates = self.clone();
        HealthCheck::readiness("serving-certificate", move || {
            check_validity(certificates.serving(), SystemTime::now())
        })
    }
}

fn check_validity(serving: Result<Validity, InvalidCertificate>, now: SystemTime) -> Result<(), String> {
    match serving {
        Err(error) => Err(format!("the serving certificate is invalid: {error}")),
        Ok(validity) if validity.contains(now) => {
            let lifetime = validity.remaining(validity.not_before).saturating_sub(CLOCK_SKEW);
            if validity.remaining(now) >= LEAVE_BEFORE.min(lifetime / LEAVE_LIFETIME_PART) {
                return Ok(());
            }
            Err(format!("the serving certificate expires at {} and was not renewed", until(&validity)))
        }
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
pub(super) struct ExpiryWarner {
    certificates: Certificates,
    ticks: Interval,
    last_warning: Option<(Validity, ExpiryWarning, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpiryWarning {
    ExpiresSoon,
    NotValid,
}

impl ExpiryWarner {
    pub(super) fn new(certificates: Certificates) -> Self {
        let mut ticks = tokio::time::interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { certificates, ticks, last_warning: None }
    }

    pub(super) async fn next_check(&mut self) {
        self.ticks.tick().await;
    }

    pub(super) fn warn(&mut self) {
        // A certificate that cannot be parsed fails the readiness check, which logs it.
        let Ok(validity) = self.certificates.serving() else { return };
        let not_after = until(&validity);
        match self.next_warning(validity, SystemTime::now()) {
            None => {}
            Some(ExpiryWarning::ExpiresSoon) => tracing::warn!(not_after, "serving certificate expires soon"),
            Some(ExpiryWarning::NotValid) => {
                let not_before = from(&validity);
                tracing::error!(not_before, not_after, "serving certificate has expired or is not valid yet");
            }
        }
    }

    /// The warning to log now; `None` if there is none, or the same was logged within [`WARNING_INTERVAL`].
    fn next_warning(&mut self, validity: Validity, now: SystemTime) -> Option<ExpiryWarning> {
        let Some(warning) = warning(&validity, now) else {
            self.last_warning = None;
            return None;
        };
        let is_repeated = self.last_warning.is_some_and(|(about, before, at)| {
            (about, before) == (validity, warning) && at.elapsed() < WARNING_INTERVAL
        });
        if is_repeated {
            return None;
        }
        self.last_warning = Some((validity, warning, Instant::now()));
        Some(warning)
    }
}

fn warning(validity: &Validity, now: SystemTime) -> Option<ExpiryWarning> {
    if !validity.contains(now) {
        return Some(ExpiryWarning::NotValid);
    }
    (validity.remaining(now) < WARN_BEFORE.min(validity.remaining(validity.not_before) / WARN_LIFETIME_PART))
        .then_some(ExpiryWarning::ExpiresSoon)
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
        assert_eq!(check_validity(Ok(validity), start()), Ok(()));
        let expected =
            "the serving certificate is valid from 2027-01-15T08:00:00Z until 2027-01-16T08:00:00Z";
        for time in [start() - DAY, start() + 2 * DAY] {
            assert_eq!(check_validity(Ok(validity), time), Err(expected.to_owned()));
        }
    }

    #[test]
    fn a_replica_leaves_a_minute_or_a_24th_of_a_short_life_before_its_certificate_expires() {
        let second = Duration::from_secs(1);
        let short = Validity { not_before: start() - CLOCK_SKEW, not_after: start() + 12 * second };
        for (validity, before) in
            [(lasting(1), 60 * second), (lasting(365), 60 * second), (short, second / 2)]
        {
            let last = validity.not_after - before;
            assert_eq!(check_validity(Ok(validity), last), Ok(()));
            let printed = check_validity(Ok(validity), last + second / 4);
            assert!(printed.is_err_and(|printed| printed.ends_with("and was not renewed")), "{validity:?}");
        }
    }

    #[test]
    fn an_end_is_near_for_a_week_or_for_a_tenth_of_a_short_life() {
        for (days, now, expected) in [
            (365, 357, None),
            (365, 359, Some(ExpiryWarning::ExpiresSoon)),
            (20, 17, None),
            (20, 19, Some(ExpiryWarning::ExpiresSoon)),
            (20, 21, Some(ExpiryWarning::NotValid)),
        ] {
            assert_eq!(warning(&lasting(days), start() + DAY * now), expected, "{days}, {now}");
        }
        assert_eq!(warning(&lasting(20), start() - DAY), Some(ExpiryWarning::NotValid), "not valid yet");
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_is_told_once_a_day_and_of_each_step() {
        let key = issue(&Authority::new("ca").expect("authority"), "a", None, Usage::ServerAuth);
        let (_, keys) = watch::channel(load::issued(&key).expect("loads"));
        let (_, authentication) = watch::channel(Arc::new(AuthenticationConfig::default()));
        let mut warner = ExpiryWarner::new(Certificates::new(keys, authentication));
        let mut says = |days, now| warner.next_warning(lasting(days), start() + DAY * now);
        assert_eq!(says(30, 20), None);
        assert_eq!(says(30, 29), Some(ExpiryWarning::ExpiresSoon));
        assert_eq!(says(30, 29), None);
        tokio::time::advance(WARNING_INTERVAL).await;
        assert_eq!(says(30, 29), Some(ExpiryWarning::ExpiresSoon));
        assert_eq!(says(30, 31), Some(ExpiryWarning::NotValid));
        assert_eq!(says(60, 31), None, "renewed");
        assert_eq!(says(60, 59), Some(ExpiryWarning::ExpiresSoon));
    }
}
