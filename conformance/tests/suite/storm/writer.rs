//! Random changes of Flux objects and their namespaces, of all kinds that are difficult for watches.

use std::time::{Duration, Instant};

use gatehouse_apiservice::view::TENANT_LABEL;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::{NAMESPACES, TENANTS, namespace};
use crate::chance::Chance;
use crate::site::kustomization;

/// The minimum time between two changes.
const PACE: Duration = Duration::from_millis(25);
/// The usual number of objects in a namespace.
const OBJECTS: usize = 20;

/// A writer. Its choices depend on its random numbers alone.
pub(super) struct Writer {
    chance: Chance,
    client: kube::Client,
    /// The names of existing objects, by namespace.
    alive: Vec<Vec<String>>,
    made: usize,
    written: usize,
}

impl Writer {
    pub(super) fn new(client: kube::Client, chance: Chance) -> Self {
        Self { chance, client, alive: vec![Vec::new(); NAMESPACES], made: 0, written: 0 }
    }

    /// Writes until this time. Returns the number of writes.
    pub(super) async fn write(&mut self, until: Instant) -> anyhow::Result<usize> {
        let before = self.written;
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while Instant::now() < until {
            pace.tick().await;
            self.change().await?;
        }
        Ok(self.written - before)
    }

    /// The objects in the cluster.
    pub(super) async fn objects(&self) -> anyhow::Result<Vec<Value>> {
        let mut objects = Vec::new();
        for number in 0..NAMESPACES {
            for object in self.api(number).list(&ListParams::default()).await? {
                objects.push(serde_json::to_value(object)?);
            }
        }
        Ok(objects)
    }

    fn api(&self, number: usize) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("kustomize.toolkit.fluxcd.io", "v1", "Kustomization");
        let resource = ApiResource::from_gvk_with_plural(&gvk, "kustomizations");
        Api::namespaced_with(self.client.clone(), &namespace(number), &resource)
    }

    async fn change(&mut self) -> anyhow::Result<()> {
        let number = self.chance.below(NAMESPACES);
        let alive = self.alive[number].len();
        if alive < OBJECTS / 4 {
            return self.create(number).await;
        }
        let at = self.chance.below(alive);
        let name = self.alive[number][at].clone();
        match self.chance.below(100) {
            0..12 if alive < OBJECTS => self.create(number).await,
            0..24 => {
                self.alive[number].swap_remove(at);
                self.delete(number, &name).await
            }
            24..34 => {
                self.delete(number, &name).await?;
                self.make(number, &name).await
            }
            // Created and deleted at once: some replicas never observe it.
            34..40 => {
                self.made += 1;
                let name = format!("fleeting-{}", self.made);
                self.make(number, &name).await?;
                self.delete(number, &name).await
            }
            // Changed and changed back: some replicas observe nothing.
            40..55 => {
                let (a, b) = (self.status(), self.status());
                for status in [&a, &b, &a] {
                    self.set_status(number, &name, status).await?;
                }
                Ok(())
            }
            55..62 => {
                let suspend = self.chance.below(2) == 0;
                let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
                self.api(number).patch(&name, &PatchParams::default(), &patch).await?;
                self.written += 1;
                Ok(())
            }
            // The namespace changes its tenant, and so do all rows in it.
            62..65 => {
                let tenant = *self.chance.of(&TENANTS);
                let patch = Patch::Merge(json!({"metadata": {"labels": {TENANT_LABEL: tenant}}}));
                let namespaces: Api<Namespace> = Api::all(self.client.clone());
                namespaces.patch(&namespace(number), &PatchParams::default(), &patch).await?;
                self.written += 1;
                Ok(())
            }
            _ => {
                let status = self.status();
                self.set_status(number, &name, &status).await
            }
        }
    }

    async fn create(&mut self, number: usize) -> anyhow::Result<()> {
        self.made += 1;
        let name = format!("app-{}", self.made);
        self.make(number, &name).await?;
        self.alive[number].push(name);
        Ok(())
    }

    async fn make(&mut self, number: usize, name: &str) -> anyhow::Result<()> {
        // A create ignores the status, so the object begins as Pending.
        let mut object = kustomization(&namespace(number), name, Ok(()));
        object["spec"]["dependsOn"] = match self.chance.below(3) {
            0 => json!([]),
            // It may exist, may not exist yet, or may be deleted.
            _ => json!([{"name": format!("app-{}", self.chance.below(self.made + 2))}]),
        };
        self.api(number).create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        self.written += 1;
        Ok(())
    }

    async fn delete(&mut self, number: usize, name: &str) -> anyhow::Result<()> {
        self.api(number).delete(name, &DeleteParams::default()).await?;
        self.written += 1;
        Ok(())
    }

    fn status(&mut self) -> Value {
        let (status, reason) = *self.chance.of(&[
            ("True", "ReconciliationSucceeded"),
            ("False", "DependencyNotReady"),
            ("False", "BuildFailed"),
        ]);
        json!({"observedGeneration": 1, "conditions": [{
            "type": "Ready", "status": status, "reason": reason,
            "message": format!("message {}", self.chance.below(1000)),
            "lastTransitionTime": "2026-11-21T08:40:40Z",
        }]})
    }

    async fn set_status(&mut self, number: usize, name: &str, status: &Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({"status": status}));
        self.api(number).patch_status(name, &PatchParams::default(), &patch).await?;
        self.written += 1;
        Ok(())
    }
}
