//! Registers the kinds that quotas count with kube-apiserver, in addition to those of the installed webhook
//! configuration.
//!
//! `count/RESOURCE.GROUP` may name any kind, and webhook configurations list kinds one by one. So the leader writes a
//! configuration of its own, with a rule for each kind that some quota counts. It has the clientConfig and the
//! exclusions of the installed configuration, which is its owner.
//!
//! From the creation of a quota until its kinds are registered, creations are not reviewed. They count as used all the
//! same, and as overcommit if they exceed the limit. [`Interception`] says which kinds are registered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_apiservice::client::explain;
use gatehouse_apiservice::registration::webhooks::{self, COUNTS_NAME};
use gatehouse_quota::{CompiledQuota, Dimension, GroupResource, uncountable};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::intercepted::is_static;
use crate::world::World;
use gatehouse_installation::{FIELD_MANAGER, lease::Leadership};

/// The interval after which changes by others are corrected.
const AGAIN: Duration = Duration::from_mins(1);
/// The interval of attempts after a failure, and while the installed configuration is missing.
const SOON: Duration = Duration::from_secs(2);
/// How long kube-apiserver takes to apply a written configuration, with a margin: it watches them.
const SEEN: Duration = Duration::from_secs(1);

/// The kinds that kube-apiserver sends for counting, as far as the leader knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interception {
    /// Whether the installed configuration exists.
    installed: bool,
    /// The kinds in the additional configuration.
    counted: BTreeSet<GroupResource>,
}

impl Interception {
    /// The kinds that a quota counts and kube-apiserver does not send yet.
    pub fn missing(&self, quota: &CompiledQuota) -> Vec<GroupResource> {
        let counted = counted(quota).filter(|resource| !self.sends(resource));
        counted.cloned().collect()
    }

    fn sends(&self, resource: &GroupResource) -> bool {
        self.installed && (is_static(&resource.group, &resource.resource) || self.counted.contains(resource))
    }
}

/// Writes the additional configuration while this replica leads.
pub struct Counts {
    world: World,
    leadership: Leadership,
    api: Api<ValidatingWebhookConfiguration>,
    interception: watch::Sender<Interception>,
    /// Notifies of changes of the installed configuration.
    registered: Arc<Notify>,
}

impl Counts {
    /// Starts with no kinds.
    pub fn new(
        client: kube::Client,
        world: World,
        leadership: Leadership,
        registered: Arc<Notify>,
    ) -> (Self, watch::Receiver<Interception>) {
        let (sender, interception) = watch::channel(Interception::default());
        (Self { world, leadership, api: Api::all(client), interception: sender, registered }, interception)
    }

