//! Notices CustomResourceDefinitions that come, change or go, so that discovery is asked again at once.
//!
//! Without the right to watch them discovery's own interval has to do; nothing else is lost.

use std::{pin::pin, time::Duration};

use futures::StreamExt;
use gatehouse_apiservice::client::{explain, jittered};
use kube::{
    Api,
    api::{DynamicObject, PartialObjectMeta},
    core::{ApiResource, GroupVersionKind},
    runtime::watcher::{self, DefaultBackoff, Event},
};
use tokio::time::sleep;

use super::shared::Shared;

/// Where these may not be watched, one attempt in this time, or up to twice it.
const FORBIDDEN: Duration = Duration::from_mins(1);

/// Wakes discovery for every change of a CRD that defines something wanted, for ever.
pub(super) async fn watch(shared: &Shared) {
    let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let definitions = ApiResource::from_gvk_with_plural(&gvk, "customresourcedefinitions");
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(shared.client.clone(), &definitions);
    let mut events = pin!(watcher::watcher(api, watcher::Config::default()));
    let mut backoff = DefaultBackoff::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(definition) | Event::Delete(definition)) => {
                let name = definition.metadata.name.as_deref().unwrap_or_default();
                if shared.is_wanted(name) {
                    shared.rediscover.notify_one();
                }
            }
            // After a gap something may have been missed. The first time discovery is on its way anyhow.
            Ok(Event::InitDone) => shared.rediscover.notify_one(),
            Ok(Event::Init | Event::InitApply(_)) => {}
            Err(error) => {
                tracing::debug!(error = %explain(&error), "CustomResourceDefinitions cannot be watched");
                let wait =
                    if is_forbidden(&error) { Some(jittered(FORBIDDEN, FORBIDDEN)) } else { backoff.next() };
                sleep(wait.unwrap_or(FORBIDDEN)).await;
            }
        }
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status))
        | WatchError(status) => status.is_forbidden(),
        _ => false,
    }
}
