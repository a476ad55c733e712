//! Helm's commands against a live cluster in which what it installs runs: install, upgrade, roll back, change how
//! certificates are made, uninstall.
//!
//! Processes run as the pods of the Deployments that Helm has written, and are replaced as a roll-out would. Of the
//! controllers that are not there, the garbage collector, cert-manager and the endpoint controllers are played.

mod documented;
mod left;
mod modes;
mod upgrade;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::helm::{self, Helm};
use gatehouse_conformance::install::Egress;
use gatehouse_conformance::kubectl::Kubectl;
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::{crds, traffic};
use libtest_mimic::Trial;
use serde_json::Value;
use tokio::process::Command;

use crate::production::KINDS;
use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.apart(
            "helm_lifecycle::upgrade_and_rollback_fail_no_request_and_what_is_left_is_documented",
            upgrade::run,
        ),
        world.apart(
            "helm_lifecycle::every_change_of_tls_mode_ends_with_certificates_that_are_trusted",
            modes::run,
        ),
    ]
}

/// The version before: a commit of this repository, and the version that its chart is packaged as. Both charts say
/// 0.1.0, since none was published yet.
const BEFORE: (&str, &str) = ("54cc9a62b1af254e45eed097e14815d5d92980c0", "0.0.1");

/// A control plane without Gatehouse, and Helm for it.
struct Cluster {
    control_plane: ControlPlane,
    egress: Egress,
    client: kube::Client,
    helm: Helm,
    kubectl: Kubectl,
}

impl Cluster {
    async fn start() -> anyhow::Result<Self> {
        // First, since Helm may not be available.
        let helm = Helm::find().await?;
        let egress = Egress::start()?;
        let options = Options { api_server_flags: vec![egress.flag()], ..Options::default() };
        let control_plane = ControlPlane::start(&options).await?;
        let client = control_plane.client().await?;
        let kubectl = Kubectl::new(control_plane.kubeconfig())?;
        load::apply(&client, crds::only(&KINDS)?).await?;
        let helm = helm.on(control_plane.kubeconfig());
        Ok(Self { control_plane, egress, client, helm, kubectl })
    }

    async fn helm(&self, args: &[&str]) -> anyhow::Result<String> {
        self.helm.run(args.iter().map(Into::into).collect()).await?.ok()
    }

    /// The arguments of a Deployment's pods.
    async fn args(&self, deployment: &str) -> anyhow::Result<String> {
        let path = format!("/apis/apps/v1/namespaces/{}/deployments/{deployment}", helm::NAMESPACE);
        let deployment: Value = self.client.request(http::Request::get(path).body(Vec::new())?).await?;
        Ok(deployment["spec"]["template"]["spec"]["containers"][0]["args"].to_string())
    }
}

/// The objects of the traffic: those that exist without Gatehouse, and those of its own kinds.
fn traffic_objects() -> (Vec<Manifest>, Vec<Manifest>) {
    let manifest = |object: Value| Manifest { origin: "(traffic)".to_owned(), object };
    traffic::objects()
        .into_iter()
        .map(manifest)
        .partition(|one| one.object["apiVersion"] != "policy.gatehouse.dev/v1alpha1")
}

/// The folder of a commit's chart, below `folder`; where the repository lacks that commit, as a shallow clone does, this
/// version's chart in its place.
async fn chart_of(commit: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let archive = folder.join("chart.tar");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut git = Command::new("git");
    git.arg("-C").arg(repository).args(["archive", "--format=tar", "--output"]).arg(&archive);
    git.args([commit, "charts/gatehouse"]);
    let output = git.kill_on_drop(true).output().await.context("git")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        eprintln!("gatehouse: no chart of {commit}, this version's is upgraded instead: {message}");
        return Ok(helm::chart());
    }
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(&archive).arg("-C").arg(folder);
    let output = tar.kill_on_drop(true).output().await.context("tar")?;
    ensure!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
    Ok(folder.join("charts/gatehouse"))
}
