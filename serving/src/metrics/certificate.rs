//! The time until certificates expire, computed for each scrape, since a stored value would not decrease.

use std::time::{Duration, SystemTime};

use gatehouse_certs::expiry::Validity;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};

use super::{RequestMetrics, expect_valid};

/// The validities of the certificates in each file or bundle, with its name in metrics.
pub type Validities = Vec<(&'static str, Vec<Validity>)>;

struct CertificateCollector {
    validities: Box<dyn Fn() -> Validities + Send + Sync>,
    ttl: GaugeVec,
}

impl RequestMetrics {
    /// Adds the metric of certificates' expiry, from the validities that `validities` returns at each scrape. Call it
    /// once; it panics otherwise.
    pub fn register_certificate_expiry(&self, validities: impl Fn() -> Validities + Send + Sync + 'static) {
        let opts = Opts::new(
            "gatehouse_certificate_ttl_seconds",
            "Seconds until a certificate in use ends, negative when it has: the serving certificate, and of each \
             bundle of authorities the one that ends next.",
        );
        let ttl = expect_valid(GaugeVec::new(opts, &["certificate"]));
        expect_valid(
            self.registry.register(Box::new(CertificateCollector { validities: Box::new(validities), ttl })),
        );
    }
}

impl Collector for CertificateCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.ttl.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = SystemTime::now();
        for (certificate, validities) in (self.validities)() {
            match next_expiry(&validities, now) {
                Some(end) => self.ttl.with_label_values(&[certificate]).set(seconds_until(end, now)),
                // The bundle is not configured, or is no longer.
                None => drop(self.ttl.remove_label_values(&[certificate])),
            }
        }
        self.ttl.collect()
    }
}

/// When the next certificate expires. Expired ones are skipped, since an old authority that a rotation left in the
/// bundle is no reason for an alert; if all have expired, when the last one did.
fn next_expiry(validities: &[Validity], now: SystemTime) -> Option<SystemTime> {
    let ends = || validities.iter().map(|validity| validity.not_after);
    ends().filter(|end| *end >= now).min().or_else(|| ends().max())
}

fn seconds_until(end: SystemTime, now: SystemTime) -> f64 {
    match end.duration_since(now) {
        Ok(left) => left.as_secs_f64(),
        Err(_) => -now.duration_since(end).unwrap_or(Duration::ZERO).as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gatehouse_certs::issue::{Authority, Usage};
    use gatehouse_certs::load;
    use tokio::sync::watch;

    use super::*;
    use crate::authn::AuthenticationConfig;
    use crate::authn::testing::{Authorities, LIFETIME, issue};
    use crate::serve::Certificates;

    fn value(text: &str, certificate: &str) -> Option<f64> {
        let name = format!("gatehouse_certificate_ttl_seconds{{certificate=\"{certificate}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
    }

    #[test]
    fn what_is_told_follows_the_certificates_in_use() {
        let key = issue(&Authority::new("ca").expect("authority"), "a", None, Usage::ServerAuth);
        let (_, keys) = watch::channel(load::issued(&key).expect("loads"));
        let (publish, authentication) = watch::channel(Arc::new(AuthenticationConfig::default()));
        let metrics = RequestMetrics::new(&[]);
        let certificates = Certificates::new(keys, authentication);
        metrics.register_certificate_expiry(move || certificates.validities());
        let text = || String::from_utf8(metrics.render()).expect("text");

        let serving = value(&text(), "serving").expect("told");
        assert!(serving > 0.0 && serving <= LIFETIME.as_secs_f64(), "{serving}");
        assert_eq!(value(&text(), "client-ca"), None);
        publish.send_replace(Authorities::new().config());
        for certificate in ["client-ca", "requestheader-ca"] {
            assert!(value(&text(), certificate).expect("told") > serving, "{certificate}");
        }
        publish.send_replace(Arc::default());
        assert_eq!(value(&text(), "client-ca"), None);
    }

    #[test]
    fn the_next_end_counts_and_when_all_is_over_the_last() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let hour = Duration::from_hours(1);
        let ending = |end| Validity { not_before: SystemTime::UNIX_EPOCH, not_after: end };
        let (over, long_over) = (ending(now - hour), ending(now - 2 * hour));
        let (soon, later) = (ending(now + hour), ending(now + 2 * hour));
        let seconds =
            |validities: &[Validity]| next_expiry(validities, now).map(|end| seconds_until(end, now));
        assert_eq!(seconds(&[over, later, soon]), Some(3600.0));
        assert_eq!(seconds(&[long_over, over]), Some(-3600.0));
        assert_eq!(seconds(&[]), None);
    }
}
