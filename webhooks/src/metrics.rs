//! The metrics of admission. Those of HTTP requests are in the serving crate.
//!
//! **Invariant:** labels contain names of policies, rules and quotas, never of users or objects, and the series of a
//! policy or quota are removed with it. So the number of series is bounded by the existing policies and quotas.

use std::time::Duration;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// In seconds. A review takes some hundred microseconds without I/O, milliseconds with I/O, and seconds under
/// contention.
const DURATION_BUCKETS: [f64; 14] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// The number of requests in one write of a ledger.
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Whether a request is only tried out. Flux tries out everything before it applies anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DryRun(pub bool);

impl DryRun {
    /// As in `apiserver_request_total`.
    fn as_str(self) -> &'static str {
        if self.0 { "All" } else { "" }
    }
}

/// The metrics of the webhooks.
pub struct Metrics {
    reviews: IntCounterVec,
    durations: HistogramVec,
    policy_decisions: IntCounterVec,
    quota_decisions: IntCounterVec,
    ledger_writes: IntCounterVec,
    ledger_batch: Histogram,
    violations: IntGaugeVec,
    lease_held: IntGauge,
    events: IntCounterVec,
}

impl Metrics {
    /// Registers all metrics with `registry`.
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self {
            reviews: counters(
                "gatehouse_admission_reviews_total",
                "Reviews answered, by webhook, operation, dry run and outcome.",
                &["webhook", "operation", "dry_run", "outcome"],
            ),
            durations: known(HistogramVec::new(
                HistogramOpts::new("gatehouse_admission_duration_seconds", "Duration of admission reviews.")
                    .buckets(DURATION_BUCKETS.to_vec()),
                &["webhook"],
            )),
            policy_decisions: counters(
                "gatehouse_policy_decisions_total",
                "Rules violated at admission, by decision.",
                &["policy", "rule", "dry_run", "outcome"],
            ),
            quota_decisions: counters(
                "gatehouse_quota_decisions_total",
                "Requests judged by a quota, by outcome.",
                &["quota", "dry_run", "outcome"],
            ),
            ledger_writes: counters(
                "gatehouse_ledger_writes_total",
                "Writes of quota ledgers, by outcome.",
                &["outcome"],
            ),
            ledger_batch: known(Histogram::with_opts(
                HistogramOpts::new(
                    "gatehouse_ledger_batch_size",
                    "Number of requests covered by one write of a ledger.",
                )
                .buckets(BATCH_BUCKETS.to_vec()),
            )),
            violations: known(IntGaugeVec::new(
                Opts::new("gatehouse_policy_violations", "Existing objects that violate a rule."),
                &["policy", "rule"],
            )),
            lease_held: known(IntGauge::new(
                "gatehouse_lease_held",
                "1 on the replica that holds the Lease, settles ledgers and runs the controllers.",
            )),
            events: counters("gatehouse_events_total", "Events about decisions, by result.", &["outcome"]),
        };
        let collectors: [Box<dyn Collector>; 9] = [
            Box::new(metrics.reviews.clone()),
            Box::new(metrics.durations.clone()),
            Box::new(metrics.policy_decisions.clone()),
            Box::new(metrics.quota_decisions.clone()),
            Box::new(metrics.ledger_writes.clone()),
            Box::new(metrics.ledger_batch.clone()),
            Box::new(metrics.violations.clone()),
            Box::new(metrics.lease_held.clone()),
            Box::new(metrics.events.clone()),
        ];
        for collector in collectors {
            known(registry.register(collector));
        }
        metrics
    }

    /// Counts a review. `operation` is empty if the review could not be read.
    pub fn count_review(
        &self,
        webhook: &str,
        operation: &str,
        dry_run: DryRun,
        outcome: &str,
        duration: Duration,
    ) {
        self.reviews.with_label_values(&[webhook, operation, dry_run.as_str(), outcome]).inc();
        self.durations.with_label_values(&[webhook]).observe(duration.as_secs_f64());
    }

    /// Counts a violation of a rule; the outcome is `denied`, `warned` or `audited`.
    pub fn count_policy_decision(&self, policy: &str, rule: &str, dry_run: DryRun, outcome: &str) {
        self.policy_decisions.with_label_values(&[policy, rule, dry_run.as_str(), outcome]).inc();
    }

    /// Counts the decision of a quota about a request.
    pub fn count_quota_decision(&self, quota: &str, dry_run: DryRun, outcome: &str) {
        self.quota_decisions.with_label_values(&[quota, dry_run.as_str(), outcome]).inc();
    }

    /// Counts a write of a ledger; the outcome is `written`, `conflict` or `failed`.
    pub fn count_ledger_write(&self, outcome: &str) {
        self.ledger_writes.with_label_values(&[outcome]).inc();
    }

    /// Records how many requests one write of a ledger covered.
    pub fn observe_ledger_batch(&self, proposals: usize) {
        #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53 proposals")]
        self.ledger_batch.observe(proposals as f64);
    }

    /// Sets the number of existing objects that violate a rule.
    pub fn set_violations(&self, policy: &str, rule: &str, objects: usize) {
        let objects = i64::try_from(objects).unwrap_or(i64::MAX);
        self.violations.with_label_values(&[policy, rule]).set(objects);
    }

    /// Sets whether this replica holds the Lease.
    pub fn set_lease_held(&self, held: bool) {
        self.lease_held.set(held.into());
    }

    /// The counters of Events by outcome.
    pub fn events(&self) -> IntCounterVec {
        self.events.clone()
    }

    /// Removes the series of a deleted policy.
    pub fn forget_policy(&self, policy: &str) {
        forget(&self.policy_decisions, &["policy", "rule", "dry_run", "outcome"], policy);
        forget(&self.violations, &["policy", "rule"], policy);
    }

    /// Removes the violations of all rules of a policy except these.
    pub fn forget_violations(&self, policy: &str, except: &[&str]) {
        for labels in label_sets(&self.violations, &["policy", "rule"]) {
            if labels[0] == policy && !except.contains(&&*labels[1]) {
                // The series may have been removed in the meantime.
                let _ = self.violations.remove_label_values(&labels);
            }
        }
    }

    /// Removes the series of a deleted quota.
    pub fn forget_quota(&self, quota: &str) {
        forget(&self.quota_decisions, &["quota", "dry_run", "outcome"], quota);
    }
}

