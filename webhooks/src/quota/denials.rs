//! Adds the number of denied requests to the status of quotas.
//!
//! **Invariant:** every replica adds its own denials, so none is lost between replicas.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::by_namespace::LastDenials;
use gatehouse_apiservice::client::explain;
use gatehouse_apiservice::policy::{LastDenial, TenantQuota};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often counts are written.
const INTERVAL: Duration = Duration::from_secs(5);
/// The attempts per write, since replicas sometimes conflict; after that, the count is written with the next.
const ATTEMPTS: u32 = 4;
/// Longer messages are truncated: a status is not a log.
const MESSAGE: usize = 1024;

/// Denials that are not written yet. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Denials(Arc<Mutex<HashMap<String, Refused>>>);

#[derive(Debug)]
struct Refused {
    uid: String,
    count: i64,
    last: LastDenial,
    by_namespace: LastDenials,
}

impl Denials {
    /// Counts a denial of a request in a namespace.
    pub(super) fn count(&self, quota: &str, uid: &str, namespace: &str, message: &str) {
        let message: String = message.chars().take(MESSAGE).collect();
        // The object does not keep microseconds, and the value read back must equal the written one.
        let now = Timestamp::now();
        let time = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
        let last = LastDenial { time, message };
        let by_namespace = LastDenials::of(namespace, &last);
        let refused = Refused { uid: uid.to_owned(), count: 1, last, by_namespace };
        self.add(quota.to_owned(), refused);
    }

    fn add(&self, quota: String, refused: Refused) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&quota) {
            Some(known) if known.uid == refused.uid => {
                known.count += refused.count;
                if known.last.time.0 <= refused.last.time.0 {
                    known.last = refused.last;
                }
                known.by_namespace.add(refused.by_namespace);
            }
            // Drops the denials of a quota that is gone.
            _ => drop(all.insert(quota, refused)),
        }
    }

    /// Writes the counts at intervals until `stop`, and then the rest.
    pub(super) async fn run(self, client: Client, stop: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let api: Api<TenantQuota> = Api::all(client);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.write(&api).await,
                () = stop.cancelled() => return self.write(&api).await,
            }
        }
    }

    async fn write(&self, api: &Api<TenantQuota>) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (quota, refused) in all {
            match add_to_status(api, &quota, &refused).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(quota, error = %explain(&error), "cannot write the number of denials to the status yet");
                    self.add(quota, refused);
                }
            }
        }
    }
}

async fn add_to_status(api: &Api<TenantQuota>, name: &str, refused: &Refused) -> Result<(), kube::Error> {
    for attempt in 1.. {
        let Some(quota) = api.get_opt(name).await? else { return Ok(()) };
        if quota.metadata.uid.as_deref() != Some(&*refused.uid) {
            return Ok(());
        }
        let status = quota.status.unwrap_or_default();
        let last = status.last_denial.filter(|status| status.time.0 > refused.last.time.0);
        let body = json!({
            "metadata": {"resourceVersion": quota.metadata.resource_version},
            "status": {
                "denied": status.denied.saturating_add(refused.count),
                "lastDenial": last.as_ref().unwrap_or(&refused.last),
                "byNamespace": refused.by_namespace.patch(&status.by_namespace),
            },
        });
        match api.patch_status(name, &PatchParams::default(), &Patch::Merge(&body)).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
