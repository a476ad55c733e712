//! Shared by all trials: the runtime, the control plane or the reason why there is none, and the site, which is a
//! Gatehouse registered with it.
//!
//! The site is created for the first trial that needs it. Its trials run concurrently in their own namespaces, and do
//! not change its Gatehouse.

use std::fmt::Display;
use std::future::Future;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use gatehouse_conformance::assets::{self, AssetsError};
use gatehouse_conformance::cache::Unavailable;
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::controllers::{self, Controller, NotBuilt};
use gatehouse_conformance::gatehouse::{self, Gatehouse};
use gatehouse_conformance::pace::patience;
use gatehouse_conformance::webhooks::Webhooks;
use libtest_mimic::{Arguments, Completion, Trial};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::controllers::Scene;
use crate::gate::Gate;
use crate::site::Site;

/// The time limit of a trial on a quiet machine.
const TRIAL_TIMEOUT: Duration = Duration::from_mins(2);

/// Owned by `main`.
pub(crate) struct World {
    runtime: Runtime,
    cluster: Cluster,
    registered: Arc<OnceCell<Result<Registered, String>>>,
    guarded: Arc<OnceCell<Result<Guarded, String>>>,
    operated: Arc<OnceCell<Result<Arc<Scene>, String>>>,
}

/// The site and its Gatehouse.
type Registered = (Arc<Site>, Gatehouse);
/// The gate and its webhooks.
type Guarded = (Arc<Gate>, Webhooks);

enum Cluster {
    Up(Arc<ControlPlane>),
    /// No trial will run.
    NotNeeded,
    Unavailable(String),
}

impl World {
    /// Starts the control plane, unless the names of the trials are only listed.
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let runtime = Runtime::new().expect("threads can be started");
        let (registered, guarded, operated) = (Arc::default(), Arc::default(), Arc::default());
        if arguments.list {
            return Self { runtime, cluster: Cluster::NotNeeded, registered, guarded, operated };
        }
        let cluster = runtime.block_on(start()).unwrap_or_else(|error| {
            eprintln!("gatehouse: {error:#}");
            process::exit(101)
        });
        Self { runtime, cluster, registered, guarded, operated }
    }

    /// A trial with the shared control plane.
    pub(crate) fn trial<F>(
        &self,
        name: &str,
        body: impl FnOnce(Arc<ControlPlane>) -> F + Send + 'static,
    ) -> Trial
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        self.unbounded(name, |control_plane| bounded(body(control_plane)))
    }

    /// A trial with its own control plane and without a time limit.
    pub(crate) fn apart<F>(&self, name: &str, body: impl FnOnce() -> F + Send + 'static) -> Trial
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        self.unbounded(name, |_| body())
    }

    /// A trial without a time limit of its own; its body limits the time, which must not include the wait for the site.
    /// If a program is not available on this machine, the trial is ignored, unless it is required.
    fn unbounded<F>(&self, name: &str, body: impl FnOnce(Arc<ControlPlane>) -> F + Send + 'static) -> Trial
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let runtime = self.runtime.handle().clone();
        let control_plane = match &self.cluster {
            Cluster::Up(control_plane) => Arc::clone(control_plane),
            Cluster::NotNeeded => return Trial::test(name, || Ok(())),
            Cluster::Unavailable(reason) => {
                let reason = reason.clone();
                return Trial::ignorable_test(name, || Ok(Completion::ignored_with(reason)));
            }
        };
        Trial::ignorable_test(name, move || match runtime.block_on(body(control_plane)) {
            Ok(()) => Ok(Completion::Completed),
            Err(error) if error.is::<NotBuilt>() || error.is::<Unavailable>() && !is_required() => {
                let reason = format!("{error:#}");
                Ok(Completion::ignored_with(reason.lines().next().unwrap_or_default()))
            }
            Err(error) => Err(format!("{error:#}").into()),
        })
    }

    /// A trial with the registered Gatehouse.
    pub(crate) fn shared<F>(&self, name: &str, body: impl FnOnce(Arc<Site>) -> F + Send + 'static) -> Trial
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let registered = Arc::clone(&self.registered);
        self.unbounded(name, async move |control_plane| {
            let site = site(&registered, control_plane).await?;
            bounded(body(site)).await
        })
    }

    /// A trial with the registered Gatehouse and webhooks.
    pub(crate) fn guarded<F>(&self, name: &str, body: impl FnOnce(Arc<Gate>) -> F + Send + 'static) -> Trial
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let (registered, guarded) = (Arc::clone(&self.registered), Arc::clone(&self.guarded));
        self.unbounded(name, async move |control_plane| {
            let site = site(&registered, control_plane).await?;
            let gate = gate(&guarded, site).await?;
            bounded(body(gate)).await
        })
    }

    /// A trial with real controllers, Gatehouse and its webhooks beside them. It is ignored where one of the controllers
    /// has not been built. In its long form it has as much time as it takes.
    pub(crate) fn operated<F>(
        &self,
        name: &str,
        needs: &'static [Controller],
        body: impl FnOnce(Arc<Scene>) -> F + Send + 'static,
    ) -> Trial
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let operated = Arc::clone(&self.operated);
        self.unbounded(name, async move |_| {
            Scene::can_start(needs).await?;
            let scene =
                Arc::clone(once(&operated, "scene", async || Ok(Arc::new(Scene::new().await?))).await?);
            scene.start(needs).await?;
            let trial = body(Arc::clone(&scene));
            let outcome = if is_long() { trial.await } else { bounded(trial).await };
            outcome.map_err(|error| scene.explain(&error))
        })
    }

    /// Stops the webhooks, Gatehouse and the control plane.
    pub(crate) fn end(self) {
        let operated = Arc::into_inner(self.operated).and_then(OnceCell::into_inner);
        if let Some(Ok(scene)) = operated
            && let Some(scene) = Arc::into_inner(scene)
            && let Err(error) = self.runtime.block_on(scene.end())
        {
            eprintln!("gatehouse: the controllers did not stop: {error:#}");
        }
        let guarded = Arc::into_inner(self.guarded).and_then(OnceCell::into_inner);
        if let Some(Ok((gate, webhooks))) = guarded {
            drop(gate);
            if let Err(error) = self.runtime.block_on(webhooks.end()) {
                eprintln!("gatehouse: the webhooks did not stop: {error:#}");
            }
        }
        let registered = Arc::into_inner(self.registered).and_then(OnceCell::into_inner);
        if let Some(Ok((_, mut gatehouse))) = registered
            && let Err(error) = self.runtime.block_on(gatehouse.stop())
        {
            eprintln!("gatehouse: Gatehouse did not stop: {error:#}");
        }
        let Cluster::Up(control_plane) = self.cluster else { return };
        // A task of a trial may still hold a reference. The shims then stop the control plane soon after this process
        // has ended.
        let Some(control_plane) = Arc::into_inner(control_plane) else { return };
        if let Err(error) = self.runtime.block_on(control_plane.stop()) {
            eprintln!("gatehouse: the control plane did not stop: {error:#}");
        }
    }
}

