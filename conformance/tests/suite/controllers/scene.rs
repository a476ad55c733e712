//! The control plane of these trials, and everything that runs beside it.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::controllers::Controller;
use gatehouse_conformance::gatehouse::Gatehouse;
use gatehouse_conformance::registry::{self, Registry};
use gatehouse_conformance::supervise::Supervised;
use gatehouse_conformance::webhooks::Webhooks;
use gatehouse_conformance::{crds, definitions};
use http::Method;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::gate::Gate;
use crate::site::Site;

/// The kinds of the trials that Flux's controllers do not define.
const OTHERS: [&str; 2] = ["agones.dev", "autoscaling.agones.dev"];

/// How much of a controller's log an error shows.
const LOG_LINES: usize = 4;
const LINE: usize = 250;

/// Everything that runs. Fields are dropped in order, and the servers must end in this order.
pub(crate) struct Scene {
    controllers: Mutex<Vec<(Controller, Supervised)>>,
    pub(super) registry: Arc<Registry>,
    pub(super) gatehouse: Gatehouse,
    pub(super) webhooks: Webhooks,
    pub(crate) gate: Arc<Gate>,
    control_plane: Arc<ControlPlane>,
}

impl Scene {
    /// Whether these controllers, and what serves them sources, have been built.
    pub(crate) async fn can_start(controllers: &[Controller]) -> anyhow::Result<()> {
        for controller in controllers {
            controller.built()?;
        }
        registry::crane().await?;
        Ok(())
    }

    /// Starts everything but the controllers.
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let mut manifests = definitions::flux().await?;
        let others = crds::missing_from(&manifests);
        manifests.extend(
            others
                .into_iter()
                .filter(|definition| OTHERS.iter().any(|group| definition.object["spec"]["group"] == *group)),
        );
        let control_plane = Arc::new(ControlPlane::start(&Options::default()).await?);
        let registry = Arc::new(Registry::start(&control_plane).await?);
        let (site, gatehouse) = Site::with(Arc::clone(&control_plane), manifests).await?;
        let (gate, webhooks) = Gate::new(Arc::new(site)).await?;
        let (controllers, gate) = (Mutex::default(), Arc::new(gate));
        Ok(Self { controllers, registry, gatehouse, webhooks, gate, control_plane })
    }

    /// Starts the controllers that do not run yet.
    pub(crate) async fn start(&self, wanted: &[Controller]) -> anyhow::Result<()> {
        let mut running = self.controllers.lock().await;
        for controller in wanted {
            if !running.iter().any(|(known, _)| known == controller) {
                running.push((*controller, controller.start(&self.control_plane).await?));
            }
        }
        Ok(())
    }

    /// An error together with what the controllers said last.
    pub(crate) fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        let Ok(running) = self.controllers.try_lock() else { return anyhow!("{error:#}") };
        let logs = running.iter().map(|(controller, process)| {
            let tail = process.log_tail(LOG_LINES);
            let lines = tail.lines().map(|line| line.chars().take(LINE).collect::<String>() + "\n");
            format!("\nthe log of {} ends:\n{}", controller.name(), lines.collect::<String>())
        });
        anyhow!("{error:#}{}", logs.collect::<String>())
    }

    /// The control plane.
    pub(super) fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// Creates or changes objects, and creates their namespaces.
    pub(super) async fn put(&self, objects: impl IntoIterator<Item = Value>) -> anyhow::Result<()> {
        self.gate.site.apply(objects).await
    }

    /// Merges a patch into an object, as an administrator.
    pub(super) async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let (method, body) = (Method::PATCH, body.to_string().into_bytes());
        let answer = self.gate.caller.write(&method, path, "application/merge-patch+json", body).await?;
        answer.ok().map(drop)
    }

    /// Stops everything.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        let Self { controllers, registry, mut gatehouse, webhooks, gate, control_plane } = self;
        for (_, process) in controllers.into_inner() {
            process.stop().await?;
        }
        drop(registry);
        webhooks.end().await?;
        gatehouse.stop().await?;
        drop(gate);
        Arc::into_inner(control_plane).context("nobody else has a share")?.stop().await
    }
}
