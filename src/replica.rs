//! The tasks of a replica of the API server beside serving: to hold a number and, where certificates are self-managed,
//! to keep those and the APIService up to date.
//!
//! Leases are released last, when nothing is served any more that needs them.

use std::sync::Arc;

use gatehouse_apiserver::clock::{Clock, Grant};
use gatehouse_apiservice::registration;
use gatehouse_installation::{
    certificates::{SelfManaged, Settings},
    lease::Election,
    number::{ClaimState, ReplicaNumbers},
    registration::Registration,
};
use gatehouse_serving::{health::HealthCheck, metrics::RequestMetrics, tasks::Tasks};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::flags::{Replicas, Service};

/// Tasks that run beside the server, and their readiness checks.
pub(crate) struct ReplicaTasks {
    client: kube::Client,
    namespace: String,
    identity: String,
    /// The readiness checks of these tasks.
    pub(crate) checks: Vec<HealthCheck>,
    /// They end when nothing is served any more,
    pub(crate) background: Tasks,
    /// and these after them.
    pub(crate) leases: Tasks,
}

impl ReplicaTasks {
    /// Starts without tasks. The client must not retry.
    pub(crate) fn new(client: kube::Client, replicas: &Replicas) -> Self {
        Self {
            client,
            namespace: replicas.namespace(),
            identity: replicas.identity(),
            checks: Vec::new(),
            background: Tasks::default(),
            leases: Tasks::default(),
        }
    }

    /// Grants `clock` a replica number for as long as its Lease is held.
    pub(crate) fn number(&mut self, clock: Arc<Clock>) {
        let leases = (0..registration::REPLICAS).map(registration::replica_lease);
        let (numbers, claim_state) =
            ReplicaNumbers::new(&self.client, &self.namespace, &self.identity, leases);
        let state = claim_state.clone();
        self.checks.push(HealthCheck::readiness("replica-number", move || state.borrow().readiness()));
        self.background.spawn("replica number grants", grant(claim_state, clock, self.background.stop()));
        self.leases.spawn("replica number Lease", numbers.run(self.leases.stop()));
    }

    /// Manages certificates and the APIService while this replica holds `lease`. Serves with `keys` until the managed
    /// certificates are known.
    pub(crate) fn certificates(
        &mut self,
        lease: &str,
        (settings, service): (Settings, Service),
        keys: &watch::Receiver<Arc<CertifiedKey>>,
        metrics: &RequestMetrics,
    ) -> watch::Receiver<Arc<CertifiedKey>> {
        let (election, leadership) =
            Election::new(self.client.clone(), &self.namespace, lease, &self.identity);
        let Service { namespace, name, port } = service;
        let registered = Registration::new(
            self.client.clone(),
            registration::NAME,
            Box::new(move |bundle| vec![registration::api_service_at(&namespace, &name, port, bundle)]),
        );
        let first = Arc::clone(&keys.borrow());
        let client = self.client.clone();
        let (certificates, served) =
            SelfManaged::new(client, settings, registered, leadership, metrics.registry(), first);
        let keys = served.keys.clone();
        self.checks.push(HealthCheck::readiness("serving-certificate-secret", move || served.readiness()));
        self.background.spawn("certificate rotation", certificates.run(self.background.stop()));
        self.leases.spawn("leader election", election.run(self.leases.stop()));
        keys
    }
}

/// Each renewal is a longer grant of the same number.
async fn grant(mut claim_state: watch::Receiver<ClaimState>, clock: Arc<Clock>, stop: CancellationToken) {
    let grants = async {
        loop {
            if let ClaimState::Claimed(claim) = *claim_state.borrow_and_update() {
                clock.grant(Grant { number: claim.number, after: claim.after, until: Some(claim.until) });
            }
            if claim_state.changed().await.is_err() {
                // Whoever holds the number has ended, which is noticed elsewhere.
                return std::future::pending().await;
            }
        }
    };
    stop.run_until_cancelled(grants).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_lease_for_each_number() {
        assert_eq!(registration::REPLICAS, gatehouse_apiserver::clock::REPLICAS);
    }
}