async fn bounded(trial: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let limit = patience(TRIAL_TIMEOUT);
    let outcome = tokio::time::timeout(limit, trial).await;
    outcome.map_err(|_| anyhow!("took longer than {limit:?}")).flatten()
}

/// Returns the site, which is created once. If that fails, all trials that need it fail.
async fn site(
    registered: &OnceCell<Result<Registered, String>>,
    control_plane: Arc<ControlPlane>,
) -> anyhow::Result<Arc<Site>> {
    let make = async || {
        let (site, gatehouse) = Site::new(control_plane).await?;
        Ok((Arc::new(site), gatehouse))
    };
    let (site, _) = once(registered, "site", make).await?;
    Ok(Arc::clone(site))
}

/// Returns the gate, which is created once. If that fails, all trials that need it fail.
async fn gate(guarded: &OnceCell<Result<Guarded, String>>, site: Arc<Site>) -> anyhow::Result<Arc<Gate>> {
    let make = async || {
        let (gate, webhooks) = Gate::new(site).await?;
        Ok((Arc::new(gate), webhooks))
    };
    let (gate, _) = once(guarded, "gate", make).await?;
    Ok(Arc::clone(gate))
}

/// Returns what is made once. If that fails, it fails for everybody.
async fn once<'a, T>(
    cell: &'a OnceCell<Result<T, String>>,
    what: &str,
    make: impl AsyncFnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<&'a T> {
    let result = cell.get_or_init(async || make().await.map_err(|error| format!("{error:#}"))).await;
    result.as_ref().map_err(|error| anyhow!("there is no {what}: {error}"))
}

/// Whether the trials that have a long form run it.
pub(crate) fn is_long() -> bool {
    std::env::var_os("GATEHOUSE_LONG").is_some()
}

/// Whether an unavailable program is a failure.
fn is_required() -> bool {
    std::env::var("GATEHOUSE_CONFORMANCE").is_ok_and(|value| value == "require")
}

async fn start() -> anyhow::Result<Cluster> {
    let assets = match assets::find().await {
        Ok(assets) => assets,
        Err(AssetsError::Unavailable(reason)) if !is_required() => {
            eprintln!("gatehouse: every trial is ignored: {reason}");
            let reason = reason.to_string();
            return Ok(Cluster::Unavailable(reason.lines().next().unwrap_or_default().to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    // Before the trials begin, since a cold build would use most of their time.
    if controllers::are_required() {
        for controller in Controller::ALL {
            controller.find().await?;
        }
    }
    gatehouse::executable().await?;
    let options = Options { assets: Some(assets), ..Options::default() };
    Ok(Cluster::Up(Arc::new(ControlPlane::start(&options).await?)))
}

/// Polls until an answer satisfies `wanted`, and returns it. If none does in time, the error contains the last one. The
/// timeout is for a quiet machine, see [`patience`].
pub(crate) async fn settles<T, F>(
    what: impl Display,
    timeout: Duration,
    mut ask: impl FnMut() -> F,
    mut wanted: impl FnMut(&T) -> bool,
) -> anyhow::Result<T>
where
    T: std::fmt::Debug,
    F: Future<Output = anyhow::Result<T>>,
{
    let timeout = patience(timeout);
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        let answer = ask().await?;
        if wanted(&answer) {
            return Ok(answer);
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "not within {timeout:?}: {what}; at last: {answer:#?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Polls until `holds` returns true. The timeout is for a quiet machine.
pub(crate) async fn eventually(
    what: impl Display,
    timeout: Duration,
    mut holds: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let timeout = patience(timeout);
    let deadline = tokio::time::Instant::now() + timeout;
    while !holds() {
        ensure!(tokio::time::Instant::now() < deadline, "not within {timeout:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
