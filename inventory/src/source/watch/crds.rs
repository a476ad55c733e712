//! Watches CustomResourceDefinitions, so that discovery runs at once when one is created, changed or deleted.
//!
//! Without the permission to watch them, changes are noticed at the next periodic discovery.

use std::{pin::pin, time::Duration};

use futures::StreamExt;
use gatehouse_apiservice::client::{explain, jittered};
use kube::{
    Api, Client,
    api::{DynamicObject, PartialObjectMeta},
    core::{ApiResource, GroupVersionKind},
    runtime::watcher::{self, DefaultBackoff, Event},
};
use tokio::time::sleep;

use super::shared::Shared;

/// The interval of attempts if access is forbidden, or up to twice that.
const FORBIDDEN: Duration = Duration::from_mins(1);

/// Wakes discovery for each change of a CRD that defines a wanted resource. Never ends.
pub(super) async fn watch(shared: &Shared) {
    loop {
        let replaced = shared.replaced();
        let client = shared.client().await;
        tokio::select! {
            () = watch_by(client, shared) => {}
            () = replaced => {}
        }
    }
}

async fn watch_by(client: Client, shared: &Shared) {
    let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let definitions = ApiResource::from_gvk_with_plural(&gvk, "customresourcedefinitions");
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &definitions);
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
            // Changes may have been missed during a gap. At the start, discovery runs anyway.
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
