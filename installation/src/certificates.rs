//! Self-managed serving certificates: stored in a Secret, served by every replica, rotated by the leader.
//!
//! Every replica reads the Secret by name every few seconds and serves its certificate. The rotation relies on no
//! replica being further behind the Secret than [`rotation::Policy::overlap`]. Polling with a timeout bounds the delay,
//! while a watch may break unnoticed; and polling needs no right but to `get` one object.
//!
//! The leader also publishes the CA bundle in the registrations ([`Registration`]), and carries out the steps that
//! [`rotation::plan`] asks for. **Invariant:** a step counts only once it is written with the `resourceVersion` of the
//! Secret that it was computed from.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gatehouse_certs::rotation::{self, ObservationTimes, Observations, Plan, Policy, Step, Store};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, PostParams};
use prometheus::Registry;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::error::{ReconcileError, with_timeout};
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::problem_log::ProblemLog;
use crate::registration::{ReconcileResult, Registration};
use crate::{FIELD_MANAGER, empty_object};

#[cfg(test)]
mod tests;

/// Between two rounds, unless the overlap is short. A round of the leader is five requests.
const PERIOD: Duration = Duration::from_secs(30);
/// Rounds in an overlap, so that a replica keeps up even if one round fails or is late.
const ROUNDS_PER_OVERLAP: u32 = 4;
/// Between two rounds after an error, after a registration was applied, and until there is a Secret.
const SHORT_PERIOD: Duration = Duration::from_secs(1);
/// Keys by which Gatehouse recognizes its own Secret: it has one of them at least.
const OWN_KEYS: [&str; 2] = ["current-ca.crt", "changed-at"];

/// Where certificates are stored, and how they are issued.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The namespace of the Secret.
    pub namespace: String,
    /// The name of the Secret.
    pub secret: String,
    /// The names in the certificates, and their lifetimes.
    pub policy: Policy,
}

/// One replica's task: it follows the Secret, and rotates the certificates while it leads.
pub struct SelfManaged {
    secrets: Api<Secret>,
    settings: Settings,
    registration: Registration,
    leadership: Leadership,
    metrics: Metrics,
    keys: watch::Sender<Arc<CertifiedKey>>,
    is_known: watch::Sender<bool>,
    /// The last content of the Secret that could be read.
    last: Option<Store>,
    observations: Observations,
    problems: ProblemLog,
}

/// The certificate that this replica serves with.
#[derive(Debug, Clone)]
pub struct ServingCertificate {
    /// The current certificate and key; reports changes.
    pub keys: watch::Receiver<Arc<CertifiedKey>>,
    is_known: watch::Receiver<bool>,
    secret: String,
}

impl ServingCertificate {
    /// Ready once the certificate comes from the Secret. The error is the reason for `/readyz`.
    pub fn readiness(&self) -> Result<(), String> {
        if *self.is_known.borrow() {
            return Ok(());
        }
        Err(format!("the certificate of Secret/{} is not known yet", self.secret))
    }
}

impl SelfManaged {
    /// While `leadership` says so, rotates the certificates of `settings` and publishes their CA bundle in
    /// `registration`. Until the Secret has been read, the replica serves `first`, which no client trusts.
    pub fn new(
        client: Client,
        settings: Settings,
        registration: Registration,
        leadership: Leadership,
        registry: &Registry,
        first: Arc<CertifiedKey>,
    ) -> (Self, ServingCertificate) {
        let (keys, served) = watch::channel(first);
        let (is_known, known) = watch::channel(false);
        let served = ServingCertificate { keys: served, is_known: known, secret: settings.secret.clone() };
        let this = Self {
            secrets: Api::namespaced(client, &settings.namespace),
            settings,
            registration,
            leadership,
            metrics: Metrics::new(registry),
            keys,
            is_known,
            last: None,
            observations: Observations::default(),
            problems: ProblemLog::default(),
        };
        (this, served)
    }

    /// Runs until `stop` is cancelled. It removes neither the Secret nor the registrations.
    pub async fn run(mut self, stop: CancellationToken) {
        // Boxed, since the future is large: it holds certificates across its requests.
        let _ = Box::pin(stop.run_until_cancelled(self.reconcile_forever())).await;
    }

    async fn reconcile_forever(&mut self) {
        let mut leading = self.leadership.receiver();
        loop {
            let wait = self.reconcile().await.unwrap_or_else(|error| {
                self.problems.report(&error);
                SHORT_PERIOD
            });
            self.problems.end_round();
            tokio::select! {
                () = sleep(wait.min(self.period())) => {}
                changed = leading.changed() => if changed.is_err() {
                    // The election's task has ended: the process is shutting down.
                    return std::future::pending().await;
                },
            }
        }
    }