    /// Writes the configuration until `stop` is cancelled. It stays afterwards, since other replicas need it.
    pub async fn run(self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(self) {
        let mut leading = self.leadership.receiver();
        let mut changed = self.world.changed();
        // The kinds that were written last; `None` if the configuration has to be written again.
        let mut done: Option<BTreeSet<GroupResource>> = None;
        let mut is_missed = false;
        let mut again = Box::pin(tokio::time::sleep(AGAIN));
        loop {
            if self.leadership.is_leading() && self.world.readiness().is_ok() {
                let wanted = wanted(&self.world.snapshot().quotas);
                if done.as_ref() != Some(&wanted) {
                    let wait = match self.register(&wanted).await {
                        Ok(installed) => {
                            if !installed && !is_missed {
                                let name = webhooks::NAME;
                                tracing::warn!(
                                    name,
                                    "there is no ValidatingWebhookConfiguration of Gatehouse: nothing is enforced"
                                );
                            }
                            is_missed = !installed;
                            self.publish(installed, wanted.clone()).await;
                            done = Some(wanted);
                            if installed { AGAIN } else { SOON }
                        }
                        Err(error) => {
                            tracing::warn!(error = %explain(&error), "cannot register the kinds that quotas count");
                            done = None;
                            SOON
                        }
                    };
                    again.as_mut().reset(tokio::time::Instant::now() + wait);
                    if done.is_none() {
                        // After a failure, wait, even if the world changes.
                        again.as_mut().await;
                        continue;
                    }
                }
            } else {
                // Another leader may write another configuration in the meantime.
                done = None;
            }
            tokio::select! {
                outcome = changed.changed() => if outcome.is_err() { return std::future::pending().await },
                outcome = leading.changed() => match outcome {
                    Ok(()) => done = None,
                    // The election task has ended, so the process is shutting down.
                    Err(_) => return std::future::pending().await,
                },
                // The installed configuration has changed, mostly its caBundle, which must be copied.
                () = self.registered.notified() => done = None,
                () = &mut again => {
                    done = None;
                    again.as_mut().reset(tokio::time::Instant::now() + AGAIN);
                }
            }
        }
    }

    /// Publishes the kinds, after kube-apiserver has had time to apply the configuration.
    async fn publish(&self, installed: bool, counted: BTreeSet<GroupResource>) {
        let interception = Interception { installed, counted };
        if *self.interception.borrow() != interception {
            tokio::time::sleep(SEEN).await;
            self.interception.send_replace(interception);
        }
    }

    /// Writes the configuration. Returns false if the installed configuration, which is the template, does not exist or
    /// is not Gatehouse's.
    async fn register(&self, wanted: &BTreeSet<GroupResource>) -> Result<bool, kube::Error> {
        let Some(installed) = self.api.get_opt(webhooks::NAME).await? else { return Ok(false) };
        let installed = serde_json::to_value(installed).map_err(kube::Error::SerdeError)?;
        let pairs = wanted.iter().map(|one| (one.group.to_string(), one.resource.to_string()));
        match webhooks::counts_configuration(&installed, pairs) {
            Ok(Some(configuration)) => self.apply(&configuration).await?,
            Ok(None) => self.remove().await?,
            Err(missing) => {
                tracing::debug!(
                    name = webhooks::NAME,
                    missing,
                    "ValidatingWebhookConfiguration is not that of Gatehouse: counted kinds are not registered"
                );
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn apply(&self, configuration: &Value) -> Result<(), kube::Error> {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.api.patch(COUNTS_NAME, &params, &Patch::Apply(configuration)).await.map(drop)
    }

    async fn remove(&self) -> Result<(), kube::Error> {
        if self.api.get_metadata_opt(COUNTS_NAME).await?.is_none() {
            return Ok(());
        }
        match self.api.delete(COUNTS_NAME, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

/// The kinds that quotas count and the installed configuration does not include.
fn wanted(quotas: &[Arc<CompiledQuota>]) -> BTreeSet<GroupResource> {
    let counted = quotas.iter().flat_map(|quota| counted(quota));
    // Creations of an uncountable kind would be denied, or wait forever.
    let is_sent = |resource: &&GroupResource| {
        !is_static(&resource.group, &resource.resource) && uncountable(resource).is_none()
    };
    counted.filter(is_sent).cloned().collect()
}

fn counted(quota: &CompiledQuota) -> impl Iterator<Item = &GroupResource> {
    quota.hard.keys().filter_map(Dimension::counted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quota(hard: &Value) -> Arc<CompiledQuota> {
        let quota = json!({
            "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": "a"},
            "spec": {"namespaceSelector": {}, "hard": hard},
        });
        let quota = serde_json::from_value(quota).expect("a quota");
        Arc::new(CompiledQuota::compile(&quota).expect("it compiles"))
    }

    #[test]
    fn only_what_is_not_sent_anyway_is_wanted_once() {
        let quotas = [
            quota(&json!({"count/configmaps": "1", "gameservers": "1", "count/fleets.agones.dev": "1"})),
            quota(&json!({"count/configmaps": "7", "count/deployments.apps": "1", "requests.storage": "1"})),
        ];
        let wanted: Vec<_> = wanted(&quotas).iter().map(ToString::to_string).collect();
        assert_eq!(wanted, ["configmaps", "deployments.apps", "persistentvolumeclaims"]);
    }

    #[test]
    fn what_is_not_sent_is_missing() {
        let quota = quota(&json!({"count/configmaps": "1", "count/fleets.agones.dev": "1"}));
        let missing = |interception: &Interception| -> Vec<_> {
            interception.missing(&quota).iter().map(ToString::to_string).collect()
        };
        assert_eq!(missing(&Interception::default()), ["configmaps", "fleets.agones.dev"]);
        let installed = Interception { installed: true, ..Interception::default() };
        assert_eq!(missing(&installed), ["configmaps"]);
        let counted = [GroupResource::new("", "configmaps")].into();
        assert_eq!(missing(&Interception { counted, ..installed }), [""; 0]);
    }
}
