//! Metrics of registration and certificate rotation, reported by the leader.

use gatehouse_certs::rotation::Step;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

const STEPS: [Step; 5] = [Step::Create, Step::PublishNext, Step::Switch, Step::DropPrevious, Step::RenewLeaf];

pub(crate) struct Metrics {
    in_sync: IntGaugeVec,
    rotations: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics with `registry`.
    pub(crate) fn new(registry: &Registry) -> Self {
        let in_sync = Opts::new(
            "gatehouse_registration_in_sync",
            "1 if the registration is up to date; reported by the replica that holds the Lease.",
        );
        let rotations = Opts::new(
            "gatehouse_certificate_rotations_total",
            "Steps of certificate rotation that this replica performed.",
        );
        let metrics = Self {
            in_sync: IntGaugeVec::new(in_sync, &["object"]).expect("a name and a label"),
            rotations: IntCounterVec::new(rotations, &["step"]).expect("a name and a label"),
        };
        registry.register(Box::new(metrics.in_sync.clone())).expect("registered once");
        registry.register(Box::new(metrics.rotations.clone())).expect("registered once");
        for step in STEPS {
            // A counter that starts at 0 lets `increase()` see the first step.
            metrics.rotations.with_label_values(&[step.as_str()]);
        }
        metrics
    }

    pub(crate) fn set_in_sync(&self, object: &str, is_in_sync: bool) {
        self.in_sync.with_label_values(&[object]).set(is_in_sync.into());
    }

    /// Removes the registration metrics of a replica that does not lead, since the leader reports them.
    pub(crate) fn clear_in_sync(&self) {
        self.in_sync.reset();
    }

    pub(crate) fn count_rotation(&self, step: Step) {
        self.rotations.with_label_values(&[step.as_str()]).inc();
    }
}