    /// Reads the Secret, serves its certificate, and does the leader's part if this replica leads. Returns how long to
    /// wait until the next round.
    async fn reconcile(&mut self) -> Result<Duration, ReconcileError> {
        let secret = with_timeout(&self.what(), self.secrets.get_opt(&self.settings.secret)).await?;
        let store = secret.as_ref().map(|secret| self.read(secret)).transpose();
        if let Ok(Some(store)) = &store {
            self.serve_from(store);
            for source in store.problems().iter().cloned() {
                self.problems
                    .report(&ReconcileError::InvalidKey { name: self.settings.secret.clone(), source });
            }
        }
        if !self.leadership.is_leading() {
            // Observations of an earlier term may be outdated.
            self.observations = Observations::default();
            self.metrics.clear_in_sync();
            let is_known = store?.is_some();
            return Ok(if is_known { self.period() } else { SHORT_PERIOD });
        }
        match (secret, store) {
            (Some(secret), Ok(Some(store))) => self.reconcile_as_leader(secret, store).await,
            (secret, store) => {
                if let Err(error) = store {
                    if matches!(error, ReconcileError::ForeignSecret(_)) {
                        return Err(error);
                    }
                    self.problems.report(&error);
                }
                self.restore(secret).await
            }
        }
    }

    /// Serves the certificate of the Secret. If it cannot be used, the replica goes on with the last one.
    fn serve_from(&mut self, store: &Store) {
        if let Some(key) = store.serving() {
            let is_new = self.keys.send_if_modified(|keys| {
                let is_new = keys.cert != key.cert;
                if is_new {
                    *keys = key;
                }
                is_new
            });
            if is_new {
                tracing::info!(secret = %self.settings.secret, "serving with another certificate");
            }
            self.is_known.send_replace(true);
        }
        self.last = Some(store.clone());
    }

    /// Publishes the bundle in the registrations, then carries out the next step.
    async fn reconcile_as_leader(
        &mut self,
        secret: Secret,
        store: Store,
    ) -> Result<Duration, ReconcileError> {
        let bundle = store.bundle();
        let objects = self.registration.observe(&bundle).await;
        let found = objects.bundles();
        let observed =
            self.observations.observe(&store, found.iter().map(Vec::as_slice), Instant::now().into_std());
        self.ensure_leading()?;
        // A certificate is renewed even if the bundle can be neither published nor read.
        let ReconcileResult { requeue_soon, errors } =
            self.registration.reconcile(objects, &bundle, &self.metrics).await;
        for error in &errors {
            self.problems.report(error);
        }
        match rotation::plan(Some(&store), &self.settings.policy, SystemTime::now(), observed) {
            Plan::Do(step) => self.apply_step(step, Some(&store), Some(secret)).await,
            Plan::Nothing { requeue_after } => Ok(if requeue_soon { SHORT_PERIOD } else { requeue_after }),
        }
    }

    /// The Secret is missing or invalid. Writes the last known content again if it can still be used, and new
    /// certificates otherwise.
    async fn restore(&mut self, secret: Option<Secret>) -> Result<Duration, ReconcileError> {
        let plan = |store| {
            rotation::plan(store, &self.settings.policy, SystemTime::now(), ObservationTimes::default())
        };
        match self.last.clone() {
            Some(last) if plan(Some(&last)) != Plan::Do(Step::Create) => {
                tracing::warn!(secret = %self.settings.secret, "Secret is missing or invalid, writing it again");
                self.write(secret, &last).await?;
                Ok(Duration::ZERO)
            }
            _ => self.apply_step(Step::Create, None, secret).await,
        }
    }

    async fn apply_step(
        &mut self,
        step: Step,
        store: Option<&Store>,
        secret: Option<Secret>,
    ) -> Result<Duration, ReconcileError> {
        let made = rotation::apply(step, store, &self.settings.policy, SystemTime::now())?;
        self.write(secret, &made).await?;
        self.metrics.count_rotation(step);
        tracing::info!(secret = %self.settings.secret, step = step.as_str(), store = ?made, "certificates rotated");
        Ok(Duration::ZERO)
    }

    /// Replaces the content of the Secret as it was read: if another replica wrote it meanwhile, the update conflicts.
    async fn write(&self, secret: Option<Secret>, store: &Store) -> Result<(), ReconcileError> {
        self.ensure_leading()?;
        let name = &self.settings.secret;
        let mut secret = match secret {
            Some(secret) => secret,
            None => with_timeout(&self.what(), empty_object::get_or_create(&self.secrets, name)).await?,
        };
        let data = store.to_data().into_iter().map(|(key, value)| (key, ByteString(value)));
        secret.data = Some(data.collect());
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        with_timeout(&self.what(), self.secrets.replace(name, &params, &secret)).await.map(drop)
    }

    fn read(&self, secret: &Secret) -> Result<Store, ReconcileError> {
        let name = || self.settings.secret.clone();
        let data = secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect();
        Store::from_data(&data).map_err(|source| {
            if data.is_empty() || OWN_KEYS.iter().any(|key| data.contains_key(*key)) {
                ReconcileError::Store { name: name(), source }
            } else {
                ReconcileError::ForeignSecret(name())
            }
        })
    }

    fn ensure_leading(&self) -> Result<(), ReconcileError> {
        if self.leadership.is_leading() { Ok(()) } else { Err(ReconcileError::LostLeadership) }
    }

    fn period(&self) -> Duration {
        PERIOD.min(self.settings.policy.overlap() / ROUNDS_PER_OVERLAP)
    }

    fn what(&self) -> String {
        format!("Secret/{}", self.settings.secret)
    }
}