/// Removes all series whose first label has this value.
fn forget<T: MetricVecBuilder>(metrics: &MetricVec<T>, names: &[&str], value: &str) {
    for labels in label_sets(metrics, names) {
        if labels[0] == value {
            // The series may have been removed in the meantime.
            let _ = metrics.remove_label_values(&labels);
        }
    }
}

/// The values of these labels, for each series.
fn label_sets<T: MetricVecBuilder>(metrics: &MetricVec<T>, names: &[&str]) -> Vec<Vec<String>> {
    let families = metrics.collect();
    let series = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
    let value = |metric: &prometheus::proto::Metric, name: &str| {
        let label = metric.get_label().iter().find(|label| label.name() == name);
        label.map(|label| label.value().to_owned()).unwrap_or_default()
    };
    series.map(|metric| names.iter().map(|name| value(metric, name)).collect()).collect()
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    known(IntCounterVec::new(Opts::new(name, help), labels))
}

fn known<T>(result: prometheus::Result<T>) -> T {
    result.expect("names and labels are constants, valid and distinct; the tests create every metric")
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, TextEncoder};

    use super::*;

    fn text(registry: &Registry) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).expect("rendered");
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn every_metric_is_rendered_and_a_policy_s_go_with_it() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry);
        metrics.count_review("validate", "CREATE", DryRun(true), "denied", Duration::from_millis(1));
        metrics.count_ledger_write("written");
        metrics.observe_ledger_batch(3);
        metrics.set_lease_held(true);
        metrics.events().with_label_values(&["sent"]).inc();
        for policy in ["strict", "lax"] {
            metrics.count_policy_decision(policy, "interval", DryRun(false), "denied");
            metrics.set_violations(policy, "interval", 2);
            metrics.set_violations(policy, "prune", 1);
            metrics.count_quota_decision(policy, DryRun(true), "exceeded");
        }
        let full = text(&registry);
        for expected in [
            r#"gatehouse_admission_reviews_total{dry_run="All",operation="CREATE",outcome="denied",webhook="validate"} 1"#,
            r#"gatehouse_admission_duration_seconds_count{webhook="validate"} 1"#,
            r#"gatehouse_policy_decisions_total{dry_run="",outcome="denied",policy="strict",rule="interval"} 1"#,
            r#"gatehouse_quota_decisions_total{dry_run="All",outcome="exceeded",quota="strict"} 1"#,
            r#"gatehouse_ledger_writes_total{outcome="written"} 1"#,
            "gatehouse_ledger_batch_size_sum 3",
            r#"gatehouse_policy_violations{policy="strict",rule="interval"} 2"#,
            "gatehouse_lease_held 1",
            r#"gatehouse_events_total{outcome="sent"} 1"#,
        ] {
            assert!(full.contains(expected), "{expected} is missing in\n{full}");
        }
        metrics.forget_violations("lax", &["prune"]);
        metrics.forget_policy("strict");
        metrics.forget_quota("strict");
        let rest = text(&registry);
        assert!(!rest.contains("strict"), "{rest}");
        assert!(rest.contains(r#"gatehouse_policy_violations{policy="lax",rule="prune"} 1"#), "{rest}");
        assert!(!rest.contains(r#"gatehouse_policy_violations{policy="lax",rule="interval"}"#), "{rest}");
    }
}
