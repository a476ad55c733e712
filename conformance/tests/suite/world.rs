//! What the trials share: the runtime and the control plane, or the reason why there is none.

use std::fmt::Display;
use std::future::Future;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use gatehouse_conformance::assets::{self, AssetsError};
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use libtest_mimic::{Arguments, Completion, Trial};
use tokio::runtime::Runtime;

/// A trial that takes longer hangs.
const TRIAL_TIMEOUT: Duration = Duration::from_mins(2);

/// Owned by `main`.
pub(crate) struct World {
    runtime: Runtime,
    cluster: Cluster,
}

enum Cluster {
    Up(Arc<ControlPlane>),
    /// Nothing is going to run.
    NotNeeded,
    Unavailable(String),
}

impl World {
    /// Starts the control plane, unless only the names of the trials are asked for.
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let runtime = Runtime::new().expect("threads can be started");
        if arguments.list {
            return Self { runtime, cluster: Cluster::NotNeeded };
        }
        let cluster = runtime.block_on(start()).unwrap_or_else(|error| {
            eprintln!("gatehouse: {error:#}");
            process::exit(101)
        });
        Self { runtime, cluster }
    }

    /// A trial against the shared control plane.
    pub(crate) fn trial<F>(
        &self,
        name: &str,
        body: impl FnOnce(Arc<ControlPlane>) -> F + Send + 'static,
    ) -> Trial
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
        Trial::test(name, move || {
            let outcome =
                runtime.block_on(async { tokio::time::timeout(TRIAL_TIMEOUT, body(control_plane)).await });
            outcome
                .map_err(|_| anyhow!("took longer than {TRIAL_TIMEOUT:?}"))
                .flatten()
                .map_err(|error| format!("{error:#}").into())
        })
    }

    /// Stops the control plane.
    pub(crate) fn end(self) {
        let Cluster::Up(control_plane) = self.cluster else { return };
        // A task that a trial has left running may hold a share. The shims then stop the control plane a moment after
        // this process has ended.
        let Some(control_plane) = Arc::into_inner(control_plane) else { return };
        if let Err(error) = self.runtime.block_on(control_plane.stop()) {
            eprintln!("gatehouse: the control plane did not stop: {error:#}");
        }
    }
}

async fn start() -> anyhow::Result<Cluster> {
    let required = std::env::var("GATEHOUSE_CONFORMANCE").is_ok_and(|value| value == "require");
    let assets = match assets::find().await {
        Ok(assets) => assets,
        Err(AssetsError::Unavailable(reason)) if !required => {
            eprintln!("gatehouse: every trial is ignored: {reason}");
            let reason = reason.to_string();
            return Ok(Cluster::Unavailable(reason.lines().next().unwrap_or_default().to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    let options = Options { assets: Some(assets), ..Options::default() };
    Ok(Cluster::Up(Arc::new(ControlPlane::start(&options).await?)))
}

/// Polls until something holds.
pub(crate) async fn eventually(
    what: impl Display,
    timeout: Duration,
    mut holds: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + timeout;
    while !holds() {
        ensure!(tokio::time::Instant::now() < deadline, "not within {timeout:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
