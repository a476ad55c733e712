//! Certificates that an installation makes for itself: kept in a Secret, served by every replica, rotated by the leader.
//!
//! Every replica reads the Secret by name, every few seconds, and serves what it says. It is not watched: that a replica
//! is never further behind than [`rotation::Policy::overlap`] is what the rotation rests on, and a look that has to answer
//! in time bounds that where a watch that broke unnoticed does not; and it takes no right but to get one object.
//!
//! The leader also looks at who trusts the bundle, mends that ([`Registration`]), and makes the steps that
//! [`rotation::plan`] asks for. A step counts when it is written over the very Secret that it was made from.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gatehouse_certs::rotation::{self, Plan, Policy, Seen, Sightings, Step, Store};
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

/// Between two looks, unless overlaps are short.
const PERIOD: Duration = Duration::from_secs(5);
/// Looks in an overlap, so that one that fails or comes late is not too late.
const LOOKS: u32 = 4;
/// Between two looks while something is on the way.
const SOON: Duration = Duration::from_secs(1);
/// What a Secret of ours has at least one of.
const OURS: [&str; 2] = ["current-ca.crt", "changed-at"];

/// Where certificates are kept, and how they are made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The namespace of the Secret.
    pub namespace: String,
    /// The name of the Secret.
    pub secret: String,
    /// What certificates name, and how long they last.
    pub policy: Policy,
}

/// One replica's part in it.
pub struct SelfManaged {
    secrets: Api<Secret>,
    settings: Settings,
    registration: Registration,
    leadership: Leadership,
    metrics: Metrics,
    keys: watch::Sender<Arc<CertifiedKey>>,
    is_known: watch::Sender<bool>,
    /// As it was last read, or written.
    last: Option<Store>,
    sightings: Sightings,
    troubles: Troubles,
}

/// What is served.
#[derive(Debug, Clone)]
pub struct Served {
    /// The serving certificate, and every one that follows.
    pub keys: watch::Receiver<Arc<CertifiedKey>>,
    is_known: watch::Receiver<bool>,
    secret: String,
}

impl Served {
    /// Ready once the Secret's certificate is served.
    pub fn readiness(&self) -> Result<(), String> {
        if *self.is_known.borrow() {
            return Ok(());
        }
        Err(format!("the certificate of Secret/{} is not known yet", self.secret))
    }
}

impl SelfManaged {
    /// Keeps `registration` trusting what `settings` say, while `leadership` does. Until there is something to read, `first`
    /// is served, which nobody trusts.
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
            sightings: Sightings::default(),
            troubles: Troubles::default(),
        };
        (this, served)
    }

    /// Works until `stop`. Nothing is removed then.
    pub async fn run(mut self, stop: CancellationToken) {
        // On the heap: it holds certificates while it waits for requests about them.
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
                    // The election is over; so will be the rest.
                    return std::future::pending().await;
                },
            }
        }
    }

    /// Follows the Secret, and leads if this replica does. Returns how long to wait.
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
            // What was seen in a term that is over may have changed since.
            self.sightings = Sightings::default();
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

    /// Serves what the Secret says. What of it cannot be used changes nothing.
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

    /// Mends what trusts the bundle, and makes the next step.
    async fn lead(&mut self, secret: Secret, store: Store) -> Result<Duration, KeepError> {
        let bundle = store.bundle();
        let look = self.registration.look(&bundle).await;
        let found = look.bundles();
        let seen = self.sightings.look(&store, found.iter().map(Vec::as_slice), Instant::now().into_std());
        self.still_leading()?;
        // A bundle that cannot be published, or seen to be, must not keep a certificate from being renewed.
        let Mended { look_soon, troubles } = self.registration.mend(look, &bundle, &self.metrics).await;
        for trouble in &troubles {
            self.troubles.meet(trouble);
        }
        match rotation::plan(Some(&store), &self.settings.policy, SystemTime::now(), seen) {
            Plan::Do(step) => self.make(step, Some(&store), Some(secret)).await,
            Plan::Nothing { next_look } => Ok(if look_soon { SOON } else { next_look }),
        }
    }

    /// There is no store. Writes the one that was there, as long as it is any good.
    async fn restore(&mut self, secret: Option<Secret>) -> Result<Duration, KeepError> {
        let plan = |store| rotation::plan(store, &self.settings.policy, SystemTime::now(), Seen::default());
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

    /// Writes over the Secret as it was read: of two that do, one does.
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
