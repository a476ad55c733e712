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

use crate::error::{KeepError, limited};
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::registration::{Mended, Registration};
use crate::troubles::Troubles;
use crate::{FIELD_MANAGER, blank};

#[cfg(test)]
mod tests;

/// Between two rounds, unless the overlap is short.
const PERIOD: Duration = Duration::from_secs(5);
/// Rounds in an overlap, so that a replica keeps up even if one round fails or is late.
const LOOKS: u32 = 4;
/// Between two rounds after an error, after a registration was applied, and until there is a Secret.
const SOON: Duration = Duration::from_secs(1);
/// Keys by which Gatehouse recognizes its own Secret: it has one of them at least.
const OURS: [&str; 2] = ["current-ca.crt", "changed-at"];

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
    troubles: Troubles,
}

/// The certificate that this replica serves with.
#[derive(Debug, Clone)]
pub struct Served {
    /// The current certificate and key; reports changes.
    pub keys: watch::Receiver<Arc<CertifiedKey>>,
    is_known: watch::Receiver<bool>,
    secret: String,
}

impl Served {
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
    ) -> (Self, Served) {
        let (keys, served) = watch::channel(first);
        let (is_known, known) = watch::channel(false);
        let served = Served { keys: served, is_known: known, secret: settings.secret.clone() };
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
            troubles: Troubles::default(),
        };
        (this, served)
    }

    /// Runs until `stop` is cancelled. It removes neither the Secret nor the registrations.
    pub async fn run(mut self, stop: CancellationToken) {
        // Boxed, since the future is large: it holds certificates across its requests.
        let _ = Box::pin(stop.run_until_cancelled(self.keep())).await;
    }

    async fn keep(&mut self) {
        let mut leading = self.leadership.receiver();
        loop {
            let wait = self.round().await.unwrap_or_else(|error| {
                self.troubles.meet(&error);
                SOON
            });
            self.troubles.end_look();
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
    async fn round(&mut self) -> Result<Duration, KeepError> {
        let secret = limited(&self.what(), self.secrets.get_opt(&self.settings.secret)).await?;
        let store = secret.as_ref().map(|secret| self.read(secret)).transpose();
        if let Ok(Some(store)) = &store {
            self.follow(store);
            for source in store.problems().iter().cloned() {
                self.troubles.meet(&KeepError::Part { name: self.settings.secret.clone(), source });
            }
        }
        if !self.leadership.is_leading() {
            // Observations of an earlier term may be outdated.
            self.observations = Observations::default();
            self.metrics.forget();
            let is_known = store?.is_some();
            return Ok(if is_known { self.period() } else { SOON });
        }
        match (secret, store) {
            (Some(secret), Ok(Some(store))) => self.lead(secret, store).await,
            (secret, store) => {
                if let Err(error) = store {
                    if matches!(error, KeepError::Foreign(_)) {
                        return Err(error);
                    }
                    self.troubles.meet(&error);
                }
                self.restore(secret).await
            }
        }
    }

    /// Serves the certificate of the Secret. If it cannot be used, the replica goes on with the last one.
    fn follow(&mut self, store: &Store) {
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
    async fn lead(&mut self, secret: Secret, store: Store) -> Result<Duration, KeepError> {
        let bundle = store.bundle();
        let look = self.registration.look(&bundle).await;
        let found = look.bundles();
        let observed =
            self.observations.observe(&store, found.iter().map(Vec::as_slice), Instant::now().into_std());
        self.still_leading()?;
        // A certificate is renewed even if the bundle can be neither published nor read.
        let Mended { look_soon, troubles } = self.registration.mend(look, &bundle, &self.metrics).await;
        for trouble in &troubles {
            self.troubles.meet(trouble);
        }
        match rotation::plan(Some(&store), &self.settings.policy, SystemTime::now(), observed) {
            Plan::Do(step) => self.make(step, Some(&store), Some(secret)).await,
            Plan::Nothing { requeue_after } => Ok(if look_soon { SOON } else { requeue_after }),
        }
    }

    /// The Secret is missing or invalid. Writes the last known content again if it can still be used, and new
    /// certificates otherwise.
    async fn restore(&mut self, secret: Option<Secret>) -> Result<Duration, KeepError> {
        let plan = |store| {
            rotation::plan(store, &self.settings.policy, SystemTime::now(), ObservationTimes::default())
        };
        match self.last.clone() {
            Some(last) if plan(Some(&last)) != Plan::Do(Step::Create) => {
                tracing::warn!(secret = %self.settings.secret, "Secret is missing or invalid, writing it again");
                self.write(secret, &last).await?;
                Ok(Duration::ZERO)
            }
            _ => self.make(Step::Create, None, secret).await,
        }
    }

    async fn make(
        &mut self,
        step: Step,
        store: Option<&Store>,
        secret: Option<Secret>,
    ) -> Result<Duration, KeepError> {
        let made = rotation::apply(step, store, &self.settings.policy, SystemTime::now())?;
        self.write(secret, &made).await?;
        self.metrics.made(step);
        tracing::info!(secret = %self.settings.secret, step = step.as_str(), store = ?made, "certificates rotated");
        Ok(Duration::ZERO)
    }

    /// Replaces the content of the Secret as it was read: if another replica wrote it meanwhile, the update conflicts.
    async fn write(&self, secret: Option<Secret>, store: &Store) -> Result<(), KeepError> {
        self.still_leading()?;
        let name = &self.settings.secret;
        let mut secret = match secret {
            Some(secret) => secret,
            None => limited(&self.what(), blank::make(&self.secrets, name)).await?,
        };
        let data = store.to_data().into_iter().map(|(key, value)| (key, ByteString(value)));
        secret.data = Some(data.collect());
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        limited(&self.what(), self.secrets.replace(name, &params, &secret)).await.map(drop)
    }

    fn read(&self, secret: &Secret) -> Result<Store, KeepError> {
        let name = || self.settings.secret.clone();
        let data = secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect();
        Store::from_data(&data).map_err(|source| {
            if data.is_empty() || OURS.iter().any(|key| data.contains_key(*key)) {
                KeepError::Store { name: name(), source }
            } else {
                KeepError::Foreign(name())
            }
        })
    }

    fn still_leading(&self) -> Result<(), KeepError> {
        if self.leadership.is_leading() { Ok(()) } else { Err(KeepError::Deposed) }
    }

    fn period(&self) -> Duration {
        PERIOD.min(self.settings.policy.overlap() / LOOKS)
    }

    fn what(&self) -> String {
        format!("Secret/{}", self.settings.secret)
    }
}
