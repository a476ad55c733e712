//! What is told about keeping things right, by the replica that does.

use gatehouse_certs::rotation::Step;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

const STEPS: [Step; 5] = [Step::Create, Step::PublishNext, Step::Switch, Step::DropPrevious, Step::RenewLeaf];

pub(crate) struct Metrics {
    in_sync: IntGaugeVec,
    rotations: IntCounterVec,
}

impl Metrics {
    /// Adds to what `registry` tells.
    pub(crate) fn new(registry: &Registry) -> Self {
        let in_sync = Opts::new(
            "gatehouse_registration_in_sync",
            "1 if the registration is up to date; reported by the replica that holds the Lease.",
        );
        let rotations = Opts::new(
            "gatehouse_certificate_rotations_total",
            "Steps of certificate rotation that this replica carried out.",
        );
        let metrics = Self {
            in_sync: IntGaugeVec::new(in_sync, &["object"]).expect("a name and a label"),
            rotations: IntCounterVec::new(rotations, &["step"]).expect("a name and a label"),
        };
        registry.register(Box::new(metrics.in_sync.clone())).expect("registered once");
        registry.register(Box::new(metrics.rotations.clone())).expect("registered once");
        for step in STEPS {
            // Told from the beginning, so that the first one is seen as an increase.
            metrics.rotations.with_label_values(&[step.as_str()]);
        }
        metrics
    }

    pub(crate) fn in_sync(&self, object: &str, is_in_sync: bool) {
        self.in_sync.with_label_values(&[object]).set(is_in_sync.into());
    }

    /// Whoever leads tells; this replica does not.
    pub(crate) fn forget(&self) {
        self.in_sync.reset();
    }

    pub(crate) fn made(&self, step: Step) {
        self.rotations.with_label_values(&[step.as_str()]).inc();
    }
}
